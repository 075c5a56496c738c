"""What a user can get wrong, told in one sentence with a remedy before anything starts; nothing half-written is left."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from orchestrator import experiment
from orchestrator.cluster import preflight
from orchestrator.cluster.preflight import Node
from orchestrator.config.compose import compose
from orchestrator.config.schema import ClusterConfig, ModelConfig
from orchestrator.errors import ConfigError, RunError
from orchestrator.learning.tokenizer import build_model_folder, build_tokenizer
from orchestrator.records import folder as records
from orchestrator.values import Task

CRITERION = {"criterion_id": "a", "criterion": "it names ben", "weight": 2, "dimension": "d", "judgement": "yes"}


class RayStartedError(AssertionError):
    """A run got as far as Ray."""


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    @contextmanager
    def connected(cluster: ClusterConfig) -> Iterator[Any]:
        raise RayStartedError
        yield

    monkeypatch.setattr(experiment, "connected", connected)
    # Other tests share a Ray in this process.
    for module in (experiment, preflight):
        monkeypatch.setattr(module, "joins", lambda cluster: False)
    monkeypatch.chdir(tmp_path)


def start(*words: str) -> str:
    """The message with which `orchestrate train rlvr WORDS` ends before Ray. Fails where a run's folder is left."""
    with pytest.raises(RunError) as caught:
        experiment.run(compose("rlvr", words))
    assert not list(Path.cwd().glob("**/config.yaml"))
    return str(caught.value)


def reaches_ray(*words: str) -> None:
    with pytest.raises(RayStartedError):
        experiment.run(compose("rlvr", words))


def site(*dilemmas: dict[str, Any]) -> list[str]:
    Path("site.json").write_text(json.dumps(dilemmas))
    return ["data.source=morebench_site", "data.path=site.json"]


def dilemma(name: str, text: str = "may i lie ?", **changes: Any) -> dict[str, Any]:
    """A row of the site's file with one criterion; `changes` go into it."""
    answer = {"response": "we may not .", "score": 100.0, "rubrics": [CRITERION | changes]}
    model = {"model_name": "m", "thinking_trace": answer, "model_resp": answer}
    meta = {"dilemma": text, "theory": "neutral", "dilemma_source": "s"}
    return {"task_id": name, "metadata": meta, "models": [model]}


TWO_STEPS = ["rollout.prompts_per_step=1", "warmup.steps=0", "judge.training.steps=1"]


def test_what_is_right_reaches_ray() -> None:
    """The same helpers without a mistake: otherwise the tests below could fail for another reason."""
    reaches_ray()
    reaches_ray(*site(dilemma("first"), dilemma("second", "may i steal ?")), *TWO_STEPS)
    reaches_ray(f"model=path:{model_folder('model')}")


@pytest.mark.parametrize(
    ("source", "path", "content", "message"),
    [
        ("morebench_site", "missing.json", None, "data.path=missing.json does not exist"),
        ("morebench_site", ".", None, "data.path=. is not a file"),
        ("morebench_site", "x", b"\xff\xfe", "x: cannot be read as JSON .* fetch it anew"),
        ("morebench_site", "x", b"{", "x: cannot be read as JSON .* fetch it anew"),
        ("morebench_site", "x", b"", "x: cannot be read as JSON .* fetch it anew"),
        ("morebench_site", "x", b"[]", "x: holds no list of dilemmas.* fetch it anew"),
        ("morebench", "missing.csv", None, "data.path=missing.csv does not exist"),
        ("morebench", ".", None, "holds no .csv file.* fetch them anew"),
        ("morebench", "x", b"\xff\xfe", "x: is not UTF-8 .* fetch them anew"),
        ("morebench", "x", b"DILEMMA,THEORY,RUBRIC\n", "x: holds no rows.* fetch them anew"),
    ],
)
def test_data_that_cannot_be_read(source: str, path: str, content: bytes | None, message: str) -> None:
    if content is not None:
        Path(path).write_bytes(content)
    told = start(f"data.source={source}", f"data.path={path}")
    assert re.search(message, told), told


