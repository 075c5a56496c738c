from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_up_run import make_group

from orchestrator.config.schema import RunConfig
from orchestrator.records import episodes, samples
from orchestrator.records.folder import RunFolder
from orchestrator.values import Group

RUBRIC = [{"id": "c0", "text": "names harm", "weight": 2, "dimension": ""}, {"id": "c1", "text": "lies", "weight": -1}]


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path, "rlvr", "a", RunConfig())


def group(step: int, task: str, golds: list[float], **changes: Any) -> Group:
    made = make_group(step, task, golds)
    return Group(tuple(replace(e, task=replace(e.task, **changes)) for e in made.episodes), made.verdicts)


# Forty steps of 25 answers with rewards 0 … 0.024, but one of -5 in step 7 and one of 5 in step 31: 1,000 episodes.
def test_a_choice_is_bounded_spread_repeatable_and_has_the_extremes(folder: RunFolder) -> None:
    for step in range(1, 41):
        rewards = [number / 1000 for number in range(25)]
        rewards[3] = {7: -5.0, 31: 5.0}.get(step, rewards[3])
        episodes.write_step(folder, step, [make_group(step, "t", rewards)], {}, "train")
    rows, total = samples.choose(folder, 60)
    assert (len(rows), total) == (60, 1000)
    assert samples.choose(folder, 60) == (rows, total)
    assert {row["reward"] for row in rows} >= {-5.0, 5.0}
    assert [row["step"] for row in rows] == sorted(row["step"] for row in rows)
    # 12 extremes and 48 of 40 steps: every step has one, none many more.
    steps = Counter(row["step"] for row in rows)
    assert set(steps) == set(range(1, 41))
    # Of fewer episodes than steps no two neighbours more than five steps apart are left out: 20 + 12 of 40.
    few = sorted({row["step"] for row in samples.choose(folder, 32)[0]})
    assert max(after - before for before, after in zip([0, *few], [*few, 41], strict=True)) <= 5


def test_splits_and_steps_are_chosen_from(folder: RunFolder) -> None:
    for step, split in ((0, "eval"), (1, "train"), (1, "eval")):
        episodes.write_step(folder, step, [make_group(step, split, [0.1, 0.2])], {}, split)
    rows, total = samples.choose(folder, 9, "eval", [1])
    assert ([row["id"] for row in rows], total) == (["1/eval/0", "1/eval/1"], 2)
    assert samples.choose(folder, 9)[1] == 6
    assert samples.choose(RunFolder(folder.path / "none"), 9) == ([], 0)


def test_a_row_is_plain_data_without_token_ids(folder: RunFolder) -> None:
    asked = group(1, "t", [0.5], reference={"rubric": RUBRIC})
    episodes.write_step(folder, 1, [asked], {}, "train", gold_verdicts=lambda episode: {"c0": 1.0})
    ((row,), _) = samples.choose(folder, 9)
    assert row["prompt"] == [{"role": "user", "content": "dilemma t"}]
    assert (row["verdicts"], row["gold_verdicts"], row["tokens"]) == ({"c0": 0.9, "c1": 0.1}, {"c0": 1.0}, 2)
    assert samples.criteria_of(row) == [
        {"id": "c0", "text": "names harm", "weight": 2}, {"id": "c1", "text": "lies", "weight": -1},
    ]  # fmt: skip
    assert "completion_ids" not in row


# "dilemma t" has 9 characters, "answer 0 é" and "names harm" 10 each, "lies" 4.
def test_restricted_rows_are_redacted_unless_asked_for(folder: RunFolder) -> None:
    hidden = group(1, "t", [0.5], reference={"rubric": RUBRIC, "answer": "secret"}, restricted=True)
    faulty = replace(hidden, verdicts=make_group(1, "t", [0.5], unscored=0).verdicts)
    episodes.write_step(folder, 1, [hidden], {}, "train")
    episodes.write_step(folder, 2, [faulty], {}, "train")
    row, broken = samples.choose(folder, 9)[0]
    assert row["prompt"] == [{"role": "user", "content": f"{samples.REDACTED} (9 characters)"}]
    assert row["completion"] == f"{samples.REDACTED} (10 characters)"
    assert [item["text"] for item in samples.criteria_of(row)] == [
        f"{samples.REDACTED} ({count} characters)" for count in (10, 4)
    ]
    assert (row["reward"], row["verdicts"], row["tokens"]) == (0.5, {"c0": 0.9, "c1": 0.1}, 2)
    assert broken["unscored"] == f"{samples.REDACTED} (9 characters)"
    for word in ("dilemma", "answer 0", "names harm", "lies", "secret", "timed out"):
        assert word not in json.dumps([row, broken], ensure_ascii=False)
    shown, _ = samples.choose(folder, 9, unredacted=True)
    assert shown[0]["completion"] == "answer 0 é"
    assert shown[0]["reference"]["answer"] == "secret"


def test_every_turn_of_a_restricted_conversation_is_redacted(folder: RunFolder) -> None:
    one = group(1, "t", [0.5], restricted=True)
    turn = one.episodes[0].turns[0]
    talk = replace(one.episodes[0], turns=(turn, replace(turn, role="guest", text="a secret"), turn))
    episodes.write_step(folder, 1, [Group((talk,), one.verdicts)], {}, "train")
    ((row,), _) = samples.choose(folder, 9)
    assert [turn["role"] for turn in row["turns"]] == ["policy", "guest", "policy"]
    assert all(turn["text"].startswith(samples.REDACTED) for turn in row["turns"])


def test_files_from_before_the_flag_are_readable_and_not_restricted(folder: RunFolder) -> None:
    episodes.write_step(folder, 1, [make_group(1, "t", [0.5])], {}, "train")
    path = folder.episodes / "train-000001.parquet"
    older: pa.Table = pq.read_table(path).drop_columns(["reference", "restricted", "gold_verdicts"])
    pq.write_table(older, path)
    ((row,), _) = samples.choose(folder, 9)
    assert (row["restricted"], row["reference"], row["gold_verdicts"]) == (False, {}, {})
    assert row["completion"] == "answer 0 é"
