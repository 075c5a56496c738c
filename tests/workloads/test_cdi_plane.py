"""The privacy–helpfulness plane is drawn where the numbers are."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from orchestrator.sweep.statistics import Interval
from workloads.cdi import plane
from workloads.cdi.measures import Measures
from workloads.cdi.plane import Point, draw_plane


def point(defence: str, condition: str, pp: float, hs: float, half: float = 0.1) -> Point:
    intervals = [Interval(value, value - half, value + half, 5) for value in (pp, hs, 0.5)]
    return Point(defence, condition, Measures(*intervals, runs=25))


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are drawn."""
    drawn: list[Figure] = []

    class Kept(Figure):
        def __init__(self, **values: object) -> None:
            super().__init__(**values)
            drawn.append(self)

    monkeypatch.setattr(plane, "Figure", Kept)
    return drawn


def test_points_and_intervals_stand_where_they_are(tmp_path: Path, figures: list[Figure]) -> None:
    """A defence has one colour and a marker a condition; an interval ends where shares end."""
    points = [point("none", "before", 0.4, 0.9), point("CDI", "before", 0.7, 0.8), point("CDI", "after", 0.95, 0.8)]
    path = draw_plane(points, tmp_path / "plane.png", "Defences $x$")
    assert path.read_bytes()[:4] == b"\x89PNG"
    (axes,) = figures[0].axes
    containers = axes.containers
    data = [tuple(bar.lines[0].get_xydata()[0]) for bar in containers]
    assert data == [(0.4, 0.9), (0.7, 0.8), (0.95, 0.8)]
    across = [bar.lines[2][0].get_segments()[0] for bar in containers]
    assert across[0][:, 0] == pytest.approx([0.3, 0.5])
    assert across[2][:, 0] == pytest.approx([0.85, 1.0])
    colours = [bar.lines[0].get_color() for bar in containers]
    assert (colours[1] == colours[2], colours[0] == colours[1]) == (True, False)
    assert [bar.lines[0].get_marker() for bar in containers] == ["o", "o", "s"]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["none", "CDI", "before", "after"]


def test_one_config_has_no_interval(tmp_path: Path, figures: list[Figure]) -> None:
    alone = Interval(0.5, math.nan, math.nan, 1)
    draw_plane([Point("none", "before", Measures(alone, alone, alone, 1))], tmp_path / "plane.png", "one")
    assert [len(bar.lines[2]) for bar in figures[0].axes[0].containers] == [0]
