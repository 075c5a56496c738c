"""report.html: a run as one page that needs nothing else, no network and, but for the browser of episodes, no JavaScript.

Whatever a model wrote reaches the page as JSON without a "<" in it, and is shown by `textContent` alone.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from orchestrator.config.compose import to_values
from orchestrator.config.schema import RunConfig
from orchestrator.records import samples
from orchestrator.records.diagnosis import RULES, Finding
from orchestrator.records.folder import RunFolder, atomic_write, read_json
from orchestrator.records.headline import headline
from orchestrator.records.page.browser import browsed
from orchestrator.records.page.figures import drawings
from orchestrator.values import JUDGE

MOST_EPISODES = 300
_FACTS = {
    "model": "model.name", "judge": "judge.name", "algorithm": "algorithm.name", "preset": "preset", "seed": "seed",
    "data": "data.source",
}  # fmt: skip
CAPTIONS = {
    "reward": "What the policy is trained on. Components that part from the reward say which of them it earns.",
    "evaluation": "Tasks that are never trained on. A judge that rises while the truth does not is being exploited.",
    "gold": "Each evaluation. A path that bends below the dotted line: the judge is more pleased than it should be.",
    "policy": "Entropy that falls to nothing ends exploration; KL is the distance from the starting policy.",
    "gap": "Learner and engines rate the same tokens alike while this stays flat.",
    "length": "Tokens an answer, and how many were cut off before their end.",
    "time": "Seconds of each step, by what they were spent on.",
    "faults": "Questions asked again, episodes without a verdict, servers lost.",
    "accuracy": "The judge's exam before training. Accuracy means little where a guess comes close.",
    "calibration": "Points below the line: it says yes more surely than it should.",
    "reward_error": "Wrong verdicts by their weight: which kind of criterion to teach.",
    "judge": "Ordering answers rightly and not being talked into a verdict is what a reward needs.",
}


@dataclass(frozen=True, slots=True)
class Setting:
    """A line of the settings: a leaf with its value as JSON, or the name of a group (value None).

    default: the typed default where the value is another one, else None.
    """

    depth: int
    name: str
    value: str | None = None
    default: str | None = None


def write(folder: RunFolder, summary: Mapping[str, Any], findings: Sequence[Finding], unredacted: bool = False) -> Path:
    """Write the run's report.html and return its path. unredacted: with texts whose source forbids passing them on."""
    rows, total = samples.choose(folder, MOST_EPISODES, unredacted=unredacted)
    settings, restricted = folder.settings(), samples.any_restricted(folder)
    if restricted and not unredacted and "reason" in summary:
        # Why a run failed may quote what a reward function or a judge said of a task.
        summary = {**summary, "reason": f"{samples.hidden(summary['reason'])}. It is in {folder.summary.name}."}
    context = {
        "summary": summary,
        "unredacted": unredacted and restricted,
        "findings": findings,
        "rules": [rule.name for rule in RULES],
        "facts": _facts(folder, settings),
        "sections": headline(summary),
        "drawings": [(drawing, Markup(drawing.svg), CAPTIONS[drawing.name]) for drawing in drawings(folder)],
        "episodes": browsed(rows),
        "shown": len(rows),
        "total": total,
        "redacted": 0 if unredacted else sum(row["restricted"] for row in rows),
        "settings": list(_settings(settings, to_values(RunConfig()))),
        "versions": settings.get("versions") or {},
    }
    atomic_write(folder.report, render(context))
    return folder.report


def _facts(folder: RunFolder, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What the page's head tells. The settings of a judge are there in every run; models.json names those that are asked."""
    found = {name: value for name, key in _FACTS.items() if (value := _at(settings, key)) is not None}
    served = read_json(folder.models) if folder.models.exists() else {}
    if JUDGE not in served and "://" not in found.get(JUDGE, ""):
        found.pop(JUDGE, None)
    return found


def render(context: Mapping[str, Any], package: str = __name__, name: str = "page") -> str:
    """A page from what its template names: NAME.html of a package, with its NAME.js and the style of all pages."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "allow_nan": False, "separators": (",", ":")}
    script = _file(package, f"{name}.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # Only this very script may run, and nothing may be fetched.
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'"
    )
    assets = {"policy": policy, "script": Markup(script), "style": Markup(_file(__name__, "page.css"))}
    return environment.from_string(_file(package, f"{name}.html")).render(**context, **assets)


def _file(package: str, name: str) -> str:
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")


def _at(settings: Mapping[str, Any], key: str) -> Any:
    value: Any = settings
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _settings(tree: Mapping[str, Any], defaults: Mapping[str, Any], depth: int = 0) -> Iterator[Setting]:
    """The lines of config.yaml. A workload's own settings have no default here: its file is not run for a report."""
    for name, value in tree.items():
        if depth == 0 and name in ("versions", "format"):
            continue
        default = defaults.get(name, value)
        if isinstance(value, Mapping):
            yield Setting(depth, name)
            yield from _settings(value, default if isinstance(default, Mapping) else {}, depth + 1)
        else:
            differs = value != default and not (depth == 0 and name in ("workload", "name"))
            yield Setting(depth, name, _json(value), _json(default) if differs else None)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
