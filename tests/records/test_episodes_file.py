from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_up_run import make_group

from orchestrator.config.schema import RunConfig
from orchestrator.records import Run, episodes
from orchestrator.records.folder import RunFolder
from orchestrator.values import Group


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path, "rlvr", "a", RunConfig())


# Two answers with rewards 0.25 and 0.75: mean 0.5, so advantages -0.25 and 0.25; a third one has no verdict.
def test_every_column_comes_back(folder: RunFolder) -> None:
    group = make_group(3, "t1", [0.25, 0.75, 0.5], unscored=2)
    ids = [episode.id for episode in group.episodes]
    episodes.write_step(folder, 3, [group], {ids[0]: -0.25, ids[1]: 0.25}, "train", {ids[0]: 0.2, ids[1]: None})
    assert [path.name for path in folder.episodes.iterdir()] == ["train-000003.parquet"]
    table = episodes.read(folder)
    assert table.schema.names == episodes.SCHEMA.names
    first, second, third = table.to_pylist()
    assert (first["id"], first["group_id"], first["task_id"], first["sample"]) == ("3/t1/0", "3/t1", "t1", 0)
    assert (first["step"], first["split"], first["weight_version"], first["seed"]) == (3, "train", 3, 7)
    assert json.loads(first["prompt"]) == [{"role": "user", "content": "dilemma t1"}]
    assert (first["completion"], first["finish_reason"], first["temperature"]) == ("answer 0 é", "stop", 1.0)
    assert (first["prompt_ids"], first["completion_ids"], first["logprobs"]) == ([1, 2, 3], [4, 5], [-0.5, -0.25])
    assert dict(first["components"]) == {"rubric": 0.25}
    assert dict(first["verdicts"]) == {"c0": 0.9, "c1": 0.1}
    assert (first["reward"], first["advantage"], first["gold"], first["unscored"]) == (0.25, -0.25, 0.2, None)
    assert (second["advantage"], second["gold"], second["turns"]) == (0.25, None, None)
    assert (third["reward"], third["verdicts"], third["advantage"], third["unscored"]) == (
        None,
        None,
        None,
        "timed out",
    )


def test_a_reward_of_zero_is_not_null(folder: RunFolder) -> None:
    episodes.write_step(folder, 1, [make_group(1, "t", [0.0])], {}, "train")
    row = episodes.read(folder).to_pylist()[0]
    assert row["reward"] == 0.0
    assert dict(row["components"]) == {"rubric": 0.0}


def test_an_episode_of_many_turns_is_one_row(folder: RunFolder) -> None:
    one = make_group(1, "t", [0.5])
    policy = one.episodes[0].turns[0]
    other = replace(policy, role="instructor", text="go on", completion_ids=(9,), logprobs=(-1.0,))
    last = replace(policy, text="done", prompt_ids=(1, 2, 3, 4, 5, 9), weight_version=2)
    long = replace(one.episodes[0], turns=(policy, other, last, other))
    episodes.write_step(folder, 1, [Group((long,), one.verdicts)], {}, "train")
    row = episodes.read(folder).to_pylist()[0]
    # The columns of a turn hold the policy's last one, `turns` all of them.
    assert (row["completion"], row["weight_version"], row["prompt_ids"]) == ("done", 2, [1, 2, 3, 4, 5, 9])
    assert [turn["role"] for turn in row["turns"]] == ["policy", "instructor", "policy", "instructor"]
    assert row["turns"][1]["completion_ids"] == [9]


def test_parts_are_read_in_order_and_by_choice(folder: RunFolder) -> None:
    for step in (10, 2):
        for split in ("train", "eval"):
            episodes.write_step(folder, step, [make_group(step, "t", [0.5, math.nan])], {}, split)
    (folder.episodes / ".train-000003.parquet.12.tmp").write_bytes(b"half")
    table = episodes.read(folder, columns=["step", "split"])
    assert table["step"].to_pylist() == [2, 2, 2, 2, 10, 10, 10, 10]
    assert episodes.read(folder, "eval", [10])["split"].to_pylist() == ["eval", "eval"]
    assert episodes.read(folder, "eval", [99]).num_rows == 0
    assert episodes.drop_after(folder, 2) == 2
    assert episodes.parts(folder) == [("eval", 2), ("train", 2)]


def test_a_step_written_again_replaces_the_first(folder: RunFolder) -> None:
    episodes.write_step(folder, 1, [make_group(1, "t", [0.1, 0.2])], {}, "train")
    episodes.write_step(folder, 1, [make_group(1, "t", [0.3])], {}, "train")
    assert episodes.read(folder)["reward"].to_pylist() == [0.3]


def test_no_groups_make_an_empty_part(folder: RunFolder) -> None:
    episodes.write_step(folder, 1, [], {}, "train")
    assert episodes.read(folder).num_rows == 0


def test_an_older_part_without_a_column_stays_readable(folder: RunFolder) -> None:
    episodes.write_step(folder, 1, [make_group(1, "t", [0.1])], {}, "train")
    path = folder.episodes / "train-000001.parquet"
    pq.write_table(pq.read_table(path, partitioning=None).drop_columns(["gold"]), path)
    assert episodes.read(folder)["gold"].to_pylist() == [None]


def test_a_split_is_no_path(folder: RunFolder) -> None:
    with pytest.raises(ValueError, match=r"split='\.\./x'"):
        episodes.write_step(folder, 1, [], {}, "../x")


def test_episodes_go_to_pandas(fake_run: RunFolder) -> None:
    frame = Run(fake_run.path).episodes("eval").to_pandas()
    assert frame.groupby("step").gold.mean().round(6).to_dict()[30] == 0.65
    assert isinstance(Run(str(fake_run.path)).episodes(), pa.Table)