def test_a_file_that_may_not_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    words = site(dilemma("first"), dilemma("second"))

    def refuse(path: Path, **_: Any) -> str:
        raise PermissionError(13, "Permission denied")

    config = compose("rlvr", words)
    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(RunError, match=r"site\.json: cannot be read as JSON \(.*Permission denied"):
        experiment.run(config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weight": 0}, "'weight' is 0; it must be one of -3, -2, -1, 1, 2, 3"),
        ({"weight": "2"}, "field 'weight' is of the wrong type, str"),
        ({"criterion": " "}, "field 'text' is ''"),
        ({"criterion_id": "a/b"}, "field 'id' is 'a/b'"),
        ({"judgement": None}, "field 'judgement' is of the wrong type"),
    ],
)
def test_a_malformed_rubric_names_row_and_field(changes: dict[str, Any], message: str) -> None:
    told = start(*site(dilemma("first"), dilemma("second", **changes)))
    assert message in told
    assert "site.json: row 1" in told
    assert "rubrics[0]" in told


def model_folder(name: str, context: int = 256) -> Path:
    """A folder as `save_pretrained` leaves it, but for the weights' content, which nothing before Ray reads."""
    build_tokenizer(("we",), (), 0, None, Path(f"{name}-tokenizer"))
    shape = ModelConfig(hidden_size=16, layers=1, heads=2, kv_heads=1, context_tokens=context)
    build_model_folder(shape, Path(f"{name}-tokenizer"), Path(name))
    (Path(name) / "model.safetensors").write_bytes(b"")
    return Path(name)


@pytest.mark.parametrize("role", ["model", "judge"])
@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("config.json", "it has no config.json"),
        ("model.safetensors", "holds no weights (*.safetensors, *.bin)"),
        ("tokenizer.json", "holds no tokenizer (tokenizer.json,"),
    ],
)
def test_a_model_folder_that_lacks_a_part(role: str, missing: str, message: str) -> None:
    folder = model_folder("model")
    (folder / missing).unlink()
    told = start(f"{role}=path:{folder}")
    assert message in told
    assert f"{role}.name: path:model" in told


def test_a_tokenizer_that_cannot_be_used() -> None:
    folder = model_folder("model")
    for path in folder.glob("chat_template*"):
        path.unlink()
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    assert "model.name=path:model: its tokenizer cannot render a chat" in start("model=path:model")


def test_a_prompt_longer_than_the_context() -> None:
    """A prompt of the miniature has at least 31 words, each a token, and the turn's marks."""
    told = start("model.context_tokens=32", "rollout.max_completion_tokens=8")
    assert re.search(r"the prompt of task \S+ has \d+ tokens .* model.context_tokens=32", told)
    long = "a" * 600
    words = [*site(dilemma("first"), dilemma("second", long)), *TWO_STEPS]
    # Shortened to 2.4 characters a token of the room beside the completion, it fits.
    reaches_ray(*words)


def test_the_one_long_prompt_among_many_is_found_quickly() -> None:
    """5,000 prompts of 5 words, and one of 60: with 3 marks, the last blank and, in bytes, " user" and " assistant" 79 tokens."""
    config = compose("rlvr", ["model.context_tokens=64", "rollout.max_completion_tokens=8"])
    policy = experiment.StartingModel("policy", str(model_folder("model")), True, None, False)
    short = [Task(f"short-{number}", ({"role": "user", "content": "we " * 5},)) for number in range(5000)]
    long = Task("long", ({"role": "user", "content": "we " * 60},))
    started = time.monotonic()
    experiment.check_tasks(config, {"train": short, "eval": short[:1]}, policy)
    with pytest.raises(ConfigError, match=r"the prompt of task long has 79 tokens"):
        experiment.check_tasks(config, {"train": [*short, long], "eval": short[:1]}, policy)
    assert time.monotonic() - started < 10  # 0.2 s on an idle core, the first import of transformers aside


