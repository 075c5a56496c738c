"""Where an answer stands in a text, which of it is rated, and what the policy is asked."""

from __future__ import annotations

from typing import Any

import pytest

from workloads.legal_delta.answers import DEATH, LIFE, MARKERS, Kind, direct, kind_of, rated, reasoned, said, written
from workloads.legal_delta.prompts import messages

SENTENCE = "[刑期]36月<eoa>"


def test_a_whole_answer_in_its_parts() -> None:
    text = reasoned("偷了\n一次", SENTENCE)
    found = said(text)
    assert (found.reasoning, found.answer, found.marker, found.value) == ("偷了\n一次", SENTENCE, "[刑期]", "36月")
    assert found.span is not None
    assert text[slice(*found.span)] == "36月"
    assert found.value_of(Kind.SENTENCE) == "36月"
    assert found.value_of(Kind.AMOUNT) is None


# The last marker counts, and the first end after it; brackets that are no marker are part of the value.
@pytest.mark.parametrize(
    ("text", "marker", "value"),
    [
        ("[罪名]盗窃<eoa> [罪名]诈骗<eoa>", "[罪名]", "诈骗"),
        ("[罪名]盗窃<eoa> 又<eoa>", "[罪名]", "盗窃"),
        ("<eoa>[刑期]3月<eoa>", "[刑期]", "3月"),
        ("[罪名][走私、贩卖、运输、制造]毒品;[窝藏、包庇]<eoa>", "[罪名]", "[走私、贩卖、运输、制造]毒品;[窝藏、包庇]"),
        ("[刑期][罪名]盗窃<eoa>", "[罪名]", "盗窃"),
        ("[金额] 5.0元\n<eoa", "[金额]", " 5.0元\n"),
        ("[正确答案]<eoa>", "[正确答案]", ""),
        ("[罪名]盗窃<eoa> [罪名]", "[罪名]", None),
        ("[罪名]盗窃", "[罪名]", None),
        ("[答案]A<eoa>", None, None),
        ("", None, None),
    ],
)
def test_where_the_value_stands(text: str, marker: str | None, value: str | None) -> None:
    found = said(text)
    assert (found.marker, found.value) == (marker, value)
    assert (found.span is None) == (value is None)
    assert found.span is None or text[slice(*found.span)] == value


@pytest.mark.parametrize(
    ("text", "reasoning", "answer"),
    [
        ("<reasoning>a</reasoning><reasoning>b</reasoning>", "a", ""),
        ("<answer>a</answer><answer>b</answer>", "", "b"),
        ("<reasoning>a<answer>b", "", ""),
        ("a</reasoning>b</answer>", "", ""),
        ("<answer>a</answer><answer>b", "", ""),
    ],
)
def test_what_is_missing_is_empty(text: str, reasoning: str, answer: str) -> None:
    found = said(text)
    assert (found.reasoning, found.answer) == (reasoning, answer)


# Units are left out wherever they stand; 个 alone is none.
@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("36月", ["36"]),
        ("36个月", ["36"]),
        ("3年6个月", ["3年6"]),
        ("1万元5元", ["1万", "5"]),
        ("3个", ["3个"]),
        ("刑法第264条", ["刑法第264条"]),
        ("元", []),
        ("", []),
    ],
)
def test_units_are_not_rated(value: str, kept: list[str]) -> None:
    text = f"元月 [刑期]{value}<eoa> 元"
    span = said(text).span
    assert span is not None
    assert [text[slice(*piece)] for piece in rated(text, span)] == kept


@pytest.mark.parametrize(
    ("kind", "values", "answer"),
    [
        (Kind.ARTICLE, [264, 133], "[法条]刑法第264条、刑法第133条<eoa>"),
        (Kind.CHARGE, ["盗窃", "诈骗"], "[罪名]盗窃;诈骗<eoa>"),
        (Kind.SENTENCE, [36], "[刑期]36月<eoa>"),
        (Kind.SENTENCE, [LIFE], "[刑期]无期<eoa>"),
        (Kind.SENTENCE, [DEATH], "[刑期]死刑<eoa>"),
        (Kind.AMOUNT, [5428], "[金额]5428.0元<eoa>"),
        (Kind.CHOICE, ["D"], "[正确答案]D<eoa>"),
    ],
)
def test_answers_are_written_as_published(kind: Kind, values: list[Any], answer: str) -> None:
    assert written(kind, *values) == answer
    assert direct(answer) == f"<answer>\n{answer}\n</answer>"
    assert said(direct(answer)).marker == MARKERS[kind]


@pytest.mark.parametrize(
    ("instruction", "kind"),
    [
        ("包含你对案件事实、罪名和法条的分析过程，说明最终刑期。", Kind.SENTENCE),
        ("包含你对案件事实和罪名的分析过程，说明刑法法条。", Kind.ARTICLE),
        ("包含你对案件事实的分析过程，说明你如何得出最终罪名。", Kind.CHARGE),
        ("说明所有涉案金额的计算过程。", Kind.AMOUNT),
        ("解释为什么选择特定选项作为答案。", Kind.CHOICE),
        ("回答问题。", None),
        ("如何得出最终罪名；所有涉案金额的计算过程", None),
    ],
)
def test_an_instruction_tells_its_task(instruction: str, kind: Kind | None) -> None:
    assert kind_of(instruction) is kind


def test_the_prompts_of_a_row() -> None:
    reference = {"id": "x7", "question": "事实:甲。", "instruction": "先想再答。", "instruction_base": "直接答。"}
    system, user = messages(reference, direct=False)
    assert (system["role"], user["role"]) == ("system", "user")
    assert "<reasoning>\n" in system["content"]
    assert "\n</reasoning>\n<answer>\n" in system["content"]
    first, opening, rest = user["content"].split("\n", 2)
    assert (first, rest) == ("[QUERY_ID:x7]", "先想再答。事实:甲。")
    assert opening
    system, user = messages(reference, direct=True)
    assert "reasoning" not in system["content"]
    assert "<answer>\n" in system["content"]
    assert user["content"].endswith("\n直接答。事实:甲。")
