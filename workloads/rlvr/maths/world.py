"""The miniature world of sums: a closed vocabulary, an exact verifier, and several ways to work out every sum.

A question is "compute 7 plus 5 plus 8 plus 2 .", with terms from 1 to 9. An answer works in steps, each of which takes two numbers
that are at hand and leaves their sum in their place, and then says what is left:

    7 plus 5 is 12 . 12 plus 8 is 20 . 20 plus 2 is 22 . so 22 .

All right answers to a question have the same length, whatever their strategy, so that none is preferred for being short. Two terms
of a sum may stand in either order: it is the same step.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from orchestrator.values import stable_hash

TERMS = 4
"""Terms of a sum: with three there is no room for more than three strategies."""
LARGEST_TERM = 9
LARGEST_NUMBER = TERMS * LARGEST_TERM + TERMS - 1
"""Largest number of the vocabulary: the largest sum, where each step slips up."""
WORDS = ("compute", "plus", "is", "so", ".")
STRATEGIES = {"forward": 0.28, "backward": 0.24, "largest": 0.2, "smallest": 0.16, "pairs": 0.12}
"""How the warm-up's answers are divided among the strategies; the first `data.modes` of them are paid. Pairs are the last: their third
step adds two large numbers, of which there are many, and is learned latest."""
SLIPS = 0.15
"""Share of the warm-up's steps whose sum is wrong, by one."""
NO_SLIPS = (0,) * (TERMS - 1)
SPLITS = {"train": 0.7, "eval": 0.15, "test": 0.15}
"""Share of the collections of terms that each split draws its questions from."""

_NUMBERS = frozenset(map(str, range(1, LARGEST_NUMBER + 1)))
Step = tuple[int, int, int]
"""x, y and what the answer says that they make."""


@dataclass(frozen=True, slots=True)
class Question:
    """The sum of the terms, in this order."""

    terms: tuple[int, ...]

    @property
    def id(self) -> str:
        return "-".join(map(str, self.terms))

    @property
    def prompt(self) -> str:
        return f"compute {' plus '.join(map(str, self.terms))} ."


def vocabulary() -> tuple[str, ...]:
    """Every word of questions and answers, each once."""
    return (*WORDS, *sorted(_NUMBERS, key=int))


def steps_of(text: str) -> tuple[list[Step], int] | None:
    """(steps, the final answer) of a text that is of the form of an answer from its first word to its last, else None."""
    sentences = [sentence.split() for sentence in text.split(".")]
    if len(sentences) < 2 or sentences.pop():
        return None  # it does not end with a full stop
    *worked, last = sentences
    if len(last) != 2 or last[0] != "so" or not _is_number(last[1]):
        return None
    steps = []
    for words in worked:
        if len(words) != 5 or words[1::2] != ["plus", "is"] or not all(map(_is_number, words[::2])):
            return None
        steps.append((int(words[0]), int(words[2]), int(words[4])))
    return steps, int(last[1])


def is_right(question: Question, text: str) -> bool:
    """The verifier: whether the text derives the sum. Each step takes two numbers that are at hand, the terms at first, and puts what
    they truly make in their place; the answer is the one number that is left."""
    worked = steps_of(text)
    if worked is None:
        return False
    at_hand = Counter(question.terms)
    for x, y, result in worked[0]:
        taken = Counter((x, y))
        if x + y != result or not taken <= at_hand:
            return False
        at_hand = at_hand - taken + Counter((result,))
    return at_hand == Counter((worked[1],))


def strategy_of(question: Question, text: str) -> str | None:
    """The strategy of a text by its steps alone, whether they are right or not; None for any other way, or no answer at all.

    A wrong sum does not hide the strategy as long as the text goes on from it.
    """
    worked = steps_of(text)
    if worked is None:
        return None
    found = [_pair(x, y) for x, y, _ in worked[0]]
    said = [result for *_, result in worked[0]]
    return next((name for name in STRATEGIES if _pairs(question, name, said) == found), None)


def solve(question: Question, strategy: str, slips: Sequence[int] = NO_SLIPS) -> str:
    """The answer by a strategy. slips: by how much each step's sum is wrong; the answer goes on from it."""
    said: list[int] = []
    sentences = []
    for number, slip in enumerate(slips):
        x, y = _operands(question, strategy, said)[number]
        said.append(x + y + slip)
        sentences.append(f"{x} plus {y} is {said[-1]} .")
    return " ".join([*sentences, f"so {said[-1]} ."])


def warmup_answer(question: Question, rng: random.Random) -> str:
    """An answer as the warm-up teaches it: any strategy, some oftener than others, and slips."""
    strategy = rng.choices(tuple(STRATEGIES), tuple(STRATEGIES.values()))[0]
    return solve(question, strategy, [rng.choice((-1, 1)) if rng.random() < SLIPS else 0 for _ in NO_SLIPS])


def paid(modes: int) -> tuple[str, ...]:
    """The strategies that are paid, where the reward has so many modes."""
    return tuple(STRATEGIES)[:modes]


def questions(seed: int) -> dict[str, tuple[Question, ...]]:
    """All questions by split, in an order that depends on the seed alone.

    Sums of the same terms in another order are on one side: who knows one of them knows the others. A question on which two
    strategies take the same steps is none.
    """
    splits: dict[str, list[Question]] = {split: [] for split in SPLITS}
    for terms in product(range(1, LARGEST_TERM + 1), repeat=TERMS):
        question = Question(terms)
        if len({solution_key(question, name) for name in STRATEGIES}) == len(STRATEGIES):
            splits[_split_of(terms, seed)].append(question)
    return {
        split: tuple(sorted(found, key=lambda question: stable_hash("question", seed, question.id)))
        for split, found in splits.items()
    }


def solution_key(question: Question, strategy: str) -> tuple[tuple[int, int], ...]:
    """What tells the strategy's right answer from those of the others: the two numbers of each step."""
    said: list[int] = []
    for number in range(TERMS - 1):
        said.append(sum(_operands(question, strategy, said)[number]))
    return tuple(_pairs(question, strategy, said))


def _split_of(terms: Sequence[int], seed: int) -> str:
    place = stable_hash("split", seed, sorted(terms)) % 10_000 / 10_000
    for split, share in SPLITS.items():
        if place < share:
            return split
        place -= share
    return split


def _operands(question: Question, strategy: str, said: Sequence[int]) -> list[tuple[int, int]]:
    """The numbers of the first steps, one more than have been said, by what the steps before them said."""
    a, b, c, d = ordered = _ordered(question, strategy)
    if strategy == "pairs":
        found = [(a, b), (c, d)]
        return [*found, (said[0], said[1])] if len(said) > 1 else found
    return [(a, b), *zip(said, ordered[2:], strict=False)]


def _ordered(question: Question, strategy: str) -> tuple[int, ...]:
    """The terms in the order in which the strategy takes them."""
    if strategy in ("largest", "smallest"):
        return tuple(sorted(question.terms, reverse=strategy == "largest"))
    return question.terms[::-1] if strategy == "backward" else question.terms


def _pairs(question: Question, strategy: str, said: Sequence[int]) -> list[tuple[int, int]]:
    """The numbers of each step, in order of size; said: what the steps make."""
    return [_pair(x, y) for x, y in _operands(question, strategy, said)[: TERMS - 1]]


def _pair(x: int, y: int) -> tuple[int, int]:
    return min(x, y), max(x, y)


def _is_number(word: str) -> bool:
    return word in _NUMBERS
