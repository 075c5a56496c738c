"""Judging answers that are there already, with a judge behind a URL that goes by the words of its question."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from fakes.answerers import FakeAnswerer
from fakes.openai_server import OpenAIServer, Reply, completion, serving
from typer.testing import CliRunner

from orchestrator import cli
from orchestrator.cluster.preflight import Node
from orchestrator.errors import ConfigError, RunError
from orchestrator.fleets import alone
from orchestrator.fleets.specs import ServerSpec
from orchestrator.rollouts import judge_file
from orchestrator.rollouts.judge_file import Scores, score_file
from orchestrator.values import Choice

RUBRIC = """\
version: 1
name: mine
criteria:
  - {id: paris, text: It says Paris., weight: 3}
  - {id: short, text: It is short., weight: 1}
  - {id: rude, text: It is rude., weight: -2}
"""
ROWS = [
    {"prompt": "Capital of France?", "response": "Paris, you fool"},
    {"prompt": "Capital of France?", "response": "It is Paris, as everybody who went to school there will know"},
    {"prompt": "And where is the Louvre?", "answer": ["Paris", "Lyon"]},
    {
        "id": "own",
        "prompt": "Where is the Prado?",
        "response": "Madrid",
        "criteria": [{"id": "x", "text": "It says Madrid.", "weight": 2}],
    },
]


def judge(body: dict[str, Any], number: int) -> Reply:
    """Right about every criterion, with P(yes) + P(no) of 0.9."""
    content = body["messages"][-1]["content"]
    response = content.split("The response:\n")[1].split("\n\nDoes the response")[0]
    if "(nobody can tell)" in response:
        return 503, {"error": {"message": "overloaded"}}
    said = re.search(r"Criterion: It says (\w+)\.", content)
    met = said[1] in response if said else len(response) < 30 if "short" in content else "fool" in response
    word, other = ("yes", "no") if met else ("no", "yes")
    return 200, completion(word, {word: math.log(0.8), other: math.log(0.1)})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    Path("rubric.yaml").write_text(RUBRIC)
    return tmp_path


def answers(*rows: dict[str, Any]) -> Path:
    Path("answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Path("answers.jsonl")


def scores_of(*rows: dict[str, Any], out: str | None = None) -> Scores:
    with serving(OpenAIServer(judge)) as server:
        return score_file(answers(*rows), Path("rubric.yaml"), [f"judge={server.url}"], Path(out) if out else None)


def test_scores_by_hand(folder: Path) -> None:
    """Of the weights 3, 1, -2 (6 in all): the fool earns 3 + 1 of 6, the long one 3 + 2, Paris all 6, Lyon 1 + 2; Madrid has a
    criterion of weight 2 of its own: 1 + 2 + 2 of 8."""
    found = scores_of(*ROWS, out="scores.parquet")
    official = [4 / 6, 5 / 6, 1.0, 3 / 6, 5 / 8]
    rewards = [4 / 4 - 1, 3 / 4, 1.0, 1 / 4, 3 / 6]
    assert (found.answers, found.unscored, found.reason) == (5, 0, None)
    assert found.score.mean == pytest.approx(sum(official) / 5)
    assert found.reward.mean == pytest.approx(sum(rewards) / 5)
    # the units are prompts: three of them, not five answers
    assert found.score.n == found.reward.n == 3
    assert found.score.low < found.score.mean < found.score.high
    table = {row.name: (row.weight, row.n, row.met, row.mass) for row in found.criteria}
    assert table == {
        "paris": ("3", 5, 3 / 5, pytest.approx(0.9)),
        "short": ("1", 5, 4 / 5, pytest.approx(0.9)),
        "rude": ("-2", 5, 1 / 5, pytest.approx(0.9)),
        "(criteria of single rows)": ("", 1, 1.0, pytest.approx(0.9)),
    }
    rows = pq.read_table("scores.parquet").to_pylist()
    assert [row["response"] for row in rows] == ["Paris, you fool", ROWS[1]["response"], "Paris", "Lyon", "Madrid"]
    assert [row["reward"] for row in rows] == pytest.approx(rewards)
    assert dict(rows[4]["verdicts"]) == pytest.approx({"paris": 1 / 9, "short": 8 / 9, "rude": 1 / 9, "x": 8 / 9})
    assert dict(rows[0]["components"])["official"] == pytest.approx(4 / 6)
    assert (rows[4]["id"], rows[4]["where"]) == ("own", "answers.jsonl row 3 (line 4)")


def test_what_the_judge_fails_on_is_counted_and_never_a_zero(folder: Path) -> None:
    lost = {"prompt": "Well?", "response": "(nobody can tell)"}
    found = scores_of(ROWS[0], lost, out="scores.jsonl")
    assert (found.answers, found.unscored) == (2, 1)
    assert found.score.mean == pytest.approx(4 / 6)
    assert found.reason is not None
    assert "overloaded" in found.reason
    rows = [json.loads(line) for line in Path("scores.jsonl").read_text().splitlines()]
    assert (rows[1]["reward"], rows[1]["components"], rows[1]["verdicts"]) == (None, None, None)
    assert "overloaded" in rows[1]["unscored"]
    with pytest.raises(RunError, match=r"none of the 1 answers could be scored. The first reason: .*overloaded"):
        scores_of(lost)


def test_an_answer_that_the_judge_refuses_to_read_is_told(folder: Path) -> None:
    """It breaks a judge that answers the control question: nothing good is met, all that is bad is. The other earns 4 of 6."""

    def refuses(body: dict[str, Any], number: int) -> Reply:
        if "zzz" in body["messages"][-1]["content"]:
            return 400, {"error": {"message": "too long"}}
        return judge(body, number)

    with serving(OpenAIServer(refuses)) as server:
        path = answers(ROWS[0], {"prompt": "Well?", "response": "zzz"})
        found = score_file(path, Path("rubric.yaml"), [f"judge={server.url}"])
    assert (found.answers, found.unscored, found.unreadable) == (2, 0, 1)
    assert found.score.mean == pytest.approx((4 / 6 + 0) / 2)


def test_the_verb_prints_a_table(folder: Path) -> None:
    with serving(OpenAIServer(judge)) as server:
        words = [
            "judge",
            str(answers(*ROWS)),
            "rubric.yaml",
            f"judge={server.url}",
            "reward.formula=official",
            "--out",
            "s.jsonl",
        ]
        done = CliRunner().invoke(cli.app, words)
    assert (done.exit_code, done.stderr) == (0, "")
    assert re.search(r"paris +3 +0\.600 +5 +0\.900", done.stdout)
    assert re.search(r"score \(0 to 1\): 0\.725 \(95 % 0\.\d+ to 0\.\d+, over 3 prompts\)", done.stdout)
    assert "answers: 5, unscored: 0" in done.stdout
    assert len(Path("s.jsonl").read_text().splitlines()) == 5


@pytest.mark.parametrize(
    ("row", "words", "message"),
    [
        ({"prompt": "x"}, [], r"answers\.jsonl row 0 \(line 1\): neither field 'response' nor 'answer' is there"),
        ({"prompt": "x", "response": 3}, [], r"row 0 \(line 1\): field 'response' is 3"),
        ({"prompt": "x", "response": "y", "criteria": []}, [], r"row 0 \(line 1\): field 'criteria'"),
        (
            ROWS[0],
            ["judge=mini"],
            r"judge\.name=mini: nothing teaches this model.* hf:ID, or for a judge the URL of a server",
        ),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_asked(
    folder: Path, row: dict[str, Any], words: list[str], message: str
) -> None:
    with serving(OpenAIServer(judge)) as server, pytest.raises(RunError, match=message):
        score_file(answers(row), Path("rubric.yaml"), [f"judge={server.url}", *words])
    assert not server.requests
    with pytest.raises(ConfigError, match=r"s\.csv: scores are written as one of \.jsonl, \.parquet"):
        score_file(answers(row), Path("rubric.yaml"), [], Path("s.csv"))


def test_a_judge_of_ones_own_is_served_and_ended(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers for the judge alone, whatever the placement of a run would be; they end with the block, also where it fails."""
    killed: list[str] = []
    asked: list[ServerSpec] = []

    class Ray:
        kill = killed.append

    class Served(FakeAnswerer):
        def __init__(self, role: str, servers: list[str], *deadlines: float) -> None:
            super().__init__(lambda call, attempt: Choice({"yes": 0.5, "no": 0.1}))
            assert (role, servers) == ("judge", ["judge-0"])

        def wait_ready(self) -> None:
            assert not killed

    def start(specs: Sequence[ServerSpec]) -> list[str]:
        asked.extend(specs)
        return [spec.name for spec in specs]

    @contextmanager
    def connected(cluster: object) -> Iterator[type[Ray]]:
        yield Ray

    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (folder / "weights").mkdir(exist_ok=True)
        (folder / "weights" / name).write_text("{}")
    monkeypatch.setattr(alone, "start_servers", start)
    monkeypatch.setattr(alone, "Fleet", Served)
    monkeypatch.setattr(alone, "connected", connected)
    monkeypatch.setattr(alone, "nodes_there", lambda cluster: [Node("one", 2, 1)])
    monkeypatch.setattr(alone, "wait_for_room", lambda plan, deadline_s, tell: None)
    monkeypatch.setattr(alone, "check_engines", lambda plan: None)

    class Tokenizer:
        """A token a character."""

        def __call__(self, texts: Sequence[str]) -> dict[str, list[list[int]]]:
            return {"input_ids": [[0] * len(text) for text in texts]}

    monkeypatch.setattr(judge_file, "load_tokenizer", lambda folder: Tokenizer())
    long = {"prompt": "x" * 4000, "response": "y" * 6000}
    found = score_file(answers(ROWS[0], long), Path("rubric.yaml"), ["judge=path:weights", "hardware=1x24GB"])
    # it says yes to all: 4/4 - 2/2
    assert found.reward.mean == pytest.approx(0.0)
    (spec,) = asked
    assert (spec.folder, spec.trained, spec.seat, spec.fleet.gpus_per_server) == ("weights", True, None, 1)
    assert killed == ["judge-0"]
    # the long row, and room for the question
    assert spec.model.context_tokens == 10_000 + 1024
