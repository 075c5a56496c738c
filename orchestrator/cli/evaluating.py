"""The verb that evaluates a model on benchmarks: evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.app import Overrides, app, expected_errors


@app.command()
@expected_errors
def evaluate(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="run:NAME@STEP, hf:ID, path:FOLDER or the URL of a server.")
    ],
    workload: Annotated[
        str, typer.Argument(metavar="WORKLOAD", help="Whose benchmarks are asked (social_r1, legal_delta).")
    ],
    overrides: Overrides = None,
    by: Annotated[
        str | None, typer.Option(help="Show the scores by this view too: ability, task, order, language …")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what differs from the defaults and what goes where; start nothing.")
    ] = False,
    storage: Annotated[
        Path | None, typer.Option(help="Folder of all runs (the setting `storage`); by default runs.")
    ] = None,
) -> None:
    """Evaluate a model or a run on the benchmarks of a workload, each by its own protocol. An evaluation that is there is shown.

    \b
    Examples:
      orchestrate evaluate run:NAME social_r1 data.tombench=FOLDER data.hitom=FOLDER
      orchestrate evaluate hf:Qwen/Qwen3-4B social_r1 data.motivebench=FOLDER form=cot
      orchestrate evaluate http://localhost:8000/v1 social_r1 data.hitom=FOLDER limit=100 --by order
    """
    from orchestrator.config.compose import trace

    place = [f"storage={storage}"] if storage else []
    composed = trace(target_of(workload), [*place, *(overrides or []), f"model.name={model}"])
    if dry_run:
        from orchestrator.dry_run import show_plan

        show_plan(composed)
        return
    from orchestrator.evaluating import run_named
    from orchestrator.records.folder import read_json
    from orchestrator.records.shown import print_table
    from orchestrator.rollouts.parts import HEADERS, VIEW_HEADERS, rows_of, view_rows

    status, folder = run_named(composed.config)
    evaluation = read_json(folder.summary).get("evaluation")
    if evaluation:
        print_table(HEADERS, rows_of(evaluation))
        if by:
            print_table(VIEW_HEADERS, view_rows(evaluation, by))
        typer.echo(f"training data of {evaluation['model']}: {evaluation['trained_on']}; all numbers: {folder.summary}")
    raise typer.Exit(status)


def target_of(workload: str) -> str:
    """The workload that evaluates: `benchmarks` inside the one that is named, or that one itself where it only evaluates."""
    from orchestrator.config.workloads import workload_names

    return f"{workload}.benchmarks" if f"{workload}.benchmarks" in workload_names() else workload
