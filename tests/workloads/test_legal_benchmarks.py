"""The legal benchmarks: how answers are cut out and scored, by hand and on the published files where they lie beside the repository."""

from __future__ import annotations

from math import inf, log
from typing import Any

import pytest

from orchestrator.cli.evaluating import target_of
from orchestrator.config.compose import compose
from orchestrator.errors import ConfigError
from orchestrator.rollouts.parts import Result
from orchestrator.tables.declare import Measured
from orchestrator.values import Episode, Group, Sampling, Scored, Task, Turn
from workloads.benchmarks.results import results, score_of
from workloads.legal_delta.answers import MARKERS, Kind, kind_of
from workloads.legal_delta.benchmarks import Workload
from workloads.legal_delta.benchmarks.choices import chosen_letters, named_letters
from workloads.legal_delta.benchmarks.columns import BENCHMARKS, scored
from workloads.legal_delta.benchmarks.instructions import instruction_of
from workloads.legal_delta.benchmarks.items import Item, cut
from workloads.legal_delta.benchmarks.lawbench import articles, numbers


def told(name: str, text: str, answer: str, **more: Any) -> Scored:
    """What a text is worth where `answer` is right."""
    task = BENCHMARKS[name].task(Item("0", "答题。", "问题", "", answer, {}, more), "direct")
    return scored([episode(task, text)])[0]


def episode(task: Task, text: str) -> Episode:
    return Episode(task, 0, 0, (Turn("policy", (), (), (), text, "stop", 0.0, 0, 0),))


def workload(*settings: str) -> Workload:
    return Workload(compose("legal_delta.benchmarks", list(settings)))


# --- what the answer of a text is ---


def test_an_answer_is_cut_out() -> None:
    texts = {
        "[刑期]12月<eoa>": "12月",
        "<reasoning>\n[罪名]诈骗<eoa>\n</reasoning>\n<answer>\n[罪名]盗窃;抢夺<eoa>\n</answer>": "盗窃;抢夺",
        "<reasoning>不是A。</reasoning><answer> 选B </answer>": "选B",  # without a marker what is inside of the tag
        "<reasoning>不是A。<answer>[正确答案]B<eoa></answer>": "B",
        "<think>A</think>答案是C": "答案是C",  # without a tag all of it
        "<reasoning>A或B，还要再想": "",
        "先想盗窃、诈骗。\n</reasoning>\n盗窃": "盗窃",  # opened by the prompt, or not at all
        "诈骗</reasoning><reasoning>抢夺</reasoning><answer>盗窃</answer>": "盗窃",
        "盗窃<reasoning>不是诈骗</reasoning>": "盗窃",
        "诈骗</reasoning>": "",
        "[正确答案]D": "[正确答案]D",
        "": "",
    }
    assert {text: cut(text) for text in texts} == texts


# --- the scorers, by hand ---


def test_articles_are_numbers() -> None:
    # The first number between 、; Chinese numerals; 第…款 goes, and with it the article before it.
    assert articles("刑法第234、275条") == {234, 275}
    assert articles("刑法第二百六十四条、第六十七条第三款、刑法第52条和第53条") == {264, 52}
    # 第 and 条 go, and what is then no numeral is no article; 万元 is 元.
    assert articles("第二百条第三百条") == set()
    assert articles("第264条第265条、罚金二万元") == {264265, 2}
    assert articles("第" + "9" * 5000 + "条") == {inf}  # which no integer may be read from
    # 264 and 25 of 264 and 67: P = R = 1/2. One of two: 2·1/(1 + 2) = 2/3, and 1/2 of the union.
    assert told("lawbench_3_1", "[法条]刑法第264条、刑法第25条<eoa>", "刑法第264条、刑法第67条") == Scored(
        0.5, {"right": 0.0, "found": 1.0, "jaccard": pytest.approx(1 / 3)}
    )
    one = told("lawbench_3_1", "[法条]刑法第67条<eoa>", "刑法第264、67条")
    assert (one.reward, one.components["jaccard"]) == (pytest.approx(2 / 3), 0.5)
    assert told("lawbench_3_1", "不知道", "刑法第264条") == Scored(0.0, {"right": 0.0, "found": 0.0, "jaccard": 0.0})


