"""Settings in words."""

from __future__ import annotations

import pytest

from orchestrator.config.explain import explain
from orchestrator.config.keys import keys_of
from orchestrator.config.schema import RunConfig
from orchestrator.errors import ConfigError


def test_one_key() -> None:
    text = explain(RunConfig, "learner.zero_stage", {"small": {"learner.zero_stage": 3}, "paper": {}})
    assert text.splitlines() == [
        "learner.zero_stage: DeepSpeed ZeRO stage.",
        "  type     a whole number",
        "  default  2",
        "  bounds   at least 0 and at most 3",
        "  preset   small: 3",
    ]
    assert "text or null" in explain(RunConfig, "data.path")
    assert "bounds   one of float32, bfloat16" in explain(RunConfig, "model.dtype")


def test_a_group_lists_its_own_keys() -> None:
    text = explain(RunConfig, "judge")
    assert "judge=NAME sets judge.name." in text
    assert "judge.min_mass" in text
    assert "judge.training " in text
    assert "judge.training.steps" not in text


def test_every_key_is_explained() -> None:
    for key in keys_of(RunConfig).values():
        assert key.doc in explain(RunConfig, key.name)
    assert "limits" in explain(RunConfig)


def test_a_workloads_own_key_says_whose_it_is() -> None:
    with pytest.raises(ConfigError, match=r"data\.judge_flaw: there is no such key\. .*--workload rlvr"):
        explain(RunConfig, "data.judge_flaw")


def test_an_unknown_key_has_a_nearest() -> None:
    with pytest.raises(ConfigError, match=r"Did you mean learner\.zero_stage\?"):
        explain(RunConfig, "learner.zero_stag")
