from __future__ import annotations

import io
import struct
from pathlib import Path

import pytest
from made_up_run import make_group
from matplotlib.figure import Figure
from rich.console import Console

from orchestrator.config.schema import RunConfig
from orchestrator.records import Run, episodes, ledger, metrics, plots, report
from orchestrator.records.folder import RunFolder, atomic_write, write_json
from orchestrator.records.headline import headline
from orchestrator.records.page.figures import drawings
from orchestrator.rollouts.evaluation import Proxy, evaluation_metrics


# The made-up run (see its fixture): oracle 0.40 -> 0.65 on every one of 12 tasks, 2,200 tokens in 30 steps.
def test_the_summary_holds_the_runs_numbers(fake_run: RunFolder) -> None:
    summary = report.summarise(fake_run, peak_memory_bytes=10)
    assert (summary["run"], summary["status"], summary["steps"]) == ("rlvr/made-up", "finished", 30)
    assert summary["first"]["oracle"] == pytest.approx(0.40)
    assert summary["last"] == pytest.approx(
        {
            "step": 30, "oracle": 0.65, "oracle_low": 0.61, "oracle_high": 0.69,
            "judge": 0.70, "judge_low": 0.67, "judge_high": 0.73, "n": 12, "oracle_n": 12,
            "gold_gap": 0.05,
        }
    )  # fmt: skip
    assert (summary["best"]["step"], summary["best_by"]) == (30, "eval/oracle")
    assert summary["oracle_gain"] == pytest.approx({"mean": 0.25, "low": 0.25, "high": 0.25, "n": 12})
    assert (summary["best_of"], summary["best_of_n"], summary["best_of_n_judge"]) == (8, 0.58, 0.62)
    assert summary["judge"]["pair_order"] == 0.91
    assert summary["tokens_generated"] == 66_000
    assert summary["faults"] == {"retried": 0, "unscored": 1, "lost": 0}
    assert 1e-6 < summary["logprob_gap_max"] < 1e-4
    seconds = summary["seconds"]
    assert 30 * 1.1 <= seconds["rollout"] <= 30 * 1.1 * 1.1
    assert seconds["total"] == pytest.approx(sum(value for name, value in seconds.items() if name != "total"))
    assert summary["gpu_seconds"] == pytest.approx(2 * seconds["total"])
    assert summary["peak_memory_bytes"] == 10


def test_a_run_that_has_only_begun_has_a_summary_too(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "rlvr", "a", RunConfig(steps=5))
    assert report.summarise(folder) == {"format": 1, "run": "rlvr/a", "status": "unfinished", "steps": 0}
    metrics.MetricsLog(folder.metrics_log).append(1, {"reward/mean": 0.1, "sync/logprob_gap_max": 0.0})
    assert report.summarise(folder, status="stopped")["status"] == "stopped"
    assert plots.draw(folder) == [folder.plots / "run.png"]
    report.render(folder, Console(file=io.StringIO()))


def test_the_best_evaluation_is_the_oracles_not_the_judges(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "rlvr", "a", RunConfig())
    log = metrics.MetricsLog(folder.metrics_log)
    for step, oracle, judge in ((0, 0.4, 0.5), (1, 0.6, 0.5), (2, 0.5, 0.9), (3, float("nan"), 0.9)):
        log.append(step, {"eval/oracle": oracle, "eval/judge": judge})
    assert report.summarise(folder)["best"]["step"] == 1


def test_pictures_are_drawn_at_readme_width(fake_run: RunFolder) -> None:
    drawn = plots.draw(fake_run)
    assert [path.name for path in drawn] == ["run.png", "judge.png"]
    for path in drawn:
        content = path.read_bytes()
        assert content.startswith(b"\x89PNG")
        assert struct.unpack(">I", content[16:20]) == (1600,)
    assert sorted(path.name for path in fake_run.plots.iterdir()) == ["judge.png", "run.png"]


def test_panels_without_data_are_left_out(fake_run: RunFolder) -> None:
    rows = metrics.read(fake_run.metrics_log)
    assert list(plots._run_panels(rows, {})) == [
        "reward", "evaluation", "gold", "policy", "gap", "length", "time", "faults"
    ]  # fmt: skip
    no_policy = [{name: value for name, value in row.items() if "policy" not in name} for row in rows]
    assert "policy" not in plots._run_panels(no_policy, {})
    assert list(plots._run_panels(rows[:1], {})) == ["evaluation", "gold"]
    assert plots._run_panels([], {}) == {}
    # The one fault is in step 7.
    assert "faults" not in plots._run_panels(rows[:7], {})


