"""What `orchestrate sweep --dry-run` prints: the graph, each run with its folder, what fits side by side, and a bound of the cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from orchestrator.cluster.cost import cost_of
from orchestrator.cluster.needs import needs_of
from orchestrator.cluster.plan import Plan
from orchestrator.cluster.preflight import CPUS_PER_GPU, Node, check_memory, inventory, local_node
from orchestrator.config.schema import ClusterConfig, RunConfig
from orchestrator.errors import PreflightError
from orchestrator.records.shown import print_table
from orchestrator.sweep.capacity import at_once
from orchestrator.sweep.graph import configs_of, plan_of, runs_of, source_run, stages, trials_of
from orchestrator.sweep.keys import find_by_key, is_finished
from orchestrator.sweep.space import grid, in_words, reachable
from orchestrator.sweep.spec import Done, Planned, Stage, Sweep

DONE = "done already"
MOST_RUNS = 40
"""Lines of runs that are shown."""


@dataclass(frozen=True, slots=True)
class _Work:
    """A stage that is to be done. configs: one of each arm. runs: those that are known beforehand; None where a search or what it
    finds decides. finished: those of them that are there already, by arm."""

    stage: Stage
    configs: Mapping[str, RunConfig]
    plan: Plan
    side_by_side: int | None
    runs: Sequence[Planned] | None
    finished: Counter[str]

    @property
    def each(self) -> int:
        """Runs of an arm, or trials of its search."""
        node = self.stage.node
        return (
            node.tuning.trials * node.tuning.repeats if self.stage.arm is not None and node.tuning else len(node.seeds)
        )

    @property
    def count(self) -> int:
        """Of all arms."""
        return len(self.configs) * self.each


def show_sweep(sweep: Sweep, storage: Path) -> None:
    """Print it all. Raises PreflightError where a run can never fit, ConfigError where one cannot be."""
    configs = configs_of(sweep, storage)
    cluster = next(iter(configs[sweep.nodes[0].name].values())).cluster
    nodes, assumed = _nodes(cluster)
    work = _work(sweep, storage, configs, nodes)
    typer.echo(f"sweep {sweep.name}{f': {sweep.about}' if sweep.about else ''}")
    headers = ("stage", "runs", "inputs", "searched", "CPUs a run", "GPUs a run", "at once")
    print_table(headers, map(_stage_row, work))
    if any(bundle.shared for item in work for bundle in item.plan.bundles):
        typer.echo("Of these CPUs and GPUs a shared rater takes its part once for all runs.")
    _print_runs(work, storage)
    gpu_memory_gb = nodes[0].gpu_memory_gb if nodes else None
    for item in work:
        for config in item.configs.values():
            check_memory(needs_of(config, gpu_memory_gb))
    _print_cost(work, gpu_memory_gb)
    if nodes is None:
        typer.echo(
            f"Not compared with the cluster at {cluster.address}: state its hardware, as in cluster.inventory=2x8x80GB. "
            "Nothing was started."
        )
        return
    there = f"{sum(node.cpus for node in nodes):g} CPUs and {sum(node.gpus for node in nodes):g} GPUs"
    typer.echo(f"It fits: every stage has room for at least one run on {there} ({assumed}). Nothing was started.")


def _nodes(cluster: ClusterConfig) -> tuple[list[Node] | None, str]:
    """(nodes to plan for, what they are taken from); no nodes for a cluster whose hardware was not stated."""
    if cluster.inventory:
        return inventory(cluster.inventory), f"cluster.inventory, {CPUS_PER_GPU} CPUs a GPU assumed"
    return (None, "") if cluster.address else ([local_node()], "this machine")


def _work(
    sweep: Sweep, storage: Path, configs: Mapping[str, Mapping[str, RunConfig]], nodes: Sequence[Node] | None
) -> list[_Work]:
    """The stages, with as much of their runs as can be known before anything has run."""
    work: list[_Work] = []
    done: list[Done] = []
    open_nodes: set[str] = set()
    for stage in stages(sweep):
        node, runs = stage.node, None
        if _waits(sweep, stage, open_nodes):
            open_nodes.add(node.name)
        elif stage.arm is None:
            runs = runs_of(sweep, stage, done, storage)
        elif node.tuning and node.tuning.searcher == "grid":
            runs = trials_of(sweep, stage, grid(node.search, {**node.settings, **node.arms[stage.arm]}), done, storage)
        arms = configs[node.name] if stage.arm is None else {stage.arm: configs[node.name][stage.arm]}
        workload = Path(next(iter(arms.values())).workload).stem
        if runs and stage.arm is None:
            done += [Done(node.name, run.arm, run.seed, f"{workload}/{run.name}") for run in runs]
        plan = plan_of(sweep, stage, storage)
        try:
            fits = at_once(plan, nodes, sweep.at_once) if nodes is not None else None
        except PreflightError as error:
            raise PreflightError(f"stage {stage.name}: {error}") from error
        finished = Counter(run.arm for run in runs or () if _state(run, storage) == DONE)
        work.append(_Work(stage, arms, plan, fits, runs, finished))
    return work


def _waits(sweep: Sweep, stage: Stage, open_nodes: set[str]) -> bool:
    """Whether the stage's settings depend on what a search will find."""
    named = {node.name: node for node in sweep.nodes}
    searched = stage.arm is None and bool(stage.node.search)
    arm = next(iter(stage.node.arms))
    seeds = stage.node.seeds or (0,)
    return searched or any(
        name in open_nodes or source_run(named[name], arm, seeds[0], stage.node.name)[1] is None
        for name in stage.node.inputs
    )


