"""What the small models of the miniature read and write: memory as words, an instruction and a message as one word or more a mark."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from orchestrator.values import Message
from workloads.cdi import scripted
from workloads.cdi.scenario import Scenario
from workloads.cdi.world import APPLICATIONS, SENDER_TASK, marked
from workloads.cdi.world_words import KEYS, MARKS, MOTIVES, NORMS, PEOPLE, VALUES

SEND, HIDE = "send", "hide"
"""What an instruction says of a mark."""
PRIVATE = "private"
"""What a message says behind a mark whose fact it does not tell."""
BLOCK = ("yes", "no")
ADVICE = ("stay private .", "doubt claims .", "take time .", "say little .")
"""Sentences that a sender's task may hold besides: what a prompt can defend with."""
_GLUE = (
    "yes no says instruction message block you are your helps help trusts is of to on need may know not and or facts make guides ? ! : , ."
)
Said = tuple[str, str]
"""(name of who wrote, text)."""


def vocabulary() -> tuple[str, ...]:
    """Every word that is read or written, sorted; at most 200."""
    texts = [_GLUE, SENDER_TASK, scripted.AGAIN, *scripted.REQUESTS.values(), *ADVICE, *MOTIVES.values()]
    words = {word for text in texts for word in text.split()} - {"SUBJECT"}
    return tuple(sorted(words.union(PEOPLE, MARKS, *KEYS.values(), KEYS, NORMS, VALUES, APPLICATIONS, (SEND, HIDE, PRIVATE))))


def memory(scenario: Scenario, messages: Sequence[Said]) -> str:
    """What the sender knows: who asks, and what was written, oldest first. The relation comes first: who reads the facts knows it."""
    return " ".join([scenario.recipient.profile, *(f"{name} says : {text}" for name, text in messages)])


def sender_prompt(
    scenario: Scenario, messages: Sequence[Said], task: str = SENDER_TASK, instruction: str = ""
) -> tuple[Message, ...]:
    """Asks the sender for its message. task: with any advice; instruction: "" for none."""
    parts = [task, memory(scenario, messages), *([f"instruction : {instruction}"] if instruction else [])]
    return _asked(" ".join([*parts, f"{scenario.sender.name} says :"]))


def instructor_prompt(scenario: Scenario, messages: Sequence[Said]) -> tuple[Message, ...]:
    """Asks for an instruction to the sender."""
    return _asked(f"{memory(scenario, messages)} instruction :")


def guard_prompt(scenario: Scenario, messages: Sequence[Said], pending: str) -> tuple[Message, ...]:
    """Asks whether the pending message is to be blocked: "yes" or "no"."""
    return _asked(f"{memory(scenario, messages)} message : {pending} block ?")


def _asked(text: str) -> tuple[Message, ...]:
    return ({"role": "user", "content": text},)


def instruction_of(sent: Collection[str], named: Collection[str] = MARKS) -> str:
    """An instruction such as "① send ② hide": of the marks `named`, those in `sent` are to be told."""
    return " ".join(f"{mark} {SEND if mark in sent else HIDE}" for mark in MARKS if mark in named)


def read_instruction(text: str) -> dict[str, bool]:
    """Mark -> whether it is to be told; of a mark that is named twice the first word counts, other words are skipped over."""
    words = text.split()
    said: dict[str, bool] = {}
    for mark, verdict in zip(words, words[1:], strict=False):
        if mark in MARKS and verdict in (SEND, HIDE):
            said.setdefault(mark, verdict == SEND)
    return said


def message_of(scenario: Scenario, sent: Collection[str]) -> str:
    """A sender's message that tells the facts of these marks, such as "① clinic red ② private"."""
    return " ".join(f"{mark} {phrase if mark in sent else PRIVATE}" for mark, phrase in marked(scenario).items())


def sent_marks(scenario: Scenario, message: str) -> frozenset[str]:
    """Marks whose facts a message tells."""
    words = message.split()
    pairs = {" ".join(pair) for pair in zip(words, words[1:], strict=False)}
    return frozenset(mark for mark, phrase in marked(scenario).items() if phrase in pairs)


def follows(scenario: Scenario, instruction: Mapping[str, bool], message: str) -> bool:
    """Whether a message tells exactly what it was told to of the marks that the instruction names."""
    told = sent_marks(scenario, message)
    return all((mark in told) == send for mark, send in instruction.items())
