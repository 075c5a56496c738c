"""A computed table as words: headers, rows and notes, the same on the terminal, in Markdown, LaTeX and HTML."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator.tables.claims import LEVEL, POWER, Assessed
from orchestrator.tables.compute import Cell, Computed
from orchestrator.tables.declare import LAST, AnyColumn, Checkpoint, Column, Published

NOT_RUN = "not run"
PUBLISHED = "published"
OUTCOMES = {
    "holds": "it holds", "fails": "it fails", "open": "open, these runs cannot tell", "not run": "not tested"
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Grid:
    """headers: of all columns, the first of the rows' names. rows: as many cells each. notes: what a reader must know."""

    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]


def grid_of(computed: Computed) -> Grid:
    """Never a bare number: a mean with its interval and what it is over. Published values stand beside, at paper scale alone."""
    columns = [(column, _any_published(computed, column)) for column in computed.table.columns]
    headers = [""]
    for column, has in columns:
        headers += [column.name, *([f"{column.name}, {PUBLISHED}"] if has else [])]
    rows = []
    for row in computed.rows:
        words = [row]
        for column, has in columns:
            cell = computed.cell(row, column.name)
            words += [in_words(cell, column.form), *([published_in_words(cell.published, column.form)] if has else [])]
        rows.append(tuple(words))
    return Grid(computed.table.title, tuple(headers), tuple(rows), tuple(_notes(computed)))


def _any_published(computed: Computed, column: AnyColumn) -> bool:
    return any(cell.published for cell in computed.cells if cell.column == column.name)


def in_words(cell: Cell, form: str) -> str:
    """0.567 (0.541 to 0.593; 3 runs)"""
    if cell.mean is None:
        return "" if cell.blank else NOT_RUN
    spread = f"{cell.low:{form}} to {cell.high:{form}}" if math.isfinite(cell.low) else "no interval"
    return f"{cell.mean:{form}} ({spread}; {_over(cell)})"


def _over(cell: Cell) -> str:
    many = f"{cell.runs}" if cell.runs == cell.asked else f"{cell.runs} of {cell.asked}"
    if cell.most > cell.runs:
        many += f" to {cell.most}"
    over = f"{many} run{'' if many == '1' else 's'}"
    if cell.runs == 1:
        over += f", {cell.tasks} task{'' if cell.tasks == 1 else 's'}"
    if cell.unpaired:
        over += f"; {cell.unpaired} task{'' if cell.unpaired == 1 else 's'} not in all runs left out"
    if cell.unscored:
        over += f"; {cell.unscored} of {cell.episodes + cell.unscored} episodes unscored"
    return over


def published_in_words(published: Published | None, form: str) -> str:
    """0.610 (secondary, Table 1)"""
    if published is None:
        return ""
    told = [published.provenance, published.where]
    if published.low is not None and published.high is not None:
        told.append(f"{published.low:{form}} to {published.high:{form}}")
    if published.n is not None:
        told.append(f"n = {published.n}")
    return f"{published.value:{form}} ({', '.join(filter(None, told))})"


def _notes(computed: Computed) -> Iterator[str]:
    table = computed.table
    yield (
        f"The sweep {computed.sweep}, preset {', '.join(computed.presets)}; held-out episodes of {_checkpoints(computed)}. Means, "
        "their 95 % intervals over runs and tasks, and the number of runs."
    )
    if computed.overrides:
        yield f"With {' '.join(computed.overrides)}."
    yield from (f"Sampled with {text}." for text in _samplings(computed))
    if any(cell.runs == 1 and cell.most <= 1 for cell in computed.cells):
        yield "Of one run the interval is over its tasks alone: it does not say what another seed would give."
    if any(cell.runs == 1 and cell.most > 1 for cell in computed.cells):
        yield "Where a part of a figure is a single run, it is taken to spread as the runs of the others do."
    if chosen := list(dict.fromkeys(cell.row for cell in computed.cells if cell.chosen and cell.mean is not None)):
        yield f"Chosen by a search for its held-out score, which flatters it where these are the same tasks: {', '.join(chosen)}."
    if any(cell.published for cell in computed.cells):
        bounds = [(c.name, table.tolerance_of(c)) for c in table.columns if _any_published(computed, c)]
        yield f"Reproduced: the mean is at most so far from the published value: {', '.join(f'{n} {b:g}' for n, b in bounds)}."
    yield from (text for tested in computed.claims for text in claim_in_words(tested))
    if table.note:
        yield table.note
    reasons: dict[str, list[str]] = {}
    for cell in computed.cells:
        if cell.reason and not cell.blank:
            reasons.setdefault(cell.reason, []).append(f"{cell.row}, {cell.column}")
        if unlike := _unlike_versions(computed, cell):
            told = f"its runs are of different versions of {unlike}"
            reasons.setdefault(told, []).append(f"{cell.row}, {cell.column}")
    for reason, cells in reasons.items():
        yield f"{_few(cells)}: {reason}."


