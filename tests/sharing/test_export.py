"""A model's folder that is handed on, and its card."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from orchestrator.errors import ConfigError, RunError
from orchestrator.records import episodes
from orchestrator.records.folder import RunFolder, write_json
from orchestrator.sharing.export import export
from orchestrator.sharing.licences import licence_of_data, licence_of_model
from orchestrator.sharing.provenance import provenance
from orchestrator.sharing.source import find_source
from orchestrator.sweep.journal import FINISHED
from orchestrator.values import POLICY, Episode, Group, Scored, Task, Turn
from tests.fakes.models import ROWS, model_folder, run_with_checkpoints
from tests.fakes.sweeps import sweep_of

TEXT = "the words of a task"


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    run = run_with_checkpoints(tmp_path, "one", (4, 6), rows=ROWS)
    write_json(run.models, {"policy": ".cache/taught/policy-1", "judge": ".cache/taught/judge-1"})
    exam = {"accuracy": 0.9, "accuracy_low": 0.85, "accuracy_high": 0.95, "accuracy_n": 100, "prior_accuracy": 0.6}
    write_json(run.judge, {**exam, "dilemmas": 10})
    model_folder(tmp_path / ".cache" / "taught" / "judge-1", 7)
    return run


def card(storage: Path, target: str = "one", **settings: Any) -> ModelCard:
    if settings:
        folder = RunFolder(storage / "rlvr" / "one")
        for name, value in settings.items():
            folder.change_setting(name, {**folder.settings().get(name, {}), **value})
    exported = export(target, storage, storage / "out" / "mine")
    return ModelCard.load(exported.folder / "README.md")


def test_the_folder_holds_the_model_its_card_and_its_provenance(run: RunFolder, tmp_path: Path) -> None:
    exported = export("one@4", tmp_path, tmp_path / "out" / "mine")
    model = run.checkpoints / "step-000004" / "hf"
    names = sorted(path.name for path in exported.folder.iterdir())
    assert names == sorted([*(path.name for path in model.iterdir()), "README.md", "provenance.json"])
    for path in model.iterdir():
        assert (exported.folder / path.name).read_bytes() == path.read_bytes()
    assert json.loads((exported.folder / "provenance.json").read_text()) == provenance(find_source("one@4", tmp_path))
    assert exported.bytes == sum(path.stat().st_size for path in exported.folder.iterdir())
    assert provenance(find_source(f"path:{exported.folder}", tmp_path))["origin"]["reference"] == "run:rlvr/one@4"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_by_default_it_is_named_by_run_and_step(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert export("one", tmp_path).folder == Path("exports/one-step6")
    assert export("one@judge", tmp_path).folder == Path("exports/one-judge")


def test_only_the_same_export_may_be_there_already(run: RunFolder, tmp_path: Path) -> None:
    to = tmp_path / "mine"
    assert export("one", tmp_path, to).is_new
    (to / "README.md").write_text("a card with words of one's own")
    assert not export("one", tmp_path, to).is_new
    assert (to / "README.md").read_text() == "a card with words of one's own"
    with pytest.raises(ConfigError, match="holds something else"):
        export("one@4", tmp_path, to)
    (to / "provenance.json").unlink()
    with pytest.raises(ConfigError, match="holds something else"):
        export("one", tmp_path, to)
    (tmp_path / "empty").mkdir()
    assert export("one", tmp_path, tmp_path / "empty").is_new


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "model.safetensors").write_bytes(b"cut"), "the weights differ"),
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors is missing"),
        (lambda folder: (folder / "model-2.safetensors").write_bytes(b"x"), "model-2.safetensors was added"),
        (lambda folder: (folder / "tokenizer.json").write_text("[]"), "tokenizer.json differs"),
        (lambda folder: (folder / "config.json").unlink(), "config.json is missing"),
    ],
)
def test_a_damaged_export_is_not_called_there(
    run: RunFolder, tmp_path: Path, damage: Callable[[Path], object], said: str
) -> None:
    exported = export("one", tmp_path, tmp_path / "mine")
    damage(exported.folder)
    with pytest.raises(ConfigError, match=f"is not what was exported: {said}. Remove it"):
        export("one", tmp_path, tmp_path / "mine")


def test_nothing_is_left_of_an_export_that_failed(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("orchestrator.sharing.export.write_json", full)
    with pytest.raises(RunError, match="No space left"):
        export("one", tmp_path, tmp_path / "out" / "mine")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("target", ["hf:Qwen/Qwen3-0.6B", "path:{storage}/.cache/taught/judge-1"])
def test_a_model_of_no_run_is_not_exported(run: RunFolder, tmp_path: Path, target: str) -> None:
    with pytest.raises(ConfigError, match="is of no run"):
        export(target.format(storage=tmp_path), tmp_path, tmp_path / "mine")


def test_a_model_of_the_hub_that_a_run_began_with_is_not_exported(run: RunFolder, tmp_path: Path) -> None:
    write_json(run.models, {"policy": "Qwen/Qwen3-0.6B"})
    with pytest.raises(ConfigError, match=r"Qwen/Qwen3-0.6B of the hub, unchanged"):
        export("one@policy", tmp_path, tmp_path / "mine")


@pytest.mark.parametrize("name", ["judge.name", "mirror"])
def test_a_password_in_a_setting_leaves_no_machine(run: RunFolder, tmp_path: Path, name: str) -> None:
    url = "https://me:hunter2@host/v1"
    judge = {**run.settings()["judge"], "name": url}
    run.change_setting(*(("judge", judge) if name == "judge.name" else ("mirror", url)))
    with pytest.raises(RunError, match=r"config.yaml, line .* a URL with a password") as told:
        export("one", tmp_path, tmp_path / "mine")
    assert "hunter2" not in str(told.value)
    assert not (tmp_path / "mine").exists()


def test_the_front_matter_of_a_miniature(run: RunFolder, tmp_path: Path) -> None:
    assert card(tmp_path).data.to_dict() == {
        "license": "unknown", "library_name": "transformers", "pipeline_tag": "text-generation",
        "tags": ["reinforcement-learning", "grpo", "rlvr"],
    }  # fmt: skip


def test_the_front_matter_names_the_base_model_its_licence_and_the_data(run: RunFolder, tmp_path: Path) -> None:
    data = {"source": "table", "path": "hf:org/prompts"}
    made = card(tmp_path, model={"name": "hf:org/base"}, data=data).data
    assert (made.base_model, made.datasets, made.license) == ("org/base", ["org/prompts"], "unknown")


def test_a_licence_is_read_where_it_is_said(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "base")
    assert licence_of_model(f"path:{folder}") == {}
    (folder / "README.md").write_text("---\nlicense: other\nlicense_name: of-its-own\ntags: [a]\n---\nWords.\n")
    assert licence_of_model(f"path:{folder}") == {"license": "other", "license_name": "of-its-own"}
    for other in ("no front matter", "---\n: [\n---\n", "---\ntags: [a]\n---\n"):
        (folder / "README.md").write_text(other)
        assert licence_of_model(f"path:{folder}") == {}
    (folder / "config.json").write_text('{"license": "mit"}')
    assert licence_of_model(f"path:{folder}") == {"license": "mit"}
    (tmp_path / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n")
    assert (
        licence_of_data(str(tmp_path / "prompts.jsonl")) == licence_of_data(str(tmp_path)) == {"license": "cc-by-4.0"}
    )
    assert licence_of_data(None) == licence_of_data("hf:org/never-fetched") == licence_of_model("mini") == {}


def test_the_card_says_what_is_known(run: RunFolder, tmp_path: Path) -> None:
    text = card(tmp_path).text
    for line in (
        "# one, step 6",
        "Qwen3ForCausalLM of 1 weights) after 6 of 60 steps",
        "| held-out score by the truth (oracle) | 6 | 0.700 | 0.600 to 0.800 | 12 |",
        "| held-out score by the judge of training | 0 | 0.500 | 0.400 to 0.600 | 11 |",
        "| held-out accuracy | 0.900 | 0.850 to 0.950 | 100 |",
        "| best guess that ignores the answer | 0.600 |  |  |",
        "the intervals are over 10 groups of them",
        "- It was optimised against the judge",
        "exceeded the truth by +0.100 (+0.050 to +0.150) at step 0; a gap",
        "| the same minus the truth | 0 | 0.100 | 0.050 to 0.150 | 11 |",
        'from_pretrained("mine")',
        "orchestrate serve path:mine",
        "max_new_tokens=64, do_sample=True, temperature=1.0, top_k=0)",
        "Answers were sampled at temperature 1, at most 64 tokens.",
        "Taught from examples before RL: `warmup.steps=",
        "Nobody has stated one",
        "of `run:rlvr/one@6`",
    ):
        assert line in text, line
    # of step 6 no interval of the gap was recorded
    assert "+0.001" not in text
    assert "the same minus the truth | 6" not in text
    assert "nan" not in text.lower().split()
    assert str(tmp_path) not in text


def test_an_evaluation_of_other_weights_is_said_to_be_that(run: RunFolder, tmp_path: Path) -> None:
    run.metrics_log.unlink()
    (run.metrics_log).write_text(json.dumps({"step": 0, **ROWS[0]}) + "\n" + json.dumps({"step": 3, **ROWS[6]}) + "\n")
    assert (
        "The weights here are of step 4; the last evaluation before it was at step 3." in card(tmp_path, "one@4").text
    )


# 0.45 ± 12.706 (Student's t of two runs) times |0.5 - 0.4| / 2, as in the provenance.
def test_the_card_of_a_sweeps_best_gives_the_mean_with_its_interval(run: RunFolder, tmp_path: Path) -> None:
    runs = [("policy", arm, name, FINISHED, score) for arm, name, score in (
        ("a", "one", 0.5), ("a", "other", 0.4), ("b", "b0", 0.1),
    )]  # fmt: skip
    sweep_of(tmp_path, runs)
    assert (
        "The best of 3 finished runs of the sweep `mine` by its last `eval/oracle`. The mean of the 2 runs of the arm `a` is 0.450 "
        "(95 % interval over runs: -0.185 to 1.085). It was picked because it is the best, so its score flatters."
    ) in card(tmp_path).text


def test_the_card_of_one_run_of_a_sweep_gives_no_mean(run: RunFolder, tmp_path: Path) -> None:
    sweep_of(tmp_path, [("policy", "", "one", FINISHED, 0.5)])
    assert "of the sweep `mine` by its last `eval/oracle`. It was picked" in card(tmp_path).text


def test_the_card_of_a_judge(run: RunFolder, tmp_path: Path) -> None:
    text = card(tmp_path, "one@judge").text
    assert "# one, the judge that it began with" in text
    assert "Taught from examples before RL: `judge.training.steps=" in text
    assert "| held-out accuracy | 0.900 |" in text
    assert "## Evaluation" not in text


def test_a_card_names_neither_folders_nor_servers(run: RunFolder, tmp_path: Path) -> None:
    run.change_setting("files", {"/home/me/prompts.jsonl": "ab12"})
    text = card(
        tmp_path,
        judge={"name": "http://gpu7.lab:8000/v1", "served_name": "referee"},
        model={"name": "path:/home/me/base"},
        data={"source": "table", "path": "/home/me/prompts.jsonl"},
        reward={"name": "/home/me/my.py:score"},
        learner={"lora_rank": 8},
    ).text
    assert "gpu7" not in text
    assert "/home" not in text
    for part in (
        "`a server at a URL`, served as `referee`",
        "`path:base`",
        "| prompts.jsonl | ab12 |",
        "`name=my.py:score`",
    ):
        assert part in text, part
    assert "LoRA of rank 8; these are the whole weights" in text
    assert "Licence of the data: not known here" in text
    assert "The licence of the base model is not known here" in text


def test_the_card_holds_no_text_of_a_task(run: RunFolder, tmp_path: Path) -> None:
    task = Task("one", ({"role": "user", "content": TEXT},), restricted=True)
    turn = Turn(POLICY, (1,), (2,), (-0.1,), TEXT, "stop", 1.0, 0, 0)
    group = Group((Episode(task, 1, 0, (turn,)),), (Scored(1.0, {"met": 1.0}, {}),))
    episodes.write_step(run, 1, [group], {}, "train")
    text = card(tmp_path, data={"source": "table"}).text
    assert "The source of some of these texts forbids passing them on." in text
    assert TEXT not in text + (tmp_path / "out/mine/provenance.json").read_text()
