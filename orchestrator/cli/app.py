"""What the verbs share: the program, its words for settings and folders, and how an expected failure ends it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, ParamSpec, TypeVar

import typer

from orchestrator.config.job import check_secrets, lasting
from orchestrator.errors import ConfigError, RunError

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
      orchestrate sweep rlvr_quick                   a search: many runs side by side, each once
      orchestrate submit --address URL -- train rlvr --storage FOLDER    the same on a Ray cluster
      orchestrate config explain judge.min_mass      what a setting means
      orchestrate table rlvr.quick                   a table of its runs, written down and verifiable
      orchestrate list                               the runs that are there
      orchestrate compare A B                        two runs, on the same held-out tasks
      orchestrate rejudge RUN --judge URL            what another judge says of a run's answers
      orchestrate evaluate run:NAME social_r1 data.hitom=FOLDER    a model on benchmarks, each by its protocol
      orchestrate map RUN --out map                  a run's best answers as a semantic map
      orchestrate serve RUN                          a checkpoint behind an OpenAI-compatible endpoint
      orchestrate sample RUN@40 "a prompt"           what a checkpoint answers
      orchestrate export RUN                         a model folder with its card
      orchestrate bundle RUN                         a run as a folder that others can verify

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


def step_of(word: str) -> int | None:
    """The number of `--step`; None for the last one. Raises ConfigError for any other word."""
    if word != "last" and not word.isdecimal():
        raise ConfigError(f"--step {word}: a whole number, or last.")
    return None if word == "last" else int(word)


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
