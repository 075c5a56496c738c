"""The numbers of a judge's exam, each worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from orchestrator.rollouts.rubrics import Criterion, Rubric
from orchestrator.tables import Measured
from orchestrator.values import Scored
from workloads import exams
from workloads.exams import Graded, Judged
from workloads.rlvr.table1 import only
from workloads.rlvr.tables import TABLES, agreement

RUBRIC = Rubric(
    (Criterion("a", "says a", 3, "good"), Criterion("b", "says b", 1, "good"), Criterion("c", "says c", -2, "bad"))
)


def graded(group: str, labels: str, said: tuple[float | None, ...]) -> Graded:
    """labels: a letter a criterion, y or n."""
    met = {name: float(letter == "y") for name, letter in zip("abc", labels, strict=True)}
    return Graded(Judged(group, (), RUBRIC, labels, met), dict(zip("abc", said, strict=True)))


# Two dilemmas of two answers. True rewards: yyn 1, nny -1, ynn 3/4, nyn 1/4. The judge: of the first yyn (1), of the second nnn (0: it
# misses c), of the third nnn (0: it misses a), of the fourth nyn (1/4).
ASKED = [
    graded("d0", "yyn", (0.95, 0.75, 0.05)),
    graded("d0", "nny", (0.05, 0.25, 0.35)),
    graded("d1", "ynn", (0.45, 0.15, 0.05)),
    graded("d1", "nyn", (0.05, 0.85, 0.15)),
]


def part(criterion: Criterion) -> str:
    return criterion.dimension


def test_agreement_beyond_chance() -> None:
    """12 judgements, 10 right. Labels: 5 yes, 7 no; said: 3 yes, 9 no; both yes 3, both no 7. By chance (5*3 + 7*9)/144 = 78/144.
    kappa = (10/12 - 78/144) / (1 - 78/144) = 42/66. F1 of yes 6/8, of no 14/16."""
    report = exams.numbers_of(ASKED, part)
    assert report["accuracy"] == pytest.approx(10 / 12)
    assert report["kappa"] == pytest.approx(42 / 66)
    assert report["macro_f1"] == pytest.approx((6 / 8 + 14 / 16) / 2)
    assert (report["kappa_n"], report["macro_f1_n"], report["negative_recall"]) == (12, 12, 0.0)
    # of d0 alone (5 of 6 right): 2 of 3 yes and 3 of 3 no, by chance (3*2 + 3*4)/36; of d1 (5 of 6): 1 of 2 yes, (2*1 + 4*5)/36
    kappas = (5 / 6 - 18 / 36) / (1 - 18 / 36), (5 / 6 - 22 / 36) / (1 - 22 / 36)
    assert (report["kappa_low"], report["kappa_high"]) == pytest.approx((min(kappas), max(kappas)))


def test_a_judge_that_always_says_the_one_label_that_there_is_has_no_kappa() -> None:
    report = exams.numbers_of([graded("d", "nnn", (0.1, 0.1, 0.1))], part)
    assert report["accuracy"] == 1
    assert math.isnan(report["kappa"])


def test_calibration_by_bins_of_a_tenth() -> None:
    """0.05 four times (no label yes), 0.15 twice (none), 0.25 (no), 0.35 (yes), 0.45 (yes), 0.75 (yes), 0.85 (yes), 0.95 (yes):
    |0.2 - 0| + |0.3 - 0| + 0.25 + 0.65 + 0.55 + 0.25 + 0.15 + 0.05 = 2.4 over 12 judgements."""
    report = exams.calibration(ASKED)
    assert report["ece"] == pytest.approx(2.4 / 12)
    assert [found["n"] for found in report["calibration"]] == [4, 2, 1, 1, 1, 1, 1, 1]
    assert report["calibration"][0] == pytest.approx({"low": 0, "high": 0.1, "n": 4, "said": 0.05, "met": 0})
    # 1 belongs to the last bin; what has no verdict to none
    whole = exams.calibration([graded("d", "yyn", (1.0, None, 0.0))])
    assert [(found["low"], found["n"]) for found in whole["calibration"]] == [(0.0, 1), (0.9, 1)]
    assert (whole["ece"], whole["ece_n"]) == (0, 2)


def test_order_within_a_dilemma() -> None:
    """d0: 1 and -1 against 1 and 0, in order, tau 1. d1: 3/4 and 1/4 against 0 and 1/4, turned round, tau -1."""
    report = exams.order(ASKED)
    assert (report["rank_correlation"], report["rank_correlation_n"]) == (0, 2)
    assert (report["rank_correlation_low"], report["rank_correlation_high"]) == (-1, 1)
    assert (report["pair_order"], report["pair_order_n"]) == (0.5, 2)


def test_tau_b_counts_ties() -> None:
    """True 1, 0, 0 (yyn, nnn, nnn), judged 1, 1/4, 0: of three pairs one is tied in truth and two are in order. tau-b is
    2 / sqrt(2 * 3). A dilemma whose answers are all worth the same is left out, one judged all alike counts 0."""
    tied = [
        graded("d", "yyn", (0.9, 0.9, 0.1)),
        graded("d", "nnn", (0.1, 0.9, 0.1)),
        graded("d", "nnn", (0.1, 0.1, 0.1)),
    ]
    assert exams.order(tied)["rank_correlation"] == pytest.approx(2 / math.sqrt(6))
    alike = [replace(item, response=replace(item.response, group="same")) for item in tied[1:]]
    assert exams.order([*tied, *alike])["rank_correlation_n"] == 1
    blind = [replace(item, said=dict.fromkeys("abc", 0.1)) for item in tied]
    assert exams.order(blind)["rank_correlation"] == 0


def test_errors_count_by_what_they_do_to_the_reward() -> None:
    """|1-1|, |0+1|, |0-3/4|, |1/4-1/4|: mean 1.75/4. The missed c is all of the negative weight (1), the missed a 3 of 4."""
    report = exams.reward_error(ASKED, part)
    assert (report["reward_error"], report["reward_error_n"]) == (pytest.approx(1.75 / 4), 4)
    assert (report["reward_error_good"], report["reward_error_bad"]) == pytest.approx((0.75 / 1.75, 1 / 1.75))


def test_what_has_no_verdict_counts_in_the_worst_way() -> None:
    """Neither a (good) nor c (bad) has a verdict: a counts as missed, c as done, and both as wrong."""
    (item,) = [graded("d", "yyn", (None, 0.9, None))]
    assert item.met == {"a": 0, "b": 1, "c": 1}
    assert item.rewards == (1, 0.25 - 1)
    assert exams.accuracy([item], part)["accuracy"] == pytest.approx(1 / 3)


def test_without_labels_there_are_no_numbers() -> None:
    empty = Graded(Judged("d", (), RUBRIC, "", {}), {})
    assert exams.numbers_of([empty], part) == {}
    assert exams.exam_groups([empty]) == ([], {}, {})


def test_the_exam_as_episodes_gives_the_tables_numbers() -> None:
    """A table's agreement of the second answer is 2 of 3. Its prior: a and c of d0 are ties, so yes, and wrong once each ..."""
    public, theory = (
        replace(item.response, reference={"theory": name})
        for item, name in zip(ASKED[1:3], ("neutral", "care"), strict=True)
    )
    groups, gold, labels = exams.exam_groups(
        [ASKED[0], replace(ASKED[1], response=public), replace(ASKED[2], response=theory)]
    )
    assert [len(group.episodes) for group in groups] == [2, 1]
    found = {
        episode.text: Measured(
            episode, verdict, gold[episode.id], labels[episode.id], lambda verdict: verdict.components["official"]
        )
        for group in groups
        for episode, verdict in zip(group.episodes, group.verdicts, strict=True)
    }
    second = found["nny"]
    assert agreement(second) == pytest.approx(2 / 3)
    assert isinstance(second.verdict, Scored)
    # each criterion of d0 is a tie, and a tie is yes: right on c alone
    assert second.verdict.components["prior"] == pytest.approx(1 / 3)
    assert second.verdict.judgements == {"a": 0.05, "b": 0.25, "c": 0.35}
    # nothing earned of 6; the judge thinks that c was avoided
    assert (second.gold, second.proxy(second.verdict)) == (0, pytest.approx(2 / 6))
    parts = [only(part, agreement) for part in ("public", "theory")]
    assert [metric(second) for metric in parts] == [pytest.approx(2 / 3), None]
    assert [metric(found["ynn"]) for metric in parts] == [None, pytest.approx(2 / 3)]
    assert agreement(replace(second, gold_verdicts={})) is None


def test_the_published_agreement_stands_beside_public_and_theory() -> None:
    table = TABLES["judge"]
    values = {column: found.value for (_, column), found in table.published.items()}
    assert values == {"Public": 0.8707, "Theory": 0.6921}
    assert {table.tolerance_of(table.column(name)) for name in values} == {0.05}
