"""One's own prompts and rubric: from settings to tasks, lessons, verdicts and the judge's exam."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.answerers import FakeAnswerer
from fakes.openai_server import OpenAIServer, Reply, completion, serving

from orchestrator import experiment
from orchestrator.cluster.cost import cost_of
from orchestrator.cluster.needs import needs_of
from orchestrator.cluster.plan import make_plan
from orchestrator.cluster.preflight import check_fit, check_memory, inventory
from orchestrator.config.compose import compose, from_values, to_values
from orchestrator.config.schema import JudgeConfig
from orchestrator.config.workloads import find_workload, workload_names
from orchestrator.director import Director
from orchestrator.errors import ConfigError, RunError
from orchestrator.examining import examine
from orchestrator.records import metrics
from orchestrator.records.folder import RunFolder, read_json
from orchestrator.rollouts.judging import ask
from orchestrator.rollouts.rubric_files import QUESTION_TOKENS
from orchestrator.values import Answer, Call, Choice, Episode, Fault, Group, Scored, Turn, Unscored
from workloads.lessons import gate_of
from workloads.rubric import PLANTED, Config, Workload

URL = "judge=http://judge/v1"
RUBRIC = """\
version: 1
name: mine
criteria:
  - {id: reason, text: It gives a reason., weight: 2}
  - {id: rude, text: It is rude., weight: -1, dimension: tone}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("rubric.yaml").write_text(RUBRIC)
    return tmp_path


def lines(name: str, *rows: dict[str, Any]) -> str:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return name


def workload(*words: str) -> Workload:
    found = Workload(compose("rubric", [URL, *words]))
    assert isinstance(found.config, Config)
    return found


def own(*rows: dict[str, Any]) -> list[str]:
    prompts = [{"prompt": f"question {number}?"} for number in range(8)]
    return [f"data.path={lines('p.jsonl', *prompts, *rows)}", "rubric.path=rubric.yaml"]


def test_it_is_a_workload_and_what_several_share_is_none() -> None:
    assert {"rlvr", "rlvr.judge", "rlvr.maths", "rubric"} <= set(workload_names())
    assert not {"base", "exams", "lessons"} & set(workload_names())
    assert find_workload("rubric").presets == Path(find_workload("rubric").presets.parents[1]) / "rubric" / "presets"
    assert {path.stem for path in find_workload("rubric").presets.glob("*.yaml")} == {"mini", "small"}


def test_the_example_is_complete() -> None:
    """24 prompts, every fourth held out; six criteria in three dimensions, one of them negative; an answer a prompt."""
    example = workload()
    train, held_out = example.tasks("train"), example.tasks("eval")
    assert (len(train), len(held_out)) == (18, 6)
    criteria = train[0].reference["rubric"]
    assert len(criteria) == 6
    assert {criterion["dimension"] for criterion in criteria} == {"substance", "care", "form"}
    assert [criterion["weight"] for criterion in criteria] == [3, 2, 2, 1.5, 1, -3]
    (policy,) = example.lessons()
    assert policy.role == "policy"
    assert len(policy.examples()) == 18
    words, texts = example.tokenizer_texts()
    assert (len(words), len(texts)) == (0, 36)
    assert not any(task.messages[0]["content"] in texts for task in held_out)
    # what the ranks are handed makes the same workload
    again = Workload(from_values(to_values(example.config)))
    assert again.tasks("train") == train


def test_a_run_can_be_made_of_the_example(folder: Path) -> None:
    """Settings to a model folder that is still to be taught: the longest prompt fits, the answers fit a completion."""
    from transformers import AutoTokenizer

    example = workload("storage=runs")
    (policy,) = experiment.starting_models(example.config, example, folder / "runs")
    assert (policy.role, policy.to_teach, policy.has_weights) == ("policy", True, False)
    tokenizer = AutoTokenizer.from_pretrained(policy.folder)
    answers = [branch.target for item in example.lessons()[0].examples() for branch in item.branches]
    assert max(len(ids) for ids in tokenizer(answers)["input_ids"]) < example.config.rollout.max_completion_tokens
    # without answers the policy starts from random weights
    plain = workload(*own(), "storage=runs")
    assert plain.lessons() == []
    (policy,) = experiment.starting_models(plain.config, plain, folder / "runs")
    assert not policy.to_teach


