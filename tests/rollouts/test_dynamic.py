"""Dynamic sampling: which tasks replace groups that teach nothing."""

from __future__ import annotations

from orchestrator.config.schema import AlgorithmConfig
from orchestrator.rollouts.dynamic import differing, further_tasks
from orchestrator.values import Episode, Group, Scored, Task, Turn, Unscored, Verdict

TASKS = [Task(f"task-{number}", ()) for number in range(8)]


def group(task: str, *verdicts: Verdict, lengths: tuple[int, ...] = ()) -> Group:
    episodes = []
    for sample in range(len(verdicts)):
        completion = (1,) * (lengths[sample] if lengths else 1)
        turn = Turn("policy", (1,), completion, (-1.0,) * len(completion), "", "stop", 1.0, 0, 0)
        episodes.append(Episode(Task(task, ()), 1, sample, (turn,)))
    return Group(tuple(episodes), verdicts)


def names(groups: list[Group]) -> list[str]:
    return [group.episodes[0].task.id for group in groups]


def test_groups_that_differ_are_kept() -> None:
    """c has one scored episode, d two equal ones beside a fault; e differs by its lengths alone, where they cost something."""
    groups = [
        group("a", Scored(0), Scored(1)),
        group("b", Scored(0.5), Scored(0.5)),
        group("c", Scored(0), Unscored("fault")),
        group("d", Scored(0), Unscored("fault"), Scored(0)),
        group("e", Scored(1), Scored(1), lengths=(8, 10)),
    ]
    plain = AlgorithmConfig(dynamic_sampling=True)
    assert names(differing(groups, plain, 10)) == ["a"]
    assert names(differing(groups, AlgorithmConfig(overlong_share=0.4), 10)) == ["a", "e"]
    # a's standard deviation is 0.707.
    assert names(differing(groups, AlgorithmConfig(min_reward_spread=0.71), 10)) == []


def test_further_tasks_are_new_and_repeatable() -> None:
    first = further_tasks(TASKS, {"task-1", "task-6"}, 3, seed=0, step=4)
    assert len(first) == 3
    assert not {"task-1", "task-6"} & {task.id for task in first}
    assert further_tasks(TASKS, {"task-6", "task-1"}, 3, seed=0, step=4) == first
    assert any(further_tasks(TASKS, set(), 3, seed=0, step=step) != first for step in range(5, 8))


def test_what_is_left_of_the_tasks_bounds_a_refill() -> None:
    played = {task.id for task in TASKS[:7]}
    assert further_tasks(TASKS, played, 5, seed=0, step=1) == TASKS[7:]
    assert further_tasks(TASKS, played | {"task-7"}, 5, seed=0, step=1) == []
