"""The protocols of the eight benchmarks: how an answer is read, how tries become a score, what is told of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config.compose import compose
from orchestrator.errors import ConfigError, DataError
from orchestrator.rollouts.parts import estimate, rows_of
from orchestrator.tables.declare import Measured
from orchestrator.values import Episode, Group, Scored, Task, Turn
from workloads.benchmarks import limit
from workloads.benchmarks.results import results, score_of
from workloads.social_r1.benchmarks import Config, Workload, choices, columns, tombench
from workloads.social_r1.benchmarks.columns import BENCHMARKS
from workloads.social_r1.benchmarks.items import Asked, Benchmark, Form, Item
from workloads.social_r1.benchmarks.motivebench import ORDERS
from workloads.teachers import after_thought


def episode(task: Task, text: str, finish: str = "stop") -> Episode:
    return Episode(task, 0, 0, (Turn("policy", (), (), (), text, finish, 0.0, 0, 0),))


def item(options: str = "wxyz", gold: Sequence[int] = (1,), views: Any = None, kind: str = "", name: str = "i") -> Item:
    """An item with one question, its options a letter each."""
    return Item(
        name, f"unit of {name}", "A story.", (Asked("What?", tuple(options), frozenset(gold)),), views or {}, kind
    )


def read(name: str, text: str, one: Item, form: Form = "direct") -> tuple[int, ...] | None:
    """What an answer to an item in its published order is read as."""
    (found,) = BENCHMARKS[name].read(text, one.asked, form, one.kind)
    return found


def score(benchmark: Benchmark, one: Item, say: Any, form: Form = "direct") -> Scored:
    """The verdict of an item whose tries are answered by `say` of each task."""
    tasks = benchmark.tasks(one, form)
    verdicts = columns.scored([episode(task, say(task)) for task in tasks])
    assert len({verdict.reward for verdict in verdicts if isinstance(verdict, Scored)}) == 1
    assert isinstance(verdicts[0], Scored)
    return verdicts[0]


def says(option: str, form: str = "[[{}]]") -> Any:
    """Answers with the letter under which an option is shown."""
    return lambda task: form.format("ABCDEFGHIJKLMNO"[task.reference["asked"][0][1].index(option)])


# --- how answers are read ---


def test_tombench_reads_double_brackets_first_and_then_what_is_weaker() -> None:
    # Double brackets in the order A to D, wherever they stand; single ones; the last of the four capitals; nothing.
    told = {
        "[[D]] or [[B]]": "B",
        "[A], no: [[C]]": "C",
        "I say [D]": "D",
        "Between C and A": "A",
        "no idea": None,
        "": None,
    }
    assert {text: tombench.bracketed(text) for text in told} == told


def test_motivebench_reads_the_first_character_or_of_steps_of_thought_the_last() -> None:
    one = item("uvwxyz")
    assert read("motivebench", " **b.** because", one) == (1,)
    assert read("motivebench", "Since A fails,\nC.", one, "cot") == (2,)
    assert read("motivebench", "The answer is C", one) is None  # T
    assert read("motivebench", "", one) is None


def test_hitom_reads_a_letter_or_the_choice_named_last() -> None:
    places = ("green_box", "green_bottle", "box")
    one = Item("0", "s", "1 x", (Asked("Where?", places, frozenset([0])),), {"order": "0"})
    said = {
        "B. green_bottle": 1,
        "C": 2,
        "First the green_bottle. Answer: green box": 0,
        "It is in the green_bottle.": 1,
        "(B)": 1,
        "B because Ann left": 1,
        "I think that it is in the green_box": 0,
        "A person who saw the green_box looks into the box.": 2,
    }
    assert {text: read("hitom", text, one) for text in said} == {text: (place,) for text, place in said.items()}
    assert read("hitom", "Answer: nowhere", one) is None
    assert read("hitom", "A, I guess", one) is None  # as well an article


def test_simpletom_reads_brackets_and_after_steps_of_thought_what_follows() -> None:
    one = item("xy")
    assert read("simpletom", "I choose (B), not (A)", one) == (1,)
    assert read("simpletom", "B", one) == (1,)
    assert read("simpletom", "(B) is odd. Therefore, the answer is: (A)", one, "cot") == (0,)
    assert choices.bracketed("(C)", 2) is None
    assert read("socialiqa", "C", item("xyz")) == (2,)
    assert read("socialiqa", "(A) is odd. Therefore, the answer is: (C)", item("xyz"), "cot") == (2,)


def test_emobench_reads_json_even_where_it_is_not_whole() -> None:
    both = Item("1", "s", "x", (Asked("?", tuple("abcdef"), frozenset([4])), Asked("?", tuple("abcd"), frozenset([0]))))
    benchmark = BENCHMARKS["emobench_eu"]
    assert benchmark.read('{"answer_q1": "E", "answer_q2": "a"', both.asked, "direct", "") == [(4,), None]
    assert benchmark.read("answer_q1: (E), 'answer_q2': 'A'", both.asked, "direct", "") == [(4,), (0,)]
    assert read("emobench_ea", '{"answer": "C) walk"}', item()) == (2,)


def test_tactfultom_reads_numbers_yes_and_no_and_lists() -> None:
    several = item("wxyz", (0, 1), kind="list")
    assert read("tactfultom", "2", item(kind="choice")) == (1,)
    assert read("tactfultom", "No, she is not.", item("YN", kind="binary")) == (1,)
    assert read("tactfultom", "2, 1", several) == (0, 1)
    assert read("tactfultom", "w and z", several) == (0, 3)
    assert read("tactfultom", "1 knows, 2 not\n3, 4", several, "cot") == (2, 3)


def test_thoughts_are_no_answers() -> None:
    assert after_thought("<think>[[A]]</think> [[B]]") == "[[B]]"
    assert after_thought("<think>[[A]] and on and on") == ""


def test_tags_are_read_alike_for_all() -> None:
    (task,) = BENCHMARKS["tactfultom"].tasks(item("wxyz", (0, 1), kind="list"), "tagged")
    right = ", ".join("ABCD"[place] for place in task.reference["asked"][0][2])
    answer = f"<think>A</think> <Answer> {right} </Answer>"
    assert columns.scored([episode(task, answer)])[0] == Scored(1.0, {"right": 1.0, "found": 1.0})
    assert "<Answer>" in task.messages[-1]["content"]
    for text in ("A, B", "<Answer> a and b </Answer>"):
        (none,) = columns.scored([episode(task, text)])
        assert none == Scored(0.0, {"right": 0.0, "found": 0.0})


# --- how tries become a score ---


def test_tombench_takes_what_most_of_five_shuffled_tries_name() -> None:
    benchmark, one = BENCHMARKS["tombench"], item("wxyz", (1,), {"language": "en"})
    shown = [tuple(task.reference["asked"][0][1]) for task in benchmark.tasks(one, "direct")]
    assert len(shown) == 5
    assert len(set(shown)) > 1
    right, wrong = says("x"), says("w")
    # Three of five name the right option, under whatever letter it is shown: the item is right, and two tries are not.
    voted = score(benchmark, one, lambda task: (right if task.reference["try"] < 3 else wrong)(task))
    assert voted.reward == 1.0
    assert score(benchmark, one, lambda task: (right if task.reference["try"] < 2 else wrong)(task)).reward == 0.0
    # Of two that are named twice the one that was named first: x x w w z.
    order = [right, right, wrong, wrong, says("z")]
    assert score(benchmark, one, lambda task: order[task.reference["try"]](task)).reward == 1.0


def test_motivebench_means_18_orders_and_takes_scenarios_together() -> None:
    assert len(ORDERS) == len(set(ORDERS)) == 18
    assert all(sorted(order) == list(range(6)) for order in ORDERS)
    benchmark = BENCHMARKS["motivebench"]
    # The gold option B is shown first in the orders 235614, 254361, 235416 and 236514: 4 of 18.
    always = score(benchmark, item("uvwxyz", (1,), {}, "Motivational"), lambda task: "A")
    assert always == Scored(pytest.approx(4 / 18), {"right": 0.0, "found": 1.0})  # one question alone is no scenario
    three = [Item(f"s-{n}", "s", "x", item("uvwxyz").asked, {}, "Motivational") for n in range(3)]
    tasks = [task for one in three for task in benchmark.tasks(one, "direct")]
    # Two questions always right, the third in the first nine orders: the scenario is right in 9 of 18.
    episodes = [
        episode(task, says("v", "{}")(task) if task.reference["item"] != "s-2" or task.reference["try"] < 9 else "-")
        for task in tasks
    ]
    verdicts = columns.scored(episodes)
    assert {verdict.components["scenario"] for verdict in verdicts if isinstance(verdict, Scored)} == {0.5}
    # Accuracies by order: nine times 1 and nine times 2/3, whose variance is (1/6)².
    (result,) = results(
        [Group((one,), (verdict,)) for one, verdict in zip(episodes, verdicts, strict=True)], BENCHMARKS
    )
    assert result.extras == {"variance over orders": pytest.approx(1 / 36), "scenario": 0.5}
    assert (result.score.mean, result.answers, result.no_answer) == (pytest.approx(5 / 6), 54, 9)


def test_hitom_is_joint_up_to_an_order() -> None:
    benchmark = BENCHMARKS["hitom"]
    asked = (Asked("Where?", ("here", "there"), frozenset([0])),)
    story = [Item(str(order), "s", "1 x", asked, {"order": str(order)}) for order in range(4)]
    alone = Item("9", "t", "1 y", asked, {"order": "3"})
    tasks = [task for one in (*story, alone) for task in benchmark.tasks(one, "direct")]
    # Right, right, wrong, right: joint 1, 1, 0, 0. Of the other story the lower orders are not there: no joint score.
    verdicts = columns.scored([episode(task, text) for task, text in zip(tasks, "AABAA", strict=True)])
    joint = [verdict.components.get("joint") for verdict in verdicts if isinstance(verdict, Scored)]
    assert joint == [1.0, 1.0, 0.0, 0.0, None]


def test_emobench_eu_needs_both() -> None:
    asked = (Asked("What?", tuple("abcdef"), frozenset([4])), Asked("Why?", tuple("abcd"), frozenset([0])))
    both = Item("1-en", "s", "x", asked, {"language": "en"})
    benchmark = BENCHMARKS["emobench_eu"]
    answers = ('{"answer_q1": "E", "answer_q2": "A"}', '{"answer_q1": "E", "answer_q2": "B"}', '{"answer_q1": "E"}')
    scores = [score(benchmark, both, lambda task, text=text: text) for text in answers]
    assert [one.reward for one in scores] == [1.0, 0.0, 0.0]
    assert [one.components["found"] for one in scores] == [1.0, 1.0, 0.0]
    assert benchmark.chance(both) == pytest.approx(1 / 24)


def test_tactfultom_lists_are_right_only_whole() -> None:
    benchmark, one = BENCHMARKS["tactfultom"], item("wxyz", (0, 1), kind="list")
    (task,) = benchmark.tasks(one, "direct")
    shown = task.reference["asked"][0][1]
    numbers = {option: shown.index(option) + 1 for option in shown}
    for said, worth in (("wx", 1.0), ("w", 0.0), ("wxy", 0.0)):
        text = ", ".join(str(numbers[option]) for option in said)
        assert score(benchmark, one, lambda task, text=text: text).reward == worth
    assert benchmark.chance(one) == pytest.approx(1 / 15)  # of the subsets that are not empty
    assert benchmark.chance(item(kind="choice")) == 0.25
    assert Workload(compose("social_r1.benchmarks", [])).config.temperature is None
    assert (benchmark.temperature, BENCHMARKS["tombench"].temperature) == (0.2, 0.0)


# --- what is told ---


def test_results_are_over_units_and_columns_read_them_from_stored_episodes() -> None:
    benchmark = BENCHMARKS["socialiqa"]
    items = [Item(str(n), "same" if n < 2 else str(n), "x", item("xyz", (0,)).asked) for n in range(4)]
    tasks = [task for one in items for task in benchmark.tasks(one, "direct")]
    episodes = [
        episode(task, text, finish)
        for task, text, finish in zip(tasks, "AAB?", ("stop", "stop", "length", "stop"), strict=True)
    ]
    groups = [Group((one,), (verdict,)) for one, verdict in zip(episodes, columns.scored(episodes), strict=True)]
    (result,) = results(groups, BENCHMARKS)
    assert (result.score.mean, result.score.n, result.score.units) == (0.5, 4, 3)
    assert (result.answers, result.cut_off, result.no_answer, result.prompts_cut) == (4, 1, 1, 0)
    assert result.chance == pytest.approx(1 / 3)
    measured = [Measured(g.episodes[0], g.verdicts[0], None, {}, lambda verdict: verdict.reward) for g in groups]
    assert [score_of("socialiqa")(one) for one in measured] == [1.0, 1.0, 0.0, 0.0]
    assert score_of("tombench")(measured[0]) is None
    assert score_of("socialiqa", view="order", value="1")(measured[0]) is None
    assert score_of("socialiqa", component="found")(measured[3]) == 0.0


def test_a_table_says_what_holds_chance_and_has_no_score_of_what_training_touched() -> None:
    score = {"mean": 0.3, "low": 0.2, "high": 0.4, "n": 10, "units": 5}
    part = {
        "part": "hitom",
        "chance": 0.25,
        "answers": 1000,
        "cut_off": 1,
        "prompts_cut": 2,
        "no_answer": 3,
        "touched": None,
    }
    touched = {"items": 2, "of": 10, "run": "social_r1/x", "score": score}
    at_chance, above, blank = rows_of(
        {
            "parts": [
                part | {"score": score},
                part | {"score": score, "chance": 0.1},
                part | {"score": None, "touched": touched},
            ]
        }
    )
    assert at_chance == ("hitom", "0.300", "0.200 … 0.400", "10", "0.250", "chance", "1,000", "1", "2", "3")
    assert above[5] == ""
    assert blank[:6] == ("hitom", "", "", "10", "0.250", "touched by training: 2 of 10 items (social_r1/x)")


def test_an_interval_of_nothing_right_is_not_a_point() -> None:
    # None of 4 units: 1 - 0.025^(1/4) = 1 - 0.39764 = 0.60236, so that a chance of 1/15 is within; all of 4 the other way round.
    none, every = estimate([0.0] * 8, [0, 0, 1, 1, 2, 2, 3, 3]), estimate([1.0] * 4, range(4))
    assert (none.mean, none.low, none.high, none.n, none.units) == (0.0, 0.0, pytest.approx(0.60236, abs=1e-5), 8, 4)
    assert (every.low, every.high) == (pytest.approx(0.39764, abs=1e-5), 1.0)


def test_a_limit_keeps_whole_stories_and_the_order() -> None:
    items = [Item(f"{n}", f"story {n // 5}", "x", item().asked) for n in range(50)]
    kept = limit(items, 12, seed=0)
    assert len(kept) == 10  # two stories of five; a third does not fit
    assert [one.id for one in kept] == [one.id for one in items if one in kept]
    assert limit(items, 12, seed=0) == kept != limit(items, 12, seed=1)
    assert len(limit(items, 3, seed=0)) == 3
    assert limit(items, 0, seed=0) == items


def test_settings_that_cannot_be() -> None:
    for settings, words in (
        (["benchmarks=tombenhc"], "no tombenhc; there are tombench_hard"),
        (["benchmarks=hitom"], r"hitom needs its files: data\.hitom=FOLDER"),
        (["benchmarks=all,hitom"], "no all; there are tombench_hard"),
        (["languages=fr"], "name some of en, zh"),
        (["steps=3"], "steps=3"),
    ):
        with pytest.raises(ConfigError, match=words):
            compose("social_r1.benchmarks", settings)
    with pytest.raises(ConfigError, match="no benchmark is given"):
        Workload(compose("social_r1.benchmarks", [])).tasks("test")


def chosen(*settings: str) -> list[str]:
    config = compose("social_r1.benchmarks", list(settings))
    assert isinstance(config, Config)
    return config.chosen(config.data.places())


def test_benchmarks_are_those_whose_files_are_given(tmp_path: Path) -> None:
    assert chosen(f"data.emobench={tmp_path}", f"data.hitom={tmp_path}") == ["emobench_ea", "emobench_eu", "hitom"]
    assert chosen(f"data.emobench={tmp_path}", "benchmarks=emobench_eu") == ["emobench_eu"]


def test_a_folder_holds_benchmarks_by_their_names(tmp_path: Path) -> None:
    given = f"data.path={tmp_path}"
    (tmp_path / "rlvr").mkdir()
    (tmp_path / "tombench.txt").touch()
    with pytest.raises(ConfigError, match="of one at least of these names: emobench, hitom, motivebench"):
        Workload(compose("social_r1.benchmarks", [given])).tasks("test")
    (tmp_path / "hitom").mkdir()
    (tmp_path / "hitom.json").touch()
    (tmp_path / "socialiqa.jsonl").touch()
    config = compose("social_r1.benchmarks", [given, f"data.tombench={tmp_path}"])
    # A folder before a file of its name; beside them what has a setting of its own, which comes before the folder's.
    assert config.data.places() == {
        "hitom": str(tmp_path / "hitom"), "socialiqa": str(tmp_path / "socialiqa.jsonl"), "tombench": str(tmp_path),
    }  # fmt: skip
    assert compose("social_r1.benchmarks", [given, f"data.hitom={tmp_path}"]).data.places()["hitom"] == str(tmp_path)
    assert chosen(given) == ["socialiqa", "hitom"]
    with pytest.raises(
        ConfigError, match=r"simpletom needs its files: data\.simpletom=FOLDER, or simpletom in data\.path"
    ):
        chosen(given, "benchmarks=simpletom")


def test_an_item_is_there_once(tmp_path: Path) -> None:
    row = {"context": "x", "question": "Why?", "answerA": "a", "answerB": "b", "answerC": "c", "label": "1"}
    once = {"id": "s", "story": "x", "question": "Aware?", "choices": {"text": ["Yes", "No"]}, "answerKey": "A"}
    for place in (
        "socialiqa/train.jsonl",
        "socialiqa/dev.jsonl",
        "simpletom/a/behavior-qa.jsonl",
        "simpletom/b/behavior-qa.jsonl",
    ):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text(json.dumps(row if "socialiqa" in place else once))
    # Of SocialIQA's folder the development set alone; of the other one there are two copies.
    assert (
        len(Workload(compose("social_r1.benchmarks", [f"data.socialiqa={tmp_path / 'socialiqa'}"])).tasks("test")) == 1
    )
    with pytest.raises(DataError, match="1 items of simpletom are there twice"):
        Workload(compose("social_r1.benchmarks", [f"data.path={tmp_path}"])).tasks("test")