def _state(run: Planned, storage: Path) -> str:
    folder = find_by_key(storage, run.key)
    if folder is None:
        return "to do"
    return DONE if is_finished(folder) else "begun"


def _stage_row(work: _Work) -> tuple[str, ...]:
    node, tuning = work.stage.node, work.stage.node.tuning
    searched = ""
    if work.stage.arm is not None and tuning:
        repeats = f"{tuning.repeats} seeds a point" if tuning.repeats > 1 else "none"
        how = ", ".join(word for word in (tuning.searcher, tuning.scheduler, repeats) if word != "none")
        runs = f"{work.count} trials ({how})"
        settings = {**node.settings, **node.arms[work.stage.arm]}
        searched = "; ".join(in_words(item) for item in node.search if reachable(item, node.search, settings))
    else:
        runs = f"{work.count}" + (f", {work.finished.total()} {DONE}" if work.finished else "")
    side = "" if work.side_by_side is None else str(min(work.side_by_side, work.count))
    return work.stage.name, runs, ", ".join(node.inputs), searched, f"{work.plan.cpus:g}", f"{work.plan.gpus:g}", side


def _print_runs(work: Sequence[_Work], storage: Path) -> None:
    rows: list[tuple[str, ...]] = []
    for item in work:
        if item.runs is None:
            why = "searched" if item.stage.arm is not None else "its settings come from a search"
            rows.append((item.stage.name, "", "", "", why))
        else:
            rows += [(item.stage.name, run.arm, str(run.seed), run.name, _state(run, storage)) for run in item.runs]
    print_table(("stage", "arm", "seed", "folder", "state"), rows[:MOST_RUNS])
    if len(rows) > MOST_RUNS:
        typer.echo(f"  and {len(rows) - MOST_RUNS:,} more")


def _print_cost(work: Sequence[_Work], gpu_memory_gb: float | None) -> None:
    """The bound is that of every run going to its last step; a budget of a search bounds it where that is less."""
    if not any(item.plan.gpus for item in work):
        typer.echo("Cost: no GPU-hours, everything runs on the CPU")
        return
    if gpu_memory_gb is None:
        typer.echo("Cost: state the GPUs, as in cluster.inventory=8x80GB")
        return
    bounds = {item.stage.name: _bound(item, gpu_memory_gb) for item in work}
    unknown = [name for name, bound in bounds.items() if bound is None]
    known = {name: bound for name, bound in bounds.items() if bound is not None}
    typer.echo(f"Cost, at most about {sum(known.values()):,.0f} GPU-hours (estimated, right to a factor of 2)")
    for name, bound in known.items():
        typer.echo(f"  {name}: {bound:,.0f}")
    if unknown:
        typer.echo(f"  not estimated, where a shape is unknown or a process is on the CPU: {', '.join(unknown)}")


def _bound(work: _Work, gpu_memory_gb: float) -> float | None:
    """GPU-hours of a stage. A budget in hours or GPU-hours keeps further trials from beginning: those in flight go on."""
    bound = in_flight = gpus = 0.0
    for arm, config in work.configs.items():
        cost = cost_of(config, gpu_memory_gb)
        if cost is None:
            return None
        bound += (work.each - work.finished[arm]) * cost.gpu_hours
        in_flight, gpus = (work.side_by_side or 1) * cost.gpu_hours, (work.side_by_side or 1) * cost.gpus
    tuning = work.stage.node.tuning
    if work.stage.arm is None or tuning is None:
        return bound
    caps = [tuning.gpu_hours] if tuning.gpu_hours else []
    caps += [tuning.hours * gpus] if tuning.hours else []
    return min([bound, *(cap + in_flight for cap in caps)])
