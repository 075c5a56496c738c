"""A causal language model that scores target tokens: the one forward pass of SFT, RL, references and logit queries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
import torch.distributed as dist
from torch import nn
from torch.utils.checkpoint import checkpoint

from orchestrator.config.schema import LearnerConfig
from orchestrator.learning.lora import Weight, with_adapters
from orchestrator.learning.rows import Microbatch
from orchestrator.learning.starting import EXAMS, HELD_OUT
from orchestrator.learning.zero import born_sharded
from orchestrator.records.canary import CANARY, Canary, write_canary

OF_WEIGHTS = (CANARY, HELD_OUT, EXAMS, "provenance.json")
"""Files of a model's folder that tell of its weights: what they are recognised by, how they did, where they are from."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}


class TokenScores(NamedTuple):
    """A target's scores, [T] each, float32 or wider. logits: raw, before temperature and normalisation."""

    logprobs: torch.Tensor
    entropies: torch.Tensor
    logits: torch.Tensor


class TokenScorer(nn.Module):
    """Wraps a Hugging Face causal LM; its logits exist at target positions only, never as batch x length x vocabulary."""

    language_model: Any
    scores: type = TokenScores
    """What `forward` returns: a named tuple of [T] tensors."""
    served: ClassVar = {"language_model.": ""}
    """Beginnings of the served parameters' names here and in checkpoints and engines."""
    logits_at_once = 2**27
    """Elements of the largest logits tensor: half a gigabyte in float32. More targets are scored in chunks."""

    def __init__(self, language_model: nn.Module) -> None:
        super().__init__()
        self.language_model = language_model

    def forward(self, batch: Microbatch, temperature: float = 1.0) -> TokenScores:
        """Score each target. temperature divides the logits, as it did when the tokens were sampled."""
        return self.score_hidden(self.hidden(batch), batch, temperature)

    def hidden(self, batch: Microbatch) -> torch.Tensor:
        """Last hidden states, [B, L, H]."""
        states: torch.Tensor = self.language_model.model(
            input_ids=batch.ids, position_ids=batch.positions, attention_mask=batch.mask, use_cache=False
        ).last_hidden_state
        return states

    def score_hidden(self, hidden_BLH: torch.Tensor, batch: Microbatch, temperature: float) -> TokenScores:
        """Scores of the targets from the hidden states."""
        hidden_TH = hidden_BLH.reshape(-1, hidden_BLH.shape[-1])[batch.source]
        chunk = max(1, self.logits_at_once // self.language_model.config.vocab_size)
        if len(hidden_TH) <= chunk:
            return TokenScores(*self._score(hidden_TH, batch.target, temperature))
        parts = [
            # Recomputed in the backward pass, so that one chunk's logits exist at a time.
            checkpoint(self._score, hidden, target, temperature, use_reentrant=False)
            for hidden, target in zip(hidden_TH.split(chunk), batch.target.split(chunk), strict=True)
        ]
        return TokenScores(*(torch.cat(column) for column in zip(*parts, strict=True)))

    def _score(self, hidden_TH: torch.Tensor, target_T: torch.Tensor, temperature: float) -> tuple[torch.Tensor, ...]:
        raw_TV = self.language_model.lm_head(hidden_TH)
        raw_TV = raw_TV if raw_TV.dtype == torch.float64 else raw_TV.float()
        # Detached: a gradient that nobody asks for would keep the whole logits alive.
        raw_T = raw_TV.detach().gather(1, target_T[:, None])[:, 0]
        logprobs_TV = torch.log_softmax(raw_TV / temperature, dim=-1)
        with torch.no_grad():
            entropies_T = -(logprobs_TV.exp() * logprobs_TV).sum(-1)
        return logprobs_TV.gather(1, target_T[:, None])[:, 0], entropies_T, raw_T


def build(folder: Path | str, seed: int, dtype: str, learner: LearnerConfig | None = None) -> TokenScorer:
    """A model of the folder's architecture with fresh weights: a seed's weights are the same on all ranks and ZeRO stages.

    learner: shards the model under ZeRO-3, collectively. Rank 0's host then holds it whole for a moment, and no device does.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(folder)
    sharded = learner is not None and learner.zero_stage == 3
    with torch.random.fork_rng(), torch.device("meta") if sharded and dist.get_rank() else nullcontext():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa", dtype=DTYPES[dtype])
    if learner is not None and sharded:
        # Without the metadata of `state_dict`, which transformers trips over.
        whole = dict(model.state_dict())
        with born_sharded(learner, dtype):
            model = type(model).from_pretrained(
                None, config=config, state_dict=whole, attn_implementation="sdpa", dtype=DTYPES[dtype]
            )
        _recompute_buffers(model)
    return TokenScorer(model)


def load(reference: Path | str, dtype: str, learner: LearnerConfig | None = None) -> TokenScorer:
    """Weights from a folder or a hub id. learner: shards them under ZeRO-3 while they are read, collectively."""
    from transformers import AutoModelForCausalLM

    with born_sharded(learner, dtype) if learner else nullcontext():
        model = AutoModelForCausalLM.from_pretrained(reference, attn_implementation="sdpa", dtype=DTYPES[dtype])
    if learner and learner.zero_stage == 3:
        _recompute_buffers(model)
    return TokenScorer(model)


def _recompute_buffers(model: Any) -> None:
    """Buffers that no checkpoint holds, as of a model that was not born sharded.

    DeepSpeed rounds every tensor that a layer computes while it is made to the model's precision, and rotary frequencies in
    bfloat16 give positions that no engine has.
    """
    for module in model.modules():
        computed = [module.get_buffer(name) for name in module._non_persistent_buffers_set]
        for buffer in computed:
            if buffer.is_floating_point():
                buffer.data = buffer.data.float()
        if computed:
            model._init_weights(module)


def served_weights(scorer: nn.Module) -> list[tuple[str, Weight]]:
    """Weights under the names that checkpoints' folders and engines use, each once: a tied output head is left out."""
    served: Mapping[str, str] = scorer.served  # type: ignore[assignment]
    return [
        (f"{there}{name.removeprefix(here)}", weight)
        for name, weight in with_adapters(scorer)
        for here, there in served.items()
        if name.startswith(here)
    ]


def save_folder(
    tensors: dict[str, torch.Tensor],
    source: Path,
    folder: Path,
    settings: Mapping[str, Any] | None = None,
    canary: Canary | None = None,
) -> None:
    """Write a folder that transformers and vLLM load: safetensors beside the configuration and tokenizer of `source`.

    settings: what config.json says otherwise than the source's. canary: of these weights. What the source's folder tells of its
    own weights (`OF_WEIGHTS`) does not come along.
    """
    import json
    import shutil

    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    for path in source.iterdir():
        if (
            path.is_file()
            and path.suffix in (".json", ".jinja", ".txt", ".model")
            and "safetensors.index" not in path.name
            and not any(fnmatch(path.name, pattern) for pattern in OF_WEIGHTS)
        ):
            shutil.copyfile(path, folder / path.name)
    if settings:
        config = folder / "config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | dict(settings), indent=2))
    contiguous: dict[str, Any] = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(contiguous, folder / "model.safetensors", metadata={"format": "pt"})
    if canary:
        write_canary(folder, canary)


def read_folder(folder: Path) -> Iterator[dict[str, torch.Tensor]]:
    """A folder's weights, a file a bucket."""
    from safetensors.torch import load_file

    for path in sorted(folder.glob("*.safetensors")):
        yield load_file(path)


def local_folder(reference: str) -> Path:
    """The local copy of a model's configuration and tokenizer, for a hub id as for a folder."""
    if Path(reference).is_dir():
        return Path(reference)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(reference, allow_patterns=["*.json", "*.txt", "*.model", "*.jinja"]))
