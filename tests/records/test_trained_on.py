"""What a run was trained on, and which items of an evaluation it touches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orchestrator.config.compose import compose, to_values
from orchestrator.contamination.items import fingerprint, of_data, taught_examples, trained_task
from orchestrator.records import trained_on
from orchestrator.records.folder import RunFolder, write_json
from orchestrator.records.trained_on import Touched, touched
from orchestrator.values import Task
from workloads.base import Branch, Example, Preference
from workloads.social_r1.prompts import REAL

STORY = "1 Avery and Owen entered the living_room.\n2 The lettuce is in the green_drawer, where nobody looks."
OTHER = "1 Ella and Noah entered the pantry.\n2 The melon is in the blue_box, which everybody has seen before."


def task(story: str, item: str, question: str = "Where?", prompt: str = "") -> Task:
    messages = (
        {"role": "system", "content": "x" * 99},
        {"role": "user", "content": prompt or f"{story}\n\n{question}"},
    )
    return Task(item, messages, {"story": story, "question": question, "item": item})


def run(
    storage: Path,
    name: str,
    tasks: Sequence[Task] = (),
    taught: Sequence[Any] = (),
    model: str = "mini",
    begun_from: Path | None = None,
    keep: bool = True,
    judge: str = "mini",
) -> Path:
    config = compose("rlvr", [f"name={name}", f"storage={storage}"])
    config.model.name, config.judge.name = model, judge
    folder = RunFolder.create(storage, "rlvr", name, to_values(config))
    if keep:
        trained = {
            "tasks": [trained_task(task) for task in tasks],
            "policy": taught_examples(taught),
        }
        trained_on.keep(folder, config, trained, begun_from)
    return folder.path


def test_texts_count_by_letters_and_digits() -> None:
    assert fingerprint("The  Ｐear, in\nBox 1!") == fingerprint("the pear in box 1")
    assert fingerprint("the pear in box 2") != fingerprint("the pear in box 1")


def test_training_tasks_touch_what_has_their_story(tmp_path: Path) -> None:
    run(tmp_path, "a", [task(STORY, "trained")])
    parts = {
        "hitom": [task(STORY + "\n", "0", "Elsewhere?"), task(OTHER, "1")],
        "tombench": [task("Another story. " * 9, "0")],
    }
    # Another question about the same story, with other blanks at its end: one of two items.
    assert touched("run:a", tmp_path, parts) == {"hitom": Touched(1, 2, "rlvr/a")}
    assert touched("hf:org/name", tmp_path, parts) is None
    assert touched("http://localhost/v1", tmp_path, parts) is None


def test_several_tries_of_an_item_are_one(tmp_path: Path) -> None:
    run(tmp_path, "a", [task(STORY, "trained")])
    assert touched("run:a", tmp_path, {"x": [task(STORY, "0"), task(STORY, "0"), task(OTHER, "1")]}) == {
        "x": Touched(1, 2, "rlvr/a")
    }


def test_a_story_with_a_word_changed_is_touched_too(tmp_path: Path) -> None:
    run(tmp_path, "a", [task(STORY.replace("nobody", "no one"), "trained")])
    asked = [task(STORY, "0"), task(OTHER, "1"), task("Another story. " * 9, "2")]
    assert touched("run:a", tmp_path, {"x": asked}) == {"x": Touched(1, 3, "rlvr/a")}


def test_lessons_touch_what_stands_in_a_paragraph_of_theirs(tmp_path: Path) -> None:
    asked = ({"role": "user", "content": f"Read this.\n\n{STORY}\n\nWhere?"},)
    examples = [Example("g", (Branch(asked, "There."),))]
    run(tmp_path, "a", taught=examples)
    assert touched("run:a", tmp_path, {"x": [task(STORY, "0")]}) == {"x": Touched(1, 1, "rlvr/a")}
    better, worse = Branch((), f"So:\n\n{OTHER}"), Branch((), "no")
    run(tmp_path, "b", taught=[Preference("g", better, worse)])
    assert touched("run:b", tmp_path, {"x": [task(OTHER, "0")]}) == {"x": Touched(1, 1, "rlvr/b")}
    # As raters are asked about real text: the story under a heading.
    messages = REAL.structure({"story": STORY, "question": "Where?", "options": ("a", "b")}, "So it is.")
    run(tmp_path, "c", taught=[Example("g", (Branch(messages, "<Score>0.5</Score>"),))])
    assert touched("run:c", tmp_path, {"x": [task(STORY, "0")]}) == {"x": Touched(1, 1, "rlvr/c")}


def test_short_stories_touch_with_their_question_alone(tmp_path: Path) -> None:
    run(tmp_path, "a", [task("Sam hid.", "trained", "Why?")])
    parts = {"x": [task("Sam hid.", "0", "Why?")], "y": [task("Sam hid.", "0", "Where?")]}
    assert touched("run:a", tmp_path, parts) == {"x": Touched(1, 1, "rlvr/a")}


def test_a_run_has_what_those_before_it_were_trained_on(tmp_path: Path) -> None:
    first = run(tmp_path, "a", [task(STORY, "trained")])
    run(tmp_path, "b", [task(OTHER, "trained")], model="run:a")
    fork = run(tmp_path, "c", begun_from=first)
    run(tmp_path, "d", judge="run:a@judge")
    assert touched("run:b", tmp_path, {"x": [task(STORY, "0"), task(OTHER, "1")]}) == {"x": Touched(2, 2, "rlvr/a")}
    # A copy, and one that a judge of the first run's was asked about.
    for name in (fork.name, "d"):
        assert touched(f"run:{name}", tmp_path, {"x": [task(STORY, "0")]}) == {"x": Touched(1, 1, "rlvr/a")}


def test_where_nothing_was_recorded_it_is_not_known(tmp_path: Path) -> None:
    run(tmp_path, "old", keep=False)
    run(tmp_path, "b", [task(OTHER, "trained")], model="run:old")
    parts = {"x": [task(STORY, "0")]}
    assert touched("run:old", tmp_path, parts) is None
    assert touched("run:b", tmp_path, parts) is None
    # What is known to be touched is told all the same.
    assert touched("run:b", tmp_path, {"x": [task(OTHER, "0")]}) == {"x": Touched(1, 1, "rlvr/b")}


def test_marks_alone_as_runs_of_before_have_them_are_read(tmp_path: Path) -> None:
    folder = RunFolder(run(tmp_path, "a", keep=False))
    write_json(folder.trained_on, {"runs": {"rlvr/a": sorted(of_data(task(STORY, "0")))}})
    parts = {"x": [task(STORY, "0")], "y": [task(OTHER, "0")]}
    assert touched("run:a", tmp_path, parts) == {"x": Touched(1, 1, "rlvr/a")}
