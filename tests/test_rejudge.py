"""Stored episodes before another judge, which stands behind a URL and goes by the words of its question."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from fakes.openai_server import OpenAIServer, Reply, completion, serving
from typer.testing import CliRunner

from orchestrator import cli
from orchestrator.config.compose import compose, to_values
from orchestrator.config.workloads import find_workload
from orchestrator.errors import ConfigError, RunError
from orchestrator.records import episodes
from orchestrator.records.folder import RunFolder
from orchestrator.rejudge import rejudge
from orchestrator.values import Episode, Group, Scored, Task, Turn

RUBRIC = {
    "rubric": [
        {"id": "good", "text": "it is kind", "weight": 2},
        {"id": "bad", "text": "it is rude", "weight": -1},
    ]
}
STORED = {"kind": (1, 0), "rude": (1, 1), "kind rude": (1, 1), "plain": (0, 1)}
"""What the run's judge said of each answer: (good, bad)."""
WORDS = ["data.train_groups=8", "data.eval_groups=2"]


def judge(body: dict[str, Any], number: int) -> Reply:
    """Right about every criterion."""
    response, criterion = body["messages"][-1]["content"].split(" criterion : ")
    if "lost" in response:
        return 503, {"error": {"message": "overloaded"}}
    yes, no = (0.9, 0.05) if criterion.split()[-1] in response.split() else (0.05, 0.9)
    return 200, completion("yes", {"yes": math.log(yes), "no": math.log(no)})


def official(good: int, bad: int) -> float:
    return (2 * good + 1 - bad) / 3


def group(task: Task, answers: list[str]) -> Group:
    made = []
    for number, text in enumerate(answers):
        good, bad = STORED.get(text, (1, 0))
        turn = Turn("policy", (1,), (2,), (-1.0,), text, "stop", 1.0, 4, 0)
        verdict = Scored(float(good - bad), {"official": official(good, bad)}, {"good": good, "bad": bad})
        made.append((Episode(task, 4, number, (turn,)), verdict))
    return Group(*map(tuple, zip(*made, strict=True)))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    return RunFolder.create(tmp_path, "rlvr", "a", to_values(compose("rlvr", [f"storage={tmp_path}", *WORDS])))


def stored(run: RunFolder, *more: str) -> list[Group]:
    tasks = [Task(name, ({"role": "user", "content": f"{name}?"},), RUBRIC) for name in ("one", "two")]
    groups = [group(tasks[0], ["kind", "rude"]), group(tasks[1], ["kind rude", "plain", *more])]
    truth = {"kind": (1, 0), "rude": (0, 1), "kind rude": (1, 1), "plain": (0, 0)}
    gold = {e.id: official(*truth[e.text]) if e.text in truth else None for g in groups for e in g.episodes}
    episodes.write_step(run, 4, groups, {}, "eval", gold)
    return groups


def test_agreement_by_hand(run: RunFolder) -> None:
    """The new judge says (1, 0), (0, 1), (1, 1), (0, 0), so rewards 1, -1, 0, 0 in place of 1, 0, 0, -1.

    good: (old, new) is (1, 1), (1, 0), (1, 1), (0, 0): 3 of 4 alike, yes 3/4 and 2/4 of the time, 1/2 by chance, so kappa is 1/2.
    bad: (0, 0), (1, 1), (1, 1), (1, 0): the same. Ranks 4, 2.5, 2.5, 1 and 4, 1, 2.5, 2.5 correlate by 2.25/4.5. Official scores
    were 1, 2/3, 2/3, 0 and are the truth now: errors 0, 2/3, 0, -1/3.
    """
    stored(run)
    with serving(OpenAIServer(judge)) as server:
        found = rejudge(run.path, server.url, None, "eval")
    assert (found.step, found.episodes, found.unscored) == (4, 4, (0, 0))
    table = {row.criterion: (row.n, row.accuracy, row.kappa, row.met, row.new_met) for row in found.criteria}
    assert table == {
        "all criteria": (8, 0.75, pytest.approx(0.5), 0.75, 0.5),
        "good": (4, 0.75, pytest.approx(0.5), 0.75, 0.5),
        "bad": (4, 0.75, pytest.approx(0.5), 0.75, 0.5),
    }
    assert (found.reward.mean, found.new_reward.mean, found.difference.mean) == pytest.approx((0.0, 0.0, 0.0))
    # per task -1/2 and 1/2, which are the units
    assert (found.difference.n, found.difference.low, found.difference.high) == (2, -0.5, 0.5)
    assert found.rank == pytest.approx(0.5)
    old, new = found.gold
    assert (old.bias, old.distance) == pytest.approx((1 / 12, 1 / 4))
    assert (new.bias, new.distance, new.rank) == pytest.approx((0, 0, 1))
    assert found.nearer is not None
    assert found.nearer.mean == pytest.approx(-1 / 4)
    rows = pq.read_table(found.written, schema=episodes.SCHEMA).to_pylist()
    assert [row["reward"] for row in rows] == [1, -1, 0, 0]
    assert dict(rows[0]["verdicts"])["good"] == pytest.approx(0.9 / 0.95)
    assert rows[1]["gold"] == 0
    assert [row["reward"] for row in episodes.read(run).to_pylist()] == [1, 0, 0, -1], "the run's own stay"


