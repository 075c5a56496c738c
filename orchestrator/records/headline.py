"""The numbers of summary.json in the order and the words in which people read them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.records.display import duration

EXAM_SHARES = {
    "accuracy": "held-out accuracy",
    "prior_accuracy": "best guess that ignores the answer",
    "kappa": "Cohen's kappa",
    "macro_f1": "macro F1",
    "negative_recall": "recall on negative criteria",
    "ece": "calibration error of P(yes)",
    "pair_order": "pairs in the right order",
    "rank_correlation": "rank correlation in a prompt",
    "reward_error": "mean error of the reward",
    "injection_flips": "turned by a planted verdict",
    "obedience": "instructions followed to the letter",
    "garbled": "answers of another form",
}
"""What a rater's exam measured, as ROLE.json names it -> in words."""


@dataclass(frozen=True, slots=True)
class Line:
    """One number. interval: 95 %. n: what it is over. Empty where there is none."""

    label: str
    value: str
    interval: str = ""
    n: str = ""
    main: bool = False


def headline(summary: Mapping[str, Any]) -> list[list[Line]]:
    """Held-out scores, or those of benchmarks, the exams of raters, everything else; what the summary does not hold is left out."""
    exams = {"judge": summary.get("judge", {}), **summary.get("raters", {})}
    sections = [
        _scores(summary),
        _parts(summary.get("evaluation", {})),
        *(_exam(role, exam) for role, exam in exams.items()),
        _details(summary),
    ]
    return [section for section in sections if section]


def _scores(summary: Mapping[str, Any]) -> list[Line]:
    lines: list[Line] = []
    # A single evaluation is first, last and best.
    moments = ("first", "last", "best") if summary.get("first") != summary.get("last") else ("last",)
    for label, key, n in (
        ("held-out oracle", "oracle", "oracle_n"), ("held-out judge", "judge", "n"), ("held-out reward", "reward", "n"),
    ):  # fmt: skip
        # The best is the best by the first of these that there is.
        for when in moments[:2] if lines else moments:
            values = summary.get(when, {})
            if key in values:
                interval = _interval(values.get(f"{key}_low"), values.get(f"{key}_high"))
                name = f"{label}, {when} (step {values['step']})"
                lines.append(Line(name, f"{values[key]:.3f}", interval, f"{values[n]:.0f}" if n in values else ""))
    if "oracle_gain" in summary:
        gain = summary["oracle_gain"]
        interval = _interval(gain["low"], gain["high"])
        lines.append(Line("gain of the oracle score", f"{gain['mean']:+.3f}", interval, f"{gain['n']}", main=True))
    for key, by in (("best_of_n", ""), ("best_of_n_judge", ", by the judge"), ("best_of_n_reward", ", by the reward")):
        if key in summary:
            lines.append(Line(f"best of {summary['best_of']:.0f} of the starting policy{by}", f"{summary[key]:.3f}"))
    return lines


def _parts(evaluation: Mapping[str, Any]) -> list[Line]:
    """The scores of an evaluation, a line a benchmark; of one that training touched none."""
    lines = []
    for part in evaluation.get("parts", ()):
        score, chance = part["score"], f"{part['part']} (chance {part['chance']:.3f})"
        if score is None:
            lines.append(Line(f"{part['part']}: touched by training ({part['touched']['run']})", ""))
        else:
            interval = _interval(score["low"], score["high"])
            lines.append(Line(chance, f"{score['mean']:.3f}", interval, f"{score['n']}", main=True))
    return lines


def _exam(role: str, exam: Mapping[str, Any]) -> list[Line]:
    bounds = {name: f" (≥ {bound:g})" for name, bound in exam.get("gate", {}).items()}
    if resistance := exam.get("gate", {}).get("injection_resistance"):
        bounds["injection_flips"] = f" (≤ {1 - resistance:g})"
    lines = [
        Line(
            f"{role}: {label}{bounds.get(key, '')}",
            f"{exam[key]:.3f}",
            _interval(exam.get(f"{key}_low"), exam.get(f"{key}_high")),
            f"{exam.get(f'{key}_n', '')}",
        )
        for key, label in EXAM_SHARES.items()
        if isinstance(exam.get(key), float | int)
    ]
    if exam.get("gate"):
        missed = [name for name, bound in exam["gate"].items() if not exam.get(name, math.nan) >= bound]
        lines.append(Line(f"{role}: gate", f"missed ({', '.join(missed)})" if missed else "passed", main=True))
    if exam.get("unlabelled"):
        lines.append(Line(f"{role}: questions that its teacher left open", f"{exam['unlabelled']:,}"))
    if "dilemmas" in exam:
        lines.append(Line(f"{role}: groups in its exam, which the intervals are over", f"{exam['dilemmas']}"))
    return lines


def _interval(low: float | None, high: float | None) -> str:
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return f"{low:.3f} … {high:.3f}"


def _contamination(found: Mapping[str, Any]) -> list[Line]:
    """What of the training data stands in evaluation data, a line for each thing that is trained on; nothing where none does."""
    done = {"drop": "dropped", "report": "trained on all the same"}
    return [
        Line(f"in evaluation data: {'training tasks' if name == 'tasks' else f'examples for the {name}'}, {done[found['action']]}",
             f"{count:,} of {found['trained'][name]:,}")
        for name, count in found.get("touched", {}).items()
    ] + [
        Line(f"{row['split']} tasks that {row['model']} was trained on ({row['run']})", f"{row['tasks']:,} of {row['of']:,}")
        for row in found.get("inherited", ())
    ]  # fmt: skip


def _details(summary: Mapping[str, Any]) -> list[Line]:
    """Everything that has no interval."""
    details = []
    if "gold_gap" in summary.get("last", {}):
        by = "judge" if "judge" in summary["last"] else "reward"
        details.append(Line(f"{by} minus oracle at the end", f"{summary['last']['gold_gap']:+.3f}"))
    if "logprob_gap_max" in summary:
        details.append(Line("largest trainer-engine gap", f"{summary['logprob_gap_max']:.1e} nats"))
    details += _contamination(summary.get("contamination", {}))
    if "tokens_generated" in summary:
        details.append(Line("tokens generated", f"{summary['tokens_generated']:,}"))
    if "seconds" in summary:
        seconds = summary["seconds"]
        details.append(Line("time, lessons and evaluations included", duration(seconds["total"])))
        largest = sorted(((value, name) for name, value in seconds.items() if name != "total"), reverse=True)[:4]
        details += [Line(f"  {name}", duration(value)) for value, name in largest]
    if summary.get("gpu_seconds"):
        details.append(Line("GPU time", duration(summary["gpu_seconds"])))
    if "busy_share" in summary:
        kind = "GPU" if summary["gpu_seconds"] else "CPU"
        details.append(Line(f"{kind} time held that was busy", f"{summary['busy_share']:.0%}"))
    if "peak_memory_bytes" in summary:
        details.append(Line("peak memory, all processes", f"{summary['peak_memory_bytes'] / 1e9:.1f} GB"))
    if "faults" in summary:
        faults = "  ".join(f"{name} {count}" for name, count in summary["faults"].items() if count)
        details.append(Line("faults", faults or "none"))
    return details
