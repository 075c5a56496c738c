"""The command line: its options, its messages, its exit statuses, and that planning is quick."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

import orchestrator
from orchestrator import cli
from orchestrator.config.keys import keys_of
from orchestrator.config.schema import RunConfig
from orchestrator.config.workloads import find_workload, workload_names
from orchestrator.errors import RunError
from orchestrator.records.folder import RunFolder, give_back, take
from orchestrator.records.metrics import Events
from orchestrator.sweep.folder import SweepFolder
from orchestrator.sweep.journal import Journal, Tried

ROOT = Path(__file__).parents[1]
WORKLOAD = """
from orchestrator.config.schema import RunConfig as Config


class Workload:
    def __init__(self, config: Config) -> None: ...
"""

OPTIONS = {
    "train": ["--all", "--dry-run", "--from", "--replay", "--resume", "--storage"],
    "sweep": ["--dry-run", "--resume", "--storage"],
    "judge": ["--out"],
    "list": ["--storage"],
    "status": ["--storage"],
    "stop": ["--storage"],
    "logs": ["--follow", "--storage"],
    "evaluate": ["--by", "--dry-run", "--storage"],
    "compare": ["--metric", "--plot", "--samples", "--step", "--storage"],
    "rejudge": ["--judge", "--split", "--step", "--storage"],
    "map": [
        "--embed",
        "--label",
        "--least",
        "--out",
        "--per-task",
        "--perplexity",
        "--seed",
        "--split",
        "--step",
        "--storage",
        "--task",
        "--tasks",
        "--top",
        "--unredacted",
    ],
    "sample": ["--max-tokens", "--n", "--seed", "--storage", "--task", "--temperature"],
    "new": ["--kind"],
    "report": ["--storage", "--unredacted"],
    "doctor": ["--quick", "--storage"],
    "export": ["--storage", "--to"],
    "bundle": ["--storage", "--to", "--verify", "--weights"],
    "table": ["--complete", "--dry-run", "--list", "--run", "--storage", "--verify"],
    "serve": [
        "--adapter",
        "--as",
        "--detach",
        "--dry-run",
        "--host",
        "--key-file",
        "--max-kilobytes",
        "--max-tokens",
        "--name",
        "--port",
        "--replicas",
        "--status",
        "--stop",
        "--storage",
    ],
    "submit": ["--address", "--detach", "--secret", "--storage"],
    "config explain": ["--workload"],
    "config show": [],
}
"""Frozen on purpose: settings are key=value, and an option is a promise. Beside these there is --help."""

OF_OTHER_PROGRAMS = {"--head", "--shm-size"}
"""Options that messages name for `ray start` and `docker run`."""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "world.py").write_text(WORKLOAD)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def orchestrate(*words: str) -> tuple[int, str, str]:
    """(exit status, stdout, stderr)."""
    done = CliRunner().invoke(cli.app, list(words))
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, done.stderr


def program(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-X", "importtime", "-m", "orchestrator", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)


def options(command: Any, name: str = "") -> dict[str, list[str]]:
    """The options of every verb below a command, --help aside."""
    inside = getattr(command, "commands", None)
    if inside is None:
        return {name: sorted(option for item in command.params for option in item.opts if option.startswith("-"))}
    return {key: found for part in inside for key, found in options(inside[part], f"{name} {part}".strip()).items()}


def test_the_options_are_these() -> None:
    assert options(typer.main.get_command(cli.app)) == OPTIONS


def test_help_has_examples_that_exist() -> None:
    status, out, _ = orchestrate("--help")
    assert status == 0
    assert "orchestrate train rlvr" in out
    for words in re.findall(r"orchestrate ((?:config )?[a-z]+)", out + orchestrate("train", "--help")[1]):
        assert words in OPTIONS, words


def texts() -> Iterator[tuple[str, str]]:
    """(file, text) of every string of the sources that holds more than one word, docstrings included."""
    for path in [*ROOT.glob("orchestrator/**/*.py"), *ROOT.glob("workloads/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value.strip():
                yield str(path.relative_to(ROOT)), node.value


def test_what_messages_name_exists() -> None:
    """Every `orchestrate VERB`, every --flag and every key=value of a group that a text of the sources names."""
    keys = {name: key for source in workload_names() for name, key in keys_of(find_workload(source).config).items()}
    groups = "|".join(name for name, key in keys.items() if key.is_group and "." not in name)
    flags = {"--help", *OF_OTHER_PROGRAMS, *(flag for found in OPTIONS.values() for flag in found)}
    for file, text in texts():
        for words in re.findall(r"\borchestrate ((?:config )?[a-z]+)", text):
            assert words in OPTIONS, (file, words)
        for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]+", text):
            assert flag in flags, (file, flag)
        for key in re.findall(rf"\b((?:{groups})\.[a-z_.]*[a-z_])=(?!=)", text):
            assert key in keys, (file, key)


def test_dry_run_shows_the_difference_and_the_placement() -> None:
    status, out, err = orchestrate("train", "world.py", "seed=3", "learner.ranks=1", "--dry-run")
    assert (status, err) == (0, "")
    assert re.search(r"seed +3 +0 +command line", out)
    assert re.search(r"learner.ranks +1 +2 +command line", out)
    assert re.search(r"learner +1 +0.5 +0 +DeepSpeed ZeRO-2 rank.* this machine", out)
    assert "It fits: 1.5 CPUs" in out
    assert (
        "all settings at their defaults" in orchestrate("train", "world.py", "cluster.inventory=null", "--dry-run")[1]
    )


def test_dry_run_on_stated_hardware() -> None:
    gpus = ["learner.gpus_per_rank=1", "rollout.fleet.gpus_per_server=1"]
    status, out, _ = orchestrate("train", "world.py", *gpus, "cluster.inventory=2x2x80GB", "--dry-run")
    assert status == 0
    assert "It fits: 2 CPUs and 3 GPUs of 32 CPUs and 4 GPUs" in out
    status, _, err = orchestrate("train", "world.py", *gpus, "cluster.inventory=1x24GB", "--dry-run")
    assert status == 2
    assert "it asks for 3 GPUs and there are 1" in err
    status, out, _ = orchestrate("train", "world.py", "cluster.address=auto", "--dry-run")
    assert status == 0
    assert "Not compared with the cluster at auto" in out
    status, _, err = orchestrate("train", "world.py", "cluster.inventory=lots", "--dry-run")
    assert (status, "cluster.inventory=lots" in err) == (2, True)


def test_dry_run_shows_memory_and_cost() -> None:
    status, out, err = orchestrate("train", "world.py", "hardware=8x80GB", "--dry-run")
    assert (status, err) == (0, "")
    assert re.search(r"model.name +hf:Qwen/Qwen2.5-7B-Instruct +mini +hardware=8x80GB", out)
    for part in ("weights", "Adam moments", "activations", "KV cache", "in all", "may use"):
        assert re.search(rf"^ +{part}.* \d+\.\d\d", out, re.MULTILINE), part
    assert re.search(r"about [\d.]+ hours on 8 GPU\(s\), \d+ GPU-hours \(range \d+ to \d+\)", out)
    assert "It fits: 32 CPUs and 8 GPUs of 64 CPUs and 8 GPUs" in out
    status, out, err = orchestrate("train", "world.py", "hardware=8x80GB", "cluster.inventory=8x40GB", "--dry-run")
    assert status == 2
    assert "does not fit into the memory" in err
    assert "It fits" not in out
    assert "no GPU-hours" in orchestrate("train", "world.py", "--dry-run")[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["train", "world.py", "stepz=3"],
            "orchestrate: stepz (command line): there is no such key. Did you mean steps?",
        ),
        (["train", "world.py", "steps"], "write settings as key=value"),
        (["train", "nothing"], "No workload is named 'nothing'"),
        (["config", "explain", "stepz"], "Did you mean steps?"),
        (["config", "show", "world.py", "steps=x"], "must be a whole number"),
        (["report", "missing"], "No run 'missing' in runs/"),
    ],
)
def test_an_expected_failure_is_one_message_and_status_2(words: list[str], message: str) -> None:
    status, out, err = orchestrate(*words)
    assert (status, out) == (2, "")
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_explain_and_show(folder: Path) -> None:
    assert "DeepSpeed ZeRO stage." in orchestrate("config", "explain", "learner.zero_stage")[1]
    assert "learner " in orchestrate("config", "explain")[1]
    (folder / "world/presets").mkdir(parents=True)
    (folder / "world/presets/small.yaml").write_text("steps: 400\n")
    assert "preset   small: 400" in orchestrate("config", "explain", "steps", "--workload", "world.py")[1]
    out = orchestrate("config", "show", "world.py", "preset=small", "learner.ranks=1")[1]
    assert "steps: 400  # world/presets/small.yaml" in out
    assert "  ranks: 1  # command line" in out


def test_list(folder: Path) -> None:
    assert "No runs in runs/" in orchestrate("list")[1]
    for name in ("first", "second"):
        (folder / "runs/rlvr" / name).mkdir(parents=True)
        (folder / "runs/rlvr" / name / "config.yaml").write_text("steps: 60")
    row = {"step": 60, "eval/oracle": 0.75, "eval/oracle_low": 0.7, "eval/oracle_high": 0.8, "eval/judge": 0.8}
    (folder / "runs/rlvr/first/metrics.jsonl").write_text(json.dumps(row) + "\n")
    (folder / "runs/rlvr/first/summary.json").write_text(json.dumps({"status": "finished"}))
    (folder / "runs/rlvr/second/metrics.jsonl").write_text(json.dumps({"step": 7}) + "\n")
    out = orchestrate("list")[1]
    assert re.search(r"rlvr/first +finished +60/60 +0.800 \(oracle 0.750 ± 0.050\)", out)
    assert re.search(r"rlvr/second +broken off +7/60", out)


def test_a_sweep_and_a_run_are_looked_at_and_stopped_by_the_same_verbs(folder: Path) -> None:
    run = RunFolder.create("runs", "rlvr", "policy-0123456789", {"steps": 12})
    Events(run.events).announce("starting Ray")
    sweep = SweepFolder(folder / "runs/sweeps/mine")
    sweep.path.mkdir(parents=True)
    sweep.definition.write_text("")
    sweep.command.write_text("orchestrate sweep kept/mine.yaml steps=12 --resume")
    sweep.log.write_text("policy: trial 0 begins\n")
    journal = Journal(sweep.journal)
    journal.open("policy")
    one = journal.begin(Tried("policy", 0, "", 0, {"learner.learning_rate": 0.5}, "rlvr/policy-0123456789"))
    journal.row(one, 4, 0.25, {"seconds": 1, "cpu_seconds": 1, "gpu_seconds": 0})
    out = orchestrate("list")[1]
    assert re.search(r"mine +broken off +0 of 1", out)
    assert re.search(r"rlvr/policy-0123456789 +broken off +0/12", out)
    out = orchestrate("status", "mine")[1]
    assert re.search(r"policy +0 +0 +learner.learning_rate=0.5 +rlvr/policy-0123456789 +broken off +4 +0.250", out)
    assert "go on with: orchestrate sweep kept/mine.yaml steps=12 --resume" in out
    assert orchestrate("logs", "mine")[1] == "policy: trial 0 begins\n"
    assert orchestrate("logs", "policy-0123456789")[1].endswith("starting Ray\n")
    for name in ("mine", "policy-0123456789"):
        status, _, err = orchestrate("stop", name)
        assert (status, "is not running (broken off)" in err) == (2, True)
    assert take(sweep.path)
    try:  # its run is about to begin
        assert re.search(r"policy-0123456789 +starting", orchestrate("status", "mine")[1])
    finally:
        give_back(sweep.path)
    taken = (sweep.path, run.path)
    assert all(map(take, taken))
    try:
        assert "mine: running" in orchestrate("status", "mine")[1]
        assert "step 0 of 12" in orchestrate("status", "policy-0123456789")[1]
        for name in ("mine", "policy-0123456789"):
            assert orchestrate("stop", name)[0] == 0
        assert sweep.stop.exists()
        assert run.stop.exists()
    finally:
        for path in taken:
            give_back(path)


@pytest.mark.parametrize(
    ("words", "again"),
    [
        ("sweep mine.yaml steps=12 --storage kept", "orchestrate sweep mine.yaml steps=12 --storage kept --resume"),
        ("sweep mine.yaml name=other --resume", "orchestrate sweep mine.yaml name=other --resume"),
        ("train rlvr seed=0..4 --storage kept", "orchestrate train rlvr storage=kept seed=0..4"),
    ],
)
def test_a_sweep_knows_the_command_that_goes_on_with_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, words: str, again: str
) -> None:
    from orchestrator.sweep import driver

    told: list[str] = []
    monkeypatch.setattr(driver, "run_sweep", lambda sweep, storage, resume, command: told.append(command) or 0)
    (folder / "mine.yaml").write_text("target: rlvr\nruns: {a: {}}")
    assert orchestrate(*words.split())[0] == 0
    assert told == [again]


def test_report_draws_the_run_that_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestrator.records import report

    shown: list[tuple[Path, bool]] = []
    monkeypatch.setattr(report, "render", lambda run, unredacted: shown.append((run, unredacted)))
    (folder / "kept/rlvr/first").mkdir(parents=True)
    (folder / "kept/rlvr/first/config.yaml").write_text("")
    assert orchestrate("report", "first", "--storage", "kept")[0] == 0
    assert orchestrate("report", "first", "--unredacted", "--storage", "kept")[0] == 0
    assert shown == [(Path("kept/rlvr/first"), False), (Path("kept/rlvr/first"), True)]


@pytest.mark.parametrize("status", [0, 1])
def test_train_hands_the_config_over_and_ends_with_its_status(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    runs: list[RunConfig] = []

    def run(config: RunConfig) -> int:
        runs.append(config)
        return status

    replace_experiment(monkeypatch, run)
    assert orchestrate("train", "world.py", "steps=3") == (status, "", "")
    assert runs[0].steps == 3


def test_a_failure_that_a_run_expects_is_told_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(config: RunConfig) -> int:
        raise RunError("the judge is gone")

    replace_experiment(monkeypatch, run)
    assert orchestrate("train", "world.py") == (2, "", "orchestrate: the judge is gone\n")


def replace_experiment(monkeypatch: pytest.MonkeyPatch, run: Callable[[RunConfig], int]) -> None:
    module = types.ModuleType("orchestrator.experiment")
    module.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "orchestrator.experiment", module)
    monkeypatch.setattr(orchestrator, "experiment", module, raising=False)


@pytest.mark.parametrize("target", ["world.py", "rlvr", "rubric"])
def test_the_program_plans_quickly_without_frameworks(target: str) -> None:
    started = time.monotonic()
    done = program("train", target, "--dry-run")
    seconds = time.monotonic() - started
    assert done.returncode == 0, done.stderr[-2000:]
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "omegaconf" in imported
    assert not imported & {"torch", "ray", "vllm", "transformers", "deepspeed", "wandb", "pyarrow", "numpy"}
    assert seconds < 10  # 0.6 s on an idle core; the bound leaves room for a busy machine


def test_help_is_quick() -> None:
    started = time.monotonic()
    done = program("--help")
    assert done.returncode == 0
    assert "Examples:" in done.stdout
    assert not re.search(r"\| +(omegaconf|rich|yaml)$", done.stderr, re.MULTILINE)
    assert time.monotonic() - started < 5
