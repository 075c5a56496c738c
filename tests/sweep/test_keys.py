"""A run's key: what changes it and what does not."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from orchestrator.config.compose import compose
from orchestrator.records.folder import RunFolder
from orchestrator.sweep.keys import find_by_key, is_finished, key_of

REWARD = "def score(episodes):\n    return [0] * len(episodes)\n"


def key(*overrides: str, target: str = "rlvr") -> str:
    return key_of(compose(target, overrides))


def test_a_key_is_of_the_settings_that_decide() -> None:
    assert re.fullmatch("[0-9a-f]{10}", key())
    same = [
        "name=other",
        "storage=elsewhere",
        "tracking.project=p",
        "cluster.inventory=8x80GB",
        "limits.exposed_wait_notice_s=1",
        "mirror=s3://bucket/runs",
        "checkpoint.keep=3",
        "learner.max_restarts=0",
        "learner.collective_deadline_s=60",
        "sync.deadline_s=60",
        "rollout.fleet.start_deadline_s=60",
        "judge.fleet.request_deadline_s=60",
        "judge.fleet.max_restarts=0",
        "judge.call_deadline_s=5",
        "judge.api_key_env=OTHER_KEY",
    ]
    assert key(*same) == key()
    others = [
        key(text) for text in ("seed=1", "steps=61", "judge.soft=true", "learner.learning_rate=1e-4", "data.seed=1")
    ]
    others += [key(text) for text in ("checkpoint.every_steps=7", "rollout.fleet.servers=2", "reward.deadline_s=5")]
    assert len({key(), *others}) == 9
    # However it was said: by a default, in other words, or by a preset.
    assert key("learner.learning_rate=0.0003", "steps=60", "algorithm=grpo") == key()


def test_files_count_by_their_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("one.py", "two.py"):
        (tmp_path / name).write_text(REWARD + "\n\nother = score\n")
    first = key("reward=one.py:score")
    assert key("reward=two.py:score") == first != key("reward=one.py:other")
    (tmp_path / "one.py").write_text(REWARD)
    assert key("reward=one.py:score") != first
    prompts = [{"prompt": f"p{number}"} for number in range(4)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, prompts)))
    (tmp_path / "b.jsonl").write_text((tmp_path / "a.jsonl").read_text())
    table = ["reward=one.py:score", "model=mini"]
    first = key("data.path=a.jsonl", *table, target="rubric")
    assert key("data.path=b.jsonl", *table, target="rubric") == first
    (tmp_path / "b.jsonl").write_text(json.dumps(prompts[0]))
    assert key("data.path=b.jsonl", *table, target="rubric") != first


def test_a_run_of_a_sweep_counts_by_its_own_key() -> None:
    def of_judge(name: str) -> str:
        config = compose("rlvr", [])
        config.judge.name = name
        return key_of(config)

    first = of_judge("run:rlvr/teach-0123456789@judge")
    assert of_judge("run:other/warm-up-0123456789@judge") == of_judge("run:teach-0123456789@judge") == first
    others = [
        "run:rlvr/teach-0123456789",
        "run:rlvr/teach-0123456789@40",
        "run:rlvr/teach-9123456789@judge",
        "run:rlvr/teach@judge",
    ]
    assert len({first, *map(of_judge, others)}) == 5


def test_a_folder_of_weights_counts_by_its_content(tmp_path: Path) -> None:
    def of_model(folder: Path) -> str:
        config = compose("rlvr", [])
        config.model.name = f"path:{folder}"
        return key_of(config)

    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        (tmp_path / name / "model.safetensors").write_bytes(b"1234")
    first = of_model(tmp_path / "a")
    assert of_model(tmp_path / "b") == first
    # Other weights of the same size under the same name are another model.
    (tmp_path / "a/model.safetensors").write_bytes(b"4321")
    assert of_model(tmp_path / "a") != first
    # A folder that is still to come counts by its name.
    assert of_model(tmp_path / "c") != of_model(tmp_path / "d")


def test_another_run_counts_by_its_newest_checkpoint(tmp_path: Path) -> None:
    def of_run(reference: str) -> str:
        config = compose("rlvr", [f"storage={tmp_path}"])
        config.model.name = reference
        return key_of(config)

    missing = of_run("run:mine")
    run = tmp_path / "rlvr/mine"
    for step in (20, 40):
        (run / f"checkpoints/step-0000{step}").mkdir(parents=True)
    (run / "config.yaml").touch()
    (run / "checkpoints/LATEST").write_text("step-000020")
    first = of_run("run:mine")
    (run / "checkpoints/LATEST").write_text("step-000040")
    # It stood for step 20, and stands for step 40 now.
    assert (first, of_run("run:mine")) == (of_run("run:mine@20"), of_run("run:mine@40"))
    assert len({missing, first, of_run("run:mine")}) == 3


def test_a_run_is_finished_by_its_summary_or_by_its_last_checkpoint(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "rlvr", "a-0123456789", {"steps": 40})
    assert not is_finished(folder)
    (folder.checkpoints / "step-000040").mkdir()
    (folder.checkpoints / "LATEST").write_text("step-000040")
    assert is_finished(folder)
    folder.change_setting("steps", 41)
    assert not is_finished(folder)
    folder.summary.write_text('{"status": "finished"}')
    assert is_finished(folder)


def test_a_run_is_found_by_its_key_under_any_name(tmp_path: Path) -> None:
    assert find_by_key(tmp_path / "runs", "0123456789") is None
    for name in ("rlvr/mine-s0-0123456789", "rlvr/0123456789", "sweeps/x-9999999999"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    (tmp_path / "runs/rlvr/0123456789/config.yaml").touch()
    # A folder without its settings is no run, and a name without the dash before the key no run of a sweep.
    assert find_by_key(tmp_path / "runs", "0123456789") is None
    (tmp_path / "runs/rlvr/mine-s0-0123456789/config.yaml").touch()
    found = find_by_key(tmp_path / "runs", "0123456789")
    assert found is not None
    assert (found.workload, found.name) == ("rlvr", "mine-s0-0123456789")
