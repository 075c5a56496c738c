"""Rank 0's side of a step, with a tiny workload and fleets that are functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from fakes.answerers import FakeAnswerer
from fakes.openai_server import OpenAIServer, completion, serving

from orchestrator.config.schema import (
    EvalConfig,
    FleetConfig,
    JudgeConfig,
    ModelConfig,
    Role,
    RolloutConfig,
    RunConfig,
)
from orchestrator.director import Director
from orchestrator.errors import RunError
from orchestrator.examining import examine
from orchestrator.fleets.pool_manager import PoolSpec
from orchestrator.fleets.specs import ServerSpec
from orchestrator.records import episodes as episode_files
from orchestrator.records import metrics
from orchestrator.records.folder import RunFolder, read_json
from orchestrator.values import (
    JUDGE,
    Answer,
    Call,
    Choice,
    Episode,
    Fault,
    Group,
    LogitAnswer,
    LogitQuery,
    Scored,
    Task,
    Turn,
    Unscored,
    Verdict,
)
from workloads.base import SingleTurn


class TinyReward:
    """P(yes) of one judge's call, plus the logits of as many queries as the sample's number says."""

    def calls(self, episode: Episode) -> Sequence[Call]:
        return [Call(episode.id, "judge", (), choices=("yes",))]

    def queries(self, episode: Episode) -> Sequence[LogitQuery]:
        return [LogitQuery((), (), f"{episode.id}?{n}") for n in range(episode.sample)]

    def control(self, episode: Episode, call: Call, answer: Answer) -> Call | None:
        return None

    def score(
        self,
        episodes: Sequence[Episode],
        answers: Sequence[Sequence[Answer]],
        logits: Sequence[Sequence[LogitAnswer]],
    ) -> Sequence[Verdict]:
        return [self.verdict(*mine, asked) for _, mine, asked in zip(episodes, answers, logits, strict=True)]

    def verdict(self, answer: Answer, logits: Sequence[LogitAnswer]) -> Verdict:
        if isinstance(answer, Fault):
            return Unscored(answer.reason)
        assert isinstance(answer, Choice)
        return Scored(answer.probabilities["yes"] + sum(logit.mean_logit for logit in logits), {"asked": len(logits)})


class TinyWorkload:
    def tasks(self, split: str) -> Sequence[Task]:
        return [
            Task(f"{split}-{n}", ({"role": "user", "content": str(n)},)) for n in range({"train": 5, "eval": 2}[split])
        ]

    def environment(self) -> SingleTurn:
        return SingleTurn()

    def reward(self) -> TinyReward:
        return TinyReward()

    def functions(self) -> dict[str, str]:
        return {}

    def gold(self, episode: Episode) -> float | None:
        return 0.25

    def gold_verdicts(self, episode: Episode) -> dict[str, float]:
        return {"asked": 1.0}

    def proxy(self, verdict: Scored) -> float:
        return verdict.reward

    def metrics(self, groups: Sequence[Group]) -> dict[str, float]:
        return {"groups": len(groups)}


def spoken(call: Call, attempt: int) -> Answer:
    """The policy's answer: as many tokens as the sample's number plus one; the fourth runs out of room."""
    length = int(call.key.split("/")[-2]) + 1
    ids = tuple(range(length))
    return Turn("policy", (1,), ids, (-0.5,) * length, "words", "length" if length == 4 else "stop", 1.0, 0, call.seed)


def likes(call: Call, attempt: int) -> Answer:
    """The judge's P(yes): a tenth a sample."""
    return Choice({"yes": int(call.key.split("/")[-1]) / 10})


Make = Callable[..., Director]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    numbers = iter(range(100))

    def make(judge: Callable[[Call, int], Answer] = likes, staleness: int = 0, **settings: Any) -> Director:
        config = RunConfig(
            workload="tiny",
            judge=JudgeConfig(retries=1, max_unscored_share=0.25),
            rollout=RolloutConfig(prompts_per_step=2, samples_per_prompt=4, max_staleness=staleness),
            eval=EvalConfig(samples_per_task=2, best_of=3),
            **settings,
        )
        folder = RunFolder.create(tmp_path, "tiny", f"run-{next(numbers)}", config)
        director = Director(config, TinyWorkload(), folder.path, {})
        director.fleets = {"policy": FakeAnswerer(spoken), "judge": FakeAnswerer(judge)}
        return director

    return make


