"""LegalΔ's information gain: what is asked of the policy's logits, and what the answers make of the reward."""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, isfinite, nan
from typing import Any

import pytest

from orchestrator.errors import ConfigError
from orchestrator.values import Episode, LogitAnswer, LogitQuery, Message, Scored, Task, Turn
from workloads.legal_delta.answers import direct, reasoned
from workloads.legal_delta.gain import LegalReward, LegalRewardConfig, squashed

GOLD = "[刑期]36月<eoa>"
RIGHT = reasoned("入户盗窃，数额较大。", GOLD)
NOTHING = LogitAnswer(nan, nan, 7, 0)


def asked(reference: Mapping[str, Any]) -> tuple[Message, ...]:
    return ({"role": "user", "content": f"直接回答：{reference['question']}"},)


def reward(**settings: Any) -> LegalReward:
    return LegalReward(LegalRewardConfig(**settings), asked)


def episode_of(text: str, kind: str = "sentence", gold: str = GOLD) -> Episode:
    turn = Turn("policy", (1,), (2, 3), (-1.0, -1.0), text, "stop", 0.9, 7, 0)
    return Episode(Task("t", (), {"kind": kind, "answer": gold, "question": "某甲盗窃。"}), 1, 0, (turn,))


def rating(logit: float, logprob: float = -0.5, cut: int = 0) -> LogitAnswer:
    return LogitAnswer(logit, logprob, 7, 2, cut)


def verdict(text: str, after: LogitAnswer, without: LogitAnswer, **settings: Any) -> Scored:
    (found,) = reward(**settings).score([episode_of(text)], [()], [(after, without)])
    return found


def parts(query: LogitQuery) -> list[str]:
    return [query.text[start:stop] for start, stop in query.spans]


def test_the_own_answer_is_asked_for_and_the_gold_one_without_reasoning() -> None:
    """The months' unit is not rated; the baseline answers the direct question in direct mode's form."""
    episode = episode_of(reasoned("数额巨大。", "[刑期]48个月<eoa>"))
    after, without = reward().queries(episode)
    assert (after.before, after.kept, after.words) == (episode.trained[-1], None, "")
    assert parts(after) == ["48"]
    assert without.before == ({"role": "user", "content": "直接回答：某甲盗窃。"},)
    assert without.words == "<answer>\n[刑期]36月<eoa>\n</answer>"
    assert parts(without) == ["36"]


def test_gold_versus_gold_asks_for_the_gold_answer_behind_the_sampled_reasoning() -> None:
    """Whatever the policy answered; its text up to the reasoning's end stays, and the spans count from there."""
    text = reasoned("数额巨大。", "[刑期]48月<eoa>")
    after, without = reward(gain="gold_vs_gold").queries(episode_of(text))
    assert after.text == reasoned("数额巨大。", GOLD)
    assert after.kept == text.index("</reasoning>") + len("</reasoning>")
    assert parts(after) == parts(without) == ["36"]
    unfinished = "<reasoning>\n数额巨大。\n<answer>\n[刑期]48月<eoa>\n</answer>"
    after, _ = reward(gain="gold_vs_gold").queries(episode_of(unfinished))
    assert after.spans == ()


def test_an_answer_without_an_end_is_no_answer() -> None:
    after, without = reward().queries(episode_of("<reasoning>\n想\n</reasoning>\n<answer>\n[刑期]36月"))
    assert after.spans == ()
    assert parts(without) == ["36"]


def test_a_right_answer_with_a_gain_of_five() -> None:
    """sigma(5 x 0.2) = sigma(1) = 0.7310586; 5 x that = 3.6552929; with R_format 1 the reward is 4.6552929.

    log Z is 38 + 0.25 after the reasoning and 33 + 0.75 without: of the gain of 5, 0.5 is log-probability and 4.5 log Z.
    """
    found = verdict(RIGHT, rating(38.0, -0.25, cut=3), rating(33.0, -0.75))
    expected = {
        "format": 1.0, "legal": 5.0, "factor": 0.7310586, "info": 3.6552929, "gain": 5.0, "missing": 0.0, "cut": 3.0,
        "logit_reasoned": 38.0, "logit_direct": 33.0, "logprob_reasoned": -0.25, "logprob_direct": -0.75, "logprob_gain": 0.5,
        "log_z_reasoned": 38.25, "log_z_direct": 33.75, "logit_weights": 7.0,
    }  # fmt: skip
    assert found.components == pytest.approx(expected, abs=1e-7)
    assert found.reward == pytest.approx(4.6552929, abs=1e-7)


