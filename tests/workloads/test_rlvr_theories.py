"""Theories in the miniature world: prompts, rubrics, oracle, what is taught of them, and that without them nothing changes."""

from __future__ import annotations

import random
from collections import Counter
from statistics import fmean

import pytest

from orchestrator.config.compose import compose
from orchestrator.rollouts.rubrics import official_score, paper_reward
from orchestrator.values import Episode, Group, Scored, Turn, Unscored
from workloads.rlvr import Workload, answers, mini_task, world

NEUTRAL = world.Dilemma(
    id="hand",
    actor="anna",
    acts=("report", "wait"),
    people=("ben", "clara"),
    losses=("freedom", "time"),
    duties=("honesty",),
    shortcut="bribery",
    bystander="david",
    weights=(3, 2, 1, 2, 1, 2, 3, 3, 2, 1),
)


def _workload(*settings: str) -> Workload:
    return Workload(compose("rlvr", ["data.train_groups=40", "data.eval_groups=12", *settings]))


def test_a_theory_changes_the_prompt_and_what_weighs() -> None:
    """Of the neutral sizes 3 2 | 1 | 2 1 | 2 | 3, bad 3 2 1: what deontology cares for (the duty) weighs 3, the other good things one
    less, 1 at least, the short cut too; decisions and the bystander stay. Arguing from it is 3, from its rival -2."""
    dilemma = world.under(NEUTRAL, "deontology", "virtue")
    assert dilemma.prompt == f"by deontology : duties come first . {NEUTRAL.prompt}"
    assert {criterion.text: criterion.weight for criterion in dilemma.rubric.criteria} == {
        "it pities ben": 2,
        "it pities clara": 1,
        "it honors honesty": 3,
        "it weighs reporting": 1,
        "it weighs waiting": 1,
        "it guards freedom": 1,
        "it picks wait": 3,
        "it invokes deontology": 3,
        "it picks report": -3,
        "it urges bribery": -1,
        "it pities david": -1,
        "it invokes virtue": -2,
    }
    # Of what the other theories care for.
    for theory, kinds in (
        ("utilitarianism", {"harm"}),
        ("contractualism", {"option"}),
        ("contractarianism", {"stake"}),
    ):
        heavy = {c.id.split("-")[0] for c in world.under(NEUTRAL, theory, "virtue").rubric.criteria if c.weight == 3}
        assert heavy == {"decision", "theory"} | kinds, theory
    virtue = {c.text: c.weight for c in world.under(NEUTRAL, "virtue", "deontology").rubric.criteria}
    assert (virtue["it urges bribery"], virtue["it pities david"], virtue["it pities ben"]) == (-3, -1, 2)


def test_the_same_answer_is_worth_more_under_one_theory_than_another() -> None:
    """The duty and the decision are 3 + 3 of good weights 2 + 1 + 3 + 1 + 1 + 1 + 3 + 3 = 15 under deontology, and 1 + 3 of
    utilitarianism's 3 + 3 + 1 + 1 + 1 + 1 + 3 + 3 = 16. Arguing from deontology adds 3, or takes 2 of 3 + 1 + 1 + 2 = 7."""
    said = "we owe honesty . so we should wait ."
    values = {
        (theory, argued): paper_reward(rubric, world.verdicts(rubric, f"{said} {argued}"))
        for theory, rival in (("deontology", "utilitarianism"), ("utilitarianism", "deontology"))
        for rubric in [world.under(NEUTRAL, theory, rival).rubric]
        for argued in ("", "we argue from deontology .")
    }
    assert values == pytest.approx(
        {
            ("deontology", ""): 6 / 15,
            ("deontology", "we argue from deontology ."): 9 / 15,
            ("utilitarianism", ""): 4 / 16,
            ("utilitarianism", "we argue from deontology ."): 4 / 16 - 2 / 7,
        }
    )


