"""Layers of settings, strictness and origins, on a small workload file written by each test."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from orchestrator.config.compose import (
    ConfigError,
    compose,
    differences,
    from_values,
    to_values,
    trace,
    vary,
)
from orchestrator.config.explain import to_yaml
from orchestrator.config.keys import keys_of, nearest_keys
from orchestrator.config.layers import Layer, chooses_preset, flatten, read_yaml
from orchestrator.config.workloads import find_workload, workload_names

WORKLOAD = """
from __future__ import annotations

from dataclasses import dataclass

from orchestrator.config.schema import RunConfig, group, setting


@dataclass
class RubricConfig:
    path: str | None = setting(None, "The rubric's file.")
    tone: str = setting("plain", "Tone of the questions.", choices=("plain", "formal"))


@dataclass
class Config(RunConfig):
    rubric: RubricConfig = group(RubricConfig, "The rubric.")


class Workload:
    def __init__(self, config: Config) -> None:
        if config.rubric.tone == "formal" and config.judge.soft:
            raise ValueError("rubric.tone=formal needs judge.soft=false")
"""


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with world.py, its presets and a data file; also the current folder."""
    write(tmp_path / "world.py", WORKLOAD)
    write(
        tmp_path / "world/presets/small.yaml", "steps: 400\nlearner: {ranks: 4, zero_stage: 3}\njudge: {retries: 7}\n"
    )
    write(tmp_path / "world/presets/real.yaml", "judge:\n  retries: 8\n  gate_accuracy: 0.0\n")
    write(tmp_path / "world/presets/algorithm/grpo.yaml", "algorithm: {clip_high: 0.28, minibatches: 2}\n")
    write(tmp_path / "data.jsonl", "{}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def refused(*overrides: str, target: str = "world.py") -> str:
    with pytest.raises(ConfigError) as caught:
        compose(target, overrides)
    return str(caught.value)


def test_defaults_are_an_instance_of_the_workloads_config(world: Path) -> None:
    config = compose("world.py", [])
    assert type(config).__name__ == "Config"
    assert config.steps == 60
    assert config.rubric.tone == "plain"  # type: ignore[attr-defined]
    assert config.workload == str(world / "world.py")


def test_layers_in_order(world: Path) -> None:
    # Default 2 retries < preset small 7 < data source real 8 < own file 9 < command line 10.
    write(world / "my.yaml", "workload: world.py\npreset: small\njudge:\n  retries: 9\n")
    assert compose("world.py").judge.retries == 2
    assert compose("world.py", ["preset=small"]).judge.retries == 7
    real = ["preset=small", "data.source=real", "data.path=data.jsonl"]
    assert compose("world.py", real).judge.retries == 8
    assert compose("my.yaml", real[1:]).judge.retries == 9
    composed = trace("my.yaml", [*real[1:], "judge.retries=10"])
    assert composed.config.judge.retries == 10
    # What no later layer names stays as the earlier one left it.
    assert (composed.config.steps, composed.config.learner.ranks, composed.config.judge.gate_accuracy) == (400, 4, 0.0)
    assert composed.origins["judge.retries"] == "command line"
    assert composed.origins["judge.gate_accuracy"] == "world/presets/real.yaml"
    assert composed.origins["steps"] == "world/presets/small.yaml"
    assert composed.origins["preset"] == "my.yaml"


def test_the_last_override_of_a_key_wins(world: Path) -> None:
    assert compose("world.py", ["steps=5", "steps=6"]).steps == 6


def test_a_group_is_set_by_its_name_alone(world: Path) -> None:
    config = compose("world.py", ["judge=http://localhost:8000/v1", "model=hf:Qwen/Qwen3-0.6B"])
    assert config.judge.name == "http://localhost:8000/v1"
    assert config.model.name == "hf:Qwen/Qwen3-0.6B"
    # grpo has a YAML of its own, which lies under what is given.
    algorithm = compose("world.py", ["algorithm=grpo", "algorithm.minibatches=4"]).algorithm
    assert (algorithm.clip_high, algorithm.minibatches) == (0.28, 4)
    write(world / "my.yaml", "workload: world.py\nalgorithm: grpo\n")
    assert compose("my.yaml").algorithm.clip_high == 0.28
    # A group without a name says what it holds.
    assert "learner (command line): is a group" in refused("learner=2")


def test_yaml_may_use_dotted_keys(world: Path) -> None:
    write(world / "my.yaml", "workload: world.py\nlearner.ranks: 1\nrubric.tone: formal\n")
    config = compose("my.yaml")
    assert (config.learner.ranks, config.rubric.tone) == (1, "formal")  # type: ignore[attr-defined]


def test_values_are_read_as_they_are_meant(world: Path) -> None:
    config = compose("world.py", ["name=007", "learner.learning_rate=1e-6", "judge.soft=true", "cluster.address=null"])
    assert (config.name, config.learner.learning_rate, config.judge.soft) == ("007", 1e-6, True)
    assert config.cluster.address is None
    assert compose("world.py", ["learner.weight_decay=1"]).learner.weight_decay == 1.0


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("steps=many", "steps=many (command line): must be a whole number"),
        ("steps=1.5", "must be a whole number"),
        ("steps=true", "must be a whole number, not true"),
        ("steps=", "must be a whole number"),
        ("steps=null", "must be a whole number"),
        ("judge.soft=maybe", "must be true or false"),
        ("learner.learning_rate=fast", "must be a number"),
        ("learner.learning_rate=nan", "must be a finite number"),
        ("learner.learning_rate=[1]", "must be a number"),
        ("steps=-1", "steps=-1 (command line): must be at least 0"),
        ("learner.zero_stage=4", "must be at least 0 and at most 3"),
        ("model.dtype=float16", "must be one of float32, bfloat16"),
        ("algorithm=pppo", "algorithm.name=pppo (command line): must be one of cispo, dapo"),
        ("rubric.tone=rude", "must be one of plain, formal"),
        ("seed=0..4", "orchestrate train TARGET seed=0..4"),
        ("workload=rlvr", "is chosen by the first word"),
        ("steps", "write settings as key=value"),
        ("=3", "write settings as key=value"),
        ("preset=huge", "no such preset, only: real, small"),
        ("preset=../x", "no such preset"),
        ("steps=${nowhere}", "nowhere"),
    ],
)
def test_a_wrong_value_is_refused(world: Path, override: str, words: str) -> None:
    assert words in refused(override)


