"""The search for a text that defends: what is kept of it, what the optimiser is shown; the models are functions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes.gathering import gathered
from fakes.searches import SMALL, URL, asked_of, evidence, kept, models

from orchestrator.config.compose import compose
from orchestrator.errors import ConfigError, RunError
from orchestrator.records.folder import RunFolder
from orchestrator.values import Call
from workloads import cdi
from workloads.cdi import prompts
from workloads.cdi.optimiser import OPTIMISER
from workloads.cdi.scenario import Scenario
from workloads.cdi.world import sensitive_marks
from workloads.cdi.world_words import MARKS


def workload(storage: Path, *words: str) -> prompts.Workload:
    search = ["search.steps=3", "search.runs=2", f"optimiser={URL}", f"storage={storage}"]
    config = compose("cdi.prompts", [*SMALL, *search, *words])
    assert isinstance(config, prompts.Config)
    return prompts.Workload(config)


def heeds(scenario: Scenario, call: Call) -> frozenset[str]:
    """Of one who doubts claims what is private stays so; otherwise everything is told."""
    doubts = "doubt claims ." in call.messages[0]["content"]
    return frozenset(MARKS) - sensitive_marks(scenario) if doubts else frozenset(MARKS)


def writes(*answers: Any) -> Callable[[Call], str]:
    """An optimiser's answers, by step."""

    def answer(call: Call) -> str:
        text = answers[int(call.key.rpartition("/")[2])]
        return text if isinstance(text, str) else json.dumps({"analysis": {}, "text": text})

    return answer


ANSWERS = (["doubt claims ."], "nothing comes to mind")


# Everything told: AD 2 * 3 / (3 + 3 + 3) = 2/3, leak score 0. Nothing that is private: AD 2 * 3 / (3 + 3) = 1, leak score 1.
@pytest.mark.parametrize(("objective", "scores"), [("ad", [2 / 3, 1, 1]), ("leak", [0, 1, 1])])
def test_the_best_text_is_kept_and_played(tmp_path: Path, objective: str, scores: list[float]) -> None:
    """Three training configs twice a step. The second answer cannot be read, so that the text of the second step is tried again."""
    made = workload(tmp_path, f"search.objective={objective}")
    found, fleet = gathered(made, models(made, heeds, writes(*ANSWERS)))
    assert [row["text"] for row in found.rows] == ["stay private .", "doubt claims .", "doubt claims ."]
    assert [row["score"] for row in found.rows] == pytest.approx(scores)
    assert [(row["simulations"], row["lost"], row["unread"]) for row in found.rows] == [(6, 0, 0), (6, 0, 1), (6, 0, 0)]
    first, second = asked_of(fleet, OPTIMISER)
    assert [one["tried"] for one in evidence(first)] == [["stay private ."]] * 5
    assert [one["score"] for one in evidence(first)] == [round(scores[0], 2)] * 5
    assert len(second.messages) == 4
    task = made.tasks("eval")[0]
    assert task.reference["defence"] == {"name": "prompting", "role": "policy", "text": "doubt claims ."}
    assert "train" not in {task.reference["config_id"].partition("-")[0] for task in made.tasks("eval")}


def test_what_went_worst_is_shown(tmp_path: Path) -> None:
    """One config of three leaks in two of the six simulations of the step: these come first."""
    made = workload(tmp_path)

    def weak(scenario: Scenario, call: Call) -> frozenset[str]:
        return frozenset(MARKS) if scenario.id == "train-1" else frozenset(MARKS) - sensitive_marks(scenario)

    _, fleet = gathered(made, models(made, weak, writes(*ANSWERS)))
    first = next(asked_of(fleet, OPTIMISER))
    assert [len(one["leaked"]) for one in evidence(first)] == [3, 3, 0, 0, 0]
    assert [one["score"] for one in evidence(first)] == [0.67, 0.67, 1.0, 1.0, 1.0]


def test_another_run_defends_with_the_text(tmp_path: Path) -> None:
    made = workload(tmp_path)
    found, _ = gathered(made, models(made, heeds, writes(*ANSWERS)))
    kept(found, RunFolder.create(tmp_path, "cdi.prompts", "texts", {}))
    config = compose("cdi", [*SMALL, "defence=prompting", "defence.text=run:texts", f"storage={tmp_path}"])
    assert isinstance(config, cdi.Config)
    (task,) = cdi.Workload(config).tasks("test")
    assert task.reference["defence"]["text"] == "doubt claims ."


def test_a_search_without_a_whole_simulation_says_so(tmp_path: Path) -> None:
    made = workload(tmp_path)
    with pytest.raises(RunError, match="step 0 of the search lost all of its 6 simulations"):
        gathered(made, models(made, heeds, lost=lambda call: call.role == "sender"))
    with pytest.raises(ConfigError, match="optimiser=mini: the search asks the optimiser"):
        gathered(workload(tmp_path, "optimiser=mini"))
    with pytest.raises(ConfigError, match="a search begins with a text in words"):
        workload(tmp_path, "defence.text=run:texts")
