"""Functions and workloads of one's own in settings: found, checked and recorded before anything starts."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from orchestrator import experiment
from orchestrator.cluster.plan import make_plan
from orchestrator.config.compose import ConfigError, compose, differences, to_values, trace
from orchestrator.config.functions import FunctionReference, files_of
from orchestrator.config.schema import RewardConfig, RunConfig
from orchestrator.records.folder import RunFolder
from workloads import rubric

REWARD = """
import beside_{stem}

def score(episodes):
    return [1.0] * len(episodes)

def gold(episodes):
    return [0.5] * len(episodes)

def pair(episodes, answers):
    return []

async def later(episodes):
    return []

NUMBER = 3
"""
WORKLOAD = """
from orchestrator.values import Task
from workloads.base import BaseWorkload

SETTINGS = {"steps": 7, "learner": {"learning_rate": 1e-3}, "algorithm": "dapo"}


class Workload(BaseWorkload):
    def tasks(self, split):
        return [Task("t", ({"role": "user", "content": "hello there"},))]


def reward(episodes):
    return [1.0] * len(episodes)
"""

QUIET = """
from dataclasses import dataclass

from orchestrator.config.schema import RunConfig
from workloads.base import BaseWorkload


@dataclass
class Config(RunConfig):
    asks_judge = False


class Workload(BaseWorkload):
    def tasks(self, split):
        return []

    def reward(self):
        return object()
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder; in it `my rewards/r.py` with a module beside it, and `world.py`. Its modules are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "my rewards").mkdir()
    stem = f"r{abs(hash(str(tmp_path)))}"
    (tmp_path / "my rewards" / f"beside_{stem}.py").write_text("")
    (tmp_path / "my rewards/r.py").write_text(REWARD.format(stem=stem))
    (tmp_path / "world.py").write_text(WORKLOAD)
    return tmp_path


def refused(*words: str, target: str = "rlvr") -> str:
    with pytest.raises(ConfigError) as caught:
        compose(target, words)
    return str(caught.value)


def test_a_function_is_recorded_by_its_absolute_path_and_no_judge_is_planned(here: Path) -> None:
    config = compose(
        "rlvr", ["reward=my rewards/r.py:score", "reward.gold=my rewards/r.py:gold", "reward.formula=official"]
    )
    assert config.reward.name == f"{here}/my rewards/r.py:score"
    assert config.reward.gold == f"{here}/my rewards/r.py:gold"
    assert isinstance(config.reward, RewardConfig)
    assert [*config.roles()] == ["policy"]
    plan = make_plan(config)
    assert [bundle.role for bundle in plan.bundles] == ["driver", "learner", "policy"]
    assert any("r.py:score" in fact and "no judge" in fact for fact in plan.facts)
    # What is stored says the same in another folder.
    assert compose("rlvr", [f"reward={config.reward.name}"]).reward.name == config.reward.name
    assert [*compose("rlvr", []).roles()] == ["policy", "judge"]


def test_a_judge_that_nothing_asks_is_not_looked_at() -> None:
    assert compose("rlvr", ["reward=my rewards/r.py:score", "judge=path:missing"]).judge.name == "path:missing"
    assert "judge.name: path:missing" in refused("judge=path:missing")


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("my rewards/r.py", "reward.name: 'my rewards/r.py' names no function: write my rewards/r.py:FUNCTION"),
        ("paper", "'paper' is not of the form path/to/file.py:function"),
        ("r.txt:score", "is not of the form"),
        ("missing.py:score", "reward.name: missing.py: cannot be read (No such file or directory)"),
        ("my rewards/r.py:scor", "my rewards/r.py:scor: the file has no such function. Did you mean score?"),
        ("my rewards/r.py:xyz", "There are: score, gold, pair, later."),
        ("my rewards/r.py:NUMBER", "NUMBER: is a int, not a function"),
        ("my rewards/r.py:pair", "must take the episodes and nothing else (it also wants answers)"),
        ("my rewards/r.py:later", "is async; write a plain function"),
    ],
)
def test_a_function_that_cannot_be_used_is_named_before_anything_starts(function: str, words: str) -> None:
    assert words in refused(f"reward={function}")


