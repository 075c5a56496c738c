"""From scored groups to the tensors of an update."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from orchestrator.config.schema import AlgorithmConfig
from orchestrator.errors import RunError
from orchestrator.learning.batch import Batch, Selection, make_batch, select
from orchestrator.learning.model import TokenScorer
from orchestrator.learning.rows import Row, pack
from orchestrator.values import Episode, Group, Scored, Task, Turn, Unscored, Verdict

GRPO = AlgorithmConfig()
CENTRED = AlgorithmConfig(name="dr_grpo", kl_weight=0)
CAP = 8
FAULT = Unscored("the judge did not answer")


def batch_of(selection: Selection, algorithm: AlgorithmConfig = GRPO) -> Batch:
    batch = make_batch(selection, algorithm, CAP)
    assert batch is not None
    return batch


def turn(prompt: tuple[int, ...], completion: tuple[int, ...], role: str = "policy", temperature: float = 1.0) -> Turn:
    logprobs = tuple(-0.125 * token for token in completion)
    return Turn(role, prompt, completion, logprobs, "text", "stop", temperature, 0, 0)


def episode(task: str, sample: int, *turns: Turn) -> Episode:
    return Episode(Task(task, ()), 0, sample, turns or (turn((1, 2), (3,) * (sample + 1)),))


def group(task: str, *verdicts: Verdict) -> Group:
    return Group(tuple(episode(task, sample) for sample in range(len(verdicts))), verdicts)


def test_unscored_and_lone_episodes_are_left_out() -> None:
    """a: rewards 1 and 3 beside a fault: mean 2, std sqrt 2, so ±1/1.41421456; the fault moves neither.

    b: one scored episode is alone: dropped. c: only faults: dropped. d: two equal rewards: kept, advantage 0, counted.
    """
    groups = [
        group("a", Scored(1.0), FAULT, Scored(3.0)),
        group("b", FAULT, Scored(9.0)),
        group("c", FAULT, FAULT),
        group("d", Scored(0.5), Scored(0.5)),
    ]
    selection = select(groups, GRPO, CAP)
    assert [chosen.id for chosen in selection.episodes] == ["0/a/0", "0/a/2", "0/d/0", "0/d/1"]
    size = 1 / (math.sqrt(2) + 1e-6)
    assert selection.advantages == pytest.approx({"0/a/0": -size, "0/a/2": size, "0/d/0": 0, "0/d/1": 0}, abs=1e-12)
    assert selection.zero_variance_groups == 1


def test_silent_and_lost_episodes_take_part_in_nothing() -> None:
    """Rewards 1 and 3 of episodes in which the policy spoke, as above; a silent one is worth 9 and moves neither mean nor spread."""
    silent = Episode(Task("a", ()), 0, 2, (turn((1,), (2,), "guest"),))
    lost = Episode(Task("a", ()), 0, 3, (), "gone")
    spoken = group("a", Scored(1.0), Scored(3.0))
    mixed = Group((*spoken.episodes, silent, lost), (*spoken.verdicts, Scored(9.0), Unscored("gone")))
    assert select([mixed], GRPO, CAP).advantages == select([spoken], GRPO, CAP).advantages
    assert len(batch_of(select([mixed], GRPO, CAP)).rows) == 2
    nobody = Group((silent, silent), (Scored(0.0), Scored(1.0)))
    assert make_batch(select([nobody], GRPO, CAP), GRPO, CAP) is None


def test_a_dropped_group_is_not_counted_as_one_without_variance() -> None:
    assert select([group("b", FAULT, Scored(9.0))], GRPO, CAP).zero_variance_groups == 0


def test_nothing_scored_selects_nothing() -> None:
    selection = select([group("a", FAULT, FAULT)], GRPO, CAP)
    assert selection.episodes == ()
    assert selection.advantages == {}


def test_the_layout_of_a_batch() -> None:
    """Two episodes of one group, of 1 and 2 tokens."""
    batch = batch_of(select([group("a", Scored(1.0), Scored(0.0))], GRPO, CAP))
    assert batch.rows == (Row((1, 2), ((3,),), (1,)), Row((1, 2), ((3, 3),), (2,)))
    assert batch.total == 3
    assert batch.behaviour_T.tolist() == [-0.375] * 3
    assert batch.episode_T.tolist() == [0, 1, 1]
    assert batch.rewards_E.tolist() == [1, 0]
    assert batch.group_E.tolist() == [0, 0]
    assert batch.lengths_E.tolist() == [1, 2]
    assert batch.cap == CAP
    assert batch.temperature == 1.0


def test_an_empty_completion_counts_as_an_episode_without_rows() -> None:
    """Its reward of 4 is part of the group's mean (5/3); it has no token to train, and the aggregations know its length of 0."""
    empty = episode("a", 1, turn((1, 2), ()))
    selection = select(
        [Group((episode("a", 0), empty, episode("a", 2)), (Scored(1.0), Scored(4.0), Scored(0.0)))], CENTRED, CAP
    )
    assert selection.advantages == pytest.approx({"0/a/0": -2 / 3, "0/a/1": 7 / 3, "0/a/2": -5 / 3})
    batch = batch_of(selection)
    assert batch.episode_R.tolist() == [0, 2]
    assert batch.episode_T.tolist() == [0, 2, 2, 2]
    assert batch.lengths_E.tolist() == [1, 0, 3]
    assert make_batch(select([Group((empty, empty), (Scored(1.0), Scored(4.0)))], GRPO, CAP), GRPO, CAP) is None


