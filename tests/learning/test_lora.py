"""LoRA: only adapters are trained, servers and folders get the sum, and the policy without them is its own reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lora_ranks
import pytest
import torch
import torch.multiprocessing as multiprocessing
from conftest import free_port
from lora_ranks import LEARNING_RATE, LORA, STEPS, algorithm_of, batch_of
from torch import nn
from two_ranks import tiny_model

from orchestrator.cluster.memory import Work, learner_memory
from orchestrator.cluster.needs import needs_of
from orchestrator.config.compose import compose
from orchestrator.config.schema import LearnerConfig
from orchestrator.config.shapes import KNOWN, ModelShape
from orchestrator.errors import ConfigError, RunError
from orchestrator.learning.engine import buckets
from orchestrator.learning.lora import Adapted, adapted, check_origin, without_adapters
from orchestrator.learning.model import served_weights
from orchestrator.learning.objectives import OBJECTIVES
from orchestrator.learning.objectives.kl import k3
from orchestrator.learning.rows import pack

MATRICES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@pytest.fixture(scope="session")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Results of every case of `lora_ranks`."""
    folder: Path = tmp_path_factory.mktemp("lora")
    multiprocessing.spawn(lora_ranks.work, ((free_port(), free_port()), folder), nprocs=2)
    results: dict[str, Any] = torch.load(folder / "results.pt", weights_only=False)
    return results


def names(cases: list[Any]) -> list[str]:
    return [case.name for case in cases]


CASES = names(lora_ranks.TWO_RANKS + lora_ranks.ONE_RANK)
FLOAT32 = [name for name in CASES if "float32" in name]


# --- without an engine ---


def test_merged_is_the_sum_by_hand() -> None:
    # B A = [[1], [2]] [[3, 4]] = [[3, 4], [6, 8]]; half of it beside [[1, 1], [1, 1]].
    weight = Adapted(*(nn.Parameter(torch.tensor(x)) for x in ([[1.0, 1], [1, 1]], [[3.0, 4]], [[1.0], [2]])), 0.5)
    assert weight.merged().tolist() == [[2.5, 3.0], [4.0, 5.0]]
    assert not weight.merged().requires_grad


def test_merged_is_rounded_once() -> None:
    """1 + 1/512 + 1/512: bfloat16 has steps of 1/128 above 1, so 1 + 1/256 is half-way and would round to 1, and 1 + 3/512 to
    1 + 1/128. A product that was rounded before the sum, or a sum in bfloat16 term by term, would stay at 1."""
    half = torch.tensor([[1 / 512, 1 / 512, 1 / 512]], dtype=torch.bfloat16)
    parts = torch.ones((1, 1), dtype=torch.bfloat16), torch.ones((3, 1), dtype=torch.bfloat16), half
    merged = Adapted(*map(nn.Parameter, parts), 1.0).merged()
    assert merged.dtype == torch.bfloat16
    assert float(merged) == 1 + 1 / 128


def test_adapters_sit_on_the_matrices_of_the_layers_alone() -> None:
    model = adapted(tiny_model(tied=False), LearnerConfig(**LORA))
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert len(trained) == 2 * 2 * len(MATRICES)
    assert all(name.split(".")[-4] in MATRICES for name in trained)
    some = adapted(tiny_model(), LearnerConfig(**LORA, lora_targets="q_proj, v_proj"))
    assert sum(parameter.requires_grad for parameter in some.parameters()) == 2 * 2 * 2


def test_rank_0_leaves_the_model_as_it_is() -> None:
    model = tiny_model()
    assert adapted(model, LearnerConfig()) is model
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_the_seed_alone_decides_the_adapters() -> None:
    def a_of(seed: int) -> torch.Tensor:
        torch.rand(seed + 1)
        model = adapted(tiny_model(), LearnerConfig(**LORA), seed)
        return torch.cat([weight.a.flatten() for _, weight in served_weights(model) if isinstance(weight, Adapted)])

    state = torch.get_rng_state()
    first = a_of(1)
    torch.set_rng_state(state)
    assert torch.equal(first, a_of(1))
    assert not torch.equal(first, a_of(2))


def test_names_and_sizes_are_those_of_the_model_without_adapters() -> None:
    """A bucket's limit counts the base weights: two of 4 x 15 x 16 = 960 bytes fit into 2,000."""
    plain, model = tiny_model(), adapted(tiny_model(), LearnerConfig(**LORA))
    assert [name for name, _ in served_weights(model)] == [name for name, _ in served_weights(plain)]
    for limit in (1, 2000, 10**9):
        expected, found = (
            [[name for name, _ in part] for part in buckets(served_weights(one), limit)] for one in (plain, model)
        )
        assert found == expected


