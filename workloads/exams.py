"""What a judge's exam says of it: numbers of held-out responses with true labels and the judge's P(yes).

Every share stands beside its number of judgements (`_n`) and the ends of its 95 % interval (`_low`, `_high`). The intervals are over
groups (dilemmas, prompts): judgements of one group, let alone of one response, are not independent. One group tells nothing about
others: its intervals are NaN. A question without a verdict counts as answered wrongly.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from orchestrator.rollouts.rubrics import Criterion, Rubric, official_score, paper_reward, share_met
from orchestrator.values import POLICY, Episode, Group, Message, Scored, Task, Turn

Report = dict[str, Any]
Shares = dict[str, list[tuple[str, float]]]
"""Name of a number -> (group, value) of each of its judgements."""
Slice = Callable[[Criterion], str]
"""Name of the part (kind, dimension) that a criterion's numbers are also reported under."""
BINS = 10
"""Of equal width, in which P(yes) is compared with the share of labels that are yes."""
EQUAL = 1e-9
"""Rewards that differ by less are the same."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A response with the true verdict on (some of) the rubric's criteria: id -> 1.0 met, 0.0 not.

    group: what is held out together (a dilemma, a prompt). prompt: the messages that the response answers. reference: what else is
    known of the prompt (its theory).
    """

    group: str
    prompt: Sequence[Message]
    rubric: Rubric
    text: str
    met: Mapping[str, float]
    reference: Mapping[str, Any] = field(default_factory=dict)

    @property
    def labelled(self) -> list[Criterion]:
        """The criteria that have a label."""
        return [criterion for criterion in self.rubric.criteria if criterion.id in self.met]


@dataclass(frozen=True, slots=True)
class Graded:
    """A held-out response with what the judge said. said: P(yes) of each labelled criterion, None where it gave no verdict."""

    response: Judged
    said: Mapping[str, float | None]

    @property
    def met(self) -> dict[str, float]:
        """The judge's verdicts; without one a criterion counts in the worst way, as in a reward."""
        return {
            criterion.id: float(criterion.weight < 0) if (p := self.said[criterion.id]) is None else float(p > 0.5)
            for criterion in self.response.labelled
        }

    @property
    def rewards(self) -> tuple[float, float]:
        """(by the labels, by the judge), both by the paper's formula."""
        rubric = self.response.rubric
        return paper_reward(rubric, self.response.met), paper_reward(rubric, self.met)

    def rights(self) -> Iterable[tuple[Criterion, bool, bool]]:
        """(criterion, its label, whether the judge said the same) of each judgement."""
        for criterion in self.response.labelled:
            label, probability = self.response.met[criterion.id] > 0.5, self.said[criterion.id]
            yield criterion, label, probability is not None and (probability > 0.5) == label


def numbers_of(graded: Sequence[Graded], slice_of: Slice) -> Report:
    """Everything about the plain questions; each part below says what."""
    some = [item for item in graded if item.response.labelled]
    if not some:
        return {}
    return accuracy(some, slice_of) | agreement(some) | calibration(some) | order(some) | reward_error(some, slice_of)


def accuracy(graded: Sequence[Graded], slice_of: Slice) -> Report:
    """accuracy, also by slice, and recall on bad things that were done (negative_recall).

    prior_accuracy is an upper bound of what a guess that ignores the answer can reach: for each criterion the majority of its
    labels over all held-out answers, which no such guess could know.
    """
    prior = prior_of([item.response for item in graded])
    rights: Shares = defaultdict(list)
    for item in graded:
        group = item.response.group
        for criterion, label, right in item.rights():
            part = slice_of(criterion).replace(" ", "_")
            for whole in ("accuracy", f"accuracy_{part}"):
                rights[whole].append((group, right))
                rights[f"prior_{whole}"].append((group, prior[group, criterion.id] == label))
            if criterion.weight < 0 and label:
                rights["negative_recall"].append((group, right))
    return shares(rights)


def agreement(graded: Sequence[Graded]) -> Report:
    """macro_f1, the mean F1 of yes and no; kappa (Cohen's), agreement beyond that of two who say yes as often but independently."""
    rows, groups = [], []
    for item in graded:
        for criterion in item.response.labelled:
            label, said = item.response.met[criterion.id] > 0.5, item.said[criterion.id]
            verdict = None if said is None else said > 0.5
            rows.append(
                [label, not label, verdict is True, verdict is False, label and verdict is True, not label and verdict is False]
            )  # fmt: skip
            groups.append(item.response.group)
    return _of_sums("macro_f1", rows, groups, _macro_f1) | _of_sums("kappa", rows, groups, _kappa)


