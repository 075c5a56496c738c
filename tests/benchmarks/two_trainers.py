"""Two trainers of GRPO in one small world: trl's GRPOTrainer and our PolicyLearner, on the same model, prompts and reward.

The policy is asked to name things of a topic; the reward is a pure function of the prompt and the words of the answer.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "learning")]
os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1")

import torch  # noqa: E402
from invented import preset  # noqa: E402

from orchestrator.config.schema import LearnerConfig  # noqa: E402
from orchestrator.learning.batch import make_batch, select  # noqa: E402
from orchestrator.learning.model import TokenScorer  # noqa: E402
from orchestrator.learning.policy import PolicyLearner  # noqa: E402
from orchestrator.values import Episode, Group, Scored, Task, Turn  # noqa: E402

PAD, END = 0, 1
TOPICS = {
    "colour": ("red", "blue", "green", "grey", "pink", "white"),
    "animal": ("cat", "dog", "owl", "ant", "fox", "hen"),
    "tool": ("saw", "axe", "file", "drill", "spade", "brush"),
}
FORMS = ("name a {}", "now say the name of a {}")
"""Of two lengths, so that trl pads prompts on the left."""
PROMPTS = {form.format(topic): words for form in FORMS for topic, words in TOPICS.items()}
VOCABULARY = ("<pad>", "<end>", *dict.fromkeys(word for prompt in PROMPTS for word in prompt.split()))
VOCABULARY += tuple(word for words in TOPICS.values() for word in words)

PROMPTS_PER_STEP, SAMPLES, LONGEST = 4, 16, 6
LEARNING_RATE, BETA2 = 1e-3, 0.95
SCALE = 1000.0
"""Of the reward. trl divides by std + 1e-4, we by std + 1e-6: both vanish beside a large standard deviation."""

Completion = tuple[int, ...]
Step = list[tuple[str, list[Completion]]]
"""The prompts of a step, each with its completions (the end token included)."""


@dataclass
class Run:
    """rewards: mean of each step, as a share of the highest. steps: what was sampled. weights, moments: flat, after the first
    and the last step."""

    rewards: list[float] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    weights: list[torch.Tensor] = field(default_factory=list)
    moments: list[torch.Tensor] = field(default_factory=list)


def reward(prompt: str, completion: Sequence[int]) -> float:
    """Up to SCALE: four fifths for the share of words that belong to the topic, one for an end; nothing for an empty answer."""
    words = [VOCABULARY[token] for token in completion if token != END]
    if not words:
        return 0.0
    right = sum(word in PROMPTS[prompt] for word in words) / len(words)
    return SCALE * (0.8 * right + 0.2 * (completion[-1] == END))


def prompts_of(seed: int, steps: int) -> list[list[str]]:
    """The prompts of every step; no prompt twice in one step."""
    draws = random.Random(seed)
    return [draws.sample(list(PROMPTS), PROMPTS_PER_STEP) for _ in range(steps)]


def prompt_ids(prompt: str) -> tuple[int, ...]:
    return tuple(VOCABULARY.index(word) for word in prompt.split())


def language_model(seed: int) -> Any:
    """A Qwen3 with fresh weights, float32, the same for a seed."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=len(VOCABULARY), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=32, max_position_embeddings=32, tie_word_embeddings=True,
        initializer_range=0.15, attn_implementation="sdpa", pad_token_id=PAD, eos_token_id=END, bos_token_id=None,
    )  # fmt: skip
    return Qwen3ForCausalLM(config).float()


def mean_share(step: Step) -> float:
    return fmean(reward(prompt, completion) / SCALE for prompt, group in step for completion in group)


# --- trl ---


def theirs(seed: int, steps: int, epochs: int) -> Run:
    """trl's trainer, which samples with transformers' `generate`. epochs: optimizer steps on each batch."""
    from datasets import Dataset
    from transformers import PrinterCallback, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    run = Run()

    def score(prompts: list[str], completion_ids: list[list[int]], **_: Any) -> list[float]:
        starts = range(0, len(prompts), SAMPLES)
        run.steps.append([(prompts[at], [*map(tuple, completion_ids[at : at + SAMPLES])]) for at in starts])
        run.rewards.append(mean_share(run.steps[-1]))
        return [reward(*pair) for pair in zip(prompts, completion_ids, strict=True)]

    class Snapshots(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **its: Any) -> None:
            if state.global_step in (epochs, epochs * steps):
                parameters = list(its["model"].parameters())
                run.weights.append(flat(parameters))
                run.moments.append(flat([its["optimizer"].state[parameter]["exp_avg"] for parameter in parameters]))

    with tempfile.TemporaryDirectory() as folder:
        settings = GRPOConfig(
            # trl's own words for our settings. Most defaults are others.
            output_dir=folder, use_cpu=True, bf16=False, fp16=False, gradient_checkpointing=False, loss_type="grpo",
            scale_rewards="group", beta=0.0, epsilon=0.2, num_iterations=epochs, num_generations=SAMPLES,
            per_device_train_batch_size=PROMPTS_PER_STEP * SAMPLES, gradient_accumulation_steps=1,
            temperature=1.0, top_p=1.0, top_k=0, min_p=None, repetition_penalty=1.0, max_completion_length=LONGEST,
            mask_truncated_completions=False, shuffle_dataset=False, learning_rate=LEARNING_RATE, optim="adamw_torch",
            adam_beta1=0.9, adam_beta2=BETA2, adam_epsilon=1e-8, weight_decay=0.0, max_grad_norm=1.0,
            lr_scheduler_type="constant", warmup_steps=0, max_steps=epochs * steps, seed=1000 + seed, report_to="none",
            save_strategy="no", disable_tqdm=True, logging_strategy="no",
        )  # fmt: skip
        trainer = GRPOTrainer(
            model=language_model(seed), reward_funcs=score, args=settings, processing_class=tokenizer(),
            train_dataset=Dataset.from_list([{"prompt": prompt} for step in prompts_of(seed, steps) for prompt in step]),
            callbacks=[Snapshots()],
        )  # fmt: skip
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return run


