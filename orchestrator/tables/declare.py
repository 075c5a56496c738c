"""What a workload's tables.py says: a paper's table as a view of a sweep. Values and functions alone; imports no framework.

TABLES = {
    "table1": Table(
        title="Moral reasoning",
        sweep="rlvr_table1",
        rows=(Row("Base", "policy", "grpo", checkpoint=START), Row("GRPO", "policy", "grpo"), Row("FlowRL", "policy", "flowrl")),
        columns=(Column("Avg@8", truth), Difference("gain", "Avg@8", relative=True, form="+.1%", tolerance=0.1)),
        baseline="Base", paper="paper", tolerance=0.03,
        published={("FlowRL", "Avg@8"): Published(0.61, "secondary", "Table 1")},
    )
}
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from orchestrator.errors import ConfigError
from orchestrator.values import Episode, Scored, Verdict

LAST: Literal["last"] = "last"
"""The checkpoint at the last step of a run."""
START = 0
"""What a run began RL with."""
Checkpoint = int | Literal["last"]

Provenance = Literal["paper", "secondary", "computed"]
"""Where a published value is from: read in the paper itself, quoted by others, or computed from other published ones."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A stored held-out episode, as a metric is given it. gold, gold_verdicts: the truth, where the world knows it.

    proxy: what a verdict reads on the scale of the truth, by the run's own workload.
    """

    episode: Episode
    verdict: Verdict
    gold: float | None
    gold_verdicts: Mapping[str, float]
    proxy: Callable[[Scored], float]


Metric = Callable[[Measured], float | None]
"""What one episode counts as; None where it has no such value (it was not scored, or is of another benchmark)."""


@dataclass(frozen=True, slots=True)
class Published:
    """A value that the paper has. where: the table or section. low, high, n: where the paper gives them."""

    value: float
    provenance: Provenance
    where: str = ""
    low: float | None = None
    high: float | None = None
    n: int | None = None

    def __post_init__(self) -> None:
        if self.provenance not in get_args(Provenance):
            raise ConfigError(f"provenance={self.provenance!r}: say one of {', '.join(get_args(Provenance))}.")


@dataclass(frozen=True, slots=True)
class Row:
    """The finished runs of a node and arm over its seeds, or the winner of a search without seeds.

    node: None where the row holds published values alone (a model that is not trained here). arm: may be left out where the node
    has one. checkpoint, baseline: in place of the table's. best_of: only one of each task's first so many answers counts, that of the
    highest reward (best-of-n by the judge).
    """

    name: str
    node: str | None = None
    arm: str = ""
    checkpoint: Checkpoint | None = None
    baseline: str | None = None
    best_of: int | None = None


@dataclass(frozen=True, slots=True)
class Half:
    """One half of the held-out tasks: those whose mean of a metric in the runs of a row is at most the median over tasks, or the
    others (upper)."""

    row: str
    metric: Metric
    upper: bool = False


@dataclass(frozen=True, slots=True)
class Column:
    """The mean of a metric: over the episodes of a task, the tasks of a run, the runs.

    node: whose runs are looked at in place of the row's, with the same arm and seed: those that play another benchmark with the
    row's policies. below: the cell is then the mean of the metric over the mean of this one, a quotient of sums such as F1 over all
    answers; an answer has both values or neither. split: of the stored episodes. samples: the first so many answers of each task count
    alone (1: Score@1, 8: Avg@8); a row of the best of several has but one. half: of the tasks, which alone count. checkpoint,
    tolerance: in place of the table's. form: of its numbers.
    """

    name: str
    metric: Metric
    node: str | None = None
    below: Metric | None = None
    split: str = "eval"
    samples: int | None = None
    half: Half | None = None
    checkpoint: Checkpoint | None = None
    tolerance: float | None = None
    form: str = ".3f"


@dataclass(frozen=True, slots=True)
class Average:
    """The plain mean of other columns."""

    name: str
    of: tuple[str, ...]
    tolerance: float | None = None
    form: str = ".3f"


@dataclass(frozen=True, slots=True)
class Difference:
    """Another column less that of the baseline row, paired by task and, where both rows are of one node, by seed.

    Tasks that not all runs of both rows have a score of are left out. relative: as a share of the baseline's.
    """

    name: str
    of: str
    relative: bool = False
    tolerance: float | None = None
    form: str = "+.3f"


AnyColumn = Column | Average | Difference


@dataclass(frozen=True, slots=True)
class Claim:
    """That the best of some rows is not worse than another row by more than a margin, in any of some columns; better, with margin 0.

    of: the rows that may stand for the claim; the one with the highest mean in the column `chosen_by` does, which is of other tasks
    than `columns` (validation). than: the row that it is compared with. margin: settled here, before any run, in the columns' own
    unit. length: a column that is held equal in a second estimate beside the first.
    """

    name: str
    of: tuple[str, ...]
    than: str
    columns: tuple[str, ...]
    chosen_by: str
    margin: float
    length: str | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A table. sweep: the name of one in sweeps/, or the path of a YAML beside the table's own file. settings: with which it is read,
    `key=value`, before those of the command line.

    checkpoint: LAST or a step, fixed here and so before any run. paper: the preset at which published values hold; runs of
    another one have no published column. tolerance: how far from the published value a mean may lie and still be called
    reproduced, in the column's own unit; settled here too. published: by row and column; what the paper does not tell is left out.
    baseline: the row that differences are from. claims: what is tested on it. draw: writes a picture of its figures
    (`compute.Computed`) into its folder and returns its path; None where there is nothing to draw. Raises ConfigError with all
    that is wrong.
    """

    title: str
    sweep: str
    rows: tuple[Row, ...]
    columns: tuple[AnyColumn, ...]
    checkpoint: Checkpoint = LAST
    paper: str | None = None
    tolerance: float | None = None
    published: Mapping[tuple[str, str], Published] = field(default_factory=dict)
    baseline: str | None = None
    claims: tuple[Claim, ...] = ()
    settings: tuple[str, ...] = ()
    note: str = ""
    draw: Callable[[Any, Path], Path | None] | None = None

    def __post_init__(self) -> None:
        problems = list(_problems(self))
        if problems:
            raise ConfigError(f"the table {self.title!r}: " + "; ".join(problems))

    def row(self, name: str) -> Row:
        return next(row for row in self.rows if row.name == name)

    def column(self, name: str) -> AnyColumn:
        return next(column for column in self.columns if column.name == name)

    def checkpoint_of(self, row: Row, column: Column) -> Checkpoint:
        """The column's, the row's, or the table's."""
        for said in (column.checkpoint, row.checkpoint):
            if said is not None:
                return said
        return self.checkpoint

    def tolerance_of(self, column: AnyColumn) -> float | None:
        """The column's, or the table's."""
        return self.tolerance if column.tolerance is None else column.tolerance

    def baseline_of(self, row: Row) -> str | None:
        """The row's, or the table's."""
        return row.baseline or self.baseline