def _macro_f1(sums: Any) -> Any:
    """sums: [..., 6], due yes and no, said yes and no, both yes and both no. F1 is 0 where a verdict was neither due nor given."""
    import numpy as np

    whole = sums[..., 0:2] + sums[..., 2:4]
    return (2 * sums[..., 4:6] / np.where(whole > 0, whole, 1)).mean(-1)


def _kappa(sums: Any) -> Any:
    """sums: as of `_macro_f1`. NaN where both always say the same one thing."""
    import numpy as np

    n = sums[..., 0:2].sum(-1)
    same, expected = sums[..., 4:6].sum(-1) / n, (sums[..., 0:2] * sums[..., 2:4]).sum(-1) / n**2
    return np.where(expected < 1, (same - expected) / np.where(expected < 1, 1 - expected, 1), np.nan)


def calibration(graded: Sequence[Graded]) -> Report:
    """ece, the expected calibration error: |mean P(yes) - share of yes| over `BINS` bins of P(yes), each by its share of judgements.

    calibration: the bins that hold any, as {low, high, n, said (mean P(yes)), met (share of labels that are yes)}.
    """
    import numpy as np

    told = [
        (item.response.group, said, item.response.met[name])
        for item in graded
        for name, said in item.said.items()
        if said is not None
    ]
    rows = np.zeros((len(told), 3 * BINS))
    for row, (_, said, met) in zip(rows, told, strict=True):
        row[min(int(said * BINS), BINS - 1) + BINS * np.arange(3)] = 1, said, met
    if not told:
        return {"ece_n": 0}
    counts, saids, mets = rows.sum(0).reshape(3, BINS).tolist()
    bins = [
        {"low": k / BINS, "high": (k + 1) / BINS, "n": int(n), "said": saids[k] / n, "met": mets[k] / n}
        for k, n in enumerate(counts)
        if n
    ]
    return _of_sums("ece", rows, [group for group, *_ in told], _ece) | {"calibration": bins}


def _ece(sums: Any) -> Any:
    """sums: [..., 3 x BINS], judgements, their P(yes) and their labels by bin."""
    import numpy as np

    counts, said, met = np.moveaxis(sums.reshape(*sums.shape[:-1], 3, BINS), -2, 0)
    return np.abs(said - met).sum(-1) / counts.sum(-1)


def order(graded: Sequence[Graded]) -> Report:
    """Whether answers to one prompt are ordered as by their labels, which is what RL uses: `ordering` of their rewards."""
    scores: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for item in graded:
        scores[item.response.group].append(item.rewards)
    return ordering(scores)


def ordering(scores: Mapping[str, Sequence[tuple[float, float]]]) -> Report:
    """How far judged scores order as true ones do. scores: by group, (true, judged) of each of its answers.

    pair_order: share of pairs of a group whose true scores differ that are judged in that order, a tie counting half.
    rank_correlation: mean over groups with two different true scores of Kendall's tau-b (0 where all are judged the same).
    """
    from scipy import stats  # which planning does without

    # Sums of the same weights in another order would break a tie.
    rounded = {
        group: [(round(true / EQUAL) * EQUAL, round(judged / EQUAL) * EQUAL) for true, judged in pairs]
        for group, pairs in scores.items()
    }
    taus = []
    for group, pairs in rounded.items():
        true_ones, judged_ones = zip(*pairs, strict=True)
        if len(set(true_ones)) > 1:
            varies = len(set(judged_ones)) > 1
            taus.append((group, float(stats.kendalltau(true_ones, judged_ones).statistic) if varies else 0.0))
    alike = [(group, value) for group, pairs in rounded.items() for value in ordered_alike(pairs)]
    return shares({"pair_order": alike, "rank_correlation": taus})


