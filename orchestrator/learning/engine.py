"""One DeepSpeed engine behind few words: accumulate gradients over microbatches, step, read and write its whole state."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from orchestrator.config.schema import LearnerConfig
from orchestrator.errors import RunError
from orchestrator.learning.lora import Weight, parts_of, whole
from orchestrator.learning.rows import Microbatch
from orchestrator.learning.zero import deepspeed_config, forget

ADAM_STATES = ("exp_avg", "exp_avg_sq")

MicrobatchLoss = Callable[[Any, Microbatch], torch.Tensor]
"""(the model's scores, microbatch) -> the loss summed over its targets, already weighted so that the sum over the whole batch is
the loss."""


def start_deepspeed() -> None:
    """Join DeepSpeed to the process group that Ray Train has set up."""
    import deepspeed
    from deepspeed import ops

    # DeepSpeed's calls, not ours; under ZeRO-3 a line for every gathering.
    warnings.filterwarnings("ignore", r"`torch\.distributed\.\w+` is deprecated", FutureWarning)
    # Its shared-memory all-reduce for CPU ranks would be compiled with g++ for a minute; gloo does the same work.
    ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_backend=dist.get_backend(), auto_mpi_discovery=False, verbose=False)


def frozen(model: nn.Module, learner: LearnerConfig, dtype: str, device: torch.device) -> nn.Module:
    """A model that is only asked: sharded like the trained one under ZeRO-3, else whole on the device.

    Called like the model. Collective under ZeRO-3. With learner.offload_parameters its shards wait in the host's memory.
    """
    import deepspeed

    model.requires_grad_(False).eval()
    if learner.zero_stage < 3:
        return model.to(device)
    # Without an optimizer DeepSpeed only gathers and releases.
    sharded, *_ = deepspeed.initialize(model=model, config=deepspeed_config(learner, dtype, None))
    sharded.eval()
    return sharded


class Engine:
    """A model under DeepSpeed. Every method is collective: all ranks call it with the same arguments."""

    def __init__(self, model: Any, learner: LearnerConfig, learning_rate: float, dtype: str) -> None:
        """model: a module with a `language_model` and `scores`, the named tuple of [T] tensors that its forward returns."""
        import deepspeed

        if learner.gradient_checkpointing:
            model.language_model.gradient_checkpointing_enable({"use_reentrant": False})
        self._scores: Any = model.scores
        self.ranks = dist.get_world_size()
        self.stage = learner.zero_stage
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        config = deepspeed_config(learner, dtype, learning_rate)
        self._deepspeed, *_ = deepspeed.initialize(model=model, config=config, model_parameters=trained)
        self.module: nn.Module = self._deepspeed.module
        self.device: torch.device = self._deepspeed.device
        self._has_moments = False

    def score(
        self,
        microbatches: Sequence[Microbatch],
        total: int,
        temperature: float = 1.0,
        loss: MicrobatchLoss | None = None,
    ) -> Any:
        """Scores of all `total` targets of the batch in flat order, as the model's own tuple: float64 on the CPU, the same on
        every rank.

        With a loss its gradient is accumulated too, until `step`. DeepSpeed averages over ranks; the microbatches' losses are
        parts of one sum, so each is scaled by the number of ranks.
        """
        flat = torch.zeros((len(self._scores._fields), total), dtype=torch.float64, device=self.device)
        self.module.train(loss is not None)
        for microbatch in microbatches:
            local = microbatch.to(self.device)
            with torch.set_grad_enabled(loss is not None):
                # ZeRO-3's hooks hand a named tuple back as a plain one.
                scores = self._scores(*self._deepspeed(local, temperature))
            if loss is not None:
                self._deepspeed.backward(loss(scores, local) * self.ranks, scale_wrt_gas=False)
            real = local.flat >= 0
            for index, values in enumerate(scores):
                flat[index, local.flat[real]] = values.detach()[real].double()
        dist.all_reduce(flat)
        return self._scores(*flat.cpu())

    def step(self, learning_rate: float) -> float:
        """Apply the accumulated gradient. Returns its norm before clipping."""
        for group in self._deepspeed.optimizer.param_groups:
            group["lr"] = learning_rate
        norm = None
        if self.stage == 0:
            # Without ZeRO, DeepSpeed clips but keeps the norm to itself. Averaging gradients that are already equal on every
            # rank changes nothing, so its own reduction inside `step` does no harm.
            self._deepspeed.buffered_allreduce_fallback()
            gradients = [parameter.grad for _, parameter in self.parameters() if parameter.grad is not None]
            norm = torch.nn.utils.get_total_norm(gradients)
        self._deepspeed.step()
        self._has_moments = True
        return float(norm if norm is not None else self._deepspeed.get_global_grad_norm())

    def close(self) -> None:
        """Give back what the engine holds; DeepSpeed's hooks keep it alive otherwise."""
        modules = set(self.module.modules())
        self._deepspeed.destroy()
        del self._deepspeed, self.module
        forget(modules)
        del modules
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def total(self, value: torch.Tensor) -> float:
        """Sum of a scalar over ranks."""
        on_device = value.to(self.device)
        dist.all_reduce(on_device)
        return float(on_device)

    def parameters(self) -> list[tuple[str, nn.Parameter]]:
        """Trained parameters by name, in a fixed order."""
        return [(name, parameter) for name, parameter in self.module.named_parameters() if parameter.requires_grad]

    def frozen_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """The others, in a fixed order: what adapters are added to."""
        return [(name, parameter) for name, parameter in self.module.named_parameters() if not parameter.requires_grad]

    def weights(self, chosen: Sequence[tuple[str, Weight]], bucket_bytes: int) -> Iterator[dict[str, torch.Tensor]]:
        """Full weights in the model's precision, where they lie, gathered a bucket at a time (ZeRO-3 holds shards), adapters
        added. A bucket is whole only until the next is asked for, and must be copied to be kept."""
        import deepspeed

        for bucket in buckets(chosen, bucket_bytes):
            parts = [part for _, weight in bucket for part in parts_of(weight)]
            with deepspeed.zero.GatheredParameters(parts, enabled=self.stage == 3):
                empty = [name for name, weight in bucket if not all(part.numel() for part in parts_of(weight))]
                if empty:
                    raise RunError(
                        f"the weights {empty} are empty on this rank: they were not gathered, and are not sent."
                    )
                yield {name: whole(weight) for name, weight in bucket}

    def state(self) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
        """(parameter name, {"master", "exp_avg", "exp_avg_sq"}) in float32, whole: independent of ranks and ZeRO stage."""
        from deepspeed import utils

        for name, parameter in self.parameters():
            if self.stage == 0:
                slots = self._deepspeed.optimizer.state.get(parameter, {})
                tensors = {"master": parameter, **{key: slots[key] for key in ADAM_STATES if key in slots}}
            else:
                tensors = {"master": utils.safe_get_full_fp32_param(parameter)}
                if self._has_moments:
                    tensors |= {key: utils.safe_get_full_optimizer_state(parameter, key) for key in ADAM_STATES}
            yield (
                name,
                {key: tensor.detach().cpu().float().clone() for key, tensor in tensors.items() if tensor is not None},
            )

    def load_state(self, tensors: Iterable[tuple[str, dict[str, torch.Tensor]]], optimizer_steps: int) -> None:
        """The inverse of `state`: take over master weights, moments and Adam's step count, from any ranks and ZeRO stage.

        tensors: as `state` yields them, in any order, each read once; whole on every rank. optimizer_steps: steps taken when
        they were saved; 0 means that there are no moments. Raises RunError where names, slots or shapes are not the model's.
        """
        if optimizer_steps:
            self._create_moments(optimizer_steps)
        expected = {"master", *ADAM_STATES} if optimizer_steps else {"master"}
        missing = dict(self.parameters())
        for name, slots in tensors:
            parameter = missing.pop(name, None)
            if parameter is None or slots.keys() != expected:
                raise RunError(
                    f"saved state of {name!r} with {sorted(slots)}: expected {sorted(expected)}, once, of a parameter of the "
                    "model. The checkpoint belongs to another model or is damaged."
                )
            shape = tuple(getattr(parameter, "ds_shape", parameter.shape))
            if any(tuple(tensor.shape) != shape for tensor in slots.values()):
                raise RunError(
                    f"saved state of {name!r} is not of shape {shape}: the checkpoint belongs to another model."
                )
            self._load_parameter(parameter, slots)
        if missing:
            raise RunError(
                f"the saved state lacks {sorted(missing)}: the checkpoint belongs to another model or is damaged."
            )

    def _create_moments(self, steps: int) -> None:
        """Adam's state as it is after `steps` steps, moments still 0: optimizers create theirs in the first step only."""
        optimizer, adam = self._deepspeed.optimizer, self._deepspeed.basic_optimizer
        masters: Sequence[torch.Tensor]
        if self.stage == 0:
            masters = [parameter for _, parameter in self.parameters()]
        elif self.stage == 3:
            masters = optimizer.fp32_partitioned_groups_flat
        else:
            masters = optimizer.single_partition_of_fp32_groups
        for master in masters:
            # torch counts steps in a tensor, DeepSpeed's fused Adam in a plain number.
            count = torch.tensor(float(steps)) if isinstance(adam, torch.optim.Adam) else steps
            adam.state[master] = {"step": count, **{key: torch.zeros_like(master) for key in ADAM_STATES}}
        if self.stage in (1, 2):
            # Names the moments' parts by parameter; DeepSpeed does it after its first step.
            optimizer._lazy_init_hp_params_optimizer_state()
        self._has_moments = True

    @torch.no_grad()
    def _load_parameter(self, parameter: Any, slots: dict[str, torch.Tensor]) -> None:
        import deepspeed
        from deepspeed import utils

        with deepspeed.zero.GatheredParameters([parameter], modifier_rank=0, enabled=self.stage == 3):
            parameter.copy_(slots["master"])
        for key, tensor in slots.items():
            if self.stage == 0:
                if key != "master":
                    self._deepspeed.optimizer.state[parameter][key].copy_(tensor)
            elif self.stage == 3:
                # DeepSpeed's own writer of whole tensors fails where the ranks do not divide the elements.
                size = parameter.ds_tensor.numel()
                padded = nn.functional.pad(tensor.flatten(), (0, size * self.ranks - tensor.numel()))
                local = padded.narrow(0, size * dist.get_rank(), size)
                if key == "master":
                    utils.safe_set_local_fp32_param(parameter, local)
                else:
                    utils.safe_set_local_optimizer_state(parameter, local, key)
            elif key == "master":
                utils.safe_set_full_fp32_param(parameter, tensor)
            else:
                utils.safe_set_full_optimizer_state(parameter, tensor, key)


def size_of(parameter: nn.Parameter) -> int:
    """Elements of the whole parameter; under ZeRO-3 `numel()` counts only what is on this rank."""
    return int(getattr(parameter, "ds_numel", parameter.numel()))


def buckets(weights: Sequence[tuple[str, Weight]], limit: int) -> Iterator[list[tuple[str, Weight]]]:
    """Split weights, in order, into runs of at most `limit` bytes (a larger weight stands alone), adapters not counted."""
    bucket: list[tuple[str, Weight]] = []
    used = 0
    for name, weight in weights:
        parameter = parts_of(weight)[0]
        size = size_of(parameter) * parameter.element_size()
        if bucket and used + size > limit:
            yield bucket
            bucket, used = [], 0
        bucket.append((name, weight))
        used += size
    if bucket:
        yield bucket
