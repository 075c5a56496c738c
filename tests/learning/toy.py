"""An enumerable world: 256 answers of four tokens to each of two prompts, a reward with several modes, and a policy that is a table.

Everything exact is at hand: the distribution that FlowRL is to match, its log-partition, the policy's own distribution. Training
goes through the real batch, columns and losses; only the transformer is replaced.
"""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass
from types import SimpleNamespace

import torch
from torch import nn

from orchestrator.config.schema import AlgorithmConfig
from orchestrator.learning.batch import Batch
from orchestrator.learning.model import TokenScorer
from orchestrator.learning.objectives import OBJECTIVES
from orchestrator.learning.partition import PartitionScorer
from orchestrator.learning.parts import columns_of, loss_terms, split, together
from orchestrator.learning.rows import Microbatch, Row, pack

TOKENS, LENGTH, PROMPTS, FEATURES = 4, 4, 2, 12
ANSWERS = torch.tensor(list(itertools.product(range(TOKENS), repeat=LENGTH)))
"""All 256 answers, [N, L]."""
_OFFSETS = [0, *itertools.accumulate(TOKENS**depth for depth in range(LENGTH))]


class Table(nn.Module):
    """A "language model" with free logits after each prefix, and features of each prompt for the head of log Z to read.

    Answers have tokens 0 to 3; the prompts are the tokens after those.
    """

    def __init__(self, logits: torch.Tensor) -> None:
        """logits: [PROMPTS, prefixes, TOKENS]; prefixes by length, then in the order of `ANSWERS`."""
        super().__init__()
        self.logits = nn.Parameter(logits.clone())
        features = torch.randn(PROMPTS, FEATURES, generator=torch.Generator().manual_seed(0), dtype=logits.dtype)
        self.features = nn.Parameter(features)
        self.config = SimpleNamespace(vocab_size=TOKENS, hidden_size=TOKENS + FEATURES)

    def model(self, input_ids: torch.Tensor, **_: object) -> SimpleNamespace:
        """Hidden states [B, 1 + L, TOKENS + FEATURES]: the logits of what comes next, then the prompt's features."""
        prompts_B, code_B = input_ids[:, 0] - TOKENS, torch.zeros(len(input_ids), dtype=torch.int64)
        states = []
        for depth in range(input_ids.shape[1]):
            code_B = code_B if depth == 0 else code_B * TOKENS + input_ids[:, depth].clamp_max(TOKENS - 1)
            known = depth < LENGTH  # nothing comes after the last token
            states.append(self.logits[prompts_B, code_B + _OFFSETS[depth] if known else code_B * 0])
        hidden_BLV = torch.stack(states, 1)
        features_BLF = self.features[prompts_B][:, None].expand(-1, hidden_BLV.shape[1], -1)
        return SimpleNamespace(last_hidden_state=torch.cat([hidden_BLV, features_BLF], -1))

    def lm_head(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden[..., :TOKENS]


@functools.cache
def every_answer(prompt: int) -> Microbatch:
    """One pass over all 256 answers to a prompt."""
    (microbatch,) = pack([row_of(prompt, answer) for answer in ANSWERS.tolist()], 0, 1, 10**9, 0)
    return microbatch


def row_of(prompt: int, answer: list[int]) -> Row:
    return Row((TOKENS + prompt,), (tuple(answer),), (LENGTH,))


def scores_of_all(scorer: TokenScorer, prompt: int) -> tuple[torch.Tensor, float | None]:
    """(log-probability of each answer [N], log Z of the prompt where the scorer has one)."""
    microbatch = every_answer(prompt)
    with torch.no_grad():
        scores = scorer.eval()(microbatch)
    ordered = torch.zeros(len(ANSWERS) * LENGTH, dtype=torch.float64)
    ordered[microbatch.flat] = scores.logprobs
    log_z = getattr(scores, "log_partition", None)
    return ordered.view(-1, LENGTH).sum(1), None if log_z is None else float(log_z[0])


@dataclass(frozen=True)
class World:
    """rewards: [PROMPTS, N], 1 at each mode and falling off around it. reference: the prior's logits, for `Table`."""

    rewards: torch.Tensor
    reference: torch.Tensor
    modes: torch.Tensor

    def target(self, prompt: int, beta: float) -> tuple[torch.Tensor, float]:
        """(distribution over answers, log Z) at which the balance vanishes: (1/L) log p = beta r + (1/L) log prior - log Z."""
        prior, _ = scores_of_all(TokenScorer(Table(self.reference)), prompt)
        unnormalised = prior + LENGTH * beta * self.rewards[prompt]
        total = torch.logsumexp(unnormalised, 0)
        return (unnormalised - total).exp(), float(total) / LENGTH


def make_world(modes: int, seed: int = 0) -> World:
    """`modes` answers a prompt, as far apart as chance and choice put them, each with reward 1; elsewhere exp(-distance)."""
    generator = torch.Generator().manual_seed(seed)
    distance = (ANSWERS[:, None] != ANSWERS).sum(-1)
    chosen = torch.zeros(PROMPTS, modes, dtype=torch.int64)
    for prompt in range(PROMPTS):
        peaks = [int(torch.randint(len(ANSWERS), (1,), generator=generator))]
        while len(peaks) < modes:
            apart = distance[:, peaks].min(1).values + 0.5 * torch.rand(len(ANSWERS), generator=generator)
            peaks.append(int(apart.argmax()))
        chosen[prompt] = torch.tensor(peaks)
    rewards = torch.stack([torch.exp(-distance[:, peaks].min(1).values.double()) for peaks in chosen])
    prefixes = sum(TOKENS**depth for depth in range(LENGTH))
    reference = 0.3 * torch.randn(PROMPTS, prefixes, TOKENS, generator=generator, dtype=torch.float64)
    return World(rewards, reference, chosen)


def draw(world: World, scorer: TokenScorer, samples: int, generator: torch.Generator) -> Batch:
    """One group a prompt, sampled from the policy."""
    rows, behaviour, rewards, groups = [], [], [], []
    for prompt in range(PROMPTS):
        logprobs, _ = scores_of_all(scorer, prompt)
        picked = torch.multinomial(logprobs.exp(), samples, replacement=True, generator=generator)
        rows += [row_of(prompt, answer) for answer in ANSWERS[picked].tolist()]
        behaviour.append((logprobs[picked] / LENGTH).repeat_interleave(LENGTH))
        rewards.append(world.rewards[prompt, picked])
        groups += [prompt] * samples
    lengths, versions = torch.full((len(rows),), LENGTH), torch.zeros(len(rows) * LENGTH, dtype=torch.int64)
    return Batch(
        tuple(rows), torch.arange(len(rows)), torch.cat(behaviour), versions, torch.cat(rewards), torch.tensor(groups), lengths,
        LENGTH, 1.0,
    )  # fmt: skip


def train(
    world: World, algorithm: AlgorithmConfig, steps: int, samples: int = 64, rate: float = 0.1, seed: int = 0
) -> TokenScorer:
    """Adam on the objective's loss, on-policy, the rate falling to 0 along a cosine."""
    objective = OBJECTIVES[algorithm.name]
    scorer, reference = TokenScorer(Table(world.reference)), TokenScorer(Table(world.reference))
    if objective.partition:
        scorer = PartitionScorer(scorer, algorithm.flow_dropout)
    optimizer = torch.optim.Adam(scorer.parameters(), lr=rate)
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * step / steps))
        batch = draw(world, scorer, samples, generator)
        (part,) = split(
            batch, columns_of(batch, objective, algorithm, None, _column(reference, batch), None), objective, 1
        )
        optimizer.zero_grad()
        scorer.train()
        for microbatch in pack(part.rows, 0, 1, 10**9, 0, together(part, objective)):
            loss_terms(objective, algorithm, part.columns, scorer(microbatch), microbatch).sum().backward()
        optimizer.step()
    return scorer


