"""An independent judge behind a URL as the truth of real data."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
from fakes.openai_server import OpenAIServer, Reply, completion, serving

from orchestrator.errors import ConfigError
from orchestrator.rollouts.judge_file import answered
from orchestrator.rollouts.rubrics import Criterion, Rubric
from orchestrator.values import Scored, Task, Unscored
from workloads.rlvr import gold

RUBRIC = Rubric((Criterion("harm", "names the harm", 3), Criterion("lie", "advises a lie", -1)))
TASK = Task("d", ({"role": "user", "content": "May I lie?"},), {"rubric": RUBRIC.to_json()})


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    gold._judge.cache_clear()
    yield
    gold._judge.cache_clear()


def yes_to(words: str) -> Any:
    """A judge that says yes where a criterion holds these words and the response is not silent."""

    def answer(body: dict[str, Any], number: int) -> Reply:
        asked = body["messages"][-1]["content"]
        word = "yes" if words in asked and "silence" not in asked else "no"
        return 200, completion(word, {word: math.log(0.9)})

    return answer


def test_the_official_score_by_the_judge_at_the_url(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights 3 and -1. Harm named, no lie: (3 + 1) / 4; nothing named, no lie: 1 / 4. The response stands whole in the question."""
    with serving(OpenAIServer(yes_to("the harm"))) as server:
        monkeypatch.setenv(gold.URL, server.url)
        long = "it hurts " * 2000
        verdicts = gold.independent([answered(TASK, long, 0), answered(TASK, "silence", 1)])
        assert any(long in request["messages"][-1]["content"] for request in server.requests)
    assert [verdict.reward for verdict in verdicts if isinstance(verdict, Scored)] == [1.0, 0.25]


def test_a_judge_that_fails_leaves_the_answer_unscored(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(OpenAIServer(lambda body, number: (400, {"error": {"message": "out of order"}}))) as server:
        monkeypatch.setenv(gold.URL, server.url)
        (verdict,) = gold.independent([answered(TASK, "it hurts", 0)])
    assert isinstance(verdict, Unscored)


def test_without_a_url_it_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(gold.URL, raising=False)
    with pytest.raises(ConfigError, match="RLVR_GOLD_URL is not set"):
        gold.independent([answered(TASK, "it hurts", 0)])