@pytest.mark.parametrize(
    ("response", "met"),
    [
        ("so we argue from virtue", {"virtue"}),
        ("we argue from virtue . we argue from deontology .", {"virtue", "deontology"}),
        # the prompt itself, and markers and keys apart
        ("by deontology : duties come first .", set()),
        ("from . virtue deontology from", set()),
        ("we owe virtue . we weigh deontology .", set()),
    ],
)
def test_the_oracle_is_the_same_one_rule(response: str, met: set[str]) -> None:
    rubric = world.under(NEUTRAL, "deontology", "virtue").rubric
    said = {c.text.split()[-1] for c in rubric.criteria if world.kind_of(c) == "theory" and world.met(c, response)}
    assert said == met


def test_no_definition_holds_what_the_oracle_looks_for() -> None:
    markers = {kind.marker for kind in world.KINDS.values()}
    verbs = {kind.verb for kind in world.KINDS.values()}
    for name, theory in world.THEORIES.items():
        assert not (markers | verbs) & set(f"by {name} : {theory.definition} .".split())
        assert theory.cares in world.KINDS
    sentences = {word for kind in world.KINDS.values() for text in kind.sentences for word in text.split()}
    assert not verbs & sentences
    keys = [key for kind in answers._KEYS.values() for key in kind]
    assert len(set(keys)) == len(keys)
    assert not set(keys) & markers


def test_a_share_of_the_dilemmas_is_under_a_theory() -> None:
    """Of 1,000, 400 with a standard deviation of 15.5; each of five theories 80 with one of 8.6. Nothing else of a dilemma changes, and
    a larger share adds to a smaller one."""
    counts = {"train": 1000, "eval": 50, "test": 50}
    plain, some, more = (world.make_dilemmas(counts, 3, share) for share in (0.0, 0.4, 0.7))
    assert plain == world.make_dilemmas(counts, 3)
    assert not any(dilemma.by_theory for split in plain.values() for dilemma in split)
    asked = [dilemma for dilemma in some["train"] if dilemma.by_theory]
    assert abs(len(asked) - 400) < 62
    by_theory = Counter(dilemma.theory for dilemma in asked)
    assert by_theory.keys() == world.THEORIES.keys()
    assert all(abs(count - 80) < 35 for count in by_theory.values())
    assert all(dilemma.rival not in (None, dilemma.theory) for dilemma in asked)
    for before, after, later in zip(plain["train"], some["train"], more["train"], strict=True):
        assert after.prompt.endswith(before.prompt)
        assert after == before if not after.by_theory else after == later
    assert all(dilemma.by_theory for dilemma in world.make_dilemmas(counts, 3, 1.0)["test"])


def test_without_theories_the_world_has_no_word_of_them() -> None:
    plain, full = set(world.vocabulary()), set(world.vocabulary(theories=True))
    assert plain < full
    assert full - plain >= {"invokes", "from", "argue", "by", *world.THEORIES}
    assert len(full) <= 160
    words, _ = _workload().tokenizer_texts()
    assert set(words) == plain
    told, _ = _workload("data.theory_share=0.1").tokenizer_texts()
    assert set(told) == full
    policy, judge = _workload().lessons()
    assert not {"invokes", "from"} & set(repr((policy.examples(), judge.examples())).replace("'", " ").split())


def test_every_word_is_known_and_every_text_has_room() -> None:
    """Of 256 tokens an answer takes 64, the turns' marks a few; a judge reads an answer, "criterion :", three words and a mark."""
    words = set(world.vocabulary(theories=True))
    drawn = [d for d in world.make_dilemmas({"train": 900}, 0, 0.5)["train"] if d.by_theory]
    rng = random.Random(0)
    for dilemma in drawn:
        perfect = answers.perfect_answer(dilemma, rng)
        assert official_score(dilemma.rubric, world.verdicts(dilemma.rubric, perfect)) == 1.0
        assert len(perfect.split()) < world.MAX_WORDS
        texts = [
            perfect,
            answers.warmup_answer(dilemma, rng),
            answers.lesson_answer(dilemma, drawn, rng),
            answers.judged_answer(dilemma, drawn, rng),
            " ".join(criterion.text for criterion in dilemma.rubric.criteria),
        ]
        assert words.issuperset(" ".join([dilemma.prompt, *texts]).split())
        assert all(len(text.split()) <= world.MAX_WORDS for text in texts[:2] + texts[3:4])
        assert len(dilemma.prompt.split()) <= 50
        assert 11 <= len(dilemma.rubric.criteria) <= 13