def test_the_tasks_of_steps_are_a_permutation_an_epoch(make: Make) -> None:
    """Five tasks, two a step: steps 1 to 5 are two epochs, and the third step is in both."""
    director = make(seed=1)
    steps = {step: [task.id for task in director.tasks_of(step)] for step in (4, 1, 3, 2, 5)}
    walk = [task for step in range(1, 6) for task in steps[step]]
    everything = [f"train-{n}" for n in range(5)]
    assert sorted(walk[:5]) == sorted(walk[5:]) == everything
    assert walk[:5] != walk[5:]
    again, other = make(seed=1), make(seed=2)
    assert {step: [task.id for task in again.tasks_of(step)] for step in steps} == steps
    assert {step: [task.id for task in other.tasks_of(step)] for step in steps} != steps


def test_one_step_from_tasks_to_a_batch_and_a_row(make: Make) -> None:
    """Two tasks of four samples. Sample n has n + 1 tokens, P(yes) n / 10 and n logits of 0: rewards 0, 0.1, 0.2, 0.3."""
    director = make()
    queries = director.play(1)
    assert len(queries) == 2 * (0 + 1 + 2 + 3)
    batch = director.batch(1, [LogitAnswer(0.0, 0.0, 0, 1) for _ in queries])
    assert batch is not None
    assert len(batch.rows) == 8
    assert batch.total == 2 * (1 + 2 + 3 + 4)
    director.close_step(1, {"policy/entropy": 1.5})
    (row,) = metrics.read(director.folder.metrics_log)
    expected = {
        "step": 1,
        "reward/mean": 0.15,
        "reward/asked": 1.5,
        "episodes/length": 2.5,
        "episodes/truncated_share": 0.25,
        "episodes/zero_variance_groups": 0,
        "tokens/generated": 20,
        "faults/unscored": 0,
        "faults/retried": 0,
        "faults/lost": 0,
        "policy/entropy": 1.5,
    }
    assert {name: row[name] for name in expected} == pytest.approx(expected)
    assert row["time/step_s"] > 0
    stored = episode_files.read(director.folder, "train").to_pylist()
    assert [line["reward"] for line in stored] == pytest.approx([0.0, 0.1, 0.2, 0.3] * 2)
    assert {line["gold"] for line in stored} == {0.25}
    assert {tuple(line["gold_verdicts"]) for line in stored} == {(("asked", 1.0),)}
    # standardised within the group: they sum to zero and rise with the reward
    advantages = [line["advantage"] for line in stored[:4]]
    assert sum(advantages) == pytest.approx(0)
    assert advantages == sorted(advantages)


def test_each_episode_is_handed_the_answers_to_its_own_queries(make: Make) -> None:
    """Query q, counted over the step, is answered by 1000 + q. Sample n asks n queries: none, 0, 1-2, 3-5 | none, 6, 7-8, 9-11."""
    director = make()
    queries = director.play(1)
    assert [query.words.split("/")[-1] for query in queries] == ["1?0", "2?0", "2?1", "3?0", "3?1", "3?2"] * 2
    director.batch(1, [LogitAnswer(1000.0 + number, 0.0, 0, 1) for number in range(len(queries))])
    stored = episode_files.read(director.folder, "train").to_pylist()
    expected = [0.0, 1000.1, 2003.2, 3012.3, 0.0, 1006.1, 2015.2, 3030.3]
    assert [line["reward"] for line in stored] == pytest.approx(expected)


def test_a_reward_that_asks_for_logits_is_not_left_without(make: Make) -> None:
    """As where a model is only evaluated: nobody answers the twelve queries."""
    director = make()
    director.play(1)
    with pytest.raises(
        RunError, match="TinyReward asks the policy 12 times for its own logits and was answered 0 times"
    ):
        director.batch(1, [])


