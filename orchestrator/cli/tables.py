"""The verb of tables: computed from stored episodes, written down, verified."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.app import Overrides, Storage, app, expected_errors
from orchestrator.errors import ConfigError

if TYPE_CHECKING:
    from orchestrator.sweep.spec import Sweep
    from orchestrator.tables.find import Named


@app.command()
@expected_errors
def table(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="WORKLOAD.NAME, or path/to/tables.py:NAME; all are listed where left out."),
    ] = None,
    overrides: Overrides = None,
    run: Annotated[bool, typer.Option("--run", help="Run what is missing of its sweep first.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what --run would do; start nothing.")] = False,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify", help="Compute every cell again and compare; change nothing. Status 1 where one is not right."
        ),
    ] = False,
    complete: Annotated[
        bool, typer.Option("--complete", help="With --verify: status 1 also where a cell was not run.")
    ] = False,
    list_all: Annotated[bool, typer.Option("--list", help="List the tables that there are.")] = False,
    storage: Storage = Path("runs"),
) -> None:
    """Table: a paper's table as a view of a sweep, each cell from stored episodes with its interval.

    \b
    Examples:
      orchestrate table
      orchestrate table rlvr.quick
      orchestrate table rlvr.quick --run
      orchestrate table rlvr.quick --verify --complete
    """
    if name is None or list_all:
        if name or run or dry_run or verify:
            raise ConfigError("the list stands alone: orchestrate table. To do something with a table, name it.")
        _list(storage)
        return
    if complete and not verify:
        raise ConfigError("--complete goes with --verify.")
    if verify and (run or dry_run):
        raise ConfigError("--verify starts and changes nothing: give it alone, after --run.")
    from orchestrator.tables.find import find_table

    named, settings = find_table(name), overrides or []
    if verify:
        raise typer.Exit(_verify(named, settings, storage, complete))
    sweep = named.read_sweep(settings)
    if dry_run:
        from orchestrator.sweep.dry_run import show_sweep

        show_sweep(sweep, storage)
        return
    status = _run(named, sweep, storage, settings) if run else 0
    _compute(named, sweep, storage, settings)
    raise typer.Exit(status)


def _list(storage: Path) -> None:
    from orchestrator.tables.find import all_tables
    from orchestrator.tables.shown import show_list

    show_list(all_tables(), storage)


def _run(named: Named, sweep: Sweep, storage: Path, overrides: list[str]) -> int:
    """Run the sweep where the table lacks a run of it. Returns its exit status."""
    from orchestrator.tables.compute import runs_there
    from orchestrator.tables.stored import folder_of

    there, asked = runs_there(named, sweep, storage)
    if there == asked:
        typer.echo("all runs are there already")
        return 0
    from orchestrator.sweep.driver import run_sweep

    elsewhere = [] if storage == Path("runs") else ["--storage", str(storage)]
    words = ["orchestrate", "table", named.place, *overrides, "--run", *elsewhere]
    return run_sweep(sweep, storage, folder_of(sweep, storage).definition.is_file(), shlex.join(words))


def _compute(named: Named, sweep: Sweep, storage: Path, overrides: list[str]) -> None:
    from orchestrator.tables.compute import compute
    from orchestrator.tables.pictures import draw_claims
    from orchestrator.tables.shown import show_table
    from orchestrator.tables.written import place_of, write

    computed, folder = compute(named, sweep, storage, overrides), place_of(named, overrides, storage)
    written = write(computed, folder)
    pictures = [draw_claims(computed, folder), named.table.draw(computed, folder) if named.table.draw else None]
    show_table(computed, [*written, *filter(None, pictures)])


def _verify(named: Named, overrides: list[str], storage: Path, complete: bool) -> int:
    from orchestrator.tables.shown import show_verified
    from orchestrator.tables.verify import verify

    found = verify(named, overrides, storage)
    show_verified(found)
    return found.status(complete)
