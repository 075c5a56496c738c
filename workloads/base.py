"""The interface of a workload. A small workload is one file, a large one a folder; `rlvr` is the first.

A workload says what is asked (`tasks`), how an episode is played (`environment`), what it is worth (`reward`, `gold`) and which
models are taught before RL begins (`lessons`). It never starts a process, opens a socket or touches a GPU: it hands out
calls and queries as values and is given the answers, so that it can be tested without any of them.

How the kinds of reward fit:
- a rubric judge: `calls` returns one `Call(role="judge", choices=("yes", "no"))` a criterion;
- process rewards from served judges and reward models: `calls` returns one `Call` a role, for text, choices or a reward model's
  scalar (`Call.scalar`, answered by a `Score`);
- a reward that needs the policy's own logits: `queries` returns a `LogitQuery` a text (a turn, words that answer messages, a turn
  with another ending) with spans of its characters, answered in one sharded forward of the learner;
- an environment of several agents: `play` yields a `Call` whenever some role is to speak and is sent that role's `Turn`;
- a function of text alone, or a verifier that takes seconds (code that is run, proofs that are checked): no `Reward` at all but
  a function, which works in processes of its own that can be killed. It is named by `reward=path/to/file.py:function`, or is
  called `reward` and stands beside the `Workload` in one's own file:

      def reward(episodes: Sequence[Episode]) -> Sequence[float | Scored | Unscored]

  is given the episodes of one task and returns one verdict each, in their order. Where it raises, returns anything else or
  does not return, these episodes are `Unscored`. A function `gold` of the same form says what held-out episodes are truly
  worth (0 to 1). Functions are used in place of the `reward`, `proxy` and `gold` of the `Workload`. A workload that has one in
  a file of its package names it in `functions`.

A workload whose own `Reward` asks no judge says so in its Config, so that none is started; one that asks others than the judge
names them in `raters`, each by a group of settings of the same name. A setting that names a file is declared with `file=True`:

      @dataclass
      class Config(RunConfig):
          asks_judge = False
          content: RewardModelConfig = group(RewardModelConfig, "The reward model.")

          def raters(self) -> dict[str, RaterConfig]:
              return super().raters() | {"content": self.content}

A workload that only evaluates a model derives its Config from `config.evaluation.EvaluationConfig` (`orchestrate evaluate`).

`orchestrate new NAME` writes a small workload to start from, `--kind environment` one of several turns.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from orchestrator.config.schema import RunConfig
from orchestrator.errors import ConfigError
from orchestrator.rollouts.parts import Result
from orchestrator.values import (
    POLICY,
    Answer,
    Call,
    Episode,
    Gathered,
    Group,
    LogitAnswer,
    LogitQuery,
    Message,
    Sampling,
    Scored,
    Task,
    Turn,
    Verdict,
)

Gathering = Generator[Sequence[Call], Sequence[Answer], Gathered | None]
"""Asked before anything is taught: yields calls of one role of `Config.gathers` (of any, with `gathers_at_once`), and is sent their
answers in order, faults included. Returns None where this run wants to know nothing."""

Play = Generator[Call, Turn, None]
"""A played episode: yields the next call, is sent the turn that answers it; every turn is recorded in order."""


class Environment(Protocol):
    """How an episode is played. Must not keep state between episodes: many are played at once.

    One in which the policy may not be asked at all says `may_be_silent = True`: such an episode is scored, and nothing is learned
    from it. Where another role's answer cannot be had, also after its retries, the episode is lost: unscored, never half.
    """

    def play(self, task: Task, sampling: Sampling) -> Play: ...


class SingleTurn:
    """The policy answers once."""

    def play(self, task: Task, sampling: Sampling) -> Play:
        yield Call(key="", role=POLICY, messages=task.messages, sampling=sampling)


class Reward(Protocol):
    """What an episode is worth: pure functions from episodes to questions and from answers to verdicts."""

    def calls(self, episode: Episode) -> Sequence[Call]: ...

    def queries(self, episode: Episode) -> Sequence[LogitQuery]: ...

    def control(self, episode: Episode, call: Call, answer: Answer) -> Call | None:
        """A control question where this answer to one of the episode's calls looks broken, else None.

        It asks the same of words that any working judge can answer, on the same server (`Call.route`). A judge that breaks on
        it too, by the same measure, is at fault; otherwise the episode broke the judge by its own doing.
        """
        ...

    def score(
        self,
        episodes: Sequence[Episode],
        answers: Sequence[Sequence[Answer]],
        logits: Sequence[Sequence[LogitAnswer]],
    ) -> Sequence[Verdict]:
        """One verdict an episode of a step, in their order; a reward that cannot be computed is `Unscored`.

        answers: by episode, one a call in the order of `calls`, faults included. logits: by episode, one a query.
        """
        ...


@dataclass(frozen=True, slots=True)
class Branch:
    """One continuation of an example's prompt; only `target` is learned (an answer, or a verdict of one word)."""

    messages: tuple[Message, ...]
    target: str


