from __future__ import annotations

import re
from collections.abc import Mapping

import pytest

from orchestrator.config.keys import keys_of
from orchestrator.config.schema import RunConfig
from orchestrator.records.diagnosis import RULES, Finding, Monitor, diagnose

Row = Mapping[str, float]


def rows_of(**curves: list[float]) -> list[dict[str, float]]:
    """A row a value; names with two underscores for a slash."""
    length = len(next(iter(curves.values())))
    return [
        {"step": step, **{name.replace("__", "/"): values[step] for name, values in curves.items()}}
        for step in range(length)
    ]


def equal(shares: list[float]) -> list[dict[str, float]]:
    """Of ten groups a step, these many tenths are equal."""
    return rows_of(
        episodes__zero_variance_groups=[10 * share for share in shares], episodes__trained_groups=[10.0] * len(shares)
    )


def unscored(counts: list[float]) -> list[dict[str, float]]:
    """Of twenty episodes a step: 200 tokens in answers of ten."""
    steps = len(counts)
    return rows_of(faults__unscored=counts, tokens__generated=[200.0] * steps, episodes__length=[10.0] * steps)


# Each pair: rows that raise the rule in their last step, and rows that just do not. A window is five steps.
# - equal groups: mean share (0.3 + 0.6 + 0.6 + 0.5 + 0.5) / 5 = 0.5; with 0.4 in the last it is 0.48
# - truncation: (0 + 0 + 0.2 + 0.3 + 0.5) / 5 = 0.2; with 0.49 it is 0.198
# - gap: from a mean of 2e-6 to one of 10e-6, five times as much; 9.9e-6 is not. Tenfold below 1e-6 nats is rounding
# - divergence: the truth was best (0.50) in the second evaluation; since then it fell by 0.02 (0.019) and the judge rose by 0.03
#   (0.029); where there is an interval, to below its end (to within it); or the judge is 0.1 (0.09) further above the truth
#   than at first, while both rise
# - unscored: five in five steps of twenty episodes are 0.05; four are 0.04
# - entropy: a quarter of 2 nats is 0.5; 0.51 is more
# - staleness: 4 versions old; 3.8. Or a tenth of the tokens at the bound; 0.09
# - a slow server: always number 1, 1.5 times the median; 1.4 times, or another one in one of the steps
CASES = {
    "groups are equal": [(equal([0.3, 0.6, 0.6, 0.5, 0.5]), equal([0.3, 0.6, 0.6, 0.5, 0.4]))],
    "answers are cut off": [
        (rows_of(episodes__truncated_share=[0, 0, 0.2, 0.3, 0.5]), rows_of(episodes__truncated_share=[0, 0, 0.2, 0.3, 0.49])),
    ],
    "log-probability gap grows": [
        (rows_of(sync__logprob_gap_mean=[2e-6] * 5 + [1e-5] * 5), rows_of(sync__logprob_gap_mean=[2e-6] * 5 + [9.9e-6] * 5)),
        (rows_of(sync__logprob_gap_mean=[1e-7] * 5 + [1e-6] * 5), rows_of(sync__logprob_gap_mean=[1e-8] * 5 + [9e-7] * 5)),
    ],
    "judge and truth diverge": [
        (
            rows_of(eval__judge=[0.4, 0.52, 0.55], eval__oracle=[0.4, 0.5, 0.48]),
            rows_of(eval__judge=[0.4, 0.52, 0.549], eval__oracle=[0.4, 0.5, 0.48]),
        ),
        (
            rows_of(eval__judge=[0.4, 0.52, 0.55], eval__oracle=[0.4, 0.5, 0.48]),
            rows_of(eval__judge=[0.4, 0.52, 0.55], eval__oracle=[0.4, 0.5, 0.481]),
        ),
        (
            rows_of(eval__judge=[0.5, 0.53], eval__oracle=[0.5, 0.45], eval__oracle_low=[0.46, 0.41]),
            rows_of(eval__judge=[0.5, 0.53], eval__oracle=[0.5, 0.45], eval__oracle_low=[0.44, 0.41]),
        ),
        (
            rows_of(eval__judge=[0.4, 0.751], eval__oracle=[0.4, 0.65]),
            rows_of(eval__judge=[0.4, 0.74], eval__oracle=[0.4, 0.65]),
        ),
        (rows_of(judge__gold_gap=[0.25, 0.375]), rows_of(judge__gold_gap=[0.25, 0.34])),
    ],
    "no verdicts": [(unscored([0, 0, 1, 2, 2]), unscored([0, 0, 1, 2, 1]))],
    "entropy collapsed": [
        (rows_of(policy__entropy=[2.0] * 5 + [0.5] * 5), rows_of(policy__entropy=[2.0] * 5 + [0.51] * 5)),
    ],
    "episodes are stale": [
        (rows_of(episodes__staleness=[2.0, 3, 5, 5, 5]), rows_of(episodes__staleness=[2.0, 2, 5, 5, 5])),
        (rows_of(off_policy__bounded_share=[0.1] * 5), rows_of(off_policy__bounded_share=[0.09] * 5)),
    ],
    "one engine is slow": [
        (
            rows_of(servers__policy_slowest=[1.0] * 5, servers__policy_slowest_ratio=[1.5] * 5),
            rows_of(servers__policy_slowest=[1.0] * 5, servers__policy_slowest_ratio=[1.4] * 5),
        ),
        (
            rows_of(servers__judge_slowest=[0, 1.0, 1, 1, 1, 1], servers__judge_slowest_ratio=[2.0] * 6),
            rows_of(servers__judge_slowest=[1, 1.0, 0, 1, 1, 1], servers__judge_slowest_ratio=[2.0] * 6),
        ),
    ],
}  # fmt: skip


