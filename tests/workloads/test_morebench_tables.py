"""MoReBench Public and Theory in their published columns: files that the test itself writes, in several dialects, and the splits."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config.compose import compose
from orchestrator.data.tables import Row
from orchestrator.errors import ConfigError, DataError, RunError
from workloads.rlvr import Workload, morebench, published
from workloads.rlvr.theories import THEORIES, theory_of

SAMPLE = Path(__file__).parents[2].parent / "shared" / "data" / "morebench_sample"
COLUMNS = ("DILEMMA", "DILEMMA_SOURCE", "DILEMMA_TYPE", "THEORY", "RUBRIC", "ROLE_DOMAIN", "CONTEXT")
KANT, VIRTUE = "Kantian Deontology", "Aristotelian Virtue Ethics"


def criteria(*weights: Any, title: str = "Names what is at stake.") -> str:
    """A cell RUBRIC, with the published keys in their published order."""
    return str(
        [
            {
                "annotations": {"rubric_dimension": "identifying"},
                "id": f"c{number}",
                "title": f"{title} ({number})",
                "weight": w,
            }
            for number, w in enumerate(weights)
        ]
    )


def table(path: Path, rows: Sequence[tuple[str, str, str]], ids: Sequence[str] = ()) -> Path:
    """rows: (dilemma, theory, rubric)."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow((*COLUMNS, *(["TASK_ID"] if ids else [])))
        for number, (text, theory, rubric) in enumerate(rows):
            cells = (text, "daily_dilemmas", "short_case", theory, rubric, "ai_advisor", "Work")
            writer.writerow((*cells, *ids[number : number + 1]))
    return path


def workload(path: Path | str, *settings: str) -> Workload:
    return Workload(compose("rlvr", ["data.source=morebench", f"data.path={path}", *settings]))


def texts(tasks: Sequence[Any]) -> list[str]:
    return [task.messages[0]["content"].rpartition("Scenario: ")[2] for task in tasks]


def study(folder: Path) -> Path:
    """32 dilemmas of Public, and 8 of Theory under each of its five theories; two of these are among Public's."""
    folder.mkdir()
    rubric = criteria(3, -1)
    table(folder / "public.csv", [(f"public {number}", "neutral", rubric) for number in range(32)])
    asked = [*(f"Theory {number}" for number in range(6)), "public 0", "Public  1 "]
    table(folder / "theory.csv", [(text, theory, rubric) for theory in THEORIES for text in asked])
    return folder