@dataclass(frozen=True, slots=True)
class Example:
    """One supervised example: branches that share a beginning. Branches do not see each other.

    group: what is held out together (a dilemma). A question has a branch an answer, a judged response a branch a
    criterion.
    """

    group: str
    branches: tuple[Branch, ...]


@dataclass(frozen=True, slots=True)
class Preference:
    """Two answers, of which one is better; mostly to one prompt. What they begin with in common is read once.

    group: what is held out together, and not independent in the intervals. Raises ConfigError where a side is empty or both are
    the same.
    """

    group: str
    better: Branch
    worse: Branch

    def __post_init__(self) -> None:
        for side, branch in (("better", self.better), ("worse", self.worse)):
            if not branch.target.strip():
                raise ConfigError(
                    f"a pair of {self.group!r} has an empty {side} answer (better {self.better.target[:60]!r}, worse "
                    f"{self.worse.target[:60]!r}): leave it out, or mend the data."
                )
        if self.better == self.worse:
            raise ConfigError(
                f"a pair of {self.group!r} has the same answer on both sides ({self.better.target[:60]!r}): leave it out."
            )


@dataclass(frozen=True, slots=True)
class Labelled:
    """A text with its class: an answer, or the messages alone where the branch's target is empty.

    label: index into `classes`, the names of all. Raises ConfigError where it is none.
    """

    group: str
    branch: Branch
    label: int
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.branch.messages and not self.branch.target:
            raise ConfigError(f"an example of {self.group!r} is empty: leave it out, or mend the data.")
        if len(self.classes) < 2 or not 0 <= self.label < len(self.classes):
            raise ConfigError(
                f"an example of {self.group!r} ({self.branch.target[:60]!r}) has the label {self.label}, which is none of its "
                f"{len(self.classes)} classes (two at least, from 0): mend the data."
            )


class Lesson(Protocol):
    """What one role's model is taught before RL begins, and how its success is reported.

    This is SFT on `Example`s; `SequenceLesson`s say that they are of another kind.

    role: the fleet that serves the model. `exam` gives calls on held-out data; `report` turns the answers into the lesson's
    metrics, of which those named in `gate` must reach their bound (empty: report only). `grading` says in words what decides
    the report besides the questions (labels, weights, thresholds): a kept report is found again by both. A lesson may have
    `episodes` too, which makes (groups, true score and labels by episode id) of the answers: a run without a policy stores them.
    """

    @property
    def role(self) -> str: ...

    @property
    def end_token(self) -> bool:
        """Whether an end-of-text token follows each target (answers) or not (one-word verdicts)."""
        ...

    @property
    def gate(self) -> Mapping[str, float]: ...

    @property
    def grading(self) -> str: ...

    def examples(self) -> Sequence[Example | Preference | Labelled]: ...

    def exam(self) -> Sequence[Call]: ...

    def report(self, answers: Sequence[Answer]) -> dict[str, Any]: ...


class SequenceLesson(Lesson, Protocol):
    """A lesson whose model scores whole texts: it is saved as a sequence classifier. A reward model that `Config.raters` names is
    served and asked in the run; others are only taught.

    kind: "preference" (a reward model, from `Preference`s) or "classification" (from `Labelled` texts). The learner itself
    scores the `held_out` examples right after; the report has `accuracy`, which `gate` may bound, and of a reward model the mean and
    spread of their answers' scores, by which `Score.value` is told. `exam` asks nothing.
    """

    @property
    def kind(self) -> str: ...

    def held_out(self) -> Sequence[Preference | Labelled]: ...


class Gatherer(Protocol):
    """A workload whose lessons are made of what other models say: their answers, their labels.

    `gather` runs in the driver alone; its rows are then given to `use`, there and on every rank, before `lessons` is called. What was
    answered is kept by its content: a gathering that was broken off, or another run's, does not ask again.
    """

    def gather(self) -> Gathering: ...

    def use(self, rows: Sequence[Mapping[str, Any]]) -> None: ...


