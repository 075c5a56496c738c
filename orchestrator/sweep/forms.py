"""What may be written in a sweep's file, part by part."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from orchestrator.config.keys import WORDS

SWEEP: Mapping[str, Any] = {
    "about": str,
    "target": str,
    "metric": str,
    "mode": ("max", "min"),
    "at_once": int,
    "judge_chooses": bool,
    "settings": dict,
    "runs": dict,
}
NODE: Mapping[str, Any] = {
    "target": str,
    "settings": dict,
    "arms": dict,
    "search": dict,
    "tuning": dict,
    "seeds": object,
}
TUNING: Mapping[str, Any] = {
    "trials": int,
    "searcher": ("grid", "random", "optuna"),
    "scheduler": ("none", "asha", "pbt"),
    "seed": int,
    "repeats": int,
    "hours": float,
    "gpu_hours": float,
    "grace_steps": int,
    "reduction": int,
    "every_steps": int,
}
"""What may be written -> its type, or the words to choose from."""


def read(written: Any, form: Mapping[str, Any], place: str) -> tuple[dict[str, Any], list[str]]:
    """(what is well-formed of a mapping, what is wrong with the rest). form: SWEEP, NODE or TUNING. place: where it is written."""
    if not isinstance(written, Mapping):
        return {}, [f"{place}: must hold some of {', '.join(form)}."]
    good, problems = {}, []
    for key, value in written.items():
        if key not in form:
            nearest = difflib.get_close_matches(str(key), form, n=1)
            hint = f"Did you mean {nearest[0]}?" if nearest else f"There are: {', '.join(form)}."
            problems.append(f"{place}, {key}: there is no such key. {hint}")
        elif wrong := _wrong(key, value, form[key]):
            problems.append(f"{place}, {key}={value}: must be {wrong}.")
        else:
            good[key] = value
    return good, problems


def _wrong(key: str, value: Any, kind: Any) -> str:
    """What a value must be and is not; nothing where it is."""
    if isinstance(kind, tuple):
        return "" if value in kind else f"one of {', '.join(kind)}"
    if kind is dict:
        return "" if isinstance(value, Mapping) else "a mapping"
    if kind in (int, float):
        least = 0 if key == "seed" else 1 if kind is int else 1e-9
        number = isinstance(value, (int, kind)) and not isinstance(value, bool) and value >= least
        return "" if number else f"{WORDS[kind]}{' of at least 1' if least == 1 else ' above 0' if least else ''}"
    return "" if isinstance(value, kind) else WORDS.get(kind, "text")
