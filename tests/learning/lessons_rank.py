"""Reward models and classifiers under DeepSpeed, in one process of one rank; each case returns what its tests compare."""

from __future__ import annotations

import os
import random
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from orchestrator.config.schema import FleetConfig, LearnerConfig, ModelConfig, Role, RunConfig, SftConfig
from workloads.base import Branch, Example, Labelled, Preference

WORDS = ("good", "bad", "plain", "we", "could", "report", "tell", "the", "nurse", "user", "assistant", "system", ".")
CLASSES = ("good", "bad", "plain")
SHAPE = ModelConfig(hidden_size=32, layers=2, heads=2, kv_heads=1, context_tokens=64)
MESSAGES = ({"role": "user", "content": "could we tell the nurse"},)
FILLING = ("we", "could", "report", "tell", "the", "nurse")
HELD_OUT_PAIRS = 120


def answer(rng: random.Random, good: int, length: int) -> str:
    words = ["good"] * good + [rng.choice(FILLING) for _ in range(length - good)]
    rng.shuffle(words)
    return " ".join(words)


def pair_of(rng: random.Random, group: str) -> Preference:
    """The better answer has one or more "good" more; lengths say nothing."""
    more, less = sorted(rng.sample(range(6), 2), reverse=True)
    sides = [Branch(MESSAGES, answer(rng, count, rng.randrange(6, 10))) for count in (more, less)]
    return Preference(group, *sides)


def labelled_of(rng: random.Random, group: str) -> Labelled:
    """The class is the one word of the three that occurs."""
    label = rng.randrange(3)
    words = [rng.choice(FILLING) for _ in range(rng.randrange(4, 9))]
    words.insert(rng.randrange(len(words)), CLASSES[label])
    return Labelled(group, Branch(MESSAGES, " ".join(words)), label, CLASSES)


@dataclass
class ToyLesson:
    role: str
    kind: str
    taught: list[Any]
    asked: list[Any]
    end_token: bool = True
    gate: dict[str, float] = field(default_factory=dict)
    grading: str = ""

    def examples(self) -> list[Any]:
        return self.taught

    def held_out(self) -> list[Any]:
        return self.asked


def lessons() -> list[ToyLesson]:
    rng = random.Random(0)
    pairs = [pair_of(rng, f"group-{number // 2}") for number in range(300 + HELD_OUT_PAIRS)]
    texts = [labelled_of(rng, f"text-{number}") for number in range(200)]
    chats = [Example("chat", (Branch(MESSAGES, answer(rng, 2, 6)),)) for _ in range(8)]
    return [
        ToyLesson("policy", "sft", chats, []),
        ToyLesson("reward", "preference", pairs[:300], pairs[300:]),
        ToyLesson("sorter", "classification", texts[:150], texts[150:], end_token=False),
    ]


class ToyConfig(RunConfig):
    """Three models to teach, of which one is served."""

    def roles(self) -> dict[str, Role]:
        sft = SftConfig(steps=2, examples_per_step=4)
        training = SftConfig(steps=50, examples_per_step=32, learning_rate=1e-2)
        return {
            name: Role("mini", SHAPE, FleetConfig(), sft if name == "policy" else training, 0)
            for name in ("policy", "reward", "sorter")
        }


