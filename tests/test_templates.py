"""The files that `orchestrate new` writes: each composes, plays and scores as it stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fakes.answerers import FakeAnswerer
from typer.testing import CliRunner

from orchestrator import cli, templates
from orchestrator.config.compose import compose
from orchestrator.config.functions import FunctionReference
from orchestrator.config.schema import RunConfig
from orchestrator.config.workloads import find_workload
from orchestrator.experiment import starting_models
from orchestrator.rollouts.functions import verdicts_of
from orchestrator.rollouts.play import roll_out
from orchestrator.templates import KINDS, start_file
from orchestrator.values import POLICY, Answer, Call, Episode, Sampling, Scored, Turn

NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def started(kind: str) -> tuple[RunConfig, Any]:
    """(settings of the command that `new` prints, the workload)."""
    words = start_file(f"my_{kind}", kind).command.split()
    assert words[:2] == ["orchestrate", "train"]
    config = compose(words[2], words[3:])
    return config, find_workload(config.workload).workload(config)


def play(config: RunConfig, workload: Any, say: Any, tasks: int = 2) -> list[Episode]:
    """Episodes of the first held-out tasks, two each; `say` is given a call and how often the task's sample was asked."""

    def answer(call: Call, attempt: int) -> Answer:
        return Turn(POLICY, (1,), (2,), (-0.1,), f" {say(call)}", "stop", 1.0, 0, call.seed)

    sampling = Sampling(config.rollout.max_completion_tokens)
    return roll_out(
        workload.tasks("eval")[:tasks],
        2,
        workload.environment(),
        sampling,
        {POLICY: FakeAnswerer(answer)},
        seed=0,
        step=0,
    )


def rewards(config: RunConfig, episodes: list[Episode]) -> list[float]:
    """As the pool would have them, task by task."""
    function = FunctionReference.parse(str(config.reward.name)).load()
    found = []
    for first in range(0, len(episodes), 2):
        verdicts = verdicts_of(function(episodes[first : first + 2]), 2)
        found += [verdict.reward for verdict in verdicts if isinstance(verdict, Scored)]
    return found


def test_a_template_is_short_and_names_its_own_command() -> None:
    for kind in KINDS:
        file = start_file(f"my_{kind}", kind)
        text = file.path.read_text()
        assert file.command in text
        assert f" {kind}.py" not in text
        assert len(text.splitlines()) < 60


def test_the_workload_is_learned_from_its_warm_up_and_its_reward() -> None:
    """156 ordered pairs of 13 numbers, 24 of them held out. Who says the last word of the question is right where that is more."""
    config, workload = started("workload")
    train, held_out = workload.tasks("train"), workload.tasks("eval")
    assert (len(train), len(held_out)) == (132, 24)
    assert not {task.id for task in train} & {task.id for task in held_out}
    assert [*config.roles()] == ["policy"]
    episodes = play(config, workload, lambda call: call.messages[-1]["content"].split()[-2], tasks=24)
    expected = []
    for task in held_out:
        left, right = (NUMBERS.index(word) for word in task.reference["options"])
        expected += [float(right > left)] * 2
    assert rewards(config, episodes) == expected
    assert 0 < sum(expected) < len(expected)


def test_the_workloads_model_is_built_from_its_own_texts() -> None:
    """Every number is one token; the warm-up is there to be taught, and no judge."""
    config, workload = started("workload")
    models = starting_models(config, workload, Path("runs"))
    assert [(model.role, model.to_teach) for model in models] == [("policy", True)]
    from orchestrator.learning.starting import load_tokenizer

    tokenizer = load_tokenizer(models[0].folder)
    assert [len(tokenizer.tokenize(f" {number}")) for number in NUMBERS] == [1] * 13


def test_the_environment_tells_more_or_less_until_the_number_is_found() -> None:
    """Asked for zero and one; the policy goes down from three. Zero: three, two, one, zero; one: three, two, one."""
    config, workload = started("environment")

    def down_from_three(call: Call) -> str:
        hints = [message["content"] for message in call.messages[1:] if message["role"] == "user"]
        assert set(hints) <= {"less"}
        return NUMBERS[3 - len(hints)]

    episodes = play(config, workload, down_from_three)
    assert [len(episode.turns) for episode in episodes] == [4, 4, 3, 3]
    # 1 - 0.2 a further turn
    assert rewards(config, episodes) == pytest.approx([0.4, 0.4, 0.6, 0.6])
    # One who always says the same finds only that.
    assert rewards(config, play(config, workload, lambda call: "one")) == [0, 0, 1, 1]
    starting_models(config, workload, Path("runs"))


def test_the_reward_and_its_gold_are_for_any_workload() -> None:
    """On rlvr: an answer of 24 different words of the prompt has all variety; one word 24 times has 1/24."""
    start_file("my_reward", "reward")
    config = compose("rlvr", ["reward=my_reward.py:reward", "reward.gold=my_reward.py:gold"])
    workload = find_workload(config.workload).workload(config)
    episodes = play(config, workload, lambda call: " ".join(dict.fromkeys(call.messages[0]["content"].split())))
    high = rewards(config, episodes)
    low = rewards(config, play(config, workload, lambda call: "xyz " * 24))
    # 0 of the question, and 1/24
    assert low == pytest.approx([1 / 48] * 4)
    assert all(value > 0.9 for value in high)
    gold = FunctionReference.parse(str(config.reward.gold)).load()
    assert verdicts_of(gold(episodes), 4) == [Scored(1.0)] * 4


def test_new_says_what_to_do_next_and_overwrites_nothing(tmp_path: Path) -> None:
    runner = CliRunner()
    done = runner.invoke(cli.app, ["new", "mine"])
    assert (done.exit_code, done.stdout) == (0, "mine.py is written. Try it:\n  orchestrate train mine.py steps=5\n")
    Path("mine.py").write_text("# mine")
    for words, told in (
        (["new", "mine"], "mine.py is there already"),
        (["new", "mine.py", "--kind", "reward"], "mine.py is there already"),
        (["new", "other", "--kind", "judge"], "--kind judge: there are workload, reward, environment"),
        (["new", "a b"], "a file is named with letters"),
        (["new", "missing/x"], "missing/x.py cannot be written (No such file or directory)"),
    ):
        done = runner.invoke(cli.app, words)
        assert done.exit_code == 2
        assert told in done.stderr
    assert Path("mine.py").read_text() == "# mine"
    assert runner.invoke(cli.app, ["new", f"{tmp_path}/there.py"]).exit_code == 0
    assert (tmp_path / "there.py").is_file()


def test_templates_are_in_the_package() -> None:
    assert {path.stem for path in Path(templates.__file__).parent.glob("*.py")} == {"__init__", *KINDS}
