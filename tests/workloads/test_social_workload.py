"""The workload in its miniature: roles, tasks, truth, metrics, lessons, and the runs that teach a rater alone; fleets are functions."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from orchestrator.config.compose import compose
from orchestrator.config.schema import JudgeConfig
from orchestrator.errors import ConfigError
from orchestrator.learning.tokenizer import build_tokenizer
from orchestrator.values import Answer, Episode, Fault, Group, Score, Scored, Turn, Unscored
from workloads import social_r1
from workloads.social_r1 import mini, reasoning, world
from workloads.social_r1.asked import read_score
from workloads.social_r1.prompts import REAL
from workloads.social_r1.raters import ContentLesson, Pair, Reasoned, StructureLesson, candidates
from workloads.social_r1.reward import SocialRewardConfig, repetition, said, window

SMALL = [
    "data.train_groups=9", "data.eval_groups=9", "warmup.steps=2", "judge.training.steps=2", "content.training.steps=2"
]  # fmt: skip


def workload(*words: str) -> social_r1.Workload:
    return social_r1.Workload(compose("social_r1", [*SMALL, *words]))


@pytest.fixture(scope="module")
def made() -> social_r1.Workload:
    return workload()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is gathered is kept under runs/ of the current folder."""
    monkeypatch.chdir(tmp_path)


def turn(text: str) -> Turn:
    return Turn("policy", (), (), (), text, "stop", 1.0, 0, 0)


def played(made: social_r1.Workload, texts: dict[str, str]) -> list[Group]:
    """Each task of the evaluation with one answer, which no rater has seen."""
    groups = []
    for task in made.tasks("eval"):
        episode = Episode(task, 0, 0, (turn(texts[task.id]),))
        groups.append(Group((episode,), (Unscored("nobody was asked"),)))
    return groups


@pytest.mark.parametrize(
    ("variant", "roles"),
    [
        ("full", ["policy", "judge", "content"]),
        ("no_content", ["policy", "judge"]),
        ("no_structure", ["policy", "content"]),
        ("outcome", ["policy"]),
    ],
)
def test_a_run_serves_the_raters_that_its_variant_asks(variant: str, roles: list[str]) -> None:
    found = workload(f"reward.variant={variant}")
    assert list(found.config.roles()) == roles
    assert [lesson.role for lesson in found.lessons()] == roles
    assert [role.scores for role in found.config.roles().values()] == [name == "content" for name in roles]


def test_the_policy_reads_the_worlds_own_prompt(made: social_r1.Workload) -> None:
    for task in made.tasks("train"):
        item = made.items[task.id]
        options = " ".join(f"{text} {letter}" for letter, text in zip("ABCD", item.options, strict=True))
        assert task.messages == ({"role": "user", "content": f"{item.question} {item.story} {options}"},)
    sides = {split: {task.reference["group"] for task in made.tasks(split)} for split in ("train", "eval")}
    assert {split: len(groups) for split, groups in sides.items()} == {"train": 9, "eval": 9}
    assert not sides["train"] & sides["eval"]


def test_the_warm_up_has_stories_of_its_own(made: social_r1.Workload) -> None:
    """Two steps of 32 examples: 64 stories, none of which RL or an evaluation asks about."""
    lesson = next(lesson for lesson in made.lessons() if lesson.role == "policy")
    read = [example.branches[0].messages[0]["content"] for example in lesson.examples()]
    asked = {task.messages[0]["content"] for split in ("train", "eval") for task in made.tasks(split)}
    assert len(set(read)) == len(read) == 64
    assert not asked & set(read)


def test_all_words_are_one_token_and_answers_come_back(made: social_r1.Workload, tmp_path: Path) -> None:
    """What the policy's ids say is, tags and all, what was meant."""
    from transformers import AutoTokenizer

    words, texts = made.tokenizer_texts()
    assert texts == ()
    build_tokenizer(words, texts, 0, None, tmp_path / "tokenizer")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "tokenizer")
    rng, item = random.Random(0), made.items["eval-0-a"]
    text = reasoning.answer(item, rng, reasoning.Quality())
    ids = tokenizer(text)["input_ids"]
    assert len(ids) == len(text.split())
    back = said(tokenizer.decode(ids, skip_special_tokens=True))
    assert (back.format, back.letter) == (1.0, mini.question_of(item).letter)
    assert reasoning.structure(item, back.thinking) == 1.0 == pytest.approx(reasoning.content(item, back.thinking))
    score = tokenizer.decode(tokenizer(mini.WORDING.score(0.8))["input_ids"])
    assert read_score(score) == 0.8


