"""The installer's decisions, without installing anything."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def install() -> ModuleType:
    spec = importlib.util.spec_from_file_location("install", ROOT / "constraints" / "install.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("system", "machine"), [("darwin", "arm64"), ("darwin", "x86_64"), ("linux", "aarch64")])
def test_an_unsupported_platform_is_refused_and_the_container_named(
    install: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], system: str, machine: str
) -> None:
    monkeypatch.setattr(install.sys, "platform", system)
    monkeypatch.setattr(install.platform, "machine", lambda: machine)
    with pytest.raises(SystemExit):
        install.check_platform()
    message = capsys.readouterr().err
    assert "docker build" in message
    assert "clusters/Dockerfile" in message
    assert (ROOT / "clusters" / "Dockerfile").is_file()


def test_the_stack_follows_the_driver_and_can_be_forced(install: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STACK", raising=False)
    monkeypatch.setattr(install.Path, "exists", lambda path: str(path) == "/proc/driver/nvidia/version")
    assert install.find_stack() == "gpu"
    monkeypatch.setattr(install.Path, "exists", lambda path: False)
    assert install.find_stack() == "cpu"
    monkeypatch.setenv("STACK", "tpu")
    with pytest.raises(SystemExit):
        install.find_stack()


def test_torch_comes_from_the_named_folder_or_else_from_its_cpu_index(
    install: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("UV_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    assert install.TORCH_CPU_INDEX in install.package_sources("cpu")
    (tmp_path / "torch-2.13.0+cpu-cp311-cp311-linux_x86_64.whl").touch()
    assert install.package_sources("cpu") == ["--find-links", str(tmp_path)]
    assert install.package_sources("gpu") == []


@pytest.mark.parametrize("stack", ["cpu", "gpu"])
def test_every_dependency_is_pinned_without_an_address(stack: str) -> None:
    pinned = (ROOT / "constraints" / f"{stack}.txt").read_text()
    assert "://" not in pinned
    names = {line.split("==")[0] for line in pinned.splitlines()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [re.match(r"[a-z0-9-]+", name)[0] for name in [*project["dependencies"], *extras[stack], *extras["test"]]]  # type: ignore[index]
    assert not [name for name in wanted if name not in names]