def test_unknown_layers_are_refused_with_those_that_exist() -> None:
    with pytest.raises(ConfigError, match=r"no linear layers named qkv.*down_proj, gate_proj.*all-linear"):
        adapted(tiny_model(), LearnerConfig(**LORA, lora_targets="q_proj,qkv"))


@pytest.mark.parametrize("targets", ["lm_head", "q_proj,embed_tokens", "q_proj,,v_proj", "''"])
def test_targets_that_cannot_work_are_refused(targets: str) -> None:
    with pytest.raises(ConfigError, match=r"learner\.lora_targets=.*all-linear"):
        compose("rlvr", ["learner.lora_rank=8", f"learner.lora_targets={targets}"])


def test_a_checkpoint_of_other_weights_is_refused() -> None:
    origin = {"base": "ab", "rank": 8, "alpha": 16.0, "targets": "all-linear"}
    check_origin(None, None, "step-1")
    check_origin(origin, dict(origin), "step-1")
    for saved, now, words in [
        (None, origin, "holds all weights and learner.lora_rank is not 0"),
        (origin, None, "holds adapters and learner.lora_rank is 0"),
        (origin, origin | {"base": "cd", "alpha": 8.0}, "another alpha and base"),
    ]:
        with pytest.raises(RunError, match=f"step-1: .*{words}.*run:NAME@STEP"):
            check_origin(saved, now, "step-1")


# --- under DeepSpeed ---


@pytest.mark.long
@pytest.mark.parametrize("name", CASES)
def test_the_policy_starts_as_the_starting_policy(tuned: dict[str, Any], name: str) -> None:
    """To the last bit, in the trainer and in what servers get; the first update's KL is therefore 0."""
    case = tuned["trained"][name]
    assert case["starts"]
    assert case["kl"][0] == 0
    assert 0 < case["kl"][1] < case["kl"][2]
    start = tuned["start"]["bfloat16" if "bfloat16" in name else "float32"]
    assert case["serves the start"].keys() == start.keys()
    assert all(torch.equal(start[key], tensor) for key, tensor in case["serves the start"].items())


@pytest.mark.long
@pytest.mark.parametrize("name", CASES)
def test_only_adapters_are_trained_and_saved(tuned: dict[str, Any], name: str) -> None:
    case = tuned["trained"][name]
    assert len(case["state"]) == 2 * 2 * len(MATRICES)
    assert all(".lora_A." in key or ".lora_B." in key for key in case["state"])
    assert all(slots.keys() == {"master", "exp_avg", "exp_avg_sq"} for slots in case["state"].values())
    start = tuned["start"]["bfloat16" if "bfloat16" in name else "float32"]
    frozen = {key.removeprefix("language_model.").replace(".base_layer", ""): t for key, t in case["frozen"].items()}
    assert frozen.keys() == start.keys()
    assert all(torch.equal(start[key], tensor) for key, tensor in frozen.items())
    changed = {key for key, tensor in case["second"].items() if not torch.equal(start[key], tensor)}
    assert changed == {key for key in start if any(matrix in key for matrix in MATRICES)}


@pytest.mark.long
@pytest.mark.parametrize("name", CASES)
def test_the_merged_folder_computes_what_the_trainer_computes(tuned: dict[str, Any], name: str) -> None:
    """Read by transformers. In float32 to rounding; a merged bfloat16 weight is rounded to 8 bits, as any weight is."""
    case = tuned["trained"][name]
    assert case["moved"] > 1
    bound = 1e-5 if "float32" in name else 0.05
    assert case["gap"]["logits"] < bound
    assert case["gap"]["logprobs"] < bound


