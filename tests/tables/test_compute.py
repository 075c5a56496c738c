"""Cells by hand, from run folders with chosen numbers: means, intervals, counts, what is not there and why."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from orchestrator.errors import ConfigError
from orchestrator.records.folder import write_json
from orchestrator.sweep.folder import SweepFolder, definition_of
from orchestrator.sweep.graph import stages
from orchestrator.sweep.reading import read_sweep
from orchestrator.sweep.spec import Done
from orchestrator.tables import (
    START,
    Average,
    Column,
    Difference,
    Half,
    Measured,
    Row,
    component,
    cut_off,
    gap,
    judged,
    length,
    truth,
)
from orchestrator.tables import reward as reward_of
from orchestrator.tables.compute import Computed, compute, runs_there
from orchestrator.tables.declare import Published, Table
from orchestrator.tables.find import check_nodes
from orchestrator.tables.grid import in_words
from tests.tables.made_up import BASE, GRPO, make_run, make_runs, make_stage, named, stored, table, write_evaluation

STORAGE = Path("runs")


def computed(made: Table, overrides: tuple[str, ...] = ()) -> Computed:
    return compute(named(made), read_sweep("sweep.yaml", list(overrides)), STORAGE, overrides)


def test_cells_by_hand() -> None:
    """GRPO: run means 0.4 and 0.6, task means 0.4 and 0.6, so ± 12.7062 x √(0.1² + 0.1²) = 1.79693. Base: one run, tasks 0.1 and
    0.3: ± 1.27062. GRPO's gain: 0.5 - 0.2, the same on both tasks and so of the runs alone: GRPO's two have variance 0.02, the single
    one beside them is taken to spread as much, so ± 12.7062 x √(0.02/2 + 0.02) = 2.20078."""
    make_runs(STORAGE)
    found = computed(table())
    cell = found.cell("GRPO", "truth")
    assert (cell.mean, cell.low, cell.high) == pytest.approx((0.5, 0.5 - 1.79693, 0.5 + 1.79693), abs=1e-4)
    assert (cell.runs, cell.asked, cell.tasks, cell.episodes, cell.unscored, cell.reason) == (2, 2, 2, 5, 0, "")
    base = found.cell("Base", "truth")
    assert (base.mean, base.high, base.runs, base.tasks) == pytest.approx((0.2, 0.2 + 1.27062, 1, 2), abs=1e-4)
    gained = found.cell("GRPO", "gain")
    assert (gained.mean, gained.high) == pytest.approx((0.3, 0.3 + 2.20078), abs=1e-4)
    assert (gained.runs, gained.most, gained.unpaired) == (1, 2, 0)
    assert found.cell("Base", "gain").blank
    assert found.cell("FlowRL", "judge").mean == pytest.approx(0.8)


def test_a_quotient_of_sums() -> None:
    """Base: tasks 0.1 and 0.3 over rewards of twice as much: 0.5 without spread. Over a constant 2: 0.1, and half of the interval
    of the mean, ± 1.27062 / 2. A mean of 0 has no share."""
    make_runs(STORAGE)
    below = {"same": reward_of, "two": lambda measured: 2.0, "none": lambda measured: 0.0}
    columns = tuple(Column(name, truth, below=metric) for name, metric in below.items())
    found = computed(table(rows=(Row("Base", "base"),), columns=columns, baseline=None, published={}))
    same, two, none = (found.cell("Base", name) for name in below)
    assert (same.mean, same.low, same.high) == pytest.approx((0.5, 0.5, 0.5))
    assert (two.mean, two.high, two.tasks, two.episodes) == pytest.approx((0.1, 0.1 + 1.27062 / 2, 2, 2), abs=1e-4)
    assert none.mean is None
    assert none.reason == "the sum below is 0, of which nothing is a share"
    with pytest.raises(ConfigError, match="'gain' is of 'truth', a quotient"):
        table(columns=(Column("truth", truth, below=reward_of), Difference("gain", "truth")), published={})


def test_a_cell_says_what_it_is_from() -> None:
    make_runs(STORAGE)
    found = computed(table())
    (first, second) = found.cell("GRPO", "truth").files
    assert first.startswith("world/policy-grpo-s0-")
    assert first.endswith("/episodes/eval-000004.parquet")
    what = found.files[second]
    assert (what["step"], what["split"], len(what["sha256"])) == (4, "eval", 64)
    run = found.runs[what["run"]]
    assert (run["preset"], run["seed"]) == ("mini", 1)
    assert run["versions"]["python"]
    # The schema's defaults: no preset of this world says anything of them.
    assert run["sampling"] == {
        "temperature": 1.0, "max_completion_tokens": 64, "samples_per_task": 4, "best_of": 8,
    }  # fmt: skip


def test_ready_made_metrics() -> None:
    """GRPO, seed 0, a: answers of 1 and 2 tokens, the first cut off; b: one token, cut off. Rewards are twice the truth."""
    make_runs(STORAGE)
    metrics = {
        "judge": judged,
        "gap": gap,
        "reward": reward_of,
        "official": component("official"),
        "length": length,
        "cut": cut_off,
    }
    columns = tuple(Column(name, metric) for name, metric in metrics.items())
    found = computed(table(rows=(Row("GRPO", "policy", "grpo"),), columns=columns, baseline=None, published={}))
    means = {name: found.cell("GRPO", name).mean for name in metrics}
    assert means == pytest.approx(
        {"judge": 0.6, "gap": 0.1, "reward": 1.0, "official": 0.6, "length": (1.25 + 1) / 2, "cut": (0.75 + 1) / 2}
    )


def test_the_first_answers_and_the_best_by_reward() -> None:
    """Answers 0.2, 0.4 (a) and 0.5, 0.1, 0.3 (b). The first alone: 0.35; the first two: (0.3 + 0.3) / 2; the best of two: 0.4 and 0.5.
    A mean over two answers is nothing that the best of two has."""
    make_runs(STORAGE)
    write_evaluation(stored(STORAGE, "base"), 0, {"a": [0.2, 0.4], "b": [0.5, 0.1, 0.3]})
    columns = (Column("first", truth, samples=1), Column("two", truth, samples=2), Column("all", truth))
    rows = (Row("Base", "base"), Row("best", "base", best_of=2))
    found = computed(table(rows=rows, columns=columns, baseline=None, published={}))
    assert [found.cell("Base", column.name).mean for column in columns] == pytest.approx([0.35, 0.3, 0.3])
    assert [found.cell("best", name).mean for name in ("first", "all")] == pytest.approx([0.45, 0.45])
    assert found.cell("best", "two").blank


def test_a_half_of_the_tasks_is_that_of_one_row_for_all_rows() -> None:
    """GRPO's means over its two runs are 0.4 on a and 0.6 on b, with 0.5 between: a is the lower half, b the upper one."""
    make_runs(STORAGE)
    halves = {"lower": Half("GRPO", truth), "upper": Half("GRPO", truth, upper=True)}
    columns = tuple(Column(name, judged, half=half) for name, half in halves.items())
    found = computed(table(columns=columns, published={}))
    assert [found.cell("GRPO", name).mean for name in halves] == pytest.approx([0.5, 0.7])
    assert [found.cell("FlowRL", name).mean for name in halves] == pytest.approx([0.7, 0.9])
    assert (found.cell("Base", "lower").mean, found.cell("Base", "lower").tasks) == (pytest.approx(0.2), 1)
    shutil.rmtree(stored(STORAGE, "policy-grpo-s0").path)
    shutil.rmtree(stored(STORAGE, "policy-grpo-s1").path)
    assert (
        "no run of GRPO is there, by which the tasks are halved"
        in computed(table(columns=columns, published={})).cell("Base", "upper").reason
    )


