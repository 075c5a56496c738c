"""Stored episodes become the values that they were written from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from made_up_run import make_group

from orchestrator.config.schema import RunConfig
from orchestrator.records import episodes
from orchestrator.records.folder import RunFolder
from orchestrator.values import Episode, Group, Scored, Task, Turn, Unscored


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path, "rlvr", "a", RunConfig())


def awkward() -> list[Group]:
    """A restricted task with a reference; three turns of two roles; an empty completion; an unscored episode; a reward of 0.

    Log-probabilities are float32 numbers, as an engine's are.
    """
    task = Task("t é/1", ({"role": "system", "content": "s"}, {"role": "user", "content": "?"}), {"a": [1, "x"]}, True)
    first = Turn("policy", (1, 2), (3,), (-0.5,), "go on", "stop", 0.7, 4, 2**62)
    other = Turn("judge", (), (), (), "why?", "stop", 1.0, 0, 0)
    empty = Turn("policy", (1, 2), (), (), "", "length", 0.7, 3, 5)
    talk = Episode(task, 5, 0, (first, other, replace(first, text="because", weight_version=3)))
    silent, lost = Episode(task, 5, 1, (empty,)), Episode(task, 5, 2, (first,))
    verdicts = (Scored(0.0, {"rubric": 0.25}, {"c": 0.75}), Scored(-1.5), Unscored("timed out"))
    return [Group((talk, silent, lost), verdicts), make_group(5, "t2", [0.5, 0.25])]


def test_what_was_written_comes_back(folder: RunFolder) -> None:
    episodes.write_step(folder, 5, awkward(), {}, "train")
    assert episodes.read_groups(folder, "train", 5) == awkward()
    assert episodes.read_groups(folder, "train", 6) == []
    assert episodes.read_groups(folder, "eval", 5) == []


def test_writing_what_was_read_gives_the_same_file(folder: RunFolder) -> None:
    episodes.write_step(folder, 5, awkward(), {}, "train")
    episodes.write_file(folder.path / "again.parquet", 5, episodes.read_groups(folder, "train", 5), {}, "train")
    assert pq.read_table(folder.path / "again.parquet").equals(episodes.read(folder))


def test_groups_stay_in_their_order(folder: RunFolder) -> None:
    """By their place in the file, not by name: which groups a step learned from may depend on it."""
    written = [make_group(1, task, [0.5]) for task in ("b", "a", "c")]
    episodes.write_step(folder, 1, written, {}, "train")
    assert episodes.read_groups(folder, "train", 1) == written
