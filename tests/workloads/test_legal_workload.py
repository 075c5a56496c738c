"""LegalΔ as a workload: tasks, truth, metrics, traces and what they may come from, sweeps and tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fakes.gathering import gathered

from orchestrator.config.compose import compose
from orchestrator.errors import ConfigError, RunError
from orchestrator.gathering import gather
from orchestrator.sweep.reading import read_sweep
from orchestrator.tables import Measured, length
from orchestrator.values import Answer, Call, Episode, Group, Scored, Task, Turn
from workloads import legal_delta
from workloads.base import Example
from workloads.legal_delta import EXACT, REASONING, mini
from workloads.legal_delta.answers import Kind, direct, reasoned
from workloads.legal_delta.tables import TABLES, of

SMALL = ("data.train_groups=10", "data.eval_groups=10", "data.test_groups=5", "warmup.steps=2")
INSTRUCTION = "- `{详细分析过程}`：说明你如何得出最终罪名。"
FACTS = "经审理查明，被告人张某某于2014年4月在某商店窃取手机一部，价值人民币三千元，后被抓获归案，赃物已经追回并发还给失主，第{}次。"


def workload(*words: str) -> legal_delta.Workload:
    return legal_delta.Workload(compose("legal_delta", [*SMALL, *words]))


@pytest.fixture(scope="module")
def made() -> legal_delta.Workload:
    return workload()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is gathered is kept under runs/ of the current folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Settings that name twelve cases and one trace of facts of its own, in the published form."""
    rows: list[dict[str, Any]] = [
        {"id": str(n), "instruction": INSTRUCTION, "question": f"事实:{FACTS.format(n)}", "answer": "[罪名]盗窃<eoa>"}
        for n in range(12)
    ]
    (tmp_path / "cases.json").write_text(json.dumps(rows))
    trace = {**rows[0], "question": f"事实:{FACTS.format(99)}", "output": reasoned("他拿了手机。", "[罪名]盗窃<eoa>")}
    (tmp_path / "traces.json").write_text(json.dumps([trace]))
    return ["data.source=files", f"data.path={tmp_path}/cases.json", f"data.traces={tmp_path}/traces.json"]


def turn(text: str) -> Turn:
    return Turn("policy", (), (), (), text, "stop", 1.0, 0, 0)


def taught(made: legal_delta.Workload) -> list[Example]:
    (lesson,) = made.lessons()
    return list(lesson.examples())  # type: ignore[arg-type]


def test_cases_stand_on_one_side_alone(made: legal_delta.Workload) -> None:
    stories = {split: {task.reference["story"] for task in made.tasks(split)} for split in ("train", "eval", "test")}
    assert [len(found) for found in stories.values()] == [10, 10, 5]
    assert len(set.union(*stories.values())) == 25
    lessons = {message["content"] for one in taught(made) for branch in one.branches for message in branch.messages}
    assert not any(story in content for content in lessons for story in set.union(*stories.values()))


def test_the_warm_up_is_in_both_modes(made: legal_delta.Workload) -> None:
    """Two steps of 32: 64 examples, of which about a quarter are asked for the answer alone."""
    examples = taught(made)
    assert len(examples) == 64
    modes = [one.branches[0].messages[0]["content"] == mini.MODES[True] for one in examples]
    assert 6 <= sum(modes) <= 28
    for one, plain in zip(examples, modes, strict=True):
        assert one.branches[0].target.startswith("<answer>\n" if plain else "<reasoning>\n")


def test_the_truth_needs_no_judge(made: legal_delta.Workload) -> None:
    """36 months for 12: 1 - ln(37 / 13) / ln 36 = 0.70811 of the worth; perfect reasoning is all right, whatever is answered."""
    task = next(task for task in made.tasks("eval") if task.reference["kind"] == Kind.SENTENCE)
    task = Task(task.id, task.messages, {**task.reference, "answer": "[刑期]12月<eoa>"})
    steps = "".join(f"{step}。" for step in task.reference["steps"])
    episode = Episode(task, 0, 0, (turn(reasoned(steps, "[刑期]36月<eoa>")),))
    assert made.gold(episode) == pytest.approx(0.70811, abs=1e-5)
    assert made.gold_verdicts(episode) == {EXACT: 0.0, REASONING: 1.0}
    right = Episode(task, 0, 0, (turn(direct("[刑期]12月<eoa>")),))
    assert (made.gold(right), made.gold_verdicts(right)) == (1.0, {EXACT: 1.0, REASONING: 0.0})
    found = made.metrics([Group((episode, right), (Scored(2.0, {"legal": 3.0}), Scored(4.0, {"legal": 5.0})))])
    assert found["worth_sentence"] == pytest.approx((0.70811 + 1) / 2, abs=1e-5)
    assert (found[EXACT], found[REASONING], found["legal"]) == (0.5, 0.5, 4.0)


def test_the_reward_asks_the_direct_question_of_the_same_case(made: legal_delta.Workload) -> None:
    task = made.tasks("eval")[0]
    own, baseline = made.reward().queries(Episode(task, 0, 0, (turn(reasoned("。", task.reference["answer"])),)))
    assert own.before == turn(reasoned("。", task.reference["answer"]))
    assert isinstance(baseline.before, tuple)
    assert baseline.before[0]["content"] == mini.MODES[True]
    assert baseline.before[1] == task.messages[1]


