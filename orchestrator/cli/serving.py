"""The verb that serves."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.app import Overrides, Storage, app, expected_errors
from orchestrator.errors import ConfigError

if TYPE_CHECKING:
    from orchestrator.fleets.serving.folder import ServiceFolder
    from orchestrator.fleets.serving.release import Release
    from orchestrator.fleets.serving.service import Listening

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
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Where it listens; by default 8000.")] = None,
    host: Annotated[
        str | None,
        typer.Option(help="Address it listens on, by default 127.0.0.1; what is not loopback needs an API key."),
    ] = None,
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
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="The most tokens that one answer may have; by default 1024.")
    ] = None,
    max_kilobytes: Annotated[int | None, typer.Option(min=1, help="The largest request body; by default 1024.")] = None,
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
      orchestrate serve run:A@policy --adapter A --adapter B    LoRA runs beside the model that they began with
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
    from orchestrator.fleets.serving.adapters import write_adapters
    from orchestrator.fleets.serving.folder import ServiceFolder
    from orchestrator.fleets.serving.release import parse_replicas, release_of
    from orchestrator.fleets.serving.service import check, own

    release = release_of(target, overrides or [], storage, name, kind, parse_replicas(replicas), adapter or ())
    folder = ServiceFolder.of(storage, release.model)
    given = {
        "--host": host,
        "--port": port,
        "--key-file": key_file,
        "--max-tokens": max_tokens,
        "--max-kilobytes": max_kilobytes,
    }
    if folder.is_owned() and not dry_run:
        raise typer.Exit(
            0 if _roll_in(folder, release, [option for option, value in given.items() if value is not None]) else 1
        )
    listening = _listening(host or "127.0.0.1", port or 8000, key_file, max_tokens or 1024, max_kilobytes or 1024)
    if dry_run:
        _show_release(release, listening)
        return
    check(release, listening)
    if detach:
        _detach(folder)
        return
    write_adapters(release.adapters)
    own(folder, release, listening)


def _roll_in(folder: ServiceFolder, release: Release, options: list[str]) -> bool:
    """Hand a release to a service that is up. options: that were given and are its owner's. Returns whether it serves."""
    from orchestrator.fleets.serving.adapters import write_adapters
    from orchestrator.fleets.serving.service import hand_over

    if options:
        raise ConfigError(
            f"{folder.name} is up, and {', '.join(options)} belong to its owner: leave them out to roll the release in, give another "
            "--name, or end it first."
        )
    write_adapters(release.adapters)
    return hand_over(folder, release, typer.echo)


def _listening(host: str, port: int, key_file: Path | None, max_tokens: int, max_kilobytes: int) -> Listening:
    from orchestrator.fleets.serving.access import KEY_VARIABLE, Access, check_exposure, digest_of, read_key
    from orchestrator.fleets.serving.service import Listening

    key = read_key(file=key_file)
    check_exposure(host, key)
    written = f"$(cat {shlex.quote(str(key_file))})" if key_file else f"${KEY_VARIABLE}" if key else ""
    access = Access(key and digest_of(key), max_kilobytes * 1024, max_tokens, MOST_CHOICES)
    return Listening(host, port, access, written)


def _detach(folder: ServiceFolder) -> None:
    """This very command without --detach, in the background."""
    from orchestrator.fleets.serving import detached

    for line in detached.start(folder, [word for word in sys.argv[1:] if word != "--detach"]):
        typer.echo(line)
    typer.echo(f"end it with: orchestrate serve --stop {folder.name}")


def _end(name: str, storage: Path) -> None:
    from orchestrator.fleets.serving import detached
    from orchestrator.fleets.serving.folder import ServiceFolder

    folder = ServiceFolder.of(storage, name)
    if not folder.is_owned():
        raise ConfigError(
            f"no process owns a service {name} in {storage}: `orchestrate serve --status --storage {storage}` lists all."
        )
    if not detached.end(folder, PATIENCE_S):
        raise ConfigError(f"{name} was asked to end and still answers what it has: see {folder.log}.")
    typer.echo(f"{name} has ended")


def _show(storage: Path) -> None:
    from orchestrator.fleets.serving.folder import services_in
    from orchestrator.records.shown import print_table

    rows = [row for folder in services_in(storage) if (row := folder.in_words())]
    if not rows:
        typer.echo(f"No services in {storage}/. `orchestrate serve RUN` starts one.")
        return
    print_table(("service", "status", "address", "serves", "parity", "last failure"), rows)


def _show_release(release: Release, listening: Listening) -> None:
    from orchestrator.cluster.plan import plan_rows
    from orchestrator.records.shown import print_table

    (least, most), shape, access = release.replicas, release.served().model, listening.access
    ids = ", ".join((release.model, *(one.model for one in release.adapters)))
    print_table(
        ("what", "is"),
        [
            ("models", f"{ids}: {release.reference} as {release.kind}"),
            ("weights", f"{release.folder}, {shape.dtype}, a context of {shape.context_tokens} tokens"),
            ("proof", "the trainer's own numbers" if release.own else "none: trained elsewhere"),
            ("address", f"{listening.url}, {'with an API key' if access.key_digest else 'for this machine alone'}"),
            ("limits", f"{access.max_tokens} tokens an answer, {access.max_request_bytes // 1024} kB a request"),
            ("replicas", f"{least} to {most}"),
        ],
    )
    print_table(("role", "processes", "CPUs", "GPUs", "what"), plan_rows(release.plan()))
