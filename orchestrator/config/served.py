"""Settings of models that answer: their shape, their servers, their lesson, and what is asked of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from orchestrator.config.settings import group, setting


@dataclass
class ModelConfig:
    """A causal language model: a reference to weights, or the shape of one that is built on the spot."""

    name: str = setting(
        "mini", "`mini` (built on the spot), `hf:ID`, `path:FOLDER`, `run:NAME@step`; for judges also a URL."
    )
    hidden_size: int = setting(128, "Width of a model built on the spot.", low=8)
    layers: int = setting(4, "Layers of a model built on the spot.", low=1)
    heads: int = setting(4, "Attention heads of a model built on the spot.", low=1)
    kv_heads: int = setting(2, "Key-value heads of a model built on the spot.", low=1)
    bpe_tokens: int = setting(2048, "Vocabulary of the BPE that is trained when the data is real text.", low=300)
    tie_embeddings: bool = setting(True, "Share input and output embeddings of a model built on the spot.")
    context_tokens: int = setting(256, "Longest sequence, prompt and completion together.", low=8)
    thinking: bool = setting(
        False, "Let a chat template that knows it (Qwen3) open a thinking block; a verdict of one token needs it off."
    )
    dtype: str = setting("float32", "Precision of weights and activations.", choices=("float32", "bfloat16"))


@dataclass
class FleetConfig:
    """How many servers hold a model and what each of them needs."""

    servers: int = setting(1, "vLLM servers (Ray actors) that share the requests.", low=1)
    cpus_per_server: float = setting(0.5, "Logical CPUs that Ray reserves for a server.", low=0)
    gpus_per_server: float = setting(
        0,
        "GPUs of a server: several mean tensor parallelism, a fraction shares a GPU (gpu_memory_share must fit). 0 runs on the CPU.",
        low=0,
    )
    threads_per_server: int = setting(1, "Compute threads of a server on the CPU.", low=1)
    kv_cache_bytes: int = setting(
        256 * 2**20, "Memory for the key-value cache of a server (CPU); on GPUs see gpu_memory_share.", low=2**20
    )
    gpu_memory_share: float = setting(0.85, "Share of a GPU's memory that a server may use.", low=0.05, high=1)
    max_concurrent_sequences: int = setting(256, "Sequences that a server works on at once.", low=1)
    start_deadline_s: float = setting(600.0, "Longest wait for a server to be ready.", low=1, indifferent=True)
    request_deadline_s: float = setting(
        600.0, "Longest wait for one batch of requests before its server counts as hung.", low=1, indifferent=True
    )
    max_restarts: int = setting(3, "Restarts of a server that died before the run gives up.", low=0, indifferent=True)


@dataclass
class SftConfig:
    """Supervised training that precedes RL (a warm-up, a judge)."""

    steps: int = setting(200, "Optimizer steps; 0 skips the lesson and uses the model as it is.", low=0)
    examples_per_step: int = setting(32, "Examples a step, over all ranks.", low=1)
    learning_rate: float = setting(
        1e-3, "Peak of the learning-rate schedule (linear warm-up over 10 % of the steps, cosine to 10 %).", low=0
    )
    weight_decay: float = setting(0.01, "AdamW weight decay.", low=0)
    named_models: bool = setting(
        False, "Teach a model that was named (hf:, path:, run:) too, not only one that was built on the spot."
    )
    seed: int = setting(0, "Seed of the initial weights and of the order of examples.", low=0)


@dataclass
class ServedConfig:
    """A model that answers: weights that are served here, or a URL. scores: whether it gives scalars (`Call.scalar`) and no words."""

    scores: ClassVar[bool] = False

    name: str = setting(
        "mini", "The model: `mini`, `hf:ID`, `path:FOLDER`, `run:NAME@step` or the URL of an OpenAI-compatible server."
    )
    model: ModelConfig = group(ModelConfig, "Its shape. The model that is meant is the setting `name` beside it.")
    fleet: FleetConfig = group(FleetConfig, "Its servers.")
    served_name: str | None = setting(None, "Model name to ask a URL for (default: the first that it lists).")
    api_key_env: str = setting(
        "OPENAI_API_KEY", "Environment variable with the key for a URL. The key is never stored.", indifferent=True
    )
    call_deadline_s: float = setting(60.0, "Longest wait for one call of a URL.", low=1, indifferent=True)
    min_mass: float = setting(
        0.5, "Least P(yes)+P(no) of a valid verdict; below it the verdict is Unscored.", low=0, high=1
    )
    retries: int = setting(2, "Further attempts at a question that failed.", low=0)

    @property
    def elsewhere(self) -> bool:
        """Whether a URL answers, which takes nothing from this cluster."""
        return self.name.startswith(("http://", "https://"))


@dataclass
class RaterConfig(ServedConfig):
    """A model that a reward asks about answers."""

    training: SftConfig = group(SftConfig, "Its lesson before RL, if the workload has one.")
    shared: bool = setting(
        False,
        "Ask a pool of servers that all runs of the cluster with this model share, and that keeps its answers. The model must be "
        "named (run:NAME@ROLE, hf:, path:).",
    )


@dataclass
class RewardModelConfig(RaterConfig):
    """A reward model: a sequence classifier with one output, which scores whole answers."""

    scores: ClassVar[bool] = True

    name: str = setting(
        "mini",
        "The reward model: `mini`, `hf:ID`, `path:FOLDER`, `run:NAME@ROLE`, or the URL of one behind `orchestrate serve`.",
    )
    training: SftConfig = group(SftConfig, "Its lesson on preference pairs.")
    gate_accuracy: float = setting(
        0.0, "Least share of held-out pairs that it orders right after its lesson; 0 only reports it.", low=0, high=1
    )


@dataclass
class JudgeConfig(RaterConfig):
    """The judge that turns answers into rewards."""

    name: str = setting(
        "mini",
        "The judge's model: `mini`, `hf:ID`, `path:FOLDER`, `run:NAME@step` or the URL of an OpenAI-compatible server.",
    )
    model: ModelConfig = group(ModelConfig, "Shape of a judge built on the spot. Its name is judge.name.")
    fleet: FleetConfig = group(FleetConfig, "Servers of the judge.")
    training: SftConfig = group(SftConfig, "SFT on verdicts.")
    shared: bool = setting(
        False,
        "Ask a pool of servers that all runs of the cluster with this judge share, and that keeps its verdicts. A sweep sets it; the "
        "judge must be named (run:NAME@judge, hf:, path:).",
    )
    soft: bool = setting(False, "Use P(yes) itself instead of the thresholded verdict.")
    max_unscored_share: float = setting(
        0.2, "Largest share of unscored episodes in a step; above it the run stops.", low=0, high=1
    )
    gate_accuracy: float = setting(
        0.9, "Least held-out accuracy of a judge that was trained here; 0 only reports it.", low=0, high=1
    )
    gate_pair_order: float = setting(
        0.85, "Least share of held-out answer pairs ordered as the labels order them; 0 only reports it.", low=0, high=1
    )
    gate_rank_correlation: float = setting(
        0.9,
        "Least rank correlation (Kendall's tau-b within a prompt, the mean over held-out prompts) of its rewards with those of the "
        "labels; 0 only reports it.",
        low=0,
        high=1,
    )
    gate_injection_flips: float = setting(
        0.03, "Largest share of held-out verdicts that a planted verdict may turn; 1 only reports it.", low=0, high=1
    )
