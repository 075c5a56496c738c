"""What the real learner allocates, measured in one process of one rank: exact tensors between updates, the peak of an update."""

from __future__ import annotations

import gc
import os
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from orchestrator.config.schema import LearnerConfig
from orchestrator.config.shapes import ModelShape

DEEP = ModelShape(1024, 384, 6, 6, 2, 64, 1152, tied=True, qk_norm=True)
"""10.6 million weights whose layers decide."""
WIDE = ModelShape(12288, 256, 2, 4, 2, 64, 768, tied=False, qk_norm=True)
"""7.9 million weights whose logits decide."""
BUCKET_ELEMENTS = 1_000_000
LOGIT_ELEMENTS = 12288 * 256


@dataclass(frozen=True)
class Case:
    """row: tokens of each of the `rows` rows of a microbatch; the last `learned` of them are targets."""

    shape: ModelShape
    dtype: str
    stage: int
    checkpointing: bool
    reference: bool = False
    rows: int = 2
    row: int = 512
    learned: int = 64
    lora: int = 0

    @property
    def learner(self) -> LearnerConfig:
        return LearnerConfig(
            ranks=1, zero_stage=self.stage, gradient_checkpointing=self.checkpointing,
            tokens_per_microbatch=self.rows * self.row, learning_rate=1e-3, lora_rank=self.lora,
        )  # fmt: skip


def cases() -> dict[str, Case]:
    """Each precision with each stage, each stage with and without checkpointing; logits in chunks, and with a reference; LoRA."""
    return {
        "float32-2-kept": Case(DEEP, "float32", 2, False),
        "float32-3-checkpointed": Case(DEEP, "float32", 3, True),
        "bfloat16-2-checkpointed": Case(DEEP, "bfloat16", 2, True),
        "bfloat16-3-kept": Case(DEEP, "bfloat16", 3, False),
        # 2 x 448 = 896 targets of 12,288 logits, in chunks of 256; then 240 in one.
        "logits-chunks": Case(WIDE, "bfloat16", 2, True, learned=448),
        "logits-one": Case(WIDE, "float32", 2, True, reference=True, learned=120),
        "lora-float32-2-kept": Case(DEEP, "float32", 2, False, lora=16),
        "lora-bfloat16-2-checkpointed": Case(DEEP, "bfloat16", 2, True, lora=16),
        "lora-bfloat16-3-kept": Case(DEEP, "bfloat16", 3, False, lora=16),
        "lora-logits": Case(WIDE, "bfloat16", 2, True, learned=448, lora=16),
    }


def scorer(shape: ModelShape, dtype: str) -> Any:
    from transformers import AutoModelForCausalLM, Qwen3Config

    from orchestrator.learning.model import DTYPES, TokenScorer

    config = Qwen3Config(
        vocab_size=shape.vocab, hidden_size=shape.hidden, intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers, num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim, max_position_embeddings=1024, tie_word_embeddings=shape.tied,
    )  # fmt: skip
    return TokenScorer(AutoModelForCausalLM.from_config(config, attn_implementation="sdpa", dtype=DTYPES[dtype]))


def storages() -> dict[int, int]:
    """Bytes by address of every tensor that Python knows."""
    found = {}
    for item in gc.get_objects():
        if type(item) in (torch.Tensor, torch.nn.Parameter) and item.device.type != "meta":
            storage = item.untyped_storage()
            found[storage.data_ptr()] = storage.nbytes()
    return found


class Allocations:
    """Traces PyTorch's allocator while the block runs. peak: bytes above what was there when it began."""

    peak = 0

    def __enter__(self) -> Allocations:
        self._profile = torch.profiler.profile(
            activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True, acc_events=False
        )
        self._profile.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._profile.__exit__(*error)
        live = 0
        for event in self._profile.profiler.kineto_results.events():
            if event.name() == "[memory]":
                live += event.nbytes()
                self.peak = max(self.peak, live)


def measure(case: Case) -> dict[str, int]:
    """Bytes. resident: all tensors between two updates. score, step: the most during forward and backward of two microbatches
    and during the optimizer's step, what is resident included."""
    from orchestrator.learning.engine import Engine, frozen
    from orchestrator.learning.lora import adapted
    from orchestrator.learning.model import TokenScores
    from orchestrator.learning.rows import Microbatch, Row, pack

    gc.collect()
    elsewhere = storages().keys()
    engine = Engine(adapted(scorer(case.shape, case.dtype), case.learner), case.learner, 1e-3, case.dtype)
    reference = (
        frozen(scorer(case.shape, case.dtype), case.learner, case.dtype, engine.device) if case.reference else None
    )
    prefix = case.row - case.learned
    rows = [Row(tuple(range(1, prefix + 1)), (tuple(range(case.learned)),), (case.learned,))] * case.rows
    total = sum(row.targets for row in rows)
    packed = pack(rows, 0, 1, case.learner.tokens_per_microbatch, 0)
    assert len(packed) == 1

    def loss(scores: TokenScores, microbatch: Microbatch) -> torch.Tensor:
        if reference is None:
            return -scores.logprobs.sum() / total
        with torch.no_grad():
            asked = TokenScores(*reference(microbatch, 1.0)).logprobs
        return (scores.logprobs - asked).sum() / total

    engine.score(packed, total, loss=loss)
    engine.step(1e-3)
    resident = held(elsewhere)
    with Allocations() as scoring:
        engine.score(packed * 2, total, loss=loss)
    accumulated = held(elsewhere)
    with Allocations() as stepping:
        engine.step(1e-3)
    engine.close()
    return {"resident": resident, "score": resident + scoring.peak, "step": accumulated + stepping.peak}


def held(elsewhere: Collection[int]) -> int:
    """Bytes of all tensors but those at the addresses `elsewhere`."""
    gc.collect()
    return sum(size for address, size in storages().items() if address not in elsewhere)


def work(_: int, port: int, path: str, names: Sequence[str]) -> None:
    """The process: the named cases, their results saved under `path`."""
    os.environ.update(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=0, world_size=1)
    from orchestrator.learning import zero
    from orchestrator.learning.engine import start_deepspeed
    from orchestrator.learning.model import TokenScorer

    zero.BUCKET_ELEMENTS = BUCKET_ELEMENTS
    TokenScorer.logits_at_once = LOGIT_ELEMENTS
    start_deepspeed()
    torch.save({name: measure(cases()[name]) for name in names}, Path(path))
    torch.distributed.destroy_process_group()
