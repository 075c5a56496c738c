"""Rows with branches, microbatches, and the independence of the loss from both."""

from __future__ import annotations

import dataclasses
import random
from functools import partial

import pytest
import torch
from torch import nn
from transformers import Qwen3Config, Qwen3ForCausalLM
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

from orchestrator.learning.model import TokenScorer
from orchestrator.learning.rows import Microbatch, Row, collate, common_prefix, pack, plan_microbatches

VOCABULARY = 40
PAD = 0


def double_model(seed: int = 0) -> TokenScorer:
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, max_position_embeddings=64, tie_word_embeddings=True, initializer_range=0.3,
        attn_implementation="sdpa",
    )  # fmt: skip
    model = Qwen3ForCausalLM(config).double().eval()
    for module in model.modules():
        if isinstance(module, Qwen3RMSNorm):
            # Its own forward rounds to float32, whatever the model's precision.
            module.forward = partial(nn.functional.rms_norm, normalized_shape=module.weight.shape, weight=module.weight)
    return TokenScorer(model)


def ids(generator: random.Random, length: int) -> tuple[int, ...]:
    return tuple(generator.randrange(1, VOCABULARY) for _ in range(length))


def random_row(generator: random.Random, branches: int) -> Row:
    prefix = ids(generator, generator.randint(1, 6))
    continuations = tuple(ids(generator, generator.randint(1, 5)) for _ in range(branches))
    return Row(prefix, continuations, tuple(generator.randint(1, len(branch)) for branch in continuations))


def separate(row: Row) -> list[Row]:
    """The same targets, a plain sequence a branch."""
    pairs = zip(row.branches, row.learned, strict=True)
    return [Row(row.prefix, (branch,), (learned,)) for branch, learned in pairs]


def gradient(model: TokenScorer, loss: torch.Tensor) -> torch.Tensor:
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(model.parameters()))])


def score_rows(model: TokenScorer, rows: list[Row]) -> torch.Tensor:
    """Log-probabilities of all rows in one microbatch, [T], with their graph."""
    return model(collate(rows, [0] * len(rows), PAD)).logprobs


