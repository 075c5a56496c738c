"""report.html: what it holds, that nothing a model wrote can act in it, and how it behaves in a browser."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.pages import Elements, opened
from made_up_run import make_group, make_run

from orchestrator.records import diagnosis, episodes, metrics, page, report, samples
from orchestrator.records.folder import RunFolder
from orchestrator.records.page.browser import CHARACTERS, TURNS, browsed
from orchestrator.values import Group

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)> & \u2028 ends"
MARK = "Unredacted: holds texts whose source forbids passing them on."
RUBRIC = [{"id": "c0", "text": "names <b>harm</b>", "weight": 2}, {"id": "c1", "text": "it lies", "weight": -1}]


def say(group: Group, text: str, **changes: object) -> Group:
    """The group with another answer of its first episode, and another task."""
    first, *others = (replace(e, task=replace(e.task, **changes)) for e in group.episodes)  # type: ignore[arg-type]
    spoken = replace(first, turns=(replace(first.turns[0], text=text),))
    return Group((spoken, *others), group.verdicts)


@pytest.fixture(scope="module")
def hostile_run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The made-up run (96 held-out answers), with 60 training answers of step 3: one hostile, of the highest reward; two restricted."""
    folder = make_run(tmp_path_factory.mktemp("runs"))
    truth = {"c0": 1.0, "c1": 1.0}
    groups = [say(make_group(3, "nasty", [2.0, 0.1]), HOSTILE, reference={"rubric": RUBRIC})]
    groups.append(say(make_group(3, "private", [0.2, 0.3]), "private words", restricted=True))
    groups += [make_group(3, f"task{number}", [0.25, 0.35]) for number in range(28)]
    episodes.write_step(folder, 3, groups, {}, "train", gold_verdicts=lambda episode: truth)
    return folder


