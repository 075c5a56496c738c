"""What a written model says of itself: the cases that are chosen, and that its numbers are those of its weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import canary_rank
import pytest
import torch
import torch.multiprocessing as multiprocessing

from orchestrator.config.schema import ModelConfig, RunConfig
from orchestrator.fleets.serving.parity import ParityError, check_tensors, check_tokenizer, compare
from orchestrator.learning.canaries import plain_cases, played_cases, taught_cases
from orchestrator.learning.lessons import KINDS
from orchestrator.learning.model import build, save_folder, served_weights
from orchestrator.learning.starting import EXAMS, HELD_OUT, content_of, load_tokenizer
from orchestrator.learning.tokenizer import build_model_folder, build_tokenizer
from orchestrator.records import episodes
from orchestrator.records.canary import Canary, Case, read_canary, rendered
from orchestrator.records.folder import RunFolder
from orchestrator.sharing.export import CARD
from orchestrator.sharing.provenance import FILE
from orchestrator.values import POLICY, Episode, Group, Scored, Task, Turn
from workloads.base import Branch, Example, Labelled, Preference

MESSAGES = ({"role": "user", "content": "we could"},)
MODEL = ModelConfig(context_tokens=128)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """built: a model without weights."""
    root = tmp_path_factory.mktemp("canaries")
    build_tokenizer(canary_rank.WORDS, (), 400, None, root / "tokenizer")
    build_model_folder(canary_rank.SHAPE, root / "tokenizer", root / "built")
    return root


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Any:
    return load_tokenizer(str(folder / "built"))


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path, "rlvr", "a", RunConfig())


def turn(prompt: tuple[int, ...], completion: tuple[int, ...], role: str = POLICY) -> Turn:
    return Turn(role, prompt, completion, (-1.0,) * len(completion), "", "stop", 0.6, 0, 0)


def write(run: RunFolder, split: str, step: int, played: dict[str, list[tuple[Turn, ...]]], **task: Any) -> None:
    """played: a task's id -> the turns of each of its episodes."""
    groups = [
        Group(
            tuple(Episode(Task(name, MESSAGES, **task), step, n, turns) for n, turns in enumerate(attempts)),
            (Scored(0.0),) * len(attempts),
        )
        for name, attempts in played.items()
    ]
    episodes.write_step(run, step, groups, {}, split)


