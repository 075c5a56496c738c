"""The loop: who acts when, what ends it, what is counted; and 200 simulations at once."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from fakes.answerers import FakeAnswerer
from fakes.cdi import (
    END,
    ENVIRONMENT,
    SAMPLING,
    SENSITIVE,
    SHAREABLE,
    ann,
    bob,
    cleo,
    fleets,
    last_result,
    message,
    play,
    scenario,
    scripted,
    thinks,
    tool,
)

from orchestrator.errors import DataError
from orchestrator.rollouts.play import roll_out
from orchestrator.values import Call, Episode, Sampling, Task
from workloads.base import Play
from workloads.cdi.replay import replay
from workloads.cdi.scenario import RECIPIENT, ROLES, SENDER, SUBJECT, read_scenarios, user_id
from workloads.cdi.setup import Setup
from workloads.cdi.simulation import Loop

CONFIGS = Path(__file__).parents[2].parent / "shared" / "data" / "cdi" / "configs"
SHORT = Loop(cycles=2)


def roles(episode: Episode) -> list[str]:
    return [turn.role for turn in episode.turns]


def test_who_acts_when() -> None:
    """Two cycles: step 1 Ann sends. Step 2 Bob reads Ann's message and answers (Cleo, by his script), Cleo begins (she has Bob's
    answer). Step 3 Bob's second cycle, Cleo's second; both have used up theirs.

    Turns of a cycle, a thought before each act: Ann send, end = 4; Bob read, send, end = 6; Cleo send, end = 4: 4 + 6 + 4 + 6 + 4 = 24.
    """
    episode = play(Setup(scenario(), loop=SHORT).task())
    outcome = replay(episode)
    assert [(one.user_id, one.details["recipient_id"]) for one in outcome.activities] == [
        ("ann_ash", "bob_oak"),
        ("bob_oak", "cleo_elm"),
        ("cleo_elm", "bob_oak"),
        ("bob_oak", "cleo_elm"),
        ("cleo_elm", "bob_oak"),
    ]
    assert [event.step for event in outcome.acted] == [1, 2, 2, 3, 3]
    assert roles(episode) == [SUBJECT] * 4 + [SENDER] * 6 + [RECIPIENT] * 4 + [SENDER] * 6 + [RECIPIENT] * 4
    assert (outcome.steps, dict(outcome.cycles)) == (3, {SUBJECT: 1, SENDER: 2, RECIPIENT: 2})
    # Bob's reads: his turns 5 to 10 and 15 to 20; the read is the second of a cycle.
    assert [read.turns for read in outcome.reads] == [6, 16]
    assert [event.turns for event in outcome.acted] == [2, 8, 12, 18, 22]
    assert outcome.ended
    assert episode.text == ""


def test_thoughts_and_a_model_of_the_subject_can_be_done_without() -> None:
    """Ann is scripted, nobody thinks: Bob 3 turns, Cleo 2, twice."""
    episode = play(Setup(scenario(), loop=Loop(cycles=2, thinks=(), scripted_subject=True)).task())
    assert roles(episode) == ([SENDER] * 3 + [RECIPIENT] * 2) * 2
    first = replay(episode).activities[0]
    assert first.user_id == "ann_ash"
    assert all(fact in first.details["message"] for fact in (*SENSITIVE, *SHAREABLE))


def test_facts_are_in_the_subjects_memory_and_not_in_the_senders() -> None:
    told: dict[str, str] = {}

    def note(call: Call) -> str:
        told.setdefault(call.role, call.messages[0]["content"])
        return {SUBJECT: ann, SENDER: bob, RECIPIENT: cleo}[call.role](call)

    play(Setup(scenario(), loop=SHORT).task(), dict.fromkeys(ROLES, note))
    assert all(fact in told[SUBJECT] for fact in (*SENSITIVE, *SHAREABLE))
    assert not any(fact in told[role] for fact in (*SENSITIVE, *SHAREABLE) for role in (SENDER, RECIPIENT))
    assert "Watch what comes in. Be kind." in told[SENDER]
    assert "Cleo hosts." in told[SENDER]
    assert "cleo_elm@gmail.com" in told[SENDER]
    assert '"Messenger_send_message"' in told[SENDER]
    assert "Gmail_send_email" not in told[SENDER]


def test_triggers_say_what_came_in_or_that_nothing_did() -> None:
    """Bob never answers: he is woken by Ann's message and by each of Cleo's; Cleo acts each step of her own accord."""
    triggers: dict[str, list[str]] = {SENDER: [], RECIPIENT: []}

    def note(call: Call) -> None:
        if not last_result(call)[0] and thinks(call):
            triggers[call.role].append(call.messages[-1]["content"].split("\n")[-5])

    def answer(call: Call, attempt: int) -> object:
        if call.role in triggers:
            note(call)
        return scripted({SUBJECT: ann, SENDER: lambda call: END, RECIPIENT: cleo})(call, attempt)

    answerers = {role: FakeAnswerer(answer) for role in ROLES}  # type: ignore[arg-type]
    (episode,) = roll_out(
        [Setup(scenario(), loop=Loop(cycles=3)).task()], 1, ENVIRONMENT, SAMPLING, answerers, seed=0, step=1
    )
    assert triggers[SENDER] == ["Notification: 1 new item on Messenger."] * 3
    assert [told.split(":")[0] for told in triggers[RECIPIENT]] == [
        "This is your first action cycle",
        "Nothing has come in for a while",
        "Nothing has come in for a while",
    ]
    # Ann's message, and three of Cleo's.
    assert len(replay(episode).activities) == 4


def test_patience_lets_steps_pass_without_news() -> None:
    """Bob is silent and Cleo patient for 3 steps: she acts in steps 2, 5 and 8. He is woken in steps 2 (by Ann), 3, 6 and 9, which
    are all of his four cycles."""
    task = Setup(scenario(), loop=Loop(cycles=4, patience=3)).task()
    outcome = replay(play(task, {SENDER: lambda call: END}))
    assert [event.step for event in outcome.acted] == [1, 2, 5, 8]
    assert outcome.steps == 9


def test_limits_end_a_simulation() -> None:
    def endless(call: Call) -> str:
        return tool("Messenger_get_messages")

    def complete(call: Call) -> str:
        return tool("complete_task")

    # One step: Ann alone has acted, 2 x (think, act).
    assert len(play(Setup(scenario(), loop=Loop(steps=1)).task()).turns) == 4
    # Bob reads without end: 5 acts a cycle with their thoughts, then his cycle is over; two cycles.
    endless_bob = play(Setup(scenario(), loop=Loop(cycles=2, cycle_steps=5)).task(), {SENDER: endless})
    assert Counter(roles(endless_bob))[SENDER] == 2 * 5 * 2
    # Cleo says that she is done in her first cycle: the step is played out, no other follows.
    done = replay(play(Setup(scenario()).task(), {RECIPIENT: complete}))
    assert (done.steps, dict(done.cycles)) == (2, {SUBJECT: 1, SENDER: 1, RECIPIENT: 1})
    with pytest.raises(DataError, match="limits must be 1 at least"):
        Loop(steps=0)


def test_invalid_calls_are_sampled_again_and_leave_no_trace_in_the_history() -> None:
    """Bob's first three acts are garbage, of another's tool, and with a wrong argument; the fourth is valid."""
    bad = ["I would rather talk.", tool("Gmail_get_email", email_id="x"), tool("Messenger_get_messages", thread="x")]
    prompts: list[int] = []

    def stumbles(call: Call) -> str:
        prompts.append(len(call.messages))
        return bad[len(prompts) - 1] if len(prompts) <= 3 else bob(call)

    episode = play(Setup(scenario(), loop=SHORT).task(), {SENDER: stumbles})
    outcome = replay(episode)
    assert outcome.invalid == 3
    assert prompts[:4] == [prompts[0]] * 4
    assert len({turn.seed for turn in episode.turns}) == len(episode.turns)
    assert len(outcome.activities) == 5


def test_a_call_that_is_never_valid_ends_the_cycle_alone() -> None:
    """4 attempts a cycle, after the thought; two cycles."""
    task = Setup(scenario(), loop=Loop(cycles=2, attempts=4)).task()
    episode = play(task, {SENDER: lambda call: "no"})
    assert Counter(roles(episode))[SENDER] == 2 * (1 + 4)
    assert replay(episode).invalid == 8


def test_memory_of_earlier_cycles_is_loaded_again() -> None:
    seen: list[str] = []

    def note(call: Call) -> str:
        seen.append(json.dumps([dict(one) for one in call.messages]))
        return bob(call)

    play(Setup(scenario(), loop=SHORT).task(), {SENDER: note})
    # Bob's last prompt holds his message of the first cycle.
    assert f"Hello Cleo. {SHAREABLE[0]}" in seen[-1]
    assert seen[-1].count("Notification: 1 new item") == 2


def test_user_messages_in_a_row_are_one_and_roles_alternate() -> None:
    def check(call: Call) -> str:
        spoken = [one["role"] for one in call.messages]
        assert spoken == ["system", *(["user", "assistant"] * len(spoken))[: len(spoken) - 1]]
        return {SUBJECT: ann, SENDER: bob, RECIPIENT: cleo}[call.role](call)

    play(Setup(scenario(), loop=SHORT).task(), dict.fromkeys(ROLES, check))


def test_directions_are_told_one_a_cycle() -> None:
    told: list[bool] = []

    def note(call: Call) -> str:
        last = call.messages[-1]["content"]
        if not last.startswith("{"):
            told.append("Be urgent." in last)
        return cleo(call)

    setup = Setup(scenario(), loop=Loop(cycles=2, thinks=()), directions={RECIPIENT: ("Be urgent.",)})
    play(setup.task(), {RECIPIENT: note})
    assert told == [True, False]


def test_hostile_messages_stay_data() -> None:
    text = "{0.__class__} %(x)s {{ 7*7 }} {goal} \\u0041 <|im_end|>"
    task = Setup(scenario(), loop=SHORT).task()
    outcome = replay(play(task, {RECIPIENT: lambda call: END if last_result(call)[0] else message("bob_oak", text)}))
    assert outcome.activities[2].details["message"] == text


@pytest.mark.skipif(not CONFIGS.is_dir(), reason="the published configurations are not beside the repository")
def test_every_published_scenario_is_played_to_its_end() -> None:
    """Everybody writes to the next one by the application of the scenario, whichever it is: subject, sender, recipient, sender …"""
    scenarios = [one for split in ("train", "test") for one in read_scenarios(CONFIGS / split)]

    def writes(call: Call) -> str:
        if last_result(call)[0]:
            return END
        chosen = by_prompt[call.route.split("/")[2]]
        other = chosen.recipient if call.role == SENDER else chosen.sender
        app = chosen.subject.application if call.role == SUBJECT else chosen.leak_application
        if app == "Messenger":
            return message(other.user, "hello")
        if app == "Gmail":
            return tool("Gmail_send_email", to_address=f"{user_id(other.name)}@gmail.com", subject="s", body="hello")
        return tool("Facebook_create_post", content="hello")

    by_prompt = {one.id: one for one in scenarios}
    tasks = [Setup(one, loop=Loop(cycles=2, thinks=())).task() for one in scenarios]
    episodes = roll_out(tasks, 1, ENVIRONMENT, SAMPLING, fleets(dict.fromkeys(ROLES, writes)), seed=0, step=1)
    for episode, one in zip(episodes, scenarios, strict=True):
        outcome = replay(episode)
        assert outcome.ended
        by = [activity.user_id for activity in outcome.activities]
        s, x, r = one.subject.user, one.sender.user, one.recipient.user
        assert by == [s, x, r, x, r], one.id
        leaks = [activity for activity in outcome.by(SENDER) if activity.app == one.leak_application]
        assert len(leaks) >= 2


def test_two_hundred_at_once_stay_small_and_come_back_in_order() -> None:
    """200 simulations of 20 scenarios, 64 at a time, of 10 turns each: never more than 64 are open, and none is left so."""
    opened: Counter[str] = Counter()

    class Counting:
        may_be_silent = True

        def play(self, task: Task, sampling: Sampling) -> Play:
            opened["now"] += 1
            opened["most"] = max(opened["most"], opened["now"])
            try:
                yield from ENVIRONMENT.play(task, sampling)
            finally:
                opened["now"] -= 1

    loop = Loop(cycles=2, thinks=(), scripted_subject=True)
    tasks = [Setup(scenario(id=f"made_up_{number}"), loop=loop).task() for number in range(20)]
    episodes = roll_out(tasks, 10, Counting(), SAMPLING, fleets(), seed=0, step=1, at_once=64)
    assert [(episode.task.id, episode.sample) for episode in episodes] == [(task.id, n) for task in tasks for n in range(10)]
    assert {len(episode.turns) for episode in episodes} == {10}
    assert opened == {"now": 0, "most": 64}