def test_every_published_column_reaches_the_task(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", [("Do I stay?", "neutral", criteria(3, -2)), ("Do I go?", KANT, criteria(1))])
    tasks = [task for split in ("train", "eval") for task in workload(path).tasks(split)]
    by_theory = {task.reference["theory"]: task for task in tasks}
    assert by_theory.keys() == {"neutral", KANT}
    neutral = by_theory["neutral"].reference
    assert {name: neutral[name] for name in ("source", "kind", "role", "context")} == {
        "source": "daily_dilemmas",
        "kind": "short_case",
        "role": "ai_advisor",
        "context": "Work",
    }
    assert [criterion["weight"] for criterion in neutral["rubric"]] == [3, -2]
    assert "based on" not in by_theory["neutral"].messages[0]["content"]
    assert by_theory[KANT].messages[0]["content"] == (
        "Provide corresponding reasoning and decision for the following scenario based on Kantian Deontology.\n"
        f"Theory Definition: {THEORIES[KANT]}\nScenario: Do I go?"
    )
    # CC BY 4.0
    assert not any(task.restricted for task in tasks)


def test_dialects_of_one_table_read_alike(tmp_path: Path) -> None:
    """Line ends of either kind, a byte-order mark, every cell quoted, a literal in double quotes with escapes and signs of other
    scripts, and 23 criteria."""
    text = 'Someone asks:\nMy father said "stay" – 留下?\n\nDo I?'
    title = 'It\'s "clear",\nand naïve'
    weights = [(-3, -2, -1, 1, 2, 3)[number % 6] for number in range(23)]
    printed = criteria(*weights, title=title)
    as_json = json.dumps(
        [
            {
                "id": f"c{n}",
                "title": f"  {title} ({n}) ",
                "weight": w,
                "annotations": {"rubric_dimension": "identifying"},
            }
            for n, w in enumerate(weights)
        ]
    )
    found = []
    for number, (rubric, end, mark, quoting) in enumerate(
        [(printed, "\r\n", "", csv.QUOTE_MINIMAL), (as_json, "\n", "\ufeff", csv.QUOTE_ALL)]
    ):
        out = io.StringIO(newline="")
        writer = csv.writer(out, lineterminator=end, quoting=quoting)
        writer.writerows([COLUMNS, (text, "s", "long_case", "Virtue ethics", rubric, "ai_agent", "Health")])
        path = tmp_path / f"{number}.csv"
        path.write_bytes((mark + out.getvalue()).encode("utf-8"))
        (dilemma,) = published.read_tables(str(path))
        found.append((dilemma.text, dilemma.theory, dilemma.rubric))
    assert found[0] == found[1]
    assert found[0][:2] == (text, VIRTUE)
    assert [criterion.weight for criterion in found[0][2].criteria] == weights
    assert found[0][2].criteria[0].text == f"{title} (0)"


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("neutral", "neutral"), (" Neutral ", "neutral"), ("Act Utilitarianism", "Benthamite Act Utilitarianism"),
        ("(Benthamite) Act  Utilitarianism", "Benthamite Act Utilitarianism"), ("kantian_deontology", KANT), ("Deontology", KANT),
        ("Aristotelian Virtue Ethics", VIRTUE), ("SCANLONIAN CONTRACTUALISM", "Scanlonian Contractualism"),
        ("Gauthierian Contractarianism", "Gauthierian Contractarianism"), ("Rule Utilitarianism", None), ("Ethics", None), ("", None),
    ],
)  # fmt: skip
def test_theories_as_data_writes_them(written: str, name: str | None) -> None:
    assert theory_of(written) == name


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (("d", "neutral", "__import__('os')"), r"field RUBRIC: is not a Python literal"),
        (("d", "neutral", "[{'id': 'a', 'weight': null}]"), r"field RUBRIC: is not a Python literal"),
        (("d", "neutral", "[{['id']: 'a'}]"), r"field RUBRIC: is not a Python literal"),
        (("d", "neutral", "[]"), r"field RUBRIC: is not a list of criteria"),
        (("d", "neutral", "{'id': 'a'}"), r"field RUBRIC: is not a list of criteria"),
        (("d", "neutral", "['a']"), r"RUBRIC\[0\]: .* is missing or of the wrong type"),
        (("d", "neutral", criteria(1, 0)), r"RUBRIC\[1\]: field 'weight' is 0; it must be one of -3"),
        (("d", "neutral", criteria(1, 2, 4)), r"RUBRIC\[2\]: field 'weight' is 4; "),
        (("d", "neutral", criteria(-4)), r"RUBRIC\[0\]: field 'weight' is -4; "),
        (("d", "neutral", criteria(1.5)), r"RUBRIC\[0\]: field 'weight' is 1\.5; "),
        (("d", "neutral", criteria("3")), r"RUBRIC\[0\]: field 'weight' is '3'; "),
        (("d", "neutral", criteria(True)), r"RUBRIC\[0\]: field 'weight' is True; "),
        (("d", "neutral", "[{'id': 'a', 'title': 't', 'weight': 1}]"), r"RUBRIC\[0\]: 'annotations' is missing"),
        (("d", "neutral", criteria(1).replace("'c0'", "'c/0'")), r"RUBRIC\[0\]: .*c/0"),
        (("d", "neutral", criteria(1, 1).replace("'c1'", "'c0'")), r"field RUBRIC: .*c0"),
        (("d", "Rule Utilitarianism", criteria(1)), r"field THEORY is 'Rule Utilitarianism', which has no definition here. Known are: "
         r"neutral, Kantian Deontology, Benthamite Act Utilitarianism, .*, Gauthierian Contractarianism\."),
        ((" ", "neutral", criteria(1)), r"field DILEMMA is missing or empty"),
        (("d", "", criteria(1)), r"field THEORY is missing or empty"),
        (("d", "neutral", ""), r"field RUBRIC is missing or empty \(there: DILEMMA, DILEMMA_SOURCE, DILEMMA_TYPE, THEORY, "),
    ],
)  # fmt: skip
def test_a_cell_that_will_not_do_is_named_by_file_row_and_field(
    tmp_path: Path, cells: tuple[str, str, str], message: str
) -> None:
    """A good row before it is lines 2 and 3, so that it is row 1 and begins in line 4."""
    path = table(tmp_path / "t.csv", [("Two\nlines?", "neutral", criteria(1)), cells])
    with pytest.raises(
        DataError, match=r"t\.csv row 1 \(line 4\): .*" + message + r".*fetch them anew, or mend the row"
    ) as e:
        published.read_tables(str(path))
    # the command line tells it without a traceback
    assert isinstance(e.value, RunError)