def test_all_problems_at_once(world: Path) -> None:
    message = refused("sted=1", "steps=many", "learner.zero_stage=9")
    assert message.startswith("3 settings are wrong:")
    assert "Did you mean seed?" in message or "Did you mean steps?" in message
    assert "steps=many" in message
    assert "learner.zero_stage=9" in message


def test_a_workload_refuses_what_it_cannot_do(world: Path) -> None:
    assert "world: rubric.tone=formal needs judge.soft=false" in refused("rubric.tone=formal", "judge.soft=true")


def test_a_mistake_in_a_file_names_the_file_and_the_nearest_key(world: Path) -> None:
    path = write(world / "my.yaml", "workload: world.py\nlearner: {rnaks: 2}\njudge: {soft: soon}\n")
    message = refused(target=str(path))
    assert f"learner.rnaks ({path}): there is no such key. Did you mean learner.ranks?" in message
    assert f"judge.soft=soon ({path}): must be true or false" in message
    write(world / "world/presets/small.yaml", "stepz: 3\n")
    assert "stepz (world/presets/small.yaml)" in refused("preset=small")
    write(world / "world/presets/small.yaml", "preset: real\n")
    assert "a preset cannot choose another" in refused("preset=small")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("steps: 3\n", "needs a line `workload: NAME`"),
        ("workload: world.py\nsteps: [3\n", "is not valid YAML"),
        ("workload: world.py\nsteps: 3\nsteps: 4\n", "is not valid YAML"),
        ("- 1\n", "must hold `key: value` lines"),
        ("workload: world.py\nname: no\n", "need quotes to be text"),
    ],
)
def test_a_malformed_file_is_named(world: Path, text: str, words: str) -> None:
    write(world / "my.yaml", text)
    message = refused(target="my.yaml")
    assert "my.yaml" in message
    assert words in message


