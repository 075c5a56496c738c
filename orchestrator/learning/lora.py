"""LoRA (arXiv 2106.09685): a linear layer W computes with W + (alpha / rank) B A, and only A and B are trained.

peft puts the adapters into a model. B starts at 0, so the policy starts as the model that it was; the model with its adapters
off stays the starting policy, and a reference needs no second copy. Servers and checkpoints' folders get the sum, under W's name.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from orchestrator.config.schema import LearnerConfig
from orchestrator.errors import ConfigError, RunError
from orchestrator.fleets.weights import Fingerprint

if TYPE_CHECKING:
    from orchestrator.learning.engine import Engine
    from orchestrator.learning.model import TokenScorer

BASE = ".base_layer"
"""What peft puts between a layer's name and its weight when it wraps the layer."""
IN_FOLDERS = "base_model.model."
"""What begins a tensor's name in a folder that peft wrote."""
POLICY_PART = "language_model."
"""What begins the names of the policy's own layers in a checkpoint (a critic's begin otherwise)."""
ADAPTERS = (".lora_A.default.weight", ".lora_B.default.weight")
"""How the names of A and B end."""


@dataclass(frozen=True, slots=True)
class Adapted:
    """A frozen weight W [out, in] with its adapter, A [rank, in] and B [out, rank]: stands for W + scale B A."""

    base: nn.Parameter
    a: nn.Parameter
    b: nn.Parameter
    scale: float

    def merged(self) -> torch.Tensor:
        """The sum, [out, in] in W's precision, computed in float32 or wider. W, A and B have to be whole."""
        wide = torch.promote_types(self.base.dtype, torch.float32)
        with torch.no_grad():
            sum_ = torch.addmm(self.base.to(wide), self.b.to(wide), self.a.to(wide), alpha=self.scale)
        return sum_.to(self.base.dtype)


Weight = nn.Parameter | Adapted
"""A weight as servers know it: a parameter, or one with an adapter that is still to be added."""


