"""`orchestrate table`: written, verified, tampered with and caught; its exit statuses."""

from __future__ import annotations

import json
import re
import shutil
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from orchestrator import cli
from orchestrator.records.folder import write_json
from orchestrator.tables.declare import Published
from orchestrator.tables.verify import judge
from tests.tables.made_up import make_runs, make_world, stored, table, write_evaluation

STORAGE = Path("runs")
PLACE = STORAGE / "tables" / "tables.mine"
FILES = ("table.json", "table.md", "table.csv", "table.tex", "table.html")
OWN = "from tests.tables.made_up import table\n\nTABLES = {'mine': table()}\n"


@pytest.fixture(autouse=True)
def own(folder: Path) -> Path:
    (folder / "tables.py").write_text(OWN)
    return folder / "tables.py"


def orchestrate(*words: str) -> tuple[int, str]:
    """(exit status, all that was said)."""
    done = CliRunner().invoke(cli.app, ["table", *words])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout + done.stderr


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a table that was written and that no test touches."""
    folder = tmp_path_factory.mktemp("kept")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_world(folder)
        (folder / "tables.py").write_text(OWN)
        make_runs(STORAGE)
        assert orchestrate("tables.py:mine")[0] == 0
    return folder


@pytest.fixture
def written(kept: Path) -> None:
    """The same in the current folder."""
    shutil.copytree(kept / STORAGE, STORAGE)


def content() -> dict[str, bytes]:
    return {name: (PLACE / name).read_bytes() for name in FILES}


def test_a_table_is_written_and_found_to_be_the_same() -> None:
    """GRPO: 0.5 ± 1.79693 (`made_up.GRPO`)."""
    make_runs(STORAGE)
    status, said = orchestrate("tables.py:mine")
    assert status == 0
    assert re.search(r"GRPO +0.500 \(-1.297 to 2.297; 2 runs\)", said)
    assert "published" not in said
    before = content()
    assert orchestrate("tables.py:mine")[0] == 0
    assert content() == before
    status, said = orchestrate("tables.py:mine", "--verify", "--complete")
    assert status == 0
    assert re.search(r"GRPO +truth +SAME", said)
    assert "8 SAME; all five files say the same" in said
    assert content() == before


@pytest.mark.parametrize(
    ("file", "says", "instead", "told"),
    [
        ("table.json", '"mean": 0.5,', '"mean": 0.52,', "table.json, GRPO, truth: says 'mean: 0.52', the episodes say 'mean: 0.5'"),
        ("table.json", '"title": "Methods"', '"title": "Ours"', "table.json: says 'title: Ours'"),
        ("table.json", '"seed": 1', '"seed": 2', r"\.seed: 2', the episodes say 'runs.world/policy-\w+-s1-\w+.seed: 1'"),
        ("table.md", "0.500 (", "0.520 (", r"table.md, GRPO, truth: says '0.520 \(.*', the episodes say '0.500 \("),
        ("table.md", "Methods", "Our methods", "table.md, line 1: says '.*Our methods"),
        ("table.csv", ",0.5,", ",0.52,", "table.csv, GRPO, truth, mean: says '0.52', the episodes say '0.5'"),
        ("table.tex", "2 runs", "5 runs", "table.tex, GRPO, truth: says '.*5 runs.*', the episodes say '.*2 runs"),
        ("table.html", "0.500 <small>(", "0.520 <small>(", "table.html, GRPO, truth: says '0.520"),
        ("table.html", "<td>0.500", "<td hidden>0.500", "table.html, line \\d+: says '<tr>"),
        ("table.html", "SHA-256", "SHA-1", "table.html, line"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("written")
def test_what_was_changed_by_hand_is_found(file: str, says: str, instead: str, told: str) -> None:
    text = (PLACE / file).read_text()
    assert says in text
    (PLACE / file).write_text(text.replace(says, instead, 1))
    before = content()
    status, said = orchestrate("tables.py:mine", "--verify")
    assert status == 1
    assert re.search(told, said), said
    assert "1 place(s) differ" in said
    assert ("CHANGED" in said) == ("mean" in says and file == "table.json")
    assert content() == before


@pytest.mark.usefixtures("written")
def test_lines_that_came_or_went_and_a_file_that_is_gone() -> None:
    lines = (PLACE / "table.md").read_text().splitlines(keepends=True)
    (PLACE / "table.md").write_text("".join(line for line in lines if "Base" not in line))
    (PLACE / "table.tex").unlink()
    (PLACE / "table.csv").write_text((PLACE / "table.csv").read_text() + "PPO,truth,0.9\n")
    status, said = orchestrate("tables.py:mine", "--verify")
    assert status == 1
    assert re.search(r"table.md, line 5: says 'nothing', the episodes say '\| Base", said)
    assert "table.tex: says 'it is gone'" in said
    assert "table.csv, line 10: says 'PPO,truth,0.9', the episodes say 'nothing'" in said


@pytest.mark.usefixtures("written")
def test_an_episode_that_changed_is_named_as_the_cause() -> None:
    """Seed 1 of GRPO says 0.7 on both tasks in place of 0.5 and 0.7: 0.55 in place of 0.5."""
    write_evaluation(stored(STORAGE, "policy-grpo-s1"), 4, {"a": [0.7], "b": [0.7]})
    status, said = orchestrate("tables.py:mine", "--verify")
    assert status == 1
    assert re.search(r"GRPO +truth +CHANGED +0.550 \(.*0.500 \(", said)
    assert re.search(r"FlowRL +truth +SAME", said)
    assert re.search(r"policy-grpo-s1-\w+/episodes/eval-000004.parquet changed since the table was written", said)


def test_what_was_not_run_counts_where_all_is_asked_for() -> None:
    make_runs(STORAGE)
    late = stored(STORAGE, "policy-grpo-s1")
    write_json(late.summary, {"status": "stopped"})
    status, said = orchestrate("tables.py:mine")
    assert status == 0
    assert "1 of 2 runs" in said
    assert f"GRPO, truth; GRPO, judge; GRPO, gain: run {late.name} is not finished." in said
    status, said = orchestrate("tables.py:mine", "--verify")
    assert status == 0
    assert re.search(rf"GRPO +truth +NOT RUN.*run {late.name} is not finished", said)
    assert orchestrate("tables.py:mine", "--verify", "--complete")[0] == 1
    write_json(late.summary, {"status": "finished"})
    status, said = orchestrate("tables.py:mine", "--verify")
    assert status == 1
    assert re.search(r"GRPO +truth +CHANGED", said)


@pytest.mark.usefixtures("written")
def test_figures_whose_runs_are_gone_are_not_verified() -> None:
    late = stored(STORAGE, "policy-grpo-s1")
    late.path.rename(late.path.with_name("elsewhere"))
    status, said = orchestrate("tables.py:mine", "--verify")
    assert (status, "3 UNVERIFIED" in said, "all five files say the same" in said) == (1, True, True)
    assert re.search(rf"GRPO +truth +UNVERIFIED .*0.500 \(.*nothing vouches for it: run {late.name} is not there", said)
    text = (PLACE / "table.md").read_text()
    (PLACE / "table.md").write_text(text.replace("0.500 (", "0.520 (", 1))
    assert "table.md, GRPO, truth: says '0.520" in orchestrate("tables.py:mine", "--verify")[1]


@pytest.mark.parametrize("told_of", [True, False])
def test_a_made_up_figure_with_a_made_up_file_is_not_verified(told_of: bool) -> None:
    """One of GRPO's two runs was never done. The table is made to say 0.99 of two, with a file for it, which it tells of or not."""
    make_runs(STORAGE)
    stored(STORAGE, "policy-grpo-s1").summary.unlink()
    assert orchestrate("tables.py:mine")[0] == 0
    assert orchestrate("tables.py:mine", "--verify")[0] == 0
    figures = json.loads((PLACE / "table.json").read_text())
    (cell,) = (cell for cell in figures["cells"] if (cell["row"], cell["column"]) == ("GRPO", "truth"))
    (real,) = cell["files"]
    cell |= {"mean": 0.99, "runs": 2, "reason": "", "files": [real, "world/made-up/episodes/eval-000004.parquet"]}
    if told_of:
        figures["files"][cell["files"][1]] = figures["files"][real]
    (PLACE / "table.json").write_text(json.dumps(figures))
    status, said = orchestrate("tables.py:mine", "--verify")
    assert status == 1
    word, differs = ("UNVERIFIED", False) if told_of else ("NOT RUN", True)
    assert re.search(rf"GRPO +truth +{word}", said)
    assert ("table.json, GRPO, truth: says 'mean: 0.99', the episodes say 'mean: 0.4'" in said) == differs


