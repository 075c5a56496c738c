"""The published files of the legal benchmarks: generated in their schemas, and the real ones where they lie beside the repository."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from orchestrator.config.compose import compose
from orchestrator.errors import DataError
from orchestrator.values import Episode, Scored, Task, Turn
from workloads.benchmarks.results import Counted
from workloads.legal_delta.answers import MARKERS, Kind
from workloads.legal_delta.benchmarks import Workload
from workloads.legal_delta.benchmarks.choices import examples_of
from workloads.legal_delta.benchmarks.columns import BENCHMARKS, scored

DATA = Path(__file__).parents[2].parent / "shared" / "data"
COUNTS = {
    "lawbench_3_1": 500, "lawbench_3_3": 500, "lawbench_3_4": 496, "lawbench_3_5": 496, "lawbench_3_6": 500, "lawbench_3_7": 500,
    "disclaw_pae": 118, "disclaw_nje": 537, "disclaw_pfe": 170,
}  # fmt: skip
"""Items of the files; of 3-4 and 3-5 four are sentences for life or death."""


def needs(name: str) -> Any:
    return pytest.mark.skipif(not (DATA / name).is_dir(), reason=f"the files of {name} are not beside the repository")


def written(path: Path, rows: list[dict[str, Any]], lines: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(map(json.dumps, rows)) if lines else json.dumps(rows))
    return path


def workload(*settings: str) -> Workload:
    return Workload(compose("legal_delta.benchmarks", list(settings)))


def said(tasks: list[Task], texts: list[str]) -> list[Scored]:
    """What the texts are worth, each as the answer to its task."""
    turns = [Turn("policy", (), (), (), text, "stop", 0.0, 0, 0) for text in texts]
    return scored([Episode(task, 0, 0, (turn,)) for task, turn in zip(tasks, turns, strict=True)])


@needs("lawbench")
@needs("disclaw")
@pytest.mark.parametrize("name", COUNTS)
def test_right_answers_are_right_and_empty_ones_are_not(name: str) -> None:
    benchmark = BENCHMARKS[name]
    tasks = [benchmark.task(item, "tagged") for item in benchmark.items(str(DATA / benchmark.source))]
    assert len(tasks) == COUNTS[name]
    wrong = "<reasoning>\n不是A，也不是盗窃，第1条，1个月，1元。\n</reasoning>\n"
    right = [f"{wrong}<answer>\n{MARKERS[benchmark.kind]}{task.reference['answer']}<eoa>\n</answer>" for task in tasks]
    verdicts = said(tasks, right)
    if name != "lawbench_3_3":
        assert {one.reward for one in verdicts} == {1.0}
    assert {one.reward for one in said(tasks, [wrong] * len(tasks))} == {0.0}
    assert all(task.reference["story"] in task.messages[-1]["content"] for task in tasks)
    assert all(len(task.reference["story"]) > 20 for task in tasks if benchmark.kind != Kind.CHOICE)


@needs("lawbench")
def test_right_charges_are_not_all_right() -> None:
    """90 of the right answers have a name inside of another one: that is what the protocol can score at most."""
    benchmark = BENCHMARKS["lawbench_3_3"]
    tasks = [benchmark.task(item, "direct") for item in benchmark.items(str(DATA / "lawbench"))]
    verdicts = said(tasks, [f"[罪名]{task.reference['answer']}<eoa>" for task in tasks])
    assert len(tasks[0].reference["listed"]) == 202
    assert sum(one.reward < 1 for one in verdicts) == 90
    assert fmean(one.reward for one in verdicts) == pytest.approx(0.94593, abs=1e-5)
    assert fmean(one.components["jaccard"] for one in verdicts) == pytest.approx(0.91763, abs=1e-5)


@needs("lawbench")
@needs("disclaw")
def test_a_folder_of_all_asks_what_is_there() -> None:
    tasks = workload(f"data.path={DATA}", "limit=5").tasks("test")
    assert [task.reference["benchmark"] for task in tasks[::5]] == [name for name in BENCHMARKS if name in COUNTS]
    views = {task.reference["benchmark"]: set(task.reference["views"]) for task in tasks}
    assert (views["lawbench_3_1"], views["lawbench_3_4"], views["disclaw_nje"]) == (
        {"articles"},
        {"months"},
        {"letter", "exam"},
    )


@needs("lawbench")
@pytest.mark.parametrize(("name", "worth"), [("lawbench_3_4", 0.81513), ("lawbench_3_6", 0.292)])
def test_what_one_answer_to_all_is_worth(name: str, worth: float) -> None:
    """12 months, which 59 of 496 have, are near all other terms; D is right in 146 of 500."""
    items = BENCHMARKS[name].items(str(DATA / "lawbench"))
    counted = [Counted(BENCHMARKS[name].task(item, "direct").reference, 0.0, (False,)) for item in items]
    assert BENCHMARKS[name].extras(counted) == {"commonest answer": pytest.approx(worth, abs=1e-5)}


# --- files of the published schemas ---


def test_lexeval_in_lines_and_in_a_list(tmp_path: Path) -> None:
    rows = [{"instruction": "请选择刑期。", "input": "案情。\nA.6个月\nB.12个月", "answer": letter} for letter in "BA"]
    for number, lines in enumerate((True, False)):
        written(tmp_path / str(number) / "lexeval" / "3_3.json", rows, lines)
        tasks = workload(f"data.path={tmp_path / str(number)}").tasks("test")
        assert [task.reference["answer"] for task in tasks] == ["B", "A"]
        assert tasks[0].messages == ({"role": "user", "content": "请选择刑期。\n案情。\nA.6个月\nB.12个月"},)
    with pytest.raises(DataError, match=r"3_3\.json row 0.*'answer' is 'E': it must be one of A, B, C, D"):
        BENCHMARKS["lexeval_3_3"].items(str(written(tmp_path / "3_3.json", [rows[0] | {"answer": "E"}])))


@pytest.fixture
def disclaw(tmp_path: Path) -> Path:
    """Two of the five exams, and two examples."""
    for exam in ("lbk", "ungee"):
        (tmp_path / f"mcq_sing_{exam}.csv").write_text(
            "input,output,A,B,C,D,source,multichoice\n问？,B,甲,乙,丙,丁,题库,False\n"
        )
    (tmp_path / "mcq_sing_examples.csv").write_text('input,output\n"一？\nA.甲\nB.乙",B.乙\n"二？\nA.甲\nB.乙",A.甲\n')
    return tmp_path


def test_disclaw_with_examples_as_turns_of_before(disclaw: Path) -> None:
    lbk = workload(f"data.disclaw={disclaw}", "shots=1").tasks("test")[-1]
    assert [message["role"] for message in lbk.messages] == ["system", "user", "assistant", "user"]
    assert [message["content"] for message in lbk.messages[1:]] == [
        "一？\nA.甲\nB.乙",
        "B.乙",
        "问？\nA.甲\nB.乙\nC.丙\nD.丁",
    ]
    assert [task.reference["benchmark"] for task in workload(f"data.disclaw={disclaw}").tasks("test")] == [
        "disclaw_ungee",
        "disclaw_lbk",
    ]
    with pytest.raises(DataError, match="has 2 examples: set shots=2 at most"):
        examples_of(str(disclaw), 3)
    with pytest.raises(DataError, match="must be a folder with mcq_sing_examples"):
        examples_of(str(disclaw / "mcq_sing_lbk.csv"), 3)


def test_a_row_of_another_task_is_named(tmp_path: Path) -> None:
    path = written(
        tmp_path / "3-3.json", [{"instruction": "给出罪名。", "question": "事实:甲。", "answer": "刑期:4个月"}]
    )
    with pytest.raises(
        DataError, match=r"row 0: field 'answer' is '刑期:4个月': lawbench_3_3 has answers such as 罪名:…"
    ):
        BENCHMARKS["lawbench_3_3"].items(str(path))
    with pytest.raises(DataError, match=r"holds no file 3-1\.\*"):
        workload(f"data.lawbench={tmp_path}", "benchmarks=lawbench_3_1").tasks("test")
