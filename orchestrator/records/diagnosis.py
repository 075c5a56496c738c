"""What is wrong with a run, in words, and what to do about it: a table of rules over the rows of metrics.jsonl.

A rule looks at the last few values of a curve, some also at the first few. It raises one alarm, in the step in which its condition
first holds; `lasting` says whether it still held in the last row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any

WINDOW = 5
"""Steps whose mean a rule looks at: single steps are noise."""
EQUAL_GROUPS = 0.5
"""Share of groups whose answers all earn the same."""
TRUNCATED = 0.2
"""Share of episodes that were cut off."""
GAP_GROWTH, GAP_FLOOR = 5.0, 1e-6
"""Growth of the mean log-probability gap since the first steps; what is below the floor (nats) is rounding."""
PROXY_RISE, TRUTH_FALL = 0.03, 0.02
"""Rise of the judge's held-out score since the evaluation at which the truth was best, and fall of the truth since then; the
fall must also leave that evaluation's interval where there is one: a mean that hardly moves is noise."""
GAP_WIDENING = 0.1
"""Widening of judge minus truth on held-out tasks since the first evaluation."""
UNSCORED = 0.05
"""Share of episodes without a verdict."""
ENTROPY_LEFT = 0.25
"""Share of the first steps' entropy that is left."""
STALENESS, BOUNDED = 4.0, 0.1
"""Weight versions between sampling and training; share of tokens whose off-policy weight reached its bound."""
SLOW_RATIO = 1.5
"""Time of the slowest server over the median server's, the same server in every step of a window."""

_EQUAL, _UNSCORED, _TRUTH_LAG = "share of equal groups", "share unscored", "judge minus truth"
Curves = Mapping[str, Sequence[float]]
"""Finite values of each metric so far, in the order of the steps; of what `_derived` makes of a row, too."""


@dataclass(frozen=True, slots=True)
class Rule:
    """check: what it says of the curves so far where something is wrong, else None. remedy: what to do about it."""

    name: str
    check: Callable[[Curves], str | None]
    remedy: str


@dataclass(frozen=True, slots=True)
class Finding:
    """An alarm. step: in which it was first raised. says: the last time that the condition held. lasting: which the last row is."""

    name: str
    step: int
    says: str
    remedy: str
    lasting: bool = True

    def __str__(self) -> str:
        return f"step {self.step}: {self.name}: {self.says}. {self.remedy}"

    def to_json(self) -> dict[str, Any]:
        """Plain data for summary.json."""
        return asdict(self)


class Monitor:
    """Follows a run row by row, and says each thing once."""

    def __init__(self) -> None:
        self._curves: dict[str, list[float]] = {}
        self._raised: dict[str, Finding] = {}
        self._last_step = -1

    def add(self, row: Mapping[str, float]) -> list[Finding]:
        """Take the next row; returns what it raises for the first time. A row of a step that was there (the run went back to a
        checkpoint) starts the curves anew, while alarms that were raised stay raised."""
        step = int(row["step"])
        if step <= self._last_step:
            self._curves.clear()
        self._last_step = step
        for name, value in (*row.items(), *_derived(row)):
            if math.isfinite(value):
                self._curves.setdefault(name, []).append(value)
        new = []
        for rule in RULES:
            says, known = rule.check(self._curves), self._raised.get(rule.name)
            if known:
                self._raised[rule.name] = replace(known, says=says or known.says, lasting=says is not None)
            elif says:
                self._raised[rule.name] = Finding(rule.name, step, says, rule.remedy)
                new.append(self._raised[rule.name])
        return new

    @property
    def findings(self) -> list[Finding]:
        """All that was raised: what lasts first, the gravest of it first."""
        raised = [self._raised[rule.name] for rule in RULES if rule.name in self._raised]
        return sorted(raised, key=lambda finding: not finding.lasting)


def diagnose(rows: Sequence[Mapping[str, float]]) -> list[Finding]:
    """All alarms of a run's rows, those that still held at its end first."""
    monitor = Monitor()
    for row in rows:
        monitor.add(row)
    return monitor.findings


def _derived(row: Mapping[str, float]) -> Iterator[tuple[str, float]]:
    """Numbers that a row implies: shares instead of counts."""
    equal, groups = (row.get(f"episodes/{name}", 0) for name in ("zero_variance_groups", "trained_groups"))
    if "rollout/refills" in row:
        groups += equal  # dynamic sampling trains on none of the equal ones
    if groups > 0:
        yield _EQUAL, equal / groups
    tokens, length, unscored = (row.get(name, 0) for name in ("tokens/generated", "episodes/length", "faults/unscored"))
    if tokens > 0 and length > 0:
        yield _UNSCORED, unscored * length / tokens  # tokens over mean length: how many episodes there were
    if "judge/gold_gap" in row:
        yield _TRUTH_LAG, row["judge/gold_gap"]
    elif "eval/judge" in row and "eval/oracle" in row:
        yield _TRUTH_LAG, row["eval/judge"] - row["eval/oracle"]


def _lately(curves: Curves, name: str) -> float | None:
    """Mean of the last `WINDOW` values; None before there are as many."""
    values = curves.get(name, ())
    return fmean(values[-WINDOW:]) if len(values) >= WINDOW else None


def _at_first(curves: Curves, name: str) -> float | None:
    """Mean of the first `WINDOW` values; None before the last ones are others."""
    values = curves.get(name, ())
    return fmean(values[:WINDOW]) if len(values) >= 2 * WINDOW else None


