from __future__ import annotations

from pathlib import Path

import pytest
from made_up_run import make_run

from orchestrator.records.folder import RunFolder


@pytest.fixture
def fake_run(tmp_path: Path) -> RunFolder:
    return make_run(tmp_path)