def adapted(scorer: TokenScorer, learner: LearnerConfig, seed: int = 0) -> TokenScorer:
    """The scorer with everything frozen and adapters on its layers' matrices, in place; untouched where learner.lora_rank is 0.

    The output head and the embedding get none: engines tie them. The same seed gives the same A on every rank. Works on models
    that are sharded already. Raises ConfigError where learner.lora_targets names what the model has not.
    """
    if not learner.lora_rank:
        return scorer
    from peft import LoraConfig, inject_adapter_in_model

    scorer.requires_grad_(False)
    decoder = scorer.language_model.model
    config = LoraConfig(
        r=learner.lora_rank,
        lora_alpha=learner.lora_alpha,
        lora_dropout=0.0,
        target_modules=_targets(decoder, learner),
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        inject_adapter_in_model(config, decoder)
    return scorer


def _targets(decoder: nn.Module, learner: LearnerConfig) -> list[str]:
    """Full names of the linear layers that get adapters."""
    linear = [name for name, module in decoder.named_modules() if isinstance(module, nn.Linear)]
    wanted = learner.lora_layers
    if wanted is None:
        return linear
    there = sorted({name.rpartition(".")[2] for name in linear})
    unknown = sorted(set(wanted) - set(there))
    if unknown:
        raise ConfigError(
            f"learner.lora_targets={learner.lora_targets}: the model has no linear layers named {', '.join(unknown)}. It has "
            f"{', '.join(there)}; all-linear takes them all."
        )
    return [name for name in linear if name.rpartition(".")[2] in wanted]


def without_adapters(module: nn.Module) -> AbstractContextManager[None]:
    """Within, the model computes as it did before any training.

    The adapters still run, at scale 0, and add exact zeros: under ZeRO-3 every pass then gathers the same modules in the same
    order, which is what DeepSpeed prefetches by.
    """
    from peft.helpers import rescale_adapter_scale

    context: AbstractContextManager[None] = rescale_adapter_scale(module, 0.0)
    return context


def with_adapters(module: nn.Module) -> list[tuple[str, Weight]]:
    """The module's parameters under the names that they have without adapters, each adapted weight with its adapter."""
    own = dict(module.named_parameters())
    weights: list[tuple[str, Weight]] = []
    for name, parameter in own.items():
        if name.endswith(ADAPTERS):
            continue
        layer, wrapped, _ = name.rpartition(f"{BASE}.weight")
        if wrapped:
            a, b = (own[f"{layer}{end}"] for end in ADAPTERS)
            scale = layer_of(module, layer).scaling["default"]
            weights.append((f"{layer}.weight", Adapted(parameter, a, b, scale)))
        else:
            weights.append((name.replace(f"{BASE}.", "."), parameter))
    return weights


def origin_of(engine: Engine, settings: LearnerConfig, bucket_bytes: int) -> dict[str, Any] | None:
    """What decides which policy the adapters in a checkpoint are; None where all weights are trained. Collective."""
    if not settings.lora_rank:
        return None
    digest = Fingerprint()
    for bucket in engine.weights(engine.frozen_parameters(), bucket_bytes):
        digest.add(bucket)
    return {
        "base": digest.hexdigest(),
        "rank": settings.lora_rank,
        "alpha": settings.lora_alpha,
        "targets": settings.lora_targets,
    }


def check_origin(saved: Mapping[str, Any] | None, now: Mapping[str, Any] | None, checkpoint: object) -> None:
    """Refuse adapters on other weights than those that they were trained on. saved, now: None where all weights are trained.

    Raises RunError.
    """
    if saved == now:
        return
    if saved is None or now is None:
        words = (
            "it holds all weights and learner.lora_rank is not 0"
            if now
            else "it holds adapters and learner.lora_rank is 0"
        )
    else:
        differ = sorted(key for key in now if saved.get(key) != now[key])
        words = f"its adapters have another {' and '.join(differ)} (base: the weights that they are added to)"
    raise RunError(
        f"{checkpoint}: {words}. Go on with the settings of its own run (model, seed, warmup, learner.lora_*), or begin anew from "
        "its merged weights: model=run:NAME@STEP."
    )


def layer_of(module: nn.Module, name: str) -> Any:
    """peft's wrapper of a layer."""
    return module.get_submodule(name)


def apart(weights: Iterable[tuple[str, Weight]]) -> tuple[list[tuple[str, Weight]], list[tuple[str, Weight]]]:
    """What `with_adapters` lists, for servers that add adapters themselves: the weights without them, and A and B under the names
    that peft's folders use."""
    bare: list[tuple[str, Weight]] = []
    adapters: list[tuple[str, Weight]] = []
    for name, weight in weights:
        if isinstance(weight, Adapted):
            layer = f"{IN_FOLDERS}{name.removesuffix('.weight')}"
            bare.append((name, weight.base))
            adapters += [(f"{layer}.lora_A.weight", weight.a), (f"{layer}.lora_B.weight", weight.b)]
        else:
            bare.append((name, weight))
    return bare, adapters


def save_adapter(folder: Path, tensors: Mapping[str, torch.Tensor], rank: int, alpha: float) -> None:
    """Write an adapter's folder as peft does. tensors: named as by `apart`."""
    from peft import LoraConfig
    from safetensors.torch import save_file

    layers = {name.split(".lora_")[0].rpartition(".")[2] for name in tensors}
    LoraConfig(r=rank, lora_alpha=alpha, target_modules=sorted(layers)).save_pretrained(folder)
    save_file(dict(tensors), folder / "adapter_model.safetensors")


def parts_of(weight: Weight) -> tuple[nn.Parameter, ...]:
    """The parameters that a weight is computed from, the one of its shape first."""
    return (weight.base, weight.a, weight.b) if isinstance(weight, Adapted) else (weight,)


def whole(weight: Weight) -> torch.Tensor:
    """The weight as it is served; a parameter's own memory where nothing is to be added."""
    return weight.merged() if isinstance(weight, Adapted) else weight.detach()


def adapter_folder(checkpoint: Path, origin: Mapping[str, Any], folder: Path) -> None:
    """Write the policy's adapters of a checkpoint as peft does, whole or not at all. origin: what the checkpoint says of them
    (`origin_of`). folder: not there yet."""
    from orchestrator.learning.checkpoints import read_tensors

    tensors = {
        f"{IN_FOLDERS}{name.removeprefix(POLICY_PART).replace('.default.', '.')}": slots["master"]
        for name, slots in read_tensors(checkpoint)
        if name.startswith(POLICY_PART) and name.endswith(ADAPTERS)
    }
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        save_adapter(Path(work) / "adapter", tensors, origin["rank"], origin["alpha"])
        (Path(work) / "adapter").rename(folder)