def test_one_answer_is_enough_where_nothing_is_compared() -> None:
    """PPO keeps the lone episode that GRPO drops. It records no advantage: that is the critic's and the whole batch's affair."""
    lone = [group("b", FAULT, Scored(9.0))]
    assert select(lone, GRPO, CAP).episodes == ()
    selection = select(lone, AlgorithmConfig(name="ppo"), CAP)
    assert [chosen.id for chosen in selection.episodes] == ["0/b/1"]
    assert selection.advantages == {}


@pytest.mark.parametrize("name", ["ppo", "reinforce_pp"])
def test_a_group_of_one_is_none_without_variance(name: str) -> None:
    """One answer a task (a), and one beside a fault (b), are no equal groups; two equal ones (c) are, two others (d) not."""
    groups = [
        group("a", Scored(1.0)),
        group("b", FAULT, Scored(2.0)),
        group("c", Scored(0.5), Scored(0.5)),
        group("d", Scored(0.0), Scored(1.0)),
    ]
    selection = select(groups, AlgorithmConfig(name=name), CAP)
    assert len(selection.differs) == 4
    assert selection.zero_variance_groups == 1


def test_long_answers_lose_reward() -> None:
    """cap 8, the last half of which is the buffer: 4 tokens lose nothing, 5 a quarter of the penalty of 2, 8 all of it.

    Rewards 1, 1, 1 become 1, 0.5, -1: they differ now.
    """
    members = tuple(episode("a", sample, turn((1,), (3,) * length)) for sample, length in enumerate((4, 5, 8)))
    algorithm = AlgorithmConfig(name="dapo", overlong_share=0.5, overlong_penalty=2.0)
    selection = select([Group(members, (Scored(1.0),) * 3)], algorithm, CAP)
    assert selection.rewards == pytest.approx((1.0, 0.5, -1.0))
    assert selection.zero_variance_groups == 0
    assert select([Group(members, (Scored(1.0),) * 3)], GRPO, CAP).zero_variance_groups == 1


@pytest.mark.parametrize("reward", [math.nan, math.inf])
def test_a_reward_that_is_no_number_is_an_error_that_names_its_episode(reward: float) -> None:
    with pytest.raises(RunError, match=r"reward of episode 0/a/1 is (nan|inf)"):
        select([group("a", Scored(1.0), Scored(reward))], GRPO, CAP)


def test_episodes_of_several_turns_train_the_policys_turns_only() -> None:
    """Episode 0: policy (2 tokens), partner, policy (1 token): two rows, one episode of 3 tokens."""
    talk = episode("a", 0, turn((1,), (4, 5)), turn((1, 4, 5), (9, 9), role="partner"), turn((1, 4, 5, 9), (6,)))
    pair = Group((talk, episode("a", 1, turn((1,), (7,)))), (Scored(1.0), Scored(0.0)))
    batch = batch_of(select([pair], GRPO, CAP))
    assert batch.rows == (Row((1,), ((4, 5),), (2,)), Row((1, 4, 5, 9), ((6,),), (1,)), Row((1,), ((7,),), (1,)))
    assert batch.behaviour_T.tolist() == [-0.5, -0.625, -0.75, -0.875]
    assert batch.episode_T.tolist() == [0, 0, 0, 1]
    assert batch.episode_R.tolist() == [0, 0, 1]
    assert batch.lengths_E.tolist() == [3, 1]


def test_mixed_temperatures_are_refused() -> None:
    mixed = (episode("a", 0, turn((1,), (2,))), episode("a", 1, turn((1,), (2,), temperature=0.5)))
    selection = select([Group(mixed, (Scored(1.0), Scored(0.0)))], GRPO, CAP)
    with pytest.raises(ValueError, match=r"several temperatures \[0.5, 1.0\]"):
        make_batch(selection, GRPO, CAP)


def test_the_first_ratio_is_one_at_another_temperature() -> None:
    """Behaviour log-probabilities of a sampler at T = 0.6, recomputed from Hugging Face's logits: softmax(logits / 0.6)."""
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, initializer_range=0.4, tie_word_embeddings=True,
    )  # fmt: skip
    model = Qwen3ForCausalLM(config).double().eval()
    generator = torch.Generator().manual_seed(2)
    episodes = []
    for sample in range(4):
        prompt = [1, 2 + sample, 3]
        tokens, logprobs = list(prompt), []
        for _ in range(3 + sample):
            with torch.no_grad():
                law = torch.log_softmax(model(torch.tensor([tokens])).logits[0, -1] / 0.6, -1)
            token = int(torch.multinomial(law.exp(), 1, generator=generator))
            tokens.append(token)
            logprobs.append(float(law[token]))
        sampled = Turn("policy", tuple(prompt), tuple(tokens[3:]), tuple(logprobs), "", "stop", 0.6, 0, 0)
        episodes.append(episode("a", sample, sampled))
    batch = batch_of(select([Group(tuple(episodes), tuple(Scored(float(i)) for i in range(4)))], GRPO, CAP))
    scores = torch.zeros(batch.total, dtype=torch.float64)
    with torch.no_grad():
        for microbatch in pack(batch.rows, 0, 1, 20, 0):
            scores[microbatch.flat] = TokenScorer(model)(microbatch, batch.temperature).logprobs
    # RMSNorm and the rotary positions round to float32 inside the float64 model.
    torch.testing.assert_close((scores - batch.behaviour_T).exp(), torch.ones_like(scores), rtol=0, atol=1e-5)
