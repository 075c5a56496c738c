"""References to models: their forms, and the folders that they stand for."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.config.references import ModelReference, find_run, resolve
from orchestrator.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mini", ModelReference("mini")),
        ("hf:Qwen/Qwen3-0.6B", ModelReference("hf", "Qwen/Qwen3-0.6B")),
        ("path:models/a:b", ModelReference("path", "models/a:b")),
        ("run:first", ModelReference("run", "first")),
        ("run:rlvr/first@400", ModelReference("run", "rlvr/first", 400)),
        ("https://host:8000/v1", ModelReference("url", "https://host:8000/v1")),
    ],
)
def test_forms(text: str, expected: ModelReference) -> None:
    assert ModelReference.parse(text) == expected
    assert str(expected) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not a model reference"),
        ("gpt", "The forms are: mini, hf:ID"),
        ("Qwen/Qwen3-0.6B", "Did you mean hf:Qwen/Qwen3-0.6B?"),
        ("./model", "Did you mean path:./model?"),
        ("ftp://host", "is not a model reference"),
        ("http://", "without a host"),
        ("hf:", "names nothing after the colon"),
        ("run:a@3 or 4", "the step a whole number"),
        ("run:a@", "the step a whole number"),
        ("run:@3", "the step a whole number"),
    ],
)
def test_what_is_no_reference(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ModelReference.parse(text)
    assert words in str(caught.value)


def run_folder(storage: Path, name: str, *steps: int) -> Path:
    run = storage / name
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.yaml").write_text("")
    for step in steps:
        (run / f"checkpoints/step-{step:06d}/hf").mkdir(parents=True)
        (run / "checkpoints/LATEST").write_text(f"step-{step:06d}\n")
    return run


def test_resolve(tmp_path: Path) -> None:
    run = run_folder(tmp_path, "rlvr/first", 20, 40)
    assert resolve(ModelReference.parse("run:first"), tmp_path) == run / "checkpoints/step-000040/hf"
    assert resolve(ModelReference.parse("run:rlvr/first@20"), tmp_path) == run / "checkpoints/step-000020/hf"
    assert resolve(ModelReference.parse("hf:Qwen/Qwen3-0.6B"), tmp_path) == "Qwen/Qwen3-0.6B"
    assert resolve(ModelReference.parse("mini"), tmp_path) == "mini"
    assert resolve(ModelReference.parse("http://host/v1/"), tmp_path) == "http://host/v1"
    (tmp_path / "model").mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (tmp_path / "model" / name).write_text("{}")
    assert resolve(ModelReference.parse(f"path:{tmp_path}/model"), tmp_path) == tmp_path / "model"


def test_what_cannot_be_resolved_says_what_is_there(tmp_path: Path) -> None:
    run_folder(tmp_path, "rlvr/first", 20, 40)
    run_folder(tmp_path, "rlvr/empty")
    run_folder(tmp_path, "cdi/first", 5)
    for text, words in [
        ("run:rlvr/first@30", "Steps that do: @20, @40"),
        ("run:empty", "no finished checkpoint"),
        ("run:first", "Use WORKLOAD/NAME"),
        ("run:nothing", "`orchestrate list --storage"),
        (f"path:{tmp_path}/rlvr", "no config.json"),
    ]:
        with pytest.raises(ConfigError) as caught:
            resolve(ModelReference.parse(text), tmp_path)
        assert words in str(caught.value)


def test_find_run_by_path(tmp_path: Path) -> None:
    run = run_folder(tmp_path, "rlvr/first", 20)
    assert find_run(str(run), "elsewhere") == run
    assert find_run("first", tmp_path) == run