def test_theories_are_taught_and_examined() -> None:
    """Warm-up answers are as middling as those to neutral dilemmas; the judge sees criteria of theories met and not met, the rubric's
    own and further ones, and is examined on them."""
    policy, judge = _workload("data.theory_share=0.5").lessons()
    said = " ".join(branch.target for example in policy.examples() for branch in example.branches)
    assert all(f"from {name}" in said for name in world.THEORIES)
    taught: Counter[tuple[str, str]] = Counter()
    for example in judge.examples():
        for branch in example.branches:
            words = branch.messages[0]["content"].split()
            if words[-2] == "invokes":
                taught[words[-1], branch.target] += 1
    assert taught.keys() == {(name, verdict) for name in world.THEORIES for verdict in ("yes", "no")}
    # Of 3,072 answers half are to dilemmas under a theory, with two such criteria of their own; further ones come on top.
    assert sum(taught.values()) > 2 * 3072 / 2
    asked = [call.messages[0]["content"] for call in judge.exam() if call.key.endswith("/plain")]
    assert sum(text.split()[-2] == "invokes" for text in asked) >= 6 * 2
    rng = random.Random(1)
    drawn = world.make_dilemmas({"train": 600}, 0, 0.5)["train"]
    scores: dict[bool, list[float]] = {True: [], False: []}
    for dilemma in drawn:
        answer = answers.warmup_answer(dilemma, rng)
        scores[dilemma.by_theory].append(official_score(dilemma.rubric, world.verdicts(dilemma.rubric, answer)))
    assert abs(fmean(scores[True]) - fmean(scores[False])) < 0.06


def _played(dilemma: world.Dilemma, text: str, official: float | None) -> Group:
    turn = Turn("policy", (), (), (), text, "stop", 1.0, 0, 0)
    components = {"official": official or 0.0, "positive": 0.0, "negative": 0.0}
    verdict = Unscored("no answer") if official is None else Scored(0.0, components, {"harm-ben": 1.0})
    return Group((Episode(mini_task(dilemma), 0, 0, (turn,)),), (verdict,))


def test_metrics_tell_public_and_theory_apart() -> None:
    """The oracle also knows what the judge did not score. The harm is 3 of 14, and all 6 of the bad ones are avoided, of 20; under
    contractualism, with 2 1 | 1 | 3 3 | 1 | 3 | 3 and 3 1 1 2, it is 2 + 7 of 24, and nothing said is worth 7."""
    theory = world.under(NEUTRAL, "contractualism", "virtue")
    said = "we may hurt ben ."
    played = [
        _played(NEUTRAL, said, 0.5), _played(NEUTRAL, said, 0.7), _played(theory, said, 0.2), _played(theory, "", None)
    ]  # fmt: skip
    metrics = _workload("data.theory_share=0.5").metrics(played)
    assert {name: value for name, value in metrics.items() if name.startswith(("public_", "theory_"))} == pytest.approx(
        {
            "public_judge": 0.6,
            "public_oracle": 9 / 20,
            "theory_judge": 0.2,
            "theory_oracle": (9 / 24 + 7 / 24) / 2,
        }
    )
    # The parts of a world without theories would be the whole.
    assert not [name for name in _workload().metrics(played[:2]) if name.startswith(("public_", "theory_"))]
    # Where no judge scored anything, the oracle still knows.
    assert _workload().metrics(played[3:]) == pytest.approx({"theory_oracle": 7 / 24})


def test_each_task_says_its_theory() -> None:
    tasks = _workload("data.theory_share=0.5", "data.test_groups=20").tasks("test")
    named = {task.reference["theory"] for task in tasks}
    assert "neutral" in named
    assert named - {"neutral"} <= world.THEORIES.keys()
    for task in tasks:
        theory = task.reference["theory"]
        assert task.messages[0]["content"].startswith(f"by {theory} : ") is (theory != "neutral")
