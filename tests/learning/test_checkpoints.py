"""A checkpoint is whole or not there, and says so when it is damaged."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from orchestrator.config.schema import ModelConfig
from orchestrator.errors import RunError
from orchestrator.learning import checkpoints as module
from orchestrator.learning.checkpoints import random_states, read_tensors, step_folder, verify, write
from orchestrator.learning.model import TokenScorer, build, served_weights
from orchestrator.learning.tokenizer import build_model_folder, build_tokenizer
from orchestrator.records.folder import PINNED

STATE = {"step": 4, "sampler": [1, 2, 3], "wandb_id": "abc", "rng": {"torch": [0, 255]}}


def latest(checkpoints: Path) -> Path | None:
    """The checkpoint that the file LATEST names."""
    marker = checkpoints / "LATEST"
    return checkpoints / marker.read_text() if marker.is_file() else None


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("model")
    build_tokenizer(("we", "could", "report"), (), 400, None, root / "tokenizer")
    shape = ModelConfig(hidden_size=16, layers=1, heads=2, kv_heads=1, context_tokens=32)
    build_model_folder(shape, root / "tokenizer", root / "built")
    return root / "built"


@pytest.fixture(scope="module")
def scorer(model_folder: Path) -> TokenScorer:
    return build(model_folder, seed=0, dtype="float32")


def states(scorer: TokenScorer, scale: float = 1.0) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
    for name, parameter in scorer.named_parameters():
        master = parameter.detach() * scale
        yield name, {"master": master, "exp_avg": master * 0.5, "exp_avg_sq": (master * master).t().contiguous().t()}


def save(folder: Path, model_folder: Path, scorer: TokenScorer, step: int, keep: int = 2, writer: bool = True) -> Path:
    served = {name: parameter.detach() for name, parameter in served_weights(scorer)} if writer else None
    write(folder, step, {**STATE, "step": step}, states(scorer), served, model_folder, keep, writer)
    return step_folder(folder, step)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_what_is_written_is_read_again(tmp_path: Path, model_folder: Path, scorer: TokenScorer) -> None:
    folder = save(tmp_path, model_folder, scorer, 4)
    assert latest(tmp_path) == folder
    assert verify(folder) == STATE
    expected, read = dict(states(scorer)), dict(read_tensors(folder))
    assert read.keys() == expected.keys()
    for name, slots in expected.items():
        assert read[name].keys() == slots.keys()
        for key, tensor in slots.items():
            assert torch.equal(read[name][key], tensor), (name, key)


def test_many_files_hold_the_same_tensors(
    tmp_path: Path, model_folder: Path, scorer: TokenScorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At 4,096 bytes a file most parameters stand alone; each is read once."""
    monkeypatch.setattr(module, "FILE_BYTES", 4096)
    folder = save(tmp_path, model_folder, scorer, 1)
    assert len(list(folder.glob("optimizer-*.safetensors"))) > 2
    names = [name for name, _ in read_tensors(folder)]
    assert sorted(names) == sorted(name for name, _ in scorer.named_parameters())


def test_nothing_but_safetensors_json_and_the_tokenizer_is_written(
    tmp_path: Path, model_folder: Path, scorer: TokenScorer
) -> None:
    """Nothing that could hold a pickle; tokenizers bring JSON and a chat template."""
    folder = save(tmp_path, model_folder, scorer, 1)
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} <= {".safetensors", ".json", ".jinja"}
    listed = json.loads((folder / "manifest.json").read_text())["files"]
    assert {*listed, "manifest.json"} == contents(folder).keys()


def test_the_served_folder_loads_with_transformers(tmp_path: Path, model_folder: Path, scorer: TokenScorer) -> None:
    folder = save(tmp_path, model_folder, scorer, 1) / "hf"
    ids = torch.tensor([AutoTokenizer.from_pretrained(folder).encode("we could report we")])
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()(ids).logits
        assert torch.equal(logits, scorer.language_model.eval()(ids).logits)


