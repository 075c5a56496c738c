"""The verbs that hand something on: a model as a folder with a card, a run or a sweep as a folder that can be verified."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.app import Storage, app, expected_errors
from orchestrator.errors import ConfigError


@app.command()
@expected_errors
def export(
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET", help="RUN (its newest checkpoint), RUN@STEP, RUN@ROLE, or a SWEEP (its best run)."
        ),
    ],
    to: Annotated[Path | None, typer.Option(help="The folder; by default exports/NAME-stepSTEP.")] = None,
    storage: Storage = Path("runs"),
) -> None:
    """Export a model: a Hugging Face folder with its model card and its provenance.

    \b
    Examples:
      orchestrate export RUN
      orchestrate export RUN@40 --to my-model
      orchestrate export RUN@judge
    """
    from rich.filesize import decimal

    from orchestrator.sharing.export import export

    exported = export(target, storage, to)
    typer.echo(f"{exported.folder}: {decimal(exported.bytes)}{'' if exported.is_new else ', is there already'}")
    typer.echo(f"model card: {exported.folder / 'README.md'}")
    typer.echo(f"load it with: path:{exported.folder.absolute()}")


@app.command()
@expected_errors
def bundle(
    name: Annotated[
        str | None, typer.Argument(metavar="RUN|SWEEP", help="A run (NAME, WORKLOAD/NAME or its folder) or a sweep.")
    ] = None,
    to: Annotated[Path | None, typer.Option(help="The folder; by default bundles/NAME.")] = None,
    weights: Annotated[
        bool, typer.Option("--weights", help="With the model folder of each run's newest checkpoint.")
    ] = False,
    verify: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Say whether a bundle is as it was made, and make none.")
    ] = None,
    storage: Storage = Path("runs"),
) -> None:
    """Bundle a run, or a sweep with its runs, into a folder with hashes that a colleague verifies and looks at.

    Texts whose source forbids passing them on are left out. The folder is a storage: compare, report, list and status work on it.

    \b
    Examples:
      orchestrate bundle RUN
      orchestrate bundle SWEEP --to for-a-colleague --weights
      orchestrate bundle --verify for-a-colleague
    """
    if (name is None) == (verify is None):
        raise ConfigError("bundle: name a run or a sweep to bundle, or a bundle with --verify FOLDER.")
    if verify is not None:
        _verify(verify)
    elif name is not None:
        _bundle(name, to, weights, storage)


def _bundle(name: str, to: Path | None, weights: bool, storage: Path) -> None:
    from rich.filesize import decimal

    from orchestrator.sharing.bundle import bundle, contents_of

    contents = contents_of(name, storage, weights)
    typer.echo(f"{contents.what}: {len(contents.runs)} run(s), {len(contents.files)} files, {decimal(contents.bytes)}")
    made = bundle(contents, to or Path("bundles") / contents.what.rpartition("/")[2].rpartition(" ")[2])
    left_out = f", without the texts of {made.redacted} episodes" if made.redacted else ""
    typer.echo(f"{made.folder}: {made.files} files, {decimal(made.bytes)}{left_out}")
    typer.echo(f"SHA-256 of MANIFEST.json, to be told apart from the bundle: {made.digest}")
    typer.echo(f"verify it with: orchestrate bundle --verify {made.folder}")


def _verify(folder: Path) -> None:
    from rich.filesize import decimal

    from orchestrator.sharing.manifest import verify

    found = verify(folder)
    left_out = f", without the texts of {found.redacted} episodes" if found.redacted else ""
    typer.echo(f"{found.what}, bundled {found.created}: {found.files} files, {decimal(found.bytes)}{left_out}")
    for line in found.says:
        typer.echo(f"  {line}")
    typer.echo(f"OK: every file is as it was bundled (SHA-256 of MANIFEST.json: {found.digest})")