def test_what_is_wrong_with_a_whole_table_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("DILEMMA,RUBRIC\nd,[]\n")
    with pytest.raises(
        DataError, match=r"t\.csv row 0 \(line 2\): field THEORY is missing or empty \(there: DILEMMA, RUB"
    ):
        published.read_tables(str(path))
    for content in ("", ",".join(COLUMNS) + "\n"):
        path.write_text(content)
        with pytest.raises(DataError, match=r"t\.csv: holds no rows"):
            published.read_tables(str(tmp_path))
    path.write_text("DILEMMA,THEORY,RUBRIC\nd,neutral\n")
    with pytest.raises(DataError, match=r"row 0 \(line 2\): has 2 cells and the header 3"):
        published.read_tables(str(path))
    path.unlink()
    with pytest.raises(DataError, match=r"holds no \.csv file"):
        published.read_tables(str(tmp_path))


def test_rows_that_come_twice_are_both_named(tmp_path: Path) -> None:
    rubric = criteria(1)
    rows = [("a", "neutral", rubric), ("b", "neutral", rubric), ("a", "neutral", rubric)]
    path = str(table(tmp_path / "t.csv", rows))
    with pytest.raises(DataError, match=r"t\.csv row 2 \(line 4\): repeats .*t\.csv row 0 \(line 2\) word for word"):
        published.read_tables(path)
    table(tmp_path / "t.csv", rows, ids=("1", "2", "1"))
    with pytest.raises(
        DataError, match=r"row 2 \(line 4\): field TASK_ID gives it the id public-1, as in .*row 0 \(line 2\): each row"
    ):
        published.read_tables(path)
    table(tmp_path / "t.csv", rows, ids=("1", "2", "3"))
    assert [dilemma.id for dilemma in published.read_tables(path)] == ["public-1", "public-2", "public-3"]
    # named by content: another theory is another row, wherever it stands
    table(tmp_path / "t.csv", [rows[0], ("a", KANT, rubric)])
    ids = [dilemma.id for dilemma in published.read_tables(path)]
    table(tmp_path / "t.csv", [("a", "Deontology", rubric), rows[0]])
    assert [dilemma.id for dilemma in published.read_tables(path)] == ids[::-1]
    assert [name.split("-")[0] for name in ids] == ["public", "theory"]


def test_a_dilemma_is_on_one_side_with_all_its_theories(tmp_path: Path) -> None:
    """38 texts are asked (two of 32 + 8 are the same but for blanks and case), 8 of them by theories; a quarter is 9. So 9 texts have
    8/38 x 9 = 1.9 with theories. The first four have (0.5/30, 1.5/30, 0.5/8, 2.5/30 in order): one with theories."""
    folder = study(tmp_path / "morebench")
    sides = {split: workload(folder, "data.test_groups=100").tasks(split) for split in ("train", "eval", "test")}
    keys = {split: {" ".join(text.split()).casefold() for text in texts(tasks)} for split, tasks in sides.items()}
    assert [len(keys[split]) for split in ("train", "eval", "test")] == [20, 9, 9]
    assert not keys["train"] & keys["eval"]
    assert not (keys["train"] | keys["eval"]) & keys["test"]
    assert sum(len(tasks) for tasks in sides.values()) == 32 + 8 * 5
    for split, count in (("eval", 2), ("test", 2), ("train", 4)):
        asked = {
            text.casefold().split()[0] + text.split()[-1]
            for text, task in zip(texts(sides[split]), sides[split], strict=True)
            if task.reference["theory"] != "neutral"
        }
        assert len(asked) == count, split
    few = workload(folder, "data.eval_groups=4")
    assert len({text.casefold() for text in texts(few.tasks("eval"))}) == 4
    assert len([task for task in few.tasks("eval") if task.reference["theory"] != "neutral"]) == 5


