"""Reward models and classifiers: rows, losses by hand, and what is taught, saved and found by others."""

from __future__ import annotations

import json
import math
import random
from collections import namedtuple
from pathlib import Path
from typing import Any

import lessons_rank
import pytest
import torch
import torch.multiprocessing as multiprocessing
from conftest import free_port
from invented import flat_gradient
from lessons_rank import CLASSES, MESSAGES, SHAPE, WORDS, ToyLesson, labelled_of, pair_of
from test_rows import PAD, double_model
from transformers import AutoTokenizer

from orchestrator.config.schema import FleetConfig, LearnerConfig, ModelConfig, Role, SftConfig
from orchestrator.errors import ConfigError
from orchestrator.learning import classifier, reward_model
from orchestrator.learning.calibration import CALIBRATION, calibration_of
from orchestrator.learning.head import HeadScorer, sequence_scorer
from orchestrator.learning.lessons import KINDS
from orchestrator.learning.rows import Row, pack
from orchestrator.learning.starting import HELD_OUT, kind_of, starting_model
from orchestrator.learning.starting import KINDS as NAMES
from orchestrator.learning.teaching import targets_of
from orchestrator.learning.tokenizer import build_tokenizer
from workloads.base import Branch, Labelled, Preference

One = namedtuple("One", ["reward"])
Three = namedtuple("Three", ["a", "b", "c"])


