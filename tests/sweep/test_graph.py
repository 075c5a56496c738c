"""The graph: what comes after what, which run a reference means, and the settings, key and folder of every run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.cluster.preflight import inventory
from orchestrator.config.compose import compose
from orchestrator.errors import PreflightError, RunError
from orchestrator.sweep.graph import (
    check_stages,
    configs_of,
    evaluated_by,
    is_as_planned,
    plan_of,
    runs_of,
    stages,
    trials_of,
)
from orchestrator.sweep.keys import key_of
from orchestrator.sweep.reading import read_sweep
from orchestrator.sweep.spec import Done, Node, Planned, Range, Stage, Sweep, Tuning

SWEEP = """
target: rlvr
settings: {steps: 20}
runs:
  teach: {settings: {steps: 0}}
  policy:
    settings: {judge: "node:teach@judge", judge.shared: true}
    arms: {grpo: {algorithm: grpo}, flowrl: {algorithm: flowrl}}
    search: {learner.learning_rate: {loguniform: [1.0e-4, 2.0e-3]}}
    tuning: {seed: 1000}
    seeds: 0..1
  test:
    settings: {steps: 0, model: "node:policy@20", data.seed: 7}
    arms: {grpo: {}, flowrl: {}}
    seeds: 0..1
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(text: str = SWEEP) -> Sweep:
    Path("s.yaml").write_text(text)
    return read_sweep("s.yaml")


def test_what_comes_out_of_other_runs_is_not_read_before_they_are_there(folder: Path) -> None:
    """`learned` evaluates failures of simulations that nobody has played yet, and learns from those of `played`, which are no test
    therefore. A run that names but a model is one."""
    sweep = read("""
target: cdi
settings: {preset: study}
runs:
  played: {settings: {steps: 0, data.collect: true}}
  learned:
    settings: {model: "node:played@policy"}
    arms: {failures: {data.failures: "node:played"}, whole: {}}
""")
    found = evaluated_by(sweep, folder)
    assert list(found) == ["learned-whole"]
    assert found["learned-whole"].model.name == "mini"
    assert configs_of(sweep, folder)["learned"]["failures"].data.failures == "hf:node/played"  # type: ignore[attr-defined]


def settings(run: Planned) -> dict[str, str]:
    return dict(text.split("=", 1) for text in run.overrides)


STORAGE = Path("runs")
TEACH = Done("teach", "", 0, "rlvr/teach-0123456789")
WINNERS = [
    Done("policy", "grpo", 1000, "rlvr/policy-grpo-1111111111", {"learner.learning_rate": 1e-3}, winner=True),
    Done("policy", "flowrl", 1000, "rlvr/policy-flowrl-2222222222", {"learner.learning_rate": 2e-4}, winner=True),
]


def test_a_search_comes_arm_by_arm_and_then_the_seeds() -> None:
    sweep = read()
    assert [stage.name for stage in stages(sweep)] == [
        "teach",
        "policy grpo search",
        "policy flowrl search",
        "policy",
        "test",
    ]
    assert [stage.arm for stage in stages(sweep)] == [None, "grpo", "flowrl", None, None]
    alone = read("target: rlvr\nruns: {a: {search: {steps: {choice: [1, 2]}}}}")
    assert [(stage.name, stage.arm) for stage in stages(alone)] == [("a search", "")]


def test_a_run_is_planned_with_all_that_it_is_started_with(folder: Path) -> None:
    sweep = read()
    (teach,) = runs_of(sweep, stages(sweep)[0], [], STORAGE)
    assert teach.name == f"teach-{teach.key}"
    assert settings(teach) == {
        "seed": "0", "name": teach.name, "tracking.group": "s", "storage": str(folder / "runs"), "steps": "0",
        "contamination.sweep": str(folder / "runs" / "sweeps" / "s" / "evaluations.json"),
    }  # fmt: skip
    # Whoever composes it, in whatever folder, has the run of that key.
    assert key_of(compose(teach.target, teach.overrides)) == teach.key