def test_splits_stay_where_they_are(tmp_path: Path) -> None:
    """By data.seed; neither the order of the rows nor the other held-out side moves one."""
    folder = study(tmp_path / "morebench")

    def held_out(split: str, *settings: str) -> set[str]:
        return {
            task.id for task in workload(folder, "data.eval_groups=5", "data.test_groups=6", *settings).tasks(split)
        }

    first = {split: held_out(split) for split in ("eval", "test")}
    assert held_out("eval", "data.test_groups=2") == held_out("eval", "data.test_groups=0") == first["eval"]
    assert held_out("test", "data.eval_groups=2") == first["test"]
    assert held_out("eval", "data.seed=1") != first["eval"]
    assert held_out("eval", "seed=1") == first["eval"]
    lines = (folder / "public.csv").read_text().splitlines()
    (folder / "public.csv").write_text("\n".join([lines[0], *lines[:0:-1]]) + "\n")
    assert {split: held_out(split) for split in ("eval", "test")} == first


def test_a_named_dilemma_is_held_out_with_its_text(tmp_path: Path) -> None:
    folder = study(tmp_path / "morebench")
    every = published.read_tables(str(folder))
    named = next(dilemma for dilemma in every if dilemma.text == "public 0" and dilemma.theory == KANT)
    held = workload(folder, f"data.holdout_dilemma={named.id}", "data.test_groups=3")
    # neutral and five theories
    assert texts(held.tasks("eval")) == ["public 0"] * 6
    assert "public 0" not in texts(held.tasks("train")) + texts(held.tasks("test"))
    with pytest.raises(DataError, match=r"data\.holdout_dilemma=x: there is no such dilemma, only: public-"):
        workload(folder, "data.holdout_dilemma=x").tasks("eval")


def test_too_few_dilemmas_to_split(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", [("a", "neutral", criteria(1)), ("b", KANT, criteria(1))])
    assert [len(workload(path).tasks(split)) for split in ("train", "eval")] == [1, 1]
    with pytest.raises(DataError, match=r"data\.path holds 2 dilemma\(s\): each of 3 splits needs its own"):
        workload(path, "data.test_groups=1").tasks("train")


def test_theory_as_transfer(tmp_path: Path) -> None:
    """A table of its own is the test split, whole texts of it where fewer are asked for; training has all that is not validation."""
    folder = study(tmp_path / "morebench")
    public, theory = folder / "public.csv", tmp_path / "theory.csv"
    rubric = criteria(2)
    table(theory, [(f"other {number}", name, rubric) for number in range(4) for name in (KANT, VIRTUE)])
    asked = workload(public, f"data.test_path={theory}", "data.test_groups=100", "data.eval_groups=6")
    assert [len(asked.tasks(split)) for split in ("train", "eval", "test")] == [26, 6, 8]
    assert {task.reference["theory"] for task in asked.tasks("test")} == {KANT, VIRTUE}
    fewer = workload(public, f"data.test_path={theory}", "data.test_groups=3").tasks("test")
    assert (len(fewer), len(set(texts(fewer)))) == (6, 3)


def test_a_dilemma_in_two_splits_is_named_with_both_rows(tmp_path: Path) -> None:
    rubric = criteria(2)
    public = table(tmp_path / "public.csv", [(f"Stay {n}?", "neutral", rubric) for n in range(4)])
    theory = table(tmp_path / "theory.csv", [("Go?", KANT, rubric), ("stay\n 2?", KANT, rubric)])
    both = (f"data.test_path={theory}", "data.test_groups=9")
    with pytest.raises(
        DataError,
        match=r"theory\.csv row 1 \(line 3\): field DILEMMA is as in .*public\.csv row 2 \(line 4\), .*two splits: leave",
    ):
        workload(public, *both).tasks("test")
    table(public, [(f"Stay {n}?", "neutral", rubric) for n in range(2)], ids=("p", "q"))
    table(theory, [("Go?", "neutral", rubric)], ids=("q",))
    with pytest.raises(
        DataError, match=r"theory\.csv row 0 .*field TASK_ID gives it the id public-q, as in .*public\.csv row 1"
    ):
        workload(public, *both).tasks("train")
    # Both published tables may count from 0.
    table(theory, [("Go?", KANT, rubric)], ids=("q",))
    assert [task.id for task in workload(public, *both).tasks("test")] == ["theory-q"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["data.source=morebench", "data.test_path=t.csv"], r"for data\.test_groups dilemmas, and they are morebench and 0"),
        (["data.source=mini", "data.path=null", "data.test_path=t.csv", "data.test_groups=4"], r"and they are mini and 4"),
        (["data.source=morebench", "data.theory_share=0.5"], r"data\.theory_share=0\.5 is of the miniature alone"),
        (["data.source=morebench", "data.test_path=none.csv", "data.test_groups=4"], r"data\.test_path=none\.csv does not exist"),
    ],
)  # fmt: skip
def test_settings_of_another_source_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    table(tmp_path / "t.csv", [("a", "neutral", criteria(1))])
    with pytest.raises(ConfigError, match=message):
        compose("rlvr", ["data.path=t.csv", *settings])


