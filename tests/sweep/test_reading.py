"""Sweeps as they are written: what they become, and what is refused before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import ConfigError
from orchestrator.sweep.reading import PROJECT, read_seeds, read_sweep, sweep_of_seeds
from orchestrator.sweep.spec import Node, Sweep, Tuning

WHOLE = """
about: Two objectives
target: rlvr
mode: max
at_once: 4
settings: {steps: 20, learner: {ranks: 1}}
runs:
  test: {settings: {steps: 0, model: "node:policy@20", data.seed: 7}, arms: {grpo: {}, flowrl: {}}, seeds: [0, 2]}
  policy:
    settings: {judge: "node:teach@judge"}
    arms: {grpo: {algorithm: grpo}, flowrl: {algorithm: flowrl}}
    search:
      learner.learning_rate: {loguniform: [1.0e-4, 2.0e-3]}
      algorithm.beta: {choice: [5, 15], when: {algorithm: flowrl}}
    tuning: {trials: 4, scheduler: asha, hours: 2, gpu_hours: 10.5}
    seeds: 0..3
  teach: {settings: {steps: 0}}
"""
SEARCH = "target: rlvr\nruns: {a: {search: {steps: {grid: [1, 2]}}, tuning: {TUNING}}}"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(text: str, *overrides: str) -> Sweep:
    path = Path("s.yaml")
    path.write_text(text)
    return read_sweep(str(path), overrides)


def refused(text: str, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(text, *overrides)
    first, *others = str(caught.value).split("\n  - ")
    return others or [first]


def nodes(sweep: Sweep) -> dict[str, Node]:
    return {node.name: node for node in sweep.nodes}


def test_a_whole_sweep() -> None:
    sweep = read(WHOLE)
    assert (sweep.name, sweep.about, sweep.at_once, sweep.metric, sweep.mode) == (
        "s",
        "Two objectives",
        4,
        "eval/oracle",
        "max",
    )
    # Each after its inputs, whatever the file's order.
    assert [(node.name, node.inputs) for node in sweep.nodes] == [
        ("teach", ()),
        ("policy", ("teach",)),
        ("test", ("policy",)),
    ]
    policy = nodes(sweep)["policy"]
    assert policy.settings == {"steps": 20, "learner.ranks": 1, "judge.name": "node:teach@judge"}
    assert policy.arms == {"grpo": {"algorithm.name": "grpo"}, "flowrl": {"algorithm.name": "flowrl"}}
    assert policy.seeds == (0, 1, 2, 3)
    assert policy.tuning == Tuning(trials=4, scheduler="asha", hours=2, gpu_hours=10.5)
    assert [(item.key, dict(item.when)) for item in policy.search] == [
        ("learner.learning_rate", {}),
        ("algorithm.beta", {"algorithm.name": "flowrl"}),
    ]
    teach = nodes(sweep)["teach"]
    assert (teach.settings["steps"], teach.arms, teach.seeds, teach.search) == (0, {"": {}}, (0,), ())


def test_the_command_line_sets_what_the_file_sets_for_all_runs() -> None:
    sweep = read(WHOLE, "steps=30", "learner.zero_stage=1", "name=other")
    assert sweep.name == "other"
    # What a node says of itself stays: a run that only teaches.
    assert [node.settings["steps"] for node in sweep.nodes] == [0, 30, 0]
    assert {node.settings["learner.zero_stage"] for node in sweep.nodes} == {1}
    # algorithm.name is a setting of teach and test, whose arms leave it alone.
    assert nodes(read(WHOLE, "algorithm=dapo"))["teach"].settings["algorithm.name"] == "dapo"
    every = "target: rlvr\nruns: {a: {settings: {steps: 3}}, b: {search: {steps: {choice: [1, 2]}}}}"
    assert refused(every, "steps=5") == [
        "steps (command line): every node has its own, in its settings, arms or search. Change it in s.yaml."
    ]


def test_multiples_are_of_what_the_arms_have() -> None:
    """3e-4 in the preset of the miniature; another preset or setting moves all of them."""
    text = "target: rlvr\nruns: {a: {search: {learner.learning_rate: {times: [0.3, 1, 3]}}, tuning: {searcher: grid}}}"
    (node,) = read(text).nodes
    assert (node.search[0].kind, node.search[0].values) == ("choice", (9e-5, 3e-4, 9e-4))
    assert read(text, "learner.learning_rate=1e-6").nodes[0].search[0].values == (3e-7, 1e-6, 3e-6)
    unlike = text.replace("{search:", "{arms: {x: {learner.learning_rate: 1}, y: {}}, search:")
    (problem,) = refused(unlike)
    assert "multiples are of one number, which all arms have, and it is x 1.0, y 0.0003" in problem
    assert "factors above 0" in refused(text.replace("0.3", "0"))[0]


def test_the_command_line_says_other_seeds_for_nodes_that_have_several() -> None:
    found = nodes(read(WHOLE, "seeds=4..6"))
    assert [found[name].seeds for name in ("policy", "test", "teach")] == [(4, 5, 6), (4, 5, 6), (0,)]
    assert nodes(read(WHOLE, "seeds=3"))["policy"].seeds == (3,)
    assert "seeds=many (command line): write seeds=0..3" in refused(WHOLE, "seeds=many")[0]


def test_a_search_without_seeds_has_none_and_a_grid_its_size_as_trials() -> None:
    node = read(SEARCH.replace("TUNING", "searcher: grid")).nodes[0]
    assert node.seeds == ()
    assert node.tuning == Tuning(trials=2, searcher="grid")
    pbt = read(SEARCH.replace("TUNING", "scheduler: pbt, trials: 2")).nodes[0]
    assert pbt.tuning == Tuning(trials=2, searcher="random", scheduler="pbt")


@pytest.mark.parametrize(
    ("written", "seeds"),
    [
        ("0..3", (0, 1, 2, 3)), ("2..2", (2,)), ([3, 1, 3], (3, 1)), (5, (5,)),
        ("3..0", None), ("x", None), ([], None), ([True], None), (-1, None),
    ],
)  # fmt: skip
def test_seeds(written: object, seeds: tuple[int, ...] | None) -> None:
    assert read_seeds(written) == seeds


def test_all_that_is_wrong_is_told_at_once_with_its_place() -> None:
    problems = refused("""
