"""Problems in the schema of MATH-500: files that are read, split and refused, and answers that math-verify compares."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config.compose import compose
from orchestrator.config.schema import RewardConfig
from orchestrator.errors import ConfigError, DataError
from orchestrator.rollouts.verdicts import FunctionReward, Scoring
from orchestrator.values import Episode, Group, Scored, Task, Turn, Unscored
from workloads.rlvr.maths import Config, Workload, math500

ROWS = [
    {
        "problem": f'What is $\\frac{{{number}}}{{7}} + \\frac{{1}}{{7}}$?\nGive a fraction, "in lowest terms".',
        "solution": f"The sum is $\\boxed{{\\frac{{{number + 1}}}{{7}}}}$.",
        "answer": f"\\frac{{{number + 1}}}{{7}}",
        "subject": "Prealgebra",
        "level": 1 + number % 5,
        "unique_id": f"test/prealgebra/{number}.json",
    }
    for number in range(12)
]


def write(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(list(rows)), path)
    return path


def workload_of(path: Path, *overrides: str) -> Workload:
    config = compose("rlvr.maths", ["data.source=math500", f"data.path={path}", "data.eval_groups=3", *overrides])
    assert isinstance(config, Config)
    return Workload(config)


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_the_published_schema_is_read_from_any_kind_of_file(tmp_path: Path, kind: str) -> None:
    problems = math500.read_problems(str(write(tmp_path / f"problems.{kind}", ROWS)))
    assert [problem.id for problem in problems] == [row["unique_id"] for row in ROWS]
    assert (problems[3].text, problems[3].answer, problems[3].level) == (ROWS[3]["problem"], "\\frac{4}{7}", 4)
    task = problems[3].task
    assert task.id == "test/prealgebra/3.json"
    assert task.messages[0]["content"].startswith(str(ROWS[3]["problem"]))
    assert "boxed" in task.messages[0]["content"]
    assert {name: task.reference[name] for name in ("answer", "subject", "level")} == {
        "answer": "\\frac{4}{7}", "subject": "Prealgebra", "level": 4,
    }  # fmt: skip
    # what solves it is not shown, and not where only scoring looks either
    assert "The sum is" not in repr(task)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"answer": None},
            r"row 2 \(line 3\): field 'answer' is missing \(there: problem, solution, subject, level, uniq",
        ),
        ({"problem": "  "}, r"row 2 \(line 3\): field 'problem' is '  ': it must be a text that is not empty"),
        ({"solution": 7}, "row 2 .*: field 'solution' is 7: it must be a text"),
        ({"level": 6}, "row 2 .*: field 'level' is 6: it must be a whole number from 1 to 5"),
        ({"level": "Level 3"}, "field 'level' is 'Level 3'"),
        ({"level": True}, "field 'level' is True"),
        (
            {"unique_id": ROWS[0]["unique_id"]},
            r"row 2 .*: field 'unique_id' is 'test/prealgebra/0.json', as in .*row 0",
        ),
        ({"problem": f" {str(ROWS[1]['problem']).upper()} "}, r"row 2 .*: field 'problem' is the same as in .*row 1"),
    ],
)
def test_what_is_wrong_names_row_and_field(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    rows = [*ROWS[:2], {**ROWS[2], **change}, *ROWS[3:]]
    with pytest.raises(DataError, match=told):
        math500.read_problems(str(write(tmp_path / "problems.jsonl", rows)))


def test_the_split_is_stable_and_its_sides_share_nothing(tmp_path: Path) -> None:
    path, turned = write(tmp_path / "a.jsonl", ROWS), write(tmp_path / "b.jsonl", ROWS[::-1])
    sides = {
        split: [task.id for task in workload_of(path, "data.test_groups=4").tasks(split)]
        for split in ("train", "eval", "test")
    }
    # 12 problems, of which 3 and 4 are held out
    assert {split: len(ids) for split, ids in sides.items()} == {"train": 5, "eval": 3, "test": 4}
    assert sorted(name for ids in sides.values() for name in ids) == sorted(str(row["unique_id"]) for row in ROWS)
    assert [task.id for task in workload_of(turned, "data.test_groups=4").tasks("test")] == sides["test"]
    assert [task.id for task in workload_of(path, "data.test_groups=4", "seed=9").tasks("eval")] == sides["eval"]
    assert [task.id for task in workload_of(path, "data.test_groups=4", "data.seed=9").tasks("test")] != sides["test"]
    assert len(workload_of(path, "data.train_groups=2").tasks("train")) == 2
    with pytest.raises(DataError, match=r"data.eval_groups=3 and data.test_groups=9 hold out 12 of 12 problems"):
        workload_of(path, "data.test_groups=9").tasks("train")


def test_settings_that_cannot_go_together_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", ROWS)
    with pytest.raises(ConfigError, match=r"data.source=math500 is read from a file: set data.path"):
        compose("rlvr.maths", ["data.source=math500"])
    with pytest.raises(ConfigError, match=r"data.modes=2 is a knob of the miniature"):
        workload_of(path, "data.modes=2")


def test_the_warm_up_of_a_model_built_on_the_spot_is_the_training_solutions(tmp_path: Path) -> None:
    workload = workload_of(write(tmp_path / "a.jsonl", ROWS))
    (lesson,) = workload.lessons()
    solutions = {str(row["unique_id"]): row["solution"] for row in ROWS}
    taught = {example.group: example.branches[0].target for example in lesson.examples()}  # type: ignore[union-attr]
    assert taught == {task.id: solutions[task.id] for task in workload.tasks("train")}
    assert len(taught) == 9


def test_the_preset_small_reads_the_published_problems_and_asks_no_judge() -> None:
    config = compose("rlvr.maths", ["preset=small"])
    assert (config.data.source, config.data.path) == ("math500", "hf:HuggingFaceH4/MATH-500")
    assert list(config.roles()) == ["policy"]


def test_nothing_but_the_scoring_imports_what_compares(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", ROWS)
    script = f"""
