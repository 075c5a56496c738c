"""Does a table still say what its episodes say? Everything is computed again; nothing on disk is changed."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, Literal

from orchestrator.records.folder import read_json
from orchestrator.tables.compute import Cell, Computed, compute
from orchestrator.tables.declare import Published, Table
from orchestrator.tables.find import Named
from orchestrator.tables.grid import grid_of, in_words, published_in_words
from orchestrator.tables.render import COLUMNS_OF_CSV, rendered
from orchestrator.tables.written import (
    FIGURES,
    Written,
    close,
    kept_of,
    place_of,
    read,
    same_figure,
    sweep_and_overrides,
    values_of,
    with_kept,
)

Word = Literal["PASS", "FAIL", "SAME", "CHANGED", "UNVERIFIED", "NOT RUN"]
BAD: tuple[Word, ...] = ("FAIL", "CHANGED", "UNVERIFIED")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What verification says of one cell. now: its figure by the episodes; against: the published or the written one."""

    row: str
    column: str
    word: Word
    now: str
    against: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class Difference:
    """A place of a file that does not say what the episodes give. row, column: empty where it is no cell."""

    file: str
    row: str
    column: str
    says: str
    should: str


@dataclass(frozen=True, slots=True)
class Verified:
    """causes: what explains differences, files of episodes that changed."""

    folder: Path
    verdicts: tuple[Verdict, ...]
    differences: tuple[Difference, ...]
    causes: tuple[str, ...]

    def status(self, complete: bool) -> int:
        """1 where a cell is bad or a file differs; complete: also where a cell was not run. Else 0."""
        words = {verdict.word for verdict in self.verdicts}
        bad = bool(words & {*BAD, *(("NOT RUN",) if complete else ())})
        return int(bad or bool(self.differences))


def verify(named: Named, overrides: Sequence[str], storage: Path) -> Verified:
    """Compute every cell again and compare it with what is published and with what was written down.

    overrides: by default those that the table was written with. Raises ConfigError where nothing was written down.
    """
    folder = place_of(named, overrides, storage)
    written = read(folder, named.place)
    sweep, used = sweep_and_overrides(named, overrides, written)
    computed = compute(named, sweep, storage, used)
    verdicts = [verdict_of(named.table, cell, written) for cell in computed.cells if not cell.blank]
    kept = with_kept(computed, written)
    return Verified(
        folder,
        tuple(verdicts),
        (*_in_figures(folder, kept), *_in_texts(folder, kept)),
        tuple(_causes(computed, written)),
    )


def verdict_of(table: Table, cell: Cell, written: Written) -> Verdict:
    """NOT RUN unless all of a cell's runs are there, UNVERIFIED where the figure that was written down is from further ones. At paper
    scale, where there is a published value, PASS or FAIL (`judge`); else SAME or CHANGED against the figure that was written down
    last, equal to 1e-9."""
    column = table.column(cell.column)
    now, known = in_words(cell, column.form), cell.published
    before = written.cells.get((cell.row, cell.column))
    then = in_words(before, column.form) if before else "nothing"
    if kept_of(cell, written):
        why = f"the table's figure is of runs that are not there, and nothing vouches for it: {cell.reason}"
        return Verdict(cell.row, cell.column, "UNVERIFIED", now, then, why)
    if known is not None:
        tolerance = table.tolerance_of(column)
        assert tolerance is not None
        against = published_in_words(known, column.form)
        if not cell.whole:
            return Verdict(cell.row, cell.column, "NOT RUN", now, against, cell.reason)
        return Verdict(cell.row, cell.column, *judge(cell, known, tolerance, now, against))
    if not cell.whole:
        return Verdict(cell.row, cell.column, "NOT RUN", now, then, cell.reason)
    same = before is not None and same_figure(cell, before)
    return Verdict(cell.row, cell.column, "SAME" if same else "CHANGED", now, then)


def judge(cell: Cell, known: Published, tolerance: float, now: str, against: str) -> tuple[Word, str, str, str]:
    """PASS where the mean is at most `tolerance` from the published value, else FAIL.

    The interval does not widen the tolerance: it was settled before the runs, and a cell of few and unlike runs must not pass
    because it is vague. Nor must all of the interval lie within it, which almost no affordable number of seeds would reach, and
    which the published value, mostly of a single run, would not reach either. But where the interval crosses the tolerance's bound
    the verdict may be another one with other seeds, and says so.
    """
    assert cell.mean is not None
    distance = abs(cell.mean - known.value)
    bounds = known.value - tolerance, known.value + tolerance
    crosses = any(cell.low < bound < cell.high for bound in bounds)
    why = f"{cell.mean - known.value:+.3g} from it, tolerance {tolerance:g}"
    if crosses:
        why += "; its interval crosses that bound: more runs may say otherwise"
    # The last digits of a difference of decimals are no reason to fail.
    passed = distance <= tolerance or close(distance, tolerance)
    return ("PASS" if passed else "FAIL"), now, against, why


