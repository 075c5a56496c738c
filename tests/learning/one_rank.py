"""What the tests of the policy learner and of SFT need DeepSpeed for, run in one process of one rank.

Each case returns plain numbers; what they should be stands in the tests.
"""

from __future__ import annotations

import math
import os
import random
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from invented import preset
from rated import answered
from torch import nn
from transformers import Qwen3Config, Qwen3ForCausalLM

from orchestrator.config.schema import AlgorithmConfig, LearnerConfig, SftConfig
from orchestrator.errors import RunError
from orchestrator.learning.batch import Batch, make_batch, select
from orchestrator.learning.model import TokenScorer, TokenScores
from orchestrator.learning.objectives import OBJECTIVES
from orchestrator.learning.policy import PolicyLearner
from orchestrator.learning.replay import watched_update
from orchestrator.learning.rows import Microbatch, Row, pack
from orchestrator.values import Episode, Group, Scored, Task, Turn

VOCABULARY = 8
PROMPT = (1, 2, 3)
REWARDED = 5
BANDIT_UPDATES = 30
SHORT_BANDIT = 8
OFF_POLICY = ("token_truncate", "token_mask", "none")


def small_model(dtype: torch.dtype = torch.float32, initializer_range: float = 0.02) -> TokenScorer:
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, max_position_embeddings=32, tie_word_embeddings=True,
        initializer_range=initializer_range, attn_implementation="sdpa",
    )  # fmt: skip
    return TokenScorer(Qwen3ForCausalLM(config).to(dtype))


def policy_learner(
    algorithm: AlgorithmConfig,
    *,
    reference: bool = True,
    max_logprob_gap: float = 1e-4,
    learning_rate: float = 1e-2,
    schedule: str = "constant",
) -> PolicyLearner:
    config = LearnerConfig(
        ranks=1, zero_stage=2, learning_rate=learning_rate, schedule=schedule, tokens_per_microbatch=64
    )
    return PolicyLearner(
        small_model(), small_model() if reference else None, config, algorithm,
        dtype="float32", rank=0, pad_id=0, max_logprob_gap=max_logprob_gap, steps=5,
        critic=small_model() if OBJECTIVES[algorithm.name].critic else None,
    )  # fmt: skip


def next_token_logprobs(learner: PolicyLearner, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        model = learner.engine.module.eval().language_model
        return torch.log_softmax(model(torch.tensor([ids])).logits[0, -1], -1)


def sample(
    learner: PolicyLearner,
    length: int,
    count: int,
    seed: int,
    shift: float = 0.0,
    algorithm: AlgorithmConfig | None = None,
) -> Batch:
    """One group of `count` completions of PROMPT by the learner's own weights; the reward is the share of REWARDED.

    shift: added to every behaviour log-probability, as an engine with other weights would report them.
    """
    generator = torch.Generator().manual_seed(seed)
    episodes, rewards = [], []
    for number in range(count):
        tokens, logprobs = list(PROMPT), []
        for _ in range(length):
            law = next_token_logprobs(learner, tokens)
            tokens.append(int(torch.multinomial(law.exp(), 1, generator=generator)))
            logprobs.append(float(law[tokens[-1]]) + shift)
        completion = tuple(tokens[len(PROMPT) :])
        turn = Turn("policy", PROMPT, completion, tuple(logprobs), "", "stop", 1.0, 0, 0)
        episodes.append(Episode(Task("bandit", ()), 0, number, (turn,)))
        rewards.append(Scored(completion.count(REWARDED) / length))
    algorithm = algorithm or AlgorithmConfig()
    batch = make_batch(select([Group(tuple(episodes), tuple(rewards))], algorithm, length), algorithm, length)
    assert batch is not None
    return batch


def weights_of(learner: PolicyLearner) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten().clone() for _, parameter in learner.engine.parameters()])


