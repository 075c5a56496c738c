"""LegalΔ's rules against numbers worked out by hand and those of the authors' training log."""

from __future__ import annotations

import time

import pytest

from workloads.legal_delta.answers import Kind, reasoned
from workloads.legal_delta.scores import (
    amount,
    articles,
    charges,
    exact,
    format_reward,
    legal_reward,
    letter,
    term,
)

GOLD = {
    Kind.ARTICLE: "[法条]刑法第264条、刑法第133条<eoa>",
    Kind.CHARGE: "[罪名]盗窃;诈骗<eoa>",
    Kind.SENTENCE: "[刑期]12月<eoa>",
    Kind.AMOUNT: "[金额]5428.0元<eoa>",
    Kind.CHOICE: "[正确答案]D<eoa>",
}
WHOLE = reasoned("因为甲偷了东西", "[刑期]36月<eoa>")


# Eighths: a tag 1, a marker 1, one <eoa> 1, both parts there 2, together 8. What is lost:
# - a tag that is missing, double or without its line end: 1; the second <reasoning> after text leaves both parts there;
# - the reasoning's opening: no reasoning either, 3; the answer's: no answer, 3, and the end keeps its newline;
# - an empty reasoning: 2; but where the tags share their line end nothing closes it, what follows is taken for it, and nothing is lost;
# - an unknown marker: 1, it is in brackets all the same; no brackets at all: 3;
# - two <eoa>: 1, and nothing is taken off for what trails; none: 3.
# Trailing: 0.01 a character up to 0.375, so 5 cost 0.05 and 100 cost 0.375; where <eoa> and </answer> stand apart, all of it trails.
@pytest.mark.parametrize(
    ("text", "reward"),
    [
        (WHOLE, 1.0),
        (f"\n\n{WHOLE}", 1.0),
        (WHOLE.replace("<reasoning>\n", "<reasoning>"), 1 - 3 / 8),
        (WHOLE.replace("\n</reasoning>\n", "\n</reasoning>"), 1 - 1 / 8),
        (WHOLE.replace("<answer>\n", "<answer>"), 1 - 3 / 8),
        (WHOLE.replace("东西", "东西<reasoning>\n"), 1 - 1 / 8),
        (reasoned("", "[刑期]36月<eoa>"), 1 - 2 / 8),
        (reasoned("", "[刑期]36月<eoa>").replace("\n\n", "\n"), 1.0),
        (WHOLE.replace("[刑期]", "[答案]"), 1 - 1 / 8),
        (WHOLE.replace("[刑期]", "刑期"), 1 - 3 / 8),
        (WHOLE.replace("<eoa>", "<eoa><eoa>"), 1 - 1 / 8),
        (WHOLE.replace("<eoa>", ""), 1 - 3 / 8),
        (f"{WHOLE}12345", 0.95),
        (f"{WHOLE}{'x' * 37}", 0.63),
        (f"{WHOLE}{'x' * 100}", 1 - 0.375),
        (WHOLE.replace("<eoa>\n", "<eoa>。\n"), 1 - 0.375),
        # Nothing but an end sign of 5 characters: 1/8 - 0.05; after 100 more 1/8 - 0.375.
        ("<eoa>", 0.075),
        (f"{'x' * 100}<eoa>", -0.25),
        ("", 0.0),
        ("[刑期]", 1 / 8),
    ],
)
def test_the_format_and_what_each_defect_costs(text: str, reward: float) -> None:
    assert format_reward(text) == pytest.approx(reward, abs=1e-12)


# Published in the training log, against 12 months. Others: 5 (ln 36 - |ln 13 - ln 1|) / ln 36 = 5 (1 - 2.564949/3.583519) = 1.421191
# for 0 months.
@pytest.mark.parametrize(
    ("value", "reward"),
    [
        ("48月", 3.149),
        ("54月", 2.987),
        ("36月", 3.541),
        ("18月", 4.471),
        ("12月", 5.0),
        ("0月", 1.421),
        ("无期", 0.0),
        ("死刑", 0.0),
        ("12", 0.0),
        ("", 0.0),
        (None, 0.0),
        ("１２月", 5.0),
        ("十二个月", 5.0),
        ("一年", 5.0),
    ],
)
def test_prison_terms(value: str | None, reward: float) -> None:
    assert round(legal_reward(Kind.SENTENCE, value, GOLD[Kind.SENTENCE]), 3) == reward


