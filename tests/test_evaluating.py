"""Runs that only evaluate, without an engine: what they ask, keep and record, how they stop and go on."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from orchestrator import evaluating
from orchestrator.cluster.needs import needs_of
from orchestrator.cluster.plan import make_plan
from orchestrator.config.compose import compose, to_values
from orchestrator.config.evaluation import EvaluationConfig
from orchestrator.contamination.items import fingerprint
from orchestrator.errors import ConfigError, RunError
from orchestrator.evaluating import evaluate, named, run_named
from orchestrator.fitting import Fitting
from orchestrator.records import episodes, jsonl, report
from orchestrator.records.folder import RunFolder, read_json, write_json
from orchestrator.records.metrics import read
from orchestrator.rollouts.parts import rows_of, view_rows
from orchestrator.sweep.graph import configs_of, plan_of, runs_of, stages
from orchestrator.sweep.spec import Done, Node, Sweep
from orchestrator.values import Answer, Call, Fault, Turn
from tests.fakes.answerers import FakeAnswerer
from workloads.social_r1.benchmarks.columns import BENCHMARKS

URL = "http://localhost:1/v1"


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """No page and no pictures, which take longest."""
    monkeypatch.setattr(evaluating, "show", lambda folder: None)


@pytest.fixture
def hitom(tmp_path: Path) -> Path:
    """Two stories of two questions, the right choice B."""
    rows = [
        {
            "prompting_type": "CoTP", "deception": False, "story_length": 1, "question_order": order, "sample_id": 2 * story + order,
            "story": f"1 Ann entered the room number {story}.\n2 The pear is in the box there, and nobody else had ever seen it.\n",
            "question": f"Where is the pear of order {order}?", "choices": "A. bag, B. box, C. bin", "answer": "box",
        }
        for story in range(2)
        for order in range(2)
    ]  # fmt: skip
    path = tmp_path / "hitom.json"
    path.write_text(json.dumps({"data": rows}))
    return path


def config_of(tmp_path: Path, hitom: Path, *settings: str, model: str = URL) -> EvaluationConfig:
    given = [f"storage={tmp_path / 'runs'}", f"data.hitom={hitom}", f"model.name={model}", *settings]
    config = compose("social_r1.benchmarks", given)
    assert isinstance(config, EvaluationConfig)
    return config


def answer(call: Call, attempt: int) -> Answer:
    """B to questions of order 0, nothing that is a choice to others."""
    assert call.sampling is not None
    said = "B" if "order 0" in call.messages[-1]["content"] else "?"
    return Turn(call.role, (1, 2), (3,), (-0.5,), said, "stop", call.sampling.temperature, 0, call.seed)


def opened(fake: FakeAnswerer) -> Any:
    @contextmanager
    def lend(*asked: Any, **further: Any) -> Iterator[FakeAnswerer]:
        yield fake

    return lend


def test_an_evaluation_is_a_run_like_any_other(tmp_path: Path, hitom: Path) -> None:
    config = config_of(tmp_path, hitom)
    fake = FakeAnswerer(answer)
    assert evaluate(config, opened=opened(fake)) == 0
    folder = RunFolder(tmp_path / "runs" / "social_r1.benchmarks" / str(config.name))
    summary = read_json(folder.summary)
    assert (summary["status"], summary["evaluation"]["trained_on"]) == ("finished", "not known")
    (part,) = summary["evaluation"]["parts"]
    # Order 0 right in both stories, order 1 in none.
    assert (part["score"]["mean"], part["no_answer"], part["chance"]) == (0.5, 2, pytest.approx(1 / 3))
    assert part["extras"] == {"joint, order 0": 1.0, "joint, order 1": 0.0}
    assert {value: one["mean"] for value, one in part["views"]["order"].items()} == {"0": 1.0, "1": 0.0}
    assert [row[:4] for row in view_rows(summary["evaluation"], "order")] == [
        ("hitom", "order", "0", "1.000"),
        ("hitom", "order", "1", "0.000"),
    ]
    with pytest.raises(ConfigError, match=r"--by odrer: the views of these benchmarks are .*order"):
        view_rows(summary["evaluation"], "odrer")
    (row,) = read(folder.metrics_log)
    assert (row["step"], row["test/hitom"], row["tokens/generated"]) == (0, 0.5, 4)
    assert not [name for name in row if name.startswith("eval/")]
    assert episodes.parts(folder) == [("test", 0)]
    groups = episodes.read_groups(folder, "test", 0)
    assert [group.episodes[0].task.reference["item"] for group in groups] == ["0", "1", "2", "3"]
    assert folder.report.is_file()
    assert not folder.answers.exists()
    assert {call.sampling.temperature for batch in fake.batches for call in batch if call.sampling} == {0.0}


def test_what_is_finished_is_found_and_what_stopped_goes_on(
    tmp_path: Path, hitom: Path, quiet: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluating, "AT_ONCE", 1)
    stopping = RunFolder(tmp_path / "runs" / "social_r1.benchmarks" / named(config_of(tmp_path, hitom))[0])

    def stops(call: Call, attempt: int) -> Answer:
        stopping.stop.touch()
        return answer(call, attempt)

    first, second = FakeAnswerer(stops), FakeAnswerer(answer)
    monkeypatch.setattr(evaluating, "answering", opened(first))
    status, folder = run_named(config_of(tmp_path, hitom))
    assert (status, folder.path) == (130, stopping.path)
    assert read_json(folder.summary)["status"] == "stopped"
    assert len(jsonl.read(folder.answers)) == 1
    monkeypatch.setattr(evaluating, "answering", opened(second))
    assert run_named(config_of(tmp_path, hitom))[0] == 0
    assert len(first.asked) == 1
    assert len(second.asked) == 3
    # A third time nobody is asked; other settings are another evaluation.
    assert run_named(config_of(tmp_path, hitom))[1].path == folder.path
    assert len(second.asked) == 3
    assert run_named(config_of(tmp_path, hitom, "limit=2"))[1].path != folder.path


def test_what_is_next_is_the_rest_of_it_or_its_views_and_another_model(
    tmp_path: Path, hitom: Path, quiet: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hints(folder: RunFolder) -> list[str]:
        screen = io.StringIO()
        report.render(folder, Console(file=screen, width=300))
        return [line.strip() for line in screen.getvalue().partition("Next\n")[2].splitlines()]

    folder = RunFolder(tmp_path / "runs" / "social_r1.benchmarks" / named(config_of(tmp_path, hitom))[0])

    def stops(call: Call, attempt: int) -> Answer:
        folder.stop.touch()
        return answer(call, attempt)

    monkeypatch.setattr(evaluating, "AT_ONCE", 1)
    monkeypatch.setattr(evaluating, "answering", opened(FakeAnswerer(stops)))
    assert run_named(config_of(tmp_path, hitom))[0] == 130
    here = f"orchestrate evaluate {URL} {folder.config}"
    assert hints(folder) == [here]
    # As the hint says: by the run's own settings, to the model that it names.
    fake = FakeAnswerer(answer)
    monkeypatch.setattr(evaluating, "answering", opened(fake))
    status, there = run_named(compose(str(folder.config), [f"model.name={URL}"]))
    assert (status, there.path, len(fake.asked)) == (0, folder.path, 3)
    by = [f"{here} --by {view}" for view in ("deception", "order", "'story length'")]
    assert hints(folder) == [*by, f"orchestrate evaluate MODEL {folder.config} name=null"]
    assert not compose(str(folder.config), ["model.name=http://another/v1", "name=null"]).name


def test_a_name_of_ones_own_goes_on_only_with_the_same_settings(tmp_path: Path, hitom: Path) -> None:
    assert named(config_of(tmp_path, hitom, "name=mine")) == ("mine", None)
    config = config_of(tmp_path, hitom, "name=mine")
    RunFolder.create(config.storage, "social_r1.benchmarks", "mine", to_values(config))
    assert named(config)[1] is not None
    assert named(config_of(tmp_path, hitom, "name=mine", "limit=2")) == ("mine", None)
    # A name that is made up is one that a folder may have.
    assert named(config_of(tmp_path, hitom, model="http://模型/"))[0].startswith("model-")


def test_a_fault_that_passes_is_asked_again_and_one_that_lasts_ends_the_run(
    tmp_path: Path, hitom: Path, quiet: None
) -> None:
    def shaky(call: Call, attempt: int) -> Answer:
        return answer(call, attempt) if attempt else Fault("busy")

    assert evaluate(config_of(tmp_path, hitom, "name=a"), opened=opened(FakeAnswerer(shaky))) == 0
    config = config_of(tmp_path, hitom, "name=b")
    with pytest.raises(RunError, match="too long"):
        evaluate(config, opened=opened(FakeAnswerer(lambda call, attempt: Fault("too long", lasting=True))))
    failed = read_json(RunFolder(tmp_path / "runs" / "social_r1.benchmarks" / "b").summary)
    assert failed["status"] == "failed"
    assert "too long" in failed["reason"]


def test_prompts_of_a_url_are_cut_where_its_context_is_said(tmp_path: Path, hitom: Path, quiet: None) -> None:
    config = config_of(tmp_path, hitom, "model.context_tokens=215", "rollout.max_completion_tokens=16")
    assert evaluate(config, opened=opened(FakeAnswerer(answer))) == 0
    folder = RunFolder(tmp_path / "runs" / "social_r1.benchmarks" / str(config.name))
    (part,) = read_json(folder.summary)["evaluation"]["parts"]
    assert (part["prompts_cut"], part["answers"]) == (4, 4)
    with pytest.raises(RunError, match="leaves no room for a prompt"):
        evaluate(
            config_of(tmp_path, hitom, "model.context_tokens=16", "rollout.max_completion_tokens=16"),
            opened=opened(FakeAnswerer(answer)),
        )


def trained(storage: Path, marks: dict[str, Any]) -> None:
    """A run with a checkpoint's model folder, that says what it was trained on."""
    config = compose("rlvr", ["name=policy", f"storage={storage}", "model.context_tokens=640"])
    run = RunFolder.create(storage, "rlvr", "policy", to_values(config))
    model = run.checkpoints / "step-000004" / "hf"
    model.mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (model / name).write_text("{}")
    (run.checkpoints / "LATEST").write_text("step-000004")
    write_json(run.trained_on, {"runs": marks})