def test_the_judges_panels_follow_its_report(fake_run: RunFolder) -> None:
    shares = {"accuracy": 0.9, "accuracy_n": 10, "accuracy_low": 0.6, "accuracy_high": 0.98}
    assert list(plots._judge_panels(shares, {})) == ["accuracy"]
    assert list(plots._judge_panels(shares | {"pair_order": 0.8}, fake_run.settings())) == ["accuracy", "judge"]
    assert plots._judge_panels({"unanswered": 0}, {}) == {}


def test_nothing_to_draw_draws_nothing(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "rlvr", "a", RunConfig())
    write_json(folder.judge, {"note": "no numbers"})
    assert plots.draw(folder) == []


def test_the_end_of_a_run_says_what_was_gained_and_what_is_next(fake_run: RunFolder) -> None:
    write_json(fake_run.summary, report.summarise(fake_run))
    screen = io.StringIO()
    report.render(fake_run, Console(file=screen, width=300))
    shown = screen.getvalue()
    assert "judge: pairs in the right order" in shown
    assert fake_run.report.is_file()
    for text in (
        "report.html",
        "+0.250",
        "0.250 … 0.250",
        "0.610 … 0.690",
        "best of 8 of the starting policy",
        "judge: best guess that ignores the answer",
        "judge: groups in its exam, which the intervals are over",
        "run.png",
        f"orchestrate train {fake_run.config} name=null seed=1",
    ):
        assert text in shown


def test_a_run_in_python(fake_run: RunFolder) -> None:
    run = Run(fake_run.path)
    assert run.metrics().num_rows == 31
    assert run.metrics().to_pandas()["eval/oracle"].notna().sum() == 4
    assert run.checkpoint() == fake_run.checkpoints / "step-000030"
    assert set(run.ledger()["phase"].to_pylist()) >= {"rollout", "judge", "learn", "sync", "eval", "checkpoint"}
    assert run.summary()["steps"] == 30
    write_json(fake_run.summary, {"steps": 99})
    assert run.summary()["steps"] == 99
    metrics.compact(fake_run.metrics_log, fake_run.metrics_parquet)
    fake_run.metrics_log.unlink()
    assert run.metrics().num_rows == 31
    with pytest.raises(FileNotFoundError):
        Run(fake_run.path / "episodes")


# Half of the answers are cut off in the last five of six steps; the mean of five reaches 0.2 in the fifth: (0 + 4 * 0.5) / 5.
def test_what_is_wrong_is_in_the_summary_and_at_the_end_of_a_run(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "rlvr", "a", RunConfig(steps=6))
    log = metrics.MetricsLog(folder.metrics_log)
    for step in range(6):
        log.append(step, {"episodes/truncated_share": 0.5 if step else 0.0})
    (found,) = report.summarise(folder)["diagnosis"]
    assert (found["name"], found["step"], found["lasting"]) == ("answers are cut off", 4, True)
    screen = io.StringIO()
    report.render(folder, Console(file=screen, width=300))
    assert "answers are cut off, step 4: 50% of the answers of the last 5 steps were cut off" in screen.getvalue()
    assert "rollout.max_completion_tokens" in screen.getvalue()


# 40 is of a former course: the run went back to 20 and has saved 30 since. A LATEST whose folder is gone names nothing.
def test_the_newest_checkpoint_is_the_one_that_latest_names(fake_run: RunFolder) -> None:
    (fake_run.checkpoints / "step-000040").mkdir()
    (fake_run.checkpoints / ".step-000041.partial").mkdir()
    assert fake_run.newest_checkpoint() == fake_run.checkpoints / "step-000030"
    assert Run(fake_run.path).checkpoint() == fake_run.checkpoints / "step-000030"
    for gone in ("step-000050", ""):
        atomic_write(fake_run.checkpoints / "LATEST", gone)
        assert fake_run.newest_checkpoint() is None
    (fake_run.checkpoints / "LATEST").unlink()
    assert fake_run.newest_checkpoint() is None


@pytest.mark.parametrize("rows", [0, 1])
def test_a_failed_run_has_a_summary_with_its_reason(tmp_path: Path, rows: int) -> None:
    folder = RunFolder.create(tmp_path, "rlvr", "a", RunConfig(steps=5))
    for step in range(rows):
        metrics.MetricsLog(folder.metrics_log).append(step, {"eval/judge": 0.1, "eval/oracle": float("nan")})
    assert metrics.compact(folder.metrics_log, folder.metrics_parquet).num_rows == rows
    assert ledger.compact(folder.ledger_log, folder.ledger).num_rows == 0
    write_json(folder.summary, report.summarise(folder, "failed", "the [judge] server died"))
    assert Run(folder.path).summary()["reason"] == "the [judge] server died"
    screen = io.StringIO()
    report.render(folder, Console(file=screen, force_terminal=True, width=200))
    shown = screen.getvalue()
    assert "rlvr/a: failed, 0 steps" in shown
    assert "\x1b[31mthe [judge] server died" in shown
    assert (folder.plots / "run.png").exists() == bool(rows)


