"""What DeepSpeed is told: the ZeRO stage, what lives in the host's memory, and models that are sharded from their birth."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from orchestrator.config.schema import LearnerConfig
from orchestrator.errors import ConfigError

PERSISTENT_ELEMENTS = 100_000
"""ZeRO-3 keeps smaller parameters (norms) whole on every rank: gathering them would take longer than it saves."""

BUCKET_ELEMENTS = 50_000_000
"""Gradients that are reduced at once. DeepSpeed's default of 500 million reserves a gigabyte of a GPU in bfloat16."""


def deepspeed_config(learner: LearnerConfig, dtype: str, learning_rate: float | None) -> dict[str, Any]:
    """The DeepSpeed JSON. Gradients accumulate until the step, whatever the number of microbatches.

    learning_rate: None for a frozen model, which has no optimizer. Raises ConfigError where the ZeRO stage cannot offload.
    """
    config: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        "gradient_clipping": learner.max_grad_norm,
        "zero_optimization": _zero(learner, optimizer=learning_rate is not None),
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": dtype == "bfloat16"},
        # Microbatch gradients of a bfloat16 model would otherwise be summed in bfloat16.
        "data_types": {"grad_accum_dtype": "fp32"} if learner.zero_stage >= 2 else {},
        "steps_per_print": 10**9,
    }
    if learning_rate is not None:
        adam = {
            "lr": learning_rate,
            "betas": [0.9, learner.adam_beta2],
            "eps": 1e-8,
            "weight_decay": learner.weight_decay,
            # DeepSpeed's own Adam would be compiled at the first run, with g++ or nvcc; PyTorch's is there already.
            "torch_adam": True,
        }
        if learner.offload_optimizer:
            # One pass over the host's memory instead of one an operation: six times as fast.
            adam["fused"] = True
        config["optimizer"] = {"type": "AdamW", "params": adam}
    return config


def _zero(learner: LearnerConfig, optimizer: bool) -> dict[str, Any]:
    stage = learner.zero_stage
    if learner.offload_optimizer and stage < 2:
        raise ConfigError(f"learner.offload_optimizer needs learner.zero_stage=2 or 3, and it is {stage}.")
    if learner.offload_parameters and stage < 3:
        raise ConfigError(f"learner.offload_parameters needs learner.zero_stage=3, and it is {stage}.")
    host = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    zero: dict[str, Any] = {"stage": stage, "reduce_bucket_size": BUCKET_ELEMENTS}
    if stage == 3:
        zero["stage3_param_persistence_threshold"] = PERSISTENT_ELEMENTS
    if learner.offload_optimizer and optimizer:
        zero["offload_optimizer"] = host
    if learner.offload_parameters:
        zero["offload_param"] = host
    return zero


@contextmanager
def born_sharded(learner: LearnerConfig, dtype: str) -> Iterator[None]:
    """Under ZeRO-3, models that transformers makes within are sharded layer by layer: no rank's device holds a whole one.

    Collective then: every rank makes the same models. At other stages nothing happens.
    """
    if learner.zero_stage < 3:
        yield
        return
    from transformers.integrations import deepspeed as integration

    # Transformers keeps a weak reference; while it lives, `from_pretrained` and `from_config` shard.
    alive = integration.HfDeepSpeedConfig(deepspeed_config(learner, dtype, None))
    try:
        yield
    finally:
        del alive
        integration.unset_hf_deepspeed_config()


def forget(modules: set[nn.Module]) -> None:
    """Take the modules of a destroyed engine from ZeRO-3's global lists and caches: they hold its weights and moments."""
    from deepspeed.runtime.zero import parameter_offload, partitioned_param_coordinator

    stack = parameter_offload.FWD_MODULE_STACK
    stack[:] = [module for module in stack if module not in modules]
    # A method remembers its results for good, its object among the arguments. Other engines compute theirs again.
    for method in filter(
        inspect.isfunction, vars(partitioned_param_coordinator.PartitionedParameterCoordinator).values()
    ):
        for wrapped in inspect.getclosurevars(method).nonlocals.values():
            if hasattr(wrapped, "cache_clear"):
                wrapped.cache_clear()
