"""Draws docs/flowrl_toy.png: policies beside the distribution that FlowRL matches, and how far they are, by the number of modes.

    python tests/benchmarks/flowrl_toy.py [FILE]

Some minutes on one core. The world is `tests/learning/toy.py`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import fmean
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "learning")]

import matplotlib as mpl  # noqa: E402
import torch  # noqa: E402
from invented import preset  # noqa: E402
from toy import ANSWERS, World, distances, make_world, scores_of_all, train  # noqa: E402

from orchestrator.learning.model import TokenScorer  # noqa: E402

mpl.use("Agg")
from matplotlib import pyplot  # noqa: E402

BETA, STEPS, SEEDS = 2.0, 250, 3
MODES = (1, 2, 4, 8, 16)
METHODS = {
    "FlowRL": preset("flowrl", flow_reward="raw", beta=BETA, flow_dropout=0.0),
    "GRPO": preset("grpo", kl_weight=0),
    "GRPO with a KL penalty of 0.1": preset("grpo", kl_weight=0.1),
}
COLOURS = dict(zip(METHODS, ("tab:blue", "tab:red", "tab:orange"), strict=True))
DRAWN, SHOWN = 4, 10
"""Modes of the left picture, and answers in it."""

Found = dict[str, dict[int, list[dict[str, float]]]]


def main(path: Path) -> None:
    torch.set_num_threads(1)
    figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(15, 4.2))
    found: Found = {name: {modes: [] for modes in MODES} for name in METHODS}
    for modes in MODES:
        for seed in range(SEEDS):
            world = make_world(modes, seed)
            trained = {name: train(world, settings, STEPS, seed=seed) for name, settings in METHODS.items()}
            for name, scorer in trained.items():
                found[name][modes].append(distances(world, scorer, BETA))
            if (modes, seed) == (DRAWN, 0):
                draw_policies(left, world, trained)
    draw_distances(middle, right, found)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def draw_policies(axis: Any, world: World, trained: dict[str, TokenScorer]) -> None:
    """The likeliest answers to the first prompt: the target's probabilities and each policy's."""
    target, _ = world.target(0, BETA)
    order = target.argsort(descending=True)[:SHOWN]
    places, width = torch.arange(SHOWN).float(), 0.2
    axis.bar(places - 1.5 * width, target[order], width, color="grey", label="target")
    for number, (name, scorer) in enumerate(trained.items()):
        policy = scores_of_all(scorer, 0)[0].exp()[order]
        axis.bar(places + (number - 0.5) * width, policy, width, color=COLOURS[name], label=name)
    axis.set_xticks(places, ["".join(map(str, answer)) for answer in ANSWERS[order].tolist()], rotation=60, fontsize=8)
    axis.set(
        title=f"The policies beside the target, {DRAWN} modes",
        xlabel="answer (the likeliest of 256)",
        ylabel="probability",
    )
    axis.legend(fontsize=8)


def draw_distances(middle: Any, right: Any, found: Found) -> None:
    for name, by_modes in found.items():
        for axis, what in ((middle, "kl"), (right, "modes")):
            means = [fmean(one[what] for one in by_modes[modes]) for modes in MODES]
            axis.plot(MODES, means, marker="o", color=COLOURS[name], label=name)
        for modes, ones in by_modes.items():
            means = {what: round(fmean(one[what] for one in ones), 4) for what in ones[0]}
            print(f"{name}, {modes} modes, mean of {SEEDS} seeds: {means}")
    middle.set(title="KL(target || policy)", xlabel="modes", xscale="log", yscale="log", ylabel="nats")
    right.set(
        title="Modes that keep half of their share or more", xlabel="modes", xscale="log", ylabel="share of modes"
    )
    for axis in (middle, right):
        axis.set_xticks(MODES, [str(modes) for modes in MODES])
        axis.minorticks_off()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "flowrl_toy.png")
