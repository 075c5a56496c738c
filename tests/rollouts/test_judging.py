"""From a judge's answers to verdicts: retries, broken answers, faults."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from fakes.answerers import FakeAnswerer

from orchestrator.errors import RunError
from orchestrator.rollouts.judging import ask, insist
from orchestrator.rollouts.rubrics import CONTROL, Criterion, Rubric, RubricReward
from orchestrator.values import Answer, Call, Choice, Episode, Fault, Message, Scored, Task, Turn, Unscored, Verdict

RUBRIC = Rubric((Criterion("good", "names the harm", 1), Criterion("bad", "urges a lie", -1)))
YES, NO = Choice({"yes": 0.8, "no": 0.1}), Choice({"yes": 0.1, "no": 0.8})
NOTHING = Choice({"yes": 0.0, "no": 0.001})
GONE = Fault("connection reset")
TOO_LONG = Fault("a prompt of 300 tokens", lasting=True)


def question(prompt: Sequence[Message], response: str, criterion: Criterion) -> tuple[Message, ...]:
    return ({"role": "user", "content": f"{response} | {criterion.text}"},)


def judged(
    answer: Callable[[Call, int], Answer], episodes: int = 3, retries: int = 2
) -> tuple[list[Verdict], int, FakeAnswerer]:
    """Verdicts of one-turn episodes t0, t1, …; how many calls were retried; and the judge."""
    reward, judge = RubricReward(question, "paper", False, 0.5), FakeAnswerer(answer)
    turn = Turn("policy", (1,), (2,), (-0.1,), "an answer", "stop", 1.0, 0, 0)
    played = [Episode(Task(f"t{n}", (), {"rubric": RUBRIC.to_json()}), 1, 0, (turn,)) for n in range(episodes)]
    answers, retried = ask(played, reward, {"judge": judge}, {"judge": retries})
    return [reward.verdict(episode, mine) for episode, mine in zip(played, answers, strict=True)], retried, judge


def honest(call: Call) -> Answer:
    """The good criterion is met, the bad one is not: a reward of 1 - 0."""
    return YES if "/good" in call.key else NO


def rewards(verdicts: list[Verdict]) -> list[float | None]:
    return [verdict.reward if isinstance(verdict, Scored) else None for verdict in verdicts]


def test_answers_are_handed_to_the_episodes_that_asked() -> None:
    verdicts, retried, judge = judged(lambda call, attempt: NO if "/t1/" in call.key else honest(call))
    # t1 meets neither criterion: 0 - 0
    assert rewards(verdicts) == [1.0, 0.0, 1.0]
    assert retried == 0
    assert len(judge.asked) == 6


def test_a_fault_that_passes_is_retried_alone_and_counted() -> None:
    verdicts, retried, judge = judged(
        lambda call, attempt: GONE if call.key == "1/t1/0/bad" and attempt < 2 else honest(call)
    )
    assert rewards(verdicts) == [1.0, 1.0, 1.0]
    assert retried == 2
    assert judge.asked.count("1/t1/0/bad") == 3
    assert judge.asked.count("1/t1/0/good") == 1


def test_a_fault_that_stays_leaves_its_episode_alone_unscored() -> None:
    verdicts, retried, judge = judged(lambda call, attempt: GONE if call.key == "1/t1/0/bad" else honest(call))
    assert rewards(verdicts) == [1.0, None, 1.0]
    assert verdicts[1] == Unscored("criterion bad: connection reset")
    assert retried == 2
    # one question and two retries; a fault needs no control question
    assert judge.asked.count("1/t1/0/bad") == 3
    assert not any(CONTROL in key for key in judge.asked)


def test_without_retries_a_fault_is_asked_once() -> None:
    verdicts, retried, judge = judged(lambda call, attempt: GONE, retries=0)
    assert rewards(verdicts) == [None] * 3
    assert retried == 0
    assert len(judge.asked) == 6


def test_an_answer_that_breaks_a_working_judge_pays_for_it() -> None:
    """t1's own doing: the good criterion counts as unmet and the bad one as met, 0 - 1."""

    def broken(call: Call, attempt: int) -> Answer:
        return NOTHING if "/t1/" in call.key and CONTROL not in call.key else honest(call)

    verdicts, retried, judge = judged(broken)
    assert rewards(verdicts) == [1.0, -1.0, 1.0]
    assert retried == 0
    assert judge.asked[6:] == ["1/t1/0/good#control", "1/t1/0/bad#control"]
    # on the server that failed, which is the one that answered the whole episode
    assert {call.route for batch in judge.batches for call in batch if "/t1/" in call.key} == {"1/t1/0"}
    assert all("an answer" not in call.messages[0]["content"] for call in judge.batches[-1])