def by_hand() -> tuple[dict[str, torch.Tensor], list[float]]:
    """The same updates without peft, DeepSpeed and our losses: W + 2 B A put into the plain model, one microbatch, AdamW."""
    algorithm, batch, model = algorithm_of(), batch_of(), tiny_model()
    start = adapted(tiny_model(), LearnerConfig(**LORA))
    factors = {
        name: tuple(part.detach().clone().requires_grad_() for part in (weight.a, weight.b))
        for name, weight in served_weights(start)
        if isinstance(weight, Adapted)
    }
    flat = [part for pair in factors.values() for part in pair]
    optimizer = torch.optim.AdamW(flat, lr=LEARNING_RATE, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0)
    (whole,) = pack(batch.rows, 0, 1, 10**6, 0)
    weights_E = OBJECTIVES["grpo"].aggregation(batch.lengths_E, batch.cap)
    own = dict(model.named_parameters())

    def logprobs() -> torch.Tensor:
        merged = {
            f"language_model.{name}": own[f"language_model.{name}"].detach() + 2.0 * (b @ a)
            for name, (a, b) in factors.items()
        }
        scores = torch.func.functional_call(model, merged, (whole,))
        return torch.zeros(batch.total).index_put((whole.flat,), scores.logprobs)

    base_T, norms = logprobs().detach(), []
    advantages_T = (OBJECTIVES["grpo"].advantage(_outcome(batch), algorithm)).float()
    for _ in range(STEPS + 1):
        now_T = logprobs()
        loss_T = -torch.exp(now_T - now_T.detach()) * advantages_T + algorithm.kl_weight * k3(now_T, base_T)
        optimizer.zero_grad()
        (weights_E[batch.episode_T].float() * loss_T).sum().backward()
        norms.append(float(nn.utils.clip_grad_norm_(flat, 1.0)))
        optimizer.step()
    prefix = "language_model."
    return {
        f"{prefix}{name.removesuffix('.weight')}.lora_{letter}.default.weight": part.detach()
        for name, pair in factors.items()
        for letter, part in zip("AB", pair, strict=True)
    }, norms


def _outcome(batch: Any) -> Any:
    from orchestrator.learning.objectives import Outcome

    return Outcome(batch.rewards_E, batch.group_E, batch.episode_T, None, None)


@pytest.fixture(scope="module")
def hand() -> tuple[dict[str, torch.Tensor], list[float]]:
    return by_hand()


@pytest.mark.long
@pytest.mark.parametrize("name", FLOAT32)
def test_updates_are_those_by_hand(tuned: dict[str, Any], name: str, hand: Any) -> None:
    """Three of them: whatever the ranks, the stage, offload and recomputation."""
    masters, norms = hand
    case = tuned["trained"][name]
    assert case["norms"] == pytest.approx(norms, rel=1e-4)
    assert case["third"].keys() == masters.keys()
    for key, expected in masters.items():
        torch.testing.assert_close(case["third"][key]["master"], expected, rtol=1e-3, atol=2e-4)


@pytest.mark.long
@pytest.mark.parametrize(
    ("source", "case"), [(a.name, b.name) for a, b in lora_ranks.RESUMES + lora_ranks.ONE_RANK_RESUMES]
)
def test_a_checkpoint_goes_on_as_if_nothing_had_been(tuned: dict[str, Any], source: str, case: str) -> None:
    """Taken over to the last bit on any ranks and stage, what servers get included; on the same ones the next update is too."""
    before, after = tuned["trained"][source], tuned["resumed"][f"{source} to {case}"]
    for key, slots in before["state"].items():
        for slot, tensor in slots.items():
            assert torch.equal(tensor, after["loaded"][key][slot]), (key, slot)
    assert all(torch.equal(before["second"][key], tensor) for key, tensor in after["served"].items())
    exact = source == case
    tolerance = 2e-3 if "bfloat16" in case else 1e-4
    for key, slots in before["third"].items():
        if exact:
            assert torch.equal(slots["master"], after["third"][key]["master"]), key
        else:
            # Adam turns the rounding of a small gradient into a part of a step.
            difference = (slots["master"] - after["third"][key]["master"]).abs()
            assert float(difference.mean()) < tolerance, key


@pytest.mark.long
@pytest.mark.parametrize("name", [f"{name} {case.name}" for name, case in lora_ranks.REFERENCES])
def test_the_policy_without_adapters_is_the_reference(tuned: dict[str, Any], name: str) -> None:
    """Against a second model: the same KL and the same updates to the last bit, without its memory."""
    shared, separate = (tuned["references"][name][key] for key in ("False", "True"))
    assert separate["second model"]
    assert not shared["second model"]
    assert shared["kl"] == separate["kl"]
    assert shared["kl"][-1] > 0.01
    for key, slots in shared["state"].items():
        assert all(torch.equal(tensor, separate["state"][key][slot]) for slot, tensor in slots.items()), key


