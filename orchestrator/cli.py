"""The verbs of `orchestrate`: each parses, calls one function and prints. What is heavy is imported inside its verb."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ParamSpec, TypeVar

import typer

from orchestrator.errors import ConfigError, RunError

if TYPE_CHECKING:
    from orchestrator.cluster.plan import Plan
    from orchestrator.config.compose import Composed
    from orchestrator.config.schema import RunConfig

P = ParamSpec("P")
T = TypeVar("T")

EXPECTED_FAILURE = 2
"""Exit status of failures that the user can mend."""

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help is drawn without importing rich
    pretty_exceptions_enable=False,
    help="""Reinforcement learning of language models on Ray: roll out, judge, learn, sync, evaluate.

    \b
    Examples:
      orchestrate train rlvr                         one run on this machine
      orchestrate train rlvr steps=100 seed=1        the same with other settings
      orchestrate train rlvr --dry-run               what it needs and whether it fits
      orchestrate train my.yaml                      settings of one's own (a YAML with `workload: rlvr`)
      orchestrate config explain judge.min_mass      what a setting means
      orchestrate list                               the runs that are there

    Settings are key=value; `orchestrate config explain` lists them. `python -m orchestrator` is the same program.
    """,
)
config_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Settings: what they mean and where their values come from."
)
app.add_typer(config_app, name="config")

Target = Annotated[
    str, typer.Argument(metavar="TARGET", help="A workload (rlvr), a YAML of one's own, or a workload's .py file.")
]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Settings, such as steps=100.")]
Storage = Annotated[Path, typer.Option(help="Folder of all runs (the setting `storage`).")]


def expected_errors(verb: Callable[P, T]) -> Callable[P, T]:
    """A verb that prints the message of a RunError and ends with status 2; other errors keep their traceback."""

    @functools.wraps(verb)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return verb(*args, **kwargs)
        except RunError as error:
            typer.echo(f"orchestrate: {error}", err=True)
            raise typer.Exit(EXPECTED_FAILURE) from None

    return wrapped


@app.command()
@expected_errors
def train(
    target: Annotated[
        str | None,
        typer.Argument(metavar="TARGET", help="A workload (rlvr), a YAML of one's own, or a workload's .py file."),
    ] = None,
    overrides: Overrides = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what differs from the defaults and what goes where; start nothing.")
    ] = False,
    resume: Annotated[
        str | None, typer.Option(metavar="RUN", help="Continue a run from its newest checkpoint (no TARGET).")
    ] = None,
    start_from: Annotated[
        str | None,
        typer.Option("--from", metavar="RUN[@STEP]", help="Begin a new run from a run's checkpoint (no TARGET)."),
    ] = None,
    storage: Annotated[
        Path | None, typer.Option(help="Folder of all runs (the setting `storage`); by default runs.")
    ] = None,
) -> None:
    """Train: one run, from the warmed-up policy to its report.

    \b
    Examples:
      orchestrate train rlvr
      orchestrate train rlvr model=hf:Qwen/Qwen3-0.6B judge=http://localhost:8000/v1
      orchestrate train rlvr rollout.samples_per_prompt=16 learner.learning_rate=5e-7
      orchestrate train rlvr cluster.inventory=2x8x80GB --dry-run
      orchestrate train --resume RUN
      orchestrate train --from RUN@40 learner.learning_rate=1e-4
    """
    from orchestrator.config.compose import trace

    if resume or start_from:
        if dry_run:
            raise ConfigError("--dry-run goes with a TARGET, not with --resume or --from.")
        _go_on(resume, start_from, [target, *(overrides or [])] if target else [], storage or Path("runs"))
    if target is None:
        raise ConfigError("name what to train: orchestrate train rlvr, a YAML of your own, or --resume RUN.")
    composed = trace(target, [*([f"storage={storage}"] if storage else []), *(overrides or [])])
    if dry_run:
        _print_dry_run(composed)
        return
    from orchestrator import experiment

    raise typer.Exit(experiment.run(composed.config))


def _go_on(resume: str | None, start_from: str | None, overrides: list[str], storage: Path) -> None:
    """Continue a run, or fork one; ends the program."""
    from orchestrator import experiment
    from orchestrator.config.references import find_run

    if resume and start_from:
        raise ConfigError("--resume continues a run, --from begins another one: give one of the two.")
    if resume:
        raise typer.Exit(experiment.resume(find_run(resume, storage), overrides))
    name, _, step = str(start_from).removeprefix("run:").partition("@")
    if step and not step.isdecimal():
        raise ConfigError(f"--from {start_from}: write RUN@STEP, the step a whole number, or RUN for the newest.")
    raise typer.Exit(experiment.fork(find_run(name, storage), int(step) if step else None, overrides))


@app.command()
@expected_errors
def judge(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Answers: .jsonl, .csv or .parquet with prompt and response.")
    ],
    rubric: Annotated[Path, typer.Argument(metavar="RUBRIC", help="The rubric: .yaml or .json.")],
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="Where a row an answer is written: .parquet or .jsonl.")] = None,
) -> None:
    """Judge answers that are there already with a rubric; they are neither generated nor learned from.

    \b
    Examples:
      orchestrate judge answers.jsonl rubric.yaml judge=http://localhost:8000/v1
      orchestrate judge answers.csv rubric.yaml judge=hf:Qwen/Qwen3-1.7B --out scores.parquet
    """
    from orchestrator.rollouts.scoring import score_file

    scores = score_file(file, rubric, overrides or [], out)
    rows = [(row.name, row.weight, f"{row.met:.3f}", str(row.n), f"{row.mass:.3f}") for row in scores.criteria]
    _print_table(("criterion", "weight", "met", "answers", "P(yes)+P(no)"), rows)
    for name, found in (("score (0 to 1)", scores.score), ("reward", scores.reward)):
        typer.echo(f"{name}: {found.mean:.3f} (95 % {found.low:.3f} to {found.high:.3f}, over {found.n} prompts)")
    typer.echo(
        f"answers: {scores.answers}, unscored: {scores.unscored}{f' ({scores.reason})' if scores.reason else ''}"
    )


@config_app.command("explain")
@expected_errors
def config_explain(
    key: Annotated[
        str | None, typer.Argument(metavar="KEY", help="A setting or a group of them; all where left out.")
    ] = None,
    workload: Annotated[
        str | None, typer.Option(help="Also the settings and presets of this workload (a name or a .py file).")
    ] = None,
) -> None:
    """Explain a setting: what it means, its type, default, bounds and presets."""
    from orchestrator.config.explain import explain, presets_of
    from orchestrator.config.schema import RunConfig
    from orchestrator.config.workloads import find_workload

    source = find_workload(workload) if workload else None
    config_class: type[RunConfig] = source.config if source else RunConfig
    typer.echo(explain(config_class, key, presets_of(source) if source else None))


@config_app.command("show")
@expected_errors
def config_show(target: Target, overrides: Overrides = None) -> None:
    """Show the resolved settings as YAML that can be run; each value that is not a default says where it comes from."""
    from orchestrator.config.compose import trace
    from orchestrator.config.explain import to_yaml

    typer.echo(to_yaml(trace(target, overrides or [])), nl=False)


@app.command("list")
@expected_errors
def list_runs(storage: Storage = Path("runs")) -> None:
    """List the runs: status, steps and the last evaluation."""
    folders = [path.parent for path in sorted(storage.glob("*/*/config.yaml"))]
    if not folders:
        typer.echo(f"No runs in {storage}/. `orchestrate train rlvr` makes one.")
        return
    rows = [(folder.name, folder.parent.name, *_summary_cells(folder)) for folder in folders]
    _print_table(("run", "workload", "status", "steps", "last evaluation"), rows)


@app.command()
@expected_errors
def report(
    run: Annotated[str, typer.Argument(metavar="RUN", help="NAME, WORKLOAD/NAME or the run's folder.")],
    unredacted: Annotated[
        bool, typer.Option("--unredacted", help="Show texts too whose source forbids passing them on.")
    ] = False,
    storage: Storage = Path("runs"),
) -> None:
    """Report on a run: write its report.html and plots anew and print its summary."""
    from orchestrator.config.references import find_run

    folder = find_run(run, storage)
    from orchestrator.records.report import render

    render(folder, unredacted=unredacted)


@app.command()
@expected_errors
def doctor(
    quick: Annotated[bool, typer.Option("--quick", help="Without starting Ray, vLLM and DeepSpeed.")] = False,
    storage: Storage = Path("runs"),
) -> None:
    """Examine this machine and the installation; say what to do about what is wrong (then the exit status is 1)."""
    from orchestrator.doctor import FAILED, examine

    if not quick:
        typer.echo("Ray, vLLM and DeepSpeed are tried out, which takes a minute or two (not with --quick).", err=True)
    checks = list(examine(storage, quick))
    _print_table(("check", "state", "found", "what to do"), [(c.name, c.state, c.found, c.remedy) for c in checks])
    raise typer.Exit(int(any(check.state == FAILED for check in checks)))


def _summary_cells(folder: Path) -> tuple[str, str, str]:
    """(status, steps, last evaluation) of a run. Without a summary.json it is going on, or was broken off."""
    from orchestrator.records import metrics
    from orchestrator.records.folder import RunFolder, read_json

    paths = RunFolder(folder)
    if not paths.summary.is_file():
        rows = metrics.read(paths.metrics_log)
        return "unfinished", f"{rows[-1]['step']:.0f}" if rows else "0", ""
    summary = read_json(paths.summary)
    last = summary.get("last", {})
    scores = "  ".join(f"{name} {last[name]:.3f}" for name in ("oracle", "judge") if name in last)
    return str(summary["status"]), str(summary["steps"]), scores


def _print_dry_run(composed: Composed) -> None:
    from orchestrator.cluster.plan import make_plan
    from orchestrator.config.compose import differences

    rows = [(row.key, _plain(row.value), _plain(row.default), row.origin) for row in differences(composed)]
    title = f"{composed.source.name}, preset {composed.config.preset}"
    if rows:
        typer.echo(f"{title}: what differs from the defaults")
        _print_table(("key", "value", "default", "set by"), rows)
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
    from orchestrator.cluster.plan import plan_rows
    from orchestrator.cluster.preflight import CPUS_PER_GPU, check_fit, inventory, local_node

    headers = ("role", "processes", "CPUs each", "GPUs each", "what")
    stated, address = config.cluster.inventory, config.cluster.address
    if stated is None and address is not None:
        _print_table(headers, plan_rows(plan))
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
    _print_table((*headers, "where"), rows)
    there = f"{sum(node.cpus for node in nodes):g} CPUs and {sum(node.gpus for node in nodes)} GPUs"
    assumed = f" (cluster.inventory, {CPUS_PER_GPU} CPUs a GPU assumed)" if stated else " (this machine)"
    return (
        f"It fits: {plan.cpus:g} CPUs and {plan.gpus:g} GPUs of {there}{assumed}. Nothing was started.",
        nodes[0].gpu_memory_gb,
    )


def _print_memory(config: RunConfig, gpu_memory_gb: float | None) -> None:
    """Memory of each device and phase, and the cost in GPU-hours. Raises PreflightError where the memory cannot fit."""
    from orchestrator.cluster.cost import cost_of
    from orchestrator.cluster.needs import memory_rows, needs_of
    from orchestrator.cluster.preflight import check_memory

    needs = needs_of(config, gpu_memory_gb)
    if needs.columns:
        typer.echo("Memory of a device in GB (of a process on the CPU: beside Python and its libraries, about 1 GB)")
        _print_table(
            ("", *(f"{column.device}, {column.phase}" for column in needs.columns)), memory_rows(needs.columns)
        )
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
            "Cost, estimated" if cost else "Cost: not estimated where a shape is unknown or a process is on the CPU"
        )
        for sentence in cost.sentences if cost else ():
            typer.echo(f"  {sentence}")


def _plain(value: object) -> str:
    return "null" if value is None else str(value)


def _print_table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table without lines; as wide as it needs to be where the output is not a terminal."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*headers, box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*map(Text, row))
    console = Console()
    if not console.is_terminal:
        console.width = 1000
    console.print(table)


def main() -> None:
    """The console script."""
    app()