# Teaching is in step 0's row (95 s and up to a tenth more, about 2 minutes), and so is the first evaluation (4 s).
def test_the_picture_of_time_says_what_preceded_the_steps(fake_run: RunFolder) -> None:
    axes = Figure().add_subplot()
    plots._time(axes, metrics.read(fake_run.metrics_log))
    assert axes.get_title(loc="left") + axes.get_title() == "Time a step (before: teach 2 min, eval 4 s)"
    labels = axes.get_legend_handles_labels()[1]
    assert labels == ["rollout", "judge", "learn", "sync", "eval", "checkpoint"]


# n is what the row says. Without a truth it is the judge's view, and says so.
def test_best_of_n_names_its_n(fake_run: RunFolder) -> None:
    for row, label in (
        ({"eval/best_of": 3, "eval/best_of_n": 0.6, "eval/best_of_n_judge": 0.7}, "best of 3 at the start"),
        ({"eval/best_of": 5, "eval/best_of_n_judge": 0.7}, "best of 5 at the start (judge)"),
    ):
        axes = Figure().add_subplot()
        plots._evaluation(axes, [{"step": 0, "eval/judge": 0.5} | row])
        assert label in axes.get_legend_handles_labels()[1]


# One dilemma has no interval (NaN): the table leaves it empty, and the picture can be drawn.
def test_an_interval_that_there_is_not_is_left_out(fake_run: RunFolder) -> None:
    nan = float("nan")
    write_json(
        fake_run.judge, {"accuracy": 0.9, "accuracy_n": 10, "accuracy_low": nan, "accuracy_high": nan, "dilemmas": 1}
    )
    assert plots.draw(fake_run)[1].name == "judge.png"
    screen = io.StringIO()
    report.render(fake_run, Console(file=screen, width=200))
    (line,) = [line for line in screen.getvalue().splitlines() if "held-out accuracy" in line]
    assert [cell.strip() for cell in line.split("│")[1:-1]] == [
        "judge: held-out accuracy",
        "0.900",
        "",
        "10",
    ]


# Two tasks of one answer, whose gold goes from 0.2 and 0.4 to 0.6 and 0.9; one answer of the last evaluation is unscored:
# the means are 0.3 and 0.75, the gain 0.45, and each number says over how many tasks it is.
def test_the_gain_is_last_minus_first_also_where_something_is_unscored(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "rlvr", "a", RunConfig())
    for step, golds, lost in ((0, (0.2, 0.4), None), (1, (0.6, 0.9), 0)):
        groups = [make_group(step, "a", [golds[0]], lost), make_group(step, "b", [golds[1]])]
        gold = {group.episodes[0].id: value for group, value in zip(groups, golds, strict=True)}
        episodes.write_step(folder, step, groups, {}, "eval", gold)
        row = evaluation_metrics(groups, gold, Proxy("judge", lambda verdict: verdict.reward))
        metrics.MetricsLog(folder.metrics_log).append(step, row)
    summary = report.summarise(folder)
    assert summary["oracle_gain"]["mean"] == pytest.approx(0.45)
    assert summary["last"]["oracle"] - summary["first"]["oracle"] == pytest.approx(0.45)
    shown = {line.label: line.n for section in headline(summary) for line in section}
    assert (shown["held-out oracle, last (step 1)"], shown["held-out judge, last (step 1)"]) == ("2", "1")


def test_the_exam_of_every_rater_is_shown(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "rlvr", "a", RunConfig())
    write_json(folder.models, {"policy": "p", "judge": "j", "content": "c"})
    write_json(folder.judge, {"accuracy": 0.9, "gate": {}})
    write_json(folder.exam("content"), {"accuracy": 0.7, "accuracy_n": 454, "gate": {"accuracy": 0.6}})
    summary = report.summarise(folder)
    assert list(summary["raters"]) == ["content"]
    shown = {line.label: (line.value, line.n) for section in headline(summary) for line in section}
    assert shown["judge: held-out accuracy"] == ("0.900", "")
    assert shown["content: held-out accuracy (≥ 0.6)"] == ("0.700", "454")
    assert shown["content: gate"] == ("passed", "")


# Matplotlib would read what is between two $ as mathematics, and this is none.
def test_a_name_with_dollars_is_drawn_as_it_is(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "rlvr", "a", RunConfig())
    metrics.MetricsLog(folder.metrics_log).append(1, {"reward/mean": 0.1, "reward/cost_$a_^^$": 0.1})
    kind = "accuracy_$a_^^$"
    write_json(folder.judge, {kind: 0.9, f"{kind}_n": 10, f"{kind}_low": 0.6, f"{kind}_high": 0.98})
    assert [path.name for path in plots.draw(folder)] == ["run.png", "judge.png"]
    assert "cost $a ^^$" in drawings(folder)[0].svg