def test_charges_are_found_wherever_they_stand() -> None:
    listed = ["合同诈骗", "盗窃", "诈骗"]
    # 合同诈骗 says 诈骗 as well: two found, one right: 2·1/(2 + 1).
    assert told("lawbench_3_3", "[罪名]合同诈骗<eoa>", "合同诈骗", listed=listed).reward == pytest.approx(2 / 3)
    whole = told("lawbench_3_3", "被告人犯盗窃罪、诈骗罪。", "诈骗;盗窃", listed=listed)
    assert whole == Scored(1.0, {"right": 1.0, "found": 1.0, "jaccard": 1.0})
    assert told("lawbench_3_3", "抢劫", "盗窃", listed=listed).components["found"] == 0.0  # of no list


@pytest.mark.parametrize("name", ["lawbench_3_4", "lawbench_3_5"])
def test_terms_are_worth_less_with_their_log_distance(name: str) -> None:
    # |ln 37 - ln 13| = 1.04597 of ln 216 = 5.37528: 0.80541. A gold term of no month: ln 216 - ln 13 = 2.81034 left: 0.52283.
    assert told(name, "[刑期]12月<eoa>", "36个月").reward == pytest.approx(0.80541, abs=1e-5)
    assert told(name, "十二个月", "0个月").reward == pytest.approx(0.52283, abs=1e-5)
    assert told(name, "三年", "36个月").reward == 1.0
    assert told(name, "3年6个月", "6个月").reward == 1.0  # the months alone, as published
    # 431 months off from none: ln 432 > ln 216, so that it costs more than no answer: 1 - ln 432 / ln 216 = -0.12895.
    assert told(name, "431个月", "0个月").reward == pytest.approx(-log(2) / log(216))
    assert told(name, "无期徒刑", "216个月") == Scored(0.0, {"right": 0.0, "found": 0.0})


def test_an_amount_is_among_the_numbers() -> None:
    assert numbers("1,500元和20.50元") == {1.0, 500.0, 20.5}
    assert told("lawbench_3_7", "共计8500元", "8500.0").reward == 1.0
    assert told("lawbench_3_7", "1500+7000=8500", "8500.0").reward == 1.0
    assert told("lawbench_3_7", "[金额]8,500元<eoa>", "8500.0") == Scored(0.0, {"right": 0.0, "found": 1.0})
    assert told("lawbench_3_7", "无法计算", "8500.0").components["found"] == 0.0


def test_lawbench_takes_one_letter_and_no_other() -> None:
    for text, worth in (("[正确答案]C<eoa>", 1.0), ("C，还是C", 1.0), ("C，不是A", 0.0), ("选丙", 0.0)):
        assert told("lawbench_3_6", text, "C").reward == worth
    assert told("lawbench_3_6", "选丙", "C").components["found"] == 0.0
    assert BENCHMARKS["lawbench_3_6"].chance == 0.25


def test_lexeval_joins_letters_before_an_explanation() -> None:
    said = {
        "C": "C",
        "答案：B。解析：A错": "B",
        "A、C": "AC",
        "CC D": "D",
        "C. 是的, C": "C",
        "ABCDEF": "ABCDE",
        "无": "",
    }
    assert {text: named_letters(text) for text in said} == said
    assert [told("lexeval_3_3", text, "B").reward for text in ("[正确答案]B<eoa>", "A和B", "")] == [1.0, 0.0, 0.0]


def test_disclaw_takes_short_answers_whole_and_looks_in_long_ones() -> None:
    said = {
        "B": "B",
        "不选A选B": "AB",
        "经过分析，本题的正确答案是C，而A和B都不正确。": "C",
        "根据专利法的规定，本题应当选择D项，A项有误。": "D",
        "A.丁某构成盗窃罪\nD.崔某构成非法持有枪支罪": "AD",
        "正确答案是A、C，其余两项都是错误的。": "AC",
        "这道题目考查的是专利法，我不能确定。": "",
    }
    assert {text: "".join(sorted(chosen_letters(text))) for text in said} == said
    assert told("disclaw_nje", "B.裁定不予受理", "B") == Scored(1.0, {"right": 1.0, "found": 1.0})
    assert told("disclaw_nje", "A.予以受理\nB.裁定不予受理", "B").reward == 0.0