def test_the_hubs_copy_is_read_configuration_by_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def rows(name: str, config: str, split: str) -> list[Row]:
        asked.append((name, config, split))
        theory = "neutral" if config.endswith("public") else "Act Utilitarianism"
        values = {"DILEMMA": f"of {config}", "THEORY": theory, "RUBRIC": criteria(1)}
        return [Row(f"hf:{name} {config}/{split} row 0", values)]

    monkeypatch.setattr(published, "hub_rows", rows)
    read = workload("hf:morebench/morebench")
    assert sorted(texts([*read.tasks("train"), *read.tasks("eval")])) == ["of morebench_public", "of morebench_theory"]
    assert asked == [("morebench/morebench", f"morebench_{part}", "test") for part in ("public", "theory")]
    assert workload("hf:a/b", "data.hub_config=x", "data.hub_split=train")._site[0][0].text == "of x"
    assert asked[2:] == [("a/b", "x", "train")]

    def wrong(name: str, config: str, split: str) -> list[Row]:
        return [Row("hf:a/b x/train row 0", {"DILEMMA": "d", "THEORY": None, "RUBRIC": 3})]

    monkeypatch.setattr(published, "hub_rows", wrong)
    with pytest.raises(DataError, match=r"hf:a/b x/train row 0: field THEORY is missing or empty"):
        published.read_tables("hf:a/b")


def test_a_scenario_longer_than_the_context_keeps_its_theory(tmp_path: Path) -> None:
    """(256 - 64) tokens x 2.4 are 460 characters; the middle of the prompt goes, its beginning names the theory."""
    path = table(tmp_path / "t.csv", [(f"{n} " + "long " * 400, KANT, criteria(1)) for n in range(2)])
    (task,) = workload(path).tasks("train")
    assert len(task.messages[0]["content"]) == 460
    assert task.messages[0]["content"].startswith(
        "Provide corresponding reasoning and decision for the following scenario based on Kant"
    )


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="the MoReBench sample tables are not beside the repository")
def test_the_real_sample_is_read_from_its_folder() -> None:
    dilemmas = published.read_tables(str(SAMPLE))
    assert [dilemma.theory for dilemma in dilemmas] == [
        "neutral",
        "Scanlonian Contractualism",
        "Gauthierian Contractarianism",
    ]
    assert [dilemma.kind for dilemma in dilemmas] == ["short_case", "expert_case", "long_case"]
    assert all(criterion.weight in morebench.WEIGHTS for dilemma in dilemmas for criterion in dilemma.rubric.criteria)
    three = workload(SAMPLE, "data.test_groups=1")
    assert sorted(len(three.tasks(split)) for split in ("train", "eval", "test")) == [1, 1, 1]
