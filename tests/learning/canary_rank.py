"""Canaries of small models under DeepSpeed, written by one process of one rank with what the loop and the lessons use."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from orchestrator.config.schema import LearnerConfig, ModelConfig
from orchestrator.learning.rows import Row, pack
from orchestrator.records.canary import Case

WORDS = ("we", "could", "report", "user", "assistant")
SHAPE = ModelConfig(hidden_size=32, layers=2, heads=2, kv_heads=1, context_tokens=128)
CASES = [
    Case(None, (3, 260, 261), (262, 9, 4)),
    Case(None, (261,), (262,)),
    Case(None, tuple(range(3, 40)), tuple(range(100, 164))),
]
CLASSES = ("good", "bad", "plain")
KINDS = ("policy", "flowrl", "adapted", "rounded", "sorter")


def scorer_of(kind: str, built: Path, learner: LearnerConfig) -> Any:
    """A policy; one with a log Z; one with adapters that change it; one in bfloat16; a classifier, its head not at 0."""
    from orchestrator.learning.head import sequence_scorer
    from orchestrator.learning.lora import adapted
    from orchestrator.learning.model import build
    from orchestrator.learning.partition import PartitionScorer

    scorer: Any = build(built, 0, "bfloat16" if kind == "rounded" else "float32")
    if kind == "flowrl":
        scorer = PartitionScorer(scorer, dropout=0.5)
    if kind == "adapted":
        scorer = adapted(scorer, learner)
    if kind == "sorter":
        scorer = sequence_scorer(scorer, CLASSES)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in scorer.named_parameters():
            if "lora_B" in name or name.startswith("head"):
                parameter.normal_(0, 0.1)
    return scorer


def trained(kind: str, built: Path, folder: Path | None) -> dict[str, torch.Tensor]:
    """Two steps of training, and between them, given a folder, the model written there with its canary. Returns the weights."""
    from orchestrator.learning.canaries import canary_of
    from orchestrator.learning.engine import Engine
    from orchestrator.learning.head import sequence_settings
    from orchestrator.learning.model import save_folder, served_weights
    from orchestrator.learning.starting import load_tokenizer

    shape = replace(SHAPE, dtype="bfloat16" if kind == "rounded" else "float32")
    learner = LearnerConfig(ranks=1, zero_stage=2, lora_rank=2 if kind == "adapted" else 0)
    engine = Engine(scorer_of(kind, built, learner), learner, 1e-2, shape.dtype)
    train(engine)
    if folder:
        tokenizer, sequences = load_tokenizer(str(built)), kind == "sorter"
        canary = canary_of(engine, CASES, tokenizer, shape, rank=0, pad_id=0, tokens=64, sequences=sequences)
        tensors: dict[str, torch.Tensor] = {}
        for bucket in engine.weights(served_weights(engine.module), 2**20):
            tensors |= {name: tensor.clone() for name, tensor in bucket.items()}
        settings = sequence_settings(str(built), tokenizer, CLASSES) if sequences else None
        save_folder(tensors, built, folder, settings, canary)
    train(engine)
    weights = {name: slots["master"] for name, slots in engine.state()}
    engine.close()
    return weights


def train(engine: Any) -> None:
    """One step; where there is a dropout, it draws random numbers."""
    microbatches = pack([Row((3, 4), ((5,),), (1,))], 0, 1, 64, 0)
    engine.score(microbatches, 1, loss=lambda scores, _: scores[0].sum() + scores[-1].sum())
    engine.step(1e-3)


def work(_: int, folder: Path) -> None:
    """The process: every kind with a canary written and without, and whether the training was the same."""
    os.environ.update(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0", MASTER_ADDR="127.0.0.1", MASTER_PORT="0")
    torch.set_num_threads(1)
    store = torch.distributed.FileStore(str(folder / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    from orchestrator.learning.engine import start_deepspeed

    start_deepspeed()
    same = {}
    for kind in KINDS:
        one, other = (trained(kind, folder / "built", where) for where in (folder / kind, None))
        same[kind] = one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    torch.save(same, folder / "same.pt")
    torch.distributed.destroy_process_group()
