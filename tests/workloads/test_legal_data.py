"""LegalΔ's files: rows, splits by facts, traces, and what is refused."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import ConfigError, DataError
from workloads.legal_delta.answers import Kind, said
from workloads.legal_delta.data import (
    LegalDataConfig,
    base_of,
    cases_of,
    check_data,
    facts,
    read_cases,
    read_traces,
    reference_of,
    traces_of,
)
from workloads.legal_delta.prompts import messages
from workloads.legal_delta.scores import exact, format_reward, legal_reward

PUBLISHED = Path(__file__).parents[2].parent / "shared" / "data" / "legaldelta"
published = pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published files are not here")
INSTRUCTION = (
    "\n任务。\n```\n<reasoning>\n{详细分析过程}\n</reasoning>\n<answer>\n[刑期]{刑期}<eoa>\n</answer>\n```\n\n"
    "- `{详细分析过程}`：包含你对案件事实、罪名和法条的分析过程。\n- `{刑期}`：以月为单位。\n输入：\n"
)
BASE = "\n任务。\n```\n<answer>\n[刑期]{刑期}<eoa>\n</answer>\n```\n\n- `{刑期}`：以月为单位。\n输入：\n"
CHARGES = "说明你如何得出最终罪名，多个罪名用顿号（、）分隔。"


def row(number: int = 1, **change: Any) -> dict[str, Any]:
    values = {
        "id": f"case_{number}",
        "instruction": INSTRUCTION,
        "question": f"事实:甲第{number}次盗窃。\n罪名:盗窃\n法条:刑法第264条 ",
        "answer": "[刑期]6月<eoa>",
        "instruction_base": BASE,
    } | change
    return {name: value for name, value in values.items() if value is not None}


def written(path: Path, rows: Sequence[dict[str, Any]]) -> str:
    lines = [json.dumps(one, ensure_ascii=False) for one in rows]
    path.write_text("\n".join(lines) if path.suffix == ".jsonl" else f"[{','.join(lines)}]", encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("name", ["GRPO_x.json", "mine.jsonl"])
def test_a_row_is_a_case(tmp_path: Path, name: str) -> None:
    (case,) = read_cases(written(tmp_path / name, [row()]))
    assert (case.id, case.kind, case.answer) == ("case_1", Kind.SENTENCE, "[刑期]6月<eoa>")
    # Blanks at the ends of the published texts stay: they are part of the prompt.
    assert (case.question, case.instruction, case.instruction_base) == (row()["question"], INSTRUCTION, BASE)
    reference = reference_of(case)
    assert json.loads(json.dumps(reference)) == reference
    assert (reference["kind"], reference["story"]) == ("sentence", "甲第1次盗窃。")
    assert messages(reference, direct=True)[1]["content"].endswith(BASE + case.question)


def test_without_its_own_the_direct_instruction_is_made(tmp_path: Path) -> None:
    (case,) = read_cases(written(tmp_path / "x.json", [row(instruction_base=None)]))
    assert case.instruction_base == base_of(INSTRUCTION) == BASE


def test_repeated_ids_are_told_apart(tmp_path: Path) -> None:
    rows = [row(1), row(2, id="case_1"), row(3, id="case_1"), row(4, id=None), row(5, id=7)]
    cases = read_cases(written(tmp_path / "x.json", rows))
    assert [case.id for case in cases] == ["case_1", "case_1#2", "case_1#3", "3", "7"]


@pytest.mark.parametrize(
    ("question", "told"),
    [
        ("事实:甲。\n罪名:盗窃;诈骗\n法条:刑法第264条 ", "甲。"),
        ("事实：甲。\n 罪名：盗窃", "甲。"),
        ("事实:甲。\n罪名:一说\n乙。\n \n", "甲。\n罪名:一说\n乙。"),
        ("一、甲。\n二、乙。\n", "一、甲。\n二、乙。"),
    ],
)
def test_the_facts_alone(question: str, told: str) -> None:
    assert facts(question) == told


def test_cases_with_the_same_facts_are_one_group(tmp_path: Path) -> None:
    same = row(
        2,
        question=" 甲第1次盗窃。\n",
        answer="[金额]5.0元<eoa>",
        instruction="所有涉案金额的计算过程",
        instruction_base=None,
    )
    first, second, other = read_cases(written(tmp_path / "x.json", [row(1), same, row(3)]))
    assert first.group == second.group != other.group


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question": None}, "x.json row 1: field 'question' is missing"),
        ({"instruction": " "}, "row 1: field 'instruction' is ' '"),
        ({"answer": 3}, "row 1: field 'answer' is 3"),
        ({"answer": "6月"}, r"field 'answer' is '6月': it must be like \[刑期\]36月<eoa>"),
        ({"answer": "[刑期]6月"}, "field 'answer' is"),
        ({"answer": "[刑期]半年<eoa>"}, "field 'answer' is"),
        ({"answer": "答：[刑期]6月<eoa>"}, "field 'answer' is"),
        (
            {"answer": "[金额]6元<eoa>"},
            r"field 'answer' begins with \[金额\], which is not what field 'instruction' asks",
        ),
        ({"instruction_base": ""}, "field 'instruction_base' is ''"),
    ],
)
def test_a_row_that_will_not_do_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "x.json"
    written(path, [row(1), row(2, **change)])
    with pytest.raises(DataError, match=message):
        read_cases(str(path))


# Eight different facts, the first of them twice: a quarter is held out (2), 3 of the other 5 are trained on after 1 for the test.
def test_facts_are_on_one_side(tmp_path: Path) -> None:
    rows = [row(number) for number in range(8)] + [row(0, id="again")]
    path = written(tmp_path / "x.json", rows)
    data = LegalDataConfig(source="files", path=path, train_groups=3, eval_groups=48, test_groups=1)
    sides = {name: {case.group for case in cases} for name, cases in cases_of(data).items()}
    assert {name: len(groups) for name, groups in sides.items()} == {"train": 3, "eval": 2, "test": 1}
    assert len(set.union(*sides.values())) == 6
    assert cases_of(data) == cases_of(data)
    seeds = [
        cases_of(LegalDataConfig(source="files", path=path, eval_groups=1, train_groups=9, seed=seed))
        for seed in range(9)
    ]
    assert {sum(map(len, sides.values())) for sides in seeds} == {9}
    assert len({sides["eval"][0].group for sides in seeds}) > 1


def test_a_file_of_held_out_cases(tmp_path: Path) -> None:
    path = written(tmp_path / "train.json", [row(number) for number in range(6)])
    other = written(tmp_path / "dev.jsonl", [row(5, id="a"), row(9, id="b")])
    sides = cases_of(LegalDataConfig(source="files", path=path, eval_path=other))
    assert {case.id for case in sides["eval"]} == {"a", "b"}
    assert {case.id for case in sides["train"]} == {f"case_{number}" for number in range(5)}
    with pytest.raises(DataError, match="none is left to train on"):
        cases_of(LegalDataConfig(source="files", path=written(tmp_path / "one.json", [row(9)]), eval_path=other))


@pytest.mark.parametrize("output", ["\n\n```\nx\ny\n```", "```xml\nx\ny\n```\n", "\n\n```\nx\ny", "\n\nx\ny\n"])
def test_fences_of_traces_are_stripped(tmp_path: Path, output: str) -> None:
    (trace,) = read_traces(written(tmp_path / "x.json", [row(output=output)]))
    assert trace.output == "x\ny"


def test_raw_charges_of_traces_become_those_of_the_cases(tmp_path: Path) -> None:
    answer = "[罪名]非法[制造、买卖][枪支、弹药]、盗窃、[窝藏、包庇]<eoa>"
    plain = row(2, instruction=CHARGES.replace("顿号（、）", "分号（;）"), answer="[罪名]窝藏、包庇<eoa>")
    rows = [row(instruction=CHARGES, answer=answer, output="x"), plain | {"output": "y"}]
    first, second = read_traces(written(tmp_path / "x.json", rows))
    assert first.case.answer == "[罪名]非法制造、买卖枪支、弹药;盗窃;窝藏、包庇<eoa>"
    assert second.case.answer == "[罪名]窝藏、包庇<eoa>"


def test_traces_about_held_out_facts_are_left_out(tmp_path: Path) -> None:
    written(tmp_path / "GRPO_a.json", [row(number) for number in range(4)])
    written(tmp_path / "SFT_a.json", [row(number, output="x") for number in range(6)])
    data = LegalDataConfig(source="files", path=str(tmp_path), traces=str(tmp_path), eval_groups=1, test_groups=1)
    cases = cases_of(data)
    held_out = {case.group for side in ("eval", "test") for case in cases[side]}
    kept = [trace.case.group for trace in traces_of(data, cases)]
    assert len(kept) == 4
    assert not held_out & set(kept)
    # With all that the traces are about held out, nothing is left to imitate.
    other = written(tmp_path / "dev.json", [row(number) for number in range(6)])
    more = LegalDataConfig(
        source="files", path=written(tmp_path / "x.json", [row(9)]), eval_path=other, traces=str(tmp_path)
    )
    with pytest.raises(DataError, match="every trace is about held-out facts"):
        traces_of(more, cases_of(more))
    assert traces_of(LegalDataConfig(source="files", path=str(tmp_path)), cases) == []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (LegalDataConfig(traces="x.json"), r"leave data\.traces out"),
        (LegalDataConfig(eval_path="x.json"), r"leave data\.eval_path out"),
    ],
)
def test_settings_that_cannot_be_are_refused(data: LegalDataConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_data(data)


# Of 150 gold answers of articles 15 repeat an article, which the rules never give 5; in all others the gold answer itself is worth 5.
@published
def test_the_published_cases() -> None:
    cases = read_cases(str(PUBLISHED))
    assert Counter(case.kind.value for case in cases) == {
        "article": 150, "charge": 169, "sentence": 144, "amount": 50, "choice": 50
    }  # fmt: skip
    assert len({case.id for case in cases}) == len({case.group for case in cases}) == 563
    values = [said(case.answer).value_of(case.kind) for case in cases]
    assert all(exact(case.kind, value, case.answer) for case, value in zip(cases, values, strict=True))
    worth = [legal_reward(case.kind, value, case.answer) for case, value in zip(cases, values, strict=True)]
    short = [case.kind for case, reward in zip(cases, worth, strict=True) if reward < 5]
    assert short == [Kind.ARTICLE] * 15
    same = Counter(case.kind.value for case in cases if base_of(case.instruction) == case.instruction_base)
    assert same == {"article": 150, "amount": 50, "choice": 50}


@published
def test_the_published_traces() -> None:
    traces = read_traces(str(PUBLISHED))
    assert Counter(trace.case.kind.value for trace in traces) == {
        "amount": 100, "choice": 100, "charge": 96, "sentence": 89, "article": 65
    }  # fmt: skip
    assert len({trace.case.id for trace in traces}) == 450
    assert not any("```" in trace.output for trace in traces)
    assert all(said(trace.output).value_of(trace.case.kind) is not None for trace in traces)
    # Missing or misspelt reasoning tags; one has no line end after <answer> either.
    assert Counter(round(format_reward(trace.output), 3) for trace in traces) == {1.0: 434, 0.875: 5, 0.5: 10, 0.125: 1}


@published
def test_the_published_traces_are_about_the_published_held_out_cases() -> None:
    """250 of 450, with the same ids and gold answers."""
    cases = {case.group: case for case in read_cases(str(PUBLISHED))}
    both = [(trace.case, cases[trace.case.group]) for trace in read_traces(str(PUBLISHED)) if trace.case.group in cases]
    assert Counter(case.kind.value for case, _ in both) == {"charge": 96, "sentence": 89, "article": 65}
    assert all((one.id, one.answer) == (other.id, other.answer) for one, other in both)
    data = LegalDataConfig(source="files", path=str(PUBLISHED), traces=str(PUBLISHED), test_groups=48)
    sides = cases_of(data)
    held_out = {case.group for side in ("eval", "test") for case in sides[side]}
    assert len(held_out) == 96
    assert len(traces_of(data, sides)) == 450 - sum(case.group in held_out for case, _ in both)