@pytest.mark.long
@pytest.mark.parametrize(
    "name", [*(f"{name} 1" for name in OBJECTIVES), *(f"{name} 2" for name in lora_ranks.ON_TWO_RANKS)]
)
def test_every_objective_trains_adapters_and_what_is_its_own(tuned: dict[str, Any], name: str) -> None:
    """FlowRL's head whole; PPO's critic by adapters of its own and its head. Served under the names of the model alone."""
    case = tuned["objectives"][name]
    others = [key for key in case["names"] if ".lora_" not in key]
    heads = {
        "flowrl": [f"log_partition.layers.{i}.{j}{end}" for i in (0, 1) for j in (0, 2) for end in (".bias", ".weight")]
        + ["log_partition.layers.2.bias", "log_partition.layers.2.weight"],
        "ppo": ["critic.head.bias", "critic.head.weight"],
    }
    assert others == heads.get(name.split()[0], [])
    models = 2 if name.startswith("ppo") else 1
    assert len(case["names"]) - len(others) == models * 2 * 2 * len(MATRICES)
    assert case["same names"]
    assert len(case["changed"]) == 2 * len(MATRICES)
    assert case["taken over"]
    assert case["served alike"]


def test_within_the_reference_the_adapters_add_nothing() -> None:
    model, batch = adapted(tiny_model(), LearnerConfig(**LORA)), batch_of()
    (whole,) = pack(batch.rows, 0, 1, 10**6, 0)
    start = tiny_model()(whole).logprobs
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)
    away = model(whole).logprobs
    assert (away - start).abs().max() > 0.1
    with without_adapters(model):
        assert torch.equal(model(whole).logprobs, start)
    assert torch.equal(model(whole).logprobs, away)


# --- the estimate of memory ---


@pytest.mark.parametrize("name", ["Qwen3-0.6B", "Qwen2.5-7B", "Llama-3.2-1B"])
@pytest.mark.parametrize("targets", ["all-linear", "q_proj,v_proj"])
def test_the_number_of_adapter_parameters_is_pefts(name: str, targets: str) -> None:
    """Counted on the meta device, of two layers; peft itself says what all-linear is."""
    from dataclasses import replace

    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config, Qwen3Config

    shape = replace(KNOWN[name], layers=2)
    kind = {"Qwen3": Qwen3Config, "Qwen2": Qwen2Config, "Llama": LlamaConfig}[name[:5]]
    config = kind(
        vocab_size=shape.vocab, hidden_size=shape.hidden, intermediate_size=shape.intermediate, num_hidden_layers=2,
        num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads, head_dim=shape.head_dim,
        tie_word_embeddings=shape.tied,
    )  # fmt: skip
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
        chosen = targets if targets == "all-linear" else targets.split(",")
        trained, every = get_peft_model(model, LoraConfig(r=16, target_modules=chosen)).get_nb_trainable_parameters()
    learner = LearnerConfig(lora_rank=16, lora_targets=targets)
    assert shape.adapters(16, learner.lora_layers) == trained
    assert shape.parameters + trained == every


def test_memory_counts_adapters_alone() -> None:
    """A layer of 8 wide, 16 inside, one head of 8: 5 x 3 matrices. q, k, v, o of 8 x 8 take 16 a rank, gate, up, down of 8 x 16
    take 24: 4 x 16 + 3 x 24 = 136, times 2 layers times rank 4: 1,088. Weights: 2 x (4 x 64 + 3 x 128 + 16) + 8 + 32 x 8 = 1,576."""
    shape, work = ModelShape(32, 8, 2, 1, 1, 8, 16, tied=True), Work(64, 64, 32)
    learner = LearnerConfig(ranks=2, zero_stage=2, lora_rank=4)
    found = learner_memory(shape, learner, "bfloat16", work, reference=True, gpu=False)
    assert shape.parameters == 1576
    assert found.resident == {
        "weights": 2 * 1576, "adapters": 2 * 1088, "master weights": 4 * 544, "Adam moments": 8 * 544,
    }  # fmt: skip
    assert "reference" not in found.moments
    assert found.moments["step"]["gradients"] == 4 * 544
    assert all("gradient of the embedding" not in found.at(moment) for moment in found.moments)


def test_the_dry_run_says_what_is_trained() -> None:
    """Qwen3-0.6B, rank 16: 28 layers of q (1024 + 2048), k, v (1024 + 1024), o (2048 + 1024), gate, up, down (1024 + 3072):
    28 x 16 x 22,528 = 10,092,544 of 596,049,920."""
    config = compose("rlvr", ["model=hf:Qwen/Qwen3-0.6B", "learner.lora_rank=16"])
    assert any(
        "trains 10,092,544 parameters (1.69% of the policy's 596,049,920)" in fact
        for fact in needs_of(config, 80).facts
    )
    lessons = needs_of(compose("rlvr", ["learner.lora_rank=16"]), None).columns
    plain = needs_of(compose("rlvr", []), None).columns
    for ours, theirs in zip(lessons, plain, strict=True):
        assert (ours.parts == theirs.parts) == (not ours.phase.startswith("learning")), ours.phase
