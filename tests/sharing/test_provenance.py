"""Where a model is from."""

from __future__ import annotations

import hashlib
import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import RunError
from orchestrator.records.canary import Canary, write_canary
from orchestrator.records.folder import RunFolder, sha256, write_json
from orchestrator.records.metrics import MetricsLog
from orchestrator.sharing.folders import check_no_secrets
from orchestrator.sharing.provenance import provenance, weights_of
from orchestrator.sharing.public import public, shown
from orchestrator.sharing.source import find_source
from orchestrator.sweep.journal import FINISHED
from tests.fakes.models import ROWS, model_folder, run_with_checkpoints
from tests.fakes.sweeps import sweep_of


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run with checkpoints of steps 4 and 6, evaluated at steps 0 and 4, which was taught and has examined its judge."""
    run = run_with_checkpoints(tmp_path, "one", (4, 6), {"seed": 3, "algorithm": "flowrl"}, ROWS)
    write_json(run.models, {"policy": ".cache/taught/policy-1", "judge": ".cache/taught/judge-1"})
    write_json(run.judge, {"accuracy": 0.9, "accuracy_low": 0.85, "accuracy_high": 0.95, "accuracy_n": 100, "dilemmas": 10,
                           "prior_accuracy": 0.6, "macro_f1": 0.8})  # fmt: skip
    model_folder(tmp_path / ".cache" / "taught" / "judge-1", 7)
    return run


def test_a_checkpoint_leads_back_to_its_run(run: RunFolder, tmp_path: Path) -> None:
    known = provenance(find_source("one@4", tmp_path))
    json.dumps(known, allow_nan=False)
    expected = {
        "reference": "run:rlvr/one@4", "role": "policy", "run": "rlvr/one", "workload": "rlvr", "step": 4, "forked_after": None,
        "objective": "flowrl", "started_from": ["mini"], "restricted": False, "files": [], "sweep": None,
        "commit": run.settings()["versions"]["commit"],
    }  # fmt: skip
    assert {name: known[name] for name in expected} == expected
    assert known["seeds"] == {"seed": 3, "data.seed": 0, "warmup.seed": 0, "judge.training.seed": 0}
    assert (known["data"]["source"], known["training"]["learner.learning_rate"]) == ("mini", 3e-4)
    assert known["training"]["warmup.steps"] == run.settings()["warmup"]["steps"]
    assert "torch" in known["versions"]
    assert "commit" not in known["versions"]
    assert known["judge"] == {
        "model": "mini", "served_name": None, "groups": 10,
        "exam": {
            "accuracy": {"value": 0.9, "low": 0.85, "high": 0.95, "n": 100}, "prior_accuracy": {"value": 0.6},
            "macro_f1": {"value": 0.8},
        },
    }  # fmt: skip


# Of step 4 the rows of steps 0 and 4 count; the one of step 6 is of later weights. The judge's score at step 4 is not a number.
def test_scores_are_those_of_the_checkpoint(run: RunFolder, tmp_path: Path) -> None:
    assert provenance(find_source("one@4", tmp_path))["scores"] == [
        {"metric": "eval/oracle", "step": 0, "value": 0.4, "low": 0.3, "high": 0.5, "n": 12},
        {"metric": "eval/judge", "step": 0, "value": 0.5, "low": 0.4, "high": 0.6, "n": 11},
        {"metric": "judge/gold_gap", "step": 0, "value": 0.1, "low": 0.05, "high": 0.15, "n": 11},
        {"metric": "eval/oracle", "step": 4, "value": 0.6, "low": 0.5, "high": 0.7, "n": 12},
    ]
    newest = provenance(find_source("one", tmp_path))["scores"]
    assert [(score["metric"], score["step"]) for score in newest[3:]] == [("eval/oracle", 6), ("judge/gold_gap", 6)]
    assert [score["step"] for score in provenance(find_source("one@judge", tmp_path))["scores"]] == []


def test_the_digest_of_a_checkpoint_is_its_manifests_and_is_not_computed_again(run: RunFolder, tmp_path: Path) -> None:
    folder = run.checkpoints / "step-000004" / "hf"
    digest = sha256(folder / "model.safetensors")
    expected = {
        "sha256": hashlib.sha256(f"{digest}  model.safetensors\n".encode()).hexdigest(), "files": {"model.safetensors": digest},
    }  # fmt: skip
    assert weights_of(folder) == expected
    (folder / "model.safetensors").write_bytes(b"other")
    assert weights_of(folder) == expected
    copied = model_folder(tmp_path / "copied", 4)
    assert weights_of(copied) == expected
    (copied / "model.safetensors").write_bytes(b"other")
    assert weights_of(copied) != expected
    assert weights_of(Path("Qwen/Qwen3-0.6B")) is None


def test_tokenizer_and_chat_template_are_those_that_the_trainer_loaded(run: RunFolder, tmp_path: Path) -> None:
    known = provenance(find_source("one", tmp_path))
    assert (known["tokenizer"], known["chat_template"]) == (None, None)
    write_canary(run.checkpoints / "step-000006" / "hf", Canary("float32", False, (), "ab", "cd"))
    known = provenance(find_source("one", tmp_path))
    assert (known["tokenizer"], known["chat_template"]) == ("ab", "cd")


def test_a_judge_leads_back_to_the_run_that_taught_it(run: RunFolder, tmp_path: Path) -> None:
    known = provenance(find_source("one@judge", tmp_path))
    assert (known["reference"], known["step"], known["objective"], known["started_from"]) == (
        "run:rlvr/one@judge", None, None, ["mini"],
    )  # fmt: skip
    assert known["training"]["judge.training.steps"] == run.settings()["judge"]["training"]["steps"]
    assert known["judge"]["exam"]["accuracy"]["value"] == 0.9


def test_what_a_model_began_as_is_followed_through_runs(run: RunFolder, tmp_path: Path) -> None:
    second = run_with_checkpoints(tmp_path, "two", (2,), {"model": "run:rlvr/one@4", "judge": "run:one@judge"})
    known = provenance(find_source("two", tmp_path))
    assert known["started_from"] == ["run:rlvr/one@4", "mini"]
    assert (known["scores"], known["judge"], "warmup.steps" in known["training"]) == ([], None, False)
    run.path.rename(tmp_path / "gone")
    assert provenance(find_source("two", tmp_path))["started_from"] == ["run:rlvr/one@4"]
    MetricsLog(second.metrics_log).append(3, {"eval/judge": 0.5})
    known = provenance(find_source("two", tmp_path))
    assert (known["forked_after"], known["judge"]["exam"]) == (2, {})


def test_files_of_ones_own_have_the_digest_of_when_the_run_began(run: RunFolder, tmp_path: Path) -> None:
    run.change_setting("files", {"/home/me/prompts.jsonl": "ab12"})
    assert provenance(find_source("one", tmp_path))["files"] == [{"path": "/home/me/prompts.jsonl", "sha256": "ab12"}]


# one: 0.5, the other 0.4; with the two of another arm four were chosen from, and the mean of the first arm is 0.45, with an interval
# of 12.706 (Student's t of two runs) times |0.5 - 0.4| / 2.
def test_the_best_run_of_a_sweep_says_so(run: RunFolder, tmp_path: Path) -> None:
    runs = [("policy", arm, name, FINISHED, score) for arm, name, score in (
        ("a", "one", 0.5), ("a", "other", 0.4), ("b", "b0", 0.1), ("b", "b1", 0.2),
    )]  # fmt: skip
    sweep_of(tmp_path, runs)
    won = provenance(find_source("one", tmp_path))["sweep"]
    assert won.pop("mean") == pytest.approx({"value": 0.45, "low": 0.45 - 0.6353, "high": 0.45 + 0.6353}, abs=1e-4)
    assert won == {
        "name": "mine", "metric": "eval/oracle", "mode": "max", "score": 0.5, "of": 4, "arm": "a", "runs": 2, "settings": {},
    }  # fmt: skip
    assert provenance(find_source("one@judge", tmp_path))["sweep"] is None
    run_with_checkpoints(tmp_path, "other", (4,))
    assert provenance(find_source("other", tmp_path))["sweep"] is None


def test_an_exported_folder_leads_back_until_its_weights_change(run: RunFolder, tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "exported", 6)
    known = provenance(find_source("one", tmp_path))
    assert provenance(find_source(f"path:{folder}", tmp_path)).keys() == {
        "format", "reference", "role", "weights", "tokenizer", "chat_template",
    }  # fmt: skip
    write_json(folder / "provenance.json", known)
    assert provenance(find_source(f"path:{folder}", tmp_path))["origin"] == known
    (folder / "model.safetensors").write_bytes(b"other")
    assert "origin" not in provenance(find_source(f"path:{folder}", tmp_path))


def test_an_exported_folder_that_tells_a_password_is_refused(run: RunFolder, tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "exported", 6)
    write_json(
        folder / "provenance.json", {**provenance(find_source("one", tmp_path)), "mirror": "s3://h/x?sig=hunter2"}
    )
    with pytest.raises(RunError, match=r"provenance.json, line .* a URL with a password"):
        provenance(find_source(f"path:{folder}", tmp_path))


@pytest.mark.parametrize(
    ("url", "is_secret"),
    [
        ("http://me:hunter2@host/v1", True),
        ("http://hunter2@host/v1", True),
        ("http://me:hun/ter2@host/v1", True),
        ("http://host/v1?api_key=sk-hunter2", True),
        ("http://host/v1?a=b&API-KEY=hunter2", True),
        ("http://host/v1?access_token=hunter2", True),
        ("s3://host/x?X-Amz-Signature=hunter2", True),
        ("http://host:8000/v1?max_tokens=5", False),
        ("http://host/v1?api_key=", False),
        ("https://host/@scope/package", False),
        ('{"url":"http://host:80/v1","mail":"me@host"}', False),
    ],
)
def test_a_secret_in_a_url_is_seen(tmp_path: Path, url: str, is_secret: bool) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"judge:\n  name: {url}\n")
    with pytest.raises(RunError, match=r"config\.yaml, line 2") if is_secret else nullcontext():
        check_no_secrets([path])


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("/home/me/x.jsonl", "x.jsonl"),
        ("~/x", "x"),
        ("path:/home/me/base", "path:base"),
        ("run:/home/me/runs/rlvr/one@4", "run:one@4"),
        ("run:rlvr/one@4", "run:rlvr/one@4"),
        ("hf:org/base", "hf:org/base"),
        ("https://gpu7.lab:8000/v1", "a server at a URL"),
        ({"a": [{"path": "/home/me/x", "n": 3}], "b": None}, {"a": [{"path": "x", "n": 3}], "b": None}),
    ],
)
def test_strangers_read_no_folders_and_no_servers(value: Any, said: Any) -> None:
    assert public(value) == said
    assert shown(value) == str(said)