def test_the_oldest_checkpoints_are_removed(tmp_path: Path, model_folder: Path, scorer: TokenScorer) -> None:
    for step in (2, 9, 10):
        save(tmp_path, model_folder, scorer, step, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["LATEST", "step-000009", "step-000010"]
    assert latest(tmp_path) == step_folder(tmp_path, 10)


def test_a_pinned_checkpoint_stays(tmp_path: Path, scorer: TokenScorer, model_folder: Path) -> None:
    """Step 1 is pinned, so that of the steps 1 to 4 keep=2 leaves it beside the two newest."""
    save(tmp_path, model_folder, scorer, 1)
    (tmp_path / "step-000001" / PINNED).touch()
    for step in (2, 3, 4):
        save(tmp_path, model_folder, scorer, step, keep=2)
    assert sorted(path.name for path in tmp_path.glob("step-*")) == ["step-000001", "step-000003", "step-000004"]
    verify(tmp_path / "step-000001")


def test_what_was_just_written_stays_where_later_steps_lie(
    tmp_path: Path, model_folder: Path, scorer: TokenScorer
) -> None:
    """A run resumed from an older step writes step 3 beside the step 9 of before: with keep=1 the new one is kept."""
    save(tmp_path, model_folder, scorer, 9)
    save(tmp_path, model_folder, scorer, 3, keep=1)
    assert latest(tmp_path) == step_folder(tmp_path, 3)
    assert [path.name for path in tmp_path.glob("step-*")] == ["step-000003"]


def test_a_step_that_is_saved_again_replaces_the_old(tmp_path: Path, model_folder: Path, scorer: TokenScorer) -> None:
    folder = save(tmp_path, model_folder, scorer, 3)
    (folder / "left_over.json").write_text("{}")
    save(tmp_path, model_folder, scorer, 3)
    assert "left_over.json" not in contents(folder)
    assert verify(folder)["step"] == 3


@pytest.mark.parametrize("name", ["optimizer-00000.safetensors", "state.json", "hf/model.safetensors"])
@pytest.mark.parametrize("missing", [False, True])
def test_a_damaged_file_is_named(
    tmp_path: Path, model_folder: Path, scorer: TokenScorer, name: str, missing: bool
) -> None:
    folder = save(tmp_path, model_folder, scorer, 1)
    damaged = folder / name
    content = bytearray(damaged.read_bytes())
    content[-2] ^= 1
    damaged.write_bytes(content)
    if missing:
        damaged.unlink()
    with pytest.raises(RunError, match=name):
        verify(folder)


def test_a_checkpoint_of_a_later_format_is_refused(tmp_path: Path, model_folder: Path, scorer: TokenScorer) -> None:
    folder = save(tmp_path, model_folder, scorer, 1)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"format": module.FORMAT + 1}))
    with pytest.raises(RunError, match="update the project"):
        verify(folder)


def test_without_a_checkpoint_there_is_no_latest(tmp_path: Path) -> None:
    assert latest(tmp_path) is None
    (tmp_path / ".step-000001.partial").mkdir()
    assert latest(tmp_path) is None


def test_a_half_written_checkpoint_is_passed_over_and_overwritten(
    tmp_path: Path, model_folder: Path, scorer: TokenScorer
) -> None:
    save(tmp_path, model_folder, scorer, 1)
    partial = tmp_path / ".step-000002.partial"
    partial.mkdir()
    (partial / "optimizer-00007.safetensors").write_bytes(b"half a file")
    assert latest(tmp_path) == step_folder(tmp_path, 1)
    folder = save(tmp_path, model_folder, scorer, 2)
    assert "optimizer-00007.safetensors" not in contents(folder)
    assert not partial.exists()


@pytest.mark.parametrize("fails", ["_save", "fsync"])
def test_a_full_disk_leaves_the_previous_checkpoint_as_it_was(
    tmp_path: Path, model_folder: Path, scorer: TokenScorer, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    save(tmp_path, model_folder, scorer, 1)
    before = contents(tmp_path)

    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module, fails, no_space)
        with pytest.raises(RunError, match=r"step 2 cannot be written .*No space left.* go on from step-000001"):
            save(tmp_path, model_folder, scorer, 2, keep=1)
    assert contents(tmp_path) == before
    assert verify(step_folder(tmp_path, 1))["step"] == 1
    save(tmp_path, model_folder, scorer, 2, keep=1)
    assert latest(tmp_path) == step_folder(tmp_path, 2)
    assert not list(tmp_path.glob(".*"))


def test_other_ranks_read_every_tensor_and_touch_no_disk(
    tmp_path: Path, model_folder: Path, scorer: TokenScorer
) -> None:
    """The gathering of tensors is collective: a rank that stopped early would leave the writer waiting."""
    seen: list[str] = []

    def watched() -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
        for name, slots in states(scorer):
            seen.append(name)
            yield name, slots

    write(tmp_path / "none", 1, STATE, watched(), None, model_folder, 2, writer=False)
    assert len(seen) == len(list(scorer.named_parameters()))
    assert not (tmp_path / "none").exists()


def test_random_states_are_json_and_restore_the_generator() -> None:
    states = json.loads(json.dumps(random_states()))
    first = torch.rand(3)
    torch.set_rng_state(torch.tensor(states["torch"], dtype=torch.uint8))
    assert torch.equal(torch.rand(3), first)
