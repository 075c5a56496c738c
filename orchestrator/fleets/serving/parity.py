"""The parity gate: before traffic, a served model proves that it is the model which the trainer had.

Three questions, each of which can be asked alone: does it compute what the trainer computed (`compare`), are tokenizer and chat
template the trainer's (`check_tokenizer`), and does its folder hold nothing but that model (`check_tensors`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from orchestrator.errors import RunError
from orchestrator.fleets.serving.release import Release
from orchestrator.records.canary import CANARY, Canary, digests_of, read_canary, rendered
from orchestrator.records.folder import read_json, sha256


class ParityError(RunError):
    """A served model is not the model that was trained."""


@dataclass(frozen=True, slots=True)
class Bound:
    """Largest differences that are taken for rounding: the mean over all numbers of a canary, and that of any one."""

    mean: float
    max: float


# In float32 both sides round at 2^-24, and agree to some 1e-6 (measured); ten times 1e-5 leaves room for deep models.
# In bfloat16 (8 bits) the same weights are rounded after every layer, in other places by vLLM's fused kernels than by the trainer's.
# Logits between 16 and 32 are multiples of 1/8 then, so that a single step of one of them moves a log-probability by 0.125. Between
# vLLM and transformers, for Qwen models of one to a few billion weights, users report means of 0.04 to 0.05 (for 25 tokens, vllm
# issue 18352: mean 0.046, largest 0.32; for many, trl issue 6789: standard deviation 0.05). The mean of a few hundred numbers is
# steady: twice that is no longer rounding, and other weights, positions or a damaged head differ by whole nats. A single unlikely token
# is not steady: it may go sixteen steps of the logits astray, which no wrong special token or output row would be content with.
# float16 has 3 bits more: an eighth. (arXiv 2510.26788 finds the gap between trainer and engine smaller by more than that.)
BOUNDS = {
    "float32": Bound(1e-4, 1e-4),
    "bfloat16": Bound(0.1, 2.0),
    "float16": Bound(0.1 / 8, 2.0 / 8),
}
"""By the precision of the weights that the trainer had."""

FOREIGN = {
    "log_partition": "the log Z head of flowrl",
    "critic": "a critic",
    "language_model.": "a learner's own name for a weight",
    "head.": "a learner's own head",
    "base_model.": "an adapter that was not added to its weights",
}
"""Beginnings of names that only the learner uses -> what such a tensor is."""


@dataclass(frozen=True, slots=True)
class Parity:
    """How well a served model agrees with its canary. tokens: numbers compared (log-probabilities, or scores of a head)."""

    cases: int
    tokens: int
    gap_mean: float
    gap_max: float
    bound: Bound

    def __str__(self) -> str:
        return (
            f"as trained: {self.tokens} numbers of {self.cases} texts differ by {self.gap_mean:.1e} on average, {self.gap_max:.1e} "
            f"at most (allowed {self.bound.mean:g} and {self.bound.max:g})"
        )


def compare(canary: Canary, served: Sequence[Sequence[float]]) -> Parity:
    """Compare what a server computes with what the trainer computed.

    served: a case each, in the canary's order: the log-probability of each completion id given all before it, at temperature 1; of
    a sequence classifier its raw outputs. Raises ParityError past the bound, and where numbers are missing or none.
    """
    bound = BOUNDS.get(canary.dtype)
    if bound is None:
        raise ParityError(f"{CANARY} is of a model in {canary.dtype}; there are bounds for {', '.join(BOUNDS)}.")
    gaps = gaps_of(canary, served)
    mean = fmean(gap for gap, _ in gaps)
    most, told = max(gaps, key=lambda gap: math.inf if math.isnan(gap[0]) else gap[0])
    # Not the other way round: a NaN is within no bound.
    if not (mean <= bound.mean and most <= bound.max):
        raise ParityError(
            f"the served model does not compute what the trainer computed ({told}): it differs by {mean:.3g} on average and by "
            f"{most:.3g} at most; in {canary.dtype} {bound.mean:g} and {bound.max:g} are allowed. Serve the folder that the run wrote, "
            f"whole and unchanged, in {canary.dtype} and without quantisation; if it is that, `orchestrate doctor` tests the engine."
        )
    return Parity(len(canary.cases), len(gaps), mean, most, bound)


def gaps_of(canary: Canary, served: Sequence[Sequence[float]]) -> list[tuple[float, str]]:
    """The distance of each number from the trainer's, and the two in words. Raises ParityError where numbers are missing."""
    if not canary.cases or len(served) != len(canary.cases):
        raise ParityError(f"{CANARY} has {len(canary.cases)} cases, and the server answered {len(served)}.")
    gaps: list[tuple[float, str]] = []
    for number, (case, found) in enumerate(zip(canary.cases, served, strict=True)):
        if not case.expected or len(found) != len(case.expected):
            raise ParityError(
                f"case {number} of {CANARY} has {len(case.expected)} numbers, and the server computed {len(found)}: it was not asked "
                "for these very tokens."
            )
        for place, (mine, other) in enumerate(zip(case.expected, found, strict=True)):
            told = f"case {number}, number {place}: trained {mine:.6f}, served {other:.6f}"
            gaps.append((abs(mine - other), told))
    return gaps


