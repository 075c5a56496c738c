"""Prompts that are too long lose the middle of their story."""

from __future__ import annotations

from typing import Any

import pytest
from jinja2 import TemplateError

from orchestrator.errors import ConfigError
from orchestrator.fitting import CUT, GAP, Fitting
from orchestrator.values import Task


def task(story: str, name: str = "t") -> Task:
    messages = ({"role": "system", "content": "Answer."}, {"role": "user", "content": f"{story}\n\nWhere?"})
    return Task(name, messages, {"story": story})


def by_characters(most: int) -> Fitting:
    return Fitting(lambda messages: sum(len(message["content"]) for message in messages), most)


def test_the_middle_of_the_story_goes_and_all_else_stays() -> None:
    # 7 of the system prompt and 8 of the question leave 25 for the story: 22 of its own beside the three of the gap.
    fitted = by_characters(40).fitted([task("abcdefghij" * 4), task("short", "s")])
    assert fitted.cut == 1
    long, short = fitted.tasks
    assert long.messages[1]["content"] == f"abcdefghija{GAP}jabcdefghij\n\nWhere?"
    assert long.reference[CUT] == 40 - 22
    assert long.reference["story"] == "abcdefghij" * 4
    assert CUT not in short.reference


def test_where_the_story_is_not_enough_the_prompt_is_cut() -> None:
    long = Task("t", ({"role": "user", "content": "abcdefghij" * 4},), {"story": "not there"})
    (cut,) = by_characters(13).fitted([long]).tasks
    assert cut.messages[0]["content"] == "abcde" + GAP + "fghij"
    with pytest.raises(ConfigError, match=r"task t has no room in 2 tokens.*raise model\.context_tokens"):
        by_characters(2).fitted([long])


class Template:
    """A chat template that puts two tokens around each message, a token a character, and knows no system prompt."""

    def apply_chat_template(self, messages: list[Any], **options: Any) -> dict[str, list[int]]:
        if messages[0]["role"] == "system":
            raise TemplateError("System role not supported")
        return {"input_ids": [0] * sum(len(message["content"]) + 2 for message in messages)}


def test_a_models_own_template_counts_and_what_it_refuses_is_told() -> None:
    alone = Task("t", ({"role": "user", "content": "abcdefghij"},), {"story": "abcdefghij"})
    assert Fitting.of(Template(), False, 12).fitted([alone]).cut == 0
    assert Fitting.of(Template(), False, 11).fitted([alone]).cut == 1
    with pytest.raises(
        ConfigError, match=r"model\.name: its tokenizer cannot render a chat \(System role not supported\)"
    ):
        Fitting.of(Template(), False, 11).fitted([task("story")])


def test_an_estimate_takes_three_bytes_for_a_token() -> None:
    chinese = Task("t", ({"role": "user", "content": "故" * 10},), {"story": "故" * 10})
    assert Fitting.estimated(10).fitted([chinese]).cut == 0
    assert Fitting.estimated(9).fitted([chinese]).cut == 1
    assert Fitting.estimated(None).fitted([task("x" * 10_000)]).cut == 0
