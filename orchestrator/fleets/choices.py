"""Which tokens spell a word that a judge may answer with, and how probable the word is: the same for every engine of ours."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from orchestrator.values import Choice


class ChoiceTokens:
    """The single tokens of words, by a tokenizer. model: what messages call its model."""

    def __init__(self, tokenizer: Any, model: str) -> None:
        self._tokenizer, self._model = tokenizer, model
        self._ids: dict[str, tuple[int, ...]] = {}

    def ids_of(self, word: str) -> tuple[int, ...]:
        """Single tokens that spell the word in its usual forms: with or without a space, lower case, title case, capitals.

        Raises ValueError where there is none.
        """
        if word not in self._ids:
            forms = {space + form for space in ("", " ") for form in (word, word.capitalize(), word.upper())}
            encoded = [self._tokenizer.encode(form, add_special_tokens=False) for form in sorted(forms)]
            self._ids[word] = tuple(sorted({ids[0] for ids in encoded if len(ids) == 1}))
            if not self._ids[word]:
                raise ValueError(f"{self._model}: no single token spells {word!r}; the tokenizer cannot answer with it")
        return self._ids[word]

    def wanted(self, choices: Sequence[str]) -> list[int]:
        """The tokens whose log-probabilities `choice` needs."""
        return sorted({token for word in choices for token in self.ids_of(word)})

    def choice(self, choices: Sequence[str], logprob_of: Callable[[int], float]) -> Choice:
        """The words' probabilities: each word's is the sum over its tokens."""
        return Choice({word: sum(math.exp(logprob_of(token)) for token in self.ids_of(word)) for word in choices})
