"""Models that a reward asks: roles of the run like its judge."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes.rated import RatedConfig

from orchestrator.cluster.cost import _asking, device_of
from orchestrator.cluster.plan import RATERS, make_plan
from orchestrator.config.checks import check, missing
from orchestrator.config.schema import FleetConfig, RunConfig
from orchestrator.config.shapes import shape_of
from orchestrator.fleets.remote import keys_of

URL = "http://localhost:8001/v1"


@pytest.fixture
def config(tmp_path: Path) -> RatedConfig:
    return RatedConfig(workload="toy", storage=str(tmp_path))


def test_every_rater_is_a_role_and_a_reward_function_asks_none(config: RatedConfig) -> None:
    config.content.training.steps, config.content.shared, config.content.retries = 7, True, 5
    roles = config.roles()
    assert list(roles) == ["policy", "judge", "content"]
    assert [role.scores for role in roles.values()] == [False, False, True]
    assert (roles["content"].training.steps, roles["content"].shared) == (7, True)
    assert config.retries() == {"judge": 2, "content": 5}
    config.reward.name = "reward.py:reward"
    assert list(config.roles()) == ["policy"]
    assert list(RunConfig().roles()) == ["policy", "judge"]


def test_a_rater_is_placed_works_while_answers_are_judged_and_is_read_by_once(config: RatedConfig) -> None:
    """2 ranks and 3 fleets of half a CPU: 2.5. Judge and content together 1.

    A judge reads 64 tokens and 20 criteria of 64 tokens, 1,344; content the answer and a prompt of 256 - 64 = 192, 256 tokens.
    """
    plan = make_plan(config)
    assert plan.cpus == 2.5
    assert plan.at_work([RATERS]) == (1, 0)
    for rater in (config.judge, config.content):
        rater.fleet = FleetConfig(gpus_per_server=1)
    roles = config.roles()
    shape = shape_of(config.judge.model, "mini", config.storage)
    assert shape is not None
    judge, content = (_asking(config, roles[name], shape, device_of(80)) for name in ("judge", "content"))
    assert judge / content == pytest.approx(1344 / 256)
    config.content.name = URL
    assert [item.role for item in make_plan(config).bundles] == ["driver", "learner", "policy", "judge"]
    assert f"the content is {URL}, which takes nothing from this cluster" in make_plan(config).facts


def test_what_is_wrong_with_a_rater_is_told_by_its_keys(config: RatedConfig) -> None:
    config.content.shared = True
    assert [text.partition(" ")[0] for text in check(config)] == ["content.shared"]
    config.content.name = URL
    assert check(config) == [
        f"content.shared with content={URL}: what a URL serves is shared already. Leave content.shared out."
    ]
    config.content.shared, config.content.name = False, "gpt"
    assert check(config)[0].startswith("content.name: 'gpt' is not a model reference.")
    config.content.name, config.content.fleet.gpus_per_server = "path:nowhere", 1.5
    assert check(config) == ["content.fleet.gpus_per_server=1.5: several GPUs must be a whole number of them."]
    assert [text.partition(":")[0] for text in missing(config)] == ["content.name"]
    # What nothing asks is not looked at.
    config.reward.name = "reward.py:reward"
    assert not any(text.startswith("content.name") for text in missing(config))


def test_each_url_has_a_key_of_its_own(config: RatedConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    config.judge.name, config.content.name = "http://judge/v1", URL
    config.content.api_key_env = "CONTENT_KEY"
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("CONTENT_KEY", "sesame")
    assert keys_of(config) == {"judge": None, "content": "sesame"}
    config.judge.name = "mini"
    assert keys_of(config) == {"content": "sesame"}
