"""The words of the miniature world of private facts: names, relations, topics and what may be told to whom.

A small model is to learn it: a fact is its mark, its key and its value, so that it is copied by its mark; a key belongs to one topic.
"""

from __future__ import annotations

PEOPLE = ("anna", "ben", "clara", "david", "emma", "felix", "grace", "henry", "iris", "jonas", "karl", "lena")
MARKS = ("①", "②", "③", "④", "⑤", "⑥")
KEYS = {
    "health": ("illness", "medicine", "clinic", "allergy"),
    "money": ("salary", "debt", "loan", "savings"),
    "love": ("partner", "crush", "wedding", "divorce"),
    "law": ("lawsuit", "fine", "trial", "witness"),
    "work": ("project", "office", "shift", "client"),
    "home": ("street", "garden", "rent", "alarm"),
    "travel": ("flight", "hotel", "train", "visa"),
    "school": ("grade", "course", "essay", "exam"),
}
"""Topic -> keys of its facts."""
NORMS = {
    "doctor": ("health", "home", "travel", "work"),
    "boss": ("work", "school", "travel", "home"),
    "teacher": ("school", "health", "home", "travel"),
    "banker": ("money", "law", "home", "work"),
    "landlord": ("money", "law", "home", "travel"),
    "lawyer": ("law", "money", "love", "work"),
    "friend": ("love", "travel", "school", "work"),
    "cousin": ("love", "health", "school", "home"),
}
"""Relation of the recipient to the subject -> topics that may be told; of the other four none may. Each topic may be told to some and
not to others: neither the relation nor the topic alone decides."""
DELICATE = ("health", "money", "love", "law")
"""Topics that are thought private whoever asks: what a sender goes by who does not think of the relation."""
VALUES = (
    "red", "blue", "green", "black", "white", "brown", "pink", "gold", "iron", "salt", "moon", "star", "rain", "snow", "wind",
    "fire", "rose", "fern", "lake", "hill",
)  # fmt: skip
MOTIVES = {
    "doctor": "plan care", "boss": "plan shifts", "teacher": "plan lessons", "banker": "check papers", "landlord": "check papers",
    "lawyer": "plan trial", "friend": "plan party", "cousin": "plan visit",
}  # fmt: skip
"""What the recipient wants the shareable facts for."""
