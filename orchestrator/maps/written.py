"""The folder of a map: map.json, map.png, map.html."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import sklearn

from orchestrator.errors import ConfigError
from orchestrator.maps import page, picture
from orchestrator.maps.compare import as_data
from orchestrator.maps.drawing import Basis, Map
from orchestrator.maps.measure import Measures
from orchestrator.records.folder import unwritable, write_json
from orchestrator.records.versions import versions

FORMAT = 1


def check_place(folder: Path) -> None:
    """Raises ConfigError where no map can be written: before the work, not after."""
    if problem := unwritable(folder):
        raise ConfigError(f"--out {folder}: {problem}. Name a folder that can be written.")


def write(drawn: Map, folder: Path, unredacted: bool = False) -> list[Path]:
    """Write the three files, in the place of those that are there. unredacted: the page shows texts too whose source forbids passing
    them on; the other files hold no text."""
    paths = [folder / name for name in ("map.html", "map.png", "map.json")]
    page.write(drawn, paths[0], unredacted)
    picture.write(drawn, paths[1])
    write_json(paths[2], as_json(drawn))
    return paths


def as_json(drawn: Map) -> dict[str, Any]:
    """All that is needed to compute it again, and what it came to. Texts are in the files of episodes, by id and digest."""
    return {
        "format": FORMAT,
        "settings": asdict(drawn.wanted) | asdict(drawn.asked) | {"labels": list(drawn.runs)},
        "sources": {label: asdict(source) for label, source in drawn.chosen.sources.items()},
        "versions": versions() | {"scikit-learn": sklearn.__version__},
        "n": drawn.chosen.n,
        "embedding": dict(drawn.embedding),
        "perplexity": {"question": drawn.perplexities[0], "together": drawn.perplexities[1]},
        "notes": list(drawn.notes),
        "statistics": {basis.name: _statistics(basis, drawn) for basis in drawn.bases},
        "questions": list(_questions(drawn)),
    }


def _statistics(basis: Basis, drawn: Map) -> dict[str, Any]:
    def plain(measures: Measures | None) -> dict[str, float] | None:
        return asdict(measures) if measures else None

    return {
        "n": basis.n,
        "questions": [
            {"run": one.run, "task": one.key[0], "high": plain(one.high), "large": plain(one.large)}
            for one in basis.measured
        ],
        "means": [as_data(line, drawn.runs) for line in basis.lines],
    }


def _questions(drawn: Map) -> Iterator[dict[str, Any]]:
    for question, places, together in zip(drawn.chosen.questions, drawn.places, drawn.together, strict=True):
        counts = {name: getattr(question, name) for name in ("scored", "found_high", "unscored", "empty", "threshold")}
        yield {
            "run": question.run,
            "task": question.task,
            **counts,
            "points": [
                {
                    "episode": answer.id,
                    "reward": answer.reward,
                    "tokens": answer.tokens,
                    "place": [round(value, 5) for value in places[number].tolist()],
                    "together": [round(value, 5) for value in together[number].tolist()]
                    if number < len(together)
                    else None,
                }
                for number, answer in enumerate(question.high)
            ],
            "large": [answer.id for answer in question.large],
        }