def test_a_trial_has_its_point_the_arm_and_the_searchs_seed() -> None:
    sweep = read()
    stage = stages(sweep)[2]
    (trial,) = trials_of(sweep, stage, [{"learner.learning_rate": 0.0003}], [TEACH], STORAGE)
    assert (trial.node, trial.arm, trial.seed) == ("policy", "flowrl", 1000)
    assert trial.name == f"policy-flowrl-{trial.key}"
    found = settings(trial)
    assert (found["seed"], found["learner.learning_rate"], found["algorithm.name"]) == ("1000", "0.0003", "flowrl")
    assert (found["judge.name"], found["judge.shared"]) == ("run:rlvr/teach-0123456789@judge", "true")
    assert trials_of(sweep, stage, [{"learner.learning_rate": 0.0003}], [TEACH], STORAGE) == [trial]
    # The whole of two trials differs in the point alone, and a point that chooses a preset is composed with it.
    (other,) = trials_of(sweep, stage, [{"learner.learning_rate": 0.0004}], [TEACH], STORAGE)
    assert other.key != trial.key
    (dapo,) = trials_of(sweep, stage, [{"algorithm.name": "dapo"}], [TEACH], STORAGE)
    like = compose("rlvr", [*(text for text in dapo.overrides if not text.startswith("judge.name")), "judge=hf:a/b"])
    like.judge.name = "run:rlvr/teach-0123456789@judge"
    assert (like.algorithm.clip_high, key_of(like)) == (0.28, dapo.key)


def test_runs_after_a_search_have_the_winners_settings_by_arm() -> None:
    sweep = read()
    runs = runs_of(sweep, stages(sweep)[3], [TEACH, *WINNERS], STORAGE)
    assert [(run.arm, run.seed, settings(run)["learner.learning_rate"]) for run in runs] == [
        ("grpo", 0, "0.001"),
        ("grpo", 1, "0.001"),
        ("flowrl", 0, "0.0002"),
        ("flowrl", 1, "0.0002"),
    ]
    assert [run.name for run in runs[:2]] == [f"policy-grpo-s{seed}-{runs[seed].key}" for seed in (0, 1)]
    with pytest.raises(RunError, match=r"runs\.policy needs policy-flowrl, which has no winner"):
        runs_of(sweep, stages(sweep)[3], [TEACH, WINNERS[0]], STORAGE)


def test_a_stage_that_ended_counts_while_its_runs_are_those_that_it_would_have_now() -> None:
    """The run of `teach`, and the winner of an arm's search; with another judge, or other settings, they are other runs."""
    sweep = read()
    teach, grpo = stages(sweep)[0], stages(sweep)[1]
    (planned,) = runs_of(sweep, teach, [], STORAGE)
    taught = Done("teach", "", 0, f"rlvr/{planned.name}")
    assert is_as_planned(sweep, teach, [taught], STORAGE)
    assert not is_as_planned(sweep, teach, [replace(taught, run="rlvr/teach-0123456789")], STORAGE)
    assert not is_as_planned(sweep, teach, [], STORAGE)
    point = {"learner.learning_rate": 0.001}
    (trial,) = trials_of(sweep, grpo, [point], [TEACH], STORAGE)
    winner = Done("policy", "grpo", 1000, f"rlvr/{trial.name}", point, True)
    assert is_as_planned(sweep, grpo, [TEACH, winner], STORAGE)
    assert not is_as_planned(sweep, grpo, [TEACH, replace(winner, point={"learner.learning_rate": 0.002})], STORAGE)


def test_a_reference_means_the_run_of_the_same_arm_and_seed() -> None:
    sweep = read()
    done = [TEACH, *WINNERS]
    # A winner of another seed's number is no run of that seed.
    done += [Done("policy", arm, seed, f"rlvr/p-{arm}-{seed}") for arm in ("grpo", "flowrl") for seed in (0, 1)]
    test = stages(sweep)[4]
    assert [settings(run)["model.name"] for run in runs_of(sweep, test, done, STORAGE)] == [
        "run:rlvr/p-grpo-0@20", "run:rlvr/p-grpo-1@20", "run:rlvr/p-flowrl-0@20", "run:rlvr/p-flowrl-1@20",
    ]  # fmt: skip
    with pytest.raises(RunError, match=r"runs\.test needs policy-flowrl-s1, which did not finish"):
        runs_of(sweep, test, done[:-1], STORAGE)


