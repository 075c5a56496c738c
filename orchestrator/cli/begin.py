"""The verbs that start something: train, sweep, new, doctor."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.app import Overrides, Storage, app, expected_errors
from orchestrator.config.job import lasting
from orchestrator.errors import ConfigError

if TYPE_CHECKING:
    from orchestrator.sweep.spec import Sweep


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
        str | None,
        typer.Option(metavar="RUN", help="Continue a run (or a mirror's URL) from its newest checkpoint (no TARGET)."),
    ] = None,
    start_from: Annotated[
        str | None,
        typer.Option("--from", metavar="RUN[@STEP]", help="Begin a new run from a run's checkpoint (no TARGET)."),
    ] = None,
    replay: Annotated[
        str | None,
        typer.Option(metavar="RUN[@STEP]", help="Do a stored step's update again and look into its loss (no TARGET)."),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="With --replay: all episodes, not the ten largest.")
    ] = False,
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
      orchestrate train rlvr seed=0..4               a run a seed, as a sweep
      orchestrate train --resume RUN
      orchestrate train --from RUN@40 learner.learning_rate=1e-4
      orchestrate train --replay RUN@12
    """
    if replay:
        if target or dry_run or resume or start_from:
            raise ConfigError(
                "--replay RUN@STEP stands alone: the run's own settings are used, and nothing is started."
            )
        _replay(replay, everything, storage or lasting(Path("runs")))
        return
    if resume or start_from:
        if dry_run:
            raise ConfigError("--dry-run goes with a TARGET, not with --resume or --from.")
        _go_on(resume, start_from, [target, *(overrides or [])] if target else [], storage or lasting(Path("runs")))
    if target is None:
        raise ConfigError("name what to train: orchestrate train rlvr, a YAML of your own, or --resume RUN.")
    _begin(target, [*([f"storage={storage}"] if storage else []), *(overrides or [])], dry_run)


def _begin(target: str, overrides: list[str], dry_run: bool) -> None:
    """A run of its own, or only what it would need; ends the program where it ran. A range of seeds is a sweep."""
    if seeds := [text for text in overrides if re.fullmatch(r"seed=\d+\.\.\d+", text)]:
        _begin_seeds(target, overrides, seeds[-1].removeprefix("seed="), dry_run)
        return
    from orchestrator.config.compose import trace

    composed = trace(target, overrides)
    if dry_run:
        from orchestrator.dry_run import show_plan

        show_plan(composed)
        return
    from orchestrator import experiment

    raise typer.Exit(experiment.run(composed.config))


def _begin_seeds(target: str, overrides: list[str], seeds: str, dry_run: bool) -> None:
    from orchestrator.sweep.reading import read_seeds, sweep_of_seeds

    settings = [text for text in overrides if not text.startswith(("seed=", "storage="))]
    storages = [text.removeprefix("storage=") for text in overrides if text.startswith("storage=")]
    _sweep(
        sweep_of_seeds(target, settings, read_seeds(seeds) or ()),
        lasting(Path([*["runs"], *storages][-1])),
        False,
        dry_run,
        ["train", target, *overrides],
    )


def _sweep(sweep: Sweep, storage: Path, resume: bool, dry_run: bool, words: list[str]) -> None:
    """A sweep, or only what it would do; ends the program where it ran. words: the command that goes on with it."""
    if dry_run:
        from orchestrator.sweep.dry_run import show_sweep

        show_sweep(sweep, storage)
        return
    from orchestrator.sweep.driver import run_sweep

    raise typer.Exit(run_sweep(sweep, storage, resume, shlex.join(["orchestrate", *words])))


def _go_on(resume: str | None, start_from: str | None, overrides: list[str], storage: Path) -> None:
    """Continue a run, or fork one; ends the program."""
    from orchestrator import experiment
    from orchestrator.config.references import find_run

    if resume and start_from:
        raise ConfigError("--resume continues a run, --from begins another one: give one of the two.")
    if resume:
        from orchestrator.records.mirror import fetch

        folder = fetch(resume, storage) if "://" in resume else find_run(resume, storage)
        raise typer.Exit(experiment.resume(folder, overrides))
    name, step = _run_and_step(str(start_from))
    raise typer.Exit(experiment.fork(find_run(name, storage), step, overrides))


def _run_and_step(text: str) -> tuple[str, int | None]:
    """(run, step) of RUN@STEP; RUN alone has no step."""
    from orchestrator.config.references import ModelReference

    reference = ModelReference.parse(f"run:{text.removeprefix('run:')}")
    return reference.value, reference.step


def _replay(text: str, everything: bool, storage: Path) -> None:
    from orchestrator.config.references import find_run
    from orchestrator.records.shown import show_replayed
    from orchestrator.replay import replay

    run, step = _run_and_step(text)
    show_replayed(replay(find_run(run, storage), step), everything)


@app.command()
@expected_errors
def sweep(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A sweep of sweeps/, or the path of a .yaml of one's own.")
    ],
    overrides: Overrides = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Show the runs, what is there already, what fits and what it costs; start nothing."
        ),
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a sweep that was interrupted.")] = False,
    storage: Storage = Path("runs"),
) -> None:
    """Sweep: a graph of runs, searches and seeds, each run once; what is done already is found and not repeated.

    \b
    Examples:
      orchestrate sweep rlvr_quick
      orchestrate sweep rlvr_algorithms --dry-run
      orchestrate sweep rlvr_algorithms cluster.inventory=2x8x80GB --dry-run
      orchestrate sweep rlvr_quick --resume
    """
    from orchestrator.sweep.reading import read_sweep

    elsewhere = [] if storage == Path("runs") else ["--storage", str(storage)]
    words = ["sweep", name, *(overrides or []), *elsewhere, "--resume"]
    _sweep(read_sweep(name, overrides or []), storage, resume, dry_run, words)


@app.command()
@expected_errors
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The file NAME.py is written.")],
    kind: Annotated[str, typer.Option(help="workload, reward, or environment (of several turns).")] = "workload",
) -> None:
    """Start a file of one's own: a commented workload, reward function or environment that runs as it stands."""
    from orchestrator.templates import start_file

    started = start_file(name, kind)
    typer.echo(f"{started.path} is written. Try it:\n  {started.command}")


@app.command()
@expected_errors
def doctor(
    quick: Annotated[bool, typer.Option("--quick", help="Without starting Ray, vLLM and DeepSpeed.")] = False,
    storage: Storage = Path("runs"),
) -> None:
    """Examine this machine and the installation; say what to do about what is wrong (then the exit status is 1)."""
    from orchestrator.doctor import FAILED, examine
    from orchestrator.records.shown import print_table

    if not quick:
        typer.echo("Ray, vLLM and DeepSpeed are tried out, which takes a minute or two (not with --quick).", err=True)
    checks = list(examine(storage, quick))
    print_table(("check", "state", "found", "what to do"), [(c.name, c.state, c.found, c.remedy) for c in checks])
    raise typer.Exit(int(any(check.state == FAILED for check in checks)))
