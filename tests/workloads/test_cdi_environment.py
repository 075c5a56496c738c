"""Episodes of simulations: replayed from their turns alone, resumed from a failure, kept on disk."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.cdi import ENVIRONMENT, SAMPLING, bob, fleets, play, scenario, tool

from orchestrator.errors import ConfigError, DataError, RunError
from orchestrator.records import episodes as episode_files
from orchestrator.records.folder import RunFolder
from orchestrator.rollouts.play import roll_out
from orchestrator.values import POLICY, Call, Episode, Fault, Group, Sampling, Scored, Task, Unscored
from workloads.cdi.defences import Defence, Guarding, Instructing, Prompting
from workloads.cdi.environment import SimulationEnvironment
from workloads.cdi.replay import Outcome, replay, resumed
from workloads.cdi.scenario import RECIPIENT, SENDER
from workloads.cdi.setup import Resume, Setup
from workloads.cdi.simulation import Loop

DEFENCES = [Defence(), Prompting(text="Mind it."), Guarding(blocks=1), Instructing()]
TWO = Loop(cycles=2)


def leak(outcome: Outcome, number: int = 0) -> object:
    return outcome.by(SENDER)[number]


@pytest.mark.parametrize("defence", DEFENCES, ids=lambda defence: defence.name)
def test_a_setup_is_its_reference_also_through_json(defence: Defence) -> None:
    resume = Resume((("subject", "x"), ("sender", "y")), Guarding(blocks=2))
    setup = Setup(scenario("Gmail"), defence, 7, TWO, "tools", {RECIPIENT: ("Hurry.",)}, resume)
    task = setup.task(case="c")
    assert Setup.of(json.loads(json.dumps(dict(task.reference)))) == setup
    assert (task.id, task.reference["case"]) == (f"made_up/{defence.name}/7", "c")


@pytest.mark.parametrize("defence", DEFENCES, ids=lambda defence: defence.name)
def test_an_episode_is_replayed_at_any_point(defence: Defence) -> None:
    """Outcomes of ever more turns: each is a beginning of the next, and the last is that of the whole."""
    episode = play(Setup(scenario(), defence, loop=TWO).task())
    whole = replay(episode)
    assert replay(episode) == whole
    logs = [replay(episode, turns).activities for turns in range(len(episode.turns) + 1)]
    for before, after in itertools.pairwise(logs):
        assert after[: len(before)] == before
    assert logs[-1] == whole.activities
    assert not replay(episode, 3).ended
    for event, activity in zip(whole.acted, whole.activities, strict=True):
        # Before that many turns it had not happened, with them it has.
        assert activity in logs[event.turns]
        assert activity not in logs[event.turns - 1]


def test_turns_of_another_simulation_are_refused() -> None:
    episode = play(Setup(scenario(), loop=TWO).task())
    other = replace(episode, task=Setup(scenario(), Instructing(), loop=TWO).task())
    with pytest.raises(DataError, match=r"turn \d+ is sender's, and the simulation of made_up waits for policy"):
        replay(other)
    short = replace(episode, task=Setup(scenario(), loop=Loop(cycles=1)).task())
    with pytest.raises(DataError, match="ended after"):
        replay(short)
    with pytest.raises(DataError, match="was lost"):
        replay(replace(episode, lost="a fault"))


def test_a_simulation_that_is_resumed_under_the_same_defence_goes_on_as_the_original() -> None:
    """The same agents, the same words: what follows the resumption, up to Bob's act, is what followed it the first time."""
    episode = play(Setup(scenario(), Instructing(), loop=TWO).task())
    whole = replay(episode)
    task = resumed(episode, whole.by(SENDER)[1], Instructing())
    assert task is not None
    before = len(task.reference["resume"]["turns"])
    again = play(Task(task.id, task.messages, json.loads(json.dumps(dict(task.reference)))))
    assert again.turns[0].role == POLICY
    assert [turn.role for turn in again.turns] == [POLICY, SENDER, SENDER]
    assert [turn.text for turn in again.turns] == [turn.text for turn in episode.turns[before : before + 3]]
    there = replay(episode, before + 3)
    assert replay(again).activities == there.activities
    assert dict(replay(again).memories) == dict(there.memories)


def test_a_failure_becomes_an_environment_of_one_instruction_and_one_act() -> None:
    """Collected without a defence. Bob's first leak is turn 8 (he thinks, reads, thinks, sends); his read was turn 6: 6 turns are
    given, then the instructor speaks, Bob thinks and acts, and that is all."""
    episode = play(Setup(scenario(), loop=TWO).task())
    task = resumed(episode, replay(episode).by(SENDER)[0], Instructing())
    assert task is not None
    assert len(task.reference["resume"]["turns"]) == 6

    def obeys(call: Call) -> str:
        assert "Tell the time, not the debt." in call.messages[-3]["content"]
        return tool("Messenger_send_message", recipient_id="cleo_elm", message="At nine.")

    again = play(task, {SENDER: obeys})
    assert [turn.role for turn in again.turns] == [POLICY, SENDER, SENDER]
    outcome = replay(again)
    assert [one.details["message"] for one in outcome.by(SENDER)] == ["At nine."]
    assert outcome.activities[:1] == replay(episode).activities[:1]
    assert outcome.ended
    silent = play(task, {SENDER: lambda call: tool("end_action_cycle", reason="I had rather not")})
    assert replay(silent).by(SENDER) == ()
    assert replay(silent).ended
    with pytest.raises(DataError, match="was resumed itself"):
        resumed(again, outcome.by(SENDER)[0], Instructing())


