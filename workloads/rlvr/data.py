"""Where dilemmas come from: the settings, and what of them cannot go together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from orchestrator.config.own_code import shown_path
from orchestrator.config.schema import DataConfig, setting
from orchestrator.errors import ConfigError
from workloads.rlvr import published, world


@dataclass
class RlvrDataConfig(DataConfig):
    """Where dilemmas come from."""

    source: str = setting(
        "mini",
        "`mini`: a generated world with an exact oracle; `morebench_site`: the file of judged responses behind MoReBench's "
        "site; `morebench`: its published tables, Public and Theory.",
        choices=("mini", "morebench_site", "morebench"),
    )
    holdout_dilemma: str | None = setting(
        None,
        "Real data: id of the dilemma that is held out whole. By default the last; of `morebench`'s many, data.eval_groups of them (a "
        "quarter at most), chosen by data.seed.",
    )
    test_path: str | None = setting(
        None,
        "`morebench`: the test split's own table, of which data.test_groups dilemmas are asked (Theory, to see what training on Public "
        "transfers). By default they are held out of data.path, a quarter of it at most.",
        file=True,
    )
    hub_config: str = setting(
        published.HUB_CONFIGS, "`morebench` from the hub (hf:morebench/morebench): its configurations, with commas."
    )
    hub_split: str = setting(published.HUB_SPLIT, "`morebench` from the hub: the split that is read.")
    theory_share: float = setting(
        0.0,
        "Share of the miniature's dilemmas that are to be argued by a theory, as MoReBench-Theory asks; the others are its Public.",
        low=0,
        high=1,
    )
    judge_flaw: str = setting(
        "none",
        "The miniature's judge wrong on purpose, to see what RL makes of it and whether the alarm is raised: `phrase` teaches it "
        "to believe answers that say a certain phrase, which some warm-up answers do.",
        choices=("none", "phrase"),
    )


def check_data(data: RlvrDataConfig) -> None:
    """Raises ConfigError where settings of one source are given for another, or ask for more than there is."""
    source, mini = data.source, data.source == "mini"
    if source == "morebench_site":
        _check_is_file(source, data.path)
    for name, value, there in (
        ("judge_flaw", data.judge_flaw, mini or data.judge_flaw == "none"),
        ("theory_share", data.theory_share, mini or not data.theory_share),
    ):
        if not there:
            raise ConfigError(
                f"data.{name}={value} is of the miniature alone, and data.source={source}: drop it, or set data.source=mini."
            )
    if data.test_groups and source == "morebench_site":
        raise ConfigError(
            f"data.test_groups={data.test_groups}: the site's few dilemmas have no test split beside the held-out one: leave it out."
        )
    if data.test_path is not None and (source != "morebench" or not data.test_groups):
        raise ConfigError(
            f"data.test_path={data.test_path} is read with data.source=morebench, for data.test_groups dilemmas, and they are "
            f"{source} and {data.test_groups}: set both, or leave it out."
        )
    asked_for = data.train_groups + data.eval_groups + data.test_groups
    if mini and asked_for > world.MOST_DILEMMAS:
        raise ConfigError(
            f"data.train_groups, data.eval_groups and data.test_groups are {asked_for:,} dilemmas together, more than the world "
            f"makes ({world.MOST_DILEMMAS:,}): lower them."
        )


def _check_is_file(source: str, path: str | None) -> None:
    """Raises ConfigError where data.path is not a file, and names one that lies in the folder."""
    given = Path(path).expanduser() if path else None
    if given and given.is_file():
        return
    inside = sorted(given.glob("*.json")) if given else []
    hint = f", for example data.path={shown_path(inside[0])}" if inside else ""
    shown = shown_path(given) if given else path
    raise ConfigError(f"data.path={shown} is not a file: data.source={source} reads a single one{hint}.")