# Against 12 months: 5 (ln 36 - ln(467/13)) / ln 36 = 5 (3.5835189 - 3.5813799) / 3.5835189 = 0.0029845 for 466; 468/13 = 36 for 467.
@pytest.mark.parametrize(("value", "reward"), [("466月", 0.0029845), ("467月", 0.0), ("468月", 0.0)])
def test_nothing_is_left_of_a_term_36_times_as_long(value: str, reward: float) -> None:
    assert legal_reward(Kind.SENTENCE, value, GOLD[Kind.SENTENCE]) == pytest.approx(reward, abs=1e-7)


@pytest.mark.parametrize(
    ("value", "true", "reward"),
    [("无期徒刑", "无期", 5.0), ("死刑，缓期二年", "死刑", 5.0), ("死刑", "无期", 0.0), ("240月", "无期", 0.0)],
)
def test_life_and_death_are_no_numbers(value: str, true: str, reward: float) -> None:
    assert legal_reward(Kind.SENTENCE, value, f"[刑期]{true}<eoa>") == reward


# Months before years, the first of each; 个月 before 月, so that 3个月 is read in "2月3个月"; of 2.5 the digits after the point.
@pytest.mark.parametrize(
    ("value", "months"),
    [
        ("3年6个月", 6),
        ("三年六个月", 6),
        ("3年", 36),
        ("两年", 24),
        ("廿四个月", 24),
        ("一百二十月", 120),
        ("二〇月", 20),
        ("2月3个月", 3),
        ("拘役五个月至1年", 5),
        ("36 月", None),
        ("2.5个月", 5),
        ("半年", None),
        ("9999999999月", None),
    ],
)
def test_terms_are_read(value: str, months: int | None) -> None:
    assert term(value) == months


@pytest.mark.parametrize(
    ("value", "numbers"),
    [
        ("刑法第264条、刑法第133条", [264, 133]),
        ("第二百六十四条，第一百三十三条之一", [264, 133]),
        ("第三百零二条,第三〇二条 第一百条", [302, 302, 100]),
        ("刑法第２６４条", [264]),
        ("264", [264]),
        ("第490条、第491条、第99999999999999999999条", [490]),
        ("刑法第264条第1款", []),
        ("刑法第345条第2款、第344条", [344]),
        ("刑法", []),
        ("第万条", []),
        ("第26条第4条", [264]),
        ("第二百条第三百条", []),
        ("第264条、罚金二百万元", [264, 200]),
        ("", []),
    ],
)
def test_articles_are_read(value: str, numbers: list[int]) -> None:
    assert articles(value) == numbers


# Against 264 and 133. One right: F1 = 2 x 1 / (1 + 2) = 0.6667. One right twice: P = R = 1/2, 0.5. Both and one more: 2 x 2 / (3 + 2).
@pytest.mark.parametrize(
    ("value", "reward"),
    [
        ("第133条、第264条", 5.0),
        ("第264条", 3.333),
        ("第264条、第264条", 2.5),
        ("第264条、第133条、第1条", 4.0),
        ("第1条", 0.0),
        ("无", 0.0),
        (None, 0.0),
    ],
)
def test_articles_are_worth_their_f1(value: str | None, reward: float) -> None:
    assert legal_reward(Kind.ARTICLE, value, GOLD[Kind.ARTICLE]) == reward


