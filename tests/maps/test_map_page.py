"""A map from stored runs to its three files: what they hold, that nothing a model wrote can act, and how the page behaves."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from fakes.pages import Elements, opened
from stored import say, store
from typer.testing import CliRunner

from orchestrator import cli
from orchestrator.maps import written
from orchestrator.maps.choice import Wanted, labelled
from orchestrator.maps.drawing import Asked, Map, draw_map
from orchestrator.records import samples
from orchestrator.records.folder import RunFolder, read_json

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)> & \u2028 ends"
WANTED = Wanted(split="test", per_task=8)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """`wide` says sixteen different things to each of three questions, `narrow` one thing sixteen times; both share q0, of which
    narrow's best answer is hostile. `secret` is restricted."""
    storage = tmp_path_factory.mktemp("runs")
    wide = {name: say(16, f"{name} sun") for name in ("q0", "q1", "q2")}
    narrow = {name: [("one and the same way", number / 100) for number in range(16)] for name in ("q0", "q4")}
    narrow["q0"][-1] = (HOSTILE, 0.9)
    narrow["secret"] = [(f"private words {number}", number / 100) for number in range(16)]
    folders = [store(storage, "wide", wide), store(storage, "narrow", narrow, restricted=["secret"])]
    return [folder.path for folder in folders]


@pytest.fixture(scope="module")
def drawn(runs: list[Path]) -> Map:
    return draw_map(labelled(runs), WANTED, Asked(), Path("runs"))