class ToyWorkload:
    def lessons(self) -> list[ToyLesson]:
        return lessons()

    def tasks(self, split: str) -> tuple[()]:
        return ()

    def tokenizer_texts(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return WORDS, ()

    def chat_template(self, role: str) -> None:
        return None


def stages(storage: Path) -> dict[str, Any]:
    """The lessons one after the other by one group of workers, as a run teaches them; taught once, they are found again."""
    from orchestrator.learning.starting import starting_model
    from orchestrator.loop import Rank
    from orchestrator.schooling import teach_role

    learner = LearnerConfig(ranks=1, tokens_per_microbatch=512)
    config, workload, told = ToyConfig(workload="toy", learner=learner), ToyWorkload(), []
    events = SimpleNamespace(progress=lambda *_: None, announce=told.append)
    director: Any = SimpleNamespace(events=events, ledger=SimpleNamespace(phase=lambda name: nullcontext()))
    rank = Rank(config, workload, director)

    def found() -> list[Any]:
        return [
            starting_model(name, role, learner, workload, workload.lessons(), storage)
            for name, role in config.roles().items()
        ]

    models = found()
    taught = [teach_role(rank, model) for model in models]
    return {
        "to_teach": [model.to_teach for model in models],
        "served": {model.role: model.served for model in models},
        "folders": {model.role: model.folder for model in taught},
        "again": [(model.folder, model.to_teach, model.served) for model in found()],
        "told": told,
    }


def scored_again(folder: str, lesson: ToyLesson) -> dict[str, Any]:
    """Scores of the held-out texts by transformers' own classifier, each text alone and all of them padded."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model, tokenizer = (
        AutoModelForSequenceClassification.from_pretrained(folder).eval(),
        AutoTokenizer.from_pretrained(folder),
    )
    texts = []
    for example in lesson.asked:
        for branch in (example.better, example.worse) if lesson.kind == "preference" else (example.branch,):
            prompt = tokenizer.apply_chat_template(list(branch.messages), add_generation_prompt=True, return_dict=True)[
                "input_ids"
            ]
            ending = [tokenizer.eos_token_id] if lesson.end_token else []
            texts.append([*prompt, *tokenizer.encode(branch.target, add_special_tokens=False), *ending])
    longest = max(map(len, texts))
    padded = torch.tensor([text + [tokenizer.pad_token_id] * (longest - len(text)) for text in texts])
    with torch.no_grad():
        alone = torch.cat([model(torch.tensor([text])).logits for text in texts])
        return {
            "kind": type(model).__name__, "labels": model.config.id2label, "problem": model.config.problem_type,
            "scores": alone, "padded": model(padded).logits,
        }  # fmt: skip


def trained_apart(folder: str, lesson: ToyLesson, stage: int) -> dict[str, Any]:
    """A few steps with the engine at hand: losses, the engine's own scores of the held-out rows, and the saved folder."""
    from transformers import AutoTokenizer

    from orchestrator.learning.head import sequence_scorer, sequence_settings
    from orchestrator.learning.lessons import KINDS
    from orchestrator.learning.model import build, save_folder, served_weights
    from orchestrator.learning.rows import pack
    from orchestrator.learning.teaching import targets_of, teach

    kind, tokenizer = KINDS[lesson.kind], AutoTokenizer.from_pretrained(folder)
    learner = LearnerConfig(ranks=1, zero_stage=stage, tokens_per_microbatch=256)
    assert kind.classes_of is not None
    classes, losses = kind.classes_of(lesson.taught), []
    rows, asked = (
        [kind.row_of(example, tokenizer, lesson.end_token, SHAPE) for example in some]
        for some in (lesson.taught, lesson.asked)
    )
    engine = teach(
        sequence_scorer(build(folder, 0, "float32", learner), classes), rows, kind.criterion,
        SftConfig(steps=3, examples_per_step=8, learning_rate=1e-2), learner,
        dtype="float32", rank=0, pad_id=0, progress=lambda step, loss: losses.append(loss),
    )  # fmt: skip
    scores = engine.score(pack(asked, 0, 1, 256, 0), len(targets_of(asked)))
    tensors: dict[str, torch.Tensor] = {}
    for bucket in engine.weights(served_weights(engine.module), 4096):
        tensors |= {name: tensor.clone() for name, tensor in bucket.items()}
    target = Path(folder).with_name(f"{lesson.role}-{stage}")
    save_folder(tensors, Path(folder), target, sequence_settings(folder, tokenizer, classes))
    engine.close()
    return {"losses": losses, "scores": torch.stack(tuple(scores), 1), "again": scored_again(str(target), lesson)}


def work(_: int, port: int, folder: str) -> None:
    """The process: every case, its results saved in the folder."""
    os.environ.update(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=0, world_size=1)
    from orchestrator.learning.engine import start_deepspeed

    start_deepspeed()
    _, reward, sorter = lessons()
    results = {"stages": stages(Path(folder))}
    built = next((Path(folder) / ".cache" / "built").glob("policy-*"))
    for lesson in (reward, sorter):
        results[lesson.role] = scored_again(results["stages"]["folders"][lesson.role], lesson)
        for stage in (2, 3):
            few = replace(lesson, asked=lesson.asked[:15])
            results[f"{lesson.role}-{stage}"] = trained_apart(str(built), few, stage)
    torch.save(results, Path(folder) / "results.pt")
    torch.distributed.destroy_process_group()
