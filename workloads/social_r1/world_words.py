"""The words of the miniature world: names, things, sentences. Upper-case words of a sentence are filled in.

Small models are to learn it. There are no articles, so that the word before a thing or a place tells what is to be copied; and a
topic has four values, each with a letter of its own in all items: to look an option's letter up in its prompt takes such a model
longer than all the rest. That values are few tells nothing, since every story names all four (`world_kinds`).
"""

from __future__ import annotations

from dataclasses import dataclass

PEOPLE = (
    "anna", "ben", "clara", "david", "emma", "felix", "grace", "henry", "iris", "jonas", "karl", "lena", "mona", "noah", "oscar",
    "paula",
)  # fmt: skip
ROOMS = ("kitchen", "garden", "attic", "cellar")
CONTAINERS = ("bag", "box", "jar", "tin")
TOYS = ("ball", "doll", "drum", "kite")
MOTIVES = ("play", "help", "tidy", "trade", "boast", "rest", "sing", "learn", "share", "win", "hide", "dance")
FEELINGS = ("glad", "relieved", "sad", "upset")
"""By appraisal: what was hoped for and expected, hoped for and not expected, not hoped for and expected, neither."""
MEANINGS = ("truth", "mistake", "lie", "joke")
"""Of what is said: the speaker is right; is wrong; knows better and thinks that the listener does not; knows that both know."""
OPENLY = "openly"


@dataclass(frozen=True, slots=True)
class Topic:
    """What the agents have beliefs about. puts: the sentence that changes it. state: how it is. values: what it can be."""

    puts: str
    state: str
    option: str
    values: tuple[str, ...]
    things: tuple[str, ...]


PLACE = Topic("ACTOR puts THING in VALUE .", "THING is in VALUE", "inside VALUE", CONTAINERS, TOYS)
CONTENT = Topic("ACTOR fills THING with VALUE .", "THING holds VALUE", "just VALUE", TOYS, CONTAINERS)
WISH = Topic("ACTOR now wants VALUE .", "THING wants VALUE", "just VALUE", TOYS, PEOPLE)
FEELING = Topic("", "", "feels VALUE", FEELINGS, ())
MEANING = Topic("", "", "a VALUE", MEANINGS, ())
SENTENCES = {
    "motive": "ACTOR wants to VALUE .",
    "trusts": "ACTOR trusts TO .",
    "doubts": "ACTOR doubts TO .",
    "hopes": "ACTOR hopes THING is in VALUE .",
    "leaves": "ACTOR leaves .",
    "returns": "ACTOR returns .",
    "away": "ACTOR looks away .",
    "back": "ACTOR looks back .",
    "out": "lamp goes out .",
    "on": "lamp goes on .",
    "says": "ACTOR says THING is now in VALUE .",
    "tells": "ACTOR tells all where THING is .",
    "whispers": "ACTOR whispers to TO where THING is .",
    "claims": "ACTOR tells TO that THING is in VALUE .",
    "finds": "ACTOR finds THING .",
}