import sys
from orchestrator.config.compose import compose
from orchestrator.config.workloads import find_workload
config = compose("rlvr.maths", ["data.source=math500", "data.path={path}", "data.eval_groups=3"])
workload = find_workload("rlvr.maths").workload(config)
print(len(workload.tasks("train")), len(workload.functions()))
print(*[name for name in ("torch", "transformers", "ray", "sympy", "math_verify") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "9 2\n\n"


def episodes(answer: str, *texts: str, task: str = "a problem") -> list[Episode]:
    turns = [Turn("policy", (1,), (2,), (-0.1,), text, "stop", 1.0, 0, 0) for text in texts]
    return [Episode(Task(task, (), {"answer": answer}), 1, number, (turn,)) for number, turn in enumerate(turns)]


@pytest.mark.parametrize(
    ("answer", "texts"),
    [
        (
            "\\frac{14}{3}",
            {
                "so it is \\boxed{\\frac{14}{3}}.": 1,
                "$\\boxed{14/3}$": 1,
                "$\\dfrac{28}{6}$ is the answer": 1,
                # two answers are none
                "\\boxed{5} or \\boxed{\\frac{14}{3}}": 0,
                "\\boxed{4.6}": 0,
                "\\boxed{\\frac{3}{14}}": 0,
                "\\boxed{": 0,
                "nonsense ) ( \\frac": 0,
                "": 0,
            },
        ),
        ("(3,4]", {"\\boxed{(3, 4]}": 1, "\\boxed{[3,4)}": 0}),
        ("p - q", {"\\boxed{-q+p}": 1, "\\boxed{q-p}": 0}),
        ("11,\\! 111", {"\\boxed{11111}": 1, "\\boxed{11.111}": 0}),
        ("\\text{Evelyn}", {"\\boxed{\\text{Evelyn}}": 1, "\\boxed{\\text{Carla}}": 0}),
        # Too large for any machine: wrong within its second.
        ("3", {"\\boxed{9^{9^{9^9}}}": 0, "\\boxed{3}": 1}),
    ],
)
def test_math_verify_compares_values_and_not_words(answer: str, texts: dict[str, int]) -> None:
    from workloads.rlvr.maths.verifier import reward

    assert reward(episodes(answer, *texts)) == [Scored(float(right)) for right in texts.values()]


def test_an_answer_of_the_data_that_cannot_be_read_is_no_wrong_answer() -> None:
    from workloads.rlvr.maths.verifier import reward

    (verdict,) = reward(episodes("", "\\boxed{3}"))
    assert isinstance(verdict, Unscored)
    assert "cannot read the problem's own answer ''" in verdict.reason


HANGING = """
import time
from workloads.rlvr.maths import verifier

read = verifier.parse

def parse(text, **settings):
    if "for ever" in text:
        time.sleep(1000)
    return read(text, **settings)

# Without the library's own deadline: the last resort is the process' end.
verifier.parse = parse

def reward(episodes):
    return verifier.reward(episodes)
"""


@pytest.fixture
def told() -> list[str]:
    return []


def scored_by(function: str, deadline_s: float, told: list[str]) -> Iterator[FunctionReward]:
    reward = FunctionReward(function, RewardConfig(deadline_s=deadline_s), 1.0, lambda word, trace: told.append(word))
    yield reward
    reward.close()


@pytest.fixture
def hanging(ray_cluster: Any, tmp_path: Path, told: list[str]) -> Iterator[FunctionReward]:
    (tmp_path / "hanging.py").write_text(HANGING)
    yield from scored_by(f"{tmp_path / 'hanging.py'}:reward", 4.0, told)


def test_an_answer_that_hangs_is_killed_and_hangs_nothing_else(hanging: FunctionReward, told: list[str]) -> None:
    asked = [
        *episodes("3", "\\boxed{3}", "think for ever", task="a"),
        *episodes("4", "\\boxed{4}", "\\boxed{5}", task="b"),
        *episodes("5", "\\boxed{5}", task="c"),
    ]
    began = time.monotonic()
    verdicts = hanging.score(asked)
    # It sleeps for a thousand; whatever else is slow here takes no such time.
    assert time.monotonic() - began < 500
    assert all(
        isinstance(verdict, Unscored) and "did not return within 4 s" in verdict.reason for verdict in verdicts[:2]
    )
    assert verdicts[2:] == [Scored(1.0), Scored(0.0), Scored(1.0)]
    assert len(told) == 1
    # the pool is as large as before
    assert hanging.score(episodes("3", "\\boxed{3}")) == [Scored(1.0)]


@pytest.fixture
def scoring(ray_cluster: Any, tmp_path: Path, told: list[str]) -> Iterator[tuple[Scoring, Workload]]:
    workload = workload_of(write(tmp_path / "a.jsonl", ROWS), "reward.processes=1")
    scoring = Scoring(workload.config, workload, lambda word, trace: told.append(word))
    yield scoring, workload
    scoring.close()


def test_the_workloads_own_function_scores_in_the_pool(scoring: tuple[Scoring, Workload], told: list[str]) -> None:
    """In the pool's processes the library's own deadline works: what is too large is wrong, and not lost."""
    judge, workload = scoring
    task = workload.tasks("eval")[0]
    answer = task.reference["answer"]
    texts = (f"\\boxed{{{answer}}}", "\\boxed{9^{9^{9^9}}}", "\\boxed{-1}")
    turns = [Turn("policy", (1,), (2,), (-0.1,), text, "stop", 1.0, 0, 0) for text in texts]
    played = [Episode(task, 0, number, (turn,)) for number, turn in enumerate(turns)]
    (group,) = judge.groups(judge.judge(played, {}), ())
    assert group == Group(tuple(played), (Scored(1.0), Scored(0.0), Scored(0.0)))
    assert list(judge.gold(played, "eval").values()) == [1.0, 0.0, 0.0]
    assert judge.gold(played, "train") == {}
    measured = judge.evaluation([group], judge.gold(played, "eval"), 0, "eval")
    assert measured["eval/correct"] == measured["eval/oracle"] == pytest.approx(1 / 3)
    assert told == []