def test_too_few_answers_leave_a_cell_open_and_no_table() -> None:
    """Of two answers there is no best of three; the other row has its figure all the same."""
    make_runs(STORAGE)
    write_evaluation(stored(STORAGE, "base"), 0, {"a": [0.2, 0.4]})
    rows = (Row("Base", "base"), Row("best", "base", best_of=3))
    found = computed(table(rows=rows, columns=(Column("truth", truth),), baseline=None, published={}))
    assert found.cell("Base", "truth").mean == pytest.approx(0.3)
    assert not found.cell("best", "truth").whole
    assert "has 2 answers of the task a, and 3 are asked for" in found.cell("best", "truth").reason


def test_what_is_made_of_a_blank_cell_is_blank() -> None:
    """The best of two has no mean over two answers, and so no gain in it: nothing is missing there."""
    make_runs(STORAGE)
    write_evaluation(stored(STORAGE, "base"), 0, {"a": [0.2, 0.4]})
    columns = (Column("two", truth, samples=2), Difference("gain", "two"), Average("mean", ("two",)))
    rows = (Row("Base", "base"), Row("best", "base", best_of=2))
    found = computed(table(rows=rows, columns=columns, published={}))
    assert [found.cell("best", column.name).blank for column in columns] == [True, True, True]


def test_unscored_episodes_are_left_out_and_counted() -> None:
    make_runs(STORAGE)
    write_evaluation(stored(STORAGE, "base"), 0, {"a": [0.4, None], "b": [None]})
    cell = computed(table()).cell("Base", "judge")
    assert (cell.mean, cell.tasks, cell.episodes, cell.unscored) == (pytest.approx(0.5), 1, 1, 2)