def reward_error(graded: Sequence[Graded], slice_of: Slice) -> Report:
    """reward_error: mean over answers of |reward by the judge - reward by the labels|; a wrong verdict counts by its weight.

    reward_error_PART: the share of all wrongly judged weight (each weight as a share of those of its sign) that is of this slice.
    """
    errors = [(item.response.group, abs(judged - true)) for item in graded for true, judged in [item.rewards]]
    wrong: dict[str, float] = {}
    for item in graded:
        totals = {
            sign: sum(abs(c.weight) for c in item.response.rubric.criteria if c.weight * sign > 0) for sign in (1, -1)
        }
        verdicts = item.met
        for criterion in item.response.labelled:
            part = f"reward_error_{slice_of(criterion).replace(' ', '_')}"
            apart = abs(verdicts[criterion.id] - float(item.response.met[criterion.id] > 0.5))
            wrong[part] = (
                wrong.get(part, 0.0) + apart * abs(criterion.weight) / totals[1 if criterion.weight > 0 else -1]
            )
    whole = sum(wrong.values())
    return shares({"reward_error": errors}) | ({name: value / whole for name, value in wrong.items()} if whole else {})


def exam_groups(graded: Sequence[Graded]) -> tuple[list[Group], dict[str, float], dict[str, dict[str, float]]]:
    """The exam as episodes, one a response: (groups by prompt, true score 0-1 and labels by episode id).

    A verdict's judgements are the judge's P(yes), its reward that of the paper's formula; component `prior`: the share of the
    answer's labels that the best guess which ignores answers gets right.
    """
    prior = prior_of([item.response for item in graded])
    members: dict[str, list[tuple[Episode, Scored]]] = defaultdict(list)
    gold, labels = {}, {}
    for item in graded:
        response, verdicts, together = item.response, item.met, members[item.response.group]
        if not verdicts:
            continue
        task = Task(response.group, tuple(response.prompt), {**response.reference, "rubric": response.rubric.to_json()})
        turn = Turn(POLICY, (), (), (), response.text, "stop", 1.0, 0, 0)
        episode = Episode(task, 0, len(together), (turn,))
        components = {
            "positive": share_met(response.rubric, verdicts, 1),
            "negative": share_met(response.rubric, verdicts, -1),
            "official": official_score(response.rubric, verdicts),
            "prior": fmean(prior[response.group, name] == (response.met[name] > 0.5) for name in verdicts),
        }
        said = {name: value for name, value in item.said.items() if value is not None}
        together.append((episode, Scored(item.rewards[1], components, said)))
        gold[episode.id] = official_score(response.rubric, response.met)
        labels[episode.id] = dict(response.met)
    pairs = [tuple(zip(*together, strict=True)) for together in members.values() if together]
    return [Group(tuple(episodes), tuple(verdicts)) for episodes, verdicts in pairs], gold, labels


def ordered_alike(scores: Sequence[tuple[float, float]]) -> list[float]:
    """For each pair of (true, judged) scores whose true values differ: 1 where the judged ones order it alike, 1/2 for a tie."""
    alike = []
    for index, (true, judged) in enumerate(scores):
        for other_true, other_judged in scores[:index]:
            if abs(true - other_true) > EQUAL:
                tie = abs(judged - other_judged) <= EQUAL
                alike.append(0.5 if tie else float((true > other_true) == (judged > other_judged)))
    return alike


def prior_of(judged: Sequence[Judged]) -> dict[tuple[str, str], bool]:
    """(group, criterion) -> the majority of its labels over all held-out answers; a tie: yes."""
    labels: dict[tuple[str, str], list[float]] = defaultdict(list)
    for response in judged:
        for name, value in response.met.items():
            labels[response.group, name].append(value)
    return {criterion: 2 * sum(values) >= len(values) for criterion, values in labels.items()}


def shares(judgements: Mapping[str, Sequence[tuple[str, float]]]) -> Report:
    """The mean of each, with its number of judgements and its interval over groups; of nothing the number alone."""
    from orchestrator.sweep.statistics import mean_interval  # imports scipy, which planning does without

    report: Report = {}
    for name, values in judgements.items():
        report[f"{name}_n"] = len(values)
        if values:
            interval = mean_interval([float(value) for _, value in values], [group for group, _ in values])
            report |= {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}
    return report


def _of_sums(name: str, rows: Any, groups: Sequence[str], statistic: Callable[[Any], Any]) -> Report:
    """A function of sums over judgements, as `shares` reports one."""
    from orchestrator.sweep.statistics import sums_interval

    found = sums_interval(rows, groups, statistic)
    return {name: found.mean, f"{name}_n": len(groups), f"{name}_low": found.low, f"{name}_high": found.high}