NOT_PYTHON = [
    ("\ndef f(:\n", r"SyntaxError: .* \(bad.py:2\)"),
    ("x = 1\0", "SyntaxError: source code string cannot contain null bytes"),
]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("x = 1\nimport not_there_at_all\n", r"ModuleNotFoundError: No module named 'not_there_at_all' \(bad.py:2\)"),
        ("def g():\n    raise KeyError('a')\ng()\n", r"KeyError: 'a' \(bad.py:2\)"),
        ("import sys\nsys.exit(3)\n", r"SystemExit: 3 \(bad.py:2\)"),
        *NOT_PYTHON,
    ],
)
def test_a_workload_that_fails_while_it_is_loaded_names_the_line(here: Path, content: str, words: str) -> None:
    (here / "bad.py").write_text(content)
    assert re.search(rf"bad.py cannot be loaded: {words}", refused(target="bad.py"))


@pytest.mark.parametrize(("content", "words"), NOT_PYTHON)
def test_a_functions_file_that_is_not_python_names_the_line(here: Path, content: str, words: str) -> None:
    (here / "bad.py").write_text(content)
    assert re.search(rf"reward.name: bad.py cannot be loaded: {words}", refused("reward=bad.py:f"))


@pytest.mark.parametrize(
    "defines",
    [
        "def f(episodes): ...", "def f(episodes, limit=3, *, k=1): ...", "def f(*episodes): ...", "from beside import f",
        "import beside as f", "from beside import *", "f = make(3)", "f: object = lambda episodes: []", "class f: ...",
        "try:\n    from a import f\nexcept ImportError:\n    def f(episodes): ...", "if 1:\n    f, g = make()",
        "@decorated\ndef f(a, b): ...",
    ],
)  # fmt: skip
def test_a_functions_file_is_read_and_not_run(here: Path, defines: str) -> None:
    """Whatever it does while it is loaded (here it would end the program, or sleep for an hour) it does in a process of its own."""
    (here / "slow.py").write_text(f"import os, time\nos._exit(3) or time.sleep(3600)\n{defines}\n")
    assert compose("rlvr", ["reward=slow.py:f"]).reward.name == f"{here}/slow.py:f"


@pytest.mark.parametrize(
    ("defines", "words"),
    [
        ("def f(): ...", "it takes nothing"),
        ("def f(episodes, *, k): ...", "it also wants k"),
        ("class A:\n    def f(self): ...", "the file has no such function. There are: none."),
        ("def g(episodes):\n    def f(episodes): ...", "There are: g."),
    ],
)
def test_a_function_that_is_not_there_for_all_to_call_is_refused(here: Path, defines: str, words: str) -> None:
    (here / "r.py").write_text(defines)
    assert words in refused("reward=r.py:f")


def test_a_workload_brings_its_reward_and_its_defaults_below_all_presets(here: Path) -> None:
    (here / "world/presets").mkdir(parents=True)
    (here / "world/presets/mini.yaml").write_text("steps: 8\n")
    composed = trace("world.py", ["learner.learning_rate=2e-3"])
    config = composed.config
    assert type(config) is RunConfig
    assert (config.steps, config.learner.learning_rate, config.algorithm.name) == (8, 2e-3, "dapo")
    # The algorithm that the file chooses comes with its preset, as one chosen anywhere else.
    assert config.algorithm.dynamic_sampling
    assert config.reward.name == f"{here}/world.py:reward"
    origins = {row.key: row.origin for row in differences(composed)}
    assert (origins["reward.name"], origins["steps"]) == ("world.py", "world/presets/mini.yaml")
    assert compose("world.py", ["reward=my rewards/r.py:score"]).reward.name == f"{here}/my rewards/r.py:score"
    assert "this workload has no reward: write a function `reward(episodes)`" in refused(
        "reward=null", target="world.py"
    )