def test_targets_that_are_none(world: Path) -> None:
    assert "missing.yaml: cannot be read" in refused(target="missing.yaml")
    assert "there is no such workload file" in refused(target="missing.py")
    assert "No workload is named 'nothing'" in refused(target="nothing")
    assert "the first word is a workload" in refused(target="steps=3")
    write(world / "empty.py", "")
    assert "a workload needs a class `Workload`" in refused(target="empty.py")
    write(world / "half.py", WORKLOAD.replace("class Config(RunConfig)", "class Config"))
    assert "`Config` must be a dataclass that is a subclass of RunConfig" in refused(target="half.py")
    write(world / "a b.py", WORKLOAD)
    assert "a b.py: its runs are kept in a folder of its name" in refused(target="a b.py")


def test_a_files_workload_is_found_beside_it(world: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    write(elsewhere / "other.py", WORKLOAD)
    write(elsewhere / "my.yaml", "workload: other.py\n")
    assert compose(str(elsewhere / "my.yaml")).workload == str(elsewhere / "other.py")


def test_shown_settings_can_be_run_again(world: Path) -> None:
    overrides = ["preset=small", "name=007", "data.source=real", "data.path=data.jsonl", "learner.learning_rate=3e-7"]
    first = trace("world.py", overrides)
    text = to_yaml(first)
    assert "  learning_rate: 3.0e-07  # command line" in text
    assert "steps: 400  # world/presets/small.yaml" in text
    write(world / "again.yaml", text)
    assert compose("again.yaml") == first.config
    # A run's own config.yaml also records versions and its format.
    write(world / "recorded.yaml", text + "versions: {torch: '2'}\nformat: 1\n")
    assert compose("recorded.yaml") == first.config


def test_differences_name_value_default_and_origin(world: Path) -> None:
    rows = differences(trace("world.py", ["preset=small", "seed=3", "rollout.temperature=1.0"]))
    assert [(row.key, row.value, row.default, row.origin) for row in rows] == [
        ("preset", "small", "mini", "command line"),
        ("seed", 3, 0, "command line"),
        ("steps", 400, 60, "world/presets/small.yaml"),
        ("judge.retries", 7, 2, "world/presets/small.yaml"),
        ("learner.ranks", 4, 2, "world/presets/small.yaml"),
        ("learner.zero_stage", 3, 2, "world/presets/small.yaml"),
    ]


def test_values_cross_to_another_process_and_back(world: Path) -> None:
    config = compose("world.py", ["preset=small", "rubric.tone=formal"])
    values = to_values(config)
    assert values["rubric"] == {"path": None, "tone": "formal"}
    assert from_values(values) == config
    with pytest.raises(ConfigError, match="stored settings"):
        from_values(values | {"stepz": 1})


def test_every_misspelled_key_is_refused_and_nearly_always_recognised(world: Path) -> None:
    keys = keys_of(type(compose("world.py")))
    rng, right, tried = random.Random(0), 0, 0
    for key in keys:
        for _ in range(4):
            at = rng.randrange(len(key) - 1)
            dropped, swapped = key[:at] + key[at + 1 :], key[:at] + key[at + 1] + key[at] + key[at + 2 :]
            for typo in {dropped, swapped} - set(keys):
                tried += 1
                right += nearest_keys(typo, keys) == [key]
    assert tried > 400
    assert right / tried > 0.97
    typos = [key[:-2] + key[-1] for key in keys]
    message = refused(*(f"{typo}=1" for typo in typos))
    assert all(f"- {typo} (command line): there is no such key." in message for typo in typos)


def test_an_ending_suggests_every_key_that_has_it(world: Path) -> None:
    assert "Did you mean learner.zero_stage?" in refused("zero_stage=1")
    message = refused("learning_rate=1")
    assert "Did you mean warmup.learning_rate or judge.training.learning_rate or learner.learning_rate?" in message
    gates = ("accuracy", "pair_order", "rank_correlation", "injection_flips")
    assert f"Did you mean {' or '.join(f'judge.gate_{name}' for name in gates)}?" in refused("judge.gate=1")
    assert "`orchestrate config explain`" in refused("qqqqqq=1")


@pytest.mark.parametrize("name", workload_names())
def test_workloads_that_ship_have_valid_presets(name: str) -> None:
    source = find_workload(name)
    keys = keys_of(source.config)
    assert compose(name).workload == name
    for path in source.presets.rglob("*.yaml"):
        assert flatten(read_yaml(path), keys, path.name)[1] == []
    assert all(key.doc for key in keys.values())


def test_every_setting_is_documented(world: Path) -> None:
    for key in keys_of(type(compose("world.py"))).values():
        assert key.doc, key.name


def test_hardware_lies_between_the_preset_and_what_is_given(world: Path) -> None:
    write(world / "own.yaml", "workload: world.py\npreset: small\nhardware: 1x80GB\nlearner: {zero_stage: 3}\n")
    composed = trace("own.yaml", ["learner.ranks=2"])
    config = composed.config
    # The preset's steps stay; its 4 ranks give way to the hardware's, and those to what is given.
    assert (config.steps, config.learner.gpus_per_rank, config.learner.ranks, config.learner.zero_stage) == (
        400,
        1,
        2,
        3,
    )
    assert composed.origins["learner.gpus_per_rank"] == "hardware=1x80GB"
    assert composed.origins["learner.ranks"] == "command line"
    # A preset of a group that the hardware or its user names lies under the hardware.
    assert compose("world.py", ["hardware=1x80GB", "algorithm=grpo"]).algorithm.minibatches == 2
    # A stored config says the same again.
    write(world / "stored.yaml", to_yaml(trace("world.py", ["hardware=8x80GB"])))
    assert to_values(compose("stored.yaml")) == to_values(compose("world.py", ["hardware=8x80GB"]))


def test_beside_a_preset_with_models_of_its_own_a_machine_chooses_only_what_is_its(world: Path) -> None:
    """Batches and memory are the machine's, lengths and models the preset's; what the preset leaves open the machine brings. On the
    machine that the preset was made for, it is above that in all it says."""
    preset = (
        'model: {name: "hf:Qwen/Qwen2.5-7B", dtype: bfloat16, context_tokens: 2048}\nrollout: {max_completion_tokens: 512, '
        "fleet: {gpu_memory_share: 0.3}}\nlearner: {learning_rate: 3e-6, tokens_per_microbatch: 4096}\n"
    )
    write(world / "world/presets/own.yaml", preset)
    write(world / "world/presets/made.yaml", "hardware: 8x80GB\n" + preset)
    write(world / "world/presets/algorithm/grpo.yaml", "learner: {warmup_steps: 0}\n")
    for name in ("own", "made"):
        config = compose("world.py", [f"preset={name}", "hardware=8x80GB", "learner.zero_stage=2"])
        study = (config.model.name, config.model.context_tokens, config.rollout.max_completion_tokens)
        assert study == ("hf:Qwen/Qwen2.5-7B", 2048, 512)
        assert (config.learner.learning_rate, config.learner.warmup_steps, config.judge.name) == (
            3e-6,
            5,
            "hf:Qwen/Qwen3-4B",
        )
        assert (config.placement.name, config.learner.zero_stage, config.cluster.inventory) == (
            "colocated",
            2,
            "8x80GB",
        )
        machines = (config.learner.tokens_per_microbatch, config.rollout.fleet.gpu_memory_share)
        assert machines == ((16384, 0.44) if name == "own" else (4096, 0.3))
        # A group's preset says what is studied too: the machine yields to it as to the preset.
        config = compose("world.py", [f"preset={name}", "hardware=8x80GB", "algorithm=grpo"])
        assert (config.learner.warmup_steps, config.learner.tokens_per_microbatch) == (0, machines[0])
    assert compose("world.py", ["preset=made"]).learner.gpus_per_rank == 1
    assert compose("world.py", ["preset=made", "hardware=1x80GB"]).rollout.fleet.gpu_memory_share == 0.37
    # What a user gives is above all.
    given = compose("world.py", ["preset=made", "rollout.fleet.gpu_memory_share=0.25", "model=hf:Qwen/Qwen3-8B"])
    assert (given.rollout.fleet.gpu_memory_share, given.model.name) == (0.25, "hf:Qwen/Qwen3-8B")


def test_unknown_hardware_lists_what_there_is(world: Path) -> None:
    message = refused("hardware=3x7GB")
    assert "hardware=3x7GB" in message
    assert "1x24GB, 1x80GB, 2x8x80GB, 8x80GB" in message
    assert "there are settings for" in refused("hardware=../hardware/1x24GB")


def test_hardware_comes_with_the_package() -> None:
    import tomllib

    root = Path(__file__).parents[2]
    packaged = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    assert {"**/*.yaml", "**/*.html", "**/*.css", "**/*.js"} <= set(packaged["orchestrator"])


@pytest.mark.parametrize("setting", ["rollout.top_p=0.9", "rollout.top_k=50", "rollout.min_p=0.1"])
def test_truncated_sampling_is_refused_with_the_reason(setting: str) -> None:
    """The engine's log-probabilities would be of the kept tokens alone."""
    with pytest.raises(ConfigError, match=rf"{setting.partition('=')[0]}.*renormalise.*biases every ratio"):
        compose("rlvr", [setting])


def test_layers_stand_between_the_file_and_the_command_line(world: Path) -> None:
    write(world / "my.yaml", "workload: world.py\nsteps: 1\nseed: 1\njudge: {retries: 1}\n")
    layers = [Layer("first", {"seed": 2, "judge.retries": 2}), Layer("second", {"judge.retries": 3})]
    composed = trace("my.yaml", ["seed=4"], layers)
    assert (composed.config.steps, composed.config.judge.retries, composed.config.seed) == (1, 3, 4)
    assert composed.origins["judge.retries"] == "second"
    with pytest.raises(ConfigError, match=r"seed=x \(third\): must be a whole number"):
        trace("my.yaml", [], [Layer("third", {"seed": "x"})])


def test_a_varied_config_is_what_composing_it_would_give(world: Path) -> None:
    composed = trace("world.py", ["preset=small"])
    values = {"seed": 7, "learner.learning_rate": "1e-3", "rubric.tone": "formal"}
    varied = vary(composed, values, "search")
    assert varied == compose("world.py", ["preset=small", *(f"{key}={value}" for key, value in values.items())])
    assert (varied.learner.learning_rate, varied.rubric.tone) == (1e-3, "formal")  # type: ignore[attr-defined]
    # What it came from, and what is composed afterwards, is as before.
    assert composed.config == compose("world.py", ["preset=small"])
    assert vary(composed, {}, "search") == composed.config


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"steps": "many"}, "steps=many (search): must be a whole number"),
        ({"steps": -1}, "steps=-1 (search): must be at least 0"),
        ({"rollout.max_completion_tokens": 256}, "leaves no room for a prompt"),
        ({"rubric.tone": "formal", "judge.soft": True}, "rubric.tone=formal needs judge.soft=false"),
        ({"steps": -1, "seed": "x"}, "seed=x (search)"),
    ],
)
def test_a_varied_config_is_checked_as_composing_would(world: Path, values: dict[str, object], words: str) -> None:
    composed = trace("world.py", [])
    with pytest.raises(ConfigError) as caught:
        vary(composed, values, "search")
    assert words in str(caught.value)


def test_settings_that_choose_others_are_told_apart() -> None:
    choosing = [("preset", "small"), ("algorithm.name", "flowrl"), ("data.source", "table"), ("model.name", "hf:a/b")]
    assert all(chooses_preset(*pair) for pair in choosing)
    assert not any(
        chooses_preset(*pair) for pair in [("steps", 3), ("judge.name", "run:rlvr/x@judge"), ("name", "x y")]
    )
