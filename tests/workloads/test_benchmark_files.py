"""The published files of the eight benchmarks: generated in their schemas, and the real ones where they lie beside the repository."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import DataError
from workloads.social_r1.benchmarks.columns import BENCHMARKS
from workloads.social_r1.benchmarks.items import Item
from workloads.social_r1.benchmarks.tombench import ability_of

DATA = Path(__file__).parents[2].parent / "shared" / "data"


def needs(name: str) -> Any:
    return pytest.mark.skipif(not (DATA / name).is_dir(), reason=f"the files of {name} are not beside the repository")


def written(path: Path, rows: list[dict[str, Any]], lines: bool = True) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(json.dumps(row) for row in rows) if lines else json.dumps(rows))
    return path


def items(name: str, path: Path, *languages: str) -> list[Item]:
    return BENCHMARKS[name].items(str(path), languages or ("en",))


TOMBENCH = {
    "能力\nABILITY": "Non-literal communication: White lies ", "序号\nINDEX": 1, "故事": "故事。", "问题": "问题？",
    "选项A": "A. 是", "选项B": "B. 否", "选项C": float("nan"), "选项D": float("nan"), "STORY": "A story.",
    "QUESTION": "Is it?", "OPTION-A": "Yes", "OPTION-B": "No", "OPTION-C": float("nan"), "OPTION-D": float("nan"),
    "答案\nANSWER": "A. ",
}  # fmt: skip


def test_tombench_of_two_options_in_two_languages(tmp_path: Path) -> None:
    folder = written(tmp_path / "t" / "Strange Story Task.jsonl", [TOMBENCH]).parent
    english, chinese = items("tombench", folder, "en", "zh")
    assert english.asked[0].options == ("Yes", "No")
    assert chinese.asked[0].options == ("是", "否")
    assert english.asked[0].gold == chinese.asked[0].gold == {0}
    assert english.unit == chinese.unit
    assert english.views == {
        "ability": "Non-literal communication", "kind of ability": "Non-literal communication: White lies", "language": "en", 
        "task": "SST",
    }  # fmt: skip
    assert "[问题]\n问题？" in BENCHMARKS["tombench"].tasks(chinese, "direct")[0].messages[1]["content"]


def test_abilities_are_told_one_way() -> None:
    assert ability_of("Non-Literal Communication: Faux pas") == "Non-literal communication: Faux pas"
    assert ability_of("Knowledge: Information-knowledge links ") == "Knowledge: Information-knowledge links"
    double = "Belief: Location false beliefs Belief: Second-order beliefs"
    assert ability_of(double) == "Belief: Location false beliefs + Second-order beliefs"


@needs("tombench")
def test_all_of_tombench() -> None:
    found = items("tombench", DATA / "tombench", "en", "zh")
    assert len(found) == 2 * 2860
    english = [one for one in found if one.views["language"] == "en"]
    # The published weights of both views, and the two-option items: 280 of Faux-pas and 204 of Strange Story.
    assert Counter(one.views["ability"] for one in english) == {
        "Emotion": 420, "Desire": 180, "Intention": 340, "Knowledge": 290, "Belief": 882, "Non-literal communication": 748,
    }  # fmt: skip
    assert Counter(one.views["task"] for one in english if "task" in one.views) == {
        "UOT": 300, "SIT": 200, "PST": 100, "FBT": 600, "AST": 200, "HT": 103, "SST": 407, "FRT": 560,
    }  # fmt: skip
    two = Counter(one.views["language"] for one in found if len(one.asked[0].options) == 2)
    assert two == {"zh": 484, "en": 483}  # one row has four options in English alone
    assert not any(option.startswith(("A.", "B.")) for one in found for option in one.asked[0].options)


@needs("hitom")
def test_all_of_hitom() -> None:
    found = items("hitom", DATA / "hitom")
    assert Counter(one.views["order"] for one in found) == dict.fromkeys("01234", 120)
    assert {len(one.asked[0].options) for one in found} == {15}
    assert len({one.unit for one in found}) == 120
    assert all(one.story.startswith("1 ") for one in found)


@needs("motivebench")
def test_all_of_motivebench() -> None:
    found = items("motivebench", DATA / "motivebench")
    assert Counter(one.views["source"] for one in found) == {"Persona": 300, "Amazon": 150, "Blog": 150}
    # How often B is right in the published order, skewed as it is.
    persona = Counter(one.kind for one in found if one.views["source"] == "Persona" and one.asked[0].gold == {1})
    assert persona == {"Motivational": 45, "Behavioral": 45, "Motivational and Behavioral": 52}


def test_a_row_that_is_wrong_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "Hinting_Task_Test.jsonl", [TOMBENCH, TOMBENCH | {"答案\nANSWER": "C"}])
    with pytest.raises(DataError, match=r"Hinting_Task_Test\.jsonl row 1 .*must be the letter of one of the 2 options"):
        items("tombench", path)
    with pytest.raises(DataError, match="field 'STORY' is missing"):
        items("tombench", written(tmp_path / "x.jsonl", [{"story": "x"}]))


def test_tombench_hard_in_two_forms(tmp_path: Path) -> None:
    csv = tmp_path / "ToMBench_Hard_val.csv"
    signs = ",".join(f"OPTION-{sign}" for sign in "ABCDEF")
    csv.write_text(f"ABILITY,STORY,QUESTION,{signs},ANSWER\nBelief,A story.,Where?,u,v,w,x,y,z,F\n")
    (one,) = items("tombench_hard", csv)
    assert (one.asked[0].options, one.asked[0].gold, one.views) == (tuple("uvwxyz"), {5}, {"ability": "Belief"})
    rows = [{"story": "A story.", "question": "Where?", "options": ["A. here", "B. there"], "answer": "there"}]
    (one,) = items("tombench_hard", written(tmp_path / "hard.json", rows, lines=False))
    assert (one.asked[0].options, one.asked[0].gold) == (("here", "there"), {1})


def test_socialiqa(tmp_path: Path) -> None:
    row = {
        "context": "Sam hid.",
        "question": "Why?",
        "answerA": "fear",
        "answerB": "fun",
        "answerC": "shame",
        "label": "3",
    }
    (one,) = items("socialiqa", written(tmp_path / "dev.jsonl", [row]))
    assert (one.asked[0].options, one.asked[0].gold) == (("fear", "fun", "shame"), {2})
    with pytest.raises(DataError, match="field 'label' is missing: write the labels"):
        items("socialiqa", written(tmp_path / "other.jsonl", [{key: row[key] for key in row if key != "label"}]))


def test_simpletom(tmp_path: Path) -> None:
    row = {
        "id": "s1",
        "story": "A story.",
        "question": "Aware?",
        "choices": {"text": ["Yes", "No"], "label": ["A", "B"]},
    }
    for name in ("mental-state-qa", "behavior-qa", "judgment-qa"):
        written(tmp_path / name / "test.jsonl", [row | {"answerKey": "B"}])
    written(tmp_path / "story-data" / "test.jsonl", [{"story": "A story."}])
    found = items("simpletom", tmp_path)
    assert {one.views["question"] for one in found} == {"aware", "action", "judge"}
    assert len({one.unit for one in found}) == 1
    assert all(one.asked[0].gold == {1} for one in found)
    with pytest.raises(DataError, match="names no set of questions"):
        items("simpletom", written(tmp_path / "other" / "mine.jsonl", [row | {"answerKey": "B"}]))


def test_emobench(tmp_path: Path) -> None:
    applied = {
        "qid": "1", "language": "en", "category": "Personal-Others", "question type": "Action", "scenario": "Sam cries.",
        "subject": "Ann", "choices": ["ask", "go", "laugh", "wait"], "label": "ask",
    }  # fmt: skip
    understood = {
        "qid": "1", "language": "zh", "coarse_category": "complex_emotions", "finegrained_category": "transition", 
        "scenario": "小明哭了。",
        "subject": "小明", "emotion_choices": ["喜", "怒", "哀", "乐", "惧", "恶"], "emotion_label": "哀",
        "cause_choices": ["摔倒", "吃饭"], "cause_label": "摔倒",
    }  # fmt: skip
    written(tmp_path / "EA.jsonl", [applied, applied | {"language": "zh", "scenario": "小明哭了。"}])
    written(tmp_path / "EU.jsonl", [understood])
    (one,) = items("emobench_ea", tmp_path)
    assert one.asked[0].question == "In this scenario, what is the most effective action for Ann?"
    assert {one.unit for one in items("emobench_ea", tmp_path, "en", "zh")} == {"Sam cries."}
    (both,) = items("emobench_eu", tmp_path, "zh")
    assert [asked.gold for asked in both.asked] == [{2}, {0}]
    (task,) = BENCHMARKS["emobench_eu"].tasks(both, "direct")
    assert '"answer_q1": "<letter>", "answer_q2": "<letter>"' in task.messages[1]["content"]
    with pytest.raises(DataError, match="it is none of the 4 options"):
        items("emobench_ea", written(tmp_path / "b" / "EA.jsonl", [applied | {"label": "sing"}]).parent)


def test_tactfultom(tmp_path: Path) -> None:
    conversation = {
        "full_context": "**A**: Hello.", "lie": {"lie_q": "x"},
        "beliefQAs": [{"question": "What does A believe?", "correct_answer": "that", "wrong_answer": ["this", "those"], "q_id": "b0"}],
        "infoAccessibilityQA_list": [
            {"information": "B lied", "question": "Who knows?", "correct_answer": ["A", "B"], "wrong_answer": ["C"], "q_id": "l0"}
        ],
        "answerabilityQAs_binary": [
            {"fact_question_real_reason": "Why?", "question": "Does A know?", "correct_answer": "no", "q_id": "n0"}
        ],
        "comprehensionQA": [{"question": "Was it true?", "correct_answer": "No", "wrong_answer": "Yes"}],
        "lieabilityQAs": [{"question": "Which?", "correct_answer": "this", "wrong_answer": "that"}],
        "fact_truthQA": [],
    }  # fmt: skip
    belief, who, knows, true, lies = items(
        "tactfultom", written(tmp_path / "Tactful_conv_set_0.json", [conversation], lines=False)
    )
    assert (belief.kind, who.kind, knows.kind, true.kind) == ("choice", "list", "binary", "binary")
    assert (lies.kind, lies.asked[0].options) == ("choice", ("this", "that"))
    assert belief.unit == lies.unit
    assert (who.asked[0].options, who.asked[0].gold) == (("A", "B", "C"), {0, 1})
    (task,) = BENCHMARKS["tactfultom"].tasks(who, "direct")
    assert "# Information\nB lied\n\n# Question\nWho knows?\n\n# Options\n1. " in task.messages[0]["content"]
    (task,) = BENCHMARKS["tactfultom"].tasks(knows, "direct")
    assert "# Options" not in task.messages[0]["content"]
    broken = conversation | {"beliefQAs": [{"question": "x", "correct_answer": 3}]}
    with pytest.raises(DataError, match=r"row 0, beliefQAs\[0\]: field 'correct_answer' is 3"):
        items("tactfultom", written(tmp_path / "broken.json", [broken], lines=False))
