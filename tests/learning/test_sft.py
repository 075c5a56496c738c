"""Supervised fine-tuning: what is asked is what is trained, in a schedule that can be checked by hand."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
from one_rank import VOCABULARY
from transformers import AutoTokenizer

from orchestrator.config.schema import ModelConfig, SftConfig
from orchestrator.learning.sft import row_of
from orchestrator.learning.teaching import lesson_rate_at, order_of
from orchestrator.learning.tokenizer import END, build_tokenizer
from workloads.base import Branch, Example

WORDS = ("we", "could", "report", "tell", "the", "nurse", "user", "assistant", "system", ".")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    build_tokenizer(WORDS, (), 400, None, folder)
    return AutoTokenizer.from_pretrained(folder)


def asked(tokenizer: Any, branch: Branch) -> tuple[int, ...]:
    """The ids that a server renders the messages to."""
    messages = list(branch.messages)
    return tuple(tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"])


def judged(*criteria: str) -> Example:
    """A response with a criterion a branch, the criterion last."""
    response = {"role": "system", "content": "we could tell the nurse ."}
    branches = (Branch((response, {"role": "user", "content": criterion}), "yes") for criterion in criteria)
    return Example("dilemma-7", tuple(branches))


@pytest.mark.parametrize("end_token", [False, True])
def test_what_is_trained_is_what_is_asked(tokenizer: Any, end_token: bool) -> None:
    example = judged("tell the nurse", "tell the report", "report .")
    row = row_of(example, tokenizer, end_token, ModelConfig(context_tokens=100))
    answer = (*tokenizer.encode("yes", add_special_tokens=False), *([tokenizer.eos_token_id] if end_token else []))
    assert row.learned == (len(answer),) * 3
    for branch, ids in zip(example.branches, row.branches, strict=True):
        assert row.prefix + ids == asked(tokenizer, branch) + answer


def test_branches_share_the_longest_common_beginning(tokenizer: Any) -> None:
    """Up to the criterion; "tell the nurse" and "tell the report" share two words more."""
    example = judged("tell the nurse", "tell the report")
    row = row_of(example, tokenizer, False, ModelConfig(context_tokens=100))
    first, second = (asked(tokenizer, branch) for branch in example.branches)
    assert (
        row.prefix
        == first[: next(place for place, ids in enumerate(zip(first, second, strict=False)) if ids[0] != ids[1])]
    )
    assert tokenizer.decode(row.prefix).endswith("tell the")
    assert len({ids[0] for ids in row.branches}) == 2


def test_branches_with_one_prompt_share_all_of_it_and_no_target(tokenizer: Any) -> None:
    """Two answers to one question, the same and different: the shared beginning ends where the prompt does."""
    messages = ({"role": "user", "content": "report"},)
    for other in ("we could", "we tell"):
        example = Example("a", (Branch(messages, "we could"), Branch(messages, other)))
        row = row_of(example, tokenizer, True, ModelConfig(context_tokens=100))
        assert row.prefix == asked(tokenizer, example.branches[0])
        assert row.learned == (3, 3)
        assert all(ids[-1] == tokenizer.convert_tokens_to_ids(END) for ids in row.branches)


def test_a_prompt_that_begins_another_keeps_every_target_in_its_branch(tokenizer: Any) -> None:
    """The whole of the shorter prompt may be shared; its target never is."""
    example = judged("tell", "tell the nurse")
    row = row_of(example, tokenizer, False, ModelConfig(context_tokens=100))
    for branch, ids in zip(example.branches, row.branches, strict=True):
        assert (row.prefix + ids)[:-1] == asked(tokenizer, branch)


def test_an_example_that_is_too_long_names_its_group(tokenizer: Any) -> None:
    """The longest branch alone counts: n tokens fit into n and not into n - 1."""
    example = judged("tell", "tell the nurse .")
    longest = max(len(asked(tokenizer, branch)) for branch in example.branches) + 1
    row_of(example, tokenizer, False, ModelConfig(context_tokens=longest))
    with pytest.raises(ValueError, match=f"'dilemma-7' has {longest} tokens.*context_tokens={longest - 1}"):
        row_of(example, tokenizer, False, ModelConfig(context_tokens=longest - 1))


def test_the_learning_rate_by_hand() -> None:
    """100 steps to a peak of 1: warm-up 0.1, 0.2 … 1.0 in steps 0 to 9, the peak again at step 10, where the cosine starts.

    Half way, at step 55: 0.55 + 0.45 cos(pi / 2) = 0.55. The last, step 99, is 89/90 of the way:
    0.55 + 0.45 cos(89 pi / 90) = 0.55 - 0.45 * 0.99939083 = 0.10027413.
    """
    rates = [lesson_rate_at(step, 100, 1.0) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * step for step in range(1, 11)])
    assert rates[10] == pytest.approx(1.0)
    assert rates[55] == pytest.approx(0.55)
    assert rates[99] == pytest.approx(0.10027413, abs=1e-8)
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert lesson_rate_at(55, 100, 3e-3) == pytest.approx(0.55 * 3e-3)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_short_lessons_have_a_learning_rate_too(steps: int) -> None:
    """Fewer than ten steps warm up in one, at the peak."""
    rates = [lesson_rate_at(step, steps, 2.0) for step in range(steps)]
    assert rates[0] == 2.0
    assert all(0.2 <= rate <= 2.0 for rate in rates)


def test_every_pass_takes_each_example_once() -> None:
    """7 examples, 3 a step, 7 steps: 21 = 3 passes, each a permutation, not all the same."""
    training = SftConfig(steps=7, examples_per_step=3, seed=4)
    steps = list(order_of(7, training))
    assert [len(step) for step in steps] == [3] * 7
    stream = list(itertools.chain(*steps))
    passes = [stream[start : start + 7] for start in (0, 7, 14)]
    assert all(sorted(one) == list(range(7)) for one in passes)
    assert passes[0] != passes[1]


def test_the_order_follows_from_the_seed_alone() -> None:
    training = SftConfig(steps=5, examples_per_step=4, seed=1)
    assert list(order_of(9, training)) == list(order_of(9, training))
    assert list(order_of(9, training)) != list(order_of(9, SftConfig(steps=5, examples_per_step=4, seed=2)))


def test_a_step_may_take_more_examples_than_there_are() -> None:
    (step,) = order_of(2, SftConfig(steps=1, examples_per_step=5))
    assert sorted(step)[:2] == [0, 0]
    assert sorted(step)[-2:] == [1, 1]


@pytest.mark.stack
@pytest.mark.parametrize("case", ["teach_float32", "teach_bfloat16_1", "teach_bfloat16_2", "teach_bfloat16_3"])
def test_a_lesson_is_learned(learned: dict[str, Any], case: str) -> None:
    """Copying one of 5 tokens: from worse than guessing (ln 5 = 1.61) to a small loss, progress told after every step."""
    losses = learned[case]["losses"]
    assert [step for step, _ in losses] == list(range(1, 41))
    assert losses[0][1] > math.log(VOCABULARY - 3)
    assert losses[-1][1] < 0.2


@pytest.mark.stack
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_bfloat16_trains_on_float32_master_weights(learned: dict[str, Any], stage: int) -> None:
    """The masters hold what bfloat16 cannot, and the model's weights are the masters rounded."""
    result = learned[f"teach_bfloat16_{stage}"]
    assert result["weights"] == {"torch.bfloat16"}
    assert result["finer"]
    assert result["rounded"]