def test_arms_of_a_node_are_paired_by_seed() -> None:
    """GRPO's runs are 0.4 and 0.6, FlowRL's 0.5 and 0.7 on the same tasks: seed by seed 0.1 more, and no doubt about it. As runs of
    two nodes they would be strangers: ± 12.7062 x √(0.02/2 + 0.02/2)."""
    make_runs(STORAGE)
    for seed, (a, b) in enumerate(((0.4, 0.6), (0.6, 0.8))):
        write_evaluation(stored(STORAGE, f"policy-flowrl-s{seed}"), 4, {"a": [a], "b": [b]})
    rows = (Row("GRPO", "policy", "grpo"), Row("FlowRL", "policy", "flowrl"))
    cell = computed(table(rows=rows, baseline="GRPO", published={})).cell("FlowRL", "gain")
    assert (cell.mean, cell.low, cell.high, cell.runs) == pytest.approx((0.1, 0.1, 0.1, 2))


def test_before_and_after_are_paired_by_run() -> None:
    """Run 0 goes from 0.1 to 0.4, run 1 from 0.3 to 0.6: 0.3 more, and no doubt about it on either task."""
    make_runs(STORAGE)
    write_evaluation(stored(STORAGE, "policy-grpo-s0"), 0, {"a": [0.0], "b": [0.2]})
    write_evaluation(stored(STORAGE, "policy-grpo-s1"), 0, {"a": [0.2], "b": [0.4]})
    rows = (Row("before", "policy", "grpo", checkpoint=START), Row("after", "policy", "grpo"))
    found = computed(table(rows=rows, baseline="before", published={}))
    cell = found.cell("after", "gain")
    assert (cell.mean, cell.low, cell.high, cell.runs) == pytest.approx((0.3, 0.3, 0.3, 2))
    columns = (Column("before", truth, checkpoint=START), Column("after", truth))
    found = computed(table(rows=(Row("GRPO", "policy", "grpo"),), columns=columns, baseline=None, published={}))
    assert found.cell("GRPO", "before").mean == pytest.approx(0.2)


def test_a_difference_is_of_the_tasks_that_all_runs_have() -> None:
    """GRPO: a is 0.3 and 0.5 in the two seeds; b 0.5 in seed 0, unscored in seed 1; c 1.0 in seed 0 alone. Base: 0.1 on a, 0.3 on b.
    So a alone is in all of them, and two tasks are left out: (0.3 + 0.5)/2 - 0.1 = 0.3."""
    make_runs(STORAGE)
    write_evaluation(stored(STORAGE, "policy-grpo-s0"), 4, {"a": [0.3], "b": [0.5], "c": [1.0]})
    write_evaluation(stored(STORAGE, "policy-grpo-s1"), 4, {"a": [0.5], "b": [None]})
    columns = (Column("judge", judged), Difference("gain", "judge"), Difference("share", "judge", relative=True))
    found = computed(table(columns=columns, published={}))
    # The judge says 0.1 more, on both sides.
    assert found.cell("GRPO", "judge").mean == pytest.approx((0.6 + 0.5) / 2 + 0.1)
    cell = found.cell("GRPO", "gain")
    assert (cell.mean, cell.tasks, cell.unpaired) == (pytest.approx(0.3), 1, 2)
    # By the judge (0.4 + 0.6)/2 of 0.2.
    assert found.cell("GRPO", "share").mean == pytest.approx(0.5 / 0.2 - 1)
    assert "2 tasks not in all runs left out" in in_words(cell, "+.3f")
    write_evaluation(stored(STORAGE, "base"), 0, {"b": [0.1]})
    cell = computed(table(columns=columns, published={})).cell("GRPO", "gain")
    assert (cell.mean, cell.whole) == (None, False)
    assert cell.reason == "there is no held-out task that all runs of it and of the baseline have a score of"