def owed_canary(release: Release) -> Canary | None:
    """The canary beside a release's weights; None where they are from elsewhere. Raises RunError where this project trained them
    and left none."""
    folder = Path(release.folder)
    canary = read_canary(folder) if folder.is_dir() else None
    if canary is None and release.own:
        raise RunError(
            f"{release.reference}: {folder} holds no {CANARY}, so nothing says what its trainer computed: an older version wrote it. "
            "Resume the run for a step, which writes a checkpoint that has one; of a taught model, remove the folder, and the next "
            "run teaches it anew."
        )
    return canary


def check_weights(folder: Path) -> None:
    """Compare the weights of a checkpoint's folder with the checkpoint's manifest: in half precision neighbouring checkpoints may be
    too alike for log-probabilities to tell. A folder that is of no checkpoint has none. Raises ParityError, naming the file."""
    manifest = folder.parent / "manifest.json"
    known = read_json(manifest)["files"] if manifest.is_file() else {}
    for path in sorted(folder.glob("*.safetensors")):
        expected = known.get(f"{folder.name}/{path.name}")
        if expected is not None and sha256(path) != expected:
            raise ParityError(f"{path} is not the file that the checkpoint was written with (its SHA-256 differs).")


def check_tokenizer(canary: Canary, tokenizer: Any) -> None:
    """Compare a loaded tokenizer, its chat template and what they make of the canary's chats with the trainer's.

    Raises ParityError, naming the first case that renders otherwise.
    """
    remedy = (
        "Serve the tokenizer's files that lie beside the weights, unchanged, with the run's version of transformers."
    )
    names = ("tokenizer", "chat template")
    for name, mine, other in zip(names, (canary.tokenizer, canary.chat_template), digests_of(tokenizer), strict=True):
        if mine != other:
            raise ParityError(
                f"the served {name} is not the one of training: its SHA-256 is {other[:16]}…, in {CANARY} it is {mine[:16]}…. {remedy}"
            )
    for number, case in enumerate(canary.cases):
        found = case.messages and rendered(tokenizer, case.messages, canary.thinking)
        if found and found != case.prompt_ids:
            place = _first_difference(case.prompt_ids, found)
            raise ParityError(
                f"case {number} of {CANARY} renders to {len(found)} tokens and had {len(case.prompt_ids)} in training; they differ "
                f"from token {place} on (trained {case.prompt_ids[place : place + 4]}, served {found[place : place + 4]}). {remedy}"
            )


def _first_difference(mine: Sequence[int], other: Sequence[int]) -> int:
    pairs = enumerate(zip(mine, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(mine), len(other)))


def check_tensors(folder: Path) -> None:
    """Look for tensors that are no part of the model which the folder's config.json names, such as heads that only training needs.

    Only the headers of the safetensors are read, and the model is built without memory. What transformers has no class for is
    compared with the names that the learner uses (`FOREIGN`) alone. Raises ParityError, naming the tensors.
    """
    names = sorted(_tensors(folder))
    if not names:
        raise ParityError(f"{folder} holds no *.safetensors: there is nothing to serve. Copy the model's whole folder.")
    architecture, belonging = _belonging(folder)
    strangers = {name: what for name in names for start, what in FOREIGN.items() if name.startswith(start)}
    if belonging is not None:
        strangers = {name: strangers.get(name, "unknown") for name in names if name not in belonging}
    if strangers:
        told = ", ".join(f"{name} ({what})" for name, what in list(strangers.items())[:4])
        raise ParityError(
            f"{folder}: {len(strangers)} of {len(names)} tensors are no part of a {architecture}, and none may be: {told}. Serve the "
            "folder `hf` of a checkpoint, which holds the policy alone."
        )


def _tensors(folder: Path) -> Iterator[str]:
    from safetensors import safe_open

    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            yield from file.keys()


def _belonging(folder: Path) -> tuple[str, frozenset[str] | None]:
    """The architecture and the names that its tensors may have; None where transformers does not know it.

    A tied output head has a name of its own here, and need not be in the folder.
    """
    import torch
    import transformers
    from transformers.core_model_loading import revert_weight_conversion

    try:
        config = transformers.AutoConfig.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise ParityError(
            f"{folder}: its config.json cannot be read ({error}). Copy the model's whole folder."
        ) from error
    architecture = (config.architectures or ["model of no named architecture"])[0]
    kind = getattr(transformers, architecture, None)
    if kind is None:
        return architecture, None
    with torch.device("meta"):
        model = kind(config)
    state = model.state_dict()
    # Some models have their experts' weights in one tensor and in many in a folder; both are the model's.
    return architecture, frozenset(state) | frozenset(revert_weight_conversion(model, state))