def _problems(table: Table) -> Iterator[str]:
    rows, columns = [row.name for row in table.rows], [column.name for column in table.columns]
    for what, names in (("row", rows), ("column", columns)):
        if not names or len(set(names)) < len(names):
            yield f"its {what}s need names, and no name twice ({', '.join(names) or 'there are none'})"
    yield from _checkpoint_problems(table)
    for column in table.columns:
        of = () if isinstance(column, Column) else (column.of,) if isinstance(column, Difference) else column.of
        for name in of:
            if name not in columns or name == column.name:
                yield f"the column {column.name!r} is of {name!r}, which is no other column"
            elif isinstance(other := table.column(name), Column) and other.below:
                yield f"the column {column.name!r} is of {name!r}, a quotient, of which no average or difference is computed"
        if isinstance(column, Column) and column.split == "train":
            yield f"the column {column.name!r} is of training episodes; a table is of held-out ones"
        if (
            isinstance(column, Column)
            and column.half
            and not any(r.name == column.half.row and r.node for r in table.rows)
        ):
            yield f"the column {column.name!r} is of half of the tasks by the row {column.half.row!r}, which is no row with runs"
        if isinstance(column, Difference) and any(row.node and not table.baseline_of(row) for row in table.rows):
            yield f"the column {column.name!r} is a difference: name the row that it is from (baseline=…)"
    yield from _circles(table)
    for baseline in {table.baseline, *(row.baseline for row in table.rows)} - {None, *rows}:
        yield f"baseline={baseline!r} is no row"
    for row_name, column_name in table.published:
        if row_name not in rows or column_name not in columns:
            yield f"a value is published for {row_name!r}, {column_name!r}, which is no cell"
        elif table.tolerance_of(table.column(column_name)) is None:
            yield f"a value is published in {column_name!r}: say how near counts as reproduced (tolerance=…)"
    if table.published and table.paper is None:
        yield "it has published values: say at which preset they hold (paper=…)"
    yield from _numbers(table)
    yield from _claims(table)


