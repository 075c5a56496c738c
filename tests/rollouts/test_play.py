"""Episodes played in step: their order, seeds and batches."""

from __future__ import annotations

import pytest
from fakes.answerers import FakeAnswerer

from orchestrator.errors import RunError
from orchestrator.rollouts.play import RolloutCancelled, roll_out
from orchestrator.values import Answer, Call, Episode, Fault, Sampling, Task, Turn
from workloads.base import Play, SingleTurn

SAMPLING = Sampling(8, temperature=0.7)
TASKS = [Task("a/1", ({"role": "user", "content": "first"},)), Task("b/2", ({"role": "user", "content": "second"},))]


def echo(call: Call, attempt: int = 0) -> Answer:
    text = f"{call.role}: {call.messages[-1]['content']}"
    return Turn(call.role, (1,), (2,), (-0.1,), text, "stop", 0.7, 0, call.seed)


class Interview:
    """A host (the policy) and a guest take turns; the task names how many times the guest speaks."""

    def play(self, task: Task, sampling: Sampling) -> Play:
        turn = yield Call("", "policy", ({"role": "user", "content": task.id},), sampling)
        for _ in range(task.reference["rounds"]):
            turn = yield Call("", "guest", ({"role": "user", "content": turn.text},), sampling)
            turn = yield Call("", "policy", ({"role": "user", "content": turn.text},), sampling)


def seeds_of(episodes: list[Episode]) -> list[int]:
    return [turn.seed for episode in episodes for turn in episode.turns]


def test_episodes_come_by_task_then_sample_and_know_their_step() -> None:
    fleet = FakeAnswerer(echo)
    episodes = roll_out(TASKS, 3, SingleTurn(), SAMPLING, {"policy": fleet}, seed=0, step=5)
    assert [episode.id for episode in episodes] == ["5/a/1/0", "5/a/1/1", "5/a/1/2", "5/b/2/0", "5/b/2/1", "5/b/2/2"]
    assert [episode.text for episode in episodes] == ["policy: first"] * 3 + ["policy: second"] * 3
    assert len(fleet.batches) == 1
    assert fleet.asked[:2] == ["train/5/a/1/0/0", "train/5/a/1/1/0"]
    assert {call.sampling for call in fleet.batches[0]} == {SAMPLING}
    # the attempts at a task share its prompt, so they share a server
    assert [call.route for call in fleet.batches[0]] == ["train/5/a/1"] * 3 + ["train/5/b/2"] * 3


def test_a_seed_is_a_function_of_run_step_task_sample_and_turn_alone() -> None:
    def seeds(tasks: list[Task] = TASKS, *, seed: int = 0, step: int = 5, purpose: str = "train") -> list[int]:
        fleets = {"policy": FakeAnswerer(echo)}
        return seeds_of(roll_out(tasks, 3, SingleTurn(), SAMPLING, fleets, seed=seed, step=step, purpose=purpose))

    first = seeds()
    assert len(set(first)) == 6
    assert seeds() == first
    # the other tasks of the batch do not matter, nor does their order
    assert seeds(TASKS[::-1]) == first[3:] + first[:3]
    assert seeds(TASKS[1:]) == first[3:]
    for other in (seeds(seed=1), seeds(step=6), seeds(purpose="eval")):
        assert not set(other) & set(first)


def test_agents_of_unequal_stamina_are_played_in_lockstep() -> None:
    """Talks of 0, 1 and 2 rounds are 1, 3 and 5 turns long; one batch a role and round, of those who still talk."""
    tasks = [Task(name, (), {"rounds": rounds}) for name, rounds in (("x", 2), ("y", 0), ("z", 1))]
    policy, guest = FakeAnswerer(echo), FakeAnswerer(echo)
    episodes = roll_out(tasks, 2, Interview(), SAMPLING, {"policy": policy, "guest": guest}, seed=0, step=1)
    assert [len(batch) for batch in policy.batches] == [6, 4, 2]
    assert [len(batch) for batch in guest.batches] == [4, 2]
    assert [len(episode.turns) for episode in episodes] == [5, 5, 1, 1, 3, 3]
    assert [turn.role for turn in episodes[0].turns] == ["policy", "guest", "policy", "guest", "policy"]
    assert episodes[4].text == "policy: guest: policy: z"
    assert [turn.role for turn in episodes[4].trained] == ["policy", "policy"]
    assert guest.asked == [f"train/1/{key}" for key in ("x/0/1", "x/1/1", "z/0/1", "z/1/1", "x/0/3", "x/1/3")]
    assert len(set(seeds_of(episodes))) == 18