@pytest.fixture(scope="module")
def folder(drawn: Map, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three files."""
    out = tmp_path_factory.mktemp("out") / "map"
    assert [path.name for path in written.write(drawn, out)] == ["map.html", "map.png", "map.json"]
    return out


# q4 of narrow has one text: distance 0, Vendi score 1, one of 8 texts distinct, all at the middle of its panel.
def test_a_policy_that_repeats_itself_is_concentrated(drawn: Map) -> None:
    equal = drawn.bases[0]
    by_key = {(one.run, one.key[0]): one for one in equal.measured}
    same = by_key["narrow", "q4"].high
    assert (same.n, same.distance, same.distinct, same.kmeans) == (8, pytest.approx(0, abs=1e-9), 1 / 8, 1)
    assert same.vendi == pytest.approx(1)
    (number,) = (place for place, question in enumerate(drawn.chosen.questions) if question.task == "q4")
    assert not drawn.places[number].any()
    distance = next(line for line in equal.lines if (line.statistic.name, line.of) == ("distance", "high reward"))
    wide, narrow = (found.mean for found in distance.means if found)
    assert wide == pytest.approx(sum(by_key["wide", f"q{n}"].high.distance for n in range(3)) / 3)
    (difference,) = distance.differences
    assert difference is not None
    assert difference.mean == pytest.approx(narrow - wide)
    assert difference.n == 3


def test_the_same_again_gives_the_same_file(runs: list[Path], drawn: Map, folder: Path) -> None:
    again = written.as_json(draw_map(labelled(runs), WANTED, Asked(), Path("runs")))
    told = read_json(folder / "map.json")
    assert json.dumps(again["questions"]) == json.dumps(told["questions"])
    assert told["settings"]["per_task"] == 8
    assert told["sources"]["narrow"]["file"] == "rlvr/narrow/episodes/test-000003.parquet"
    assert len(told["sources"]["narrow"]["digest"]) == 64
    assert {"scikit-learn", "commit"} <= set(told["versions"])
    assert "private" not in (folder / "map.json").read_text()
    assert len(told["questions"]) == 6
    assert all(len(question["points"]) == 8 for question in told["questions"])
    assert (folder / "map.png").read_bytes()[:4] == b"\x89PNG"


def test_the_page_stands_alone_and_nothing_in_it_acts(folder: Path) -> None:
    text = (folder / "map.html").read_text(encoding="utf-8")
    elements = Elements(text)
    assert [attrs.get("type") for tag, attrs in elements.found if tag == "script"] == ["application/json", None]
    assert not [name for _, attrs in elements.found for name in attrs if name.startswith("on")]
    assert not [tag for tag, _ in elements.found if tag in ("img", "iframe", "object", "embed", "base")]
    references = [str(attrs[name]) for _, attrs in elements.found for name in ("src", "href") if name in attrs]
    assert all(reference.startswith("#") or reference == "data:," for reference in references)
    data, script = elements.scripts
    assert not set("<>&") & set(data)
    assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|eval\(|</|<!--", script)
    assert HOSTILE in json.loads(data)["texts"]
    for shown in ("narrow less wide", "At equal n: 8 answers of each question", "Vendi score", "SHA-256"):
        assert shown in text, shown


def test_restricted_texts_are_redacted_unless_asked_for(drawn: Map, folder: Path, tmp_path: Path) -> None:
    text = (folder / "map.html").read_text(encoding="utf-8")
    assert "private words" not in text
    assert "what of secret" not in text
    assert samples.REDACTED in text
    # Redacted texts of one length look alike and stay several: "same text" counts those that are.
    data = json.loads(Elements(text).scripts[0])
    answers = {answer.text for question in drawn.chosen.questions for answer in question.high}
    assert len(data["texts"]) == len(answers) > len(set(data["texts"]))
    written.write(drawn, tmp_path, unredacted=True)
    text = (tmp_path / "map.html").read_text(encoding="utf-8")
    assert "private words" in text
    assert "Unredacted: holds texts" in text


def test_in_a_browser_a_point_shows_its_answer_as_text(drawn: Map, folder: Path) -> None:
    number = [answer.text for question in drawn.chosen.questions for answer in question.high].index(HOSTILE)
    shown, console = opened(folder / "map.html", f"point={number}")
    assert console == ""
    assert shown.count("<canvas") == 6
    answer = "&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;&lt;img src=x onerror=alert(2)&gt; &amp; \u2028 ends"
    assert f'<pre class="answer">{answer}</pre>' in shown
    assert "<h3>narrow, q0</h3>" in shown
    assert "what of q0 ?" in shown
    assert re.search(r"reward <b>0\.9</b>", shown)
    assert "<img" not in shown
    assert re.search(r"wide: reward 0\.08.*0\.15", shown)


def test_in_a_browser_all_questions_are_on_one_map_by_run(drawn: Map, folder: Path) -> None:
    """q4 of narrow says the same text eight times."""
    number = next(
        place
        for place, question in enumerate(q for q in drawn.chosen.questions for _ in q.high)
        if question.task == "q4"
    )
    shown, console = opened(folder / "map.html", f"view=together&colour=run&point={number}")
    assert console == ""
    assert shown.count("<canvas") == 1
    assert "6 questions in one map" in shown
    assert "48 answers, all questions" in shown
    assert re.search(r"same text <b>8 times</b>", shown)
    assert shown.count("<i ") + shown.count("<i>") == 2  # a mark a run in the legend


def test_the_verb_draws_and_refuses(runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def orchestrate(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(cli.app, ["map", *words, "--storage", str(runs[0].parents[1])])
        return done.exit_code, done.stdout + done.stderr

    out = str(tmp_path / "out")
    status, told = orchestrate(
        "wide", "narrow", "--split", "test", "--tasks", "1", "--out", out, "--label", "W", "--label", "N"
    )
    assert status == 0, told
    assert "N less W" in told
    assert read_json(tmp_path / "out" / "map.json")["settings"]["labels"] == ["W", "N"]
    (tmp_path / "file").write_text("")
    for words, message in (
        (["nobody", "--out", out], "No run 'nobody'"),
        (["wide", "--out", out], "has no eval episodes"),
        (["wide", "--split", "test", "--out", str(tmp_path / "file" / "x")], "is not a folder"),
        (["wide", "--split", "test", "--out", out, "--top", "0.5", "--least", "1"], "give one of them"),
        (["wide", "--split", "test", "--out", out, "--step", "first"], "--step first: a whole number, or last."),
        (
            ["wide", "--split", "test", "--out", out, "--perplexity", "8"],
            "--perplexity 8: a question has 8 answers here",
        ),
        (["wide", "--split", "test", "--out", out, "--embed", "nothing"], "--embed nothing: write words"),
        (["wide", "--split", "test", "--out", out, "--seed", "-1"], "Invalid value for '--seed'"),
    ):
        status, told = orchestrate(*words)
        assert (status, message in told) == (2, True), told


def test_runs_of_unlike_lengths_are_not_measured_at_matched_length(tmp_path: Path) -> None:
    """Texts of some 30 characters and of some 300 share no class of length."""
    short = store(tmp_path, "short", {"q0": say(16, "sun")})
    long = store(
        tmp_path, "long", {"q1": [(f"{text} {'and so on ' * 30}", reward) for text, reward in say(16, "moon")]}
    )
    runs: dict[str, RunFolder] = {"short": short, "long": long}
    drawn = draw_map(runs, WANTED, Asked(), Path("runs"))
    assert [basis.name for basis in drawn.bases] == ["equal n"]
    assert "At matched length nothing is measured" in drawn.notes[-1]
    one = draw_map({"short": short}, WANTED, Asked(), Path("runs"))
    line = one.bases[0].lines[0]
    assert line.means[0] is not None
    assert line.means[0].n == 1
    assert written.as_json(one)["statistics"]["equal n"]["means"][0]["runs"]["short"]["n"] == 1