def test_without_seeds_a_reference_means_the_winner() -> None:
    sweep = read(SWEEP.replace("    seeds: 0..1\n  test", "  test"))
    test = next(stage for stage in stages(sweep) if stage.name == "test")
    runs = runs_of(sweep, test, [TEACH, *WINNERS], STORAGE)
    assert {settings(run)["model.name"] for run in runs if run.arm == "grpo"} == {"run:rlvr/policy-grpo-1111111111@20"}


def test_another_sweep_finds_what_is_stored_under_its_own_name(folder: Path) -> None:
    (first,) = runs_of(read(), Stage(read().nodes[0]), [], STORAGE)
    (folder / "runs/rlvr" / first.name).mkdir(parents=True)
    (folder / "runs/rlvr" / first.name / "config.yaml").touch()
    other = read("target: rlvr\nruns: {warm-up: {settings: {steps: 0}}, else: {settings: {steps: 0, data.seed: 1}}}")
    (warm_up,) = runs_of(other, stages(other)[0], [], STORAGE)
    assert (warm_up.name, warm_up.key) == (first.name, first.key)
    assert runs_of(other, stages(other)[1], [], STORAGE)[0].name.startswith("else-")


def test_paths_are_those_of_the_folder_where_the_sweep_was_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "my.py").write_text("def score(episodes):\n    return [0] * len(episodes)\n")
    (folder / "my.yaml").write_text("workload: rlvr\nreward: my.py:score\n")
    sweep = read("runs: {a: {target: my.yaml}}")
    (run,) = runs_of(sweep, stages(sweep)[0], [], STORAGE)
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    config = compose(run.target, run.overrides)
    assert config.reward.name == f"{folder}/my.py:score"
    assert key_of(config) == run.key


def test_a_stage_needs_what_its_most_demanding_run_does() -> None:
    text = """
target: rlvr
runs:
  teach: {settings: {steps: 0}, seeds: 0..2}
  policy:
    settings: {judge: "node:teach@judge", judge.shared: true}
    arms: {small: {learner.ranks: 1}, large: {learner.ranks: 2}}
    search: {rollout.fleet.servers: {choice: [1, 3]}, learner.cpus_per_rank: {uniform: [0.5, 2]}}
    tuning: {seed: 0}
"""
    sweep = read(text)
    small, large = (
        {bundle.role: bundle for bundle in plan_of(sweep, Stage(sweep.nodes[1], arm), STORAGE).bundles}
        for arm in ("small", "large")
    )
    assert (small["learner"].count, large["learner"].count, large["learner"].cpus, large["policy"].count) == (
        1,
        2,
        2,
        3,
    )
    # All trials ask the judge of one run; runs of several seeds would ask several.
    assert large["judge"].shared
    seeded = read(text.replace("    tuning: {seed: 0}", "    tuning: {seed: 0}\n    seeds: 1..2"))
    assert not plan_of(seeded, Stage(seeded.nodes[1]), STORAGE).bundles[3].shared


def test_no_two_stages_share_a_name() -> None:
    search = (Range("learner.learning_rate", "grid", (0.1, 0.2)),)
    searched = Node("a", "rlvr", {}, {"": {}}, (0,), search, Tuning())
    armed = Node("a", "rlvr", {}, {"b": {}, "search": {}}, (0,), search, Tuning())
    beside = [Node(name, "rlvr", {}, {"": {}}, (0,)) for name in ("a-b", "a-search")]
    for node in (searched, armed):
        names = [stage.name for stage in stages(Sweep("s", (node, *beside)))]
        assert len(set(names)) == len(names)
    assert Stage(searched, "").name != Stage(searched).name


@pytest.mark.parametrize(
    ("large", "words"),
    [
        ("cluster.inventory: 8x80GB, learner.ranks: 9", "stage large: The run can never be placed"),
        ("cluster.inventory: 8x1GB", "stage large: The run does not fit into the memory of its devices"),
    ],
)
def test_every_stage_is_known_to_fit_before_the_first_one_begins(large: str, words: str) -> None:
    sweep = read(f"target: rlvr\nruns: {{small: {{}}, large: {{settings: {{hardware: 8x80GB, {large}}}}}}}")
    small, _ = stages(sweep)
    check_stages(sweep, [small], inventory("8x80GB"), STORAGE)
    with pytest.raises(PreflightError, match=words):
        check_stages(sweep, stages(sweep), inventory("8x80GB"), STORAGE)
