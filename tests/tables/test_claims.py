"""Claims that can fail: by hand on runs with chosen means, and on a table of stored runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

from orchestrator.sweep.reading import read_sweep
from orchestrator.sweep.statistics import Block
from orchestrator.tables import Claim, Column, length, truth
from orchestrator.tables.claims import Assessed, assess, holm, p_above
from orchestrator.tables.compute import Computed, compute
from orchestrator.tables.grid import claim_in_words, grid_of
from orchestrator.tables.parts import Found
from orchestrator.tables.pictures import draw_claims
from orchestrator.tables.verify import verify
from orchestrator.tables.written import place_of, write
from tests.tables.made_up import make_runs, named, stored, table, write_evaluation
from tests.tables.test_compute import STORAGE

CLAIM = Claim("maximisers are as good", ("PPO", "GRPO"), "FlowRL", ("score",), "validation", 0.03)


def found(row: str, means: Sequence[float]) -> Found:
    """Runs with these means on one task, so that all spread is between runs."""
    block = Block(np.array(means)[:, None], tuple((row, seed) for seed in range(len(means))), ("task",))
    return Found(value=block.mean, terms=[(1.0, block)])


def outcome_of(claim: Claim, cells: Mapping[tuple[str, str], Sequence[float]]) -> Assessed:
    return assess(claim, lambda row, column: found(row, cells[row, column]))


CELLS = {
    ("PPO", "validation"): [0.4, 0.5],
    ("GRPO", "validation"): [0.6, 0.6],
    ("GRPO", "score"): [0.6, 0.7, 0.8],
    ("FlowRL", "score"): [0.5, 0.6, 0.7],
}


def test_the_row_is_chosen_on_validation_and_the_numbers_are_right() -> None:
    """GRPO (0.6 on validation) stands for it. Each side has variance 0.01 over three runs, so the difference of 0.1 has the standard
    error √(2 x 0.01/3) = 0.0816497, with t of two degrees of freedom: 0.1 ± 4.30265 x 0.0816497. From -0.03 it is t = 0.13/0.0816497
    = 1.59217 away: p = 1/2 - t / (2 √(2 + t²)) = 0.12617. Detectable: (4.30265 + 1.06066) x 0.0816497."""
    tested = outcome_of(CLAIM, {**CELLS, ("PPO", "score"): [9.0, 9.0, 9.0]})
    (cell,) = tested.cells
    assert tested.chosen == "GRPO"
    assert (cell.difference, cell.low, cell.high) == pytest.approx((0.1, 0.1 - 0.351314, 0.1 + 0.351314), abs=1e-5)
    assert cell.p == pytest.approx(0.126171, abs=1e-5)
    assert cell.detectable == pytest.approx((4.302653 + 1.060660) * 0.0816497, abs=1e-5)
    assert (tested.outcome, cell.runs) == ("open", 3)


def test_it_holds_or_fails_where_runs_agree() -> None:
    """Runs that differ by 0.001 put the difference of 0.1, or of -0.1, far from -0.03."""
    close = {("FlowRL", "score"): [0.6, 0.601, 0.602]}
    better = outcome_of(CLAIM, {**CELLS, **close, ("GRPO", "score"): [0.7, 0.701, 0.702], ("PPO", "score"): [0.0, 0.0]})
    assert better.outcome == "holds"
    worse = outcome_of(CLAIM, {**CELLS, **close, ("GRPO", "score"): [0.5, 0.501, 0.502], ("PPO", "score"): [0.0, 0.0]})
    assert (worse.outcome, worse.cells[0].p > 0.99) == ("fails", True)
    # 0.02 below is not worse by more than 0.03.
    slightly = outcome_of(
        CLAIM, {**CELLS, **close, ("GRPO", "score"): [0.58, 0.581, 0.582], ("PPO", "score"): [0.0, 0.0]}
    )
    assert slightly.outcome == "holds"


def test_with_margin_0_it_must_be_better() -> None:
    """Runs that differ by 0.001: 0.02 below 0.601 is worse, 0.02 above better, and the same runs are neither."""
    superior = replace(CLAIM, margin=0.0)
    than = {("FlowRL", "score"): [0.6, 0.601, 0.602], ("PPO", "score"): [0.0, 0.0]}
    for shift, said in ((0.02, "holds"), (-0.02, "fails"), (0.0, "open")):
        mine = [0.6 + shift, 0.601 + shift, 0.602 + shift]
        tested = outcome_of(superior, {**CELLS, **than, ("GRPO", "score"): mine})
        assert tested.outcome == said
    assert next(claim_in_words(tested)).startswith("Claim: maximisers are as good (better than FlowRL): open")


def test_p_is_where_the_interval_ends_at_the_bound() -> None:
    """Two runs, 0.4 and 0.6, one degree of freedom: the mean 0.5 ± 0.1 t, p = 1/2 - atan(t)/π. The bound 0.4 is t = 1: 0.25."""
    terms = found("x", [0.4, 0.6]).terms
    assert p_above(terms, 0.4) == pytest.approx(0.25, abs=1e-6)
    assert p_above(terms, 0.6) == pytest.approx(0.75, abs=1e-6)
    assert p_above(terms, 0.5) == pytest.approx(0.5, abs=1e-6)
    assert p_above(terms, 0.2) == pytest.approx(0.5 - math.atan(3) / math.pi, abs=1e-6)


def test_holm_by_hand() -> None:
    """Smallest first: 0.01 x 3, then 0.02 x 2 = 0.04, then 0.03 x 1, but not below 0.04."""
    assert holm({"a": 0.02, "b": 0.01, "c": 0.03}) == pytest.approx({"b": 0.03, "a": 0.04, "c": 0.04})
    assert holm({"a": 0.6, "b": 0.7}) == {"a": 1.0, "b": 1.0}


def test_at_equal_length() -> None:
    """Scores are 0.1 for the row + 0.01 a token, exactly. GRPO's answers are two tokens longer on average: the difference is 0.12,
    at equal length 0.1. Where each row's answers have one length, row and length cannot be told apart."""
    lengths = {"GRPO": [20.0, 22.0, 27.0], "FlowRL": [18.0, 22.0, 23.0]}
    cells = {
        **CELLS,
        ("PPO", "score"): [0.0, 0.0],
        **{(row, "tokens"): values for row, values in lengths.items()},
        **{(row, "score"): [0.1 * (row == "GRPO") + 0.01 * v for v in values] for row, values in lengths.items()},
    }
    claim = replace(CLAIM, length="tokens")
    (cell,) = outcome_of(claim, cells).cells
    assert cell.difference == pytest.approx(0.12)
    told = (cell.at_equal_length, cell.at_equal_length_low, cell.at_equal_length_high)
    assert told == pytest.approx((0.1, 0.1, 0.1), abs=1e-9)
    apart = {(row, "tokens"): [float(len(row))] * 3 for row in lengths}
    (cell,) = outcome_of(claim, {**cells, **apart}).cells
    assert math.isnan(cell.at_equal_length)


