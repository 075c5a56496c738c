"""The values that pass between the stages of a run. Nothing else crosses a stage.

Task -> Episode (turns) -> Verdict -> Group -> batch of tensors (`orchestrator.learning.batch`).

Everything here is frozen, holds plain Python data and imports no framework: a workload, a planner or a notebook can use it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Message = Mapping[str, str]
"""One chat message: {"role": "system" | "user" | "assistant", "content": text}."""

POLICY = "policy"
"""The role whose turns are trained."""
JUDGE = "judge"
"""The role that a reward may ask."""


def stable_hash(*parts: object) -> int:
    """63-bit hash of the parts' text, the same in every process and on every machine (unlike `hash`)."""
    digest = hashlib.blake2b("\x1f".join(str(part) for part in parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


@dataclass(frozen=True, slots=True)
class Task:
    """What is asked. `reference` is what scoring needs (a rubric, a gold answer): plain JSON data, never shown to the model.

    restricted: the source forbids passing the text on; it is shown redacted in what may leave the run folder.
    """

    id: str
    messages: tuple[Message, ...]
    reference: Mapping[str, Any] = field(default_factory=dict)
    restricted: bool = False


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one completion is drawn. Top-p and top-k are absent on purpose: they would bias the importance ratio."""

    max_tokens: int
    temperature: float = 1.0
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a served model: a completion (`sampling`), the probabilities of given next words (`choices`), or the scalar of a
    reward model (`scalar`) for the messages, whose last one, the assistant's, is what it scores.

    role: which fleet answers ("policy", "judge", …). key: the call's identity; seeds and retries depend on it alone.
    route: calls with the same one go to the same server, where those that begin alike share a cached prefix; by default the
    key. schema: what a completion must be, a JSON schema or a grammar (EBNF, as vLLM's structured outputs read it); never of the
    policy's turns, whose probabilities it would change.
    """

    key: str
    role: str
    messages: tuple[Message, ...]
    sampling: Sampling | None = None
    choices: tuple[str, ...] = ()
    seed: int = 0
    route: str = ""
    scalar: bool = False
    schema: Mapping[str, Any] | str | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """A model's completion exactly as generated; these ids are the ids that are trained.

    logprobs: log-probability of each completion id under the weights that sampled it, at `temperature`.
    """

    role: str
    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    text: str
    finish_reason: str
    temperature: float
    weight_version: int
    seed: int


@dataclass(frozen=True, slots=True)
class Choice:
    """Probabilities of the words that were asked about, as the next token. They need not sum to 1: the rest is other tokens."""

    probabilities: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Score:
    """What a reward model says of an answer. raw: its head's output, whose offset and scale are arbitrary (Bradley-Terry tells
    differences alone). value: the same less the mean of the model's reference answers, over their spread; raw where it has none.
    """

    value: float
    raw: float


@dataclass(frozen=True, slots=True)
class Fault:
    """An answer that could not be had: what went wrong, in words. Never a number.

    lasting: the call itself is the cause (a prompt without room), so that asking again cannot help.
    """

    reason: str
    lasting: bool = False


Answer = Turn | Choice | Score | Fault


@dataclass(frozen=True, slots=True)
class Episode:
    """One attempt at a task: the turns of every role in order. `sample` numbers the attempts of one task within one step.

    lost: the fault of another role that kept it from being played to its end; it then has no turns and is never judged. An
    episode in which the policy was never asked is silent: it is scored, and nothing is learned from it.
    """

    task: Task
    step: int
    sample: int
    turns: tuple[Turn, ...]
    lost: str = ""

    @property
    def id(self) -> str:
        return f"{self.step}/{self.task.id}/{self.sample}"

    @property
    def trained(self) -> tuple[Turn, ...]:
        """The policy's own turns."""
        return tuple(turn for turn in self.turns if turn.role == POLICY)

    @property
    def text(self) -> str:
        """The policy's last words: what single-turn rewards look at. Empty where it was never asked."""
        return self.trained[-1].text if self.trained else ""


@dataclass(frozen=True, slots=True)
class Scored:
    """What an episode is worth. components: named parts of the reward; judgements: one number a criterion (P(yes) for rubrics)."""

    reward: float
    components: Mapping[str, float] = field(default_factory=dict)
    judgements: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Unscored:
    """A verdict that a fault prevented. It never enters an advantage and is never a reward of 0."""

    reason: str


Verdict = Scored | Unscored


@dataclass(frozen=True, slots=True)
class LogitQuery:
    """A reward's question to the learner: how the policy itself rates the tokens ids[start:stop], given ids[:start]."""

    key: str
    ids: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class LogitAnswer:
    """Mean raw logit and mean log-probability over the span, under the weights of `weight_version`."""

    mean_logit: float
    mean_logprob: float
    weight_version: int


@dataclass(frozen=True, slots=True)
class Gathered:
    """What was asked of models before anything is taught. rows: plain JSON data, kept in the run's folder; told: a line about them."""

    rows: Sequence[Mapping[str, Any]]
    told: str


@dataclass(frozen=True, slots=True)
class Group:
    """The episodes of one task in one step with their verdicts, in the order of their sample numbers."""

    episodes: tuple[Episode, ...]
    verdicts: tuple[Verdict, ...]
