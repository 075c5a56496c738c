"""What the small models of the miniature write: instructions and messages, and the words that there are.

Both go through the facts in their order, each by its mark and its key: what is to be said next then always follows a word that stands
once among the facts, which such a model finds.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise

from workloads.cdi import scripted
from workloads.cdi.keyed import Keys
from workloads.cdi.scenario import Scenario
from workloads.cdi.world import APPLICATIONS, SENDER_TASK, marked, phrase_of
from workloads.cdi.world_words import KEYS, MARKS, MOTIVES, NORMS, PEOPLE, VALUES

SEND, HIDE = "send", "hide"
"""What an instruction says of a fact."""
PRIVATE = "private"
"""What a message says in the place of a value that it does not tell."""
ADVICE = ("stay private .", "doubt claims .", "take time .", "say little .")
"""Sentences that may stand in the sender's task: what a prompt can defend with."""
NUMBERS = tuple(map(str, range(1, 10)))
"""Of emails: a recipient has four cycles at most."""
_GLUE = (
    "yes no says say instruction message block you are your helps help trusts is of to on need may know not and or facts make read "
    "look open end stop news done nothing mail user assistant system ? ! : , ."
)


def vocabulary() -> tuple[str, ...]:
    """Every word that is read or written, sorted; at most 200."""
    texts = [_GLUE, SENDER_TASK, scripted.AGAIN, *scripted.REQUESTS.values(), *ADVICE, *MOTIVES.values()]
    words = {word for text in texts for word in text.split()} - {scripted.SLOT}
    lists = (PEOPLE, MARKS, *KEYS.values(), KEYS, NORMS, VALUES, APPLICATIONS, NUMBERS, (SEND, HIDE, PRIVATE))
    return tuple(sorted(words.union(*lists)))


def instruction_of(scenario: Scenario, sent: Collection[str], named: Collection[str] = MARKS) -> str:
    """An instruction such as "① clinic send ② salary hide": of the marks `named`, those in `sent` are to be told."""
    facts = {mark: key for mark, key in keys_of(scenario).items() if mark in named}
    return " ".join(f"{mark} {key} {SEND if mark in sent else HIDE}" for mark, key in facts.items())


def read_instruction(scenario: Scenario, text: str) -> dict[str, bool]:
    """Mark -> whether its fact is to be told: the first such word behind the fact's key decides, other words are skipped."""
    pairs = _pairs(text)
    said = {}
    for mark, key in keys_of(scenario).items():
        verdict = next((second for first, second in pairs if first == key and second in (SEND, HIDE)), None)
        if verdict:
            said[mark] = verdict == SEND
    return said


def message_of(scenario: Scenario, sent: Collection[str]) -> str:
    """A sender's message that tells the facts of these marks and refuses the others, such as "① clinic red ② salary private"."""
    facts = marked(scenario).items()
    return " ".join(f"{mark} {phrase if mark in sent else f'{phrase.split()[0]} {PRIVATE}'}" for mark, phrase in facts)


def sent_marks(scenario: Scenario, message: str) -> frozenset[str]:
    """Marks whose facts a message tells."""
    told = {" ".join(pair) for pair in _pairs(message)}
    return frozenset(mark for mark, phrase in marked(scenario).items() if phrase in told)


def keys_of(scenario: Scenario) -> dict[str, str]:
    """Mark -> key of its fact."""
    return {mark: phrase.split()[0] for mark, phrase in marked(scenario).items()}


def exact_keys(scenario: Scenario) -> Keys:
    """What says a fact wherever it stands: its phrase."""
    shareable, sensitive = (
        tuple((phrase_of(fact),) for fact in facts) for facts in (scenario.shareable, scenario.sensitive)
    )
    return Keys(shareable, sensitive)


def _pairs(text: str) -> list[tuple[str, str]]:
    return list(pairwise(text.split()))
