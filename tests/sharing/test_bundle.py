"""A run or a sweep as a folder that others verify."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.config.references import find_run
from orchestrator.errors import ConfigError, RunError
from orchestrator.records import episodes, page
from orchestrator.records.compare import compare, find_arms
from orchestrator.records.folder import FORMAT, RunFolder, give_back, read_json, sha256, take, write_json
from orchestrator.records.samples import REDACTED
from orchestrator.sharing.bundle import bundle, contents_of
from orchestrator.sharing.manifest import verify
from orchestrator.sharing.redaction import KEPT, redact_episodes
from orchestrator.sharing.source import find_source
from orchestrator.sweep.journal import FAILED, FINISHED
from orchestrator.sweep.standing import find_sweep, standing_of
from orchestrator.values import POLICY, Episode, Group, Scored, Task, Turn, Unscored
from tests.fakes.models import ROWS, run_with_checkpoints
from tests.fakes.sweeps import sweep_of

SECRET = "the words that may not be passed on"


def groups(step: int, restricted: bool, gold: float) -> tuple[list[Group], dict[str, float | None]]:
    """Three tasks with two answers each, the first task's source restricted if asked; and their gold."""
    made = []
    for number in range(3):
        hidden = restricted and number == 0
        text = SECRET if hidden else f"plain words {number}"
        task = Task(f"t{number}", ({"role": "user", "content": text},), {"answer": text}, hidden)
        played = [
            Episode(task, step, sample, (Turn(POLICY, (1, 2), (3,), (-0.5,), text, "stop", 1.0, step, 0),))
            for sample in range(2)
        ]
        made.append(Group(tuple(played), (Scored(0.5, {"met": 0.5}, {"c": 0.9}), Unscored(f"could not read: {text}"))))
    return made, {episode.id: gold + 0.1 * int(episode.task.id[1]) for group in made for episode in group.episodes}


def whole_run(storage: Path, name: str, restricted: bool = False, gold: float = 0.2) -> RunFolder:
    run = run_with_checkpoints(storage, name, (4, 6), {"seed": 1}, ROWS)
    for split, step in (("eval", 0), ("train", 6), ("eval", 6)):
        made, truth = groups(step, restricted, gold)
        episodes.write_step(run, step, made, {}, split, truth)
    last = {"step": 6, "oracle": 0.7, "oracle_low": 0.6, "oracle_high": 0.8}
    write_json(
        run.summary, {"run": f"rlvr/{name}", "status": "finished", "steps": 6, "last": last, "best_by": "eval/oracle"}
    )
    for path in (run.events, run.tracking, run.path / "wandb" / "debug.log", run.path / ".lock"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("of this machine")
    return run


@pytest.fixture
def bundled(tmp_path: Path) -> Path:
    whole_run(tmp_path / "runs", "one")
    return bundle(contents_of("one", tmp_path / "runs"), tmp_path / "mine").folder


def names_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_bundle_is_a_storage_with_a_manifest(bundled: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "rlvr" / "one"
    files = ["config.yaml", "metrics.jsonl", "summary.json", *(f"episodes/{name}" for name in (
        "eval-000000.parquet", "eval-000006.parquet", "train-000006.parquet",
    ))]  # fmt: skip
    assert names_in(bundled) == sorted(["MANIFEST.json", *(f"rlvr/one/{name}" for name in files)])
    manifest = json.loads((bundled / "MANIFEST.json").read_text())
    assert manifest["files"] == {
        f"rlvr/one/{name}": {"sha256": sha256(run / name), "bytes": (run / name).stat().st_size} for name in files
    }
    assert (manifest["format"], manifest["what"], manifest["runs"], manifest["redacted"]) == (
        1,
        "run rlvr/one",
        ["rlvr/one"],
        0,
    )
    assert manifest["created"].endswith("+00:00")
    assert "torch" in manifest["versions"]
    assert "commit" in manifest


def test_what_was_bundled_is_verified(bundled: Path) -> None:
    found = verify(bundled)
    assert (found.what, found.files, found.redacted) == ("run rlvr/one", 6, 0)
    assert found.says == ("rlvr/one: finished, held-out oracle 0.700 (0.600 to 0.800) at step 6",)
    assert found.bytes == sum((bundled / name).stat().st_size for name in names_in(bundled) if name != "MANIFEST.json")
    assert found.digest == sha256(bundled / "MANIFEST.json")


def flip_a_byte(folder: Path) -> None:
    path = folder / "rlvr/one/episodes/eval-000006.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (flip_a_byte, "eval-000006.parquet differs"),
        (lambda folder: (folder / "rlvr/one/summary.json").unlink(), "rlvr/one/summary.json is missing"),
        (lambda folder: (folder / "rlvr/one/.hidden").write_text("x"), "rlvr/one/.hidden was added"),
        (lambda folder: (folder / "rlvr/one/link").symlink_to("nowhere"), "rlvr/one/link was added"),
        (lambda folder: (folder / "MANIFEST.json").write_text("{}"), "MANIFEST.json is damaged"),
        (lambda folder: (folder / "MANIFEST.json").write_text('{"format": 1}'), "says nothing of what, created"),
        (lambda folder: (folder / "MANIFEST.json").write_text('{"format": 99}'), "has format 99"),
        (lambda folder: (folder / "MANIFEST.json").unlink(), "is no bundle"),
    ],
)
def test_what_changed_is_named(bundled: Path, change: Callable[[Path], object], said: str) -> None:
    change(bundled)
    with pytest.raises(RunError, match=said):
        verify(bundled)


