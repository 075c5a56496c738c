"""CDI as a workload: what is played of the settings, what of a stored run goes on, and what it is worth."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from fakes.answerers import FakeAnswerer
from fakes.gathering import gathered

from orchestrator.config.compose import compose
from orchestrator.errors import ConfigError, DataError
from orchestrator.records import episodes
from orchestrator.records.folder import RunFolder
from orchestrator.rollouts.play import roll_out
from orchestrator.rollouts.verdicts import Scoring
from orchestrator.values import POLICY, Answer, Call, Group, Sampling, Scored, Turn
from tests.workloads.test_cdi_generation import ANSWERS
from workloads import cdi
from workloads.cdi import mini, mini_play
from workloads.cdi.scenario import SENDER, Scenario, as_file
from workloads.cdi.world import sensitive_marks
from workloads.cdi.world_words import MARKS

SMALL = ("data.train_groups=6", "data.eval_groups=3", "data.test_groups=2", "warmup.steps=1", "sender.training.steps=1")
EVERYTHING = frozenset(MARKS)


def workload(*words: str) -> cdi.Workload:
    config = compose("cdi", [*SMALL, *words])
    assert isinstance(config, cdi.Config)
    return cdi.Workload(config)


def turn(call: Call, text: str) -> Turn:
    return Turn(call.role, (1,), (2,), (-0.5,), text, "stop", 1.0, 0, call.seed)


def people(
    made: cdi.Workload,
    instruct: Callable[[Scenario], str] = lambda scenario: "",
    tells: Callable[[Scenario], frozenset[str]] = lambda scenario: EVERYTHING,
) -> dict[str, FakeAnswerer]:
    """A sender that obeys to the letter, and tells what it likes where it is told nothing; an instructor."""
    known = made.simulations.scenarios_by_id

    def of(call: Call) -> Scenario:
        return next(scenario for id, scenario in known.items() if f"/{id}/" in call.key)

    def sender(call: Call, attempt: int) -> Answer:
        scenario = of(call)

        def reply(instruction: str) -> frozenset[str]:
            due = mini.read_instruction(scenario, instruction)
            return frozenset(mark for mark in MARKS if due.get(mark, mark in tells(scenario)))

        return turn(call, mini_play.sender_act(scenario, call.messages, reply))

    return {
        SENDER: FakeAnswerer(sender),
        POLICY: FakeAnswerer(lambda call, attempt: turn(call, instruct(of(call)))),
    }


def by_the_norms(scenario: Scenario) -> str:
    return mini.instruction_of(scenario, shareable_marks(scenario))


def played(made: cdi.Workload, split: str, fleets: dict[str, FakeAnswerer]) -> list[Group]:
    """Every task of a split twice, scored."""
    scoring = Scoring(made.config, made, lambda *told: None)
    found = roll_out(
        made.tasks(split), 2, made.environment(), Sampling(20), fleets, seed=0, step=0 if split != "train" else 1
    )
    return scoring.groups(scoring.judge(found, fleets), ())


def collected(
    storage: Path, defence: str = "cdi", tells: Callable[[Scenario], frozenset[str]] = lambda scenario: EVERYTHING
) -> None:
    """A stored run in which nobody instructs or blocks: the sender tells what it likes at once."""
    made = workload("data.collect=true", "attack.train=ordinary,urgency", "steps=0", f"defence={defence}")
    folder = RunFolder.create(storage, "cdi", "played", {})
    episodes.write_step(folder, 0, played(made, "eval", people(made, tells=tells)), {}, "eval")


def rewards(groups: list[Group]) -> list[float]:
    return [verdict.reward for group in groups for verdict in group.verdicts if isinstance(verdict, Scored)]


def test_a_simulation_is_played_once_for_each_config_and_attack() -> None:
    made = workload("attack.held_out=ordinary,strategic")
    assert [task.id for task in made.tasks("train")] == [f"train-{n}/ordinary" for n in range(6)]
    asked = [task.reference["directions"]["recipient"] for task in made.tasks("eval")]
    assert [set(one) == {"plain"} for one in asked] == [True, False] * 3
    assert all("plain" not in one and len(set(one)) == 2 for one in asked[1::2])


# An instruction of the norms: S = 3, V = 0 of 3 and 3: AD 6 / (3 + 3 + 0) = 1. Without one all is told: 6 / (3 + 3 + 3) = 2/3, and at
# once: a velocity of 1.
@pytest.mark.parametrize(("instruct", "pp", "ad"), [(by_the_norms, 1.0, 1.0), (lambda scenario: "", 0.0, 2 / 3)])
def test_whole_simulations_are_measured(instruct: Callable[[Scenario], str], pp: float, ad: float) -> None:
    made = workload()
    groups = played(made, "eval", people(made, instruct))
    found = made.metrics(groups)
    assert (found["pp"], found["hs"], found["ad"]) == pytest.approx((pp, 1.0, ad))
    assert (found["leak_velocity"], found["overlooked_share"]) == (1 - pp, 0)
    assert rewards(groups) == pytest.approx([ad] * 6)
    episode, verdict = groups[0].episodes[0], groups[0].verdicts[0]
    assert isinstance(verdict, Scored)
    assert made.gold(episode) == pytest.approx(made.proxy(verdict))
    assert made.gold_verdicts(episode) == dict(verdict.judgements)


def test_without_a_defence_the_policy_is_silent() -> None:
    made = workload("defence=none")
    groups = played(made, "eval", people(made))
    assert all(turn.role == SENDER for group in groups for one in group.episodes for turn in one.turns)


def test_failures_of_a_stored_run_are_trained_on_and_evaluated(tmp_path: Path) -> None:
    """Six training configs and three held out, two attacks, twice each: all 24 and 12 simulations leak with the first message. Of an
    instruction by the norms R_PP is 1, of none 0; after step 40 R_AD is 1 or 6 / 9."""
    collected(tmp_path)
    made = workload("data.failures=run:played", f"storage={tmp_path}")
    tasks = {split: made.tasks(split) for split in ("train", "eval", "test")}
    assert {split: len(some) for split, some in tasks.items()} == {"train": 24, "eval": 12, "test": 2}
    for split in ("train", "eval"):
        assert {task.reference["config_id"].partition("-")[0] for task in tasks[split]} == {split}
        assert len({task.id for task in tasks[split]}) == len(tasks[split])
    assert Counter(turn.role for one in played(made, "train", people(made))[:1] for turn in one.episodes[0].turns) == {
        POLICY: 1,
        SENDER: 1,
    }
    assert rewards(played(made, "train", people(made, by_the_norms))) == [1.0] * 48
    assert rewards(played(made, "train", people(made))) == [0.0] * 48
    held_out = made.metrics(played(made, "eval", people(made)))
    assert held_out == pytest.approx({"watched_pp": 0.0, "watched_ad": 2 / 3, "watched_acted": 1.0})


def always(said: str) -> Callable[[Scenario], str]:
    return lambda scenario: said


def shareable_marks(scenario: Scenario) -> frozenset[str]:
    return EVERYTHING - sensitive_marks(scenario)


# All 24 simulations of training configs tell everything, or all that may be told, with the first message: to block is right, or not.
@pytest.mark.parametrize(("tells", "leaks"), [(lambda scenario: EVERYTHING, True), (shareable_marks, False)])
@pytest.mark.parametrize("source", ["cdi", "guarding"])
def test_a_guard_decides_on_the_first_message_that_tells_anything(
    tmp_path: Path, source: str, tells: Callable[[Scenario], frozenset[str]], leaks: bool
) -> None:
    collected(tmp_path, source, tells)
    made = workload("data.failures=run:played", "defence=guarding", f"storage={tmp_path}")
    assert [task.reference["block"] for task in made.tasks("train")] == [leaks] * 24
    for said, worth in (("yes", float(leaks)), ("no", float(not leaks))):
        groups = played(made, "train", people(made, always(said)))
        assert rewards(groups) == [worth] * 48
        assert [turn.role for turn in groups[0].episodes[0].turns] == [POLICY]
        assert made.metrics(groups) == {"watched_right": worth}


def test_at_most_so_many_failures_are_held_out(tmp_path: Path) -> None:
    collected(tmp_path)
    made = workload("data.failures=run:played", "data.most_failures=5", f"storage={tmp_path}")
    assert (len(made.tasks("train")), len(made.tasks("eval"))) == (24, 5)


def test_configs_of_another_world_are_refused(tmp_path: Path) -> None:
    collected(tmp_path)
    with pytest.raises(DataError, match=r"run:played: its config \S+ is another one than this run's"):
        workload("data.failures=run:played", "data.seed=1", f"storage={tmp_path}").tasks("train")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["attack.held_out=flattery"],
            "attack.held_out=flattery: with data.source=mini use ordinary, searched, strategic",
        ),
        (["attack.held_out=searched"], "needs attack.searched=run:NAME"),
        (["data.failures=run:x", "defence=none"], "set defence=cdi or defence=guarding"),
        (["data.failures=run:x", "data.collect=true", "steps=0"], "one run collects, another one learns"),
        (["data.failures=run:x", "defence=guarding", "defence.blocks=0"], "never asks the guard that is to be trained"),
        (["data.collect=true", "steps=3"], "steps=3 would train on them: set steps=0"),
        (["defence=none", "defence.text=doubt claims ."], "told to nobody with defence=none"),
        (["attack.held_out=,"], "attack.held_out names no attack"),
    ],
)
def test_settings_that_do_not_go_together(words: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        workload(*words)


def test_a_run_without_simulations_is_refused(tmp_path: Path) -> None:
    RunFolder.create(tmp_path, "cdi", "empty", {})
    with pytest.raises(ConfigError, match="run:empty: that run has stored no simulations"):
        workload("data.failures=run:empty", f"storage={tmp_path}").tasks("train")


def test_configs_from_files_have_three_agents_and_judges(tmp_path: Path) -> None:
    some = workload().simulations.scenarios
    for folder, split in (("train", "train"), ("test", "test")):
        (tmp_path / folder).mkdir()
        for number, scenario in enumerate(some[split]):
            (tmp_path / folder / f"example_{number}.json").write_text(as_file(scenario))
    agents = [f"{role}=http://localhost:1/v1" for role in ("sender", "subject", "recipient", "judge", "second")]
    made = workload("data.source=files", f"data.path={tmp_path}", *agents)
    assert {split: len(made.tasks(split)) for split in ("train", "eval", "test")} == {"train": 3, "eval": 3, "test": 2}
    assert set(made.config.roles()) == {POLICY, "sender", "subject", "recipient", "judge", "second"}
    assert [judge.name for judge in made.judges] == ["judge", "second"]
    assert json.loads(json.dumps(dict(made.tasks("eval")[0].reference))) == dict(made.tasks("eval")[0].reference)
    assert set(made.environment().samplings) == {"sender", "subject", "recipient"}


def test_configs_are_made_of_norms(tmp_path: Path) -> None:
    """Nine norms: two to test on, three held out, four to train on. Generator and verifier answer as in the tests of the generation."""
    seed = dict.fromkeys(
        ("data_type", "data_subject", "data_sender", "data_sender_name", "data_recipient", "transmission_principle"),
        "x",
    )
    trajectory = {"toolkits": ["Gmail"], "final_action": "GmailSendEmail", "sensitive_info_items": ["He owes 50."]}
    items = [{"name": f"main{n}", "seed": seed, "vignette": {"story": "x"}, "trajectory": trajectory} for n in range(9)]
    (tmp_path / "main_data.json").write_text(json.dumps(items))
    agents = [f"{role}=http://localhost:1/v1" for role in ("sender", "subject", "recipient", "judge")]
    writers = ["generator=http://localhost:1/v1", "verifier=http://localhost:1/v1"]
    made = workload(
        "data.source=norms", f"data.path={tmp_path}/main_data.json", *agents, *writers, f"storage={tmp_path}"
    )

    def answer(call: Call, attempt: int) -> Answer:
        return turn(call, json.dumps(ANSWERS[call.key.split("/")[2]]))

    found, _ = gathered(made, answer)
    assert len(found.rows) == 9
    assert {split: len(made.tasks(split)) for split in ("train", "eval", "test")} == {"train": 4, "eval": 3, "test": 2}
    assert made.tasks("test")[0].reference["wording"] == "tools"