class Evaluator(Protocol):
    """A workload whose runs only evaluate (a Config that is an `EvaluationConfig`): its tasks are of the split "test".

    Their references name the part that each belongs to, the item that it is a try of, and the texts that training may have touched:
    "benchmark", "item", "story", "question". The reward is given the episodes of all parts at once.
    """

    def results(self, groups: Sequence[Group]) -> Sequence[Result]:
        """What each part comes to, from its scored episodes."""
        ...


class Workload(Protocol):
    """Everything a run needs to know about a paper. One that is a `Gatherer` too is asked what it wants to know first."""

    def __init__(self, config: RunConfig) -> None: ...

    def tasks(self, split: str) -> Sequence[Task]:
        """Tasks of "train", "eval" or, where `Config.has_test`, "test"; they never share a group (a dilemma, a story)."""
        ...

    def environment(self) -> Environment: ...

    def reward(self) -> Reward: ...

    def gold(self, episode: Episode) -> float | None:
        """The true worth on a 0–1 scale where the world knows it (the oracle), else None."""
        ...

    def gold_verdicts(self, episode: Episode) -> Mapping[str, float]:
        """The truth of each thing that a verdict's `judgements` tell, by the same names; empty where the world knows none."""
        ...

    def proxy(self, verdict: Scored) -> float:
        """The judge's view of the same worth, on the scale of `gold`."""
        ...

    def functions(self) -> Mapping[str, str]:
        """Functions of the workload's own for processes that can be killed: "reward" and "gold" -> FILE.py:FUNCTION. They are used
        in place of the methods of these names, and those of the settings in place of them."""
        ...

    def metrics(self, groups: Sequence[Group]) -> dict[str, float]:
        """The workload's own evaluation metrics."""
        ...

    def lessons(self) -> Sequence[Lesson]: ...

    def tokenizer_texts(self) -> tuple[Sequence[str], Sequence[str]]:
        """(closed vocabulary of words, texts to train a BPE on); one of the two is empty. For models that are built on the spot."""
        ...

    def chat_template(self, role: str) -> str | None:
        """Jinja chat template for a model built on the spot."""
        ...


@dataclass(slots=True)
class PolicyLesson:
    """The policy's warm-up: a question and one or more answers an example. It has no exam; RL's first evaluation measures it."""

    chats: Sequence[Example]
    role: str = POLICY
    end_token: bool = True

    @property
    def gate(self) -> Mapping[str, float]:
        """Nothing is demanded."""
        return {}

    @property
    def grading(self) -> str:
        """Nothing is graded."""
        return ""

    def examples(self) -> Sequence[Example]:
        """One example a prompt, one branch an answer."""
        return self.chats

    def exam(self) -> Sequence[Call]:
        """No questions."""
        return ()

    def report(self, answers: Sequence[Answer]) -> dict[str, Any]:
        """How much there was to learn from."""
        return {"examples": len(self.chats)}


class BaseWorkload(ABC):
    """What most workloads have in common; a small one adds `tasks` and a reward. Implements `Workload`."""

    def __init__(self, config: RunConfig) -> None:
        """Raises ConfigError where nothing says what an episode is worth."""
        self.config = config
        if config.reward.name is None and "reward" not in self.functions() and type(self).reward is BaseWorkload.reward:
            self.reward()

    @abstractmethod
    def tasks(self, split: str) -> Sequence[Task]: ...

    def environment(self) -> Environment:
        """The policy answers once."""
        return SingleTurn()

    def reward(self) -> Reward:
        """None of its own."""
        raise ConfigError(
            "this workload has no reward: write a function `reward(episodes)` into its file, or name one with "
            "reward=path/to/file.py:function."
        )

    def gold(self, episode: Episode) -> float | None:
        """The truth is not known."""
        return None

    def gold_verdicts(self, episode: Episode) -> Mapping[str, float]:
        """Nor that of single verdicts."""
        return {}

    def proxy(self, verdict: Scored) -> float:
        """The reward itself."""
        return verdict.reward

    def functions(self) -> Mapping[str, str]:
        """None."""
        return {}

    def metrics(self, groups: Sequence[Group]) -> dict[str, float]:
        """None of its own."""
        return {}

    def lessons(self) -> Sequence[Lesson]:
        """Nothing is taught before RL."""
        return ()

    def tokenizer_texts(self) -> tuple[Sequence[str], Sequence[str]]:
        """All that is written for training: the prompts of the tasks, and what the lessons teach."""
        texts = [message["content"] for task in self.tasks("train") for message in task.messages]
        for example in (example for lesson in self.lessons() for example in lesson.examples()):
            if isinstance(example, Example):
                texts += [branch.target for branch in example.branches]
        return (), texts

    def chat_template(self, role: str) -> str | None:
        """The usual one."""
        return None