def test_one_cell_that_fails_fails_the_claim() -> None:
    claim = replace(CLAIM, of=("GRPO",), columns=("score", "theory"))
    cells = {
        **CELLS,
        ("GRPO", "score"): [0.7, 0.701, 0.702],
        ("FlowRL", "score"): [0.6, 0.601, 0.602],
        ("GRPO", "theory"): [0.4, 0.401, 0.402],
        ("FlowRL", "theory"): [0.6, 0.601, 0.602],
    }
    tested = outcome_of(claim, cells)
    assert [cell.outcome for cell in tested.cells] == ["holds", "fails"]
    assert tested.outcome == "fails"


def rates(true: float, studies: int = 400) -> tuple[float, float]:
    """Shares of studies in which a cell, or every cell, is said to hold, where the truth is `true` in both. Eight runs a row, whose
    luck is 0.02 a run and half of it the same in all columns."""
    draw, names = np.random.default_rng(0), ("validation", "public", "theory")
    claim = replace(CLAIM, of=("GRPO",), columns=names[1:])
    held = []
    for _ in range(studies):
        cells: dict[tuple[str, str], list[float]] = {}
        for row, mean in (("GRPO", 0.6 + true), ("FlowRL", 0.6)):
            shared = draw.normal(0, 0.02 * 0.5**0.5, 8)
            for name in names:
                cells[row, name] = (mean + shared + draw.normal(0, 0.02 * 0.5**0.5, 8)).tolist()
        held.append([cell.outcome == "holds" for cell in outcome_of(claim, cells).cells])
    told = np.array(held)
    return float(told.any(1).mean()), float(told.all(1).mean())