def _numbers(table: Table) -> Iterator[str]:
    """Counts of answers that are none."""
    counts = {f"row {row.name!r}: best_of": row.best_of for row in table.rows}
    counts |= {f"column {c.name!r}: samples": c.samples for c in table.columns if isinstance(c, Column)}
    for place, count in counts.items():
        if count is not None and count < 1:
            yield f"the {place}={count} is no number of answers"


def _claims(table: Table) -> Iterator[str]:
    rows = {row.name: row for row in table.rows}
    columns = {column.name: column for column in table.columns}
    for claim in table.claims:
        place = f"the claim {claim.name!r}"
        compared = (*claim.of, claim.than)
        for name in compared:
            if name not in rows or rows[name].node is None:
                yield f"{place} is of {name!r}, which is no row with runs"
        if not claim.of or claim.than in claim.of:
            yield f"{place} compares {claim.than!r} with itself or with nothing"
        if not claim.columns:
            yield f"{place} is of no column"
        for name in (*claim.columns, claim.chosen_by, *([claim.length] if claim.length else [])):
            if not isinstance(columns.get(name), Column):
                yield f"{place} looks at {name!r}, which is no column of a metric"
        chosen = columns.get(claim.chosen_by)
        for column in (columns.get(name) for name in claim.columns):
            if isinstance(chosen, Column) and isinstance(column, Column) and column.split == chosen.split:
                yield f"{place} is tested in {column.name!r}, on the very tasks (split {column.split}) by which its row is chosen"
        if not claim.margin >= 0:
            yield f"{place} has the margin {claim.margin:g}; it must be 0 (better) or above (not worse by more)"


def _checkpoint_problems(table: Table) -> Iterator[str]:
    rows = {row.name: row.checkpoint for row in table.rows if row.checkpoint is not None}
    columns = {c.name: c.checkpoint for c in table.columns if isinstance(c, Column) and c.checkpoint is not None}
    for name, said in {"": table.checkpoint, **rows, **columns}.items():
        is_step = isinstance(said, int) and not isinstance(said, bool) and said >= 0
        if said != LAST and not is_step:
            yield (
                f"checkpoint={said!r}{f' of {name!r}' if name else ''}: the step is fixed beforehand, LAST or a number. The best by "
                "the training judge is the one that exploits it best, and the best by the truth was picked on the tasks it reports"
            )
    if rows and columns:
        yield f"rows ({', '.join(rows)}) and columns ({', '.join(columns)}) say a checkpoint: only one of the two may"


def _circles(table: Table) -> Iterator[str]:
    """Columns that are computed of what they cannot be: of each other, or differences of differences."""
    of = {c.name: (c.of,) if isinstance(c, Difference) else c.of for c in table.columns if not isinstance(c, Column)}
    differences = {column.name for column in table.columns if isinstance(column, Difference)}
    for name in of:
        reached, front = set[str](), {name}
        while front:
            front = {other for one in front for other in of.get(one, ())} - reached
            reached |= front
        if name in reached and name not in of[name]:
            yield f"the column {name!r} is computed of itself"
        if name in differences and differences & (reached - {name}):
            yield f"the column {name!r} is a difference of a difference, of which the baseline row has none"
