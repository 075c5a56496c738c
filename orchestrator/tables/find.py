"""Finding a table: `WORKLOAD.NAME` of a workload's tables.py, or `path/to/tables.py:NAME` of one's own."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from orchestrator.config.checks import RUN_NAME
from orchestrator.config.own_code import load_module, shown_path
from orchestrator.config.workloads import tables_module, workload_names
from orchestrator.errors import ConfigError
from orchestrator.sweep.reading import read_sweep
from orchestrator.sweep.spec import Sweep
from orchestrator.tables.declare import Column, Table

FORM = "WORKLOAD.NAME or path/to/tables.py:NAME"


@dataclass(frozen=True, slots=True)
class Named:
    """A table that was found. name: "rlvr.quick", also of its folder. place: what the command line calls it. sweep: what
    `read_sweep` is given: a name, or the path of a YAML."""

    name: str
    place: str
    table: Table
    sweep: str

    def read_sweep(self, overrides: Sequence[str]) -> Sweep:
        """The table's sweep with settings of the command line. Raises ConfigError, also where it has not the nodes and arms that
        the table names."""
        sweep = read_sweep(self.sweep, [*self.table.settings, *overrides])
        check_nodes(self, sweep)
        return sweep


def find_table(text: str) -> Named:
    """The table that a command line names. Raises ConfigError with what there is."""
    path, _, name = text.partition(":") if ".py:" in text else (text, "", "")
    if path.endswith(".py"):
        return _of_file(text, Path(path).expanduser().resolve(), name)
    workload, _, name = text.partition(".")
    module = tables_module(workload)
    return _chosen(_tables(module) if module else {}, name, workload, text)


def all_tables() -> list[Named]:
    """The tables of all workloads that come with the package."""
    found = []
    for workload in workload_names():
        module = tables_module(workload)
        tables = _tables(module) if module else {}
        found += [_chosen(tables, name, workload, f"{workload}.{name}") for name in tables]
    return found


def _of_file(text: str, path: Path, name: str) -> Named:
    if not path.is_file():
        raise ConfigError(f"{text}: there is no file {shown_path(path)}.")
    tables = _tables(load_module(path))
    named = _chosen(tables, name or (next(iter(tables)) if len(tables) == 1 else ""), path.stem, text)
    sweep = named.table.sweep
    beside = str(path.parent / sweep) if sweep.endswith((".yaml", ".yml")) else sweep
    return Named(named.name, text, named.table, beside)


def _tables(module: ModuleType) -> Mapping[str, Table]:
    """A module's TABLES. Raises ConfigError where they have not the form."""
    tables, where = getattr(module, "TABLES", None), shown_path(Path(str(module.__file__)))
    if not isinstance(tables, Mapping) or not all(isinstance(item, Table) for item in tables.values()):
        raise ConfigError(f"{where}: needs TABLES, a mapping of names to `orchestrator.tables.Table`s.")
    for name in tables:
        if not RUN_NAME.fullmatch(str(name)):
            raise ConfigError(f"{where}, {name!r}: its folder has this name; use letters, digits and . _ + = , -")
    return tables


def _chosen(tables: Mapping[str, Table], name: str, owner: str, text: str) -> Named:
    if name not in tables:
        nearest = difflib.get_close_matches(name, tables, n=1)
        there = ", ".join(tables) or "none"
        hint = f"Did you mean {nearest[0]}?" if nearest else f"There are: {there}."
        raise ConfigError(f"{text}: {owner} has no such table ({FORM}). {hint}")
    return Named(f"{owner}.{name}", text, tables[name], tables[name].sweep)


def check_nodes(named: Named, sweep: Sweep) -> None:
    """Raises ConfigError where the sweep has not the nodes and arms that the table names."""
    nodes = {node.name: node for node in sweep.nodes}
    table, problems = named.table, []
    columns = [column for column in table.columns if isinstance(column, Column)]
    for row in table.rows:
        for name in dict.fromkeys([row.node, *(column.node for column in columns)] if row.node else ()):
            if name is None:
                continue
            if name not in nodes:
                nearest = difflib.get_close_matches(name, nodes, n=1)
                hint = f"Did you mean {nearest[0]}?" if nearest else f"There are: {', '.join(nodes)}."
                problems.append(f"{name} is no node of the sweep {sweep.name}. {hint}")
            elif row.arm not in nodes[name].arms and (row.arm or len(nodes[name].arms) > 1):
                arms = ", ".join(filter(None, nodes[name].arms)) or "none"
                problems.append(f"the row {row.name!r}: {name} has no arm {row.arm!r}. There are: {arms}.")
    if problems:
        raise ConfigError(f"{named.place}: " + " ".join(dict.fromkeys(problems)))
