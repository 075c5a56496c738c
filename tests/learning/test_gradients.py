"""The gradient of every objective is a property of the batch: not of microbatches, packing, accumulation or ranks.

In float64, to 1e-10 of its norm. What ranks of DeepSpeed's own add is in test_engine.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from invented import CAP, flat_gradient, invented_batch, invented_columns, invented_groups, preset
from test_rows import PAD, VOCABULARY, double_model

from orchestrator.config.schema import AlgorithmConfig
from orchestrator.learning.batch import Batch, make_batch, select
from orchestrator.learning.critic import ValueScorer, value_loss
from orchestrator.learning.model import TokenScorer
from orchestrator.learning.objectives import OBJECTIVES
from orchestrator.learning.partition import PartitionScorer
from orchestrator.learning.parts import Columns, Part, loss_terms, split, together, units
from orchestrator.learning.rows import pack

SETTINGS = {
    **{name: preset(name, kl_weight=0.05, flow_dropout=0.0) for name in OBJECTIVES},
    "grpo without KL": preset("grpo", kl_weight=0),
    "grpo, KL in the reward": preset("grpo", kl_weight=0.1, kl_in="reward", kl_estimator="k2"),
    "dapo, three minibatches": preset("dapo", minibatches=3),
    "gspo, three minibatches": preset("gspo", minibatches=3, clip_low=0.1, clip_high=0.1),
    "flowrl, first release": preset("flowrl", flow_importance="unclipped", flow_dropout=0.0),
    "flowrl, no log Z": preset("flowrl", flow_importance="capped", flow_log_z=False, flow_prior="old"),
    "flowrl, raw": preset("flowrl", flow_importance="none", flow_reward="raw", flow_prior="none", flow_dropout=0.0, beta=2),
}  # fmt: skip


def scorer(algorithm: AlgorithmConfig) -> TokenScorer:
    model = double_model()
    if OBJECTIVES[algorithm.name].partition and algorithm.flow_log_z:
        return PartitionScorer(model, algorithm.flow_dropout).eval()
    return model


def scores_of(model: TokenScorer, batch: Batch) -> torch.Tensor:
    with torch.no_grad():
        (whole,) = pack(batch.rows, 0, 1, 10**6, PAD)
        flat = torch.zeros(batch.total, dtype=torch.float64)
        flat[whole.flat] = model(whole).logprobs
    return flat


def prepared(algorithm: AlgorithmConfig, batch: Batch) -> tuple[TokenScorer, Columns]:
    model = scorer(algorithm)
    reference_T = scores_of(double_model(seed=1), batch)
    return model, invented_columns(batch, algorithm, scores_of(model, batch), reference_T)


def gradient_of(algorithm: AlgorithmConfig, model: TokenScorer, part: Part, ranks: int, tokens: int) -> torch.Tensor:
    """Sum over ranks and microbatches, as engines accumulate and reduce it."""
    objective, total = OBJECTIVES[algorithm.name], torch.zeros(())
    for rank in range(ranks):
        for microbatch in pack(part.rows, rank, ranks, tokens, PAD, together(part, objective)):
            loss = loss_terms(objective, algorithm, part.columns, model(microbatch), microbatch).sum()
            total = total + flat_gradient(model, loss)
    return total


@pytest.mark.parametrize("name", SETTINGS)
def test_the_gradient_does_not_depend_on_microbatches_or_ranks(name: str) -> None:
    """Against everything in one microbatch on one rank. The budgets part the two turns of the first group's second episode."""
    algorithm = SETTINGS[name]
    batch = invented_batch(algorithm, VOCABULARY)
    model, columns = prepared(algorithm, batch)
    parts = split(batch, columns, OBJECTIVES[algorithm.name], algorithm.minibatches)
    assert sum(part.total for part in parts) == batch.total
    for part in parts:
        whole = gradient_of(algorithm, model, part, 1, 10**6)
        for ranks, tokens in [(1, 1), (1, 24), (1, 60), (2, 10**6), (2, 30), (3, 16), (5, 20)]:
            pieces = gradient_of(algorithm, model, part, ranks, tokens)
            assert (pieces - whole).norm() <= 1e-10 * whole.norm(), f"{ranks} ranks, {tokens} tokens"
    assert max(gradient_of(algorithm, model, part, 1, 10**6).norm() for part in parts) > 1e-4


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
@pytest.mark.parametrize("minibatches", [1, 2])
def test_groups_without_a_difference_cost_nothing_and_change_nothing(name: str, minibatches: int) -> None:
    """The third group's four episodes are left out where their gradient is 0, and counted in the weights of the others.

    The gradient is that of the batch with everything in it. A step of them alone is left out.
    """
    algorithm = preset(name, kl_weight=0, flow_dropout=0.0, minibatches=minibatches)
    objective = OBJECTIVES[name]
    selection = select(invented_groups(VOCABULARY), algorithm, CAP)
    lean = make_batch(selection, algorithm, CAP)
    full = make_batch(replace(selection, differs=dict.fromkeys(selection.differs, True)), algorithm, CAP)
    assert lean is not None
    assert full is not None
    skipped = objective.zero_if_equal
    assert len(full.rows) - len(lean.rows) == (4 if skipped else 0)
    torch.testing.assert_close(lean.lengths_E, full.lengths_E)
    model, columns = prepared(algorithm, full)
    kept_T = torch.isin(full.episode_T, lean.episode_R)
    full_parts, lean_parts = (
        split(batch, chosen, objective, minibatches) for batch, chosen in ((full, columns), (lean, columns.at(kept_T)))
    )
    for whole, part in zip(full_parts, lean_parts, strict=True):
        expected = gradient_of(algorithm, model, whole, 1, 10**6)
        assert (gradient_of(algorithm, model, part, 2, 30) - expected).norm() <= 1e-10 * expected.norm()


