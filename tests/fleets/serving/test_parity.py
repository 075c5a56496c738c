"""The parity gate: what passes it, and what each of its refusals says."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import RunError
from orchestrator.fleets.serving.parity import BOUNDS, Bound, ParityError, check_tensors, check_tokenizer, compare
from orchestrator.learning.tokenizer import build_tokenizer
from orchestrator.records.canary import Canary, Case, digests_of, rendered

FLOAT32 = Canary(
    "float32", False, (Case(None, (1,), (2, 3), (-1.0, -2.0)), Case(None, (4,), (5, 6), (-0.5, -0.25))), "a", "b"
)
MESSAGES = ({"role": "user", "content": "we could"},)


# Gaps 0, 4e-5, 8e-5 and 0: 1.2e-4 / 4 = 3e-5 on average, the largest 8e-5; both within 1e-4.
def test_gaps_are_absolute_and_over_all_numbers() -> None:
    parity = compare(FLOAT32, [[-1.0, -2.00004], (-0.49992, -0.25)])
    assert (parity.cases, parity.tokens) == (2, 4)
    assert parity.gap_mean == pytest.approx(3e-5)
    assert parity.gap_max == pytest.approx(8e-5)
    assert parity.bound == Bound(1e-4, 1e-4) == BOUNDS["float32"]


# One of four numbers 2e-4 off: the mean of 5e-5 is allowed, the largest is not.
def test_one_token_past_the_bound_is_refused_by_name() -> None:
    with pytest.raises(ParityError) as caught:
        compare(FLOAT32, [[-1.0, -2.0], [-0.5, -0.2502]])
    assert isinstance(caught.value, RunError)
    told = str(caught.value)
    assert "case 1, number 1: trained -0.250000, served -0.250200" in told
    assert "by 5e-05 on average and by 0.0002 at most; in float32 0.0001 and 0.0001 are allowed" in told
    assert "without quantisation" in told


# Four numbers 0.15 off are each far below 2, their mean is past 0.1; one number 0.3 off makes a mean of 0.075.
def test_in_bfloat16_the_mean_is_what_counts() -> None:
    canary = replace(FLOAT32, dtype="bfloat16")
    assert compare(canary, [[-1.3, -2.0], [-0.5, -0.25]]).gap_mean == pytest.approx(0.075)
    with pytest.raises(ParityError, match=r"0\.15 on average and by 0\.15 at most; in bfloat16 0\.1 and 2 are allowed"):
        compare(canary, [[-1.15, -2.15], [-0.65, -0.4]])


# A token 2.5 off among a hundred right ones: 0.025 on average.
def test_in_bfloat16_a_single_token_may_not_be_anything() -> None:
    long = Canary("bfloat16", False, (Case(None, (1,), (2,) * 100, (-1.0,) * 100),), "a", "b")
    with pytest.raises(ParityError, match=r"case 0, number 40: .* by 0\.025 on average and by 2\.5 at most"):
        compare(long, [[-1.0] * 40 + [-3.5] + [-1.0] * 59])


@pytest.mark.parametrize("broken", [math.nan, -math.inf])
def test_what_is_no_number_is_refused(broken: float) -> None:
    with pytest.raises(ParityError, match=r"case 0, number 0: trained -1\.000000, served -?(nan|inf)"):
        compare(replace(FLOAT32, dtype="bfloat16"), [[broken, -2.0], [-0.5, -0.25]])


def test_scores_of_a_head_are_compared_like_log_probabilities() -> None:
    canary = Canary("float32", False, (Case(MESSAGES, (1,), (2, 3), (), (3.5, -1.5)),), "a", "b")
    assert compare(canary, [[3.50005, -1.5]]).gap_max == pytest.approx(5e-5)
    with pytest.raises(ParityError, match=r"case 0, number 1: trained -1\.500000, served -1\.400000"):
        compare(canary, [[3.5, -1.4]])


def test_answers_to_other_questions_are_refused() -> None:
    with pytest.raises(ParityError, match="has 2 cases, and the server answered 1"):
        compare(FLOAT32, [[-1.0, -2.0]])
    with pytest.raises(ParityError, match=r"case 1 of canary\.json has 2 numbers, and the server computed 3"):
        compare(FLOAT32, [[-1.0, -2.0], [-0.5, -0.25, -0.1]])
    with pytest.raises(ParityError, match="has 0 cases"):
        compare(replace(FLOAT32, cases=()), [])
    with pytest.raises(ParityError, match="is of a model in float64; there are bounds for float32, bfloat16, float16"):
        compare(replace(FLOAT32, dtype="float64"), [[-1.0, -2.0], [-0.5, -0.25]])


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return loaded(tmp_path_factory.mktemp("tokenizer"), ("we", "could", "user", "assistant"))


def loaded(folder: Path, words: tuple[str, ...], template: str | None = None) -> Any:
    from transformers import AutoTokenizer

    build_tokenizer(words, (), 400, template, folder)
    return AutoTokenizer.from_pretrained(folder)


def canary_with(tokenizer: Any, thinking: bool = False) -> Canary:
    """Its first case is of several turns."""
    known = Case(MESSAGES, rendered(tokenizer, MESSAGES, thinking), (1,), (-1.0,))
    return Canary("float32", thinking, (Case(None, (1,), (2,), (-1.0,)), known), *digests_of(tokenizer))


def test_another_tokenizer_or_template_is_refused(tokenizer: Any, tmp_path: Path) -> None:
    canary = canary_with(tokenizer)
    check_tokenizer(canary, tokenizer)
    with pytest.raises(ParityError, match=r"the served tokenizer is not the one of training: .* beside the weights"):
        check_tokenizer(canary, loaded(tmp_path / "words", ("we", "would", "user", "assistant")))
    with pytest.raises(ParityError, match=r"the served chat template is not the one of training"):
        check_tokenizer(canary, loaded(tmp_path / "template", ("we", "could", "user", "assistant"), "{{ messages }}"))


# The prompt is <|im_start|> user we could <|im_end|> <|im_start|> assistant: 7 tokens, of which number 3 was another one.
def test_a_chat_that_renders_otherwise_is_refused(tokenizer: Any) -> None:
    canary = canary_with(tokenizer)
    first, known = canary.cases
    ids = known.prompt_ids
    assert len(ids) == 7
    other = replace(known, prompt_ids=(*ids[:3], 0, *ids[4:]))
    with pytest.raises(
        ParityError, match=r"case 1 of canary.json renders to 7 tokens and had 7 .* from token 3 on \(trained \(0,"
    ):
        check_tokenizer(replace(canary, cases=(first, other)), tokenizer)
    shorter = replace(known, prompt_ids=ids[:5])
    with pytest.raises(ParityError, match=r"renders to 7 tokens and had 5 in training; they differ from token 5 on"):
        check_tokenizer(replace(canary, cases=(first, shorter)), tokenizer)


def test_thinking_is_told_to_the_template(tmp_path: Path) -> None:
    """One token of the prompt says whether the model is to think."""
    template = "{{ messages[0]['content'] }}{% if enable_thinking %} yes{% else %} no{% endif %}"
    tokenizer = loaded(tmp_path, ("we", "could"), template)
    thinking = canary_with(tokenizer, thinking=True)
    check_tokenizer(thinking, tokenizer)
    with pytest.raises(ParityError, match="they differ from token 2 on"):
        check_tokenizer(replace(thinking, thinking=False), tokenizer)


SHAPE = {
    "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
    "head_dim": 8, "vocab_size": 32,
}  # fmt: skip


def folder_of(folder: Path, architecture: str, without: str = "", **further: Any) -> Path:
    """A folder with all tensors of the architecture but those that begin with `without`, and the further ones."""
    import torch
    import transformers
    from safetensors.torch import save_file

    kind = getattr(transformers, architecture)
    shape = SHAPE | {"num_experts": 2, "moe_intermediate_size": 8} if "Moe" in architecture else SHAPE
    config = kind.config_class(**shape, num_labels=1, tie_word_embeddings=True, architectures=[architecture])
    config.save_pretrained(folder)
    names = [name for name in kind(config).state_dict() if not (without and name.startswith(without))]
    save_file({name: torch.zeros(1) for name in [*names, *further.get("names", ())]}, folder / "model.safetensors")
    return folder


def test_a_folder_holds_the_model_alone(tmp_path: Path) -> None:
    """With the tied output head and without it; a reward model has a head of its own, which is no part of a language
    model: that of one layer has 14 tensors (embedding, head and norm, two norms, six of attention, three of the MLP)."""
    check_tensors(folder_of(tmp_path / "whole", "Qwen3ForCausalLM"))
    check_tensors(folder_of(tmp_path / "tied", "Qwen3ForCausalLM", without="lm_head"))
    check_tensors(folder_of(tmp_path / "reward", "Qwen3ForSequenceClassification"))
    scored = folder_of(tmp_path / "scored", "Qwen3ForCausalLM", names=["score.weight"])
    with pytest.raises(
        ParityError, match=r"1 of 15 tensors are no part of a Qwen3ForCausalLM.*: score\.weight \(unknown\)"
    ):
        check_tensors(scored)


def test_heads_of_training_are_refused_by_name(tmp_path: Path) -> None:
    for name, what in {
        "log_partition.layers.2.bias": "the log Z head of flowrl",
        "critic.head.weight": "a critic",
        "language_model.model.norm.weight": "a learner's own name for a weight",
        "model.layers.1.mlp.up_proj.weight": "unknown",
    }.items():
        folder = folder_of(tmp_path / name, "Qwen3ForCausalLM", names=[name])
        with pytest.raises(ParityError) as caught:
            check_tensors(folder)
        assert f"{name} ({what})" in str(caught.value)
        assert "the policy alone" in str(caught.value)


def test_experts_may_be_stored_together_or_apart(tmp_path: Path) -> None:
    """transformers holds the matrices of all experts in one tensor, folders on the hub have one an expert."""
    check_tensors(folder_of(tmp_path / "together", "Qwen3MoeForCausalLM"))
    layer = "model.layers.0.mlp.experts"
    apart = [f"{layer}.{expert}.{name}_proj.weight" for expert in (0, 1) for name in ("gate", "up", "down")]
    check_tensors(folder_of(tmp_path / "apart", "Qwen3MoeForCausalLM", without=layer, names=apart))
    third = folder_of(tmp_path / "third", "Qwen3MoeForCausalLM", names=[f"{layer}.2.up_proj.weight"])
    with pytest.raises(ParityError, match=r"experts\.2\.up_proj\.weight"):
        check_tensors(third)


def test_an_architecture_of_others_is_searched_for_the_learners_names(tmp_path: Path) -> None:
    def of_others(name: str, **further: Any) -> Path:
        folder = folder_of(tmp_path / name, "Qwen3ForCausalLM", **further)
        config = json.loads((folder / "config.json").read_text()) | {"architectures": ["TheirsForCausalLM"]}
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    check_tensors(of_others("plain", names=["theirs.weight"]))
    with pytest.raises(
        ParityError, match=r"no part of a TheirsForCausalLM.*log_partition\.x \(the log Z head of flowrl\)"
    ):
        check_tensors(of_others("flowrl", names=["log_partition.x"]))


def test_a_folder_without_weights_or_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParityError, match=r"holds no \*\.safetensors"):
        check_tensors(tmp_path)
    folder = folder_of(tmp_path / "x", "Qwen3ForCausalLM")
    (folder / "config.json").unlink()
    with pytest.raises(ParityError, match=r"its config\.json cannot be read"):
        check_tensors(folder)
