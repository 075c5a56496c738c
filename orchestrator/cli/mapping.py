"""The verb of maps: stored answers of high reward as points, with statistics beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.app import Storage, app, expected_errors, step_of
from orchestrator.errors import ConfigError


@app.command(name="map")
@expected_errors
def draw(
    runs: Annotated[list[str], typer.Argument(metavar="RUN …", help="NAME, WORKLOAD/NAME or a run's folder.")],
    out: Annotated[Path, typer.Option(help="The folder for map.html, map.png and map.json.")],
    label: Annotated[
        list[str] | None, typer.Option(help="What a run is called on the map; once a run, in order.")
    ] = None,
    split: Annotated[str, typer.Option(help="eval (held-out), test or train.")] = "eval",
    step: Annotated[str, typer.Option(help="The step whose episodes are drawn, or last.")] = "last",
    task: Annotated[list[str] | None, typer.Option(help="Id of a question; may be given several times.")] = None,
    tasks: Annotated[int, typer.Option(min=1, help="Without --task: how many questions of each run.")] = 6,
    top: Annotated[
        float | None, typer.Option(help="High reward: this share of a question's answers; 0.5 by default.")
    ] = None,
    least: Annotated[float | None, typer.Option(help="High reward: in place of --top, at least this reward.")] = None,
    per_task: Annotated[int, typer.Option(min=5, help="Most answers of a question.")] = 500,
    embed: Annotated[str, typer.Option(help="words (needs no model), hf:ID, path:FOLDER or run:NAME@STEP.")] = "words",
    perplexity: Annotated[float | None, typer.Option(help="Of t-SNE; by default 30, fewer for few answers.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="The same seed draws the same map.")] = 0,
    unredacted: Annotated[
        bool, typer.Option("--unredacted", help="Show texts whose source forbids passing them on.")
    ] = False,
    storage: Storage = Path("runs"),
) -> None:
    """Draw a semantic map of stored answers of high reward: embedded, laid out by t-SNE, measured. Nothing is rolled out.

    \b
    Examples:
      orchestrate map RUN --out map
      orchestrate map MORAL MATHS --out map --split test --embed hf:sentence-transformers/all-MiniLM-L6-v2
    """
    if top is not None and least is not None:
        raise ConfigError("--top and --least both say what a high reward is: give one of them.")
    from orchestrator.config.references import find_run
    from orchestrator.maps.choice import Wanted, labelled
    from orchestrator.maps.drawing import Asked, draw_map
    from orchestrator.maps.shown import show_map
    from orchestrator.maps.written import check_place, write

    check_place(out)
    folders = labelled([find_run(run, storage) for run in runs], label or [])
    wanted = Wanted(split, step_of(step), tuple(task or ()), tasks, 0.5 if top is None else top, least, per_task, seed)
    drawn = draw_map(folders, wanted, Asked(embed, perplexity), storage)
    show_map(drawn, write(drawn, out, unredacted))