def test_a_mistake_in_a_workloads_own_settings_or_constructor_names_the_file(here: Path) -> None:
    (here / "world.py").write_text(WORKLOAD.replace('"steps"', '"stepz"'))
    assert "stepz (world.py): there is no such key. Did you mean steps?" in refused(target="world.py")
    (here / "world.py").write_text(WORKLOAD.replace('{"steps": 7,', '["steps"] #'))
    assert "SETTINGS is a list; it must map keys to values" in refused(target="world.py")
    (here / "world.py").write_text(WORKLOAD.replace("def tasks", "def task"))
    assert "its Workload cannot be made: TypeError: Can't instantiate abstract class" in refused(target="world.py")
    (here / "world.py").write_text(
        WORKLOAD.replace("    def tasks", "    def __init__(self, c): c.nothing\n    def tasks")
    )
    assert re.search(r"AttributeError: .* \(world.py:9\)", refused(target="world.py"))


def test_a_run_is_not_resumed_with_another_reward(here: Path) -> None:
    """What the files hold is in config.yaml, which still runs as it is; a run of before has no such record."""
    config = compose("world.py", ["reward.gold=my rewards/r.py:gold", "tracking.mode=disabled"])
    files = files_of(config)
    assert [*files] == [f"{here}/world.py", f"{here}/my rewards/r.py"]
    folder = RunFolder.create(here / "runs", "world", "x", to_values(config) | {"files": files})
    assert compose(str(folder.config)) == config
    experiment.check_files(folder, config)
    (here / "my rewards/r.py").write_text(REWARD.replace("import", "# import") + "# edited\n")
    with pytest.raises(ConfigError, match=r"--resume x: .*my rewards/r.py changed since the run began.*--from x"):
        experiment.check_files(folder, config)
    before = RunFolder.create(here / "runs", "world", "y", to_values(config))
    experiment.check_files(before, config)


def test_files_are_kept_as_absolute_paths_and_a_run_is_not_resumed_with_others(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prompts, rubric and labels, wherever the run is resumed; a link keeps its name, and hf: is no file."""
    (here / "blob").write_text("one")
    (here / "p.jsonl").symlink_to(here / "blob")
    (here / "rubric.yaml").write_text("two")
    (here / "labels.csv").write_text("three")
    words = ["data.path=p.jsonl", "rubric.path=./rubric.yaml", "rubric.labels=labels.csv", "judge=http://judge/v1"]
    config = compose("rubric", words)
    assert isinstance(config, rubric.Config)
    assert (config.data.path, config.rubric.path) == (f"{here}/p.jsonl", f"{here}/rubric.yaml")
    files = files_of(config)
    assert [*files] == [f"{here}/{name}" for name in ("p.jsonl", "rubric.yaml", "labels.csv")]
    folder = RunFolder.create(here / "runs", "rubric", "x", to_values(config) | {"files": files})
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    assert compose(str(folder.config)) == config
    experiment.check_files(folder, config)
    (here / "labels.csv").write_text("four")
    with pytest.raises(ConfigError, match=r"labels.csv changed since the run began"):
        experiment.check_files(folder, config)
    hub = compose("rubric", ["data.path=hf:a/b", "judge=http://judge/v1"])
    assert (hub.data.path, files_of(hub)) == ("hf:a/b", {})


def test_a_reward_of_the_workloads_own_that_asks_no_judge_starts_none(here: Path) -> None:
    (here / "quiet.py").write_text(QUIET)
    config = compose("quiet.py")
    assert [*config.roles()] == ["policy"]
    assert [bundle.role for bundle in make_plan(config).bundles] == ["driver", "learner", "policy"]
    assert compose("quiet.py", ["judge=path:missing"]).judge.name == "path:missing"


def test_the_hash_is_of_the_content(here: Path) -> None:
    assert json.dumps(files_of(compose("rlvr", []))) == "{}"
    reference = FunctionReference.parse("my rewards/r.py:score")
    assert reference.path.is_absolute()
    assert reference.shown == "r.py:score"