def test_a_run_is_read_as_it_was_trained(tmp_path: Path, hitom: Path) -> None:
    trained(tmp_path / "runs", {})
    config = config_of(tmp_path, hitom, model="run:policy")
    assert (config.context, config.answer_tokens, config.read_model.dtype) == (640, 64, "float32")
    set_apart = config_of(
        tmp_path, hitom, "model.context_tokens=320", "rollout.max_completion_tokens=9", model="run:policy"
    )
    assert (set_apart.context, set_apart.answer_tokens) == (320, 9)
    plan = make_plan(config)
    assert [bundle.role for bundle in plan.bundles] == ["driver", "policy"]
    assert plan.facts == ("nothing is trained: run:policy is evaluated",)
    assert not needs_of(config, None).lacks
    # A machine on whose GPU training takes turns with its servers: alone, they have it for themselves.
    machine = config_of(tmp_path, hitom, "hardware=1x24GB", model="run:policy")
    (_, servers) = make_plan(machine).bundles
    assert (machine.placement.name, servers.gpus, servers.colocated) == ("colocated", 1, False)
    (tmp_path / "m").mkdir()
    for name, text in (
        ("config.json", '{"max_position_embeddings": 1000, "dtype": "bfloat16"}'),
        ("tokenizer.json", "{}"),
    ):
        (tmp_path / "m" / name).write_text(text)
    (tmp_path / "m" / "model.safetensors").write_text("")
    folder = config_of(tmp_path, hitom, model=f"path:{tmp_path / 'm'}")
    assert (folder.context, folder.answer_tokens, folder.read_model.dtype) == (1000, 250, "bfloat16")
    assert config_of(tmp_path, hitom).context is None