def gap(algorithm: AlgorithmConfig) -> dict[str, Any]:
    """The behaviour log-probabilities are all 0.01 off, the bound is 1e-3."""
    learner = policy_learner(algorithm, max_logprob_gap=1e-3)
    before = weights_of(learner)
    try:
        learner.update(sample(learner, 3, 6, seed=0, shift=0.01), 0)
    except RunError as error:
        message = str(error)
    else:
        message = ""
    return {
        "message": message,
        "unchanged": torch.equal(before, weights_of(learner)),
        "optimizer_steps": learner.optimizer_steps,
    }


def stale(ratio: float, form: str, *, version: int = 1, fresh: int = 0, off: float = 0.0) -> dict[str, Any]:
    """One update at weights of `version` from six episodes of three tokens that version 0 sampled, which are `ratio` times as
    likely now as they were said to be; but for the first `fresh`, of the version now, whose log-probabilities are `off`."""
    learner = policy_learner(AlgorithmConfig(kl_weight=0.0, off_policy=form), reference=False, max_logprob_gap=1e-3)
    batch = sample(learner, 3, 6, seed=0)
    fresh_T = batch.episode_T < fresh
    shift_T = torch.where(fresh_T, off, -math.log(ratio)).double()
    versions_T = torch.where(fresh_T, version, batch.version_T)
    before = weights_of(learner)
    try:
        metrics = learner.update(replace(batch, behaviour_T=batch.behaviour_T + shift_T, version_T=versions_T), version)
        message = ""
    except RunError as error:
        metrics, message = {}, str(error)
    after = weights_of(learner)
    return {"metrics": metrics, "weights": after, "unchanged": torch.equal(before, after), "message": message}


def all_stale() -> dict[str, dict[str, float]]:
    """Every objective with its published settings: the metrics of an update from what an older version sampled."""
    results = {}
    for name in OBJECTIVES:
        algorithm = preset(name, overlong_share=0.0, dynamic_sampling=False)
        learner = policy_learner(algorithm, reference=algorithm.needs_reference)
        batch = sample(learner, 3, 6, seed=0, shift=-math.log(1.5), algorithm=algorithm)
        results[name] = learner.update(batch, 1)
    return results


def several_steps() -> dict[str, Any]:
    learner = policy_learner(AlgorithmConfig(minibatches=3, epochs_per_batch=2, kl_weight=0.01), learning_rate=0.05)
    metrics = learner.update(sample(learner, 3, 9, seed=0), 0)
    return {"metrics": metrics, "optimizer_steps": learner.optimizer_steps, "steps_done": learner.steps_done}


def divergence() -> dict[str, Any]:
    learner = policy_learner(AlgorithmConfig(kl_weight=0.01))
    metrics = [learner.update(sample(learner, 3, 8, seed=step), 0) for step in range(3)]
    without = policy_learner(AlgorithmConfig(kl_weight=0.0), reference=False)
    return {"metrics": metrics, "without": without.update(sample(without, 3, 8, seed=0), 0)}


def scheduled() -> float:
    """The learning rate of a run that was taken up again after three steps."""
    learner = policy_learner(AlgorithmConfig(), schedule="linear")
    learner.steps_done = 3
    return learner.update(sample(learner, 3, 8, seed=0), 0)["policy/learning_rate"]


class Constant(nn.Module):
    """Weights of 1 whose gradient is the same in every step."""

    scores = TokenScores

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(5, dtype=torch.bfloat16))

    def forward(self, batch: Microbatch, temperature: float) -> TokenScores:
        scores = self.weight.float().sum().expand(len(batch.target))
        return TokenScores(scores, scores, scores)


