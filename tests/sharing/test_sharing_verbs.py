"""`orchestrate export` and `orchestrate bundle`, as they are typed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator import cli
from orchestrator.records.folder import sha256
from tests.fakes.models import ROWS, run_with_checkpoints


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    run_with_checkpoints(tmp_path / "runs", "one", (4, 6), rows=ROWS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def orchestrate(*words: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(cli.app, list(words))
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, done.stderr


def test_export_says_where_it_is_and_how_it_is_named(folder: Path) -> None:
    status, out, _ = orchestrate("export", "one@4")
    assert status == 0
    assert re.match(r"exports/one-step4: [\d.]+ kB\nmodel card: exports/one-step4/README.md\n", out)
    assert out.endswith(f"load it with: path:{folder}/exports/one-step4\n")
    assert "is there already" in orchestrate("export", "rlvr/one@4")[1]
    assert orchestrate("export", "one", "--to", "exports/one-step4")[0] == 2


def test_bundle_says_its_size_and_verify_its_verdict(folder: Path) -> None:
    status, out, _ = orchestrate("bundle", "one")
    assert status == 0
    digest = sha256(folder / "bundles" / "one" / "MANIFEST.json")
    assert re.match(r"run rlvr/one: 1 run\(s\), 2 files, [\d.]+ kB\nbundles/one: 2 files, [\d.]+ kB\n", out)
    assert digest in out
    status, out, _ = orchestrate("bundle", "--verify", "bundles/one")
    assert status == 0
    assert "rlvr/one: unfinished" in out
    assert out.endswith(f"OK: every file is as it was bundled (SHA-256 of MANIFEST.json: {digest})\n")
    (folder / "bundles/one/rlvr/one/config.yaml").write_text("steps: 1\n")
    status, out, err = orchestrate("bundle", "--verify", "bundles/one")
    assert (status, out) == (2, "")
    assert "rlvr/one/config.yaml differs" in err


def test_bundle_with_weights(folder: Path) -> None:
    assert orchestrate("bundle", "one", "--weights", "--to", "mine")[0] == 0
    assert (folder / "mine/rlvr/one/checkpoints/step-000006/hf/model.safetensors").is_file()


@pytest.mark.parametrize("words", [[], ["one", "--verify", "mine"]])
def test_bundle_either_makes_one_or_verifies_one(words: list[str]) -> None:
    status, _, err = orchestrate("bundle", *words)
    assert (status, "name a run or a sweep to bundle" in err) == (2, True)
