"""What is served, from what a target names, and what its replicas take."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from orchestrator.config.compose import compose, to_values
from orchestrator.errors import ConfigError, RunError
from orchestrator.fleets.serving.parity import owed_canary
from orchestrator.fleets.serving.release import Release, parse_replicas, release_of
from orchestrator.records.folder import RunFolder, write_json
from tests.fakes.models import ROWS, model_folder, run_with_checkpoints


def model_of(path: Path, architecture: str) -> Path:
    model_folder(path)
    (path / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    return path


def test_a_checkpoint_is_served_under_its_workloads_name_and_owes_a_proof(tmp_path: Path) -> None:
    run = run_with_checkpoints(tmp_path, "mine", [3, 5])
    release = release_of("mine@3", [], tmp_path)
    assert (release.model, release.kind, release.role, release.own) == ("rlvr", "chat", "policy", True)
    assert (release.reference, release.folder) == ("run:rlvr/mine@3", str(run.checkpoints / "step-000003" / "hf"))
    with pytest.raises(RunError, match=r"holds no canary\.json"):
        owed_canary(release)


@pytest.mark.parametrize(("place", "own"), [(".cache/taught/judge-1", True), ("elsewhere/judge", False)])
def test_a_runs_judge_has_a_service_of_its_own_and_owes_a_proof_where_it_was_taught(
    place: str, own: bool, tmp_path: Path
) -> None:
    run = run_with_checkpoints(tmp_path, "mine", [3])
    model_folder(tmp_path / place)
    write_json(run.models, {"judge": place})
    release = release_of("mine@judge", [], tmp_path)
    assert (release.model, release.kind, release.role, release.own) == ("rlvr-judge", "judge", "judge", own)


def test_a_folder_is_served_with_plain_settings_and_owes_no_proof(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    release = release_of(f"path:{folder}", ["rollout.fleet.cpus_per_server=0.25"], tmp_path, "mine", replicas=(2, 4))
    assert (release.model, release.kind, release.own, release.folder) == ("mine", "chat", False, str(folder))
    # The least number of replicas: two of a quarter CPU.
    assert [(one.count, one.cpus, one.gpus) for one in release.plan().bundles] == [(2, 0.25, 0)]
    assert Release.from_json(json.loads(json.dumps(asdict(release)))) == release


def test_what_scores_texts_is_a_reward_model_whatever_is_asked(tmp_path: Path) -> None:
    folder = model_of(tmp_path / "model", "Qwen3ForSequenceClassification")
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


@pytest.mark.parametrize("workload", ["social_r1", "social_r1.judge"])
def test_a_judge_that_is_asked_no_rubric_is_served_as_chat(workload: str, tmp_path: Path) -> None:
    """Social-R1's writes a score; the route of rubrics would ask it what it was never taught."""
    config = compose(workload, ["name=mine", f"storage={tmp_path}"])
    run = RunFolder.create(tmp_path, workload, "mine", to_values(config))
    write_json(run.models, {"judge": str(model_folder(tmp_path / "judge").relative_to(tmp_path))})
    assert release_of("mine@judge", [], tmp_path).kind == "chat"
    with pytest.raises(ConfigError, match=rf"--as judge: the judge of {workload} is asked in .* Leave --as out"):
        release_of("mine@judge", [], tmp_path, kind="judge")


def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, architecture: str) -> None:
    """The model org/model of the hub, of which an earlier download left config.json behind."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    model = tmp_path / "hub" / "models--org--model"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text("0123abc")
    (model / "snapshots" / "0123abc").mkdir(parents=True)
    (model / "snapshots" / "0123abc" / "config.json").write_text(json.dumps({"architectures": [architecture]}))


def test_a_model_of_the_hub_is_what_its_cached_configuration_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached(tmp_path, monkeypatch, "LlamaForSequenceClassification")
    assert release_of("hf:org/model", [], tmp_path).kind == "reward_model"
    with pytest.raises(ConfigError, match="hf:org/model scores whole texts"):
        release_of("hf:org/model", [], tmp_path, kind="chat")


@pytest.mark.parametrize("target", ["hf:org/never-fetched", "hf:no/id/of/it"])
def test_a_model_of_the_hub_that_nobody_fetched_is_what_is_asked_for(tmp_path: Path, target: str) -> None:
    assert release_of(target, [], tmp_path).kind == "chat"
    assert release_of(target, [], tmp_path, kind="reward_model").kind == "reward_model"


def test_what_clients_read_names_neither_folders_nor_servers_nor_passwords(tmp_path: Path) -> None:
    judge = {"judge.name": "http://gpu7.lab:8000/v1", "judge.served_name": "referee"}
    run = run_with_checkpoints(
        tmp_path, "one", (4,), {"model": f"path:{model_folder(tmp_path / 'base')}", **judge}, ROWS
    )
    run.change_setting("files", {"/home/me/prompts.jsonl": "ab12"})
    release = release_of("one", [], tmp_path)
    said = json.dumps(release.provenance)
    assert "/home" not in said
    assert str(tmp_path) not in said
    assert "gpu7" not in said
    assert release.provenance["started_from"] == ["path:base"]
    assert release.provenance["judge"]["model"] == "a server at a URL"
    assert release.provenance["files"] == [{"path": "prompts.jsonl", "sha256": "ab12"}]
    run.change_setting("judge", {**run.settings()["judge"], "name": "http://gpu7.lab/v1?api_key=sk-hunter2"})
    with pytest.raises(RunError, match="a URL with a password"):
        release_of("one", [], tmp_path)


@pytest.mark.parametrize(("text", "found"), [("1", (1, 1)), ("3", (3, 3)), ("1:4", (1, 4))])
def test_replicas_are_a_number_or_least_and_most(text: str, found: tuple[int, int]) -> None:
    assert parse_replicas(text) == found


@pytest.mark.parametrize("text", ["0", "4:1", "a", "1:", ":2", "1:2:3"])
def test_replicas_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--replicas"):
        parse_replicas(text)


def test_a_model_of_no_run_has_the_context_and_the_precision_that_it_says(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    # As far as 8192 tokens, for which memory is reserved; what is set counts first.
    for context, overrides, served in ((64, [], 64), (40960, [], 8192), (64, ["model.context_tokens=32"], 32)):
        (folder / "config.json").write_text(json.dumps({"max_position_embeddings": context, "dtype": "bfloat16"}))
        shape = release_of(f"path:{folder}", overrides, tmp_path).served().model
        assert (shape.context_tokens, shape.dtype) == (served, "bfloat16")