def asked(cases: list[Case]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    return [(case.prompt_ids, case.completion_ids) for case in cases]


# Five prompts of 1, 2, 3, 4 and 5 tokens: the first four, of the first the longest of three completions.
def test_the_shortest_prompts_of_the_newest_evaluation_are_asked(run: RunFolder, tokenizer: Any) -> None:
    prompts = {length: tuple(range(3, 3 + length)) for length in range(1, 6)}
    played = {f"t{length}": [(turn(prompts[length], (9,) * (20 + length)),)] for length in (5, 4, 3, 2)}
    played["t1"] = [(turn(prompts[1], (token,) * number),) for token, number in ((6, 17), (7, 19), (8, 18))]
    write(run, "eval", 2, {"old": [(turn((3,), (4,)),)]})
    write(run, "eval", 4, played)
    write(run, "train", 5, {"later": [(turn((3,), (4,)),)]})
    chosen = played_cases(run, tokenizer, MODEL)
    assert asked(chosen) == [(prompts[1], (7,) * 19), *((prompts[n], (9,) * (20 + n)) for n in (2, 3, 4))]
    assert played_cases(run, tokenizer, MODEL) == chosen
    # the task's messages do not render to these prompts
    assert {case.messages for case in chosen} == {None}


def test_without_an_evaluation_the_newest_training_episodes_are_asked(run: RunFolder, tokenizer: Any) -> None:
    write(run, "train", 1, {"a": [(turn((3,), (4,)),)]})
    write(run, "train", 2, {"a": [(turn((5, 6), (7,) * 16),)]})
    assert asked(played_cases(run, tokenizer, MODEL)) == [((5, 6), (7,) * 16)]


# The prompt that the messages render to is theirs; after another turn it is not, whatever it is.
def test_messages_are_kept_where_they_render_to_the_prompt(run: RunFolder, tokenizer: Any) -> None:
    prompt = rendered(tokenizer, MESSAGES, False)
    longer = (*prompt, 4, 5)
    said, opponent = (6,) * 20, turn((3,), (4,), role="attacker")
    write(
        run, "eval", 0, {"one": [(turn(prompt, said),)], "more": [(turn(prompt, (4,)), opponent, turn(longer, said))]}
    )
    assert played_cases(run, tokenizer, MODEL) == [Case(MESSAGES, prompt, said), Case(None, longer, said)]


# 3 tokens are filled up to 16 with the beginning of a prompt of 20. In a context of 30 such a prompt leaves room for 10 tokens,
# of which one is the server's; one of 29 tokens leaves none.
def test_short_completions_go_on_with_their_prompt(run: RunFolder, tokenizer: Any) -> None:
    prompt = tuple(range(3, 23))
    write(run, "eval", 0, {"a": [(turn(prompt, (7, 8, 9)),)], "b": [(turn((4,) * 29, (7,)),)]})
    assert asked(played_cases(run, tokenizer, MODEL))[0] == (prompt, (7, 8, 9, *prompt[:13]))
    assert asked(played_cases(run, tokenizer, ModelConfig(context_tokens=30))) == [(prompt, (7, 8, 9, *prompt[:6]))]


# 70 tokens are cut to 64; nothing can be said of a completion of none, and what may not be passed on is left out.
def test_long_completions_are_cut_and_restricted_texts_left_out(run: RunFolder, tokenizer: Any) -> None:
    write(run, "eval", 0, {"long": [(turn((3,), (4,) * 70),)], "empty": [(turn((5,), ()),)], "none": [()]})
    assert asked(played_cases(run, tokenizer, MODEL)) == [((3,), (4,) * 64)]
    write(run, "eval", 1, {"secret": [(turn((3,), (4,)),)]}, restricted=True)
    assert played_cases(run, tokenizer, MODEL) == []


def test_sentences_of_nobody_are_there_for_any_model(tokenizer: Any) -> None:
    cases = plain_cases(tokenizer, MODEL)
    assert len({case.prompt_ids for case in cases}) == 4
    for case in cases:
        assert case.messages
        assert rendered(tokenizer, case.messages, False) == case.prompt_ids
        assert len(case.completion_ids) == 16


# Six examples of which the third is the first once more: the first, second, fourth and fifth, of each the first branch.
def test_the_first_examples_of_a_lesson_are_asked(tokenizer: Any) -> None:
    texts = ["we", "we", "we", "report", "we we", "could could"]
    examples = [
        Example(text, (Branch(({"role": "user", "content": text},), f"we {number % 2}"), Branch(MESSAGES, "report")))
        for number, text in enumerate(texts)
    ]
    cases = taught_cases(examples, KINDS["sft"], tokenizer, True, MODEL)
    assert [case.messages and case.messages[0]["content"] for case in cases] == ["we", "we", "report", "we we"]
    for case, number in zip(cases, (0, 1, 1, 0), strict=True):
        assert case.messages
        assert rendered(tokenizer, case.messages, False) == case.prompt_ids
        assert tokenizer.decode(case.completion_ids).startswith(f" we {number}<|im_end|><|im_start|> user")


# 70 words: a head reads the last of them, so that they are not cut.
def test_sequence_lessons_ask_about_whole_texts(tokenizer: Any) -> None:
    long = Branch(MESSAGES, "we " * 69 + "report")
    pair = Preference("a", long, Branch(MESSAGES, "we"))
    labelled = Labelled("b", long, 0, ("good", "bad"))
    for kind, example in (("preference", pair), ("classification", labelled)):
        (case,) = taught_cases([example], KINDS[kind], tokenizer, False, MODEL)
        assert len(case.completion_ids) == 70
    (cut,) = taught_cases([Example("c", (long,))], KINDS["sft"], tokenizer, False, MODEL)
    assert len(cut.completion_ids) == 64


def test_a_canary_is_no_part_of_what_a_model_is(folder: Path, tmp_path: Path) -> None:
    """And it goes only where the weights go: a folder made of another one's files has a canary of its own, or none."""
    tensors = dict(served_weights(build(folder / "built", 0, "float32")))
    mine, other = (Canary("float32", False, (Case(None, (1,), (2,), (p,)),), "a", "b") for p in (-1.0, -2.0))
    save_folder(dict(tensors), folder / "built", tmp_path / "plain")
    save_folder(dict(tensors), folder / "built", tmp_path / "mine", canary=mine)
    assert read_canary(tmp_path / "plain") is None
    assert read_canary(tmp_path / "mine") == mine
    assert content_of(str(tmp_path / "plain")) == content_of(str(tmp_path / "mine"))
    save_folder(dict(tensors), tmp_path / "mine", tmp_path / "next")
    save_folder(dict(tensors), tmp_path / "mine", tmp_path / "last", canary=other)
    assert read_canary(tmp_path / "next") is None
    assert read_canary(tmp_path / "last") == other


# An exam's report is found again by what was asked: one that came along would stand for the exam of other weights.
def test_what_a_folder_tells_of_its_own_weights_stays_there(folder: Path, tmp_path: Path) -> None:
    tensors = dict(served_weights(build(folder / "built", 0, "float32")))
    save_folder(dict(tensors), folder / "built", tmp_path / "first")
    plain = {path.name for path in (tmp_path / "first").iterdir()}
    for name in (FILE, CARD, HELD_OUT, EXAMS.replace("*", "0a1b")):
        (tmp_path / "first" / name).write_text("{}")
    (tmp_path / "first" / "generation_config.json").write_text("{}")
    save_folder(dict(tensors), tmp_path / "first", tmp_path / "next")
    assert {path.name for path in (tmp_path / "next").iterdir()} == plain | {"generation_config.json"}


@pytest.fixture(scope="module")
def written(folder: Path) -> dict[str, bool]:
    """A folder of each of `canary_rank.KINDS`; whether writing it left the training as it was."""
    multiprocessing.spawn(canary_rank.work, (folder,), nprocs=1)
    same: dict[str, bool] = torch.load(folder / "same.pt")
    return same


def computed(folder: Path, canary: Canary) -> list[list[float]]:
    """What transformers computes for the cases, each alone, with the folder's weights in float32."""
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    scored = bool(canary.cases[0].scores)
    kind = AutoModelForSequenceClassification if scored else AutoModelForCausalLM
    model = kind.from_pretrained(folder, dtype=torch.float32).eval()
    found = []
    for case in canary.cases:
        with torch.no_grad():
            logits = model(torch.tensor([[*case.prompt_ids, *case.completion_ids]])).logits[0]
        if scored:
            found.append(logits.tolist())
        else:
            logprobs = torch.log_softmax(logits[len(case.prompt_ids) - 1 : -1], -1)
            found.append(logprobs.gather(1, torch.tensor(case.completion_ids)[:, None])[:, 0].tolist())
    return found


@pytest.mark.long
@pytest.mark.parametrize("kind", ["policy", "flowrl", "adapted", "sorter"])
def test_the_numbers_are_those_of_the_weights_beside_them(
    written: dict[str, bool], folder: Path, tokenizer: Any, kind: str
) -> None:
    """Log-probabilities at temperature 1 and a head's raw scores; adapters are in the weights, a log Z is not there."""
    canary = read_canary(folder / kind)
    assert canary is not None
    assert [len(case.expected) for case in canary.cases] == ([3, 3, 3] if kind == "sorter" else [3, 1, 64])
    parity = compare(canary, computed(folder / kind, canary))
    assert parity.gap_max < 1e-5
    assert parity.tokens == (9 if kind == "sorter" else 68)
    check_tokenizer(canary, tokenizer)
    check_tensors(folder / kind)


@pytest.mark.long
def test_weights_of_another_step_are_found_out(written: dict[str, bool], folder: Path) -> None:
    """The policy was trained for one step of 1e-3; the weights that it began with are another model's."""
    canary = read_canary(folder / "policy")
    assert canary is not None
    save_folder(dict(served_weights(build(folder / "built", 0, "float32"))), folder / "built", folder / "before")
    with pytest.raises(ParityError, match="does not compute what the trainer computed"):
        compare(canary, computed(folder / "before", canary))


@pytest.mark.long
def test_bfloat16_is_told_and_allowed_its_rounding(written: dict[str, bool], folder: Path) -> None:
    """The same weights computed in float32 differ by no more than the trainer rounded."""
    canary = read_canary(folder / "rounded")
    assert canary is not None
    assert canary.dtype == "bfloat16"
    served = computed(folder / "rounded", canary)
    parity = compare(canary, served)
    assert parity.gap_mean > 1e-4
    with pytest.raises(ParityError):
        compare(replace(canary, dtype="float32"), served)


@pytest.mark.long
@pytest.mark.parametrize("kind", canary_rank.KINDS)
def test_training_goes_on_as_if_nothing_had_been_asked(written: dict[str, bool], kind: str) -> None:
    """Bit by bit, also where a dropout draws random numbers."""
    assert written[kind]
