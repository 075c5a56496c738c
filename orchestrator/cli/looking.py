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
    """List the runs: status, steps and the last evaluation."""
    from orchestrator.records.folder import RunFolder
    from orchestrator.records.shown import print_table
    from orchestrator.records.standing import standing

    folders = [path.parent for path in sorted(storage.glob("*/*/config.yaml"))]
    if not folders:
        typer.echo(f"No runs in {storage}/. `orchestrate train rlvr` makes one.")
        return
    rows = [standing(RunFolder(folder)) for folder in folders]
    cells = [
        (row.run, row.status, f"{row.step}/{row.steps}", row.score, row.since if row.status == "running" else "")
        for row in rows
    ]
    print_table(("run", "status", "step", "last evaluation", "now"), cells)


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