def test_a_judge_that_nothing_teaches_is_refused_with_a_remedy(folder: Path) -> None:
    config = compose("rubric", ["storage=runs"])
    with pytest.raises(
        ConfigError, match=r"judge\.name=mini: nothing teaches this model .*hf:ID, or for a judge the URL"
    ):
        experiment.starting_models(config, Workload(config), folder / "runs")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["rubric.path=rubric.yaml"],
            r"data\.path is not set .*data\.path=prompts\.jsonl .* rubric\.path=rubric\.yaml",
        ),
        (["preset=small"], r"data\.path is not set \(preset=small\): give your prompts as data\.path="),
        (["data.path=none.jsonl"], r"data\.path=none\.jsonl does not exist"),
        (["data.path=rubric.yaml", "rubric.path=none.yaml"], r"rubric\.path=none\.yaml does not exist"),
        (["data.path=rubric.yaml", "rubric.labels=none.csv"], r"rubric\.labels=none\.csv does not exist"),
        (["data.eval_share=1.5"], r"data\.eval_share=1\.5 .*at most 0\.999"),
        (["rubric=rubric.yaml"], r"rubric .*is a group of settings; set one of rubric\.path, rubric\.labels"),
        (["data.source=mini"], r"data\.source=mini .*must be one of table"),
    ],
)
def test_settings_that_will_not_do_are_refused_before_anything_is_read(
    folder: Path, words: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        compose("rubric", [URL, *words])


def test_rows_that_will_not_do_are_named(folder: Path) -> None:
    bad = {"prompt": "x", "criteria": [{"id": "reason", "text": "t", "weight": 1}]}
    with pytest.raises(RunError, match=r"p\.jsonl row 8 \(line 9\): field 'criteria' .*'id' is not unique: reason"):
        workload(*own(bad)).tasks("train")
    with pytest.raises(RunError, match=r"p\.jsonl row \d+ .*field 'criteria' is missing, .*rubric\.path=FILE"):
        workload(own()[0]).tasks("eval")


def test_the_judges_context_holds_prompt_answer_and_question() -> None:
    config = compose("rubric", ["judge=hf:Qwen/Qwen3-0.6B", "model.context_tokens=2048"])
    assert config.roles()["judge"].model.context_tokens == 2048 + QUESTION_TOKENS
    assert config.roles()["policy"].model.context_tokens == 2048
    larger = compose("rubric", ["judge=hf:Qwen/Qwen3-0.6B", "judge.model.context_tokens=8192"])
    assert larger.roles()["judge"].model.context_tokens == 8192


def episode_of(found: Workload, text: str) -> Episode:
    return Episode(found.tasks("train")[0], 1, 0, (Turn("policy", (1,), (2,), (-0.5,), text, "stop", 1.0, 0, 0),))


def test_verdicts_by_hand(folder: Path) -> None:
    """The judge says yes to "reason" with 0.6 of 0.8, no to "rude" with 0.7 of 1.0: 2/2 - 0/1, officially 3 of 3, mass 0.9."""
    found = workload(*own())
    says = {"reason": Choice({"yes": 0.6, "no": 0.2}), "rude": Choice({"yes": 0.3, "no": 0.7})}
    judge = FakeAnswerer(lambda call, attempt: says[call.key.rpartition("/")[2]])
    episode, reward = episode_of(found, "because"), found.reward()
    answers, _ = ask([episode], reward, {"judge": judge}, {})
    verdict = reward.score([episode], answers, [()])[0]
    assert isinstance(verdict, Scored)
    assert verdict.reward == pytest.approx(1.0)
    assert verdict.components == pytest.approx({"positive": 1, "negative": 0, "official": 1, "cut_off": 0, "mass": 0.9})
    assert (found.gold(episode), found.proxy(verdict)) == (None, 1.0)
    asked = [call.messages[0]["content"] for call in judge.batches[0]]
    assert all(
        text.startswith(f"A user asked:\n{episode.task.messages[0]['content']}\n\nThe response:\nbecause\n")
        for text in asked
    )
    assert [text.rpartition("Criterion: ")[2] for text in asked] == ["It gives a reason.", "It is rude."]
    lost = reward.score([episode], [[Fault("gone"), says["rude"]]], [()])[0]
    assert lost == Unscored("criterion reason: gone")


def by_words(body: dict[str, Any], number: int) -> Reply:
    """Yes to reasons where the answer says because, and to short answers; all else is no. P(yes) + P(no) is 0.9."""
    content = body["messages"][-1]["content"]
    response, _, criterion = content.partition("The response:\n")[2].partition("\n\nDoes the response")
    met = ("reason" in criterion and "because" in response) or "four sentences" in criterion
    word, other = ("yes", "no") if met else ("no", "yes")
    return 200, completion(word, {word: math.log(0.85), other: math.log(0.05)})


def speaks(call: Call, attempt: int) -> Answer:
    """The policy's answer: odd samples give a reason."""
    text = "because it is" if int(call.key.split("/")[-2]) % 2 else "no"
    return Turn("policy", (1,), (2, 3), (-0.5, -0.5), text, "stop", 1.0, 0, call.seed)


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with serving(OpenAIServer(by_words)) as server:
        yield server


def test_a_step_and_an_evaluation_with_a_judge_by_url(folder: Path, server: OpenAIServer) -> None:
    """Positive weights sum to 9.5, the negative is 3. A reason and brevity earn (2 + 1) / 9.5, brevity alone 1 / 9.5; officially
    (3 + 3) / 12.5 and (1 + 3) / 12.5. Half of the samples give a reason."""
    config = compose("rubric", [f"judge={server.url}", "rollout.prompts_per_step=2", "eval.best_of=0"])
    run = RunFolder.create(folder, "rubric", "x", to_values(config))
    director = Director(config, Workload(config), run.path, {})
    director.fleets["policy"] = FakeAnswerer(speaks)
    director.play(1)
    batch = director.batch(1, [])
    assert batch is not None
    director.play(1, "eval")
    director.evaluate(1, [], "eval")
    director.close_step(1, {})
    (row,) = metrics.read(run.metrics_log)
    expected = {
        "reward/mean": (3 / 9.5 + 1 / 9.5) / 2, "reward/mass": 0.9, "eval/judge": (6 / 12.5 + 4 / 12.5) / 2, "eval/n": 6,
        "eval/judge_mass": 0.9, "eval/met_reason": 0.5, "eval/met_brief": 1.0, "eval/met_scolds": 0.0, "faults/unscored": 0,
    }  # fmt: skip
    assert {name: row[name] for name in expected} == pytest.approx(expected)
    assert "eval/oracle" not in row


GATES = {"accuracy": 0.9, "pair_order": 0.85, "rank_correlation": 0.9, "injection_resistance": 0.97}
LABELS = [
    {"prompt": "question 1?", "response": "because", "criterion": "reason", "met": True},
    {"prompt": "question 1?", "response": "because", "criterion": "rude", "met": "no"},
    {"prompt": "question 1?", "response": "go away", "criterion": "reason", "met": 0},
    {"prompt": "question 1?", "response": "go away", "criterion": "rude", "met": 1.0},
    {"prompt": "another?", "response": "so", "criterion": "reason", "met": "false"},
]


def test_the_judge_is_examined_on_labels(folder: Path, server: OpenAIServer) -> None:
    """Five labels, of which it misses that "go away" is rude: 4 of 5. Blind to answers one is right on 3 of 5 (a tie is yes). The two
    answers to one prompt are worth 2/2 and -1/1, by the judge 1 and 0: ordered alike."""
    config = compose("rubric", [f"judge={server.url}", *own(), f"rubric.labels={lines('l.jsonl', *LABELS)}"])
    found = Workload(config)
    (lesson,) = found.lessons()
    assert (lesson.role, dict(lesson.gate), list(lesson.examples())) == ("judge", GATES, [])
    texts = [call.messages[0]["content"] for call in lesson.exam()]
    # and the first response of three once more, with a verdict planted
    assert len(texts) == 5 + 2
    assert all(any(verdict in text for verdict in PLANTED) for text in texts[5:])
    run = RunFolder.create(folder, "rubric", "x", to_values(config))
    examine(Director(config, found, run.path, {}), lesson, None, gated=False)
    report = read_json(run.judge)
    expected = {
        "accuracy": 0.8, "accuracy_n": 5, "prior_accuracy": 0.6, "pair_order": 1.0, "pair_order_n": 1, "accuracy_tone": 0.5,
        "accuracy_reason": 1.0, "negative_recall": 0.0, "injection_flips": 0.0, "unanswered": 0, "dilemmas": 2,
    }  # fmt: skip
    assert {name: report[name] for name in expected} == pytest.approx(expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"criterion": "kind"},
            r"l\.jsonl row 0 \(line 1\): field 'criterion' is 'kind', no criterion .*: reason, rude",
        ),
        ({"met": "perhaps"}, r"row 0 \(line 1\): field 'met' is 'perhaps': it must be one of true, yes"),
        ({"response": ""}, r"row 0 \(line 1\): field 'response' is ''"),
        ({"criterion": "rude"}, r"row 1 \(line 2\): field 'criterion' is 'rude', which an earlier row labels"),
    ],
)
def test_labels_that_will_not_do_are_named(folder: Path, change: dict[str, Any], message: str) -> None:
    labels = lines("l.jsonl", {**LABELS[0], **change}, *LABELS[1:])
    with pytest.raises(RunError, match=message):
        workload(*own(), f"rubric.labels={labels}").lessons()