@pytest.fixture(scope="module")
def text(hostile_run: RunFolder) -> str:
    """Its page."""
    return written(hostile_run)


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take a second, and some tests look at other things."""
    monkeypatch.setattr(page, "drawings", lambda folder: [])


def written(folder: RunFolder, unredacted: bool = False) -> str:
    findings = diagnosis.diagnose(metrics.read(folder.metrics_log))
    return page.write(folder, report.summarise(folder), findings, unredacted).read_text(encoding="utf-8")


def test_the_page_stands_alone_and_nothing_in_it_acts(text: str) -> None:
    elements = Elements(text)
    assert [attrs.get("type") for tag, attrs in elements.found if tag == "script"] == ["application/json", None]
    assert not [name for _, attrs in elements.found for name in attrs if name.startswith("on")]
    assert not [tag for tag, _ in elements.found if tag in ("img", "iframe", "object", "embed", "base")]
    references = [attrs[name] for _, attrs in elements.found for name in ("src", "href", "xlink:href") if name in attrs]
    assert {str(reference)[:1] for reference in references} <= {"#", "d"}
    assert [str(reference) for reference in references if str(reference).startswith("d")] == ["data:,"]
    assert not re.findall(r"@import|url\((?!#)", text)
    data, script = elements.scripts
    assert not set("<>&") & set(data)
    assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|eval\(|</|<!--", script)
    told = json.loads(data)
    assert HOSTILE in {episode["text"] for episode in told["episodes"]}
    assert told["tasks"]["train/nasty"]["criteria"][0]["text"] == "names <b>harm</b>"


def test_the_page_says_what_the_run_came_to(text: str) -> None:
    for shown in (
        "rlvr/made-up", "finished", "gain of the oracle score", "+0.250", "0.250 … 0.250", "Nothing stands out",
        "Training reward", "Gold against proxy", "Trainer–engine log-probability gap", "unscored 1", "learning_rate",
        "omegaconf",
    ):  # fmt: skip
        assert shown in text, shown
    # steps=30 is the one setting that the made-up run changed; its default, 60, follows.
    assert re.search(r"<span>steps</span> <mark>30</mark> <small>60</small>", text)
    assert text.count("<mark>") == 2  # the other one is the legend
    # 30 groups of two, and 12 tasks of two answers at each of four evaluations
    assert "156 of 156 shown" in text


@pytest.mark.usefixtures("no_figures")
def test_restricted_rows_are_redacted_unless_asked_for(hostile_run: RunFolder, text: str) -> None:
    assert "private words" not in text
    assert "dilemma private" not in text
    assert f"{samples.REDACTED} (13 characters)" in text
    assert "The texts of 2 are redacted" in text
    assert MARK not in text
    text = written(hostile_run, unredacted=True)
    assert "private words" in text
    assert samples.REDACTED not in text
    assert text.index(MARK) < text.index('id="diagnosis"')


# The reason has 29 characters and quotes a restricted task; summary.json, on the user's own disk, has it whole.
@pytest.mark.usefixtures("no_figures")
def test_the_reason_of_a_failure_is_redacted_where_a_task_is_restricted(hostile_run: RunFolder, tmp_path: Path) -> None:
    summary = report.summarise(hostile_run, "failed", "no score for 'private words'.")
    text = page.write(hostile_run, summary, []).read_text(encoding="utf-8")
    assert "no score for" not in text
    assert f"{samples.REDACTED} (29 characters). It is in summary.json." in text
    assert summary["reason"] == "no score for 'private words'."
    text = page.write(hostile_run, summary, [], unredacted=True).read_text(encoding="utf-8")
    assert "no score for" in text
    open_run = RunFolder.create(tmp_path, "rlvr", "a", {"workload": "rlvr", "steps": 5})
    episodes.write_step(open_run, 1, [make_group(1, "t", [0.5])], {}, "train")
    text = page.write(open_run, summary, [], unredacted=True).read_text(encoding="utf-8")
    assert "no score for" in text
    assert MARK not in text


# A weight that is no number, and one that is none at all; the criterion's id need not be a text.
@pytest.mark.usefixtures("no_figures")
def test_a_reference_of_ones_own_may_hold_anything(tmp_path: Path) -> None:
    rubric = [
        {"id": 7, "text": "kind", "weight": float("nan")},
        {"id": "c", "weight": "much"},
        {"id": "d", "weight": -1},
    ]
    folder = RunFolder.create(tmp_path, "rlvr", "a", {"workload": "rlvr", "steps": 5})
    group = say(make_group(1, "same", [0.5]), "one", reference={"rubric": rubric})
    episodes.write_step(folder, 1, [group], {}, "train")
    (data, _) = Elements(written(folder)).scripts
    assert json.loads(data)["tasks"]["train/same"]["criteria"] == [
        {"id": "7", "text": "kind", "weight": None}, {"id": "c", "text": "", "weight": None},
        {"id": "d", "text": "", "weight": -1},
    ]  # fmt: skip


def test_a_training_and_a_held_out_task_of_one_id_keep_their_prompts(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "rlvr", "a", {"workload": "rlvr", "steps": 5})
    for split in ("train", "eval"):
        asked = ({"role": "user", "content": f"of {split}"},)
        episodes.write_step(folder, 1, [say(make_group(1, "same", [0.5]), "one", messages=asked)], {}, split)
    tasks = browsed(samples.choose(folder, 10)[0])["tasks"]
    assert {name: task["messages"] for name, task in tasks.items()} == {
        "train/same": [["user", "of train"]],
        "eval/same": [["user", "of eval"]],
    }


@pytest.mark.usefixtures("no_figures")
def test_alarms_and_the_reason_of_a_failure_are_at_the_top(hostile_run: RunFolder) -> None:
    finding = diagnosis.Finding("answers are cut off", 7, "half <i>were</i>", "Raise it.", lasting=False)
    summary = report.summarise(hostile_run, "failed", "the <judge> died")
    text = page.write(hostile_run, summary, [finding], unredacted=True).read_text(encoding="utf-8")
    top = text[: text.index('id="numbers"')]
    for shown in (
        "the &lt;judge&gt; died",
        "half &lt;i&gt;were&lt;/i&gt;",
        "from step 7, over by the end",
        "Raise it.",
    ):
        assert shown in top, shown


def test_a_run_that_has_only_begun_has_a_page(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "rlvr", "a", {"workload": "rlvr", "steps": 5})
    text = written(folder)
    assert "0 of 0 shown" in text
    assert "No step has ended yet." in text


def test_long_texts_and_conversations_are_cut() -> None:
    """8,000 characters of a text, 40 turns of 2,000 each, five digits of a number; NaN is none."""
    row = {
        "id": "1/t/0", "task_id": "t", "split": "train", "step": 1, "sample": 0, "tokens": 3, "unscored": None,
        "finish_reason": "stop", "weight_version": 0, "reward": 1 / 3, "advantage": float("nan"), "gold": None,
        "components": {}, "verdicts": {"c": 0.1234567}, "gold_verdicts": {}, "completion": "x" * (CHARACTERS + 1),
        "turns": [{"role": "policy", "text": "y" * 2001}] * (TURNS + 2), "prompt": [], "reference": {},
    }  # fmt: skip
    (episode,) = browsed([row])["episodes"]
    assert episode["text"] == "x" * 8000 + "\n… 8,001 characters, the first 8,000 are shown"
    assert len(episode["turns"]) == 41
    assert episode["turns"][0] == ["policy", "y" * 2000 + "\n… 2,001 characters, the first 2,000 are shown"]
    assert episode["turns"][40] == ["", "… 42 turns, the first 40 are shown"]
    assert (episode["reward"], episode["advantage"], episode["verdicts"]) == (0.33333, None, {"c": 0.12346})


Open = Callable[[str], tuple[str, str]]


@pytest.fixture
def open_page(text: str, tmp_path: Path) -> Open:
    """The page's elements after its script has run, with this fragment in its address; and what the console was told."""
    file = tmp_path / "report.html"
    file.write_text(text, encoding="utf-8")
    return lambda fragment: opened(file, fragment)


