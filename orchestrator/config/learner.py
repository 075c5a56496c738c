"""The settings of DeepSpeed training (`orchestrator.learning`)."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.config.settings import setting


@dataclass
class LearnerConfig:
    """DeepSpeed training."""

    ranks: int = setting(2, "Data-parallel processes.", low=1)
    gpus_per_rank: float = setting(
        0, "1 trains on GPUs, a fraction shares one with other processes, 0 trains on the CPU.", low=0, high=1
    )
    cpus_per_rank: float = setting(0.5, "Logical CPUs that Ray reserves for a rank.", low=0)
    threads_per_rank: int = setting(
        1, "Compute threads of a rank on the CPU, which also take an offloaded optimizer's step.", low=1
    )
    zero_stage: int = setting(2, "DeepSpeed ZeRO stage.", low=0, high=3)
    offload_optimizer: bool = setting(
        False,
        "Keep master weights and optimizer states in the host's memory (ZeRO-2 and 3); slower, saves 12 bytes a parameter.",
    )
    offload_parameters: bool = setting(False, "Keep the weights in the host's memory between their uses (ZeRO-3).")
    lora_rank: int = setting(
        0,
        "Rank of LoRA adapters, which RL then trains instead of the weights; 0 trains all weights. Lessons always train all weights.",
        low=0,
    )
    lora_alpha: float = setting(32.0, "Adapters are scaled by lora_alpha / lora_rank.", low=1)
    lora_targets: str = setting(
        "all-linear",
        "Linear layers that get adapters: `all-linear` (all but the output head), or names with commas, as q_proj,v_proj.",
    )
    learning_rate: float = setting(1e-6, "Peak learning rate of RL.", low=0)
    schedule: str = setting(
        "constant",
        "Learning rate after the warm-up: constant, or falling to min_learning_rate_share of the peak at the last step. A resumed "
        "run with more `steps` goes on along the longer schedule.",
        choices=("constant", "linear", "cosine"),
    )
    min_learning_rate_share: float = setting(
        0.1, "Where linear and cosine schedules end, as a share of the peak.", low=0, high=1
    )
    warmup_steps: int = setting(0, "Steps of linear warm-up.", low=0)
    weight_decay: float = setting(0.0, "AdamW weight decay.", low=0)
    adam_beta2: float = setting(0.95, "AdamW second-moment decay.", low=0, high=1)
    max_grad_norm: float = setting(1.0, "Global gradient norm clip.", low=0)
    tokens_per_microbatch: int = setting(16384, "Token budget of one forward pass on a rank, padding included.", low=16)
    gradient_checkpointing: bool = setting(False, "Recompute activations in the backward pass to save memory.")
    max_restarts: int = setting(
        2, "Restarts from the newest checkpoint after a rank was lost, before it gives up.", low=0, indifferent=True
    )
    collective_deadline_s: float = setting(1800.0, "Longest wait of one rank for the others.", low=10, indifferent=True)

    @property
    def lora_layers(self) -> tuple[str, ...] | None:
        """The names in lora_targets; None where every linear layer is meant."""
        if self.lora_targets == "all-linear":
            return None
        return tuple(name.strip() for name in self.lora_targets.split(","))
