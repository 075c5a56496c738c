"""The words of the miniature world: names, things, sentences. Upper-case words of a sentence are filled in."""

from __future__ import annotations

from dataclasses import dataclass

PEOPLE = ("anna", "ben", "clara", "david", "emma", "felix", "grace", "henry")
ROOMS = ("kitchen", "garden", "attic", "cellar")
CONTAINERS = ("box", "bag", "drawer", "chest", "basket", "jar", "trunk", "crate")
TOYS = ("ball", "kite", "doll", "drum", "ring", "book", "cup", "hat")
MOTIVES = ("play", "help", "tidy", "trade", "boast", "rest")
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


PLACE = Topic("ACTOR puts the THING in the VALUE .", "the THING is in the VALUE", "inside the VALUE", CONTAINERS, TOYS)
CONTENT = Topic(
    "ACTOR fills the THING with the VALUE .", "the THING holds the VALUE", "just the VALUE", TOYS, CONTAINERS
)
WISH = Topic("ACTOR now wants the VALUE .", "THING wants the VALUE", "just the VALUE", TOYS, PEOPLE)
FEELING = Topic("", "", "feels quite VALUE", FEELINGS, ())
MEANING = Topic("", "", "just a VALUE", MEANINGS, ())
SENTENCES = {
    "motive": "ACTOR wants to VALUE .",
    "trusts": "ACTOR trusts TO .",
    "doubts": "ACTOR doubts TO .",
    "hopes": "ACTOR hopes the THING is in the VALUE .",
    "leaves": "ACTOR leaves .",
    "returns": "ACTOR returns .",
    "away": "ACTOR looks away .",
    "back": "ACTOR looks back .",
    "out": "the lamp goes out .",
    "on": "the lamp goes on .",
    "says": "ACTOR says the THING is now in the VALUE .",
    "tells": "ACTOR tells all where the THING is .",
    "whispers": "ACTOR whispers to TO where the THING is .",
    "claims": "ACTOR tells TO that the THING is in the VALUE .",
    "finds": "ACTOR finds the THING .",
}
