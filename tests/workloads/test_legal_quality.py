"""How good reasoning is by another model: what is asked of stored answers, and what their ratings come to."""

from __future__ import annotations

from math import exp, log
from pathlib import Path

import pytest

from orchestrator.config.compose import compose, to_values
from orchestrator.errors import ConfigError
from orchestrator.records import episodes
from orchestrator.records.folder import RunFolder
from orchestrator.values import Episode, Group, LogitAnswer, Scored, Turn, Unscored
from workloads import legal_delta
from workloads.legal_delta import quality
from workloads.legal_delta.answers import direct, reasoned

SMALL = ("data.train_groups=8", "data.eval_groups=4")


@pytest.fixture
def rated(tmp_path: Path) -> quality.Workload:
    """The quality of a run whose last test has two answers to each of three cases, and an older evaluation beside it."""
    config = compose("legal_delta", [*SMALL, "data.test_groups=3", "name=a", "steps=6", f"storage={tmp_path}"])
    made = legal_delta.Workload(config)
    folder = RunFolder.create(tmp_path, "legal_delta", "a", to_values(config))
    for split, step in (("eval", 6), ("test", 0), ("test", 6)):
        groups = []
        for task in made.tasks(split):
            texts = (reasoned(f"想{n}于{step}。", task.reference["answer"]) for n in range(2))
            turns = (Turn("policy", (1,), (2,), (-1.0,), text, "stop", 1.0, step, 0) for text in texts)
            answered = tuple(Episode(task, step, number, (turn,)) for number, turn in enumerate(turns))
            groups.append(Group(answered, tuple(Scored(1.0, {"legal": 5.0}) for _ in answered)))
        episodes.write_step(folder, step, groups, {}, split, {})
    return quality.Workload(compose("legal_delta.quality", [*SMALL, "of=run:a", f"storage={tmp_path}"]))


def test_the_first_answers_of_the_last_test_are_rated(rated: quality.Workload) -> None:
    tasks = rated.tasks("eval")
    assert [task.reference["reasoning"] for task in tasks] == ["想0于6。"] * 3
    assert [task.id for task in tasks] == [f"test-6/test-{number}" for number in range(3)]
    assert rated.lessons() == ()


def test_the_gold_answer_is_rated_behind_the_reasoning(rated: quality.Workload) -> None:
    """Two tokens in three at a probability of 1/8 and 1/2 have a mean log-probability of -log 4: perplexity 4."""
    task = rated.tasks("eval")[0]
    episode = Episode(task, 0, 0, (Turn("policy", (1,), (2,), (-1.0,), "x", "length", 1.0, 0, 0),))
    (query,) = rated.reward().queries(episode)
    assert query.before == task.messages
    assert query.words == f"<reasoning>\n想0于6。\n</reasoning>\n{direct(task.reference['answer'])}"
    ((start, stop),) = query.spans
    assert f"[法条]{query.words[start:stop]}<eoa>" == task.reference["answer"]
    mean = (log(1 / 8) + log(1 / 2)) / 2
    (verdict,) = rated.reward().score([episode], [()], [[LogitAnswer(7.0, mean, 0, 2)]])
    assert isinstance(verdict, Scored)
    assert verdict.components == pytest.approx({"gold_logprob": -log(4), "perplexity": 4.0})
    assert rated.metrics([Group((episode,), (verdict,))])["perplexity"] == pytest.approx(exp(log(4)))
    (nothing,) = rated.reward().score([episode], [()], [[LogitAnswer(float("nan"), float("nan"), 0, 0)]])
    assert isinstance(nothing, Unscored)


def test_a_run_must_be_named() -> None:
    with pytest.raises(ConfigError, match="name the run whose stored answers are rated"):
        quality.Workload(compose("legal_delta.quality", ["of=path:folder"]))
    with pytest.raises(ConfigError, match="of is not set: name the run"):
        quality.Workload(compose("legal_delta.quality", [])).tasks("eval")
