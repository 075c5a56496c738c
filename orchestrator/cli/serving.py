"""The verb that serves."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.app import Overrides, Storage, app, expected_errors
from orchestrator.errors import ConfigError

if TYPE_CHECKING:
    from orchestrator.serving.folder import ServiceFolder
    from orchestrator.serving.release import Release

MOST_CHOICES = 16
"""Answers that one request may ask for."""
PATIENCE_S = 120.0
"""How long `--stop` waits for an owner to answer what is in flight."""


@app.command()
@expected_errors
def serve(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN|SWEEP",
            help="A run (RUN@STEP, RUN@judge for its judge), a sweep (its best run), or a model: path:FOLDER, hf:ID.",
        ),
    ] = None,
    overrides: Overrides = None,
    name: Annotated[
        str | None, typer.Option(help="The service's name and the model's id; by default the workload's name.")
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where it listens.")] = 8000,
    host: Annotated[
        str, typer.Option(help="Address it listens on; any other than loopback needs an API key.")
    ] = "127.0.0.1",
    replicas: Annotated[str, typer.Option(metavar="MIN:MAX", help="How many, scaled by what is asked.")] = "1",
    kind: Annotated[
        str | None, typer.Option("--as", help="chat, judge or reward_model; by default what it was.")
    ] = None,
    adapter: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RUN[@STEP]", help="A LoRA run of the same model, served beside it under an id of its own (repeat)."
        ),
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option(help="A file with the API key that clients must send (or ORCHESTRATOR_API_KEY).")
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="The most tokens that one answer may have.")] = 1024,
    max_kilobytes: Annotated[int, typer.Option(min=1, help="The largest request body.")] = 1024,
    detach: Annotated[bool, typer.Option("--detach", help="Go on in the background once it is up.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be served and what it needs.")] = False,
    status: Annotated[bool, typer.Option("--status", help="How the services stand (no RUN).")] = False,
    stop: Annotated[str | None, typer.Option(metavar="NAME", help="End a service (no RUN).")] = None,
    storage: Storage = Path("runs"),
) -> None:
    """Serve a model behind an OpenAI-compatible endpoint, once it has proved to be the one that was trained.

    \b
    Examples:
      orchestrate serve RUN                          chat and completions at http://127.0.0.1:8000/v1
      orchestrate serve RUN@judge --port 8001        its judge: verdicts at /v1/judge
      orchestrate serve rlvr_quick --replicas 1:4    a sweep's best, scaled by what is asked
      orchestrate serve RUN@60 --detach              stays; the same --name rolls another release in
      orchestrate serve RUN --adapter A --adapter B  LoRA runs beside their base
      orchestrate serve --status
      orchestrate serve --stop rlvr
    """
    if status or stop:
        if target:
            raise ConfigError("--status and --stop stand alone: --stop NAME ends a service.")
        _end(stop, storage) if stop else _show(storage)
        return
    if target is None:
        raise ConfigError("name what to serve: a run, a sweep or a model. `orchestrate list` shows what is there.")
    from orchestrator.serving.access import Access, check_exposure, digest_of, read_key
    from orchestrator.serving.folder import ServiceFolder
    from orchestrator.serving.release import parse_replicas, release_of
    from orchestrator.serving.service import Listening, check, hand_over, own

    key = read_key(file=key_file)
    check_exposure(host, key)
    release = release_of(target, overrides or [], storage, name, kind, parse_replicas(replicas), adapter or ())
    listening = Listening(host, port, Access(key and digest_of(key), max_kilobytes * 1024, max_tokens, MOST_CHOICES))
    folder = ServiceFolder.of(storage, release.model)
    if dry_run:
        _show_release(release, listening.url)
    elif folder.is_owned():
        raise typer.Exit(0 if hand_over(folder, release, typer.echo) else 1)
    else:
        check(release, listening)
        if detach:
            _detach(folder)
        else:
            own(folder, release, listening)


def _detach(folder: ServiceFolder) -> None:
    """This very command without --detach, in the background."""
    from orchestrator.serving import detached

    for line in detached.start(folder, [word for word in sys.argv[1:] if word != "--detach"]):
        typer.echo(line)
    typer.echo(f"end it with: orchestrate serve --stop {folder.name}")


def _end(name: str, storage: Path) -> None:
    from orchestrator.serving import detached
    from orchestrator.serving.folder import ServiceFolder

    folder = ServiceFolder.of(storage, name)
    if not folder.is_owned():
        raise ConfigError(f"no process owns a service {name} in {storage}: `orchestrate serve --status` lists all.")
    if not detached.end(folder, PATIENCE_S):
        raise ConfigError(f"{name} was asked to end and still answers what it has: see {folder.log}.")
    typer.echo(f"{name} has ended")


def _show(storage: Path) -> None:
    from orchestrator.records.shown import print_table
    from orchestrator.serving.folder import services_in

    rows = [row for folder in services_in(storage) if (row := folder.in_words())]
    if not rows:
        typer.echo(f"No services in {storage}/. `orchestrate serve RUN` starts one.")
        return
    print_table(("service", "status", "address", "serves", "parity", "last failure"), rows)


def _show_release(release: Release, url: str) -> None:
    from orchestrator.cluster.plan import plan_rows
    from orchestrator.records.shown import print_table

    least, most = release.replicas
    typer.echo(f"{release.model}: {release.reference} as {release.kind} at {url}, {least} to {most} replicas")
    print_table(("role", "processes", "CPUs", "GPUs", "what"), plan_rows(release.plan()))