def test_in_a_browser_a_hostile_answer_is_text_and_verdicts_are_shown(open_page: Open) -> None:
    """The highest reward is first in this order. P(yes) of c0 is 0.9, of c1 0.1; the truth has both met: on c1 they differ."""
    shown, console = open_page("order=best")
    assert console == ""
    assert "</form>" in shown
    answer = "&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;&lt;img src=x onerror=alert(2)&gt; &amp; \u2028 ends"
    assert f'<pre class="answer">{answer}</pre>' in shown
    assert "names &lt;b&gt;harm&lt;/b&gt;" in shown
    assert "<img" not in shown
    assert "156 of 156 episodes" in shown
    assert "page 1 of 8" in shown  # twenty a page
    assert shown.count('<tr class="wrong">') == 1
    (wrong,) = re.findall(r'<tr class="wrong">(.*?)</tr>', shown)
    for cell in ("−1", "it lies", "0.10", ">yes<"):
        assert cell in wrong


def test_in_a_browser_the_filters_of_a_link_choose(open_page: Open) -> None:
    """Training answers of step 3 with rewards of 0.3 to 0.4 are the second ones: 0.3 once and 0.35 28 times, two pages."""
    shown, console = open_page("split=train&from=3&to=3&low=0.3&high=0.4&page=2")
    assert console == ""
    assert "29 of 156 episodes" in shown
    assert "page 2 of 2" in shown
    assert shown.count("<li>") == 9
    shown, _ = open_page("split=train&text=DILEMMA+TASK27")
    assert "2 of 156 episodes" in shown
    assert re.search(r"Step 3, train, task27, answer 0", shown)
    shown, _ = open_page("split=eval&from=1&to=9")
    assert "0 of 156 episodes" in shown
    assert "No episode matches." in shown
