"""A sweep goes on with the definition that it was begun with, and with nodes added only where that is asked for."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.errors import ConfigError, RunError
from orchestrator.sweep.folder import SweepFolder
from orchestrator.sweep.spec import Done, Node, Range, Stage, Sweep

POLICY = Node("policy", "rlvr", {"steps": 4}, {"": {}}, (0, 1), (Range("learner.learning_rate", "grid", (0.1, 0.2)),))
TEST = Node("test", "rlvr", {"model.name": "node:policy"}, {"": {}}, (0,), inputs=("policy",))
SWEEP = Sweep("quick", (POLICY,))


def again(storage: Path, sweep: Sweep, resume: bool) -> SweepFolder:
    """Begin once more, as another process that gives the folder back."""
    folder = SweepFolder.begin(storage, sweep, resume)
    folder.end()
    return folder


def test_the_same_definition_goes_on(tmp_path: Path) -> None:
    first = again(tmp_path, SWEEP, False)
    done = Done("policy", "", 0, "rlvr/policy-0123456789", {"learner.learning_rate": 0.1}, True)
    first.close(Stage(POLICY, ""), [done])
    first.stop.touch()
    # What changes no result may change.
    second = again(tmp_path, replace(SWEEP, about="other words", at_once=2), False)
    assert second.done() == ({"policy search": "done"}, [done])
    assert not second.stop.exists()
    assert (second.name, second.storage) == ("quick", tmp_path.resolve())


def test_another_definition_is_refused_with_what_differs(tmp_path: Path) -> None:
    again(tmp_path, SWEEP, False)
    other = replace(SWEEP, metric="eval/reward", nodes=(replace(POLICY, settings={"steps": 5}),))
    for resume in (False, True):
        with pytest.raises(ConfigError) as refused:
            again(tmp_path, other, resume)
        assert "metric: eval/oracle, now eval/reward" in str(refused.value)
        assert "policy.settings.steps: 4, now 5" in str(refused.value)
        assert "name=another-name" in str(refused.value)


def test_settings_that_change_no_result_may_change(tmp_path: Path) -> None:
    again(tmp_path, SWEEP, False)
    settings = {"steps": 4, "learner.max_restarts": 5, "checkpoint.keep": 1, "tracking.project": "p"}
    changed = replace(POLICY, settings=settings, arms={"": {"sync.deadline_s": 60.0}})
    again(tmp_path, replace(SWEEP, nodes=(changed,)), True)
    # An arm may be named as one of them.
    named = replace(POLICY, name="arms", arms={"name": {"steps": 5}})
    again(tmp_path, Sweep("named", (named,)), False)
    with pytest.raises(ConfigError, match=r"name\.steps: 5, now 6"):
        again(tmp_path, Sweep("named", (replace(named, arms={"name": {"steps": 6}}),)), True)


def test_nodes_are_added_with_resume(tmp_path: Path) -> None:
    again(tmp_path, SWEEP, False)
    more = replace(SWEEP, nodes=(POLICY, TEST))
    with pytest.raises(ConfigError, match=r"begun without test.*--resume"):
        again(tmp_path, more, False)
    again(tmp_path, more, True)
    with pytest.raises(ConfigError, match="test: is gone"):
        again(tmp_path, SWEEP, True)


def test_resume_needs_a_sweep(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no sweep quick"):
        SweepFolder.begin(tmp_path, SWEEP, True)


def test_a_sweep_is_run_by_one_process(tmp_path: Path) -> None:
    SweepFolder.begin(tmp_path, SWEEP, False)
    path = tmp_path / "sweeps" / "quick"
    code = f"from pathlib import Path; from orchestrator.records.folder import take; print(take(Path({str(path)!r})))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"
    with pytest.raises(RunError, match="being run by another process"):
        SweepFolder.begin(tmp_path, SWEEP, False)