def test_a_benchmark_that_training_touched_has_no_score(
    tmp_path: Path, hitom: Path, quiet: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows of Hi-ToM that a run was trained on; its evaluation on them, and on others."""
    tasks = BENCHMARKS["hitom"].items(str(hitom), ["en"])
    story = next(task.story for task in tasks if task.id == "0")
    trained(tmp_path / "runs", {"rlvr/before": [fingerprint(story)], "rlvr/policy": []})
    monkeypatch.setattr(evaluating, "_fitting", lambda *_: Fitting.estimated(None))
    config = config_of(tmp_path, hitom, model="run:policy")
    assert evaluate(config, opened=opened(FakeAnswerer(answer))) == 0
    evaluation = read_json(RunFolder(tmp_path / "runs" / "social_r1.benchmarks" / str(config.name)).summary)[
        "evaluation"
    ]
    (part,) = evaluation["parts"]
    # Both questions about that story; what they came to is kept apart.
    assert (part["score"], part["views"], evaluation["trained_on"]) == (None, {}, "known")
    assert (part["touched"]["items"], part["touched"]["of"], part["touched"]["run"]) == (2, 4, "rlvr/before")
    assert part["touched"]["score"]["mean"] == 0.5
    assert rows_of(evaluation)[0][5] == "touched by training: 2 of 4 items (rlvr/before)"


def test_a_ray_that_is_joined_is_connected_to_before_its_nodes_are_looked_at(
    tmp_path: Path, hitom: Path, quiet: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes: list[str] = []

    @contextmanager
    def connected(cluster: Any) -> Iterator[None]:
        notes.append(f"connected to {cluster.address}")
        yield
        notes.append("left")

    monkeypatch.setattr(evaluating, "connected", connected)
    monkeypatch.setattr(evaluating, "preflight", lambda config: notes.append("looked"))
    config = config_of(tmp_path, hitom, "cluster.address=head:6379")
    assert evaluate(config, opened=opened(FakeAnswerer(answer))) == 0
    assert notes == ["connected to head:6379", "looked", "left"]


def test_how_answers_are_drawn_is_the_protocols_or_the_users_and_never_trainings(
    tmp_path: Path, hitom: Path, quiet: None
) -> None:
    fake = FakeAnswerer(answer)
    assert evaluate(config_of(tmp_path, hitom, "temperature=0.7"), opened=opened(fake)) == 0
    assert {call.sampling.temperature for batch in fake.batches for call in batch if call.sampling} == {0.7}
    for setting, remedy in (
        ("rollout.temperature=0.7", r"Set temperature=0\.7"),
        ("eval.samples_per_task=2", "as its protocol says"),
        ("eval.test_samples_per_task=2", "as its protocol says"),
    ):
        with pytest.raises(ConfigError, match=f"{setting}: .*{remedy}"):
            config_of(tmp_path, hitom, setting)
    # What a machine's preset says of training's steps is no wish about answers.
    assert config_of(tmp_path, hitom, "hardware=1x24GB").rollout.samples_per_prompt == 8


def test_an_evaluation_is_a_node_of_a_sweep(tmp_path: Path, hitom: Path) -> None:
    train = Node("policy", "rlvr", {"learner.ranks": 1}, {"": {}}, (0,))
    settings = {"data.hitom": str(hitom), "model.name": "node:policy"}
    asked = Node("asked", "social_r1.benchmarks", settings, {"": {}}, (0,), inputs=("policy",))
    sweep = Sweep("x", (train, asked))
    assert configs_of(sweep, tmp_path)["asked"][""].model.name == "mini"
    plan = plan_of(sweep, stages(sweep)[1], tmp_path)
    assert [bundle.role for bundle in plan.bundles] == ["driver", "policy"]
    # With the policy's run there, it is named; nothing that the sweep goes by is asked of the evaluation.
    trained(tmp_path, {})
    done = [Done("policy", "", 0, "rlvr/policy")]
    (planned,) = runs_of(sweep, stages(sweep)[1], done, tmp_path)
    assert "model.name=run:rlvr/policy" in planned.overrides
    assert not compose(planned.target, planned.overrides).learns
    assert compose("rlvr", []).learns


def test_a_model_that_only_scores_is_refused(tmp_path: Path, hitom: Path) -> None:
    """A run's reward model in place of its policy, by the run's word or as a folder."""
    model = tmp_path / "rater"
    model.mkdir()
    for name in ("model.safetensors", "tokenizer.json"):
        (model / name).write_text("")
    (model / "config.json").write_text(json.dumps({"architectures": ["Qwen3ForSequenceClassification"]}))
    trained(tmp_path / "runs", {})
    write_json(RunFolder(tmp_path / "runs" / "rlvr" / "policy").models, {"content": str(model)})
    for named_model in ("run:policy@content", f"path:{model}"):
        with pytest.raises(
            ConfigError, match=f"{named_model}: Qwen3ForSequenceClassification scores texts and writes no answers"
        ):
            evaluate(config_of(tmp_path, hitom, model=named_model), opened=opened(FakeAnswerer(answer)))
    assert not (tmp_path / "runs" / "social_r1.benchmarks").exists()


def test_a_model_without_weights_and_a_workload_that_trains_are_refused(tmp_path: Path, hitom: Path) -> None:
    with pytest.raises(ConfigError, match="model=mini: name the model that is evaluated"):
        evaluate(config_of(tmp_path, hitom, model="mini"), opened=opened(FakeAnswerer(answer)))
    with pytest.raises(ConfigError, match="rlvr trains: use `orchestrate train rlvr`"):
        run_named(compose("rlvr", []))
    with pytest.raises(ConfigError, match=r"reward\.name=.*: an evaluation scores answers by its own protocols"):
        config_of(tmp_path, hitom, "reward.name=mine.py:reward")
