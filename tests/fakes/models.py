"""Model folders and runs with checkpoints as the real ones lie, without a framework: the weights are one byte a tensor."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.config.compose import compose, to_values
from orchestrator.records.folder import RunFolder, sha256, step_name
from orchestrator.records.metrics import MetricsLog

ROWS = {
    0: {
        "eval/oracle": 0.4, "eval/oracle_low": 0.3, "eval/oracle_high": 0.5, "eval/oracle_n": 12, "judge/gold_gap": 0.1,
        "judge/gold_gap_low": 0.05, "judge/gold_gap_high": 0.15, "judge/gold_gap_n": 11,
        "eval/judge": 0.5, "eval/judge_low": 0.4, "eval/judge_high": 0.6, "eval/n": 11,
    },
    4: {"eval/oracle": 0.6, "eval/oracle_low": 0.5, "eval/oracle_high": 0.7, "eval/oracle_n": 12, "eval/judge": math.nan},
    5: {"reward/mean": 0.7},
    6: {"eval/oracle": 0.7, "eval/oracle_low": 0.6, "eval/oracle_high": 0.8, "eval/oracle_n": 12, "judge/gold_gap": 0.001},
}  # fmt: skip
"""Of a run that was evaluated at steps 0, 4 and 6: the metrics by step. At step 6 the gap has no interval, as older runs have none."""


def model_folder(folder: Path, value: int = 0) -> Path:
    """A Hugging Face model folder; `value` is what its weights hold."""
    header = json.dumps({"w": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}).encode()
    contents = {
        "config.json": b'{"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]}',
        "generation_config.json": b"{}",
        "tokenizer.json": b"{}",
        "tokenizer_config.json": b"{}",
        "chat_template.jinja": b"{{ messages }}",
        "model.safetensors": len(header).to_bytes(8, "little") + header + bytes([value]),
    }
    folder.mkdir(parents=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return folder


def run_with_checkpoints(
    storage: Path,
    name: str,
    steps: Sequence[int],
    settings: Mapping[str, Any] | None = None,
    rows: Mapping[int, Mapping[str, float]] | None = None,
) -> RunFolder:
    """A run of `rlvr` with a checkpoint of each step, the weights of which hold the step. settings: by dotted key. rows: of metrics."""
    given = {"name": name, "storage": storage, **(settings or {})}
    config = compose("rlvr", [f"{key}={value}" for key, value in given.items()])
    run = RunFolder.create(storage, "rlvr", name, to_values(config))
    for step in steps:
        checkpoint = run.checkpoints / step_name(step)
        model_folder(checkpoint / "hf", step)
        files = {
            str(path.relative_to(checkpoint)): sha256(path) for path in sorted(checkpoint.rglob("*")) if path.is_file()
        }
        (checkpoint / "manifest.json").write_text(json.dumps({"format": 1, "step": step, "files": files}))
        (run.checkpoints / "LATEST").write_text(checkpoint.name)
    log = MetricsLog(run.metrics_log)
    for step, row in (rows or {}).items():
        log.append(step, row)
    return run
