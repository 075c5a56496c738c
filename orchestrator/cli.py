"""The verbs of `orchestrate`: each parses, calls one function and prints. What is heavy is imported inside its verb."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar

import typer
import typer.main

from orchestrator.config.job import check_secrets, lasting
from orchestrator.errors import ConfigError, RunError

if TYPE_CHECKING:
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
      orchestrate train rubric data.path=prompts.jsonl rubric.path=rubric.yaml judge=http://localhost:8000/v1
      orchestrate judge answers.jsonl rubric.yaml judge=http://localhost:8000/v1
      orchestrate train rlvr reward=my.py:score      with a reward function of one's own
      orchestrate new my_task                        a commented file to start a workload of one's own from
      orchestrate config explain judge.min_mass      what a setting means
      orchestrate list                               the runs that are there
      orchestrate compare A B                        two runs, on the same held-out tasks
      orchestrate rejudge RUN --judge URL            what another judge says of a run's answers
      orchestrate sample RUN@40 "a prompt"           what a checkpoint answers

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
Storage = Annotated[Path, typer.Option(help="Folder of all runs (the setting `storage`).", callback=lasting)]


def expected_errors(verb: Callable[P, T]) -> Callable[P, T]:
    """A verb that prints the message of a RunError and ends with status 2; other errors keep their traceback."""

    @functools.wraps(verb)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            check_secrets()
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
    """A run of its own, or only what it would need; ends the program where it ran."""
    from orchestrator.config.compose import trace

    composed = trace(target, overrides)
    if dry_run:
        from orchestrator.dry_run import show_plan

        show_plan(composed)
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
def compare(
    runs: Annotated[list[str], typer.Argument(metavar="A B …", help="Runs, or lists of seeds with commas.")],
    step: Annotated[int | None, typer.Option(help="The evaluation to compare; by default each run's last.")] = None,
    samples: Annotated[int, typer.Option(min=0, help="Held-out tasks whose answers are shown side by side.")] = 3,
    plot: Annotated[Path | None, typer.Option(help="Write the held-out curves of all runs to this .png.")] = None,
    storage: Storage = Path("runs"),
) -> None:
    """Compare runs: what was set differently, how they ended, a paired test on the same held-out tasks, answers side by side.

    \b
    Examples:
      orchestrate compare A B
      orchestrate compare A1,A2,A3 B1,B2,B3 --plot curves.png
    """
    from orchestrator.records.compare import compare, find_arms
    from orchestrator.records.shown import show_comparison

    arms = find_arms(runs, storage)
    comparison = compare(arms, step, samples)
    show_comparison(comparison)
    if plot:
        from orchestrator.records.curves import draw

        draw(arms, plot, comparison.by)
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

    if step != "last" and not step.isdecimal():
        raise ConfigError(f"--step {step}: a whole number, or last.")
    folder = find_run(run, storage)
    from orchestrator.rejudge import rejudge

    show_rejudged(rejudge(folder, judge, None if step == "last" else int(step), split, overrides or []))


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


@app.command(context_settings={"ignore_unknown_options": True})
@expected_errors
def submit(
    words: Annotated[list[str], typer.Argument(metavar="-- VERB …", help="A verb with all that belongs to it.")],
    address: Annotated[str, typer.Option(metavar="URL", help="The cluster's dashboard, as http://HOST:8265.")],
    detach: Annotated[bool, typer.Option("--detach", help="Do not follow the job; say how to.")] = False,
    secret: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Environment variable that the job needs and the cluster's nodes hold."),
    ] = None,
    storage: Annotated[
        Path | None, typer.Option(help="Folder of all runs on the cluster, which every node shares.")
    ] = None,
) -> None:
    """Submit a verb to a Ray cluster as a job, follow it, and end with its exit status.

    \b
    Examples:
      orchestrate submit --address http://HEAD:8265 --storage /shared/runs -- train rlvr steps=100
      orchestrate submit --address http://HEAD:8265 --storage /shared/runs --secret WANDB_API_KEY --detach -- train my.yaml
    """
    from orchestrator.cluster.upload import pack

    upload = pack(*_parsed(words), storage)
    from orchestrator.cluster.submit import submit as send

    raise typer.Exit(send(address.rstrip("/"), upload, secret or [], detach))


def _parsed(words: Sequence[str]) -> tuple[list[str], list[str], dict[str, Any]]:
    """(verb, the words after it, what they mean), read as the cluster will read them; ends the program where they are wrong."""
    command: Any = typer.main.get_command(app)
    verb: list[str] = []
    while inside := getattr(command, "commands", None):
        word = words[len(verb)] if len(verb) < len(words) else "nothing"
        if word not in inside or word == "submit":
            raise ConfigError(
                f"after -- comes a verb ({', '.join(name for name in inside if name != 'submit')}), not {word}."
            )
        command, verb = inside[word], [*verb, word]
    rest = list(words[len(verb) :])
    return verb, rest, command.make_context(" ".join(verb), list(rest)).params


def main() -> None:
    """The console script."""
    app()