def test_an_oracle_writes_traces_and_plain_answers() -> None:
    reasoning, plain = (
        taught(workload("traces=given", "traces.cases=6", *more)) for more in ((), ("traces.form=direct",))
    )
    assert len(reasoning) == len(plain) == 6
    asked = workload("traces=given", "traces.form=direct").tasks("eval")[0]
    assert asked.messages[0] == plain[0].branches[0].messages[0]
    for one, other in zip(reasoning, plain, strict=True):
        assert one.branches[0].target.endswith(other.branches[0].target)
        assert other.branches[0].target.startswith("<answer>\n")
        assert one.branches[0].messages[1] == other.branches[0].messages[1]


def test_traces_of_a_file(files: list[str]) -> None:
    (one,) = taught(workload(*files, "traces=given"))
    assert one.branches[0].target == reasoned("他拿了手机。", "[罪名]盗窃<eoa>")
    (plain,) = taught(workload(*files, "traces=given", "traces.form=direct"))
    assert plain.branches[0].target == "<answer>\n[罪名]盗窃<eoa>\n</answer>"


def test_a_teacher_is_asked_again_until_it_is_right() -> None:
    """It is wrong at first about every case, and right about the first two at the second try; of the third it writes no reasoning."""
    made = workload("traces=teacher", "traces.cases=3", "teacher=http://localhost:1/v1", "teacher.retries=1")
    asked = {f"trace/{id}/1": reference for id, reference in made._asked.items()}
    third = f"trace/{list(made._asked)[2]}/1"

    def answer(call: Call, attempt: int) -> Answer:
        if call.key not in asked:
            return turn(reasoned("。", "[金额]1.0元<eoa>"))
        right = asked[call.key]["answer"]
        return turn(direct(right) if call.key == third else f"<think>好</think>{reasoned('对。', right)}")

    found, _ = gathered(made, answer)
    assert [row["case"] for row in found.rows] == list(made._asked)[:2]
    assert "2 of 3 answers are right and in form" in found.told
    made.use(found.rows)
    assert [one.branches[0].target for one in taught(made)] == [
        reasoned("对。", asked[f"trace/{row['case']}/1"]["answer"]) for row in found.rows
    ]


def test_a_teacher_that_is_never_right_ends_the_run() -> None:
    made = workload("traces=teacher", "traces.cases=2", "teacher=http://localhost:1/v1", "teacher.retries=0")
    with pytest.raises(RunError, match=r"none of its 2 answers can be taught\. The first: its answer is None, and"):
        gathered(made, lambda call, attempt: turn("不知道"))


def test_nobody_is_asked_without_a_teacher(made: legal_delta.Workload) -> None:
    assert gather(made.config, made, print) is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["traces=teacher"], "name who writes them"),
        (["reward.rating=logprob"], r"Set reward\.missing=skip"),
    ],
)
def test_traces_that_are_nowhere_are_refused(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        workload(*words).reward()


def test_real_cases_come_without_reasoning(files: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"Give it, data\.traces=FILE, or traces=teacher"):
        workload(*files[:2], "traces=given")
    assert workload(*files).lessons() == ()


def test_a_metric_of_one_task(made: legal_delta.Workload) -> None:
    task = next(task for task in made.tasks("eval") if task.reference["kind"] == Kind.AMOUNT)
    measured = Measured(Episode(task, 0, 0, (turn(""),)), Scored(0.0), 0.0, {}, lambda scored: scored.reward)
    assert (of(Kind.AMOUNT, length)(measured), of(Kind.CHARGE, length)(measured)) == (0.0, None)


def test_every_row_of_the_tables_is_a_node_of_their_sweeps() -> None:
    for table in TABLES.values():
        nodes = {node.name: node for node in read_sweep(table.sweep).nodes}
        for row in (row for row in table.rows if row.node):
            assert row.arm in nodes[str(row.node)].arms
    # All that the paper's Table 1 compares on the same models is run here.
    assert all(TABLES["benchmarks"].row(name).node for name in ("zero-shot", "SFT", "DPO", "R1-Distill", "LegalΔ"))
    policy = next(node for node in read_sweep("legal_delta_ablation").nodes if node.name == "policy")
    assert len(policy.seeds) >= 5


def test_the_search_is_over_t_in_groups_of_several_sizes() -> None:
    (policy,) = (node for node in read_sweep("legal_delta_search").nodes if node.search)
    assert {item.key for item in policy.search} == {"reward.temperature"}
    sizes = [(arm["rollout.samples_per_prompt"], arm["rollout.prompts_per_step"]) for arm in policy.arms.values()]
    assert [group for group, _ in sizes] == [4, 6, 12]
    assert {group * prompts for group, prompts in sizes} == {48}
    # No point wins by one seed, nor by one that the winner is run with.
    assert policy.tuning is not None
    assert (len(policy.tuning.seeds), set(policy.tuning.seeds) & set(policy.seeds)) == (2, set())


def test_the_published_sizes(tmp_path: Path) -> None:
    """6,981 prompts at 16 a step are 436 steps an epoch (TRL drops the last part), three epochs 1,308; adapters of rank 32."""
    file = tmp_path / "cases.json"
    file.touch()
    config = compose("legal_delta", ["preset=paper", f"data.path={file}"])
    assert config.steps == 3 * (6981 // 16)
    assert (config.rollout.samples_per_prompt, config.learner.lora_rank, config.learner.learning_rate) == (6, 32, 5e-5)
    assert (config.rollout.temperature, config.algorithm.kl_weight) == (0.9, 0.04)