def small_steps(stage: int, offloaded: bool) -> dict[str, Any]:
    """One step, four more; a fresh engine takes the state over and makes five. Weights and masters after each."""
    from orchestrator.learning.engine import Engine

    learner = LearnerConfig(
        zero_stage=stage, offload_optimizer=offloaded, offload_parameters=offloaded and stage == 3, max_grad_norm=10.0
    )
    microbatches = pack([Row((1, 2), ((3,),), (1,))], 0, 1, 16, 0)
    engine: Any = Engine(Constant(), learner, 1e-3, "bfloat16")  # type: ignore[arg-type]
    weights, masters, states = [], [], []

    def steps(number: int) -> None:
        for _ in range(number):
            engine.score(microbatches, 1, loss=lambda scores, _: scores.logprobs.sum())
            engine.step(1e-3)
        note()

    def note() -> None:
        (bucket,) = engine.weights(engine.parameters(), 2**20)
        weights.append(float(bucket["weight"].float().max()))
        states.append(dict(engine.state()))
        masters.append(float(states[-1]["weight"]["master"].max()))

    steps(1)
    steps(4)
    engine.close()
    engine = Engine(Constant(), learner, 1e-3, "bfloat16")  # type: ignore[arg-type]
    engine.load_state(states[-1].items(), 5)
    note()
    steps(5)
    before, after = (state["weight"] for state in states[1:3])
    return {"weights": weights, "masters": masters, "taken_over": all(torch.equal(before[k], after[k]) for k in before)}


def watched() -> dict[str, Any]:
    """The same update plainly and watched: two minibatches in each of two epochs, with a reference."""
    algorithm = AlgorithmConfig(kl_weight=0.01, minibatches=2, epochs_per_batch=2)
    plain, seen = policy_learner(algorithm), policy_learner(algorithm)
    batch = sample(plain, 3, 6, seed=0)
    metrics = plain.update(batch, 0)
    terms, same_metrics = watched_update(seen, batch, 0, algorithm, [str(number) for number in range(6)])
    return {
        "terms": terms,
        "same": metrics == same_metrics and torch.equal(weights_of(plain), weights_of(seen)),
        "batch": batch,
    }


def bandit() -> dict[str, Any]:
    learner = policy_learner(AlgorithmConfig(kl_weight=0.0), reference=False)
    probabilities = []
    for step in range(BANDIT_UPDATES):
        probabilities.append(float(next_token_logprobs(learner, list(PROMPT)).exp()[REWARDED]))
        batch = sample(learner, 1, 64, seed=step)
        metrics = learner.update(batch, 0)
    probabilities.append(float(next_token_logprobs(learner, list(PROMPT)).exp()[REWARDED]))
    return {"probabilities": probabilities, "gap": metrics["sync/logprob_gap_max"]}


def bandits() -> dict[str, Any]:
    """Every objective with its published settings, a few updates: the rewarded token's probability and the last metrics."""
    results = {}
    for name in OBJECTIVES:
        algorithm = preset(name, critic_learning_rate=1e-2, overlong_share=0.0, dynamic_sampling=False)
        learner = policy_learner(algorithm, reference=algorithm.needs_reference)
        before = float(next_token_logprobs(learner, list(PROMPT)).exp()[REWARDED])
        metrics = [
            learner.update(sample(learner, 1, 32, seed=step, algorithm=algorithm), 0) for step in range(SHORT_BANDIT)
        ]
        after = float(next_token_logprobs(learner, list(PROMPT)).exp()[REWARDED])
        results[name] = {"before": before, "after": after, "metrics": metrics[-1]}
    return results


def not_numbers() -> dict[str, str]:
    """What the learner says where one of its tensors holds a NaN, and that no step was taken."""
    messages = {}
    for where in ("behaviour", "reference", "policy", "critic"):
        algorithm = preset("ppo")
        learner = policy_learner(algorithm)
        batch = sample(learner, 2, 4, seed=0, algorithm=algorithm)
        if where == "behaviour":
            batch.behaviour_T[3] = torch.nan
        else:
            assert learner.reference is not None
            assert learner.critic is not None
            module = {"reference": learner.reference, "policy": learner.engine, "critic": learner.critic.engine}[where]
            weights = next(getattr(module, "module", module).parameters())
            with torch.no_grad():
                weights.fill_(torch.nan)
        try:
            learner.update(batch, 0)
        except RunError as error:
            messages[where] = str(error)
        assert learner.optimizer_steps == 0
    return messages