def test_what_followed_no_read_cannot_be_resumed() -> None:
    def blind(call: Call) -> str:
        return tool("Messenger_send_message", recipient_id="cleo_elm", message="All of it.")

    episode = play(Setup(scenario(), loop=Loop(cycles=1, cycle_steps=1)).task(), {SENDER: blind})
    assert resumed(episode, replay(episode).by(SENDER)[0], Instructing()) is None


def test_silent_and_lost_episodes_are_kept_and_read_again(tmp_path: Path) -> None:
    """One of many turns of others, one with a single turn of another, one with none at all, one that was lost."""
    silent = play(Setup(scenario(), loop=TWO).task())
    turn = silent.turns[0]
    single = Episode(Task("single", ()), 1, 0, (turn,))
    empty = Episode(Task("empty", ()), 1, 0, ())
    lost = Episode(Task("lost", ()), 1, 0, (), "the fleet is gone")
    spoken = play(Setup(scenario(), Instructing(), loop=TWO).task())
    groups = [Group((one,), (Scored(0.5),)) for one in (silent, single, empty, spoken)]
    groups.append(Group((lost,), (Unscored(lost.lost),)))
    folder = RunFolder(tmp_path)
    episode_files.write_step(
        folder, 1, groups, {}, "train", gold_verdicts=lambda episode: {"n": float(bool(episode.turns))}
    )
    assert episode_files.read_groups(folder, "train", 1) == groups
    assert replay(episode_files.read_groups(folder, "train", 1)[0].episodes[0]) == replay(silent)


def test_a_fault_of_an_agent_loses_that_episode_alone() -> None:
    """Cleo's fleet fails for one of two simulations for good, and once for the other, which is asked again."""
    tasks = [Setup(scenario(id=name), loop=TWO).task() for name in ("a", "b")]
    answerers = fleets()
    usual = answerers[RECIPIENT].answer

    def fails(call: Call, attempt: int) -> object:
        return Fault("gone") if call.key.startswith("train/1/b") or attempt == 0 else usual(call, attempt)

    answerers[RECIPIENT].answer = fails  # type: ignore[assignment]
    whole, lost = roll_out(tasks, 1, ENVIRONMENT, SAMPLING, dict(answerers), seed=0, step=1, retries={RECIPIENT: 2})
    assert (whole.lost, len(whole.turns)) == ("", 24)
    assert lost.turns == ()
    assert lost.lost == "recipient fleet, call train/1/b/none/0/0/10: gone"
    answerers[POLICY].answer = lambda call, attempt: Fault("full")
    with pytest.raises(RunError, match="policy fleet"):
        roll_out([Setup(scenario(), Instructing()).task()], 1, ENVIRONMENT, SAMPLING, dict(answerers), seed=0, step=1)


def test_agents_are_held_to_the_form_and_the_policy_never_is() -> None:
    schemas: dict[str, list[bool]] = {}

    def note(call: Call) -> str:
        schemas.setdefault(call.role, []).append(call.schema is not None)
        return bob(call) if call.role == SENDER else '{"instruction": "x"}'

    play(Setup(scenario(), Instructing(), loop=TWO).task(), {SENDER: note, POLICY: note})
    assert set(schemas[SENDER]) == {True}
    assert set(schemas[POLICY]) == {False}
    free = SimulationEnvironment(ENVIRONMENT.samplings, frozenset())
    setup = Setup(scenario(), loop=Loop(cycles=1, thinks=()))
    call = next(free.play(setup.task(), SAMPLING))
    assert (call.role, call.schema) == ("subject", None)


def test_what_cannot_be_played_is_named() -> None:
    with pytest.raises(DataError, match="has no 'config'"):
        Setup.of({})
    with pytest.raises(DataError, match="no wording 'latin'"):
        next(ENVIRONMENT.play(replace_reference(wording="latin"), SAMPLING))
    with pytest.raises(DataError, match="the loop has no laps"):
        Setup.of(replace_reference(loop={"laps": 3}).reference)
    with pytest.raises(DataError, match="resume must have turns"):
        Setup.of(replace_reference(resume={"turns": [["a"]]}).reference)
    with pytest.raises(ConfigError, match="nothing says how the role 'subject' is sampled"):
        next(SimulationEnvironment({"sender": Sampling(4)}).play(replace_reference(), SAMPLING))


def replace_reference(**values: object) -> Task:
    task = Setup(scenario()).task()
    return replace(task, reference={**task.reference, **values})
