"""The verbs about answers that are there, or are asked for: compare, rejudge, sample, judge."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.app import Overrides, Storage, app, expected_errors, step_of
from orchestrator.errors import ConfigError


@app.command()
@expected_errors
def compare(
    runs: Annotated[list[str], typer.Argument(metavar="A B …", help="Runs, or lists of seeds with commas.")],
    step: Annotated[int | None, typer.Option(help="The evaluation to compare; by default each run's last.")] = None,
    samples: Annotated[int, typer.Option(min=0, help="Held-out tasks whose answers are shown side by side.")] = 3,
    plot: Annotated[Path | None, typer.Option(help="Write curves of all runs to this .png.")] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(help="With --plot: what is drawn, a panel each; the held-out score where left out."),
    ] = None,
    storage: Storage = Path("runs"),
) -> None:
    """Compare runs: what was set differently, how they ended, a paired test on the same held-out tasks, answers side by side.

    \b
    Examples:
      orchestrate compare A B
      orchestrate compare A1,A2,A3 B1,B2,B3 --plot curves.png
      orchestrate compare A B --plot entropy.png --metric policy/entropy --metric episodes/length
    """
    if metric and not plot:
        raise ConfigError("--metric goes with --plot FILE.png.")
    from orchestrator.records.compare import compare, find_arms
    from orchestrator.records.shown import show_comparison

    arms = find_arms(runs, storage)
    comparison = compare(arms, step, samples)
    show_comparison(comparison)
    if plot:
        from orchestrator.records.curves import draw

        draw(arms, plot, metric or [f"eval/{comparison.by}"])
        typer.echo(f"picture: {plot}")


@app.command()
@expected_errors
def rejudge(
    run: Annotated[str, typer.Argument(metavar="RUN", help="NAME, WORKLOAD/NAME or the run's folder.")],
    judge: Annotated[str, typer.Option(help="Who judges now: a URL, hf:ID, path:FOLDER or run:NAME@STEP.")],
    overrides: Overrides = None,
    step: Annotated[str, typer.Option(help="The step whose episodes are judged, or last.")] = "last",
    split: Annotated[str, typer.Option(help="eval (held-out) or train.")] = "eval",
    storage: Storage = Path("runs"),
) -> None:
    """Have stored episodes judged again by another judge, and see how far the two agree. Nothing is rolled out.

    \b
    Examples:
      orchestrate rejudge RUN --judge http://localhost:8000/v1
      orchestrate rejudge RUN --judge hf:Qwen/Qwen3-8B judge.model.context_tokens=4096 judge.fleet.gpus_per_server=1
    """
    from orchestrator.config.references import find_run
    from orchestrator.records.shown import show_rejudged

    number = step_of(step)
    folder = find_run(run, storage)
    from orchestrator.rejudge import rejudge

    show_rejudged(rejudge(folder, judge, number, split, overrides or []))


@app.command()
@expected_errors
def sample(
    run: Annotated[str, typer.Argument(metavar="RUN[@STEP]", help="A run's checkpoint; the newest without a step.")],
    prompts: Annotated[list[str] | None, typer.Argument(metavar="PROMPT", help="Prompts; - reads one a line.")] = None,
    n: Annotated[int, typer.Option("--n", min=1, help="Answers a prompt.")] = 1,
    temperature: Annotated[float | None, typer.Option(min=0, help="By default that of the run's rollouts.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="By default that of the run's rollouts.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same answers.")] = 0,
    task: Annotated[list[str] | None, typer.Option(help="Id of a held-out task; may be given several times.")] = None,
    storage: Storage = Path("runs"),
) -> None:
    """Sample answers of a run's policy.

    \b
    Examples:
      orchestrate sample RUN "May I lie to spare a friend?" --n 4
      orchestrate sample RUN@40 --task eval-3
    """
    from orchestrator.records.shown import show_samples
    from orchestrator.sample import Asked, sample

    lines = [line.strip() for line in typer.get_text_stream("stdin")] if "-" in (prompts or []) else []
    given = tuple(text for text in [*(prompts or []), *lines] if text not in ("-", ""))
    asked = Asked(run, given, tuple(task or ()), n, temperature, max_tokens, seed)
    show_samples(*sample(asked, storage))


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
    from orchestrator.records.shown import print_table
    from orchestrator.rollouts.judge_file import score_file

    scores = score_file(file, rubric, overrides or [], out)
    rows = [(row.name, row.weight, f"{row.met:.3f}", str(row.n), f"{row.mass:.3f}") for row in scores.criteria]
    print_table(("criterion", "weight", "met", "answers", "P(yes)+P(no)"), rows)
    for name, found in (("score (0 to 1)", scores.score), ("reward", scores.reward)):
        interval = f"95 % {found.low:.3f} to {found.high:.3f}" if found.n > 1 else "no interval"
        typer.echo(f"{name}: {found.mean:.3f} ({interval}, over {found.n} prompts)")
    told = f" ({scores.reason})" if scores.reason else ""
    typer.echo(f"answers: {scores.answers}, unscored: {scores.unscored}{told}")
    if scores.unreadable:
        typer.echo(
            f"{scores.unreadable} of them were refused by the judge (too long for it?) and count in the worst way"
        )