def test_two_roles_that_speak_in_one_round_are_told_apart() -> None:
    class ByTask:
        def play(self, task: Task, sampling: Sampling) -> Play:
            yield Call("", task.id, ({"role": "user", "content": "?"},), sampling)
            yield Call("", "policy", ({"role": "user", "content": "!"},), sampling)

    tasks = [Task("policy", ()), Task("guest", ()), Task("policy2", ())]
    fleets = {role: FakeAnswerer(echo) for role in ("policy", "guest", "policy2")}
    episodes = roll_out(tasks, 1, ByTask(), SAMPLING, fleets, seed=0, step=1)
    assert [episode.turns[0].text for episode in episodes] == ["policy: ?", "guest: ?", "policy2: ?"]


def test_a_task_that_comes_twice_in_a_step_is_sampled_anew() -> None:
    """As where an epoch ends in a step: samples go on counting, so ids, keys and seeds stay unique."""
    episodes = roll_out([*TASKS, TASKS[0]], 2, SingleTurn(), SAMPLING, {"policy": FakeAnswerer(echo)}, seed=0, step=1)
    ids = ["1/a/1/0", "1/a/1/1", "1/b/2/0", "1/b/2/1", "1/a/1/2", "1/a/1/3"]
    assert [episode.id for episode in episodes] == ids
    assert len(set(seeds_of(episodes))) == 6


def test_a_turn_that_cannot_be_had_ends_the_run_and_names_the_call() -> None:
    def second_fails(call: Call, attempt: int) -> Answer:
        return Fault("prompt of 300 tokens leaves no room") if call.key.startswith("train/5/b/2/1") else echo(call)

    with pytest.raises(RunError, match=r"policy fleet, call train/5/b/2/1/0: prompt of 300 tokens"):
        roll_out(TASKS, 2, SingleTurn(), SAMPLING, {"policy": FakeAnswerer(second_fails)}, seed=0, step=5)


def test_a_role_without_a_fleet_is_named_beside_those_that_have_one() -> None:
    tasks = [Task("x", (), {"rounds": 1})]
    with pytest.raises(RunError, match=r"role 'guest'.*only for judge, policy"):
        roll_out(
            tasks, 1, Interview(), SAMPLING, {"policy": FakeAnswerer(echo), "judge": FakeAnswerer(echo)}, seed=0, step=1
        )


def test_no_task_is_no_episode() -> None:
    assert roll_out([], 4, SingleTurn(), SAMPLING, {}, seed=0, step=1) == []


class Broken:
    """An environment whose task says how it is broken."""

    def play(self, task: Task, sampling: Sampling) -> Play:
        if task.id == "raises":
            raise KeyError("secret")
        if task.id == "silent":
            return
        yield "a question" if task.id == "no call" else Call("", "policy", ())  # type: ignore[misc]


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("raises", "Broken.play, task raises: KeyError: 'secret' ("),
        ("silent", "Broken.play, task silent: ended before the policy had spoken"),
        ("no call", "Broken.play, task no call: yielded 'a question'; let it yield a Call with a `sampling`"),
        ("no sampling", "let it yield a Call with a `sampling`"),
    ],
)
def test_what_is_wrong_in_an_environment_names_task_and_line(task: str, words: str) -> None:
    with pytest.raises(RunError) as caught:
        roll_out([Task(task, ())], 1, Broken(), SAMPLING, {"policy": FakeAnswerer(echo)}, seed=0, step=1)
    assert words in str(caught.value)
    assert ("test_play.py:" in str(caught.value)) == (task == "raises")


def test_a_play_that_is_no_generator_is_named() -> None:
    class Returns:
        def play(self, task: Task, sampling: Sampling) -> list[Call]:
            return [Call("", "policy", (), sampling)]

    with pytest.raises(RunError, match=r"Returns.play, task t: is a list, not a generator: let it yield a Call"):
        roll_out([Task("t", ())], 1, Returns(), SAMPLING, {"policy": FakeAnswerer(echo)}, seed=0, step=1)


