"""What is served, from what a target names, and what its replicas take."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from orchestrator.errors import ConfigError
from orchestrator.serving.release import Release, parse_replicas, release_of


def model_folder(path: Path, architecture: str = "Qwen3ForCausalLM") -> Path:
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    (path / "model.safetensors").write_bytes(b"weights")
    (path / "tokenizer.json").write_text("{}")
    return path


def test_a_folder_is_served_with_plain_settings_and_owes_no_proof(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    release = release_of(f"path:{folder}", ["rollout.fleet.cpus_per_server=0.25"], tmp_path, "mine", replicas=(2, 4))
    assert (release.model, release.kind, release.own, release.folder) == ("mine", "chat", False, str(folder))
    # The least number of replicas: two of a quarter CPU.
    assert [(one.count, one.cpus, one.gpus) for one in release.plan().bundles] == [(2, 0.25, 0)]
    assert Release.from_json(json.loads(json.dumps(asdict(release)))) == release


def test_what_scores_texts_is_a_reward_model_whatever_is_asked(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model", "Qwen3ForSequenceClassification")
    assert release_of(f"path:{folder}", [], tmp_path).kind == "reward_model"
    with pytest.raises(ConfigError, match="scores whole texts"):
        release_of(f"path:{folder}", [], tmp_path, kind="chat")


def test_a_model_that_writes_can_be_a_judge_and_no_reward_model(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    assert release_of(f"path:{folder}", [], tmp_path, kind="judge").kind == "judge"
    with pytest.raises(ConfigError, match="writes text"):
        release_of(f"path:{folder}", [], tmp_path, kind="reward_model")
    with pytest.raises(ConfigError, match="choose one of chat, judge, reward_model"):
        release_of(f"path:{folder}", [], tmp_path, kind="poet")


@pytest.mark.parametrize(("text", "found"), [("1", (1, 1)), ("3", (3, 3)), ("1:4", (1, 4))])
def test_replicas_are_a_number_or_least_and_most(text: str, found: tuple[int, int]) -> None:
    assert parse_replicas(text) == found


@pytest.mark.parametrize("text", ["0", "4:1", "a", "1:", ":2", "1:2:3"])
def test_replicas_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--replicas"):
        parse_replicas(text)