def test_more_gpus_than_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Told before anything is read or started; of a cluster that is there already, by its own word."""

    @contextmanager
    def connected(cluster: ClusterConfig) -> Iterator[None]:
        yield None

    wanted = "learner.gpus_per_rank=1", "rollout.fleet.gpus_per_server=1"
    # two ranks and one server ask for a GPU each
    lacks = "it asks for 3 GPUs and there are 1. Lower learner.ranks or rollout.fleet.gpus_per_server"
    monkeypatch.setattr(preflight, "local_node", lambda: Node("here", 8, 1))
    assert lacks in start(*wanted)
    monkeypatch.setattr(experiment, "connected", connected)
    monkeypatch.setattr(preflight, "local_node", lambda: Node("here", 8, 8))
    for module in (experiment, preflight):
        monkeypatch.setattr(module, "joins", lambda cluster: True)
    monkeypatch.setattr(preflight, "nodes_of_cluster", lambda: [Node("one", 8, 1)])
    assert lacks in start(*wanted)


def test_a_bucket_is_no_folder_to_write_runs_to() -> None:
    with pytest.raises(ConfigError, match="mirror=s3://bucket/runs for a copy there"):
        compose("rlvr", ["storage=s3://bucket/runs"])


@pytest.mark.parametrize("name", ["a/b", "../up", "/abs", ".hidden", "a b"])
def test_a_name_that_is_no_folder(name: str) -> None:
    told = start(f"name={name}")
    assert f"name={name}: must be the name of one folder" in told
    with pytest.raises(ConfigError, match="cannot name a run folder"):
        records.RunFolder.create("runs", "rlvr", name, {})
    assert not Path("runs").exists()


def test_a_run_that_is_there_already(monkeypatch: pytest.MonkeyPatch) -> None:
    records.RunFolder.create("runs", "rlvr", "mine", {"steps": 1})
    before = {path: path.read_bytes() for path in Path("runs").rglob("*") if path.is_file()}
    with pytest.raises(RunError, match=r"rlvr/mine exists already in runs/rlvr/mine: choose another name with name="):
        records.RunFolder.create("runs", "rlvr", "mine", {"steps": 2})
    assert {path: path.read_bytes() for path in Path("runs").rglob("*") if path.is_file()} == before


def test_storage_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("file").write_text("")
    assert "file is not a folder. Name a folder that can be written" in start("storage=file/runs")
    assert Path("file").read_text() == ""

    def refuse(**_: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(records.tempfile, "TemporaryFile", refuse)
    assert "storage=kept/runs:" in (told := start("storage=kept/runs"))
    assert "cannot be written (Permission denied)" in told
    assert not Path("kept").exists()


def test_more_dilemmas_than_the_world_makes() -> None:
    told = start("data.eval_groups=1000000")
    # 256 training dilemmas beside them
    assert "1,000,256 dilemmas together, more than the world makes (1,000,000): lower them" in told


def test_a_step_of_more_tasks_than_there_are() -> None:
    told = start("data.train_groups=5", "rollout.prompts_per_step=6", "warmup.steps=0")
    assert "rollout.prompts_per_step=6 is more than the 5 training tasks" in told
    reaches_ray("data.train_groups=5", "rollout.prompts_per_step=5", "warmup.steps=0")


def test_a_workload_without_tasks(tmp_path: Path) -> None:
    config = compose("rlvr")
    model = model_folder("model")
    policy = experiment.StartingModel("policy", str(model), True, None, False)
    with pytest.raises(ConfigError, match=r"there is no eval task\. Look at data.path"):
        experiment.check_tasks(config, {"train": [None], "eval": []}, policy)  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ("[{'prompt': 'hi'}]", "train task 0 is {'prompt': 'hi'}: the workload's tasks() must return `Task`s"),
        ("[Task('a', ()), Task('a', ())]", "two train tasks have the id 'a': each needs its own"),
        (
            "[Task('a', ({'role': 'user', 'text': 'x'},))]",
            "train task 'a' has the message {'role': 'user', 'text': 'x'}",
        ),
        ("[Task('a', ('x',))]", "must have role and content, both texts"),
        (
            "open('no.json')",
            "the workload's tasks(): FileNotFoundError: [Errno 2] No such file or directory: 'no.json' (own.py:8)",
        ),
    ],
)
def test_what_a_workload_of_ones_own_gets_wrong(tasks: str, message: str) -> None:
    Path("own.py").write_text(
        "from orchestrator.values import Task\nfrom workloads.base import BaseWorkload\n\n\n"
        "class Workload(BaseWorkload):\n    def tasks(self, split):\n        # here\n"
        f"        return {tasks}\n\n    def tokenizer_texts(self):\n        return ['we'], []\n\n\n"
        "def reward(episodes):\n    return [0.0] * len(episodes)\n"
    )
    with pytest.raises(ConfigError) as caught:
        experiment.run(compose("own.py", ["rollout.prompts_per_step=1", "warmup.steps=0"]))
    assert message in str(caught.value)