def _causes(computed: Computed, written: Written) -> Iterator[str]:
    for file, what in computed.files.items():
        before = written.files.get(file, {}).get("sha256")
        if before not in (None, what["sha256"]):
            yield f"{file} changed since the table was written (SHA-256 {str(before)[:12]}…, now {what['sha256'][:12]}…)"


# --- table.json ---


def _in_figures(folder: Path, computed: Computed) -> Iterator[Difference]:
    says, should = read_json(folder / FIGURES), values_of(computed)
    cells = should.pop("cells")
    listed = says.pop("cells")
    found = {(item["row"], item["column"]): item for item in listed}
    if len(listed) > len(found):
        yield Difference(FIGURES, "", "", f"{len(listed)} cells, some of them twice", f"{len(cells)} cells")
    for cell in cells:
        at = (cell["row"], cell["column"])
        for path, old, new in _unlike(found.pop(at, {}), cell):
            yield Difference(FIGURES, *at, _told(path, old), _told(path, new))
    for row, column in found:
        yield Difference(FIGURES, str(row), str(column), "a cell", "no such cell")
    for path, old, new in _unlike(says, should):
        yield Difference(FIGURES, "", "", _told(path, old), _told(path, new))


def _told(path: str, value: Any) -> str:
    return f"{path}: nothing" if value is _NOTHING else f"{path}: {value}"


_NOTHING = object()


def _unlike(says: Any, should: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(dotted path, what is said, what should be) of every leaf that differs."""
    says, should = (dict(enumerate(value)) if isinstance(value, (list, tuple)) else value for value in (says, should))
    if isinstance(says, Mapping) and isinstance(should, Mapping):
        for key in dict.fromkeys([*should, *says]):
            yield from _unlike(
                says.get(key, _NOTHING), should.get(key, _NOTHING), f"{path}.{key}" if path else str(key)
            )
    elif not close(says, should):
        yield path or "all of it", says, should


# --- the other files ---


def _in_texts(folder: Path, computed: Computed) -> Iterator[Difference]:
    headers = grid_of(computed).headers
    for name, should in rendered(computed).items():
        path = folder / name
        if not path.is_file():
            yield Difference(name, "", "", "it is gone", "the table")
            continue
        says = path.read_bytes().decode(errors="replace")
        if says != should:
            yield from _unlike_lines(name, says.split("\n"), should.split("\n"), headers)


def _unlike_lines(
    name: str, says: Sequence[str], should: Sequence[str], headers: Sequence[str]
) -> Iterator[Difference]:
    for what, i1, i2, j1, j2 in SequenceMatcher(None, says, should, autojunk=False).get_opcodes():
        if what == "equal":
            continue
        if i2 - i1 == j2 - j1:
            for old, new, number in zip(says[i1:i2], should[j1:j2], range(i1 + 1, i2 + 1), strict=True):
                yield from _unlike_line(name, old, new, number, headers)
        else:
            old, new = " ".join(says[i1:i2]), " ".join(should[j1:j2])
            yield Difference(name, "", f"line {i1 + 1}", old or "nothing", new or "nothing")


def _unlike_line(name: str, old: str, new: str, number: int, headers: Sequence[str]) -> list[Difference]:
    """The cells in which a line differs, or else the line."""
    split, in_csv = _SPLIT[Path(name).suffix], name.endswith(".csv")
    says, should = split(old), split(new)
    heads = COLUMNS_OF_CSV if in_csv else headers
    differing = [place for place, pair in enumerate(zip(says, should, strict=False)) if pair[0] != pair[1]]
    if not differing or not len(says) == len(should) == len(heads):
        return [Difference(name, "", f"line {number}", old, new)]
    columns = [f"{should[1]}, {head}" if in_csv else head for head in heads]
    return [Difference(name, should[0], columns[place], says[place], should[place]) for place in differing]


def _markdown_cells(line: str) -> list[str]:
    return line.removeprefix("| ").removesuffix(" |").split(" | ") if line.startswith("| ") else [line]


def _latex_cells(line: str) -> list[str]:
    return line.removesuffix(r" \\").split(" & ") if line.endswith(r" \\") else [line]


def _html_cells(line: str) -> list[str]:
    cells = re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", line)
    return [html.unescape(re.sub(r"</?small>", "", cell)) for cell in cells] if cells else [line]


def _csv_cells(line: str) -> list[str]:
    return next(csv.reader(io.StringIO(line)), [line])


_SPLIT: Mapping[str, Callable[[str], list[str]]] = {
    ".md": _markdown_cells,
    ".tex": _latex_cells,
    ".html": _html_cells,
    ".csv": _csv_cells,
}
