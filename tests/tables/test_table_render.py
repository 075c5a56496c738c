"""The words of a table, and that names with special characters stay names in every format."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.tables import Column, Difference, Published, Row, Table, truth
from orchestrator.tables.compute import Cell, Computed
from orchestrator.tables.find import Named
from orchestrator.tables.grid import grid_of, in_words, published_in_words
from orchestrator.tables.render import comma_separated, latex, markdown, page

NASTY = 'A & B | <i>50 %</i> of $x_1$, "y"'


def computed(**parts: object) -> Computed:
    table = Table(
        title=NASTY,
        sweep="s",
        rows=(Row(NASTY, "policy"), Row("Base", "base")),
        columns=(Column("truth", truth), Difference("gain", "truth")),
        baseline="Base",
        paper="paper",
        tolerance=0.1,
    )
    known = Published(0.5, "paper", "Table 1")
    cells = (
        Cell(NASTY, "truth", 0.5674, 0.5411, 0.5938, 3, 3, 48, 96, published=known),
        Cell(NASTY, "gain", -0.0312, -0.1, 0.0376, 2, 3, 48, 96, 4, reason="run x_1 is not there"),
        Cell("Base", "truth", asked=1, reason="run base is not there"),
        Cell("Base", "gain", blank=True),
    )
    made = Computed(Named("a.b", "a.b", table, "s"), "s", ("preset=paper",), cells, {}, {}, ("paper",), True)
    return replace(made, **parts)  # type: ignore[arg-type]


def test_a_number_is_never_bare() -> None:
    cell = Cell("r", "c", 0.5674, 0.5411, 0.5938, 3, 3, 48, 96)
    assert in_words(cell, ".3f") == "0.567 (0.541 to 0.594; 3 runs)"
    assert in_words(replace(cell, runs=1, asked=1), ".1f") == "0.6 (0.5 to 0.6; 1 run, 48 tasks)"
    assert in_words(replace(cell, runs=1, unscored=4), ".3f").endswith(
        "1 of 3 runs, 48 tasks; 4 of 100 episodes unscored)"
    )
    assert (
        in_words(replace(cell, low=float("nan"), runs=1, asked=1, tasks=1), ".3f")
        == "0.567 (no interval; 1 run, 1 task)"
    )
    assert in_words(replace(cell, runs=1, asked=1, most=3), ".3f") == "0.567 (0.541 to 0.594; 1 to 3 runs, 48 tasks)"
    assert in_words(replace(cell, unpaired=1), ".3f").endswith("3 runs; 1 task not in all runs left out)")
    assert in_words(Cell("r", "c"), ".3f") == "not run"
    assert in_words(Cell("r", "c", blank=True), ".3f") == ""
    known = Published(0.61, "secondary", "Table 1", 0.58, 0.64, 8)
    assert published_in_words(known, ".2f") == "0.61 (secondary, Table 1, 0.58 to 0.64, n = 8)"


def test_the_grid_and_its_notes() -> None:
    grid = grid_of(computed())
    assert grid.headers == ("", "truth", "truth, published", "gain")
    assert grid.rows[1] == ("Base", "not run", "", "")
    notes = " ".join(grid.notes)
    assert "The sweep s, preset paper; held-out episodes of each run's last step." in notes
    assert "With preset=paper." in notes
    assert "Reproduced: the mean is at most so far from the published value: truth 0.1." in notes
    assert "run x_1 is not there." in notes


def test_the_notes_say_how_answers_were_sampled_and_where_versions_differ() -> None:
    sampling = {"temperature": 1.0, "samples_per_task": 4}
    runs: dict[str, Any] = {
        "w/a": {"sampling": sampling, "versions": {"vllm": "1", "commit": "c", "torch": "2"}},
        "w/b": {"sampling": sampling, "versions": {"vllm": "2", "commit": "d", "torch": "2"}},
    }
    files = {f"{run}.parquet": {"run": run} for run in runs}
    base = computed()
    cells = (
        replace(base.cells[0], files=tuple(files), runs=1, most=3),
        replace(base.cells[1], files=tuple(files)[:1]),
        *base.cells[2:],
    )
    notes = grid_of(replace(base, cells=cells, files=files, runs=runs)).notes
    assert "Sampled with temperature=1.0, samples_per_task=4." in notes
    assert f"{NASTY}, truth: its runs are of different versions of vllm, commit." in notes
    assert "Where a part of a figure is a single run, it is taken to spread as the runs of the others do." in notes
    assert not any("over its tasks alone" in note for note in notes)
    runs["w/b"]["sampling"] = {**sampling, "temperature": 0.6}
    notes = grid_of(replace(base, cells=cells, files=files, runs=runs)).notes
    assert "Sampled with temperature=0.6, samples_per_task=4: w/b." in notes
    alone = replace(base, cells=(replace(cells[0], most=1), *cells[1:]), files=files, runs=runs)
    assert any("over its tasks alone" in note for note in grid_of(alone).notes)


def test_markdown() -> None:
    lines = markdown(grid_of(computed())).splitlines()
    assert lines[2:4] == ["|  | truth | truth, published | gain |", "|---|---:|---:|---:|"]
    assert lines[4].startswith(
        r'| A & B \| \<i>50 %\</i> of $x\_1$, "y" | 0.567 (0.541 to 0.594; 3 runs) | 0.500 (paper, Table 1) | '
    )
    assert lines[5] == "| Base | not run |  |  |"


def test_csv_has_every_digit_and_quotes() -> None:
    rows = list(csv.DictReader(io.StringIO(comma_separated(computed()))))
    assert [row["row"] for row in rows] == [NASTY, NASTY, "Base"]
    assert (rows[0]["mean"], rows[0]["low"], rows[0]["published"], rows[0]["provenance"]) == (
        "0.5674",
        "0.5411",
        "0.5",
        "paper",
    )
    assert (rows[1]["runs"], rows[1]["asked"], rows[1]["unscored"]) == ("2", "3", "4")
    assert (rows[2]["mean"], rows[2]["note"]) == ("", "run base is not there")


def test_latex() -> None:
    text = latex(grid_of(computed()))
    name = r'A \& B | \textless{}i\textgreater{}50 \%\textless{}/i\textgreater{} of \$x\_1\$, "y"'
    assert rf"\caption{{{name}}}" in text
    assert (
        rf"{name} & 0.567 (0.541 to 0.594; 3 runs) & 0.500 (paper, Table 1) & $-$0.031 ($-$0.100 to +0.038; 2 of 3 runs; "
        in text
    )
    for word in (r"\begin{tabular}{lrrr}", r"\toprule", r"\midrule", r"\bottomrule"):
        assert text.count(word) == 1
    body = [line for line in text.splitlines() if not line.startswith("%")]
    assert not any("_1" in line and r"\_1" not in line for line in body)


def test_html_is_one_page_in_which_nothing_runs() -> None:
    text = page(grid_of(computed()), computed())
    assert "A &amp; B | &lt;i&gt;50 %&lt;/i&gt; of $x_1$, &#34;y&#34;" in text
    assert "<i>" not in text
    assert "<script" not in text
    assert "default-src &#39;none&#39;" in text
    assert "--accent" in text
    for address in ("http://", "https://"):
        assert address not in text


@pytest.mark.parametrize("known", [None, Published(0.7447, "secondary")])
def test_a_row_of_others_has_only_what_is_published(known: Published | None) -> None:
    base = computed()
    table = replace(base.table, rows=(Row("o3"), Row("Base", "base")))
    cells = (Cell("o3", "truth", blank=True, published=known), Cell("o3", "gain", blank=True))
    grid = grid_of(replace(base, named=replace(base.named, table=table), cells=cells))
    assert grid.rows == (("o3", "", "0.745 (secondary)", "") if known else ("o3", "", ""),)