def test_an_average_and_a_relative_gain() -> None:
    """Truth 0.5 and judge 0.6 of GRPO: 0.55. Base: 0.2 and 0.3, so 0.25: 0.55/0.25 - 1 = 1.2."""
    make_runs(STORAGE)
    columns = (
        Column("truth", truth),
        Column("judge", judged),
        Difference("more", "mean", relative=True),
        Average("mean", ("truth", "judge")),
    )
    found = computed(table(columns=columns, published={}))
    assert found.cell("GRPO", "mean").mean == pytest.approx(0.55)
    cell = found.cell("GRPO", "more")
    assert cell.mean == pytest.approx(1.2)
    assert cell.low < 1.2 < cell.high


def test_a_benchmark_in_a_node_of_its_own(folder: Path) -> None:
    """The column's node plays it; tasks of others count as None."""
    sweep = "{target: world.py, settings: {steps: 4}, runs: {policy: {seeds: 0..1}, hard: {settings: {steps: 0}, seeds: 0..1}}}"
    (folder / "sweep.yaml").write_text(sweep)
    easy, hard = {"a": [0.9]}, {"a": [0.1], "other": [0.7]}
    scores = {(node, "", seed): said for node, said in (("policy", easy), ("hard", hard)) for seed in (0, 1)}
    make_stage(STORAGE, read_sweep("sweep.yaml"), scores)

    def only_a(measured: Measured) -> float | None:
        return truth(measured) if measured.episode.task.id == "a" else None

    columns = (Column("easy", truth), Column("hard", only_a, node="hard"), Average("both", ("easy", "hard")))
    found = computed(table(rows=(Row("policy", "policy"),), columns=columns, baseline=None, published={}))
    assert [found.cell("policy", name).mean for name in ("easy", "hard", "both")] == pytest.approx([0.9, 0.1, 0.5])


def test_what_is_not_there_is_not_run_and_says_why() -> None:
    found = computed(table())
    cell = found.cell("GRPO", "gain")
    assert cell.mean is None
    assert cell.reason.startswith("run policy-grpo-s0-")
    assert "is not there; run policy-grpo-s1-" in cell.reason
    assert not found.cell("Base", "gain").reason
    assert runs_there(named(table()), read_sweep("sweep.yaml"), STORAGE) == (0, 6)


def test_a_run_that_is_not_finished_or_has_no_such_evaluation() -> None:
    make_runs(STORAGE)
    late = stored(STORAGE, "policy-grpo-s1")
    write_json(late.summary, {"status": "stopped"})
    cell = computed(table()).cell("GRPO", "truth")
    assert (cell.mean, cell.runs, cell.asked, cell.whole) == (pytest.approx(0.4), 1, 2, False)
    assert cell.reason == f"run {late.name} is not finished"
    assert runs_there(named(table()), read_sweep("sweep.yaml"), STORAGE) == (4, 6)
    cell = computed(table(checkpoint=2)).cell("FlowRL", "truth")
    assert "has no eval episodes of step 2" in cell.reason


def test_the_winner_of_a_search_is_known_once_the_sweep_says_it(folder: Path) -> None:
    text = "target: world.py\nsettings: {steps: 4}\nruns: {policy: {search: {learner.learning_rate: {choice: [0.1, 0.2]}}}}"
    (folder / "sweep.yaml").write_text(text)
    made = table(rows=(Row("best", "policy"),), columns=(Column("truth", truth),), baseline=None, published={})
    assert computed(made).cell("best", "truth").reason == "the search of policy has not ended"
    sweep = read_sweep("sweep.yaml")
    run = make_run(STORAGE, "world.py", ["steps=4", "name=policy-0123456789"], {"a": [0.7]})
    place = SweepFolder((STORAGE / "sweeps" / "sweep").resolve())
    SweepFolder.begin(STORAGE, sweep, resume=False).end()
    place.close(stages(sweep)[0], [Done("policy", "", 1000, f"world/{run.name}", {}, winner=True)])
    cell = computed(made).cell("best", "truth")
    assert (cell.mean, cell.chosen) == (0.7, True)
    (folder / "sweep.yaml").write_text(text.replace("steps: 4", "steps: 5"))
    with pytest.raises(ConfigError, match="was begun with another definition"):
        computed(made)
    assert definition_of(sweep) != definition_of(read_sweep("sweep.yaml"))