target: rlvr
metrik: eval/oracle
at_once: 0
settings: {stepz: 3}
runs:
  a: {seed: 0..3}
  b: {seeds: some, arms: {x: {learner.ranks: many}, y: {seed: 1}}}
  c: {target: rlvrr}
  d: {search: {steps: {choice: [0, 1]}}, tuning: {trails: 4, searcher: grid, hours: -1}}
  e: {tuning: {trials: 3}, settings: {storage: here}}
""")
    expected = [
        "s.yaml, metrik: there is no such key. Did you mean metric?",
        "s.yaml, at_once=0: must be a whole number of at least 1.",
        "s.yaml, runs.a, seed: there is no such key. Did you mean seeds?",
        "stepz (s.yaml, settings): there is no such key. Did you mean steps?",
        "s.yaml, runs.b, seeds=some: write 0..3, or a list of whole numbers.",
        "learner.ranks=many (s.yaml, runs.b.arms.x): must be a whole number.",
        "seed (s.yaml, runs.b.arms.y): write seeds: 0..3 in the node (of a search: tuning.seed).",
        "s.yaml, runs.c, target: No workload is named 'rlvrr'. Did you mean rlvr? One's own is given as a .py or a .yaml file.",
        "s.yaml, runs.d.tuning, trails: there is no such key. Did you mean trials?",
        "s.yaml, runs.d.tuning, hours=-1: must be a number above 0.",
        "s.yaml, runs.e, tuning: there is no search here; write search: {KEY: {choice: […]}}.",
        "storage (s.yaml, runs.e.settings): give it as --storage FOLDER.",
    ]
    assert sorted(problems) == sorted(expected)


@pytest.mark.parametrize(
    ("runs", "words"),
    [
        ("a: {settings: {model: 'node:b'}}", "s.yaml, runs.a: node:b: there is no such node"),
        ("teach: {}\n  a: {settings: {judge: 'node:teech@judge'}}", "Did you mean node:teach?"),
        ("a: {settings: {model: 'node:b'}}\n  b: {settings: {judge: 'node:a'}}", "a needs b needs a, which cannot be"),
        ("a: {settings: {model: 'node:a'}}", "a needs a, which cannot be"),
        ("teach: {}\n  a: {settings: {judge: 'node:teach@judje'}}", "node:NAME@STEP or node:NAME@ROLE (judge, policy)"),
        ("b: {arms: {x: {}, y: {}}}\n  a: {settings: {model: 'node:b'}}", "arms (x, y). Give a the same ones: arms: {x: {}, y: {}}"),
        ("b: {seeds: 0..2}\n  a: {settings: {model: 'node:b'}, seeds: [1, 5]}", "runs of the seeds 0, 1, 2, and none of seed 5"),
        ("a: {search: {seed: {choice: [1]}}}", "search.seed: write seeds: 0..3 in the node (of a search: tuning.seed)"),
        (
            "b: {seeds: 0..2}\n  a: {settings: {model: 'node:b'}, search: {steps: {choice: [1]}}}",
            "none of seed 1000. Give b one seed or this one too (of a search it is tuning.seed).",
        ),
        ("a: {search: {algorithm.beta: {choice: [1], when: {algorithm: flowrl}}}}", "it waits for algorithm.name, which the node"),
        ("a: {search: {steps: {choice: [5, -1]}}}", "runs.a.search: steps=-1 (sweep s, runs.a): must be at least 0"),
        ("a: {search: {steps: {int: [1, 5]}, learner.zero_stage: {choice: [2, 'x']}}}", "learner.zero_stage=x"),
        ("a: {search: {algorithm: {choice: [grpo, grpoo]}}}", "algorithm.name=grpoo"),
        ("a: {search: {learner.learning_rate: {uniform: [0, 1]}}, tuning: {searcher: grid}}", "uniform has no end of them"),
        ("a: {search: {steps: {grid: [1, 2]}}, tuning: {searcher: grid, trials: 3}}", "trials=3: the grid has 2 points. Leave it out."),
        (
            "a: {arms: {x: {algorithm: grpo}, y: {algorithm: flowrl}}, tuning: {searcher: grid}, search: {algorithm.beta: "
            "{grid: [1, 2], when: {algorithm: flowrl}}}}",
            "the grids differ in size (x 1, y 2)",
        ),
        ("a: {search: {steps: {choice: [1, 2]}}, tuning: {scheduler: pbt, trials: 1}}", "pbt has at least 2 trials"),
        ("a: {search: {steps: {choice: [1, 2]}}, tuning: {scheduler: pbt, searcher: optuna}}", "searcher: random"),
        (
            "a: {search: {steps: {choice: [1, 2]}}, tuning: {seed: 2}, seeds: 0..2}",
            "runs.a.tuning, seed=2: is one of seeds, on which the winner must not have been chosen. Take another.",
        ),
        (
            "a: {search: {steps: {choice: [1, 2]}}, tuning: {seed: 3, repeats: 2}, seeds: [4, 5]}",
            "runs.a.tuning, seed=4: is one of seeds, on which the winner must not have been chosen. Take another.",
        ),
        (
            "a: {search: {steps: {choice: [1, 2]}}, tuning: {scheduler: asha, repeats: 2}}",
            "runs.a.tuning, repeats=2: asha compares single runs. Leave one of them out.",
        ),
        ("a: 3", "s.yaml, runs.a: must hold some of target, settings, arms"),
        ("a b: {}", "use letters, digits"),
        ("a: {arms: {x: 3}}", "runs.a.arms.x=3: must be a mapping of settings"),
        ("a: {arms: {x/y: {}}}", "runs.a.arms.x/y: runs are kept in folders of its name"),
        ("a: {arms: [x, y]}", "arms=['x', 'y']: must be a mapping"),
    ],
)  # fmt: skip
def test_an_impossible_sweep_is_refused(runs: str, words: str) -> None:
    (problem,) = refused(f"target: rlvr\nruns:\n  {runs}\n")
    assert words in problem


def test_pbt_needs_two_trials_side_by_side() -> None:
    text = "at_once: 1\n" + SEARCH.replace("TUNING", "scheduler: pbt, trials: 4")
    assert refused(text) == ["s.yaml, at_once=1: pbt needs at least 2 trials side by side."]


@pytest.mark.parametrize("metric", ["eval/judge", "eval/judge_high", "reward/mean", "eval/reward"])
def test_what_is_trained_against_does_not_choose_the_winner(metric: str) -> None:
    text = f"metric: {metric}\n" + SEARCH.replace("TUNING", "trials: 2")
    (problem,) = refused(text)
    assert f"s.yaml, metric={metric}: the training judge would choose the run that exploits it best" in problem
    assert read(f"judge_chooses: true\n{text}").metric == metric
    # Where nothing is searched nothing is chosen.
    assert read(f"metric: {metric}\ntarget: rlvr\nruns: {{a: {{}}}}").metric == metric


def test_a_sweep_without_runs_or_targets() -> None:
    assert refused("target: rlvr") == ["s.yaml, runs: names no run; write runs: {NAME: {seeds: 0..2}}."]
    assert "nothing says what is run" in refused("runs: {a: {}}")[0]
    assert (
        read("runs: {a: {target: rlvr}, b: {target: rubric, settings: {data.source: table}}}").nodes[1].target
        == "rubric"
    )


def test_sweeps_are_found_by_name(folder: Path) -> None:
    assert read_sweep("rlvr_quick").name == "rlvr_quick"
    (folder / "sweeps").mkdir()
    (folder / "sweeps/rlvr_quick.yaml").write_text("about: mine\ntarget: rlvr\nruns: {a: {}}")
    assert read_sweep("rlvr_quick").about == "mine"
    with pytest.raises(ConfigError, match=r"Did you mean rlvr_quick\? One's own is given as a .yaml file"):
        read_sweep("rlvr_quik")
    with pytest.raises(ConfigError, match=r"missing\.yaml: cannot be read"):
        read_sweep("missing.yaml")


@pytest.mark.parametrize("path", sorted((PROJECT / "sweeps").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_projects_sweeps_are_valid_and_say_what_they_are(path: Path) -> None:
    assert read_sweep(str(path)).about


def test_a_range_of_seeds_is_a_sweep_of_one_node() -> None:
    sweep = sweep_of_seeds("rlvr", ["steps=3"], range(3))
    (node,) = sweep.nodes
    assert (sweep.name, node.name, node.seeds, node.settings, node.target) == (
        "rlvr-mini",
        "mini",
        (0, 1, 2),
        {"steps": 3},
        "rlvr",
    )
    named = sweep_of_seeds("rlvr", ["name=base"], [4])
    assert (named.name, named.nodes[0].name) == ("base", "base")
    with pytest.raises(ConfigError, match=r"stepz \(command line\)"):
        sweep_of_seeds("rlvr", ["stepz=3"], [0])
    with pytest.raises(ConfigError, match="name=a/b: a sweep is kept in a folder of its name"):
        sweep_of_seeds("rlvr", ["name=a/b"], [0])


TRAINED_AND_ASKED = """
target: rlvr
runs:
  a: {settings: {steps: 0}}
  b: {target: social_r1.benchmarks, settings: {model: "node:a@policy"}}
"""


def test_the_command_line_is_for_the_nodes_that_have_such_a_setting(folder: Path) -> None:
    """A benchmark's files are no setting of the runs that train; what no run has is refused."""
    (folder / "files").mkdir()
    first, second = read(TRAINED_AND_ASKED, "data.hitom=files", "data.seed=3").nodes
    assert "data.hitom" not in first.settings
    assert second.settings["data.hitom"] == "files"
    assert first.settings["data.seed"] == second.settings["data.seed"] == 3
    assert refused(TRAINED_AND_ASKED, "data.hitomm=files") == [
        "data.hitomm (command line): there is no such key. Did you mean data.hitom?"
    ]