def vector(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    build_tokenizer(WORDS, (), 400, None, folder)
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What every case of `lessons_rank` found."""
    folder = tmp_path_factory.mktemp("taught")
    multiprocessing.spawn(lessons_rank.work, (free_port(), str(folder)), nprocs=1)
    results: dict[str, Any] = torch.load(folder / "results.pt", weights_only=False)
    return results


def test_the_bradley_terry_loss_by_hand() -> None:
    """Rewards 1.5, 0.25 | -1, 1: margins 1.25 and -2. Losses ln(1 + e^-1.25) = 0.25192908 and ln(1 + e^2) = 2.12692801, at both
    targets of a pair: mean 1.18942855. Slopes of the mean: -+sigmoid(-1.25) / 2 = 0.11135007, -+sigmoid(2) / 2 = 0.44039854.
    One pair of two is ordered right.
    """
    rewards, targets = vector(1.5, 0.25, -1, 1).requires_grad_(), torch.tensor([1, 0, 1, 0])
    losses = reward_model.preference_loss(One(rewards), targets)
    expected = vector(0.25192908, 0.25192908, 2.12692801, 2.12692801)
    torch.testing.assert_close(losses.detach(), expected, rtol=0, atol=1e-8)
    (slopes,) = torch.autograd.grad(losses.mean(), rewards)
    torch.testing.assert_close(slopes, vector(-0.11135007, 0.11135007, -0.44039854, 0.44039854), rtol=0, atol=1e-8)
    assert reward_model.ordered_right(One(rewards), targets).tolist() == [1, 0]
    assert reward_model.ordered_right(One(vector(2, 2)), targets[:2]).tolist() == [0.5]


def test_the_loss_of_a_class_by_hand() -> None:
    """Scores 0, ln 2, ln 5: probabilities 1/8, 2/8, 5/8. Of class 1: ln 4; slopes p - 1 at the class, p elsewhere.

    Scores 0, 0, 0: ln 3.
    """
    scores = [vector(0, 0), vector(math.log(2), 0), vector(math.log(5), 0)]
    first = [score.requires_grad_() for score in scores]
    losses = classifier.class_loss(Three(*first), torch.tensor([1, 2]))
    torch.testing.assert_close(losses.detach(), vector(math.log(4), math.log(3)), rtol=0, atol=1e-14)
    slopes = torch.stack(torch.autograd.grad(losses[0], first))[:, 0]
    torch.testing.assert_close(slopes, vector(1 / 8, -3 / 4, 5 / 8), rtol=0, atol=1e-14)
    right = classifier.classified_right(Three(*scores), torch.tensor([2, 1]))
    assert right.tolist() == [1, 0]


def test_a_pair_shares_all_that_both_sides_begin_with(tokenizer: Any) -> None:
    """The prompt and the answers' first two words; each branch ends with the end of the text and its target."""
    pair = Preference("a", Branch(MESSAGES, "we could report"), Branch(MESSAGES, "we could tell the nurse"))
    row = reward_model.row_of(pair, tokenizer, True, SHAPE)
    assert tokenizer.decode(row.prefix).endswith("we could")
    end = tokenizer.eos_token_id
    report, tell, the, nurse = (
        tokenizer.encode(word, add_special_tokens=False)[0] for word in ("report", "tell", "the", "nurse")
    )
    assert row.branches == ((report, end, 1), (tell, the, nurse, end, 0))
    assert row.learned == (1, 1)


def test_sides_with_different_prompts_share_what_they_can(tokenizer: Any) -> None:
    other = ({"role": "user", "content": "could we report"},)
    pair = Preference("a", Branch(MESSAGES, "good"), Branch(other, "good"))
    row = reward_model.row_of(pair, tokenizer, False, SHAPE)
    assert tokenizer.decode(row.prefix).endswith("could we")
    for side, branch in ((pair.better, row.branches[0]), (pair.worse, row.branches[1])):
        asked = tokenizer.apply_chat_template(list(side.messages), add_generation_prompt=True, return_dict=True)[
            "input_ids"
        ]
        assert [*row.prefix, *branch[:-1]] == [*asked, *tokenizer.encode("good", add_special_tokens=False)]


def test_messages_alone_can_be_classified(tokenizer: Any) -> None:
    row = classifier.row_of(Labelled("a", Branch(MESSAGES, ""), 2, CLASSES), tokenizer, False, SHAPE)
    assert (
        list(row.prefix)
        == tokenizer.apply_chat_template(list(MESSAGES), add_generation_prompt=True, return_dict=True)["input_ids"]
    )
    assert row.branches == ((2,),)


def test_the_head_reads_the_last_token() -> None:
    """In a row with two branches, as of each sequence alone: what stands behind changes nothing."""
    scorer = scorer_of(1)
    row = Row((3, 4, 5), ((6, 7, 1), (8, 9, 10, 0)), (1, 1))
    (microbatch,) = pack([row, Row((3,), ((4, 5, 6, 7, 8, 9, 10, 11, 0),), (1,))], 0, 1, 10**6, PAD)
    rewards = torch.zeros(3, dtype=torch.float64)
    rewards[microbatch.flat] = scorer(microbatch)[0].detach()
    for sequence, reward in (((3, 4, 5, 6, 7), rewards[0]), ((3, 4, 5, 8, 9, 10), rewards[1])):
        hidden = scorer.language_model(torch.tensor([sequence])).last_hidden_state[0, -1]
        torch.testing.assert_close(scorer.head(hidden)[0].detach(), reward, rtol=0, atol=1e-12)


def scorer_of(classes: int) -> HeadScorer:
    scorer = sequence_scorer(double_model(), [""] * classes)
    torch.nn.init.normal_(scorer.head.weight, generator=torch.Generator().manual_seed(2))
    return scorer


@pytest.mark.parametrize(("kind", "classes"), [("preference", 1), ("classification", 3)])
def test_the_gradient_does_not_depend_on_microbatches_or_ranks(tokenizer: Any, kind: str, classes: int) -> None:
    """To 1e-10 of its norm, in float64, against everything in one microbatch on one rank; fillers add nothing."""
    rng, scorer = random.Random(0), scorer_of(classes)
    make = {"preference": pair_of, "classification": labelled_of}[kind]
    rows = [KINDS[kind].row_of(make(rng, "g"), tokenizer, False, SHAPE) for _ in range(7)]
    rows = [
        Row(tuple(i % 40 for i in row.prefix), tuple(tuple(i % 40 for i in b) for b in row.branches), row.learned)
        for row in rows
    ]
    total = len(targets_of(rows))

    def gradient(ranks: int, tokens: int) -> torch.Tensor:
        pieces = [piece for rank in range(ranks) for piece in pack(rows, rank, ranks, tokens, PAD)]
        losses = [
            (KINDS[kind].criterion(scorer(piece), piece.target) * (piece.flat >= 0)).sum() / total for piece in pieces
        ]
        return torch.stack([flat_gradient(scorer, loss) for loss in losses]).sum(0)

    whole = gradient(1, 10**6)
    assert whole.norm() > 1e-3
    for ranks, tokens in [(1, 1), (1, 60), (2, 60), (5, 40)]:
        assert (gradient(ranks, tokens) - whole).norm() <= 1e-10 * whole.norm(), f"{ranks} ranks, {tokens} tokens"


def test_bad_examples_are_named() -> None:
    with pytest.raises(ConfigError, match=r"a pair of 'dilemma-7' has an empty worse answer .*'we could'"):
        Preference("dilemma-7", Branch(MESSAGES, "we could"), Branch(MESSAGES, " "))
    with pytest.raises(ConfigError, match="a pair of 'dilemma-7' has the same answer on both sides"):
        Preference("dilemma-7", Branch(MESSAGES, "we"), Branch(MESSAGES, "we"))
    for label in (-1, 3):
        with pytest.raises(ConfigError, match=rf"'text-1' \('we could'\) has the label {label}, .* 3 classes"):
            Labelled("text-1", Branch(MESSAGES, "we could"), label, CLASSES)
    with pytest.raises(ConfigError, match="an example of 'text-2' is empty"):
        Labelled("text-2", Branch((), ""), 0, CLASSES)
    texts = [
        Labelled(name, Branch(MESSAGES, "we"), 0, classes) for name, classes in (("a", CLASSES), ("b", ("x", "y")))
    ]
    with pytest.raises(ConfigError, match="an example of 'b' has the classes"):
        classifier.classes_of(texts)


def test_a_pair_that_is_too_long_names_its_group(tokenizer: Any) -> None:
    pair = Preference("dilemma-7", Branch(MESSAGES, "we could"), Branch(MESSAGES, "we"))
    with pytest.raises(ConfigError, match=r"an example of 'dilemma-7' has .* context_tokens=4"):
        reward_model.row_of(pair, tokenizer, False, ModelConfig(context_tokens=4))


def test_kinds_of_lessons(tmp_path: Path) -> None:
    """A lesson that says nothing is SFT; another word is refused; a policy is taught by SFT alone."""
    assert tuple(KINDS) == NAMES
    assert kind_of(object()) == "sft"
    wrong = ToyLesson("reward", "ranking", [], [])
    with pytest.raises(ConfigError, match="the lesson of the reward is of kind 'ranking': use one of sft, preference"):
        kind_of(wrong)
    role = Role("mini", SHAPE, FleetConfig(), SftConfig(steps=1), 0)
    lesson = ToyLesson("policy", "preference", [pair_of(random.Random(0), "a")], [])
    with pytest.raises(ConfigError, match="a policy is taught by sft alone"):
        starting_model("policy", role, LearnerConfig(), lessons_rank.ToyWorkload(), [lesson], tmp_path)


@pytest.mark.long
def test_lessons_of_every_kind_are_stages_of_one_group(taught: dict[str, Any]) -> None:
    """Three models by the same ranks, one after the other; the next run finds them, and gives the classifiers no fleet."""
    stages = taught["stages"]
    assert stages["to_teach"] == [True, True, True]
    assert stages["served"] == {"policy": True, "reward": False, "sorter": False}
    assert stages["again"] == [(folder, False, stages["served"][role]) for role, folder in stages["folders"].items()]
    assert [words.split(":")[0] for words in stages["told"]] == [
        "the reward on held-out data",
        "the sorter on held-out data",
    ]


@pytest.mark.long
def test_more_of_a_word_is_preferred(taught: dict[str, Any]) -> None:
    """On pairs that were not taught, two of a group: the interval is over the 60 groups."""
    report = json.loads((Path(taught["stages"]["folders"]["reward"]) / HELD_OUT).read_text())
    assert report["accuracy_n"] == lessons_rank.HELD_OUT_PAIRS
    assert report["groups"] == lessons_rank.HELD_OUT_PAIRS / 2
    assert report["accuracy"] > 0.9
    assert report["accuracy_low"] <= report["accuracy"] <= report["accuracy_high"]
    assert report["loss"] < 0.3


@pytest.mark.long
def test_a_reward_model_is_told_what_its_reference_answers_score(taught: dict[str, Any]) -> None:
    """Those of its held-out pairs, both sides, as transformers scores them from the folder."""
    folder, again = taught["stages"]["folders"]["reward"], taught["reward"]["scores"].double()
    found = calibration_of(folder)
    assert found.n == len(again) == 2 * lessons_rank.HELD_OUT_PAIRS
    assert found.mean == pytest.approx(float(again.mean()), abs=1e-5)
    assert found.spread == pytest.approx(float(again.std(correction=0)), abs=1e-5)
    report = json.loads((Path(folder) / HELD_OUT).read_text())
    assert {name: report[name] for name in CALIBRATION} == found.settings
    assert "reward_mean" not in json.loads((Path(taught["stages"]["folders"]["sorter"]) / "config.json").read_text())


@pytest.mark.long
def test_the_word_that_occurs_is_told(taught: dict[str, Any]) -> None:
    report = json.loads((Path(taught["stages"]["folders"]["sorter"]) / HELD_OUT).read_text())
    assert report["accuracy_n"] == report["groups"] == 50
    assert report["accuracy"] > 0.9


@pytest.mark.long
@pytest.mark.parametrize(("role", "chance"), [("reward", math.log(2)), ("sorter", math.log(3))])
@pytest.mark.parametrize("stage", [2, 3])
def test_the_head_starts_without_an_opinion(taught: dict[str, Any], role: str, chance: float, stage: int) -> None:
    assert taught[f"{role}-{stage}"]["losses"][0] == pytest.approx(chance, abs=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("role", ["reward", "sorter"])
@pytest.mark.parametrize("stage", [2, 3])
def test_transformers_computes_the_same_scores(taught: dict[str, Any], role: str, stage: int) -> None:
    """From the saved folder: each text alone against the engine's packed rows, and padded to one length."""
    result = taught[f"{role}-{stage}"]
    again = result["again"]
    torch.testing.assert_close(again["scores"].double(), result["scores"], rtol=0, atol=1e-6)
    torch.testing.assert_close(again["padded"], again["scores"], rtol=0, atol=1e-6)
    assert result["scores"].std() > 1e-3


@pytest.mark.long
def test_the_saved_folders_say_what_they_are(taught: dict[str, Any]) -> None:
    assert taught["reward"]["kind"] == taught["sorter"]["kind"] == "Qwen3ForSequenceClassification"
    assert taught["reward"]["labels"] == {0: "reward"}
    assert taught["sorter"]["labels"] == dict(enumerate(CLASSES))
    assert taught["reward"]["problem"] == "regression"
    margins = taught["reward"]["scores"].view(-1, 2)
    report = json.loads((Path(taught["stages"]["folders"]["reward"]) / HELD_OUT).read_text())
    assert float((margins[:, 0] > margins[:, 1]).double().mean()) == pytest.approx(report["accuracy"])
