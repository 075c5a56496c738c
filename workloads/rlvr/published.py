"""MoReBench Public and Theory as they are published: tables with a row a dilemma (and theory), and which dilemmas are held out.

Columns: DILEMMA, DILEMMA_SOURCE, DILEMMA_TYPE, THEORY, RUBRIC (a list of criteria, printed as a Python literal), ROLE_DOMAIN, CONTEXT,
and in some copies TASK_ID. The Theory table asks each of its dilemmas under five theories.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from orchestrator.data import same_prompt
from orchestrator.data.tables import HUB, Row, hub_rows, read_csv
from orchestrator.errors import DataError
from orchestrator.rollouts.rubrics import Criterion, Rubric, RubricError
from orchestrator.values import stable_hash
from workloads.rlvr.morebench import WEIGHTS, WRONG_WEIGHT, Dilemma
from workloads.rlvr.theories import NEUTRAL, THEORIES, theory_of

HUB_CONFIGS = "morebench_public,morebench_theory"
HUB_SPLIT = "test"
"""How the benchmark is divided on the hub (hf:morebench/morebench)."""


def _error(problem: str) -> DataError:
    return DataError(
        f"{problem}. data.source=morebench reads the benchmark's published tables: fetch them anew, or mend the row."
    )


def read_tables(path: str, hub_configs: str = HUB_CONFIGS, hub_split: str = HUB_SPLIT) -> tuple[Dilemma, ...]:
    """The dilemmas of a CSV table, of all `*.csv` of a folder, or of a hub data set (hf:ORG/NAME).

    hub_configs: the configurations to read, with commas. Raises DataError, which names the row and the field.
    """
    found: dict[str, Dilemma] = {}
    for row in _rows(path, hub_configs, hub_split):
        dilemma = _dilemma(row)
        first = found.setdefault(dilemma.id, dilemma)
        if first is not dilemma and "TASK_ID" in row.values:
            raise _error(
                f"{row.where}: field TASK_ID gives it the id {dilemma.id}, as in {first.where}: each row needs its own"
            )
        if first is not dilemma:
            raise _error(f"{row.where}: repeats {first.where} word for word: leave one of the two out")
    return tuple(found.values())


def _rows(path: str, hub_configs: str, hub_split: str) -> Iterator[Row]:
    if path.startswith(HUB):
        for config in hub_configs.split(","):
            yield from hub_rows(path.removeprefix(HUB), config.strip(), hub_split)
        return
    place = Path(path).expanduser()
    tables = sorted(place.glob("*.csv")) if place.is_dir() else [place]
    if not tables:
        raise _error(f"{place}: holds no .csv file")
    for table in tables:
        try:
            rows = list(read_csv(table))
        except DataError as error:
            raise _error(str(error)) from error
        if not rows:
            raise _error(f"{table}: holds no rows")
        yield from rows


def _dilemma(row: Row) -> Dilemma:
    """Named by its part and TASK_ID, since both tables may count from 0; without one by its content, wherever the row stands."""
    text, written, rubric = (_cell(row, name) for name in ("DILEMMA", "THEORY", "RUBRIC"))
    theory = theory_of(written)
    if theory is None:
        known = ", ".join([NEUTRAL, *THEORIES])
        raise _error(f"{row.where}: field THEORY is {written!r}, which has no definition here. Known are: {known}")
    part = "public" if theory == NEUTRAL else "theory"
    named = f"{part}-{row.values.get('TASK_ID') or f'{stable_hash(text, theory, rubric) % 16**12:012x}'}"
    source, kind, role, context = (
        str(row.values.get(name, "")) for name in ("DILEMMA_SOURCE", "DILEMMA_TYPE", "ROLE_DOMAIN", "CONTEXT")
    )
    criteria = _rubric(rubric, f"{row.where}: field RUBRIC")
    return Dilemma(named, text, theory, source, criteria, kind, role, context, row.where)


def _cell(row: Row, name: str) -> str:
    value = row.values.get(name)
    if not isinstance(value, str) or not value.strip():
        raise _error(f"{row.where}: field {name} is missing or empty (there: {', '.join(row.values)})")
    return value.strip()


def _rubric(cell: str, where: str) -> Rubric:
    """A rubric that was printed as a Python list of {id, title, weight, annotations: {rubric_dimension}}."""
    try:
        rows = ast.literal_eval(cell)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise _error(f"{where}: is not a Python literal ({error})") from error
    if not isinstance(rows, list) or not rows:
        raise _error(f"{where}: is not a list of criteria")
    criteria = []
    for number, row in enumerate(rows):
        try:
            weight, dimension = row["weight"], row["annotations"]["rubric_dimension"]
            if isinstance(weight, bool) or weight not in WEIGHTS:
                raise _error(f"{where}[{number}]: {WRONG_WEIGHT.format(repr(weight))}")
            criteria.append(Criterion(row["id"], row["title"].strip(), int(weight), dimension))
        except (KeyError, TypeError, AttributeError) as error:
            raise _error(f"{where}[{number}]: {error} is missing or of the wrong type") from error
        except RubricError as error:
            raise _error(f"{where}[{number}]: {error}") from error
    try:
        return Rubric(tuple(criteria))
    except RubricError as error:
        raise _error(f"{where}: {error}") from error


def split(
    dilemmas: Sequence[Dilemma], counts: Mapping[str, int], seed: int, held_out: str | None = None
) -> dict[str, tuple[Dilemma, ...]]:
    """The dilemmas by "train", "eval" and "test": a text is on one side with all theories that it is asked under.

    counts: most texts of "eval" and "test", each a quarter of all at most. held_out: id of the one whose text is all of "eval".
    Neither side depends on the other's count. Raises DataError.
    """
    named = [dilemma for dilemma in dilemmas if dilemma.id == held_out]
    if held_out is not None and not named:
        ids = ", ".join(dilemma.id for dilemma in dilemmas[:20])
        raise DataError(f"data.holdout_dilemma={held_out}: there is no such dilemma, only: {ids}")
    texts = _in_order(dilemmas, seed)
    sides = 3 if counts["test"] else 2
    if len(texts) < sides:
        raise DataError(
            f"data.path holds {len(texts) or 'no'} dilemma(s): each of {sides} splits needs its own, so at least {sides} are needed"
        )
    most = max(1, len(texts) // 4)
    evaluation = {_same(dilemma) for dilemma in named} or set(texts[: min(counts["eval"], most)])
    rest = [text for text in texts if text not in evaluation]
    tested = set(rest[len(rest) - min(counts["test"], most) :])
    side = {text: "eval" if text in evaluation else "test" if text in tested else "train" for text in texts}
    return {
        name: tuple(dilemma for dilemma in dilemmas if side[_same(dilemma)] == name)
        for name in ("train", "eval", "test")
    }


def at_most(dilemmas: Sequence[Dilemma], count: int, seed: int) -> tuple[Dilemma, ...]:
    """Those of `count` texts."""
    chosen = set(_in_order(dilemmas, seed)[:count])
    return tuple(dilemma for dilemma in dilemmas if _same(dilemma) in chosen)


def refuse_shared(dilemmas: Sequence[Dilemma], test: Sequence[Dilemma]) -> None:
    """Raises DataError where a test dilemma is among those that are split into "train" and "eval"."""
    texts = {_same(dilemma): dilemma for dilemma in dilemmas}
    ids = {dilemma.id: dilemma for dilemma in dilemmas}
    for dilemma in test:
        same = texts.get(_same(dilemma)) or ids.get(dilemma.id)
        if same:
            field = "DILEMMA is" if _same(same) == _same(dilemma) else f"TASK_ID gives it the id {dilemma.id},"
            raise DataError(
                f"{dilemma.where}: field {field} as in {same.where}, so data.path and data.test_path would have one dilemma in two "
                "splits: leave one of the rows out, or give both tables in one folder (data.path alone), which is split by dilemma."
            )


def _in_order(dilemmas: Sequence[Dilemma], seed: int) -> list[str]:
    """The texts in an order of hashes, in which those with theories are spread evenly: any stretch has its share of them."""
    theoretical = {_same(dilemma) for dilemma in dilemmas if dilemma.theory != NEUTRAL}
    hashed = sorted(
        {_same(dilemma) for dilemma in dilemmas}, key=lambda text: (stable_hash("held out", seed, text), text)
    )
    parts = ([text for text in hashed if (text in theoretical) is wanted] for wanted in (False, True))
    places = {text: (place + 0.5) / len(part) for part in parts for place, text in enumerate(part)}
    return sorted(hashed, key=lambda text: places[text])


def _same(dilemma: Dilemma) -> str:
    """What two dilemmas have in common that are the same but for blanks, line ends and case."""
    return same_prompt(({"role": "user", "content": dilemma.text},))
