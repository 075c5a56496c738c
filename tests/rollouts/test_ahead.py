"""Rollouts that run ahead: what begins when, and what happens to errors and at the end. Steps are played by functions."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError

import pytest

from orchestrator.rollouts.ahead import Ahead

DEADLINE_S = 10


class Player:
    """Notes each step that begins. A step that is in `held` waits until it is set; one in `broken` fails."""

    def __init__(self, held: tuple[int, ...] = (), broken: tuple[int, ...] = ()) -> None:
        self.begun: list[int] = []
        self.started = {step: threading.Event() for step in range(1, 10)}
        self.held = {step: threading.Event() for step in held}
        self.broken = broken

    def __call__(self, step: int) -> str:
        self.begun.append(step)
        self.started[step].set()
        if step in self.held:
            assert self.held[step].wait(DEADLINE_S)
        if step in self.broken:
            raise OSError(f"no server for step {step}")
        return f"played {step}"


@pytest.fixture
def threads() -> Iterator[None]:
    """No thread of a test outlives it."""
    yield
    for thread in threading.enumerate():
        if thread.name.startswith("rollouts"):
            thread.join(DEADLINE_S)
            assert not thread.is_alive()


pytestmark = pytest.mark.usefixtures("threads")


def test_steps_are_played_in_order_and_once() -> None:
    player = Player()
    ahead = Ahead(player, 2, 5)
    ahead.allow(0)
    for step in range(1, 6):
        assert ahead.take(step) == f"played {step}"
        ahead.allow(step)
    ahead.close()
    assert player.begun == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("staleness", [1, 2, 3])
def test_never_further_ahead_than_allowed(staleness: int) -> None:
    """With weights of version v the steps up to v + 1 + staleness may begin; of 6 steps none after the sixth."""
    player = Player()
    ahead = Ahead(player, staleness, 6)
    for version in range(6):
        ahead.allow(version)
        last = min(version + 1 + staleness, 6)
        assert player.started[last].wait(DEADLINE_S)
        ahead.take(version + 1)
        # All that may begin has: the thread has nothing more to do, however long one waits.
        assert not player.started[last + 1].wait(0.02)
        assert player.begun == list(range(1, last + 1))
    ahead.close()


def test_the_next_step_is_played_while_this_one_is_learned() -> None:
    """Step 2 has begun, with weights of version 0, and waits; step 1 can be taken and learned meanwhile."""
    player = Player(held=(2,))
    ahead = Ahead(player, 1, 3)
    ahead.allow(0)
    assert ahead.take(1) == "played 1"
    assert player.started[2].wait(DEADLINE_S)
    assert not player.started[3].is_set()
    ahead.allow(1)
    player.held[2].set()
    assert ahead.take(2) == "played 2"
    assert ahead.take(3) == "played 3"
    ahead.close()


def test_an_error_arrives_where_its_step_is_taken() -> None:
    ahead = Ahead(Player(broken=(2,)), 1, 3)
    ahead.allow(0)
    assert ahead.take(1) == "played 1"
    ahead.allow(1)
    with pytest.raises(OSError, match="no server for step 2"):
        ahead.take(2)
    ahead.close()


def test_nothing_more_begins_after_the_end() -> None:
    """Steps 1 to 3 are allowed, 1 is being played when the run ends."""
    player = Player(held=(1,))
    ahead = Ahead(player, 2, 5)
    ahead.allow(0)
    assert player.started[1].wait(DEADLINE_S)
    ahead.close()
    player.held[1].set()
    assert ahead.take(1) == "played 1"
    with pytest.raises(CancelledError):
        ahead.take(2)
    assert player.begun == [1]


def test_a_resumed_run_goes_on_with_the_step_after_its_weights() -> None:
    """Weights of version 4, of 6 steps: 5 and 6 are played, none before and none twice."""
    player = Player()
    ahead = Ahead(player, 1, 6)
    ahead.allow(4)
    assert [ahead.take(step) for step in (5, 6)] == ["played 5", "played 6"]
    ahead.allow(5)
    ahead.allow(6)
    ahead.close()
    assert player.begun == [5, 6]


def test_a_run_that_is_over_plays_nothing() -> None:
    player = Player()
    ahead = Ahead(player, 3, 6)
    ahead.allow(6)
    ahead.close()
    assert player.begun == []