def claim_in_words(tested: Assessed) -> Iterator[str]:
    """What was claimed and what came of it, then a line a cell."""
    bound = (
        f"not worse than {tested.than} by more than {tested.margin:g}"
        if tested.margin
        else f"better than {tested.than}"
    )
    told = f"{tested.claim} ({bound})"
    if not tested.cells:
        yield f"Claim: {told}: not tested, {tested.reason}."
        return
    by = f", the best in {tested.chosen_by}" if tested.chosen_by else ""
    yield (
        f"Claim: {told}: {OUTCOMES[tested.outcome]}. {tested.chosen} stands for it{by}; p one-sided, corrected over "
        f"{len(tested.cells)} cells (Holm), {LEVEL:g} decides."
    )
    for cell in tested.cells:
        equal = (
            f"; at equal length {cell.at_equal_length:+.3f} ({cell.at_equal_length_low:+.3f} to {cell.at_equal_length_high:+.3f})"
            if math.isfinite(cell.at_equal_length)
            else ""
        )
        yield (
            f"{cell.column}: {tested.chosen} less {tested.than} {cell.difference:+.3f} ({cell.low:+.3f} to {cell.high:+.3f}; "
            f"{cell.runs} runs), p = {cell.p:.2g}: {OUTCOMES[cell.outcome]}{equal}. Detectable with {POWER:.0%} power: "
            f"{cell.detectable:.3f} above the margin's end."
        )


def _samplings(computed: Computed) -> Iterator[str]:
    """How the runs' held-out answers were sampled, each way once."""
    by_way: dict[str, list[str]] = {}
    for name, run in computed.runs.items():
        by_way.setdefault(", ".join(f"{key}={value}" for key, value in run["sampling"].items()), []).append(name)
    for way, runs in by_way.items():
        yield way if len(by_way) == 1 else f"{way}: {_few(runs)}"


def _unlike_versions(computed: Computed, cell: Cell) -> str:
    """What a cell's runs have different versions of, the project's own commit included."""
    runs = dict.fromkeys(computed.files[file]["run"] for file in cell.files)
    versions = [computed.runs[run]["versions"] for run in runs]
    names = dict.fromkeys(name for one in versions for name in one)
    return ", ".join(name for name in names if len({str(one.get(name)) for one in versions}) > 1)


def _checkpoints(computed: Computed) -> str:
    """The rule, in words."""
    table = computed.table
    own = {row.name: row.checkpoint for row in table.rows if row.name in computed.rows}
    own |= {column.name: column.checkpoint for column in table.columns if isinstance(column, Column)}
    others = [f"{name}: {_step(said)}" for name, said in own.items() if said is not None]
    return _step(table.checkpoint) + (f" ({'; '.join(others)})" if others else "")


def _step(checkpoint: Checkpoint) -> str:
    return "each run's last step" if checkpoint == LAST else f"step {checkpoint}"


def _few(cells: list[str], most: int = 4) -> str:
    more = f" and {len(cells) - most} more" if len(cells) > most else ""
    return "; ".join(cells[:most]) + more