def test_too_many_unscored_episodes_stop_the_run_and_are_on_record(make: Make) -> None:
    """Of eight episodes two may fail (0.25): sample 3 of both tasks. With samples 2 and 3 of both it is four."""

    def fails(*samples: int) -> Callable[[Call, int], Answer]:
        return lambda call, n: Fault("judge gone") if int(call.key[-1]) in samples else likes(call, n)

    director = make(fails(3))
    queries = director.play(1)
    batch = director.batch(1, [LogitAnswer(0.0, 0.0, 0, 1) for _ in queries])
    assert batch is not None
    assert len(batch.rows) == 6
    director.close_step(1, {})
    (row,) = metrics.read(director.folder.metrics_log)
    assert (row["faults/unscored"], row["faults/retried"]) == (2, 2)
    # over the scored ones alone: (0 + 0.1 + 0.2) / 3
    assert row["reward/mean"] == pytest.approx(0.1)
    director = make(fails(2, 3))
    director.play(1)
    with pytest.raises(RunError, match=r"faults/unscored: 4 of 8 .*max_unscored_share=0.25.*judge gone"):
        director.batch(1, [LogitAnswer(0.0, 0.0, 0, 1)] * 12)
    stored = episode_files.read(director.folder, "train").to_pylist()
    assert [line["unscored"] for line in stored] == [None, None, "judge gone", "judge gone"] * 2
    assert [line["reward"] for line in stored][2] is None


def test_a_step_begins_once_for_every_fleet(make: Make) -> None:
    """Before its rollout; the judge's questions belong to the same step."""
    director = make()
    director.play(1)
    director.play(1, "eval")
    begun = ["train", "eval"]
    assert {role: fleet.purposes for role, fleet in fakes(director).items()} == {"policy": begun, "judge": begun}


def test_what_fleets_count_is_written_once(make: Make) -> None:
    """Two restarts of the policy's servers and one of the judge's in step 1, none in step 2; 60 of 80 judge tokens cached."""
    director = make()
    fakes(director)["policy"].statistics = {"restarts": 2, "prompt_tokens": 9, "cached_tokens": 0}
    judged = {"restarts": 1, "prompt_tokens": 80, "cached_tokens": 60, "asked": 10, "verdict_hits": 4}
    fakes(director)["judge"].statistics = judged
    director.close_step(1, {})
    director.close_step(2, {})
    first, second = metrics.read(director.folder.metrics_log)
    assert (first["faults/lost"], first["judge/cache_hit_rate"]) == (3, 0.75)
    assert first["judge/verdict_cache_hit_rate"] == 0.4
    assert second["faults/lost"] == 0
    assert not [name for name in second if name.startswith("judge/")]


