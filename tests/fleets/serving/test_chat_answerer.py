"""A judge's questions through a chat interface, from another thread."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from orchestrator.fleets.choices import ChoiceTokens
from orchestrator.fleets.serving.chat_answerer import ChatAnswerer
from orchestrator.fleets.serving.errors import Refused
from orchestrator.values import Answer, Call, Choice, Fault

VOCABULARY = {"yes": 3, " yes": 4, "Yes": 5, "no": 7, " NO": 8, "maybe": 9}


class Tokenizer:
    """One token a word of the vocabulary, else one a letter, from 100."""

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        assert not add_special_tokens
        return [VOCABULARY[text]] if text in VOCABULARY else [100 + ord(letter) for letter in text]


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop in a thread of its own, as a replica's."""
    running = asyncio.new_event_loop()
    thread = threading.Thread(target=running.run_forever, daemon=True)
    thread.start()
    yield running
    running.call_soon_threadsafe(running.stop)
    thread.join()
    running.close()


def completion(logprobs: dict[int, float]) -> dict[str, Any]:
    top = [{"token": f"token_id:{token}", "logprob": value, "bytes": None} for token, value in logprobs.items()]
    return {"choices": [{"logprobs": {"content": [{"token": "token_id:3", "top_logprobs": top}]}}]}


def call(key: str = "k") -> Call:
    return Call(key, "judge", ({"role": "user", "content": key},), choices=("yes", "no"))


def answers(
    loop: asyncio.AbstractEventLoop, ask: Callable[[dict[str, Any]], Awaitable[Any]], *calls: Call
) -> list[Answer]:
    return ChatAnswerer(ask, loop, "judge-1", Tokenizer(), False, 0.2).complete(calls)


REPLY = completion({token: math.log(p) for token, p in ((3, 0.3), (4, 0.1), (5, 0.05), (7, 0.2), (8, 0.25), (2, 0.1))})


def test_all_spellings_of_a_word_count(loop: asyncio.AbstractEventLoop) -> None:
    """yes, " yes", Yes: 0.3 + 0.1 + 0.05. no, " NO": 0.2 + 0.25. The token that was sampled (2) is neither."""
    bodies = []

    async def ask(body: dict[str, Any]) -> Any:
        bodies.append(body)
        return REPLY

    (answer,) = answers(loop, ask, call("Well?"))
    assert isinstance(answer, Choice)
    assert answer.probabilities == pytest.approx({"yes": 0.45, "no": 0.45})
    assert bodies == [
        {
            "model": "judge-1",
            "messages": [{"role": "user", "content": "Well?"}],
            "max_tokens": 1,
            "temperature": 1,
            "logprobs": True,
            "logprob_token_ids": [3, 4, 5, 7, 8],
            "return_tokens_as_token_ids": True,
            "chat_template_kwargs": {"enable_thinking": False},
        }
    ]


def test_all_calls_are_asked_at_once_and_answered_in_order(loop: asyncio.AbstractEventLoop) -> None:
    """Nobody is answered before all three have asked."""
    asked: list[str] = []

    async def ask(body: dict[str, Any]) -> Any:
        asked.append(body["messages"][0]["content"])
        while len(asked) < 3:
            await asyncio.sleep(0.001)
        yes = {"a": 0.1, "b": 0.2, "c": 0.3}[body["messages"][0]["content"]]
        return completion({token: math.log(yes / 3) for token in (3, 4, 5)} | {7: math.log(0.25), 8: math.log(0.25)})

    found = answers(loop, ask, call("a"), call("b"), call("c"))
    assert [answer.probabilities["yes"] for answer in found if isinstance(answer, Choice)] == pytest.approx(
        [0.1, 0.2, 0.3]
    )


def error(code: int) -> dict[str, Any]:
    return {"error": {"message": "maximum context length is 64 tokens", "type": "x", "param": None, "code": code}}


@pytest.mark.parametrize(
    ("reply", "lasting", "says"),
    [
        (error(400), True, "maximum context length"),
        (error(500), False, "maximum context length"),
        (Refused(413, "too large"), True, "too large"),
        (Refused(503, "no replica"), False, "no replica"),
        (RuntimeError("engine is dead"), False, "RuntimeError: engine is dead"),
        (completion({3: -1.0}), False, "KeyError"),
        ({"choices": [{"logprobs": None}]}, False, "TypeError"),
        (None, False, "did not answer within 0.2 s"),
    ],
)
def test_what_cannot_be_had_is_a_fault_of_its_call_alone(
    loop: asyncio.AbstractEventLoop, reply: Any, lasting: bool, says: str
) -> None:
    async def ask(body: dict[str, Any]) -> Any:
        if body["messages"][0]["content"] == "good":
            return REPLY
        if isinstance(reply, Exception):
            raise reply
        if reply is None:
            await asyncio.sleep(60)
        return reply

    good, bad, other = answers(loop, ask, call("good"), call("bad"), call("good"))
    assert isinstance(good, Choice)
    assert isinstance(other, Choice)
    assert isinstance(bad, Fault)
    assert bad.lasting is lasting
    assert says in bad.reason


def test_faults_are_counted_until_they_are_taken(loop: asyncio.AbstractEventLoop) -> None:
    async def ask(body: dict[str, Any]) -> Any:
        return error(500)

    answerer = ChatAnswerer(ask, loop, "judge-1", Tokenizer(), False, 0.2)
    answerer.complete([call("a"), call("b")])
    assert answerer.take_statistics() == {"served_faults": 2.0}
    assert answerer.take_statistics() == {"served_faults": 0.0}


def test_a_word_that_no_single_token_spells_cannot_be_asked_for() -> None:
    tokens = ChoiceTokens(Tokenizer(), "judge-1")
    assert tokens.ids_of("maybe") == (9,)
    with pytest.raises(ValueError, match=r"judge-1: no single token spells 'never'"):
        tokens.wanted(["yes", "never"])
