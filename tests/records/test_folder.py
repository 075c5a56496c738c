from __future__ import annotations

import fcntl
import math
import threading
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from orchestrator.config.schema import RunConfig
from orchestrator.errors import RunError
from orchestrator.records.folder import (
    FORMAT,
    RunFolder,
    atomic_path,
    atomic_write,
    give_back,
    is_taken,
    read_json,
    take,
    versions,
    write_json,
)


def test_the_config_loads_again_and_holds_versions(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "rlvr", "a", RunConfig(workload="rlvr", seed=3))
    loaded = OmegaConf.load(folder.config)
    assert (loaded.seed, loaded.rollout.fleet.servers, loaded.format) == (3, 1, FORMAT)
    assert loaded.versions.pyarrow
    assert loaded.versions.vllm is None or loaded.versions.vllm[0].isdigit()
    # Without what was added, it is the same typed configuration.
    del loaded["versions"], loaded["format"]
    assert OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(RunConfig), loaded)) == RunConfig("rlvr", seed=3)


def test_who_only_looks_keeps_nobody_from_taking(tmp_path: Path) -> None:
    assert take(tmp_path)
    give_back(tmp_path)
    with (tmp_path / ".lock").open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        assert not take(tmp_path, patience_s=0)
        threading.Timer(0.2, fcntl.flock, (looking, fcntl.LOCK_UN)).start()
        assert take(tmp_path)
    assert is_taken(tmp_path)
    # A folder that is taken stays so.
    assert not take(tmp_path, patience_s=0.1)
    give_back(tmp_path)
    assert not is_taken(tmp_path)


def test_references_between_settings_are_resolved(tmp_path: Path) -> None:
    config = OmegaConf.create({"a": 1, "b": "${a}"})
    assert RunFolder.create(tmp_path, "w", "n", config).settings()["b"] == 1


def test_an_existing_run_is_refused_with_remedies(tmp_path: Path) -> None:
    RunFolder.create(tmp_path, "rlvr", "a", RunConfig())
    before = (tmp_path / "rlvr/a/config.yaml").read_bytes()
    with pytest.raises(FileExistsError, match=r"name=.*remove") as caught:
        RunFolder.create(tmp_path, "rlvr", "a", RunConfig(seed=1))
    assert isinstance(caught.value, RunError)
    assert str(caught.value).startswith("the run rlvr/a exists")
    assert (tmp_path / "rlvr/a/config.yaml").read_bytes() == before


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/abs", "-x", "a b", "a@3", ".hidden", "a\n"])
def test_a_name_is_no_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="cannot name a run folder"):
        RunFolder.create(tmp_path, "rlvr", name, RunConfig())
    assert not list(tmp_path.iterdir())


def test_open_refuses_what_is_no_run_or_is_newer(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no config\.yaml"):
        RunFolder.open(tmp_path)
    folder = RunFolder.create(tmp_path, "rlvr", "a", RunConfig())
    assert RunFolder.open(str(folder.path)) == folder
    atomic_write(folder.config, f"format: {FORMAT + 1}\n")
    with pytest.raises(ValueError, match="update orchestrator"):
        RunFolder.open(folder.path)


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    write_json(path, {"x": 1})

    def interrupted() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert read_json(path) == {"x": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["summary.json"]


def test_json_keeps_nan_and_infinities_and_stays_strict(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": math.nan, "b": [math.inf, -math.inf], "c": {"d": "é"}})
    assert '"NaN"' in path.read_text()
    value = read_json(path)
    assert math.isnan(value["a"])
    assert value["b"] == [math.inf, -math.inf]
    assert value["c"] == {"d": "é"}


def test_versions_name_what_is_installed() -> None:
    found = versions()
    assert found["python"]
    assert set(found) >= {"torch", "vllm", "ray", "deepspeed", "transformers", "wandb", "pyarrow", "commit"}
