"""What a service serves: one model with its adapters, how it is asked, and where it is from. Plain data; imports no Ray."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from orchestrator.cluster.plan import Bundle, Plan
from orchestrator.config.compose import compose, from_values, to_values
from orchestrator.config.own_code import own_code
from orchestrator.config.references import ModelReference
from orchestrator.config.schema import Role, RunConfig
from orchestrator.config.shapes import context_and_dtype
from orchestrator.config.workloads import find_workload
from orchestrator.errors import ConfigError
from orchestrator.fleets.serving.adapters import Adapter, adapters_of
from orchestrator.rollouts.rubrics import RubricReward
from orchestrator.sharing.front_matter import architecture_of
from orchestrator.sharing.provenance import provenance
from orchestrator.sharing.public import public
from orchestrator.sharing.source import Source, find_source
from orchestrator.values import JUDGE, POLICY

CHAT, REWARD_MODEL = "chat", "reward_model"
KINDS = (CHAT, JUDGE, REWARD_MODEL)
"""What is served, and so by which routes: completions; those and verdicts; a reward model's scores alone."""
UNTRAINED = ("preset=mini", "rollout.max_completion_tokens=1", "limits.logprob_gap_max=10", "limits.logprob_gap_mean=1")
"""Settings that leave room for any model: no run is made with them."""
TAUGHT = "taught"
"""The folder of the cache where lessons leave their models."""
PLAIN = "rubric"
"""The workload whose settings and question are used for a model that is of no run."""


@dataclass(frozen=True, slots=True)
class Release:
    """What is put behind a service's name. model: the id by which it is asked, which is the service's name. reference, folder: of
    the weights. settings: of the run that it is from (`config.compose.to_values`), with what was given to `serve` on top; role: of
    that run. replicas: least and most. own: whether this project trained the weights, and so owes the proof that they are those.
    """

    model: str
    reference: str
    folder: str
    kind: str
    role: str
    settings: Mapping[str, Any]
    replicas: tuple[int, int]
    own: bool
    provenance: Mapping[str, Any]
    adapters: tuple[Adapter, ...] = field(default=())

    def config(self) -> RunConfig:
        """The settings, typed."""
        return from_values(self.settings)

    def served(self) -> Role:
        """The model's shape and what one replica takes."""
        role = self.config().roles()[self.role]
        return replace(role, name=self.reference)

    def plan(self) -> Plan:
        """What the least number of replicas places."""
        fleet, (least, _) = self.served().fleet, self.replicas
        return Plan(
            (Bundle(self.role, least, fleet.cpus_per_server, fleet.gpus_per_server, "a replica of the service"),)
        )

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Release:
        """The inverse of `dataclasses.asdict`, through JSON."""
        adapters = tuple(Adapter(**one) for one in values["adapters"])
        return cls(**{**values, "replicas": tuple(values["replicas"]), "adapters": adapters})


def release_of(
    target: str,
    overrides: Sequence[str],
    storage: Path,
    name: str | None = None,
    kind: str | None = None,
    replicas: tuple[int, int] = (1, 1),
    adapters: Sequence[str] = (),
) -> Release:
    """The release of a run's, a sweep's or a reference's model. name: of the service, by default the workload's. adapters: LoRA runs
    that began with this model.

    Raises ConfigError where there is no such model, or it cannot be served as this kind.
    """
    source = find_source(target, storage)
    config = _config(source, overrides, storage)
    shape, role = _kind(source, config, kind), source.role if source.role in config.roles() else POLICY
    if config.roles()[role].elsewhere:
        raise ConfigError(f"{target}: the {role} is {config.roles()[role].name}, which is served already.")
    stem = Path(config.workload).stem
    service = name or (stem if role == POLICY else f"{stem}-{role}")
    return Release(
        service,
        source.reference,
        source.folder,
        shape,
        role,
        to_values(config),
        replicas,
        source.step is not None or Path(source.folder).parent.name == TAUGHT,
        public(provenance(source)),
        adapters_of(adapters, source, service, storage),
    )


def _config(source: Source, overrides: Sequence[str], storage: Path) -> RunConfig:
    """The settings of the model's run, or plain ones for a model that is of none."""
    # Replicas have devices of their own, wherever the run's servers sat.
    given = [f"storage={storage}", "placement=split", *overrides]
    if source.run is None:
        context, dtype = context_and_dtype(ModelReference.parse(source.reference), storage)
        said = {"model.context_tokens": context, "model.dtype": dtype}
        shape = [f"{key}={value}" for key, value in said.items() if value]
        return compose(PLAIN, [f"model={source.reference}", *UNTRAINED, *shape, *given])
    return compose(str(source.run / "config.yaml"), given)


def _kind(source: Source, config: RunConfig, asked: str | None) -> str:
    """Raises ConfigError where the model cannot be what is asked for."""
    architecture = architecture_of(source.folder)
    scores = architecture.endswith("ForSequenceClassification")
    usual = REWARD_MODEL if scores else JUDGE if source.role == JUDGE and _by_rubric(config) else CHAT
    kind = asked or usual
    if kind not in KINDS:
        raise ConfigError(f"--as {kind}: choose one of {', '.join(KINDS)}.")
    # What was never fetched from the hub may be either: the engine will tell.
    if architecture and scores != (kind == REWARD_MODEL):
        held = "scores whole texts" if scores else "writes text"
        raise ConfigError(f"--as {kind}: {source.reference} {held}. Leave --as out.")
    if kind == JUDGE and not _by_rubric(config):
        raise ConfigError(
            f"--as {kind}: the judge of {config.workload} is asked in that workload's own words, and /v1/judge asks whether criteria "
            f"of a rubric are met. Leave --as out: runs of {config.workload} can ask the service as it is, judge=URL."
        )
    return kind


def _by_rubric(config: RunConfig) -> bool:
    """Whether the run's reward asks its judge about the criteria of a rubric, as `/v1/judge` does."""
    workload: Any = find_workload(config.workload).workload(config)
    with own_code("the workload's reward()", workload):
        return isinstance(workload.reward(), RubricReward)


def parse_replicas(text: str) -> tuple[int, int]:
    """(least, most) of `2` or `1:4`. Raises ConfigError."""
    least, colon, most = text.partition(":")
    if not least.isdecimal() or (colon and not most.isdecimal()):
        raise ConfigError(f"--replicas {text}: write a number, 2, or least and most, 1:4.")
    found = int(least), int(most or least)
    if not 1 <= found[0] <= found[1]:
        raise ConfigError(f"--replicas {text}: at least 1, and the first no more than the second.")
    return found