# Originals are answered rightly and soundly, twins by the same letter's wrong neighbour: accuracy 1/2, no pair is right.
def test_metrics_tell_twins_from_originals(made: social_r1.Workload) -> None:
    rng, texts = random.Random(0), {}
    for task in made.tasks("eval"):
        quality = reasoning.Quality(right=not task.reference["twin"])
        texts[task.id] = reasoning.answer(made.items[task.id], rng, quality)
    metrics = made.metrics(played(made, texts))
    assert metrics["accuracy"] == 0.5
    assert (metrics["accuracy_original"], metrics["accuracy_twin"], metrics["pair_accuracy"]) == (1.0, 0.0, 0.0)
    assert (metrics["format"], metrics["oracle_structure"], metrics["oracle_content"]) == (1.0, 1.0, pytest.approx(1.0))
    assert {f"accuracy_order_{order}" for order in range(5)} <= metrics.keys()
    assert metrics["thinking_characters"] > 100
    texts |= dict.fromkeys(list(texts)[:9], "B")
    assert made.metrics(played(made, texts))["format"] == 0.5
    assert made.metrics(()) == {}


def test_sound_reasonings_lose_nothing_to_their_length(made: social_r1.Workload) -> None:
    """As the miniature's window is scaled: up to 265 characters, 3.5 steepnesses before its end, sigma(3.5) = 0.97."""
    rng = random.Random(0)
    for item in world.make_items({"train": 84}, 5)["train"]:
        thinking = said(reasoning.answer(item, rng, reasoning.Quality())).thinking
        assert window(len(thinking), made.config.reward) > 0.96, thinking
        assert repetition(thinking, made.config.reward) == 1.0, thinking


def test_early_mentions_of_options_are_counted(made: social_r1.Workload) -> None:
    """Every second answer begins with letters; sound ones name their option at the end."""
    rng, texts = random.Random(0), {}
    for number, task in enumerate(made.tasks("eval")):
        flaws = frozenset({"options"} if number % 2 else ())
        texts[task.id] = reasoning.answer(made.items[task.id], rng, reasoning.Quality(flaws=flaws))
    assert made.metrics(played(made, texts))["early_option"] == 0.5


def test_truth_and_raters_are_compared(made: social_r1.Workload) -> None:
    """The judge is 0.2 off on all; it and the content model put a sound answer before a skipped stage: all pairs ordered."""
    task = made.tasks("eval")[0]
    rng, item = random.Random(0), made.items[task.id]
    texts = [
        reasoning.answer(item, rng, reasoning.Quality(flaws=frozenset(flaws), mind=not flaws))
        for flaws in ((), ("skip",))
    ]
    episodes = [Episode(task, 0, sample, (turn(text),)) for sample, text in enumerate(texts)]
    truths = [made.gold_verdicts(episode) for episode in episodes]
    verdicts = tuple(
        Scored(1.0, {"correct": 1.0}, {"structure": truth["structure"] - 0.2, "content": value})
        for truth, value in zip(truths, (1.5, -1.5), strict=True)
    )
    assert truths[0] == {"structure": 1.0, "content": pytest.approx(1.0)}
    metrics = made.metrics([Group(tuple(episodes), verdicts)])
    assert metrics["structure_error"] == pytest.approx(0.2)
    assert (metrics["structure_order"], metrics["content_order"], metrics["judge_correct"]) == (1.0, 1.0, 1.0)
    assert [made.gold(episode) for episode in episodes] == [1.0, 1.0]
    assert made.proxy(verdicts[0]) == 1.0
    assert made.gold_verdicts(Episode(task, 0, 0, (turn("B"),))) == {}


def reasoned(group: str, score: float) -> Reasoned:
    return Reasoned(group, f"q-{group}", {"story": "s", "question": "q", "options": ["x", "y"]}, "thought", score)