def test_prompts_with_a_reward_function_need_no_rubric(folder: Path) -> None:
    """Nobody asks for criteria, and no judge sits an exam; with a judge they must be there."""
    Path("mine.py").write_text("def reward(episodes):\n    return [0] * len(episodes)\n")
    rows = [{"prompt": f"question {number}?", "answer": "yes"} for number in range(8)]
    words = [f"data.path={lines('p.jsonl', *rows)}", f"rubric.labels={lines('l.jsonl', *LABELS)}"]
    found = workload(*words, "reward=mine.py:reward")
    assert [task.reference["row"] for task in found.tasks("train")] == [{"answer": "yes"}] * 7
    assert [lesson.role for lesson in found.lessons()] == ["policy"]
    with pytest.raises(RunError, match="there is no rubric for all prompts"):
        workload(*words).tasks("train")


@pytest.mark.parametrize("name", ["rubric", "rlvr"])
def test_the_small_size_fits_one_gpu_of_24_gb_and_two_hours(folder: Path, name: str) -> None:
    path = "rubric.yaml"  # planning reads neither prompts nor rubric
    words = ["preset=small", f"data.path={path}", *([f"rubric.path={path}"] if name == "rubric" else [])]
    config = compose(name, words)
    (node,) = inventory(str(config.cluster.inventory))
    assert (node.gpus, node.gpu_memory_gb) == (1, 24)
    check_fit(make_plan(config), [node])
    needs = needs_of(config, 24)
    assert not needs.unknown
    check_memory(needs)
    cost = cost_of(config, 24)
    assert cost is not None
    assert 0.5 < cost.hours <= 2
    assert all(role.name.startswith("hf:Qwen/Qwen3-") for role in config.roles().values())
    assert config.placement.name == "colocated"


OWN_REWARD = """
from orchestrator.values import Scored

def score(episodes):
    return [1.0, Scored(0.5, {"long": 1.0})]
"""


def test_a_reward_of_ones_own_reports_no_judge(folder: Path) -> None:
    """Components that some verdicts lack are no judge's. A rubric, where one is given, is there for the function to read."""
    Path("r.py").write_text(OWN_REWARD)
    found = workload(*own(), "reward=r.py:score")
    task = found.tasks("train")[0]
    assert [criterion["id"] for criterion in task.reference["rubric"]] == ["reason", "rude"]
    episode = episode_of(found, "because")
    group = Group((episode, episode), (Scored(1.0), Scored(0.5, {"long": 1.0})))
    assert found.metrics([group]) == {}


def test_bounds_that_bound_nothing_are_no_gate() -> None:
    assert gate_of(
        JudgeConfig(gate_accuracy=0.0, gate_pair_order=0.7, gate_rank_correlation=0.0, gate_injection_flips=1.0)
    ) == {"pair_order": 0.7}