def test_what_the_new_judge_cannot_score_is_left_out_and_counted(run: RunFolder) -> None:
    stored(run, "lost")
    with serving(OpenAIServer(judge)) as server:
        found = rejudge(run.path, server.url, 4, "eval", ["judge.retries=0"])
        assert (found.episodes, found.unscored) == (5, (0, 1))
        assert found.reason is not None
        assert "overloaded" in found.reason
        assert found.reward.mean == 0
        episodes.write_step(run, 5, [group(Task("x", (), RUBRIC), ["lost"])], {}, "eval")
        with pytest.raises(RunError, match=r"none of the 1 episodes was scored by both judges. .*overloaded"):
            rejudge(run.path, server.url, 5, "eval", ["judge.retries=0"])


def test_files_without_references_take_them_from_the_data(run: RunFolder) -> None:
    """Of a format that held none: the rubric is the run's own; a task that the data do not hold any more is refused."""
    known = find_workload("rlvr").workload(compose("rlvr", WORDS)).tasks("eval")[0]
    episodes.write_step(run, 4, [group(replace(known, reference={}), ["kind"])], {}, "eval")
    with serving(OpenAIServer(judge)) as server:
        found = rejudge(run.path, server.url, None, "eval")
        asked = {body["messages"][-1]["content"].partition(" criterion : ")[2] for body in server.requests}
        assert asked == {criterion["text"] for criterion in known.reference["rubric"]}
        # the made-up stored verdicts are on other criteria
        assert found.criteria == ()
        changed = replace(known, reference={}, messages=({"role": "user", "content": "other words"},))
        episodes.write_step(run, 4, [group(changed, ["kind"])], {}, "eval")
        with pytest.raises(RunError, match=f"task {known.id} is not in the run's data as it was asked"):
            rejudge(run.path, server.url, None, "eval")


def test_a_reward_that_asks_no_judge(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text("def reward(episodes):\n    return [0.0 for _ in episodes]\n")
    config = compose("rlvr", [f"storage={tmp_path}", f"reward={file}:reward"])
    folder = RunFolder.create(tmp_path, "rlvr", "b", to_values(config))
    with pytest.raises(RunError, match="the reward of b is a function, which asks no judge"):
        rejudge(folder.path, "http://localhost:1/v1", None, "eval")


def test_what_is_not_there_is_said(run: RunFolder) -> None:
    stored(run)
    with pytest.raises(RunError, match=r"has no train episodes\. Steps of train episodes that are there: none"):
        rejudge(run.path, "http://localhost:1/v1", None, "train")
    with pytest.raises(RunError, match=r"has no eval episodes of step 7\. Steps of eval episodes that are there: 4"):
        rejudge(run.path, "http://localhost:1/v1", 7, "eval")
    with pytest.raises(ConfigError, match="name the judge's weights"):
        rejudge(run.path, "mini", None, "eval")
    with pytest.raises(ConfigError, match="Did you mean hf:Qwen/Qwen3-8B"):
        rejudge(run.path, "Qwen/Qwen3-8B", None, "eval")


def test_the_verb_prints_a_table(run: RunFolder) -> None:
    stored(run)
    with serving(OpenAIServer(judge)) as server:
        words = ["rejudge", "a", "--judge", server.url, "--storage", str(run.path.parents[1])]
        done = CliRunner().invoke(cli.app, words)
        assert (done.exit_code, done.stderr) == (0, "")
    assert re.search(r"all criteria +8 +0\.750 +0\.500 +0\.750 +0\.500", done.stdout)
    assert "new less stored, paired: +0.000 (95 % -0.500 to +0.500) over 2 tasks" in done.stdout
    assert CliRunner().invoke(cli.app, [*words, "--step", "first"]).exit_code == 2