def test_published_values_stand_at_paper_scale_alone() -> None:
    make_runs(STORAGE, ["preset=paper"])
    assert all(cell.published is None for cell in computed(table()).cells)
    found = computed(table(), ("preset=paper",))
    assert found.presets == ("paper",)
    assert found.cell("GRPO", "truth").published is not None
    assert found.cell("GRPO", "truth").mean == pytest.approx(0.5)
    # What was made smaller is not what was published.
    assert all(cell.published is None for cell in computed(table(), ("preset=paper", "learner.zero_stage=0")).cells)
    assert all(cell.published is None for cell in computed(table(), ("preset=paper", "hardware=1x24GB")).cells)
    assert computed(table(), ("preset=paper", "tracking.group=x")).at_scale


def test_every_run_of_a_cell_must_be_at_paper_scale(folder: Path) -> None:
    """The row's node is, but not what a column looks at, what a difference is from, or all that is averaged."""
    (folder / "sweep.yaml").write_text(
        """
target: world.py
settings: {steps: 4}
runs:
  base: {settings: {steps: 0}}
  policy: {arms: {grpo: {algorithm: grpo}}, settings: {preset: paper}}
  hard: {arms: {grpo: {algorithm: grpo}}, settings: {steps: 2}}
"""
    )
    columns = (
        Column("truth", truth),
        Column("hard", truth, node="hard"),
        Average("both", ("truth", "hard")),
        Difference("gain", "truth"),
    )
    rows = (Row("Base", "base"), Row("GRPO", "policy", "grpo"))
    scores = {("base", "", 0): BASE, ("policy", "grpo", 0): GRPO[0], ("hard", "grpo", 0): GRPO[1]}
    make_stage(STORAGE, read_sweep("sweep.yaml"), scores)
    known = {("GRPO", column.name): Published(0.4, "paper") for column in columns}
    known |= {("Base", "truth"): Published(0.2, "paper"), ("Base", "gain"): Published(0.0, "paper")}
    made = table(rows=rows, columns=columns, published=known)
    found = computed(made)
    assert (found.at_scale, found.presets) == (True, ("mini", "paper"))
    assert [(cell.row, cell.column) for cell in found.cells if cell.published] == [("GRPO", "truth")]
    assert all(cell.mean is not None for cell in found.cells if cell.row == "GRPO")


def test_a_metric_that_fails_says_where() -> None:
    make_runs(STORAGE)
    for metric, words in (
        (lambda measured: measured.nothing, "the metric of the column 'x' on world/base-.*AttributeError"),
        (lambda measured: float("nan"), "gives nan for the episode 0/a/0"),
    ):
        with pytest.raises(ConfigError, match=words):
            computed(table(columns=(Column("x", metric),), published={}))


def test_numbers_come_from_episodes_and_from_nothing_else() -> None:
    make_runs(STORAGE)
    run = stored(STORAGE, "policy-grpo-s0")
    run.metrics_log.write_text(json.dumps({"step": 4, "eval/oracle": 0.99}) + "\n")
    write_json(run.summary, {"status": "finished", "last": {"oracle": 0.99}})
    assert computed(table()).cell("GRPO", "truth").mean == pytest.approx(0.5)
    write_evaluation(run, 4, {"a": [0.0], "b": [0.0]})
    assert computed(table()).cell("GRPO", "truth").mean == pytest.approx(0.3)


def test_nodes_and_arms_must_be_the_sweeps() -> None:
    sweep = read_sweep("sweep.yaml")
    check_nodes(named(table()), sweep)
    for row, words in (
        (Row("x", "polcy", "grpo"), "Did you mean policy"),
        (Row("x", "policy", "ppo"), "no arm 'ppo'. There are: grpo, flowrl"),
        (Row("x", "policy"), "no arm ''"),
    ):
        with pytest.raises(ConfigError, match=words):
            check_nodes(
                named(table(rows=(row,), baseline=None, columns=(Column("truth", truth),), published={})), sweep
            )
