"""Settings of runs that only evaluate: a model answers the tasks of one split, and nothing is trained.

How much the model can read and how long it may answer is known from what it is: a run's own settings, or its config.json.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from orchestrator.config.references import ModelReference, find_run, resolve
from orchestrator.config.schema import FleetConfig, ModelConfig, Role, RolloutConfig, RunConfig, ServedConfig, SftConfig
from orchestrator.config.settings import group, setting
from orchestrator.config.shapes import context_and_dtype
from orchestrator.errors import ConfigError
from orchestrator.values import POLICY

USUAL_CONTEXT = 4096
"""Where nothing says what a model can read."""
LONGEST_ANSWER = 1024
"""Tokens, where neither settings nor a run of the model say how long it answers."""


@dataclass
class EvaluatedModelConfig(ModelConfig):
    """The model that answers."""

    name: str = setting(
        "mini", "Who answers: `hf:ID`, `path:FOLDER`, `run:NAME@step` or the URL of an OpenAI-compatible server."
    )
    context_tokens: int = setting(
        0,
        "Longest sequence, prompt and answer together. 0: a run's own; else what config.json says, at most 8,192 tokens. Of a URL "
        "nothing is known: with 0 no prompt is cut.",
        low=0,
    )
    dtype: str = setting(
        "auto", "Precision; `auto`: a run's own, else that of config.json.", choices=("auto", "float32", "bfloat16")
    )
    served_name: str | None = setting(None, "Model name to ask a URL for (default: the first that it lists).")
    api_key_env: str = setting(
        "OPENAI_API_KEY", "Environment variable with the key for a URL. The key is never stored.", indifferent=True
    )
    call_deadline_s: float = setting(600.0, "Longest wait for one answer of a URL.", low=1, indifferent=True)
    retries: int = setting(2, "Further attempts at a question that failed.", low=0)


@dataclass
class EvaluatedRolloutConfig(RolloutConfig):
    """How it answers."""

    max_completion_tokens: int = setting(
        0, "Longest answer. 0: a run's own; else a quarter of the context, at most 1,024 tokens.", low=0
    )
    fleet: FleetConfig = group(FleetConfig, "Servers of the model.")


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a model. context, answer: tokens, 0 where unknown."""

    context: int
    answer: int
    dtype: str
    thinking: bool


@dataclass
class EvaluationConfig(RunConfig):
    """A run that evaluates `model` on the tasks of the split "test"."""

    asks_judge: ClassVar[bool] = False
    evaluates: ClassVar[bool] = True

    steps: int = setting(0, "Nothing is trained: 0.", low=0, high=0)
    model: EvaluatedModelConfig = group(EvaluatedModelConfig, "The model that answers.")
    rollout: EvaluatedRolloutConfig = group(EvaluatedRolloutConfig, "How it answers.")
    temperature: float | None = setting(
        None, "Sampling temperature, in place of rollout.temperature. null: that of each benchmark's protocol.", low=0
    )

    def splits(self) -> tuple[str, ...]:
        """Of the tasks: "test" alone."""
        return ("test",)

    def roles(self) -> dict[str, Role]:
        """The model, with all that its settings leave open."""
        return {POLICY: Role(self.model.name, self.read_model, self.rollout.fleet, SftConfig(steps=0), self.seed)}

    @property
    def read_model(self) -> ModelConfig:
        """The model's settings with what it is itself in place of 0 and auto."""
        mine, known = self.model, self._known
        return ModelConfig(
            name=mine.name,
            context_tokens=mine.context_tokens or known.context or USUAL_CONTEXT,
            thinking=mine.thinking or known.thinking,
            dtype=known.dtype if mine.dtype == "auto" else mine.dtype,
        )

    @property
    def context(self) -> int | None:
        """Tokens that prompt and answer may have together; None where nothing is known of a URL."""
        return None if self.served.elsewhere and not self.model.context_tokens else self.read_model.context_tokens

    @property
    def answer_tokens(self) -> int:
        """Longest answer."""
        usual = min(LONGEST_ANSWER, self.read_model.context_tokens // 4)
        return self.rollout.max_completion_tokens or self._known.answer or usual

    @property
    def served(self) -> ServedConfig:
        """The model as one that answers calls."""
        mine = self.model
        return ServedConfig(
            mine.name, self.read_model, self.rollout.fleet, mine.served_name, mine.api_key_env, mine.call_deadline_s,
            retries=mine.retries,
        )  # fmt: skip

    @property
    def _known(self) -> Known:
        return known(self.model.name, str(self.storage))


def known(name: str, storage: str) -> Known:
    """What the model that `name` refers to is; of one that is not there, or whose config.json is not, nothing."""
    reference = ModelReference.parse(name)
    try:
        settings = _settings_of(reference, storage)
    except ConfigError:  # a run that is still to come
        return Known(0, 0, "float32", False)
    if settings:
        model = settings["model"]
        return Known(model["context_tokens"], settings["answer"], model["dtype"], bool(model["thinking"]))
    context, dtype = context_and_dtype(reference, storage)
    return Known(context, 0, dtype or "float32", False)


def _settings_of(reference: ModelReference, storage: str) -> Mapping[str, Any]:
    """`model` and the length of an `answer` by the settings of a run; empty for what is no run. Raises ConfigError."""
    from orchestrator.records.folder import RunFolder  # which imports the checks of settings, and they this

    if reference.kind != "run":
        return {}
    settings = RunFolder(find_run(reference.value, storage)).settings()
    if reference.role in (None, POLICY):
        return {"model": settings["model"], "answer": settings["rollout"]["max_completion_tokens"]}
    role = settings.get(str(reference.role), {})
    return {"model": role["model"], "answer": 0} if "model" in role else {}


def weights_of(config: EvaluationConfig) -> Path | str:
    """The folder or hub id that is served. Raises ConfigError for `mini`, which has no weights before it is taught, and for what is
    not there."""
    reference = ModelReference.parse(config.model.name)
    if reference.kind == "mini":
        raise ConfigError("model=mini: name the model that is evaluated: run:NAME@STEP, hf:ID, path:FOLDER or a URL.")
    return resolve(reference, config.storage)