def test_the_error_is_at_most_what_is_said() -> None:
    """At the margin's end a cell is called as good in 2.5 % of studies at most; where there is no difference the standard error of
    0.01 is a third of the way from -0.03, which is nearly always seen."""
    any_at_the_end, all_at_the_end = rates(-0.03)
    assert 0 < any_at_the_end <= 0.025
    assert all_at_the_end <= any_at_the_end
    assert rates(0.0, studies=50)[1] > 0.5


def test_what_is_not_there_is_not_tested() -> None:
    missing = Found(reasons=["run policy-grpo-s1 is not there"])
    tested = assess(CLAIM, lambda row, column: missing if row == "GRPO" else found(row, [0.5, 0.6]))
    assert (tested.outcome, tested.reason) == ("not run", "run policy-grpo-s1 is not there")
    single = assess(CLAIM, lambda row, column: found(row, [0.5]))
    assert "a single run says nothing of others" in single.reason


def test_on_a_table() -> None:
    """The claim of a table is tested on its test split, stands in its notes and is written down."""
    make_runs(STORAGE)
    for seed in (0, 1):
        write_evaluation(stored(STORAGE, f"policy-grpo-s{seed}"), 4, {"x": [0.9], "y": [0.9]}, "test")
        write_evaluation(stored(STORAGE, f"policy-flowrl-s{seed}"), 4, {"x": [0.5], "y": [0.5]}, "test")
    claim = Claim("GRPO keeps up", ("GRPO",), "FlowRL", ("score",), "validation", 0.03, "tokens")
    columns = (
        Column("validation", truth),
        Column("score", truth, split="test"),
        Column("tokens", length, split="test"),
    )
    made = table(rows=table().rows[1:], columns=columns, baseline=None, published={}, claims=(claim,))
    computed = compute(named(made), read_sweep("sweep.yaml"), STORAGE)
    (tested,) = computed.claims
    assert (tested.outcome, tested.chosen, tested.cells[0].difference) == ("holds", "GRPO", pytest.approx(0.4))
    notes = " ".join(grid_of(computed).notes)
    assert "GRPO keeps up (not worse than FlowRL by more than 0.03): it holds" in notes
    assert "score: GRPO less FlowRL +0.400" in notes
    write(computed, place_of(computed.named, (), STORAGE))
    assert verify(computed.named, (), STORAGE).differences == ()
    changed = STORAGE / "tables" / "tables.mine" / "table.json"
    changed.write_text(changed.read_text().replace('"outcome": "holds"', '"outcome": "open"', 1))
    (difference,) = verify(computed.named, (), STORAGE).differences
    assert (difference.says, difference.should) == ("claims.0.cells.0.outcome: open", "claims.0.cells.0.outcome: holds")


def test_the_picture(tmp_path: Path) -> None:
    """A row a cell; without a claim that could be tested there is none."""
    computed = Computed(
        named(table()), "sweep", (), (), {}, {}, ("mini",), False, (outcome_of(CLAIM, {**CELLS, ("PPO", "score"): [0.0, 0.0]}),)
    )  # fmt: skip
    picture = draw_claims(computed, tmp_path)
    assert picture is not None
    height, width = plt.imread(picture).shape[:2]
    assert (width, height > 150) == (1000, True)
    assert draw_claims(replace(computed, claims=(Assessed("x", "y", 0.1, reason="no run"),)), tmp_path) is None
    assert not picture.exists()