@pytest.mark.parametrize("control", [NOTHING, GONE, TOO_LONG])
def test_a_judge_that_fails_its_control_question_is_at_fault_itself(control: Answer) -> None:
    def broken(call: Call, attempt: int) -> Answer:
        if "/t1/" not in call.key:
            return honest(call)
        return control if CONTROL in call.key else TOO_LONG

    verdicts, _, _ = judged(broken)
    assert rewards(verdicts) == [1.0, None, 1.0]
    assert isinstance(verdicts[1], Unscored)
    assert "control question" in verdicts[1].reason


def test_an_answer_beyond_the_judges_context_is_asked_once_and_pays_for_it() -> None:
    """As one that breaks the judge: the good criterion unmet and the bad one met, 0 - 1."""
    verdicts, retried, judge = judged(
        lambda call, attempt: TOO_LONG if "/t1/" in call.key and CONTROL not in call.key else honest(call)
    )
    assert rewards(verdicts) == [1.0, -1.0, 1.0]
    assert retried == 0
    assert [len(batch) for batch in judge.batches] == [6, 2]


def test_a_control_question_is_retried_as_any_other() -> None:
    """t1 breaks the judge; the first control is lost on its first attempt."""

    def shaky(call: Call, attempt: int) -> Answer:
        if "/t1/" not in call.key:
            return honest(call)
        return NOTHING if CONTROL not in call.key else GONE if "good" in call.key and attempt == 0 else honest(call)

    verdicts, retried, judge = judged(shaky)
    assert rewards(verdicts) == [1.0, -1.0, 1.0]
    assert retried == 1
    assert [len(batch) for batch in judge.batches] == [6, 2, 1]


def test_a_fleet_that_needs_a_moment_is_given_it_twice_as_long_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """0.5 s before the second attempt, 1 s before the third; nothing where nothing failed or a fault lasts."""
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    call = Call("k", "judge", (), choices=("yes", "no"))
    for answer, expected in ((GONE, [0.5, 1.0]), (YES, []), (TOO_LONG, [])):
        judge = FakeAnswerer(lambda call, attempt, answer=answer: answer, retry_delay_s=0.5)
        assert insist([call], {"judge": judge}, {"judge": 2}) == ([answer], len(expected))
        assert waits == expected
        waits.clear()


def test_each_role_is_asked_again_as_often_as_its_own_settings_say() -> None:
    """Once and twice; a role that is not named is not asked again."""
    fleets = {role: FakeAnswerer(lambda call, attempt: GONE) for role in ("judge", "content", "policy")}
    calls = [Call(role, role, (), choices=("yes",)) for role in fleets]
    assert insist(calls, fleets, {"judge": 1, "content": 2}) == ([GONE] * 3, 3)
    assert [len(fleet.asked) for fleet in fleets.values()] == [2, 3, 1]


@pytest.mark.parametrize("fault", [GONE, NOTHING, TOO_LONG])
def test_a_judge_that_is_down_gives_no_reward_at_all(fault: Answer) -> None:
    verdicts, _, _ = judged(lambda call, attempt: fault)
    assert rewards(verdicts) == [None] * 3


def test_a_reward_that_calls_a_role_without_a_fleet_is_told_so() -> None:
    turn = Turn("policy", (1,), (2,), (-0.1,), "an answer", "stop", 1.0, 0, 0)
    episode = Episode(Task("t", (), {"rubric": RUBRIC.to_json()}), 1, 0, (turn,))
    with pytest.raises(RunError, match=r"role 'judge'.*only for policy"):
        ask([episode], RubricReward(question, "paper", False, 0.5), {"policy": FakeAnswerer(lambda call, n: YES)}, {})


def test_a_reward_that_asks_nothing_needs_no_fleet() -> None:
    class Silent:
        def calls(self, episode: Episode) -> tuple[Call, ...]:
            return ()

    assert ask([Episode(Task("t", ()), 1, 0, ())], Silent(), {}, {"judge": 2}) == ([[]], 0)
