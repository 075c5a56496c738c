"""What a model's folder is recognised by once it is served: canary.json, written beside the weights by whoever trained them.

It holds a few prompts with completions and what the trainer itself computed for them, and digests of the tokenizer and of the
chat template. A server that computes anything else does not serve these weights, or serves them otherwise than they were trained.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from orchestrator.errors import RunError
from orchestrator.records.folder import atomic_write
from orchestrator.values import Message

CANARY = "canary.json"
FORMAT = 1
"""Version of the file. A reader accepts its own version and every older one."""


@dataclass(frozen=True, slots=True)
class Case:
    """Tokens, and what the trainer computes for them.

    messages: the chat that renders to prompt_ids with a generation prompt, None where it is not known (an episode of several
    turns). logprobs: of each completion id given all before it, at temperature 1. scores: of a sequence classifier in their
    place, an output of its head each, raw, at the last of all tokens; then there are no logprobs.
    """

    messages: tuple[Message, ...] | None
    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    logprobs: tuple[float, ...] = ()
    scores: tuple[float, ...] = ()

    @property
    def expected(self) -> tuple[float, ...]:
        """What a server is to compute: the log-probabilities, or the scores."""
        return self.scores or self.logprobs


@dataclass(frozen=True, slots=True)
class Canary:
    """dtype: of the weights as they were trained. thinking: as the chat template was told. tokenizer, chat_template: `digests_of`."""

    dtype: str
    thinking: bool
    cases: tuple[Case, ...]
    tokenizer: str
    chat_template: str


def write_canary(folder: Path, canary: Canary) -> None:
    """Write it into a model's folder."""
    # Not by `write_json`, which would make a number of a message that says NaN.
    atomic_write(folder / CANARY, json.dumps({"format": FORMAT} | asdict(canary), ensure_ascii=False) + "\n")


def read_canary(folder: Path) -> Canary | None:
    """What `write_canary` wrote; None where the folder has none. Raises RunError for a damaged file or a newer format."""
    path = folder / CANARY
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_bytes())
        written = int(content.pop("format"))
        if written <= FORMAT:
            cases = tuple(_case(values) for values in content.pop("cases"))
            return Canary(cases=cases, **content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(
            f"{path}: cannot be read ({error!r}). Copy the model's whole folder again, or take another checkpoint."
        ) from error
    raise RunError(f"{path} has format {written}, this version reads up to {FORMAT}: update orchestrator.")


def _case(values: dict[str, Any]) -> Case:
    messages = values.pop("messages")
    numbers = {name: tuple(column) for name, column in values.items()}
    return Case(None if messages is None else tuple(messages), **numbers)


def rendered(tokenizer: Any, messages: tuple[Message, ...], thinking: bool) -> tuple[int, ...]:
    """The prompt of a chat, as a server renders it."""
    encoding = tokenizer.apply_chat_template(
        list(messages), add_generation_prompt=True, return_dict=True, enable_thinking=thinking
    )
    return tuple(encoding["input_ids"])


def read_to_the_end(
    tokenizer: Any, messages: tuple[Message, ...], thinking: bool, ends: bool = True
) -> tuple[int, ...]:
    """What a reward model reads, as its lesson had it: a prompt as servers render it, the answer (the last message) as it is, and the
    end of the text if the lesson taught ends."""
    answer = tokenizer(messages[-1]["content"], add_special_tokens=False)["input_ids"]
    return (*rendered(tokenizer, messages[:-1], thinking), *answer, *([tokenizer.eos_token_id] if ends else ()))


def digests_of(tokenizer: Any) -> tuple[str, str]:
    """SHA-256 of a loaded transformers tokenizer's whole state, and of its chat template's text."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    state: dict[str, Any] = json.loads(backend.to_str()) if backend is not None else {"vocab": tokenizer.get_vocab()}
    # What the last call asked for, and no part of what the tokenizer is.
    for name in ("truncation", "padding"):
        state.pop(name, None)
    state["special_tokens"] = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    # Some tokenizers have several templates by name, some none.
    template = tokenizer.chat_template
    text = template if isinstance(template, str) else json.dumps(template, sort_keys=True)
    return _sha256(json.dumps(state, sort_keys=True)), _sha256(text)


def _sha256(text: str) -> str:
    # Vocabularies may hold halves of surrogate pairs, which plain UTF-8 refuses.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