def test_no_more_than_so_many_are_played_at_once() -> None:
    """Talks of 5, 1, 3 turns, two at a time. x and y speak first; z begins in round 2, where y has ended.

    The policy speaks in x's rounds 1, 3, 5, y's 1, z's 1, 3, 5 less one: batches x y | z | x | z | x.
    """
    tasks = [Task(name, (), {"rounds": rounds}) for name, rounds in (("x", 2), ("y", 0), ("z", 1))]
    fleets = {role: FakeAnswerer(echo) for role in ("policy", "guest")}
    episodes = roll_out(tasks, 1, Interview(), SAMPLING, fleets, seed=0, step=1, at_once=2)
    assert [key[8:] for key in fleets["policy"].asked] == ["x/0/0", "y/0/0", "z/0/0", "x/0/2", "z/0/2", "x/0/4"]
    assert [len(batch) for batch in fleets["policy"].batches] == [2, 1, 1, 1, 1]
    everything = roll_out(tasks, 1, Interview(), SAMPLING, fleets, seed=0, step=1)
    assert episodes == everything


def test_an_episode_that_lacks_another_roles_answer_is_lost_whole() -> None:
    """The guest fails in y's second round for good, and once in x's first, which is asked again."""

    def guest(call: Call, attempt: int) -> Answer:
        gone = call.key.endswith("y/0/3") or (call.key.endswith("x/0/1") and attempt == 0)
        return Fault("gone") if gone else echo(call)

    tasks = [Task(name, (), {"rounds": 2}) for name in ("x", "y")]
    fleets = {"policy": FakeAnswerer(echo), "guest": FakeAnswerer(guest)}
    whole, lost = roll_out(tasks, 1, Interview(), SAMPLING, fleets, seed=0, step=1, retries={"guest": 1})
    assert (len(whole.turns), whole.lost) == (5, "")
    assert (lost.turns, lost.lost) == ((), "guest fleet, call train/1/y/0/3: gone")


def test_the_policy_may_be_silent_where_the_environment_says_so() -> None:
    class Alone:
        may_be_silent = True

        def play(self, task: Task, sampling: Sampling) -> Play:
            yield Call("", "guest", (), sampling)

    class Nobody(Alone):
        def play(self, task: Task, sampling: Sampling) -> Play:
            yield from ()

    def guest(call: Call, attempt: int) -> Answer:
        return Turn(call.role, (1,), (2,), (-0.1,), "hello", "stop", 0.7, 0, call.seed)

    fleets = {"guest": FakeAnswerer(guest)}
    (alone,) = roll_out([Task("t", ())], 1, Alone(), SAMPLING, fleets, seed=0, step=1)
    (nobody,) = roll_out([Task("t", ())], 1, Nobody(), SAMPLING, fleets, seed=0, step=1)
    assert (alone.text, alone.trained, len(alone.turns), nobody.turns) == ("", (), 1, ())


def test_what_is_cancelled_ends_before_its_next_round_and_closes_every_play() -> None:
    closed: list[str] = []

    class Endless:
        def play(self, task: Task, sampling: Sampling) -> Play:
            try:
                while True:
                    yield Call("", "policy", ({"role": "user", "content": "?"},), sampling)
            finally:
                closed.append(task.id)

    fleet = FakeAnswerer(echo)
    with pytest.raises(RolloutCancelled, match="2 episodes were still being played"):
        roll_out(
            TASKS, 1, Endless(), SAMPLING, {"policy": fleet}, seed=0, step=1, cancelled=lambda: len(fleet.batches) == 3
        )
    assert closed == ["a/1", "b/2"]
    assert len(fleet.batches) == 3


def test_a_form_is_never_the_policys() -> None:
    class Forced:
        def play(self, task: Task, sampling: Sampling) -> Play:
            yield Call("", "policy", (), sampling, schema='root ::= "a"')

    with pytest.raises(RunError, match="gives the policy a `schema`"):
        roll_out(TASKS, 1, Forced(), SAMPLING, {"policy": FakeAnswerer(echo)}, seed=0, step=1)


def test_two_roles_of_one_fleet_are_one_batch() -> None:
    tasks = [Task("x", (), {"rounds": 1}), Task("y", (), {"rounds": 0})]
    one = FakeAnswerer(echo)
    roll_out(tasks, 1, Interview(), SAMPLING, {"policy": one, "guest": one}, seed=0, step=1)
    assert [len(batch) for batch in one.batches] == [2, 1, 1]
