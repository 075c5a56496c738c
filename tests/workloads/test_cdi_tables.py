"""CDI's tables: what a stored simulation counts as, and the picture of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.sweep.reading import read_sweep
from orchestrator.tables.compute import Cell, Computed
from orchestrator.tables.declare import Measured
from orchestrator.tables.find import all_tables, check_nodes
from orchestrator.values import Episode, Scored, Task, Unscored, Verdict
from workloads.cdi import tables
from workloads.cdi.tables import (
    at_stake,
    kept,
    mean_ad,
    sensitive,
    shareable,
    shared,
    silent,
    twice_told,
    under,
    unreadable,
)


def told(leaked: int, shared: int, actions: int = 1) -> Scored:
    parts = {"leaked": leaked, "sensitive": 3, "shared": shared, "shareable": 3, "actions": actions}
    return Scored(0.0, {name: float(value) for name, value in parts.items()})


def measured(verdict: Verdict, attack: str = "ordinary") -> Measured:
    return Measured(Episode(Task("t", (), {"attack": attack}), 0, 0, ()), verdict, None, {}, lambda one: one.reward)


# V = 1 and S = 2 of 3 and 3: PP 2/3, HS 2/3, AD 4 / (3 + 2 + 1). Silence: PP 3/3, HS 0/3, AD 0 / 3, where it counts.
def test_what_a_simulation_counts_as() -> None:
    spoken, quiet, broken = (measured(one) for one in (told(1, 2), told(0, 0, 0), Unscored("no judge")))
    sums = (kept, sensitive, shared, shareable, twice_told, at_stake)
    assert [count()(spoken) for count in sums] == [2, 3, 2, 3, 4, 6]
    assert mean_ad(spoken) == pytest.approx(2 / 3)
    assert [count()(quiet) for count in sums] == [None] * 6
    assert [count(silence=True)(quiet) for count in sums] == [3, 3, 0, 3, 0, 3]
    assert [silent(one) for one in (spoken, quiet, broken)] == [0.0, 1.0, None]
    assert [unreadable(one) for one in (spoken, quiet, broken)] == [0.0, 0.0, 1.0]
    assert [count(silence=True)(broken) for count in sums] == [None] * 6


def test_attacks_are_told_apart() -> None:
    metric = under("strategic", silent)
    assert (metric(measured(told(0, 0), "strategic")), metric(measured(told(0, 0)))) == (0.0, None)


@pytest.mark.parametrize("name", tables.TABLES)
def test_the_sweeps_have_what_the_tables_name(name: str) -> None:
    (named,) = (one for one in all_tables() if one.name == f"cdi.{name}")
    check_nodes(named, read_sweep(named.sweep, []))


def test_the_plane_shows_whole_rows(tmp_path: Path) -> None:
    (named,) = (one for one in all_tables() if one.name == "cdi.study")
    names = [f"{measure}, {attack}" for attack in ("ordinary", "strategic") for measure in ("PP", "HS", "AD")]
    whole = [Cell(row, name, 0.5, 0.4, 0.6, runs=5) for row in ("none", "CDI, optimised") for name in names]
    computed = Computed(named, "cdi_study", (), (*whole, *(Cell("CDI", name) for name in names)), {}, {}, (), False)
    path = tables.draw_plane(computed, tmp_path)
    assert path == tmp_path / "plane.png"
    assert path.read_bytes()[:4] == b"\x89PNG"
    empty = Computed(named, "cdi_study", (), (), {}, {}, (), False)
    assert tables.draw_plane(empty, tmp_path) is None