def test_all_that_changed_is_named_at_once(bundled: Path) -> None:
    flip_a_byte(bundled)
    (bundled / "rlvr/one/summary.json").unlink()
    (bundled / "added").write_text("x")
    with pytest.raises(RunError) as told:
        verify(bundled)
    assert str(told.value).count("\n  - ") == 3


def test_a_run_of_a_newer_version_is_not_called_readable(tmp_path: Path) -> None:
    run = whole_run(tmp_path / "runs", "one")
    run.change_setting("format", FORMAT + 1)
    made = bundle(contents_of(str(run.path), tmp_path / "runs"), tmp_path / "mine")
    with pytest.raises(ConfigError, match="update orchestrator"):
        verify(made.folder)


# Gold of one is 0.2, 0.3, 0.4 by task, of two 0.1 more each.
def test_runs_are_compared_and_reported_on_where_they_lie(tmp_path: Path) -> None:
    for name, gold in (("one", 0.2), ("two", 0.3)):
        whole_run(tmp_path / "runs", name, gold=gold)
    sweep_of(tmp_path / "runs", [("policy", "", "one", FINISHED, 0.3), ("policy", "", "two", FINISHED, 0.4)])
    made = bundle(contents_of("mine", tmp_path / "runs"), tmp_path / "mine")
    found = compare(find_arms(["one", "two"], made.folder))
    assert found.tests[0].interval.mean == pytest.approx(0.1)
    run = RunFolder.open(find_run("rlvr/two", made.folder))
    assert page.write(run, read_json(run.summary), []).is_file()
    sweep = find_sweep("mine", made.folder)
    assert sweep is not None
    assert [one.run for one in standing_of(sweep).trials] == ["rlvr/one", "rlvr/two"]


def test_weights_come_when_they_are_asked_for(tmp_path: Path) -> None:
    run = whole_run(tmp_path / "runs", "one")
    made = bundle(contents_of("one", tmp_path / "runs", weights=True), tmp_path / "mine")
    source = find_source("one", made.folder)
    assert (source.reference, source.step) == ("run:rlvr/one@6", 6)
    assert (Path(source.folder) / "model.safetensors").read_bytes() == (
        run.checkpoints / "step-000006/hf/model.safetensors"
    ).read_bytes()
    assert not (made.folder / "rlvr/one/checkpoints/step-000004").exists()
    verify(made.folder)


def test_a_sweep_comes_with_every_run_that_it_had(tmp_path: Path) -> None:
    for name in ("one", "two", "other"):
        whole_run(tmp_path / "runs", name)
    trials = [
        ("policy", "", "one", FINISHED, 0.3),
        ("policy", "", "two", FAILED, 0.1),
        ("policy", "", "never", FAILED, 0.0),
    ]
    sweep_of(tmp_path / "runs", trials)
    contents = contents_of("mine", tmp_path / "runs")
    assert (contents.what, contents.runs) == ("sweep mine", ("rlvr/one", "rlvr/two"))
    made = bundle(contents, tmp_path / "mine")
    assert {"sweeps/mine/sweep.yaml", "sweeps/mine/trials.jsonl"} <= set(names_in(made.folder))
    assert len(verify(made.folder).says) == 2