def _column(reference: TokenScorer, batch: Batch) -> torch.Tensor:
    (microbatch,) = pack(batch.rows, 0, 1, 10**9, 0)
    column = torch.zeros(batch.total, dtype=torch.float64)
    with torch.no_grad():
        column[microbatch.flat] = reference(microbatch).logprobs
    return column


def distances(world: World, scorer: TokenScorer, beta: float) -> dict[str, float]:
    """Of the policy from the target, the worse of the prompts: total variation, KL(target || policy), and |log Z - exact|.

    modes: of the prompts' modes the smallest share that the policy gives at least half of what the target gives.
    """
    found: list[dict[str, float]] = []
    for prompt in range(PROMPTS):
        target, exact = world.target(prompt, beta)
        logprobs, log_z = scores_of_all(scorer, prompt)
        peaks = world.modes[prompt]
        found.append(
            {
                "total_variation": float((logprobs.exp() - target).abs().sum()) / 2,
                "kl": float((target * (target.log() - logprobs)).sum()),
                "lost_modes": float((logprobs[peaks].exp() < 0.5 * target[peaks]).double().mean()),
                **({"log_z": abs(log_z - exact)} if log_z is not None else {}),
            }
        )
    worst = {name: max(one[name] for one in found) for name in found[0]}
    return worst | {"modes": 1 - worst.pop("lost_modes")}