def test_at_paper_scale_cells_pass_or_fail() -> None:
    """Tolerance 0.05. GRPO 0.5 against 0.52: PASS. FlowRL 0.7 against 0.61: FAIL. The others have no published value."""
    make_runs(STORAGE, ["preset=paper"])
    status, said = orchestrate("tables.py:mine", "preset=paper")
    assert status == 0
    assert "truth, published" in said
    assert "0.610 (secondary, Table 1, n = 8)" in said
    assert "0.610 (secondary, Table 1, n = 8)" in (PLACE / "table.md").read_text()
    # Without settings it is verified with those that it was written with.
    status, said = orchestrate("tables.py:mine", "--verify")
    assert status == 1
    assert re.search(r"GRPO +truth +PASS .*0.520 \(paper, Table 1\) +-0.02 from it, tolerance 0.05", said)
    assert re.search(r"FlowRL +truth +FAIL .*\+0.09 from it", said)
    assert re.search(r"GRPO +judge +SAME", said)
    assert "all five files say the same" in said
    late = stored(STORAGE, "policy-flowrl-s1")
    late.summary.unlink()
    status, said = orchestrate("tables.py:mine", "--verify")
    assert re.search(r"FlowRL +truth +UNVERIFIED", said)
    assert status == 1


@pytest.mark.parametrize(
    ("mean", "half", "word", "crosses"),
    [
        (0.55, 0.01, "PASS", False),
        (0.60, 0.01, "PASS", True),  # the last digits of 0.6 - 0.5 do not decide
        (0.601, 0.0001, "FAIL", False),
        (0.65, 0.2, "FAIL", True),  # a vague cell does not pass because it is vague
        (0.5, 0.2, "PASS", True),
    ],
)
def test_the_interval_does_not_widen_the_tolerance(mean: float, half: float, word: str, crosses: bool) -> None:
    from orchestrator.tables.compute import Cell

    cell = Cell("r", "c", mean, mean - half, mean + half, 3, 3, 10, 10)
    found, _, _, why = judge(cell, Published(0.5, "paper"), 0.1, "", "")
    assert (found, "crosses that bound" in why) == (word, crosses)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["tables.py:mine", "--verify"], "nothing was written down that could be verified. Write it: orchestrate table tables.py:mine"),
        (["tables.py:mine", "--complete"], "--complete goes with --verify"),
        (["tables.py:mine", "--verify", "--run"], "give it alone"),
        (["tables.py:mine", "--list"], "the list stands alone"),
        (["--run"], "name it"),
        (["tables.py:main"], "Did you mean mine?"),
        (["missing.py:mine"], "there is no file missing.py"),
        (["rlvr.quik"], "Did you mean quick?"),
        (["rubric.quick"], "There are: none"),
        (["nothing.quick"], "No workload is named 'nothing'"),
        (["tables.py:mine", "stepz=3"], "Did you mean steps?"),
    ],
)  # fmt: skip
def test_what_a_user_can_mend_is_one_message_and_status_2(words: list[str], told: str) -> None:
    status, said = orchestrate(*words)
    assert status == 2
    assert told in said