def tokenizer() -> Any:
    """A word a token; only trl's side needs it."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({word: number for number, word in enumerate(VOCABULARY)}, unk_token="<pad>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="<end>", padding_side="left")


def flat(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.cat([tensor.detach().flatten().double() for tensor in tensors])


# --- ours ---


def ours(
    seed: int, steps: int, epochs: int = 1, learning_rate: float = LEARNING_RATE, given: list[Step] | None = None
) -> Run:
    """Our learner on completions that it samples, or on those that are given."""
    algorithm = preset("grpo", kl_weight=0.0, epochs_per_batch=epochs)
    config = LearnerConfig(ranks=1, zero_stage=2, learning_rate=learning_rate, adam_beta2=BETA2, max_grad_norm=1.0)
    learner = PolicyLearner(
        TokenScorer(language_model(seed)), None, config, algorithm, dtype="float32", rank=0, pad_id=PAD,
        max_logprob_gap=float("inf") if given else 1e-4, steps=steps,
    )  # fmt: skip
    draws = torch.Generator().manual_seed(2000 + seed)
    run = Run()
    for number, prompts in enumerate(prompts_of(seed, steps)):
        if given:
            step = given[number]
            assert [prompt for prompt, _ in step] == prompts, "both see the same prompts in the same order"
            logprobs = [[(0.0,) * len(completion) for completion in group] for _, group in step]
        else:
            sampled = [sample(learner, prompt, draws) for prompt in prompts]
            step = [(prompt, completions) for prompt, (completions, _) in zip(prompts, sampled, strict=True)]
            logprobs = [group for _, group in sampled]
        run.steps.append(step)
        run.rewards.append(mean_share(step))
        batch = make_batch(select(groups_of(number, step, logprobs), algorithm, LONGEST), algorithm, LONGEST)
        # None where no group's rewards differ: trl then steps with a gradient of 0, we not at all.
        if batch is not None:
            learner.update(batch)
        if number in (0, steps - 1):
            state = list(learner.engine.state())
            run.weights.append(flat([slots["master"] for _, slots in state]))
            run.moments.append(flat([slots["exp_avg"] for _, slots in state]))
    learner.engine.close()
    return run


def groups_of(number: int, step: Step, logprobs: list[list[tuple[float, ...]]]) -> list[Group]:
    groups = []
    for (prompt, completions), group in zip(step, logprobs, strict=True):
        episodes = tuple(
            Episode(
                Task(prompt, ()), number, index,
                (Turn("policy", prompt_ids(prompt), completion, group[index], "", "stop", 1.0, number, 0),),
            )
            for index, completion in enumerate(completions)
        )  # fmt: skip
        groups.append(Group(episodes, tuple(Scored(reward(prompt, completion)) for completion in completions)))
    return groups


@torch.no_grad()
def sample(
    learner: PolicyLearner, prompt: str, draws: torch.Generator
) -> tuple[list[Completion], list[tuple[float, ...]]]:
    """One group by the learner's own weights, with the log-probability of each token."""
    model: Any = learner.engine.module.eval().language_model
    start = prompt_ids(prompt)
    ids = torch.tensor([start] * SAMPLES)
    columns = []
    for _ in range(LONGEST):
        law = torch.log_softmax(model(ids).logits[:, -1], -1)
        token = torch.multinomial(law.exp(), 1, generator=draws)
        columns.append(law.gather(1, token))
        ids = torch.cat([ids, token], 1)
    logprobs = torch.cat(columns, 1)
    completions, kept = [], []
    for row, values in zip(ids[:, len(start) :].tolist(), logprobs.tolist(), strict=True):
        length = row.index(END) + 1 if END in row else LONGEST
        completions.append(tuple(row[:length]))
        kept.append(tuple(values[:length]))
    return completions, kept