def test_a_shared_judge_is_waited_for_asked_for_each_purpose_and_left(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Pooled(FakeAnswerer):
        def __init__(self, spec: PoolSpec, holder: str, notice_s: float, tell: Any) -> None:
            super().__init__(likes)
            self.holder, self.did = holder, [f"joined {spec.name}"]

        def wait_ready(self) -> None:
            self.did.append("waited")

        def close(self) -> None:
            self.did.append("left")

    monkeypatch.setattr("orchestrator.director.PooledFleet", Pooled)
    spec = PoolSpec("k", "m", (ServerSpec(JUDGE, 0, "folder", True, ModelConfig(), FleetConfig()),), "verdicts")
    made = make()
    director = Director(made.config, TinyWorkload(), made.folder.path, {}, pools=[spec])
    pooled: Any = director.fleets[JUDGE]
    director.fleets["policy"] = FakeAnswerer(spoken)
    with director:
        director.wait_for_fleets()
        director.play(1)
        director.play(1, "eval")
    assert pooled.holder == "the learner of run-0"
    assert pooled.did == ["joined judge-pool-k", "waited", "left"]
    assert pooled.purposes == ["train", "eval"]
    assert pooled.asked


def test_the_slowest_server_of_a_role_is_on_record(make: Make) -> None:
    director = make()
    fakes(director)["policy"].statistics = {"slowest": 2.0, "slowest_ratio": 1.75}
    director.close_step(1, {})
    (row,) = metrics.read(director.folder.metrics_log)
    assert {name: row[name] for name in row if name.startswith("servers/")} == {
        "servers/policy_slowest": 2,
        "servers/policy_slowest_ratio": 1.75,
    }


def test_a_judge_behind_a_url_is_asked_with_the_key_that_was_handed_over(tmp_path: Path) -> None:
    """It is in no file of the run."""
    with serving(OpenAIServer(lambda body, number: (200, completion("yes", {"yes": 0.0})))) as server:
        config = RunConfig(workload="tiny", judge=JudgeConfig(name=server.url))
        folder = RunFolder.create(tmp_path, "tiny", "run", config)
        director = Director(config, TinyWorkload(), folder.path, {}, {"judge": "sesame"})
        director.fleets["judge"].complete([Call("k", "judge", (), choices=("yes",))])
        director.close_step(0, {})
    assert server.keys == ["Bearer sesame"]
    assert not any(b"sesame" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def fakes(director: Director) -> dict[str, FakeAnswerer]:
    return {role: fleet for role, fleet in director.fleets.items() if isinstance(fleet, FakeAnswerer)}


def evaluate(director: Director, step: int) -> None:
    queries = director.play(step, "eval")
    director.evaluate(step, [LogitAnswer(0.0, 0.0, step, 1)] * len(queries), "eval")


def test_an_evaluation_scores_held_out_tasks_and_the_first_takes_the_best_of_n(make: Make) -> None:
    """Two tasks. Step 0 has best_of = 3 samples: P(yes) 0, 0.1, 0.2, the best 0.2. Later 2 samples: 0 and 0.1."""
    director = make()
    evaluate(director, 0)
    director.close_step(0, {})
    evaluate(director, 1)
    director.close_step(1, {})
    first, second = metrics.read(director.folder.metrics_log)
    assert first["eval/judge"] == pytest.approx(0.1)
    assert first["eval/best_of"] == 3
    assert first["eval/best_of_n_judge"] == pytest.approx(0.2)
    assert first["eval/best_of_n"] == first["eval/oracle"] == 0.25
    assert first["judge/gold_gap"] == pytest.approx(-0.15)
    assert first["eval/n"] == first["eval/groups"] == 2
    assert second["eval/judge"] == pytest.approx(0.05)
    assert not [name for name in second if name.startswith("eval/best_of")]


class TinyLesson:
    """Its report is the mean P(yes) of its calls as `accuracy`; the gate asks for it and for the resistance to injections."""

    role = "judge"

    def __init__(self, questions: Sequence[int], bounds: dict[str, float], grading: str = "") -> None:
        self.questions, self.gate, self.grading = questions, bounds, grading

    def exam(self) -> Sequence[Call]:
        return [Call(f"exam/{number}", self.role, (), choices=("yes",)) for number in self.questions]

    def report(self, answers: Sequence[Answer]) -> dict[str, float]:
        choices = [answer for answer in answers if isinstance(answer, Choice)]
        return {"accuracy": sum(choice.probabilities["yes"] for choice in choices) / len(choices)}


def test_an_exam_is_kept_by_what_decides_its_report(make: Make, tmp_path: Path) -> None:
    """P(yes) is a tenth a number: questions 2 and 4 have mean 0.3, question 8 has 0.8. Asked again only where something differs."""
    judge = FakeAnswerer(likes)
    stored = tmp_path / "taught"
    stored.mkdir()
    asked = []
    for questions, grading, accuracy in (((2, 4), "", 0.3), ((2, 4), "", 0.3), ((8,), "", 0.8), ((2, 4), "mass", 0.3)):
        director = make()
        director.fleets["judge"] = judge
        examine(director, TinyLesson(questions, {"accuracy": 0.1}, grading), stored, gated=True)
        # also where it was not asked again
        assert read_json(director.folder.judge) == {"accuracy": pytest.approx(accuracy), "gate": {"accuracy": 0.1}}
        asked.append(sum(map(len, judge.batches)))
    assert asked == [2, 2, 3, 5]
    assert len(list(stored.glob("exam-*.json"))) == 3
    assert judge.purposes == ["exam"] * 3
    # without a folder nothing is kept
    for _ in range(2):
        examine(director, TinyLesson((2, 4), {}), None, gated=True)
    assert sum(map(len, judge.batches)) == 9
    assert len(list(stored.iterdir())) == 3


class StoredLesson(TinyLesson):
    """Its exam is one episode, which both questions are about."""

    def episodes(self, answers: Sequence[Answer]) -> tuple[list[Group], dict[str, float], dict[str, dict[str, float]]]:
        episode = Episode(Task("dilemma", ()), 0, 0, (spoken(Call("a/0/0", "policy", ()), 0),))
        said = {str(n): choice.probabilities["yes"] for n, choice in enumerate(answers) if isinstance(choice, Choice)}
        return [Group((episode,), (Scored(0.5, {}, said),))], {episode.id: 0.75}, {episode.id: {"0": 1.0}}


class NoPolicy(RunConfig):
    """Serves a judge and nothing else."""

    def roles(self) -> dict[str, Role]:
        return {"judge": super().roles()["judge"]}


def test_the_exam_is_stored_as_episodes_where_there_is_no_policy(make: Make, tmp_path: Path) -> None:
    """Of the two questions P(yes) is 0.2 and 0.4. Of a run that finds the kept report the episodes are the kept ones."""
    stored = tmp_path / "taught"
    stored.mkdir()
    lesson = StoredLesson((2, 4), {"accuracy": 0.1})
    for kind, questions in ((RunConfig, 2), (NoPolicy, 0), (NoPolicy, 0)):
        director = make()
        director.config = kind(workload="tiny")
        director.fleets["judge"] = judge = FakeAnswerer(likes)
        assert examine(director, lesson, stored, gated=True) == {"judge/accuracy": pytest.approx(0.3)}
        assert len(judge.asked) == questions
        table = episode_files.read(director.folder, "exam").to_pylist()
        assert len(table) == (kind is NoPolicy)
        for row in table:
            assert (row["gold"], dict(row["verdicts"])) == (0.75, pytest.approx({"0": 0.2, "1": 0.4}))
            assert dict(row["gold_verdicts"]) == {"0": 1.0}


def test_a_missed_gate_names_its_settings_and_what_was_not_measured_misses(make: Make) -> None:
    """accuracy is 0.3 of 0.9; the report has no resistance, which is asked for."""
    director = make()
    lesson = TinyLesson((2, 4), {"accuracy": 0.9, "injection_resistance": 0.97})
    with pytest.raises(RunError) as caught:
        examine(director, lesson, None, gated=True)
    for words in (
        "accuracy is 0.300, not 0.9 or more, injection_resistance is nan, not 0.97 or more",
        "judge.training.steps",
        "judge.gate_accuracy=0 judge.gate_injection_flips=1",
    ):
        assert words in str(caught.value)
    assert read_json(director.folder.judge)["accuracy"] == pytest.approx(0.3)
    examine(director, TinyLesson((2, 4), {"accuracy": 0.3}), None, gated=True)


def test_a_judge_that_was_not_taught_here_is_examined_and_only_told_of(make: Make) -> None:
    director = make()
    examine(director, TinyLesson((2, 4), {"accuracy": 0.9}), None, gated=False)
    said = [event["text"] for event in metrics.Follower(director.folder.events).new() if event["kind"] == "announce"]
    assert "accuracy is 0.300" in said[-1]
    assert "the run goes on" in said[-1]
    assert director.folder.judge.is_file()
    # a lesson without an exam says nothing
    director = make()
    examine(director, TinyLesson((), {"accuracy": 0.9}), None, gated=True)
    assert not director.folder.judge.exists()
