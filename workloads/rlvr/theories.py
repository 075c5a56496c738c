"""The five theories of MoReBench-Theory: their names as data writes them, and what each means."""

from __future__ import annotations

import re

NEUTRAL = "neutral"
"""What the tables of MoReBench-Public call no theory."""
THEORIES = {
    "Kantian Deontology": "Act only on a maxim that you could will as a universal law; use nobody merely as a means.",
    "Benthamite Act Utilitarianism": "Do what brings the greatest balance of pleasure over pain, all alike.",
    "Aristotelian Virtue Ethics": "Do what a person of good character and wisdom would do, between excess and lack.",
    "Scanlonian Contractualism": "Act on principles that nobody could reasonably reject as a basis of free agreement.",
    "Gauthierian Contractarianism": "Keep to the constraints that rational people would accept in a mutual bargain.",
}
"""One sentence a theory, in our words: the benchmark's own definitions are not part of its tables."""


def theory_of(written: str) -> str | None:
    """The name in `THEORIES`, or `NEUTRAL`, of a theory as it is written; None where it is none of them.

    Case, blanks and punctuation make no difference, and the philosopher may be left out, as in "act_utilitarianism".
    """
    words = _words(written)
    names = {form: name for name in THEORIES for form in (_words(name), _words(name)[1:])}
    return NEUTRAL if words == (NEUTRAL,) else names.get(words)


def _words(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"[a-z]+", text.casefold()))
