"""map.html: the map as one page that needs nothing else and no network. A point shows its answer.

As on a run's page, what a model wrote is JSON without a "<" in it, shown by `textContent` alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orchestrator.maps.choice import Answer, Question
from orchestrator.maps.drawing import Map
from orchestrator.maps.grid import cells_of, headers_of, title_of
from orchestrator.maps.measure import Measures
from orchestrator.maps.picture import COLOURS
from orchestrator.records import page, plots, samples
from orchestrator.records.folder import atomic_write
from orchestrator.records.versions import versions

CHARACTERS = 4_000
"""Longest text of a prompt or an answer on the page."""
PALETTE = (plots.BLUE, plots.ORANGE, plots.GREEN, plots.RED, plots.PINK, plots.SKY, plots.GREY, "#5B3F9E")


def write(drawn: Map, path: Path, unredacted: bool = False) -> None:
    """Write the page. unredacted: with texts whose source forbids passing them on."""
    restricted = any(question.restricted for question in drawn.chosen.questions)
    context = {
        "title": " and ".join(drawn.runs),
        "drawn": drawn,
        "high": drawn.wanted.told(),
        "questions": len(drawn.chosen.questions),
        "restricted": restricted,
        "unredacted": unredacted,
        "data": _data(drawn, unredacted),
        "tables": [
            (title_of(basis), headers_of(drawn.runs), list(map(cells_of, basis.lines))) for basis in drawn.bases
        ],
        "versions": versions(),
    }
    atomic_write(path, page.render(context, __name__, "map"))


def _data(drawn: Map, unredacted: bool) -> dict[str, Any]:
    """{"runs", "questions", "points", "texts"}: each text once, and texts that differ apart, also where both are redacted."""
    texts: dict[tuple[str, bool], int] = {}
    questions, points = [], []
    for number, question in enumerate(drawn.chosen.questions):
        hide = question.restricted and not unredacted
        questions.append(_question(question, drawn.bases[0].measured[number].high, hide))
        for place, answer in enumerate(question.high):
            text = texts.setdefault((answer.text, hide), len(texts))
            places = [drawn.places[number][place].tolist()]
            if place < len(drawn.together[number]):
                places.append(drawn.together[number][place].tolist())
            points.append(_point(number, answer, text, places))
    colours = {"palette": PALETTE, "reward": COLOURS}
    return {
        "runs": list(drawn.runs),
        "questions": questions,
        "points": points,
        "texts": [_shown(*text) for text in texts],
        "colours": colours,
    }


def _question(question: Question, found: Measures, hide: bool) -> dict[str, Any]:
    return {
        "run": question.run,
        "task": question.task,
        "messages": [[message["role"], _shown(message["content"], hide)] for message in question.messages],
        "says": f"distance {found.distance:.2f} · Vendi {found.vendi:.1f} · {found.distinct:.0%} distinct",
    }


def _point(question: int, answer: Answer, text: int, places: list[list[float]]) -> list[Any]:
    """[question, episode, reward, tokens, text, [x, y] among its question's, [x, y] among all if it is there]."""
    rounded = [[round(value, 4) for value in place] for place in places]
    return [question, answer.id, float(f"{answer.reward:.5g}"), answer.tokens, text, *rounded]


def _shown(text: str, hide: bool) -> str:
    if hide:
        return samples.hidden(text) or ""
    most = CHARACTERS
    return text if len(text) <= most else f"{text[:most]}\n… {len(text):,} characters, the first {most:,} are shown"