def _equal_groups(curves: Curves) -> str | None:
    share = _lately(curves, _EQUAL)
    if share is None or share < EQUAL_GROUPS:
        return None
    return f"in {share:.0%} of the groups of the last {WINDOW} steps all answers earn the same, which teaches nothing"


def _truncation(curves: Curves) -> str | None:
    share = _lately(curves, "episodes/truncated_share")
    if share is None or share < TRUNCATED:
        return None
    return f"{share:.0%} of the answers of the last {WINDOW} steps were cut off before their end"


def _gap_growing(curves: Curves) -> str | None:
    first, last = (look(curves, "sync/logprob_gap_mean") for look in (_at_first, _lately))
    if first is None or last is None or last < max(GAP_GROWTH * first, GAP_FLOOR):
        return None
    return f"trainer and engine differ by {last:.1e} nats a token, {first:.1e} in the first steps"


def _diverging(curves: Curves) -> str | None:
    by = "judge" if "eval/judge" in curves else "reward"
    judge, truth, lag = (curves.get(name, ()) for name in (f"eval/{by}", "eval/oracle", _TRUTH_LAG))
    if len(judge) == len(truth) > 1:
        best = max(range(len(truth)), key=lambda place: truth[place])
        low = curves.get("eval/oracle_low", ())
        bound = low[best] if len(low) == len(truth) else math.inf
        fell = truth[best] - truth[-1] >= TRUTH_FALL and truth[-1] < bound
        if fell and judge[-1] - judge[best] >= PROXY_RISE:
            return (
                f"since its best evaluation the truth went from {truth[best]:.3f} to {truth[-1]:.3f} on held-out tasks, "
                f"while the {by}'s score rose from {judge[best]:.3f} to {judge[-1]:.3f}"
            )
    # One that comes nearer to the truth from below learns, and deceives nobody.
    if len(lag) > 1 and lag[-1] - lag[0] >= GAP_WIDENING and abs(lag[-1]) > abs(lag[0]):
        return f"{by} minus truth on held-out tasks widened from {lag[0]:+.3f} to {lag[-1]:+.3f}"
    return None


def _unscored(curves: Curves) -> str | None:
    share = _lately(curves, _UNSCORED)
    if share is None or share < UNSCORED:
        return None
    first = fmean(curves[_UNSCORED][:WINDOW])
    return f"{share:.0%} of the episodes of the last {WINDOW} steps have no verdict ({first:.0%} in the first ones)"


def _entropy_collapse(curves: Curves) -> str | None:
    first, last = (look(curves, "policy/entropy") for look in (_at_first, _lately))
    if first is None or last is None or last > ENTROPY_LEFT * first:
        return None
    return f"{last:.2f} nats a token, {first:.2f} in the first steps: the policy hardly tries anything else"


def _stale(curves: Curves) -> str | None:
    age, bounded = (_lately(curves, name) for name in ("episodes/staleness", "off_policy/bounded_share"))
    if age is not None and age >= STALENESS:
        return f"episodes are {age:.1f} weight versions old when they are trained"
    if bounded is not None and bounded >= BOUNDED:
        return f"the off-policy weights of {bounded:.0%} of the tokens reach their bound"
    return None


def _slow_server(curves: Curves) -> str | None:
    for name in curves:
        role = name.removeprefix("servers/").removesuffix("_slowest")
        if name != f"servers/{role}_slowest":
            continue
        ratio = _lately(curves, f"servers/{role}_slowest_ratio")
        lately = curves[name][-WINDOW:]
        # Uneven shares of the work fall on one server now and on another then; a slow one is always the same.
        if ratio is not None and ratio >= SLOW_RATIO and len(set(lately)) == 1:
            return f"{role}-{lately[-1]:.0f} takes {ratio:.1f} times as long as the median server, and all wait for it"
    return None


RULES = (
    Rule(
        "judge and truth diverge",
        _diverging,
        "What is rewarded is not what is wanted: read the answers that the reward is most wrong about (the page's order for episodes), "
        "mend the judge, the rubric or the reward, raise algorithm.kl_weight, or take the checkpoint from before.",
    ),
    Rule(
        "no verdicts",
        _unscored,
        "Read the reasons in the episodes (column `unscored`), then mend the reward function, or see to the judge's server, "
        "judge.call_deadline_s or judge.min_mass.",
    ),
    Rule(
        "log-probability gap grows",
        _gap_growing,
        "Learner and engines no longer hold the same weights to the same precision: compare model.dtype with the engines', try "
        "sync.transport=object_store; the run stops at limits.logprob_gap_mean.",
    ),
    Rule(
        "groups are equal",
        _equal_groups,
        "Ask for tasks that the policy solves sometimes, more answers a task (rollout.samples_per_prompt), graded verdicts "
        "(judge.soft=true) or algorithm.dynamic_sampling=true.",
    ),
    Rule(
        "answers are cut off",
        _truncation,
        "Raise rollout.max_completion_tokens (and model.context_tokens), or penalise length (algorithm.overlong_share).",
    ),
    Rule(
        "entropy collapsed",
        _entropy_collapse,
        "Lower learner.learning_rate, raise algorithm.clip_high or algorithm.kl_weight, and begin again from an earlier "
        "checkpoint (--from RUN@STEP).",
    ),
    Rule(
        "episodes are stale",
        _stale,
        "Lower rollout.max_staleness or learner.learning_rate, or give the policy more servers (rollout.fleet.servers).",
    ),
    Rule(
        "one engine is slow",
        _slow_server,
        "See what else runs on its node or GPU (`orchestrate doctor` there), or leave that machine out.",
    ),
)
"""What is looked for, the gravest first."""