def test_a_batch_without_any_difference_is_no_batch() -> None:
    """Only where its gradient would be 0: a KL penalty in the loss has one, and so has FlowRL's balance."""
    (group,) = [group for group in invented_groups(VOCABULARY) if group.episodes[0].task.id == "task-2"]
    for algorithm, nothing in [
        (preset("dapo"), True),
        (preset("grpo"), False),
        (preset("grpo", kl_weight=0), True),
        (preset("flowrl"), False),
        (preset("ppo"), False),
    ]:
        batch = make_batch(select([group], algorithm, CAP), algorithm, CAP)
        assert (batch is None) == nothing, algorithm.name


def test_the_critics_gradient_does_not_depend_on_microbatches_or_ranks() -> None:
    algorithm = SETTINGS["ppo"]
    batch = invented_batch(algorithm, VOCABULARY)
    _, columns = prepared(algorithm, batch)
    (part,) = split(batch, columns, OBJECTIVES["ppo"], 1)
    critic = ValueScorer(double_model())
    torch.nn.init.normal_(critic.head.weight, generator=torch.Generator().manual_seed(2))

    def gradient(ranks: int, tokens: int) -> torch.Tensor:
        microbatches = [piece for rank in range(ranks) for piece in pack(part.rows, rank, ranks, tokens, PAD)]
        losses = (value_loss(algorithm, part, critic(microbatch), microbatch) for microbatch in microbatches)
        return torch.stack([flat_gradient(critic, loss) for loss in losses]).sum(0)

    whole = gradient(1, 10**6)
    assert whole.norm() > 1e-3
    for ranks, tokens in [(1, 1), (1, 24), (2, 30), (5, 20)]:
        assert (gradient(ranks, tokens) - whole).norm() <= 1e-10 * whole.norm()


def test_an_episodes_rows_stay_together_where_its_loss_needs_them() -> None:
    """Rows of episodes 0, 0, 1, 3, 3, 3: the units of packing, which no budget parts."""
    assert units(torch.tensor([0, 0, 1, 3, 3, 3])) == [[0, 1], [2], [3, 4, 5]]
    batch = invented_batch(SETTINGS["gspo"], VOCABULARY)
    for microbatch in pack(batch.rows, 0, 1, 1, PAD, units(batch.episode_R)):
        episodes = batch.episode_T[microbatch.flat].unique()
        assert len(episodes) == 1
        assert len(microbatch.flat) == int((batch.episode_T == episodes).sum())


def test_log_z_is_of_the_prompt_alone() -> None:
    """It is the head of the mean of the prompt's hidden states, whatever the answer, the padding and the company; its gradient
    reaches the policy."""
    model = scorer(SETTINGS["flowrl"])
    assert isinstance(model, PartitionScorer)
    batch = invented_batch(SETTINGS["flowrl"], VOCABULARY)
    (whole,) = pack(batch.rows, 0, 1, 10**6, PAD)
    log_z_T = torch.zeros(batch.total, dtype=torch.float64)
    log_z_T[whole.flat] = model(whole).log_partition.detach()
    starts = torch.tensor([0, *[row.targets for row in batch.rows]]).cumsum(0)
    for row, start in zip(batch.rows, starts, strict=False):
        hidden = model.language_model.model(torch.tensor([row.prefix])).last_hidden_state[0]
        expected = model.log_partition(hidden.mean(0)).detach()
        torch.testing.assert_close(
            log_z_T[start : start + row.targets], expected.expand(row.targets), rtol=0, atol=1e-12
        )
    (gradient,) = torch.autograd.grad(
        model(whole).log_partition.sum(), [model.language_model.model.embed_tokens.weight]
    )
    assert gradient.norm() > 1e-3
