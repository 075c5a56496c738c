"""Adapters of LoRA runs: as peft's folders, beside the model that they were trained on and no other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from orchestrator.errors import ConfigError
from orchestrator.fleets.serving.adapters import adapters_of, write_adapters
from orchestrator.records.folder import write_json
from orchestrator.sharing.source import find_source
from tests.fakes.models import model_folder, run_with_checkpoints

LAYER = "model.layers.0.self_attn.q_proj"


def lora_run(storage: Path, name: str, base: str) -> Path:
    """A run of rank 2 that began with the model `base` of the storage; its checkpoint's folder."""
    run = run_with_checkpoints(storage, name, [4])
    write_json(run.models, {"policy": base})
    checkpoint = run.checkpoints / "step-000004"
    write_json(checkpoint / "state.json", {"lora": {"base": "x", "rank": 2, "alpha": 8.0, "targets": "all-linear"}})
    tensors = {
        f"language_model.{LAYER}.lora_A.default.weight|master": torch.ones(2, 4),
        f"language_model.{LAYER}.lora_A.default.weight|exp_avg": torch.zeros(2, 4),
        f"language_model.{LAYER}.lora_B.default.weight|master": torch.full((4, 2), 3.0),
        f"critic.language_model.{LAYER}.lora_A.default.weight|master": torch.full((2, 4), 9.0),
    }
    save_file(tensors, checkpoint / "optimizer-00000.safetensors")
    return checkpoint


def test_the_policys_adapter_is_written_as_peft_names_it(tmp_path: Path) -> None:
    model_folder(tmp_path / "base")
    lora_run(tmp_path, "low", "base")
    (adapter,) = adapters_of(["low"], find_source("low@policy", tmp_path), "toy", tmp_path)
    assert (adapter.model, adapter.rank) == ("toy:low-4", 2)
    assert not Path(adapter.folder).exists()
    write_adapters([adapter])
    tensors = load_file(Path(adapter.folder) / "adapter_model.safetensors")
    # The masters of the policy alone: no moments, no critic.
    assert sorted(tensors) == [f"base_model.model.{LAYER}.lora_{part}.weight" for part in "AB"]
    assert tensors[f"base_model.model.{LAYER}.lora_B.weight"].eq(3).all()
    settings = json.loads((Path(adapter.folder) / "adapter_config.json").read_text())
    assert (settings["r"], settings["lora_alpha"], settings["target_modules"]) == (2, 8.0, ["q_proj"])


def test_what_is_served_stays_when_another_checkpoint_gets_its_step(tmp_path: Path) -> None:
    model_folder(tmp_path / "base")
    checkpoint = lora_run(tmp_path, "low", "base")
    base = find_source("low@policy", tmp_path)
    (before,) = adapters_of(["low"], base, "toy", tmp_path)
    write_json(checkpoint / "manifest.json", {"format": 1, "step": 4, "files": {"another": "digest"}})
    (after,) = adapters_of(["low"], base, "toy", tmp_path)
    assert before.model == after.model
    assert before.folder != after.folder


def test_an_adapter_of_another_model_or_of_none_is_refused(tmp_path: Path) -> None:
    for name in ("base", "other"):
        model_folder(tmp_path / name)
    lora_run(tmp_path, "low", "base")
    lora_run(tmp_path, "elsewhere", "other")
    whole = run_with_checkpoints(tmp_path, "whole", [4])
    write_json(whole.checkpoints / "step-000004" / "state.json", {"lora": None})
    base = find_source("low@policy", tmp_path)
    with pytest.raises(ConfigError, match="orchestrate serve run:rlvr/elsewhere@policy"):
        adapters_of(["elsewhere"], base, "toy", tmp_path)
    with pytest.raises(ConfigError, match="trained all weights"):
        adapters_of(["whole"], base, "toy", tmp_path)
    with pytest.raises(ConfigError, match="RUN or RUN@STEP"):
        adapters_of(["low@policy"], base, "toy", tmp_path)