# --- how it is asked, and what is told ---


@pytest.mark.parametrize("kind", Kind)
def test_instructions_tell_their_task_and_form(kind: Kind) -> None:
    instruction = instruction_of(kind)
    assert kind_of(instruction) is kind
    skeleton = instruction.partition("```\n")[2].partition("\n```")[0].splitlines()
    assert skeleton[:4] == ["<reasoning>", "{分析过程}", "</reasoning>", "<answer>"]
    assert skeleton[4].startswith(MARKERS[kind] + "{")
    assert skeleton[4:] == [skeleton[4].partition("<eoa>")[0] + "<eoa>", "</answer>"]


def test_tagged_asks_in_the_form_of_training() -> None:
    item = Item("7", "官方说明", "事实:甲偷了车。\r\n罪名:盗窃。", "甲偷了车。", "刑法第264条")
    task = BENCHMARKS["lawbench_3_1"].task(item, "tagged")
    system, user = task.messages
    assert "<reasoning>" in system["content"]
    assert user["content"].endswith(instruction_of(Kind.ARTICLE) + item.question)
    assert "官方说明" not in user["content"]
    assert (task.restricted, BENCHMARKS["disclaw_pae"].restricted) == (True, False)


def _result(tasks: Any, texts: list[str]) -> Result:
    episodes = [episode(task, text) for task, text in zip(tasks, texts, strict=True)]
    groups = [Group((one,), (verdict,)) for one, verdict in zip(episodes, scored(episodes), strict=True)]
    (result,) = results(groups, BENCHMARKS)
    return result


def test_results_have_jaccard_and_what_one_answer_would_score() -> None:
    answers = ("刑法第264条", "刑法第264条", "刑法第264、67条")
    items = [
        Item(str(n), "", f"事实:案情{n}。", f"案情{n}。", answer, {"articles": str(answer.count("、") + 1)})
        for n, answer in enumerate(answers)
    ]
    tasks = [BENCHMARKS["lawbench_3_1"].task(item, "direct") for item in items]
    # F1: 1, 0, 2/3; Jaccard: 1, 0, 1/2. 264 for all: 1, 1, 2/3.
    result = _result(tasks, ["第264条", "不知道", "第67条"])
    assert (result.score.mean, result.score.units, result.no_answer) == (pytest.approx(5 / 9), 3, 1)
    assert result.extras == {"commonest answer": pytest.approx(8 / 9), "jaccard": 0.5}
    assert result.views["articles"]["1"].mean == 0.5
    one = episode(tasks[2], "第67条")
    measured = Measured(one, scored([one])[0], None, {}, lambda verdict: verdict.reward)
    assert score_of("lawbench_3_1", component="jaccard")(measured) == 0.5
    assert score_of("lawbench_3_1", view="articles", value="1")(measured) is None


def test_the_verb_finds_them_and_settings_that_cannot_be_are_refused() -> None:
    assert target_of("legal_delta") == "legal_delta.benchmarks"
    for settings, words in (
        (["benchmarks=lawbench_3_2"], "no lawbench_3_2; there are lawbench_3_1"),
        (["benchmarks=lexeval_3_3"], r"lexeval_3_3 needs its files: data\.lexeval=FOLDER"),
        (["shots=4", "form=tagged"], "the examples have no reasoning"),
    ):
        with pytest.raises(ConfigError, match=words):
            workload(*settings)
    item = Item("0", "", "问题", "", "B")
    (call,) = workload().environment().play(BENCHMARKS["disclaw_pae"].task(item, "direct"), Sampling(9, 1.0))
    assert call.sampling == Sampling(9, 0.0)
