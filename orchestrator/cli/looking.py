"""The verbs that look: at runs, and at what a setting means."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.app import Overrides, Storage, Target, app, config_app, expected_errors

if TYPE_CHECKING:
    from orchestrator.config.schema import RunConfig


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
    """List sweeps and runs: status, how far they are, and the last evaluation."""
    from orchestrator.records.folder import RunFolder
    from orchestrator.records.shown import print_table
    from orchestrator.records.standing import standing
    from orchestrator.sweep.standing import standing_of, sweeps_in

    sweeps = [standing_of(folder) for folder in sweeps_in(storage)]
    if sweeps:
        cells = [(one.name, one.status, f"{one.done} of {len(one.trials)}", f"{one.hours:.1f}") for one in sweeps]
        print_table(("sweep", "status", "runs done", "hours"), cells)
    folders = [path.parent for path in sorted(storage.glob("*/*/config.yaml"))]
    if not folders:
        typer.echo(f"No runs in {storage}/. `orchestrate train rlvr` makes one.")
        return
    rows = [standing(RunFolder(folder)) for folder in folders]
    print_table(
        ("run", "status", "step", "last evaluation", "now"),
        [
            (row.run, row.status, f"{row.step}/{row.steps}", row.score, row.since if row.status == "running" else "")
            for row in rows
        ],
    )


Name = Annotated[str, typer.Argument(metavar="RUN|SWEEP", help="A run (NAME, WORKLOAD/NAME or its folder) or a sweep.")]


@app.command()
@expected_errors
def status(name: Name, storage: Storage = Path("runs")) -> None:
    """Say how a run or a sweep stands: what it does now, how far it is, what went wrong."""
    from orchestrator.config.references import find_run
    from orchestrator.records.folder import RunFolder
    from orchestrator.records.shown import print_table
    from orchestrator.records.standing import standing
    from orchestrator.sweep.standing import find_sweep, rows_of, standing_of

    if sweep := find_sweep(name, storage):
        found = standing_of(sweep)
        typer.echo(
            f"sweep {found.name}: {found.status}, {found.done} of {len(found.trials)} runs done, {found.hours:.1f} h"
        )
        print_table(
            ("stage", "trial", "arm", "seed", "settings", "run", "state", "step", "score"), rows_of(sweep, found)
        )
        if found.status in ("broken off", "has failures"):
            typer.echo(f"go on with: {sweep.command.read_text()}")
        return
    folder = RunFolder(find_run(name, storage))
    row = standing(folder)
    typer.echo(f"{row.run}: {row.status}, step {row.step} of {row.steps}")
    for label, text in (
        ("now", row.since),
        ("last evaluation", row.score),
        ("reason", row.reason),
        ("folder", str(folder.path)),
    ):
        if text and (label != "now" or row.status in ("running", "broken off")):
            typer.echo(f"  {label}: {text}")
    if row.status in ("broken off", "stopped", "failed") and folder.newest_checkpoint():
        typer.echo(f"go on with: orchestrate train --resume {folder.path}")


@app.command()
@expected_errors
def stop(name: Name, storage: Storage = Path("runs")) -> None:
    """Ask a run, or all runs of a sweep, to end after the step they are in, with a checkpoint."""
    from orchestrator.config.references import find_run
    from orchestrator.records import standing as of_run
    from orchestrator.records.folder import RunFolder
    from orchestrator.sweep import standing as of_sweep

    sweep = of_sweep.find_sweep(name, storage)
    if sweep:
        of_sweep.ask_to_stop(sweep)
    else:
        of_run.ask_to_stop(RunFolder(find_run(name, storage)))
    typer.echo(f"{name} was asked to stop. `orchestrate status {name}` says when it has.")


@app.command()
@expected_errors
def logs(
    name: Name,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until it ends.")] = False,
    storage: Storage = Path("runs"),
) -> None:
    """Print what a run or a sweep said, with the time of each line."""
    from orchestrator.config.references import find_run
    from orchestrator.records import standing as of_run
    from orchestrator.records.folder import RunFolder
    from orchestrator.sweep import standing as of_sweep

    sweep = of_sweep.find_sweep(name, storage)
    said = of_sweep.lines(sweep, follow) if sweep else of_run.lines(RunFolder(find_run(name, storage)), follow)
    for line in said:
        typer.echo(line)


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
