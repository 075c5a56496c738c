"""Near-duplicates: containment worked out by hand, and what the released files hold."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config.compose import compose
from orchestrator.config.contamination import ContaminationConfig
from orchestrator.config.workloads import find_workload
from orchestrator.contamination.guard import evaluated_items, trained_items
from orchestrator.contamination.items import Item, asked_task, trained_task
from orchestrator.contamination.near import Match, matches, most_that_is_rare
from orchestrator.values import Task

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
FOUR = ContaminationConfig(n=4, threshold=0.8)


def item(text: str, name: str = "x", group: str = "") -> Item:
    return Item(name, group or text, (text,), frozenset())


def shares(
    training: list[str], evaluation: list[str], settings: ContaminationConfig = FOUR
) -> list[tuple[int, int, float]]:
    """Beside three evaluation texts that have nothing to do with them."""
    asked = [*evaluation, *(f"{number}" * 40 for number in (7, 8, 9))]
    found = matches([item(text) for text in training], [item(text) for text in asked], settings)
    return [(match.training, match.evaluation, round(match.similarity, 4)) for match in found]


def test_the_share_of_an_evaluation_texts_shingles() -> None:
    # 36 letters have 33 shingles of 4. Another one at position 20 takes those that begin at 17 to 20: 29 of 33 are left.
    other = LETTERS[:20] + "x" + LETTERS[21:]
    assert shares([other], [LETTERS]) == [(0, 0, 0.8788)]
    assert shares([other], [LETTERS], ContaminationConfig(n=4, threshold=0.88)) == []
    # What is no letter counts for nothing.
    assert shares([LETTERS[:20].upper() + " -\n" + LETTERS[20:]], [LETTERS]) == [(0, 0, 1.0)]
    # The first 30 of 36 letters have 27 of 33 shingles: a training text that is longer counts, one that is shorter misses.
    assert shares(["before" + LETTERS[:30] + "after"], [LETTERS]) == [(0, 0, 0.8182)]
    assert shares([LETTERS], ["before" + LETTERS + "and so on, longer than all the rest"]) == []


def test_what_many_share_makes_no_two_alike() -> None:
    # 40 tasks a side, each an instruction of 36 letters and a number of its own: a shingle may stand in 3 of them.
    assert [most_that_is_rare(groups) for groups in (1, 39, 40, 100, 400, 10_000)] == [1, 3, 3, 5, 20, 20]
    training = [f"{LETTERS} {number}" for number in range(40)]
    evaluation = [f"{LETTERS} {number}" for number in range(100, 140)]
    assert shares(training, evaluation) == []
    # Under the same instruction a text of 36 other letters, of which 32 are at least 4 from the instruction's: 33 of 33 are there.
    own = "".join(reversed(LETTERS))
    assert shares([*training, LETTERS + own], [*evaluation, own]) == [(40, 40, 1.0)]


def test_a_text_of_few_shingles_is_found_by_its_mark_alone() -> None:
    # 18 letters have 15 shingles of 4, fewer than 16.
    assert shares([LETTERS[:18]], [LETTERS[:18]]) == []
    assert shares([LETTERS[:19]], [LETTERS[:19]]) == [(0, 0, 1.0)]
    one = Task("1", ({"role": "user", "content": "What is 3 + 4?"},))
    other = Task("2", ({"role": "user", "content": "what is 3 4"},))
    assert matches([trained_task(one)], [asked_task(other)], FOUR) == [Match(0, 0, 1.0, True)]


def test_a_prompt_that_all_tasks_share_is_no_duplicate() -> None:
    """As of an environment, whose tasks differ in what their reference holds."""

    def tasks(numbers: range) -> list[Task]:
        return [
            Task(str(number), ({"role": "user", "content": f"Begin: {LETTERS}"},), {"n": number}) for number in numbers
        ]

    assert matches([*map(trained_task, tasks(range(9)))], [*map(asked_task, tasks(range(20, 29)))], FOUR) == []


def test_questions_about_one_story_count_once() -> None:
    """A shingle is rare by stories: 30 questions about one of 20 stories do not make its sentences common."""
    rng = random.Random(0)
    stories = ["".join(rng.choices(LETTERS, k=90)) for _ in range(20)]
    asked = [Task(f"{n}", (), {"story": stories[max(0, n - 29)], "question": f"Number {n}?"}) for n in range(49)]
    found = matches(
        [trained_task(Task("t", ({"role": "user", "content": stories[0]},)))], [*map(asked_task, asked)], FOUR
    )
    assert [match.evaluation for match in found if not match.exact] == []
    assert [match.evaluation for match in found] == list(range(30))
    # One letter in 90 is another one: 83 of the story's 87 shingles are there.
    changed = stories[0][:40] + "_" + stories[0][41:]
    found = matches([trained_task(Task("t", ({"role": "user", "content": changed},)))], [*map(asked_task, asked)], FOUR)
    assert [(match.evaluation, round(match.similarity, 4)) for match in found] == [
        (n, round(83 / 87, 4)) for n in range(30)
    ]


def test_a_task_a_side_says_nothing_of_what_is_common() -> None:
    """Two prompts that differ in the question alone, under one instruction, are two; the same prompt is one."""
    one, other = (
        Task(end, ({"role": "user", "content": f"{LETTERS} {end}"},)) for end in ("May I lie?", "May I steal?")
    )
    assert matches([trained_task(one)], [asked_task(other)], FOUR) == []
    assert matches([trained_task(one)], [asked_task(one)], FOUR) == [Match(0, 0, 1.0, True)]


def test_copies_in_a_small_training_set_are_found_all() -> None:
    # Of 9 groups 3 may have what is rare, of 8 only 2.
    assert [most_that_is_rare(groups) for groups in (8, 9)] == [2, 3]
    rng = random.Random(0)
    others = ["".join(rng.choices(LETTERS, k=90)) for _ in range(6)]
    copies = [f"{word} {LETTERS}" for word in ("first", "second", "third")]
    assert shares([*others, *copies], [LETTERS]) == [(6, 0, 1.0), (7, 0, 1.0), (8, 0, 1.0)]
    assert shares([*others[1:], *copies], [LETTERS]) == []


@pytest.mark.parametrize(
    ("workload", "least"), [("rlvr", 256), ("rlvr.maths", 2048), ("social_r1", 128), ("rlvr data.train_groups=8", 8)]
)
def test_generated_worlds_have_none(workload: str, least: int) -> None:
    """Their texts share nearly all of their words: not even at half of the usual threshold is one taken for another."""
    workload, *words = workload.split()
    small = ["data.train_groups=64", "content.training.steps=2"] if workload == "social_r1" else []
    config = compose(workload, [*words, *small])
    made: Any = find_workload(workload).workload(config)
    trained, evaluated = trained_items(config, made), evaluated_items(config, made)
    assert len(trained["tasks"]) >= least
    assert "policy" in trained
    settings = ContaminationConfig(threshold=0.4)
    for items in trained.values():
        assert [matches(items, asked, settings) for asked in evaluated.values()] == [[]] * len(evaluated)


def rows(path: str) -> list[Task]:
    """The rows of a released file as tasks; skips where the file is not there."""
    file = SHARED / path
    if not file.is_file():
        pytest.skip(f"{path} is not part of the project")
    return [
        Task(
            str(number), ({"role": "user", "content": row["instruction"] + row["question"]},), {"answer": row["answer"]}
        )
        for number, row in enumerate(json.loads(file.read_text()))
    ]


def found_in(training: list[Task], evaluation: list[Task]) -> list[Task]:
    found = matches([*map(trained_task, training)], [*map(asked_task, evaluation)], ContaminationConfig())
    return [training[place] for place in sorted({match.training for match in found})]


def test_released_traces_stand_in_the_released_dev_set() -> None:
    """250 of the 450 traces of the first stage are questions of the second stage's dev set; no question of the multiple-choice kind."""
    traces = rows("legaldelta/SFT_training.json")
    found = found_in(traces, rows("legaldelta/GRPO_dev.json"))
    assert (len(traces), len(found)) == (450, 250)
    assert not [task for task in found if "[正确答案]" in task.reference["answer"]]


@pytest.mark.parametrize(("name", "count"), [("SFT_training", 100), ("GRPO_dev", 50)])
def test_released_multiple_choice_rows_stand_in_lawbench(name: str, count: int) -> None:
    """All of them are in task 1-2, whose wording, options and instruction are set otherwise; nothing else is, nor are they in 3-6."""
    training = rows(f"legaldelta/{name}.json")
    choices = [task for task in training if "[正确答案]" in task.reference["answer"]]
    assert len(choices) == count
    assert found_in(training, rows("lawbench/zero_shot/1-2.json")) == choices
    assert found_in(training, rows("lawbench/zero_shot/3-6.json")) == []
