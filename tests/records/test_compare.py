"""Runs beside each other: which settings, which tasks, what interval, which answers; what is refused."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from orchestrator import cli
from orchestrator.config.compose import compose, to_values
from orchestrator.errors import ConfigError
from orchestrator.records import episodes
from orchestrator.records.compare import compare, find_arms
from orchestrator.records.curves import draw
from orchestrator.records.folder import RunFolder
from orchestrator.records.metrics import MetricsLog
from orchestrator.records.shown import printable
from orchestrator.values import Episode, Group, Scored, Task, Turn, Unscored, Verdict

Scores = dict[str, list[float | None]]


def make(
    storage: Path, name: str, *words: str, scores: Scores, gold: bool = True, asked: str = "", step: int = 4
) -> RunFolder:
    """A run of the workload rlvr with one evaluation. scores: of each answer by task, None unscored; the judge says 0.1 more."""
    config = compose("rlvr", [f"storage={storage}", f"name={name}", "steps=4", *words])
    folder = RunFolder.create(storage, "rlvr", name, to_values(config))
    groups, truth = [], {}
    for task, values in scores.items():
        made: list[tuple[Episode, Verdict]] = []
        for number, value in enumerate(values):
            turn = Turn("policy", (1,), (2,), (-1.0,), f"{name} says {number} [bold] \x1b[2J", "stop", 1.0, step, 0)
            episode = Episode(Task(task, ({"role": "user", "content": f"{asked}{task}?"},)), step, number, (turn,))
            verdict = Unscored("lost") if value is None else Scored(-value, {"official": value + 0.1})
            made.append((episode, verdict))
            truth[episode.id] = value if gold else None
        groups.append(Group(*map(tuple, zip(*made, strict=True))))
    episodes.write_step(folder, step, groups, {}, "eval", truth)
    log = MetricsLog(folder.metrics_log)
    mean = sum(v for values in scores.values() for v in values if v is not None) / sum(map(len, scores.values()))
    log.append(0, {"eval/oracle": 0.3, "eval/judge": 0.4})
    log.append(step, {"eval/oracle": mean, "eval/judge": mean + 0.1})
    return folder


def numbers(table: Sequence[Sequence[str]]) -> dict[str, tuple[str, ...]]:
    return {row[0]: tuple(row[1:]) for row in table}


FIRST: Scores = {"a": [0.2, 0.4], "b": [0.5, 0.5], "c": [0.6, 0.8]}
SECOND: Scores = {"a": [0.5, 0.7], "b": [0.5, 0.5], "c": [0.5, 0.7]}


def test_two_runs_by_hand(tmp_path: Path) -> None:
    """Task means 0.3, 0.5, 0.7 and 0.6, 0.5, 0.6: differences +0.3, 0, -0.1, mean 0.2/3, standard error 0.20817/√3,
    which times Student's 4.30265 is 0.51712. They differ most on a, and on c in the
    other direction, and least on b."""
    make(tmp_path, "A", scores=FIRST)
    make(tmp_path, "B", "learner.learning_rate=0.5", scores=SECOND)
    found = compare(find_arms(["A", "rlvr/B"], tmp_path))
    assert numbers(found.settings)["learner.learning_rate"][1] == "0.5"
    assert not {"name", "storage", "seed", "format"} & numbers(found.settings).keys()
    assert found.by == "oracle"
    (test,) = found.tests
    assert (test.interval.mean, test.tasks, test.runs) == (pytest.approx(0.2 / 3), 3, (1, 1))
    assert test.interval.high - test.interval.mean == pytest.approx(0.51712, abs=1e-4)
    assert not test.told_apart
    assert [(sample.task, round(sample.difference, 6)) for sample in found.samples] == [
        ("a", 0.3),
        ("c", -0.1),
        ("b", 0),
    ]
    assert found.samples[0].answers[0].score == 0.2
    assert numbers(found.numbers)["oracle, last evaluation"] == ("0.500", "0.567")
    assert any("it does not say what another seed would give" in note for note in found.notes)


def test_seeds_are_the_units_and_no_difference(tmp_path: Path) -> None:
    """Arms of seeds 0 and 1. Run means 0.5 and 0.51 against 0.8 and 0.81, all tasks alike: both have variance 0.00005, so 0.3 ±
    12.7062 x √(0.00005/2 + 0.00005/2) = 0.089846. B0 alone, at 0.8, is taken to spread as much: 0.295 ± 12.7062 x √(0.00005/2 +
    0.00005) = 0.110039."""
    for arm, base in (("A", 0.5), ("B", 0.8)):
        for seed in (0, 1):
            value = base + 0.01 * seed
            make(tmp_path, f"{arm}{seed}", f"seed={seed}", scores={"a": [value], "b": [value]})
    found = compare(find_arms(["A0,A1", "B1,B0"], tmp_path))
    assert "seed" not in numbers(found.settings)
    (test,) = found.tests
    assert (test.interval.mean, test.interval.high) == pytest.approx((0.3, 0.3 + 0.089846), abs=1e-5)
    assert test.runs == (2, 2)
    assert test.told_apart
    assert not found.notes
    found = compare(find_arms(["A0,A1", "B0"], tmp_path))
    (test,) = found.tests
    assert (test.interval.mean, test.interval.high) == pytest.approx((0.295, 0.295 + 0.110039), abs=1e-5)
    assert found.notes == (
        "An arm of one run is taken to spread as the runs of the other do. Name several, with commas.",
    )


def test_without_gold_the_judge_scores_and_it_is_said(tmp_path: Path) -> None:
    make(tmp_path, "A", scores=FIRST, gold=False)
    make(tmp_path, "B", scores=SECOND)
    found = compare(find_arms(["A", "B"], tmp_path))
    assert found.by == "judge"
    assert found.samples[0].answers[0].score == pytest.approx(0.2 + 0.1)
    assert any("each run's own judge" in note for note in found.notes)


def test_a_reward_of_ones_own_is_the_score_(tmp_path: Path) -> None:
    """The made-up rewards are the negative scores: differences of -0.3, 0 and 0.1."""
    file = tmp_path / "own.py"
    file.write_text("def reward(episodes):\n    return [0.0 for _ in episodes]\n")
    make(tmp_path, "A", f"reward={file}:reward", scores=FIRST, gold=False)
    make(tmp_path, "B", f"reward={file}:reward", scores=SECOND, gold=False)
    found = compare(find_arms(["A", "B"], tmp_path))
    assert found.by == "reward"
    assert found.tests[0].interval.mean == pytest.approx(-0.2 / 3)


def test_tasks_that_not_all_have_are_left_out_and_counted(tmp_path: Path) -> None:
    """b was never scored in A, and d is in B alone: a and c remain, +0.3 and -0.1."""
    make(tmp_path, "A", scores={**FIRST, "b": [None]})
    make(tmp_path, "B", scores={**SECOND, "d": [1.0]})
    found = compare(find_arms(["A", "B"], tmp_path))
    assert found.tests[0].interval.mean == pytest.approx(0.1)
    assert "Their held-out tasks differ: compared on the 3 in common, of 4." in found.notes
    assert "1 tasks without a score in some run are left out." in found.notes


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    first = make(tmp_path, "A", scores=FIRST)
    make(tmp_path, "B", scores=FIRST, asked="other words for ")
    with pytest.raises(ConfigError, match="no held-out task in common"):
        compare(find_arms(["A", "B"], tmp_path))
    with pytest.raises(ConfigError, match="has no evaluation of step 3: it has evaluations of steps 4"):
        compare(find_arms(["A", "B"], tmp_path), step=3)
    with pytest.raises(ConfigError, match="No run 'C' in"):
        find_arms(["A", "C"], tmp_path)
    with pytest.raises(ConfigError, match="name two runs or more"):
        find_arms(["A"], tmp_path)
    with pytest.raises(ConfigError, match="A: named twice"):
        find_arms(["A", "A,B"], tmp_path)
    RunFolder.create(tmp_path, "rubric", "D", first.settings())
    with pytest.raises(ConfigError, match="different workloads"):
        find_arms(["A", "D"], tmp_path)


def test_a_name_with_a_comma_is_one_run(tmp_path: Path) -> None:
    make(tmp_path, "A,x", scores=FIRST)
    make(tmp_path, "B", scores=FIRST)
    assert [len(arm.runs) for arm in find_arms(["A,x", "B"], tmp_path)] == [1, 1]


def test_the_verb_prints_and_draws(tmp_path: Path) -> None:
    """What a model wrote is neither markup nor a command to the terminal."""
    make(tmp_path, "A", scores=FIRST)
    make(tmp_path, "B", "seed=3", scores=SECOND)
    picture = tmp_path / "curves.png"
    done = CliRunner().invoke(cli.app, ["compare", "A", "B", "--storage", str(tmp_path), "--plot", str(picture)])
    assert (done.exit_code, done.stderr) == (0, "")
    assert re.search(r"seed +0 +3", done.stdout)
    assert re.search(r"B +\+0\.067 +-0\.\d+ … \+0\.\d+ +3 tasks +not told apart", done.stdout)
    assert "B says 0 [bold] �[2J" in done.stdout
    assert "\x1b" not in done.stdout
    with Image.open(picture) as image:
        assert image.size[0] >= 1000


def test_the_picture_needs_a_place(tmp_path: Path) -> None:
    arms = [replace(arm) for arm in find_arms([make(tmp_path, n, scores=FIRST).name for n in "AB"], tmp_path)]
    for path in (tmp_path / "no" / "curves.png", tmp_path / "curves.svg"):
        with pytest.raises(ConfigError, match=r"written as a \.png into a folder that is there"):
            draw(arms, path, ["eval/oracle"])


def test_metrics_are_panels_side_by_side(tmp_path: Path) -> None:
    arms = [replace(arm) for arm in find_arms([make(tmp_path, n, scores=FIRST).name for n in "AB"], tmp_path)]
    picture = tmp_path / "two.png"
    draw(arms, picture, ["eval/oracle", "eval/judge"])
    with Image.open(picture) as image:
        assert image.size[0] > 1.2 * image.size[1]
    with pytest.raises(ConfigError, match=r"--metric eval/oracel: none of these runs has it. Did you mean eval/oracle"):
        draw(arms, picture, ["eval/oracel"])


def test_printable() -> None:
    assert printable("a\n\tb\x1b]0;c\x07\x9b") == "a\n\tb�]0;c��"
