"""Weights & Biases: a mirror of metrics.jsonl, kept by the driver, with some of the episodes of each evaluation and, at the end,
the checkpoint as an artifact. The only file that imports wandb.

Offline unless WANDB_API_KEY is set (`wandb sync RUN/wandb/offline-run-*` uploads later). The run id is made once and
kept in tracking.json with the last step that was sent, so that a run that starts again goes on in the same W&B run and
no step is sent twice. After a restart from a checkpoint W&B keeps the first numbers of the repeated steps;
metrics.parquet holds the last. Whatever fails here costs the mirror, never the run.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol, cast

from orchestrator.config.schema import RunConfig
from orchestrator.records import samples
from orchestrator.records.folder import RunFolder, plain, read_json, step_of, write_json

Mode = Literal["online", "offline", "disabled"]
MOST_EPISODES = 64
"""Episodes of an evaluation that are sent."""
_logger = logging.getLogger("orchestrator")


class Sink(Protocol):
    """The part of a W&B run that is used."""

    def log(self, data: dict[str, Any], step: int) -> None: ...

    def log_artifact(self, artifact: Any) -> Any: ...

    def finish(self) -> None: ...


class Tracker:
    """Sends each step once.

    run_id: W&B's id of the run; by default the one in the folder, else a new one. connect: opens the sink, for tests.
    """

    def __init__(
        self,
        config: RunConfig,
        folder: RunFolder,
        run_id: str | None = None,
        connect: Callable[[RunConfig, RunFolder, str, Mode], Sink] | None = None,
    ) -> None:
        self._folder = folder
        known = read_json(folder.tracking) if folder.tracking.exists() else {}
        self.run_id: str = run_id or known.get("id") or secrets.token_hex(4)
        # Another id is another W&B run, which has seen no step yet.
        self.last_step: int = known.get("last_step", -1) if known.get("id") == self.run_id else -1
        self.mode: Mode = resolve_mode(config.tracking.mode)
        self._upload = config.tracking.upload_checkpoint
        self._sink: Sink | None = None
        if self.mode != "disabled":
            self._remember()
            self._sink = self._guarded(
                "starting", lambda: (connect or _connect)(config, folder, self.run_id, self.mode)
            )

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Send the metrics of a step, unless it was sent before."""
        sink = self._sink
        if sink is None or step <= self.last_step:
            return
        # Remembered first: a crash between the two loses a step of the mirror instead of sending it twice.
        self.last_step = step
        self._remember()
        values: dict[str, Any] = {name: value for name, value in metrics.items() if name != "step"}
        evaluated = any(name.startswith("eval/") for name in values)

        def send() -> None:
            sink.log(values | ({"eval/episodes": _table(self._folder, step)} if evaluated else {}), step=step)

        self._guarded("logging to", send)

    def finish(self) -> None:
        """Send the newest checkpoint's artifact and close the W&B run. May be called twice."""
        sink, self._sink = self._sink, None
        if sink is None:
            return
        checkpoint = self._folder.newest_checkpoint()
        if checkpoint is not None and (checkpoint / "hf").is_dir():
            if self._upload and self.mode == "online":
                _logger.info("uploading %s to W&B; the run ends when all of it is sent", checkpoint.name)
            self._guarded("sending the checkpoint to", lambda: sink.log_artifact(self._artifact(checkpoint)))
        self._guarded("finishing", sink.finish)

    def _artifact(self, checkpoint: Path) -> Any:
        """The model of a checkpoint: a copy of it, or where it lies."""
        import wandb

        artifact = wandb.Artifact(
            f"{self._folder.workload}-{self.run_id}", "model", metadata={"step": step_of(checkpoint)}
        )
        if self._upload:
            artifact.add_dir(str(checkpoint / "hf"), skip_cache=True, policy="immutable")
        else:
            # Without a checksum of its own, which would read all of it.
            artifact.add_reference((checkpoint / "hf").resolve().as_uri(), checksum=False)
        return artifact

    def _remember(self) -> None:
        write_json(self._folder.tracking, {"id": self.run_id, "last_step": self.last_step})

    def _guarded(self, doing: str, action: Callable[[], Any]) -> Any:
        try:
            return action()
        # wandb raises some twenty unrelated private exception types; a mirror must not end what it mirrors.
        except Exception as error:
            _logger.warning(
                "%s W&B failed (%s: %s); the run goes on without it, all numbers are in %s",
                doing,
                type(error).__name__,
                error,
                self._folder.path,
            )
            self._sink = None
            return None


def _table(folder: RunFolder, step: int) -> Any:
    """Some of an evaluation's episodes with their verdicts; restricted ones redacted."""
    import wandb

    rows, _ = samples.choose(folder, MOST_EPISODES, "eval", [step])
    columns = ["task", "sample", "prompt", "completion", "reward", "gold", "verdicts", "unscored"]
    table = wandb.Table(columns=columns)
    for row in rows:
        asked = "\n\n".join(message["content"] for message in row["prompt"])
        texts = {criterion["id"]: criterion["text"] for criterion in samples.criteria_of(row)}
        told = [f"{value:.2f} {texts.get(name, name)}" for name, value in row["verdicts"].items()]
        numbers = row["reward"], row["gold"]
        table.add_data(
            row["task_id"], row["sample"], asked, row["completion"], *numbers, "\n".join(told), row["unscored"]
        )
    return table


def resolve_mode(mode: str) -> Mode:
    """`auto` is online when WANDB_API_KEY is set, else offline; every other mode is itself."""
    if mode == "auto":
        return "online" if os.environ.get("WANDB_API_KEY") else "offline"
    return cast(Mode, mode)


def _connect(config: RunConfig, folder: RunFolder, run_id: str, mode: Mode) -> Sink:
    # Both are read when wandb is imported; the settings below come too late for its login.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    os.environ.setdefault("WANDB_SILENT", "true")
    # It speaks up, and would follow calls, wherever a program has imported an LLM client.
    os.environ.setdefault("WANDB_DISABLE_WEAVE", "true")
    import wandb

    settings = wandb.Settings(
        silent=True,
        console="off",
        show_errors=False,
        init_timeout=30,
        # 0 waits until everything is sent: a checkpoint takes minutes. The numbers alone are not worth a longer wait.
        finish_timeout=0 if config.tracking.upload_checkpoint else 60,
        save_code=False,
        disable_git=True,
        disable_code=True,
        # Command lines and machine names are nobody's business, and the statistics ask a cloud's metadata service.
        x_disable_meta=True,
        x_disable_stats=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
    )
    return wandb.init(
        project=config.tracking.project,
        name=folder.name,
        group=config.tracking.group or folder.workload,
        id=run_id,
        # Offline runs cannot resume; a new segment with the same id is joined when it is synced.
        resume="allow" if mode == "online" else None,
        dir=str(folder.path),
        mode=mode,
        config=plain(config),
        settings=settings,
    )