def test_restricted_texts_stay_and_their_numbers_go(tmp_path: Path) -> None:
    run = whole_run(tmp_path / "runs", "one", restricted=True)
    rejudged = run.path / "rejudged" / "other" / "eval-000006.parquet"
    rejudged.parent.mkdir(parents=True)
    rejudged.write_bytes((run.episodes / "eval-000006.parquet").read_bytes())
    write_json(run.summary, {**read_json(run.summary), "status": "failed", "reason": f"the judge said: {SECRET}"})
    page.write(run, read_json(run.summary), [], unredacted=True)
    assert SECRET in run.report.read_text()
    sweep = sweep_of(tmp_path / "runs", [("policy", "", "one", FAILED, 0.3)])
    sweep.journal.write_text(sweep.journal.read_text().replace('"reason": ""', json.dumps("reason") + f': "{SECRET}"'))
    write_json(sweep.summary, {"failed": [{"run": "rlvr/one", "reason": SECRET}]})
    assert SECRET in sweep.journal.read_text()
    made = bundle(contents_of("mine", tmp_path / "runs"), tmp_path / "mine")
    # One of three tasks, two answers each, in three files and the one that was rejudged.
    assert made.redacted == verify(made.folder).redacted == 8
    for name in names_in(made.folder):
        path = made.folder / name
        content = json.dumps(pq.read_table(path).to_pylist()) if path.suffix == ".parquet" else path.read_text()
        assert SECRET not in content, name
    before, after = (episodes.read(folder).to_pylist() for folder in (run, RunFolder(made.folder / "rlvr/one")))
    for old, new in zip(before, after, strict=True):
        numbers = ("id", "task_id", "reward", "components", "verdicts", "gold", "finish_reason", "weight_version")
        assert {name: old[name] for name in numbers} == {name: new[name] for name in numbers}
        if old["restricted"]:
            assert REDACTED in new["prompt"]
            assert [
                new[name]
                for name in ("completion", "prompt_ids", "completion_ids", "logprobs", "reference", "unscored")
            ] == [None] * 6
        else:
            assert old == new
    assert read_json(made.folder / "rlvr/one/summary.json")["reason"].startswith(REDACTED)
    assert "plain words 1" in (made.folder / "rlvr/one/report.html").read_text()
    assert [group.episodes[0].task.restricted for group in episodes.read_groups(RunFolder(made.folder / "rlvr/one"), "eval", 6)] == [
        True, False, False,
    ]  # fmt: skip


def test_a_column_that_is_not_listed_is_hidden(tmp_path: Path) -> None:
    table = pa.table({"id": ["a", "b"], "restricted": [True, None], "note": [[{"said": SECRET}], [{"said": "plain"}]]})
    pq.write_table(table, tmp_path / "eval-000000.parquet")
    redact_episodes(tmp_path / "eval-000000.parquet")
    assert pq.read_table(tmp_path / "eval-000000.parquet")["note"].to_pylist() == [None, [{"said": "plain"}]]
    kinds = {name: str(episodes.SCHEMA.field(name).type) for name in KEPT}
    texts = {name for name, kind in kinds.items() if kind == "string"}
    assert texts == {"id", "split", "task_id", "group_id", "finish_reason"}
    assert set(KEPT) <= set(episodes.SCHEMA.names)


def test_what_is_there_is_not_written_over_and_what_runs_is_not_bundled(bundled: Path, tmp_path: Path) -> None:
    contents = contents_of("one", tmp_path / "runs")
    with pytest.raises(ConfigError, match="is there already"):
        bundle(contents, bundled)
    run = tmp_path / "runs" / "rlvr" / "one"
    assert take(run)
    try:
        with pytest.raises(RunError, match="is being run"):
            contents_of("one", tmp_path / "runs")
    finally:
        give_back(run)


def test_what_is_not_there_is_not_bundled(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No run 'one'"):
        contents_of("one", tmp_path)
    sweep_of(tmp_path, [("policy", "", "never", FAILED, 0.0)])
    with pytest.raises(ConfigError, match="has no run yet"):
        contents_of("mine", tmp_path)


def test_no_password_and_no_key_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-hunter2")
    run = whole_run(tmp_path / "runs", "one")
    made = bundle(contents_of("one", tmp_path / "runs"), tmp_path / "mine")
    assert not [name for name in names_in(made.folder) if b"hunter2" in (made.folder / name).read_bytes()]
    assert run.settings()["judge"]["api_key_env"] == "OPENAI_API_KEY"
    write_json(run.summary, {"reason": "https://me:hunter2@host/v1 does not answer"})
    with pytest.raises(RunError, match=r"summary.json, line 2: a URL with a password"):
        contents_of("one", tmp_path / "runs")


def test_nothing_is_left_of_a_bundle_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    whole_run(tmp_path / "runs", "one")
    monkeypatch.setattr("orchestrator.sharing.bundle.write_manifest", full)
    with pytest.raises(RunError, match="No space left"):
        bundle(contents_of("one", tmp_path / "runs"), tmp_path / "out" / "mine")
    assert list((tmp_path / "out").iterdir()) == []