def lesson_rows() -> list[Row]:
    """Copying: the target repeats the prefix's first token; some rows ask twice, in branches."""
    generator = random.Random(0)
    rows = []
    for number in range(24):
        token = generator.randrange(3, VOCABULARY)
        branches = ((1, token), (2, token))[: 1 + number % 2]
        rows.append(Row((token, generator.randrange(3, VOCABULARY)), branches, (1,) * len(branches)))
    return rows


def teach_one(stage: int, dtype: str) -> dict[str, Any]:
    from orchestrator.learning.model import DTYPES
    from orchestrator.learning.sft import negative_log_likelihood
    from orchestrator.learning.teaching import teach

    losses: list[tuple[int, float]] = []
    learner = LearnerConfig(ranks=1, zero_stage=stage, tokens_per_microbatch=32)
    training = SftConfig(steps=40, examples_per_step=12, learning_rate=1e-2)
    engine = teach(
        small_model(DTYPES[dtype], 0.2), lesson_rows(), negative_log_likelihood, training, learner,
        dtype=dtype, rank=0, pad_id=0, progress=lambda step, loss: losses.append((step, loss)),
    )  # fmt: skip
    parameters, state = dict(engine.parameters()), dict(engine.state())
    result = {
        "losses": losses,
        "weights": {str(parameter.dtype) for parameter in parameters.values()},
        "rounded": all(
            torch.equal(parameter.detach(), state[name]["master"].to(parameter.dtype))
            for name, parameter in parameters.items()
            if stage < 3
        ),
        "finer": any(not torch.equal(slots["master"], slots["master"].bfloat16().float()) for slots in state.values()),
    }
    held = [weakref.ref(engine.module), *map(weakref.ref, parameters.values())]
    parameters.clear()
    engine.close()
    return result | {"freed": all(reference() is None for reference in held)}


def work(_: int, port: int, path: str) -> None:
    """The process: every case, its results saved under `path`."""
    os.environ.update(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=0, world_size=1)
    from orchestrator.learning.engine import start_deepspeed

    start_deepspeed()
    results = {
        "gap_one_step": gap(AlgorithmConfig(kl_weight=0.01)),
        "gap_many_steps": gap(AlgorithmConfig(kl_weight=0.01, minibatches=2, epochs_per_batch=2)),
        "several_steps": several_steps(),
        **{f"stale-{form}-{ratio:g}": stale(ratio, form) for form in OFF_POLICY for ratio in (1.5, 4)},
        **{f"fresh-{form}": stale(1, form, version=0) for form in OFF_POLICY},
        "stale-none-1": stale(1, "none"),
        "mixed": stale(1.5, "token_truncate", fresh=2),
        "mixed_and_off": stale(1.5, "token_truncate", fresh=2, off=0.01),
        "all_stale": all_stale(),
        "divergence": divergence(),
        "logit_queries": answered(Path(path).parent, 0, LearnerConfig(ranks=1, zero_stage=2, tokens_per_microbatch=64)),
        "watched": watched(),
        "bandit": bandit(),
        "bandits": bandits(),
        "not_numbers": not_numbers(),
        "schedule": scheduled(),
        "small_steps": {
            f"{stage}-offloaded" if offloaded else str(stage): small_steps(stage, offloaded)
            for stage, offloaded in ((1, False), (2, False), (2, True), (3, False), (3, True))
        },
        "teach_float32": teach_one(2, "float32"),
        **{f"teach_bfloat16_{stage}": teach_one(stage, "bfloat16") for stage in (1, 2, 3)},
    }
    torch.save(results, Path(path))
    torch.distributed.destroy_process_group()