# Gold 196, 196: repeated as it is 2 x 1 / (2 + 2); a single 196 2 x 1 / (1 + 2), the most there is.
def test_a_gold_answer_with_repetitions_is_never_worth_5() -> None:
    gold = "[法条]刑法第196条、刑法第196条<eoa>"
    assert legal_reward(Kind.ARTICLE, "刑法第196条、刑法第196条", gold) == 2.5
    assert legal_reward(Kind.ARTICLE, "刑法第196条", gold) == 3.333
    assert exact(Kind.ARTICLE, "刑法第196条", gold)


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("盗窃罪; 诈骗 ;", ["盗窃", "诈骗"]),
        ("掩饰、隐瞒犯罪所得罪", ["掩饰、隐瞒犯罪所得罪"]),
        ("[走私、贩卖、运输、制造]毒品罪", ["[走私、贩卖、运输、制造]毒品"]),
        ("盗窃；诈骗", ["盗窃；诈骗"]),
        ("罪", ["罪"]),
        (" ; ", []),
    ],
)
def test_charges_are_read(value: str, names: list[str]) -> None:
    assert charges(value) == names


# Against 盗窃 and 诈骗: one of them 2/3, both and a third 4/5, one twice 1/2; brackets and the full-width ； are other names.
@pytest.mark.parametrize(
    ("value", "reward"),
    [
        ("诈骗罪;盗窃罪", 5.0),
        ("盗窃", 3.333),
        ("盗窃;诈骗;抢劫", 4.0),
        ("盗窃;盗窃", 2.5),
        ("盗窃；诈骗", 0.0),
        ("[盗窃]", 0.0),
    ],
)
def test_charges_are_worth_their_f1(value: str, reward: float) -> None:
    assert legal_reward(Kind.CHARGE, value, GOLD[Kind.CHARGE]) == reward


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("5428.0元", 5428.0),
        ("共５４２８元", 5428.0),
        ("1,200元", 1.0),
        ("1.5万元", 1.5),
        ("约3.元", 3.0),
        ("五千元", None),
        ("", None),
    ],
)
def test_amounts_are_read(value: str, number: float | None) -> None:
    assert amount(value) == number


@pytest.mark.parametrize(("value", "found"), [("D", "D"), ("选 C。", "C"), ("BD", "B"), ("d", None), ("F", None)])
def test_letters_are_read(value: str, found: str | None) -> None:
    assert letter(value) == found


@pytest.mark.parametrize(
    ("kind", "value", "reward"),
    [
        (Kind.AMOUNT, "5428元", 5.0),
        (Kind.AMOUNT, "5428.01元", 0.0),
        (Kind.AMOUNT, "元", 0.0),
        (Kind.CHOICE, "D. 丁", 5.0),
        (Kind.CHOICE, "C", 0.0),
        (Kind.CHOICE, None, 0.0),
    ],
)
def test_amounts_and_letters_are_right_or_not(kind: Kind, value: str | None, reward: float) -> None:
    assert legal_reward(kind, value, GOLD[kind]) == reward
    assert exact(kind, value, GOLD[kind]) == (reward == 5.0)


def test_an_amount_of_nothing_can_be_right() -> None:
    assert legal_reward(Kind.AMOUNT, "0元", "[金额]0.0元<eoa>") == 5.0


@pytest.mark.parametrize(
    ("kind", "value", "right"),
    [
        (Kind.ARTICLE, "第133条、第264条、第264条", True),
        (Kind.ARTICLE, "第264条", False),
        (Kind.ARTICLE, "第264条、第1条", False),
        (Kind.CHARGE, "诈骗罪;盗窃", True),
        (Kind.CHARGE, "", False),
        (Kind.SENTENCE, "一年", True),
        (Kind.SENTENCE, "11月", False),
        (Kind.CHOICE, None, False),
    ],
)
def test_exactness(kind: Kind, value: str | None, right: bool) -> None:
    assert exact(kind, value, GOLD[kind]) is right


@pytest.mark.parametrize("sign", ["1", "一", "万", "第", "十点", "; "])
def test_no_answer_takes_long_to_read(sign: str) -> None:
    started = time.monotonic()
    for length in (1000, 100_000):
        for kind, gold in GOLD.items():
            assert legal_reward(kind, sign * length, gold) == 0.0
    assert time.monotonic() - started < 5
