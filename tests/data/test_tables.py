"""Rows of JSONL, CSV and Parquet files and of the hub, and how what is wrong in them is told."""

from __future__ import annotations

import datetime
import json
import re
from pathlib import Path
from typing import Any

import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.data.tables import hub_rows, read_rows
from orchestrator.errors import DataError


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_the_three_kinds_of_files_hold_the_same(tmp_path: Path) -> None:
    """Text that a reader may stumble over: other scripts, a comma, quotes, a line end, U+2028, a byte-order mark, CRLF."""
    texts = ["静夜思，何解？", 'a, "b"\nc', "one\u2028two"]
    lines = [json.dumps({"prompt": text, "n": None}, ensure_ascii=False) for text in texts]
    cells = ['"' + text.replace('"', '""') + '",' for text in texts]
    jsonl = written(tmp_path, "x.jsonl", "\ufeff" + "\r\n\r\n".join(lines) + "\r\n")
    csv = written(tmp_path, "x.csv", "\ufeff" + "\r\n".join(["prompt,n", *cells]) + "\r\n")
    parquet = tmp_path / "x.parquet"
    pq.write_table(pa.table({"prompt": texts, "n": pa.nulls(3)}), parquet)
    for path in (jsonl, csv, parquet):
        rows = read_rows(path)
        assert [row.values for row in rows] == [{"prompt": text} for text in texts], path
    # blank lines between the rows of the first; the second row of the second takes two lines
    assert [row.where for row in read_rows(jsonl)] == [f"{jsonl} row {n} (line {2 * n + 1})" for n in range(3)]
    assert [row.where for row in read_rows(csv)] == [f"{csv} row {n} (line {line})" for n, line in enumerate((2, 3, 5))]
    assert read_rows(parquet)[2].where == f"{parquet} row 2"


def test_a_row_names_itself_in_its_errors(tmp_path: Path) -> None:
    row = read_rows(written(tmp_path, "x.jsonl", '\n{"a": 1}\n'))[0]
    assert str(row.error("field 'b' is missing.")) == f"{tmp_path}/x.jsonl row 0 (line 2): field 'b' is missing."


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.jsonl", '{"a": 1}\n{"a": \n', r"x\.jsonl row 1 \(line 2\): is not JSON .*each line holds one object"),
        ("x.jsonl", '{"a": 1}\n[1]\n', r"x\.jsonl row 1 \(line 2\): is list, not an object"),
        ("x.jsonl", '{"a": "\\ud83d"}\n', r"row 0 \(line 1\): holds half of a surrogate pair"),
        ("x.jsonl", "\n", r"x\.jsonl: holds no rows"),
        ("x.jsonl", "静".encode("gb18030"), r"x\.jsonl: is not UTF-8 .* save it as UTF-8"),
        ("x.csv", "a,b\n1,2\n3\n", r"x\.csv row 1 \(line 3\): has 1 cells and the header 2: quote cells"),
        ("x.csv", "a,a\n1,2\n", r"x\.csv: the header names the column 'a' twice"),
        ("x.csv", "a,\n1,2\n", r"x\.csv: the header names the column '' twice or not at all"),
        ("x.csv", 'a\n"b\n', r"x\.csv \(line 2\): cannot be read as CSV"),
        ("x.csv", "a,b\n", r"x\.csv: holds no rows"),
        ("x.parquet", "PAR1", r"x\.parquet: cannot be read as Parquet"),
        ("x.xlsx", "", r"x\.xlsx: is read by its extension, which must be one of \.jsonl, \.csv, \.parquet"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_rows(written(tmp_path, name, content))


def test_a_file_that_is_not_there_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing\.csv: there is no such file"):
        read_rows(tmp_path / "missing.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataError, match=r"folder\.csv: is a folder: name one file in it"):
        read_rows(tmp_path / "folder.csv")


class FakeHub:
    """Two files of one split, and one of another, as the hub lays them out."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked = folder, list[Any]()
        for name, texts in (
            ("default/train/0000", ["a", "b"]),
            ("default/train/0001", ["c"]),
            ("default/test/0000", ["d"]),
        ):
            path = folder / f"{name}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.table({"prompt": texts, "on": [datetime.date(2026, 1, 2)] * len(texts)}), path)

    def __call__(self, name: str, **options: Any) -> str:
        self.asked.append((name, options))
        return str(self.folder)


def test_a_data_set_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = FakeHub(tmp_path)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub)
    rows = hub_rows("org/name", "default", "train")
    assert [row.values["prompt"] for row in rows] == ["a", "b", "c"]
    assert rows[2].where == "hf:org/name default/train row 2"
    wanted = {"repo_type": "dataset", "revision": "refs/convert/parquet", "allow_patterns": ["default/train/*.parquet"]}
    assert hub.asked == [("org/name", wanted)]
    told = re.escape("https://huggingface.co/datasets/org/name/tree/refs%2Fconvert%2Fparquet has as folders")
    with pytest.raises(DataError, match=rf"no rows of the configuration 'en' and the split 'train'.* {told}"):
        hub_rows("org/name", "en", "train")


def test_the_hub_without_a_connection() -> None:
    """The tests run with HF_HUB_OFFLINE: the library's own error is told, with what to do."""
    with pytest.raises(
        DataError, match=r"hf:nobody/nothing: cannot be fetched and is not in the cache .*data\.path=FILE"
    ):
        hub_rows("nobody/nothing", "default", "train")
    with pytest.raises(DataError, match=r"hf:a/b/c: cannot be fetched"):
        hub_rows("a/b/c", "default", "train")