def test_scoring_in_chunks_changes_neither_scores_nor_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 3 targets (logits_at_once = 3 x vocabulary) against all at once."""
    model, generator = double_model(), random.Random(4)
    batch = collate(rows := [random_row(generator, branches) for branches in (3, 2)], [0] * len(rows), PAD)
    whole = model(batch, temperature=0.7)
    expected = gradient(model, whole.logprobs.sum())
    monkeypatch.setattr(model, "logits_at_once", 3 * VOCABULARY)
    chunked = model(batch, temperature=0.7)
    assert len(chunked.logprobs) > 6
    for part, same in zip(chunked, whole, strict=True):
        torch.testing.assert_close(part, same, rtol=0, atol=1e-12)
    torch.testing.assert_close(gradient(model, chunked.logprobs.sum()), expected, rtol=0, atol=1e-12)


def test_branches_score_and_train_exactly_as_separate_sequences_do() -> None:
    """A microbatch of one row of 4 branches, a plain row and a row of 2 branches, against 7 forward passes of one sequence."""
    model, generator = double_model(), random.Random(3)
    rows = [random_row(generator, branches) for branches in (4, 1, 2)]
    together = score_rows(model, rows)
    alone = torch.cat([score_rows(model, [single]) for row in rows for single in separate(row)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)
    weights = torch.linspace(-1, 1, len(alone), dtype=torch.float64)
    torch.testing.assert_close(
        gradient(model, (together * weights).sum()), gradient(model, (alone * weights).sum()), rtol=0, atol=1e-12
    )


def test_a_score_is_the_log_probability_of_the_next_token_by_the_plain_model() -> None:
    """Targets 8 and 9 of [5 6 7 8 9]: what Hugging Face's own forward says at positions 2 and 3."""
    model = double_model()
    logits = model.language_model(torch.tensor([[5, 6, 7, 8, 9]])).logits[0]
    expected = torch.log_softmax(logits / 0.7, -1)[[2, 3], [8, 9]]
    scores = model(collate([Row((5, 6), ((7, 8, 9),), (2,))], [0], PAD), 0.7)
    torch.testing.assert_close(scores.logprobs, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(scores.logits, logits[[2, 3], [8, 9]], rtol=0, atol=1e-12)
    probabilities = torch.softmax(logits[[2, 3]] / 0.7, -1)
    torch.testing.assert_close(scores.entropies, -(probabilities * probabilities.log()).sum(-1), rtol=0, atol=1e-12)


def test_padding_and_company_change_nothing() -> None:
    """Plain rows, with plain company (no mask), with branched company (a mask), and padded further by a long row."""
    model, generator = double_model(), random.Random(5)
    row = random_row(generator, 1)
    alone = score_rows(model, [row])
    long_row = Row(ids(generator, 20), (ids(generator, 9),), (9,))
    for company in ([random_row(generator, 1)], [random_row(generator, 3)], [long_row, random_row(generator, 2)]):
        for order in (1, -1):
            rows = [row, *company][::order]
            start = sum(other.targets for other in rows[: rows.index(row)])
            shared = score_rows(model, rows)[start : start + row.targets]
            torch.testing.assert_close(shared, alone, rtol=0, atol=1e-12)


def test_the_layout_of_a_branched_row_by_hand() -> None:
    """Prefix 1 2, branches 3 4 (both learned) and 5 6 (6 learned), padded to length 7.

    Positions restart at 2. Targets 3, 4, 6 are predicted from the prefix's end (index 1), from 3 (index 2) and from 5 (4).
    """
    batch = collate([Row((1, 2), ((3, 4), (5, 6)), (2, 1)), Row((9,) * 6, ((8,),), (1,))], [10, 20], PAD)
    assert batch.ids[0].tolist() == [1, 2, 3, 4, 5, 6, PAD]
    assert batch.positions[0].tolist() == [0, 1, 2, 3, 2, 3, 6]
    assert batch.source.tolist() == [1, 2, 4, 7 + 5]
    assert batch.target.tolist() == [3, 4, 6, 8]
    assert batch.flat.tolist() == [10, 11, 12, 20]
    assert batch.mask is not None
    # The first token of the second branch sees the prefix and itself, its second token sees the first as well.
    assert batch.mask[0, 0, 4].tolist() == [True, True, False, False, True, False, False]
    assert batch.mask[0, 0, 5].tolist() == [True, True, False, False, True, True, False]
    assert batch.mask.any(-1).all(), "a query that attends to nothing is not a number"


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
@pytest.mark.parametrize("tokens", [1, 16, 40, 10**6])
def test_packing_covers_each_target_once_within_the_budget(ranks: int, tokens: int) -> None:
    generator = random.Random(ranks)
    rows = [random_row(generator, generator.randint(1, 3)) for _ in range(11)]
    plans = plan_microbatches([len(row) for row in rows], ranks, tokens)
    assert sorted(index for plan in plans for batch in plan for index in batch) == list(range(11))
    assert len({len(plan) for plan in plans}) == 1
    packed = [pack(rows, rank, ranks, tokens, PAD) for rank in range(ranks)]
    flat = [index for batches in packed for batch in batches for index in batch.flat.tolist() if index >= 0]
    assert sorted(flat) == list(range(sum(row.targets for row in rows)))
    for batch in (batch for batches in packed for batch in batches):
        assert batch.ids.numel() <= tokens or len(batch.ids) == 1, (
            "only a row too long for the budget may pass it, alone"
        )
    targets = [token for row in rows for single in separate(row) for token in single.branches[0][-single.learned[0] :]]
    for batch in (batch for batches in packed for batch in batches):
        for index, target in zip(batch.flat.tolist(), batch.target.tolist(), strict=True):
            assert index == -1 or targets[index] == target


def test_a_rank_without_rows_gets_filler_that_counts_for_nothing() -> None:
    """One row on two ranks: the second has the same number of microbatches, whose targets all stand at -1."""
    row = Row((1, 2), ((3, 4),), (2,))
    first, second = (pack([row], rank, 2, 100, PAD) for rank in range(2))
    assert len(first) == len(second) == 1
    assert first[0].flat.tolist() == [0, 1]
    assert second[0].flat.tolist() == [-1, -1]


def test_microbatches_move_whole() -> None:
    """`to` carries every field; a field that is forgotten there would only fail on a GPU."""
    batch = collate([Row((1, 2), ((3,), (4,)), (1, 1))], [0], PAD)
    moved = batch.to(torch.device("cpu"))
    for field in dataclasses.fields(Microbatch):
        assert torch.equal(getattr(moved, field.name), getattr(batch, field.name)), field.name


@pytest.mark.parametrize(
    ("sequences", "shared"),
    [
        ([(1, 2, 3), (1, 2, 4)], 2),
        ([(1, 2, 3), (1, 2, 3)], 2),  # each keeps its last token
        ([(1, 2), (1, 2, 3)], 1),
        ([(1,), (1, 2)], 0),
        ([(1, 2), (3, 2)], 0),
        ([(1, 2, 3)], 2),
    ],
)
def test_common_prefix(sequences: list[tuple[int, ...]], shared: int) -> None:
    assert common_prefix(sequences) == shared


@pytest.mark.parametrize(
    ("prefix", "branches", "learned"),
    [
        ((1,), ((2, 3),), (0,)),  # nothing is learned
        ((1,), ((2, 3),), (3,)),  # more than the branch has
        ((), ((2, 3),), (2,)),  # nothing stands before the first target
        ((1,), ((2,), (3,)), (1,)),  # a branch without a number
        ((1,), ((),), (0,)),
    ],
)
def test_bad_rows_are_refused(
    prefix: tuple[int, ...], branches: tuple[tuple[int, ...], ...], learned: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match=r"cannot learn|argument"):
        Row(prefix, branches, learned)


def test_completions_of_one_prompt_as_branches_give_the_same_gradient() -> None:
    """A group laid out as one row of branches is the same loss as its completions in rows of their own."""
    model, generator = double_model(), random.Random(9)
    row = random_row(generator, 4)
    weights = torch.linspace(0.1, 1, row.targets, dtype=torch.float64)
    together = gradient(model, (score_rows(model, [row]) * weights).sum())
    apart = gradient(model, (score_rows(model, separate(row)) * weights).sum())
    assert (together - apart).norm() <= 1e-10 * apart.norm()
