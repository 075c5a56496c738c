"""Draws docs/flowrl_toy.png: policies beside the distribution that FlowRL matches, and how far they are, by the number of modes.

    python tests/benchmarks/flowrl_toy.py [FILE]

Some minutes on one core. The world is `tests/learning/toy.py`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import fmean

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "learning")]

import matplotlib as mpl  # noqa: E402
import torch  # noqa: E402
from invented import preset  # noqa: E402
from toy import distances, make_world, scores_of_all, train  # noqa: E402

mpl.use("Agg")
from matplotlib import pyplot  # noqa: E402

BETA, STEPS, SEEDS = 2.0, 250, 3
MODES = (1, 2, 4, 8, 16)
METHODS = {
    "FlowRL": preset("flowrl", flow_reward="raw", beta=BETA, flow_dropout=0.0),
    "GRPO": preset("grpo", kl_weight=0),
    "GRPO, KL penalty": preset("grpo", kl_weight=0.1),
    "PPO's clip, raw rewards (Dr. GRPO)": preset("dr_grpo"),
}
COLOURS = dict(zip(METHODS, ("tab:blue", "tab:red", "tab:orange", "tab:purple"), strict=True))
DRAWN = 4
"""Modes of the left picture."""


def main(path: Path) -> None:
    torch.set_num_threads(1)
    figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(15, 4.2))
    found: dict[str, dict[int, list[dict[str, float]]]] = {name: {modes: [] for modes in MODES} for name in METHODS}
    for modes in MODES:
        for seed in range(SEEDS):
            world = make_world(modes, seed)
            if modes == DRAWN and seed == 0:
                target, _ = world.target(0, BETA)
                order = target.argsort(descending=True)[:40]
                left.bar(range(40), target[order], color="lightgrey", label="target")
            for name, settings in METHODS.items():
                scorer = train(world, settings, STEPS, seed=seed)
                found[name][modes].append(distances(world, scorer, BETA))
                if modes == DRAWN and seed == 0:
                    policy = scores_of_all(scorer, 0)[0].exp()[order]
                    left.plot(range(40), policy, marker=".", linewidth=1, color=COLOURS[name], label=name)
    for name, by_modes in found.items():
        for axis, what in ((middle, "kl"), (right, "modes")):
            means = [fmean(one[what] for one in by_modes[modes]) for modes in MODES]
            axis.plot(MODES, means, marker="o", color=COLOURS[name], label=name)
        print(
            name,
            {
                modes: {key: round(fmean(one[key] for one in ones), 4) for key in ones[0]}
                for modes, ones in by_modes.items()
            },
        )
    left.set(
        title=f"Policies beside the target, {DRAWN} modes",
        xlabel="answers, likeliest first (of 256)",
        ylabel="probability",
    )
    middle.set(title="KL(target || policy)", xlabel="modes", xscale="log", yscale="log", ylabel="nats")
    right.set(title="Modes that are kept", xlabel="modes", xscale="log", ylabel="share")
    for axis in (middle, right):
        axis.set_xticks(MODES, [str(modes) for modes in MODES])
        axis.minorticks_off()
    left.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "flowrl_toy.png")
