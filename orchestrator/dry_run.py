"""What `orchestrate train --dry-run` prints: the settings that are no defaults, who goes where, memory and cost."""

from __future__ import annotations

import typer

from orchestrator.cluster.cost import cost_of
from orchestrator.cluster.needs import memory_rows, needs_of
from orchestrator.cluster.plan import Plan, make_plan, plan_rows
from orchestrator.cluster.preflight import CPUS_PER_GPU, check_fit, check_memory, inventory, local_node
from orchestrator.config.compose import Composed, differences
from orchestrator.config.schema import RunConfig
from orchestrator.records.shown import print_table


def show_plan(composed: Composed) -> None:
    """Print it all. Raises PreflightError where the run can never fit."""
    rows = [(row.key, _plain(row.value), _plain(row.default), row.origin) for row in differences(composed)]
    title = f"{composed.source.name}, preset {composed.config.preset}"
    if rows:
        typer.echo(f"{title}: what differs from the defaults")
        print_table(("key", "value", "default", "set by"), rows)
    else:
        typer.echo(f"{title}: all settings at their defaults")
    plan = make_plan(composed.config)
    typer.echo("What the run needs")
    for fact in plan.facts:
        typer.echo(f"  {fact}")
    verdict, gpu_memory_gb = _print_placement(plan, composed.config)
    _print_memory(composed.config, gpu_memory_gb)
    typer.echo(verdict)


def _print_placement(plan: Plan, config: RunConfig) -> tuple[str, float | None]:
    """The needs of each role and the nodes that it goes to. Returns (the last word, GB of each GPU where known).

    Raises PreflightError where it cannot fit.
    """
    headers = ("role", "processes", "CPUs each", "GPUs each", "what")
    stated, address = config.cluster.inventory, config.cluster.address
    if stated is None and address is not None:
        print_table(headers, plan_rows(plan))
        return (
            f"Not compared with the cluster at {address}: state its hardware, as in cluster.inventory=2x8x80GB.",
            None,
        )
    nodes = inventory(stated) if stated else [local_node()]
    placed: dict[str, dict[str, None]] = {}
    for placement in check_fit(plan, nodes):
        placed.setdefault(placement.role, {})[placement.node] = None
    placed |= {bundle.role: placed["learner"] for bundle in plan.bundles if bundle.colocated}
    rows = [(*row, ", ".join(placed.get(row[0], {}))) for row in plan_rows(plan)]
    print_table((*headers, "where"), rows)
    there = f"{sum(node.cpus for node in nodes):g} CPUs and {sum(node.gpus for node in nodes)} GPUs"
    assumed = f" (cluster.inventory, {CPUS_PER_GPU} CPUs a GPU assumed)" if stated else " (this machine)"
    return (
        f"It fits: {plan.cpus:g} CPUs and {plan.gpus:g} GPUs of {there}{assumed}. Nothing was started.",
        nodes[0].gpu_memory_gb,
    )


def _print_memory(config: RunConfig, gpu_memory_gb: float | None) -> None:
    """Memory of each device and phase, and the cost in GPU-hours. Raises PreflightError where the memory cannot fit."""
    needs = needs_of(config, gpu_memory_gb)
    if needs.columns:
        typer.echo("Memory of a device in GB (of a process on the CPU: beside Python and its libraries, about 1 GB)")
        print_table(("", *(f"{column.device}, {column.phase}" for column in needs.columns)), memory_rows(needs.columns))
    for fact in needs.facts:
        typer.echo(f"  {fact}")
    for unknown in needs.unknown:
        typer.echo(f"  not computed: {unknown}")
    check_memory(needs)
    on_gpus = config.learner.gpus_per_rank or any(role.fleet.gpus_per_server for role in config.roles().values())
    if not on_gpus:
        typer.echo("Cost: no GPU-hours, everything runs on the CPU")
    elif gpu_memory_gb is None:
        typer.echo("Cost and fit: state the GPUs, as in cluster.inventory=8x80GB")
    else:
        cost = cost_of(config, gpu_memory_gb)
        typer.echo(
            "Cost, estimated"
            if cost
            else "Cost: not estimated where a shape is unknown, a process is on the CPU, or a run only evaluates"
        )
        for sentence in cost.sentences if cost else ():
            typer.echo(f"  {sentence}")


def _plain(value: object) -> str:
    return "null" if value is None else str(value)
