"""The model a role starts from, and when a lesson has to be taught again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import huggingface_hub
import pytest

from orchestrator.config.schema import FleetConfig, LearnerConfig, ModelConfig, Role, SftConfig
from orchestrator.errors import ConfigError
from orchestrator.learning.starting import WEIGHTS, StartingModel, content_of, starting_model
from workloads.base import Branch, Example, Preference


class TinyLesson:
    role = "judge"
    end_token = False

    def __init__(self, target: str = "yes") -> None:
        self.target = target

    def examples(self) -> Sequence[Example]:
        return [Example("d", (Branch(({"role": "user", "content": "we"},), self.target),))]


class TinyWorkload:
    def tokenizer_texts(self) -> tuple[Sequence[str], Sequence[str]]:
        return ("we", "yes", "no"), ()

    def chat_template(self, role: str) -> str | None:
        return None


def judge(name: str = "mini", **training: Any) -> Role:
    shape = ModelConfig(hidden_size=16, layers=1, heads=2, kv_heads=1, context_tokens=32)
    return Role(name, shape, FleetConfig(), SftConfig(**{"named_models": True} | training), 0)


Find = Callable[..., StartingModel]


@pytest.fixture
def find(tmp_path: Path) -> Find:
    def find(role: Role, learner: LearnerConfig | None = None, lesson: TinyLesson | None = None) -> StartingModel:
        lessons = [lesson or TinyLesson()]
        return starting_model("judge", role, learner or LearnerConfig(), TinyWorkload(), lessons, tmp_path / "runs")

    return find


def model_folder(folder: Path, weights: bytes = b"weights", files: Mapping[str, str] = MappingProxyType({})) -> Path:
    folder.mkdir(parents=True)
    (folder / WEIGHTS).write_bytes(weights)
    for name, text in ({"config.json": "{}", "tokenizer.json": "{}"} | dict(files)).items():
        (folder / name).write_text(text)
    return folder


def test_a_taught_model_is_found_again(find: Find) -> None:
    first = find(judge())
    assert (first.to_teach, first.has_weights) == (True, False)
    assert Path(first.folder).is_dir()
    assert first.taught is not None
    model_folder(Path(first.taught))
    assert find(judge()) == StartingModel("judge", first.taught, True, first.taught, False)


def test_whatever_decides_the_taught_weights_decides_where_they_lie(find: Find) -> None:
    role = judge()
    places = [
        find(role),
        find(judge(steps=7)),
        find(judge(weight_decay=0.5)),
        find(replace(role, seed=1)),
        find(replace(role, model=replace(role.model, layers=2))),
        find(role, LearnerConfig(adam_beta2=0.9)),
        find(role, LearnerConfig(max_grad_norm=0.5)),
        find(role, lesson=TinyLesson("no")),
    ]
    assert len({place.taught for place in places}) == len(places)
    # how the work is spread decides nothing
    assert find(role, LearnerConfig(ranks=1, zero_stage=0, learning_rate=1.0)) == places[0]


# All folders of checkpoints are named hf, and two folders named x are two models: what is in them counts.
def test_a_named_model_is_known_by_its_content(find: Find, tmp_path: Path) -> None:
    a = model_folder(tmp_path / "a/hf")
    same = model_folder(tmp_path / "same/other")
    others = [
        model_folder(tmp_path / "b/hf", b"other"),
        model_folder(tmp_path / "c/hf", files={"config.json": "{ }"}),
        model_folder(tmp_path / "d/hf", files={"tokenizer.json": "{ }"}),
        model_folder(tmp_path / "e/hf", files={"chat_template.jinja": "x"}),
    ]
    taught = [find(judge(f"path:{folder}")).taught for folder in (a, *others)]
    assert len(set(taught)) == 5
    assert find(judge(f"path:{same}")).taught == taught[0]
    # what lies there besides is not the model
    (same / "exam-1.json").write_text("{}")
    (same / "generation_config.json").write_text("{}")
    assert find(judge(f"path:{same}")).taught == taught[0]
    # the shape that one gives for a named model sets its precision and its length
    bfloat16 = replace(judge(f"path:{a}"), model=replace(judge().model, dtype="bfloat16"))
    assert find(bfloat16).taught != taught[0]


def test_a_hub_id_is_known_by_its_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    commit = "0123abc"
    monkeypatch.setattr(
        huggingface_hub, "hf_hub_download", lambda name, file: str(tmp_path / "snapshots" / commit / file)
    )
    assert content_of("org/model") == "org/model@0123abc"
    monkeypatch.undo()
    # an id that cannot be one: no connection is needed to know
    with pytest.raises(ConfigError, match=r"hf:no/such/id: .*path:FOLDER"):
        content_of("no/such/id")


def test_a_named_model_is_taught_only_where_that_was_asked_for(find: Find, tmp_path: Path) -> None:
    name = f"path:{model_folder(tmp_path / 'x')}"
    assert find(judge(name)).to_teach
    assert find(judge(name, named_models=False)) == StartingModel("judge", name[5:], True, None, False)
    assert find(judge(name, steps=0)) == StartingModel("judge", name[5:], True, None, False)
    with pytest.raises(ConfigError, match=r"judge\.name=mini: nothing teaches this model"):
        find(judge(steps=0))


def test_a_shared_judge_is_not_served_by_the_run_and_must_be_taught_before(find: Find, tmp_path: Path) -> None:
    named = f"path:{model_folder(tmp_path / 'x')}"
    plain, taught = replace(judge(named, steps=0), shared=True), replace(judge(named), shared=True)
    assert find(plain) == StartingModel("judge", named[5:], True, None, False, served=False)
    with pytest.raises(ConfigError, match=r"judge\.shared needs .*steps=0.*judge=run:NAME@judge"):
        find(taught)
    before = find(judge(named)).taught
    assert before is not None
    model_folder(Path(before))
    assert find(taught) == StartingModel("judge", before, True, before, False, served=False)


class PairLesson(TinyLesson):
    kind = "preference"
    end_token = True

    def examples(self) -> Sequence[Any]:
        better, worse = (Branch(({"role": "user", "content": "we"},), word) for word in ("yes", "no"))
        return [Preference("d", better, worse)]

    def held_out(self) -> Sequence[Any]:
        return self.examples()


def test_a_reward_model_that_the_reward_asks_is_served_and_others_are_only_taught(find: Find) -> None:
    scoring = replace(judge(), scores=True)
    assert [find(role, lesson=PairLesson()).served for role in (judge(), scoring)] == [False, True]
    first = find(scoring, lesson=PairLesson())
    assert first.taught is not None
    model_folder(Path(first.taught))
    assert find(scoring, lesson=PairLesson()) == StartingModel("judge", first.taught, True, first.taught, False)


def test_a_reward_model_is_taught_by_pairs_up_to_their_end(find: Find) -> None:
    scoring, endless = replace(judge(), scores=True), PairLesson()
    endless.end_token = False
    with pytest.raises(ConfigError, match=r"the lesson of the judge is of kind sft, without end_token: a reward model"):
        find(scoring, lesson=TinyLesson())
    with pytest.raises(ConfigError, match=r"of kind preference, without end_token"):
        find(scoring, lesson=endless)


def test_a_named_reward_model_scores(find: Find, tmp_path: Path) -> None:
    """One output: a model that writes is none, and neither is a classifier."""
    from transformers import Qwen3Config

    def role(name: str, architecture: str, outputs: int) -> Role:
        folder = model_folder(tmp_path / name)
        Qwen3Config(hidden_size=8, architectures=[architecture], num_labels=outputs).save_pretrained(folder)
        return replace(judge(f"path:{folder}", steps=0), scores=True)

    assert find(role("good", "Qwen3ForSequenceClassification", 1)).served
    for name, architecture, outputs in (
        ("writes", "Qwen3ForCausalLM", 1),
        ("sorts", "Qwen3ForSequenceClassification", 3),
    ):
        with pytest.raises(
            ConfigError, match=rf"judge\.name=path:.*{architecture} with {outputs} outputs is no reward model"
        ):
            find(role(name, architecture, outputs))
