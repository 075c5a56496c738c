"""A reward's questions about logits, answered by a learner of one rank or two, and by transformers alone.

The ids and the positions that transformers is asked for are counted by hand here, and owe nothing to `learning.spans`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch

from orchestrator.config.schema import AlgorithmConfig, LearnerConfig, ModelConfig
from orchestrator.learning.model import TokenScorer
from orchestrator.learning.policy import PolicyLearner
from orchestrator.learning.spans import read
from orchestrator.learning.tokenizer import build_tokenizer
from orchestrator.values import LogitAnswer, LogitQuery, Turn

WORDS = ("so", "why", "36", "48", "m", "[", "]", "<answer>", "</answer>")
CHAT = ({"role": "user", "content": "why"},)
VERSION = 17
CONTEXT = 24


def tokenizer_in(folder: Path) -> Any:
    from transformers import AutoTokenizer

    build_tokenizer(WORDS, (), 0, None, folder)
    return AutoTokenizer.from_pretrained(folder)


def model_for(tokenizer: Any) -> TokenScorer:
    """Logits of several units, so that differences show."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, max_position_embeddings=32, tie_word_embeddings=True, initializer_range=0.5,
        attn_implementation="sdpa",
    )  # fmt: skip
    return TokenScorer(Qwen3ForCausalLM(config))


def questions(tokenizer: Any) -> list[tuple[LogitQuery, list[int], list[int]]]:
    """(query, ids, positions of its tokens in them)."""

    def ids_of(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    def turn(prompt: list[int]) -> Turn:
        text = tokenizer.decode(said, skip_special_tokens=True).strip()
        return Turn("policy", tuple(prompt), tuple(said), (-1.0,) * len(said), text, "stop", 1.0, 0, 0)

    # "so so<answer> [ 36 m ]</answer>", then the end: 36 is the fifth token, m the sixth.
    said = [*ids_of("so so <answer> [ 36 m ] </answer>"), tokenizer.eos_token_id]
    generated, far = turn(ids_of("why so why")), turn(ids_of(" ".join(["why so"] * 10)))
    place = generated.text.index("36")
    kept = generated.text.index("[") + 1
    chat = list(tokenizer.apply_chat_template(list(CHAT), add_generation_prompt=True, return_dict=True)["input_ids"])
    direct, gold = "<answer> [ 48 ] </answer>", ids_of("<answer> [ 48 ]")
    start = direct.index("48")
    prompt = list(generated.prompt_ids)
    return [
        (LogitQuery(generated, ((place, place + 4),)), [*prompt, *said], [3 + 4, 3 + 5]),
        (LogitQuery(CHAT, ((start, start + 2),), direct), [*chat, *gold], [len(chat) + 2]),
        (LogitQuery(generated, ((kept + 1, kept + 3),), " 48 ]", kept), [*prompt, *said[:4], *ids_of("48")], [3 + 4]),
        (LogitQuery(CHAT, ((start, start + 2),), direct), [*chat, *gold], [len(chat) + 2]),
        # Twenty tokens of prompt and six up to m in a context of 24: two are cut.
        (LogitQuery(far, ((place, place + 4),)), [*far.prompt_ids[2:], *said], [18 + 4, 18 + 5]),
    ]


def answered(folder: Path, rank: int, config: LearnerConfig) -> dict[str, Any]:
    """What the learner says, what transformers says, and how many targets were scored."""
    tokenizer = tokenizer_in(folder / f"tokenizer-{rank}-{config.zero_stage}-{config.ranks}")
    learner = PolicyLearner(
        model_for(tokenizer), None, config, AlgorithmConfig(), dtype="float32", rank=rank, pad_id=0,
        max_logprob_gap=1.0, steps=1, reader=partial(read, tokenizer=tokenizer, model=ModelConfig(context_tokens=CONTEXT)),
    )  # fmt: skip
    asked, totals = questions(tokenizer), []
    score = learner.engine.score

    def counted(microbatches: Any, total: int) -> Any:
        totals.append(total)
        return score(microbatches, total)

    learner.engine.score = counted  # type: ignore[method-assign, assignment]
    answers = learner.answer([*(query for query, _, _ in asked), LogitQuery(CHAT, (), "so")], VERSION)
    none = learner.answer([LogitQuery(CHAT, ())], VERSION)
    return {"answers": answers, "none": none, "expected": plain(tokenizer), "totals": totals}


def plain(tokenizer: Any) -> list[LogitAnswer]:
    model, expected = model_for(tokenizer).language_model.eval(), []
    for query, ids, places in questions(tokenizer):
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0]
        before, tokens = [place - 1 for place in places], [ids[place] for place in places]
        logprobs = torch.log_softmax(logits, -1)[before, tokens]
        cut = 2 if isinstance(query.before, Turn) and len(query.before.prompt_ids) == 20 else 0
        expected.append(
            LogitAnswer(float(logits[before, tokens].mean()), float(logprobs.mean()), VERSION, len(places), cut)
        )
    return expected
