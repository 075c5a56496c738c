"""The verb that has another one done elsewhere: submit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.main

from orchestrator.cli.app import app, expected_errors
from orchestrator.errors import ConfigError


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
