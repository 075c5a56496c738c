"""What is asked of a checkpoint's server, and how the answers are shown; the server is a function."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from fakes.answerers import FakeAnswerer
from typer.testing import CliRunner

from orchestrator import cli
from orchestrator.config.compose import compose, to_values
from orchestrator.config.schema import RunConfig
from orchestrator.config.workloads import find_workload
from orchestrator.errors import ConfigError, RunError
from orchestrator.fleets.specs import ServerSpec
from orchestrator.records.folder import RunFolder
from orchestrator.sample import Asked, sample
from orchestrator.values import Answer, Call, Fault, Turn

WORDS = ["data.train_groups=8", "data.eval_groups=2", "placement=colocated", "rollout.temperature=0.5"]


def answer(call: Call, attempt: int) -> Answer:
    assert call.sampling is not None
    if "too long" in call.messages[-1]["content"]:
        return Fault("no room", lasting=True)
    text = f"{call.key} [bold] \x1b[2J"
    return Turn("policy", (1,), (2, 3), (-1.0, -1.0), text, "stop", call.sampling.temperature, 0, call.seed)


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeAnswerer:
    """Of a run `a` with checkpoints of the steps 2 and 4; `specs` of its servers are kept in `started`."""
    run = RunFolder.create(tmp_path, "rlvr", "a", to_values(compose("rlvr", [f"storage={tmp_path}", *WORDS])))
    for step in (2, 4):
        (run.checkpoints / f"step-{step:06d}" / "hf").mkdir(parents=True)
    (run.checkpoints / "LATEST").write_text("step-000004")
    fake = FakeAnswerer(answer)
    started: list[ServerSpec] = []

    @contextmanager
    def serving(config: RunConfig, specs: Sequence[ServerSpec]) -> Iterator[FakeAnswerer]:
        assert config.placement.name == "split", "a server that is alone has its GPUs to itself"
        started.extend(specs)
        yield fake

    monkeypatch.setattr("orchestrator.sample.serving", serving)
    monkeypatch.setattr(FakeAnswerer, "started", started, raising=False)
    return fake


def test_one_server_answers_from_the_checkpoint(tmp_path: Path, fleet: FakeAnswerer) -> None:
    weights, found = sample(Asked("a@2", ("hello", "you"), samples=2, max_tokens=9, seed=5), tmp_path)
    (spec,) = fleet.started  # type: ignore[attr-defined]
    assert (spec.role, spec.folder, spec.trained, spec.seat) == ("policy", str(weights), True, None)
    assert weights == tmp_path / "rlvr/a/checkpoints/step-000002/hf"
    assert fleet.asked == ["sample/prompt-1/0", "sample/prompt-1/1", "sample/prompt-2/0", "sample/prompt-2/1"]
    calls = fleet.batches[0]
    assert [call.messages[0]["content"] for call in calls] == ["hello", "hello", "you", "you"]
    assert {(call.sampling.max_tokens, call.sampling.temperature) for call in calls if call.sampling} == {(9, 0.5)}
    assert len({call.seed for call in calls}) == 4
    assert [len(item.answers) for item in found] == [2, 2]
    assert found[0].gold == (None, None)


def test_the_same_seed_asks_for_the_same(tmp_path: Path, fleet: FakeAnswerer) -> None:
    for seed in (1, 1, 2):
        sample(Asked("a", ("hello",), seed=seed), tmp_path)
    first, again, other = (batch[0].seed for batch in fleet.batches)
    assert first == again != other


def test_a_held_out_task_has_its_gold(tmp_path: Path, fleet: FakeAnswerer) -> None:
    task = find_workload("rlvr").workload(compose("rlvr", WORDS)).tasks("eval")[1]
    _, (found,) = sample(Asked("run:a", tasks=(task.id,)), tmp_path)
    assert found.task == task
    assert found.gold[0] is not None
    assert 0 <= found.gold[0] <= 1


def test_what_is_not_there_is_said(tmp_path: Path, fleet: FakeAnswerer) -> None:
    with pytest.raises(ConfigError, match="Steps that do: @2, @4"):
        sample(Asked("a@3", ("hello",)), tmp_path)
    with pytest.raises(ConfigError, match="No run 'b'"):
        sample(Asked("b", ("hello",)), tmp_path)
    with pytest.raises(ConfigError, match=r"no held-out task is 'eval-x'. There are 2, such as eval-"):
        sample(Asked("a", tasks=("eval-x",)), tmp_path)
    with pytest.raises(ConfigError, match="nothing to answer"):
        sample(Asked("a"), tmp_path)
    with pytest.raises(RunError, match="sample/prompt-1/0: no room"):
        sample(Asked("a", ("too long",)), tmp_path)


def test_the_verb_reads_lines_and_prints_text(tmp_path: Path, fleet: FakeAnswerer) -> None:
    done = CliRunner().invoke(
        cli.app, ["sample", "a", "first", "-", "--storage", str(tmp_path)], input="second\n\nthird\n"
    )
    assert (done.exit_code, done.stderr) == (0, "")
    assert [call.messages[0]["content"] for call in fleet.batches[0]] == ["first", "second", "third"]
    assert "user: second\n  [0] 2 tokens, stop\n  sample/prompt-2/0 [bold] �[2J\n" in done.stdout
    assert "\x1b" not in done.stdout