def test_every_rule_has_its_cases() -> None:
    assert set(CASES) == {rule.name for rule in RULES}


@pytest.mark.parametrize(
    ("name", "raising", "quiet"), [(name, *pair) for name, pairs in CASES.items() for pair in pairs]
)
def test_a_rule_is_raised_at_its_threshold_and_not_before(name: str, raising: list[Row], quiet: list[Row]) -> None:
    assert [(finding.name, finding.step) for finding in diagnose(raising)] == [(name, len(raising) - 1)]
    assert diagnose(raising[:-1]) == []
    assert diagnose(quiet) == []


# Dynamic sampling trains on none of the equal groups: 6 equal ones beside 6 that are trained are one half.
def test_equal_groups_are_a_share_of_all_that_were_played() -> None:
    row = {"episodes/zero_variance_groups": 6, "episodes/trained_groups": 6}
    played = [{"step": step, **row} for step in range(5)]
    (finding,) = diagnose(played)
    assert "100%" in finding.says
    (finding,) = diagnose([{**row, "rollout/refills": 1} for row in played])
    assert "50%" in finding.says


# Noise: the truth falls by 0.001 while the judge rises by 0.035, from 0.1 below it to 0.064 below it.
# A real flaw, over 48 tasks: 0.336 is within the truth's first interval, but the gap widens from 0.122 to 0.388.
def test_divergence_is_told_from_noise() -> None:
    assert diagnose(rows_of(eval__judge=[0.7, 0.735], eval__oracle=[0.8, 0.799])) == []
    flaw = rows_of(
        eval__judge=[0.513, 0.724],
        eval__oracle=[0.391, 0.336],
        eval__oracle_low=[0.31, 0.26],
        judge__gold_gap=[0.122, 0.388],
    )
    (finding,) = diagnose(flaw)
    assert (finding.name, finding.step) == ("judge and truth diverge", 1)
    assert "widened from +0.122 to +0.388" in finding.says


def test_a_reward_that_nears_the_truth_from_below_deceives_nobody() -> None:
    """A reward at 0.109 and then 0.5 where the truth is 1: the signed gap rises by 0.39, the distance falls from 0.89 to 0.5."""
    assert not diagnose(rows_of(eval__reward=[0.109, 0.5], eval__oracle=[1.0, 1.0], judge__gold_gap=[-0.891, -0.5]))


def test_what_is_over_and_what_was_not_measured() -> None:
    """Cut off in steps 0 to 4 (mean 0.3), no more from step 6 on: (0.3 * 3 + 0 + 0) / 5 = 0.18. NaN is no measurement."""
    rows = rows_of(episodes__truncated_share=[0.3] * 5 + [0.0, 0.0], policy__entropy=[float("nan")] * 7)
    (finding,) = diagnose(rows)
    assert (finding.step, finding.lasting) == (4, False)
    assert finding.says == "24% of the answers of the last 5 steps were cut off before their end"
    assert diagnose([]) == diagnose([{"step": 0, "eval/judge": 0.5}]) == []


def test_what_lasts_and_is_grave_comes_first() -> None:
    cut = [0.5] * 10 + [0.0] * 10
    entropy = [2.0] * 5 + [0.1] * 15
    stale = [5.0] * 20
    found = diagnose(rows_of(episodes__truncated_share=cut, policy__entropy=entropy, episodes__staleness=stale))
    assert [finding.name for finding in found] == ["entropy collapsed", "episodes are stale", "answers are cut off"]


def test_an_alarm_is_told_once_also_where_the_run_goes_back() -> None:
    monitor = Monitor()
    rows = rows_of(episodes__truncated_share=[0.4] * 8)
    told = [monitor.add(row) for row in rows]
    assert [len(new) for new in told] == [0, 0, 0, 0, 1, 0, 0, 0]
    # Steps 6 and 7 come again after a restart: five new values are needed, and nothing is told twice.
    assert [monitor.add(row) for row in rows[6:]] == [[], []]
    assert [finding.lasting for finding in monitor.findings] == [False]


def test_a_finding_reads_as_one_line_and_is_plain_data() -> None:
    finding = Finding("answers are cut off", 7, "half were", "Raise it.")
    assert str(finding) == "step 7: answers are cut off: half were. Raise it."
    assert finding.to_json() == {
        "name": "answers are cut off", "step": 7, "says": "half were", "remedy": "Raise it.", "lasting": True,
    }  # fmt: skip


def test_the_settings_that_remedies_name_exist() -> None:
    known = keys_of(RunConfig)
    named = {key for rule in RULES for key in re.findall(r"\b[a-z]+(?:\.[a-z_]+)+", rule.remedy)}
    assert len(named) > 8
    assert named <= set(known)