def test_a_wrong_answer_is_worth_its_form_whatever_the_gain() -> None:
    """Life where it was 36 months: R_legal is 0."""
    found = verdict(reasoned("情节特别严重。", "[刑期]无期<eoa>"), rating(50.0), rating(20.0))
    assert (found.reward, found.components["info"], found.components["legal"]) == (1.0, 0.0, 0.0)
    assert found.components["factor"] == pytest.approx(1 / (1 + exp(-6)))


def test_another_tasks_marker_is_rated_and_worth_nothing() -> None:
    """The code rates what stands after the last marker, and scores the task's own."""
    episode = episode_of(reasoned("想。", "[罪名]盗窃<eoa>"))
    assert parts(reward().queries(episode)[0]) == ["盗窃"]
    assert reward().verdict(episode, (rating(30.0), rating(30.0))).components["legal"] == 0.0


# The paper's log, first 120 rollouts: gains from -30.75 to 7, 1.26 on average.
# sigma(0.252) = 0.56267, of a legal reward of 4.13 that makes 2.324 (2.33 there); sigma(-6.15) = 0.0021289, sigma(1.4) = 0.80218.
@pytest.mark.parametrize(("gain", "factor"), [(1.26, 0.56267), (-30.75, 0.0021289), (7.0, 0.80218), (0.0, 0.5)])
def test_the_factors_of_the_published_log(gain: float, factor: float) -> None:
    assert squashed(gain, 0.2) == pytest.approx(factor, rel=1e-4)


def test_the_mean_gain_of_the_published_log_makes_its_mean_reward() -> None:
    """Reasoning 35.2, direct 33.9: 1.3 in its rounded means, 1.26 of the gains themselves."""
    assert 4.13 * squashed(1.26, 0.2) == pytest.approx(2.33, abs=0.01)
    assert squashed(-1e9, 0.2) == 0.0
    assert squashed(1e9, 0.2) == 1.0


def test_a_missing_answer_counts_as_a_logit_of_zero() -> None:
    """Against a baseline of 33 the gain is -33 and the factor sigma(-6.6) = 0.0013585; a missing baseline gives the rest of 1."""
    after = verdict(RIGHT, NOTHING, rating(33.0))
    assert (after.components["gain"], after.components["missing"]) == (-33.0, 1.0)
    assert after.components["factor"] == pytest.approx(0.0013585, rel=1e-4)
    without = verdict(RIGHT, rating(33.0), NOTHING)
    assert without.components["factor"] == pytest.approx(1 - 0.0013585, rel=1e-6)
    assert {"logit_reasoned", "logprob_reasoned", "log_z_reasoned", "logprob_gain"}.isdisjoint(after.components)
    assert {"logit_direct", "logprob_direct", "log_z_direct", "logprob_gain"}.isdisjoint(without.components)
    assert all(isfinite(value) for found in (after, without) for value in found.components.values())


def test_a_missing_answer_may_be_passed_over() -> None:
    """Half of R_legal: 1 + 5 x 0.5."""
    found = verdict(RIGHT, NOTHING, rating(33.0), missing="skip")
    assert found.reward == 3.5
    assert "gain" not in found.components
    assert found.components["logit_direct"] == 33.0


def test_log_probabilities_drop_the_gain_in_log_z() -> None:
    """-0.25 + 0.75 = 0.5: sigma(0.1) = 0.5249792, whatever the logits."""
    found = verdict(RIGHT, rating(38.0, -0.25), rating(33.0, -0.75), rating="logprob", missing="skip")
    assert (found.components["gain"], found.components["logprob_gain"]) == (0.5, 0.5)
    assert found.components["factor"] == pytest.approx(0.5249792, abs=1e-7)
    with pytest.raises(ConfigError, match=r"reward\.missing=skip"):
        reward(rating="logprob")


def test_without_gain_the_reward_is_form_and_law_and_logits_are_only_recorded() -> None:
    """48 months for 36: 5 (1 - ln(49/37) / ln 36) = 4.6080 in full."""
    text = reasoned("数额巨大。", "[刑期]48月<eoa>")
    recorded = verdict(text, rating(38.0), rating(33.0), gain="none")
    assert recorded.reward == pytest.approx(1 + 4.6080, abs=1e-4)
    assert (recorded.components["factor"], recorded.components["gain"]) == (1.0, 5.0)
    silent = reward(gain="none", record_logits=False)
    assert silent.queries(episode_of(text)) == ()
    (found,) = silent.score([episode_of(text)], [()], [()])
    assert found.reward == recorded.reward
    assert set(found.components) == {"format", "legal", "factor", "info"}


def test_the_baseline_of_one_task_is_the_same_question_for_all_its_episodes() -> None:
    one, other = (reward().queries(episode_of(text))[1] for text in (RIGHT, direct(GOLD)))
    assert one == other
