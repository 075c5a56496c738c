"""A known answer for GRPO: trl's GRPOTrainer beside our PolicyLearner (both in `two_trainers.py`).

    python tests/benchmarks/trl_curve.py [FILE]

Prints how exactly one trains like the other on the same completions, and draws docs/trl_curve.png: mean reward by step when
each samples its own. Some minutes on one core. Needs trl, which is not installed with the project (last with trl 1.16.0).
"""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.multiprocessing as multiprocessing
from scipy import stats
from two_trainers import LEARNING_RATE, ROOT, Run, Step, flat, language_model, ours, theirs

STEPS, SEEDS = 30, 5
STEPS_OF_TWO = 20
"""Batches of the run with two optimizer steps each. It learns faster, and once a batch has no group whose rewards differ the two
part by design: trl steps with a gradient of 0, in which Adam's momentum moves the weights, and ours takes no step."""


def in_process(work: Callable[..., Any], *arguments: Any) -> Any:
    """The result of work(*arguments) in a process of its own: each trainer sets up torch for itself."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "result.pt"
        multiprocessing.spawn(_child, (path, work, arguments), nprocs=1)
        return torch.load(path, weights_only=False)


def _child(_: int, path: Path, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    torch.save(work(*arguments), path)


def all_theirs(seeds: int, steps: int) -> dict[tuple[int, int], Run]:
    """By (seed, epochs); two epochs, where ratios leave 1 and the clip acts, for the first seed only."""
    runs = {(seed, 1): theirs(seed, steps, 1) for seed in range(seeds)}
    return runs | {(0, 2): theirs(0, STEPS_OF_TWO, 2)}


def all_ours(seeds: int, steps: int, given: dict[tuple[int, int], list[Step]]) -> dict[str, Any]:
    """Runs of our own, replays of what trl sampled, and a control with half the learning rate."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ.update(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.distributed.init_process_group("gloo", rank=0, world_size=1)
    from orchestrator.learning.engine import start_deepspeed

    start_deepspeed()
    found = {
        "ours": [ours(seed, steps) for seed in range(seeds)],
        "control": [ours(seed, steps, learning_rate=LEARNING_RATE / 2) for seed in range(seeds)],
        "replayed": {(seed, epochs): ours(seed, len(of), epochs, given=of) for (seed, epochs), of in given.items()},
    }
    torch.distributed.destroy_process_group()
    return found


@dataclass(frozen=True)
class Agreement:
    """gradient: relative error of Adam's mean gradient (after the first step: of the gradient). weights: the distance of the
    weights over that from their start. largest: difference of any weight; beyond: share of weights that differ by over 1e-6."""

    gradient: float
    weights: float
    largest: float
    beyond: float


@dataclass(frozen=True)
class Comparison:
    """rewards: by name, mean reward [seeds, steps]. agreements: of the same completions through both, by (optimizer steps
    on a batch, optimizer steps)."""

    rewards: dict[str, np.ndarray]
    agreements: dict[tuple[int, int], Agreement]

    def late(self, name: str) -> np.ndarray:
        """Mean reward over the last third of the steps, a seed."""
        rewards = self.rewards[name]
        late: np.ndarray = rewards[:, -(rewards.shape[1] // 3) :].mean(1)
        return late

    def gap(self, name: str) -> tuple[float, float]:
        """What `name` earns beyond trl over the last third, with its interval; seeds are paired, having the same start."""
        mean, width = interval(self.late(name) - self.late("trl"))
        return float(mean), float(width)

    def overlaps(self) -> np.ndarray:
        """Whether the intervals of ours and trl's overlap, a step."""
        (mean, width), (their_mean, their_width) = (interval(self.rewards[name]) for name in ("ours", "trl"))
        found: np.ndarray = np.abs(mean - their_mean) <= width + their_width
        return found


def interval(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(mean, half the width of its 95 % t interval) over the first axis."""
    width = stats.t.ppf(0.975, len(values) - 1) * values.std(0, ddof=1) / len(values) ** 0.5
    return values.mean(0), width


def compare(seeds: int = SEEDS, steps: int = STEPS) -> Comparison:
    trl = in_process(all_theirs, seeds, steps)
    given = {key: run for key, run in trl.items() if key[0] == 0}
    found = in_process(all_ours, seeds, steps, {key: run.steps for key, run in given.items()})
    agreements = {}
    for key, expected in given.items():
        start, actual = flat(list(language_model(key[0]).parameters())), found["replayed"][key]
        for last, batches in enumerate((1, len(expected.steps))):
            off = actual.weights[last] - expected.weights[last]
            agreements[key[1], key[1] * batches] = Agreement(
                gradient=float((actual.moments[last] - expected.moments[last]).norm() / expected.moments[last].norm()),
                weights=float(off.norm() / (expected.weights[last] - start).norm()),
                largest=float(off.abs().max()),
                beyond=float((off.abs() > 1e-6).double().mean()),
            )
    runs = {"trl": [trl[seed, 1] for seed in range(seeds)], "ours": found["ours"], "control": found["control"]}
    return Comparison({name: np.array([run.rewards for run in some]) for name, some in runs.items()}, agreements)


LABELS = {"trl": "trl's GRPOTrainer", "ours": "ours", "control": "control: ours, half the learning rate"}
COLOURS = {"trl": "tab:orange", "ours": "tab:blue", "control": "grey"}


def tell(found: Comparison) -> None:
    seeds, steps = found.rewards["ours"].shape
    for (epochs, taken), agreement in found.agreements.items():
        print(f"the same completions, {epochs} a batch, after {taken} optimizer steps: {agreement}")
    print(f"mean reward (share of the highest) of {seeds} seeds with 95 % intervals")
    for step in [*range(0, steps, 5), steps - 1]:
        means = (f"{name} {mean[step]:.3f} ± {width[step]:.3f}" for name, (mean, width) in bands(found).items())
        print(f"  step {step + 1:3}: {', '.join(means)}")
    print(f"intervals of ours and trl's overlap in {found.overlaps().sum()} of {steps} steps")
    for name in found.rewards:
        mean, width = interval(found.late(name))
        gap, gap_width = found.gap(name)
        print(f"last third, {name}: {mean:.3f} ± {width:.3f}; beyond trl {gap:+.3f} ± {gap_width:.3f}")


def bands(found: Comparison) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {name: interval(rewards) for name, rewards in found.rewards.items()}


def draw(found: Comparison, path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    seeds, steps = found.rewards["ours"].shape
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2))
    at = np.arange(1, steps + 1)
    for name, (mean, width) in bands(found).items():
        left.plot(at, mean, color=COLOURS[name], label=LABELS[name], linestyle="--" if name == "control" else "-")
        if name != "control":
            left.fill_between(at, mean - width, mean + width, color=COLOURS[name], alpha=0.25, linewidth=0)
    left.set(title=f"GRPO, {seeds} seeds, 95 % intervals", xlabel="step", ylabel="mean reward (share of the highest)")
    left.legend(fontsize=8)
    for name in ("ours", "control"):
        mean, width = interval(found.rewards[name] - found.rewards["trl"])
        right.plot(at, mean, color=COLOURS[name], label=LABELS[name], linestyle="--" if name == "control" else "-")
        right.fill_between(at, mean - width, mean + width, color=COLOURS[name], alpha=0.25, linewidth=0)
    right.axhline(0, color="black", linewidth=0.8)
    right.set(title="Beyond trl, paired by seed", xlabel="step", ylabel="difference of mean reward")
    right.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    comparison = compare()
    tell(comparison)
    draw(comparison, Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "trl_curve.png")