@pytest.mark.usefixtures("written")
def test_a_file_of_figures_that_is_none() -> None:
    whole = json.loads((PLACE / "table.json").read_text())
    for text in ("{", "[]", "{}", json.dumps({**whole, "cells": [{}]})):
        (PLACE / "table.json").write_text(text)
        status, said = orchestrate("tables.py:mine", "--verify")
        assert (status, "table.json cannot be read" in said) == (2, True), text
    (PLACE / "table.json").write_text(json.dumps({**whole, "format": 99}))
    assert "written by a newer version" in orchestrate("tables.py:mine", "--verify")[1]


def test_the_list_says_what_is_there_and_what_is_run() -> None:
    status, said = orchestrate()
    assert status == 0
    assert re.search(r"rlvr.quick +The miniature.* rlvr_quick +0 of 10", said)
    assert orchestrate("--list") == (status, said)


def test_run_starts_the_sweep_only_where_a_run_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestrator import sweep as package

    ran: list[Any] = []

    def run_sweep(sweep: Any, storage: Path, resume: bool, command: str) -> int:
        ran.append((sweep.name, storage, resume, command))
        make_runs(storage)
        return 0

    module = types.ModuleType("orchestrator.sweep.driver")
    module.run_sweep = run_sweep  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "orchestrator.sweep.driver", module)
    monkeypatch.setattr(package, "driver", module, raising=False)
    status, said = orchestrate("tables.py:mine", "--dry-run")
    assert (status, ran) == (0, [])
    assert re.search(r"policy +grpo +0 +policy-grpo-s0-\w+ +to do", said)
    status, said = orchestrate("tables.py:mine", "--run", "--storage", "kept")
    assert status == 0
    assert ran == [("sweep", Path("kept"), False, "orchestrate table tables.py:mine --run --storage kept")]
    assert re.search(r"FlowRL +0.700", said)
    status, said = orchestrate("tables.py:mine", "--run", "--storage", "kept")
    assert (status, len(ran), "all runs are there already" in said) == (0, 1, True)


def test_a_sweep_of_another_name_has_a_table_of_its_own() -> None:
    make_runs(STORAGE)
    assert orchestrate("tables.py:mine", "name=again")[0] == 0
    assert (STORAGE / "tables" / "tables.mine-again" / "table.md").is_file()
    assert orchestrate("tables.py:mine", "name=again", "--verify")[0] == 0


def test_the_only_table_of_a_file_need_not_be_named(own: Path) -> None:
    make_runs(STORAGE)
    assert orchestrate("tables.py")[0] == 0
    own.write_text("TABLES = {'mine': 3}")
    assert "needs TABLES, a mapping" in orchestrate("tables.py")[1]


def test_a_refused_declaration_is_a_message(own: Path) -> None:
    own.write_text(OWN.replace("table()", "table(checkpoint='best')"))
    status, said = orchestrate("tables.py:mine")
    assert status == 2
    assert "exploits it best" in said
    assert table().checkpoint == "last"