# Truth and judge: group a 0.2 and 0.3, 0.8 and 0.6; group b 1.0 and nothing. Within 0.1: one of three. Distance: (0.1 + 0.2) / 2.
# Always 0.9 would be near two of the three.
def test_the_judges_exam() -> None:
    asked = [reasoned("a", 0.2), reasoned("a", 0.8), reasoned("b", 1.0)]
    lesson = StructureLesson([reasoned("c", 0.7)], asked, REAL, SocialRewardConfig(), JudgeConfig())
    (example,) = lesson.examples()
    assert example.branches[0].target == "<Score>0.7</Score>"
    calls = lesson.exam()
    assert [call.sampling is not None and call.role == "judge" for call in calls] == [True] * 3
    answers: list[Answer] = [turn("<Score>0.3</Score>"), turn("<Score>0.6</Score>"), Fault("gone")]
    report = lesson.report(answers)
    numbers = {name: report[name] for name in ("accuracy", "error", "unparsable", "pair_order", "rank_correlation")}
    assert numbers == pytest.approx(
        {"accuracy": 1 / 3, "error": 0.15, "unparsable": 1 / 3, "pair_order": 1.0, "rank_correlation": 1.0}
    )
    assert (report["stories"], report["accuracy_n"], report["error_n"]) == (2, 3, 2)
    assert report["prior_accuracy"] == pytest.approx(2 / 3)
    assert set(lesson.gate) == {"accuracy", "pair_order", "rank_correlation"} <= report.keys()
    groups, gold, labels = lesson.episodes(answers)
    assert [len(group.episodes) for group in groups] == [2, 1]
    assert gold == {"0/q-a/0": 0.2, "0/q-a/1": 0.8, "0/q-b/0": 1.0}
    assert labels["0/q-a/1"] == {"structure": 0.8}
    assert groups[1].verdicts == (Unscored("gone"),)


# Six reasonings of ten segments and the whole: 11 places of three pairs each. Of five one is left over a place.
def test_pieces_of_the_same_place_are_compared_once() -> None:
    pieces = [[f"{number}-{place}" for place in range(11)] for number in range(6)]
    rng = random.Random(0)
    assert len(candidates(pieces, rng)) == 33
    assert len(candidates(pieces[:5], rng)) == 22
    assert all(first.split("-")[1] == second.split("-")[1] for first, second in candidates(pieces, rng))
    assert candidates([["same", "a"], ["same", ""]], rng) == []
    assert candidates([], rng) == []


def test_the_content_lesson_is_pairs_of_answers(made: social_r1.Workload) -> None:
    pair = Pair("g", {"story": "s", "question": "q", "options": []}, "good", "bad")
    lesson = ContentLesson([pair], [pair], REAL, 0.6)
    (example,) = lesson.examples()
    assert (example.better.target, example.worse.target) == ("[Reasoning]\ngood", "[Reasoning]\nbad")
    assert example.better.messages == example.worse.messages == REAL.content(pair.reference, "")[:1]
    assert (lesson.kind, lesson.end_token, lesson.gate) == ("preference", True, {"accuracy": 0.6})
    for split in ("train", "eval"):
        for task, found in made.mini_pairs(split):
            item = made.items[task]
            assert reasoning.content(item, found.better) > reasoning.content(item, found.worse)


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("social_r1.judge", ["reward.variant=no_structure"], "take a reward.variant that asks it"),
        ("social_r1.content", ["reward.variant=outcome"], "take a reward.variant that asks it"),
        ("social_r1.content", ["answers.writers=grammar,grammar"], "each writer once"),
        (
            "social_r1.content",
            ["data.source=table", "data.path=q.jsonl"],
            "grammar is there with data.source=mini alone",
        ),
        (
            "social_r1.judge",
            ["data.source=table", "data.path=q.jsonl", "answers.writers=hf:a/b"],
            "nobody knows the truth",
        ),
        (
            "social_r1",
            ["data.source=tombench", "data.path=q.jsonl"],
            "is ToMBench, a benchmark that models are compared on",
        ),
        ("social_r1.judge", ["steps=5"], "has no policy"),
    ],
)
def test_settings_that_cannot_be_are_refused(name: str, words: list[str], message: str) -> None:
    Path("q.jsonl").write_text("")
    with pytest.raises(ConfigError, match=message):
        compose(name, words)


def test_a_reward_model_says_a_scalar_and_no_words(made: social_r1.Workload) -> None:
    """The whole way of one episode: asked, answered, scored."""
    task = made.tasks("train")[0]
    text = reasoning.answer(made.items[task.id], random.Random(0), reasoning.Quality())
    episode = Episode(task, 0, 0, (turn(text),))
    asked = made.reward().calls(episode)
    given = [Score(0.0, 3.0) if call.scalar else turn(" <Score> 1.0 </Score>") for call in asked]
    (verdict,) = made.reward().score([episode], [given], [()])
    assert isinstance(verdict, Scored)
    # 1 + 2 + 2^1.2 in a window that is open: what the miniature's preset is scaled for.
    assert verdict.reward == pytest.approx(5.2973967, rel=0.02)
