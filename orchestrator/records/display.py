"""What one sees while a run goes on: a live table on a terminal, else one plain line a step.

Everything goes through one logger, `orchestrator`. The driver feeds the display from metrics.jsonl and events.jsonl.
"""

from __future__ import annotations

import atexit
import logging
import time
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.highlighter import NullHighlighter
from rich.live import Live
from rich.logging import RichHandler
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from orchestrator.records.diagnosis import Monitor
from orchestrator.records.ledger import PHASES

logger = logging.getLogger("orchestrator")
PROGRESS_EVERY_S = 10.0
"""Least time between two plain lines about the progress of one task."""
_ETA_STEPS = 10


def duration(seconds: float) -> str:
    """Seconds as one reads them: "45 s", "3 min", "2 h 5 min"."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def evaluation(row: Mapping[str, float]) -> str:
    """The evaluation of a row: "0.550 (oracle 0.530 ± 0.040)"; ± is half the 95 % interval. "" where there is none."""
    proxy = row.get("eval/judge", row.get("eval/reward"))
    if "judge/accuracy" in row:  # of a run that only teaches one
        return f"judge right {row['judge/accuracy']:.3f} (guess {row['judge/prior_accuracy']:.3f})"
    if proxy is None:
        return f"oracle {row['eval/oracle']:.3f}" if "eval/oracle" in row else ""
    text = f"{proxy:.3f}"
    if "eval/oracle" in row:
        half = (row.get("eval/oracle_high", float("nan")) - row.get("eval/oracle_low", float("nan"))) / 2
        text += f" (oracle {row['eval/oracle']:.3f}" + (f" ± {half:.3f})" if half == half else ")")
    return text


def best_of(row: Mapping[str, float]) -> str:
    """Best-of-n of a row: "best of 8 0.580", by the truth where it is known, else "by the judge". "" where there is none."""
    for name, by in (
        ("eval/best_of_n", ""),
        ("eval/best_of_n_judge", " (by the judge)"),
        ("eval/best_of_n_reward", " (by the reward)"),
    ):
        if name in row:
            return f"best of {row['eval/best_of']:.0f} {row[name]:.3f}{by}"
    return ""


def phases(row: Mapping[str, float]) -> str:
    """Seconds a phase: "rollout 1.1 judge 0.9"; phases that did not happen are left out."""
    return " ".join(f"{name} {row[f'time/{name}_s']:.1f}" for name in PHASES if row.get(f"time/{name}_s", 0) > 0)


def step_line(row: Mapping[str, float], total: int, eta_s: float | None = None) -> str:
    """The plain line of one step; what the row does not hold is left out."""
    parts = [f"step {int(row['step'])}/{total}"]
    if "reward/mean" in row:
        parts.append(f"reward {row['reward/mean']:.3f}")
    if evaluation(row):
        parts.append(f"eval {evaluation(row)}")
    if best_of(row):
        parts.append(best_of(row))
    if "policy/kl" in row:
        parts.append(f"kl {row['policy/kl']:.3g}")
    if "time/step_s" in row:
        parts.append(f"{row['time/step_s']:.1f} s" + (f" ({phases(row)})" if phases(row) else ""))
    if "throughput/tokens_per_s" in row:
        parts.append(f"{row['throughput/tokens_per_s']:,.0f} tok/s")
    if eta_s is not None:
        parts.append(f"ETA {duration(eta_s)}")
    return "  ".join(parts)


class Display:
    """Use as a context manager, so that an exception or Ctrl-C leaves the terminal as it was.

    terminal: True for the live table, False for plain lines, None to look whether the console is a terminal.
    """

    def __init__(
        self, run_name: str, total_steps: int, terminal: bool | None = None, console: Console | None = None
    ) -> None:
        self._name = run_name
        self._total = total_steps
        self._console = console or Console()
        self._terminal = self._console.is_terminal if terminal is None else terminal
        self._live: Live | None = None
        self._handlers: list[logging.Handler] | None = None
        self._propagate = True
        self._row: dict[str, float] = {"step": 0}
        self._phase = ""
        self._tasks: dict[str, tuple[int, int, str]] = {}
        self._said: dict[str, float] = {}
        self._durations: deque[float] = deque(maxlen=_ETA_STEPS)
        self._monitor = Monitor()

    def __enter__(self) -> Display:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Take the terminal and the logger."""
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.INFO)
        self._handlers, self._propagate = list(logger.handlers), logger.propagate
        if self._terminal:
            # Log lines pass above the live table instead of through it.
            handler = RichHandler(
                console=self._console,
                show_path=False,
                show_level=False,
                highlighter=NullHighlighter(),
                log_time_format="%H:%M:%S",
            )
            logger.handlers, logger.propagate = [handler], False
            self._live = Live(
                console=self._console, get_renderable=self._render, refresh_per_second=2, vertical_overflow="crop"
            )
            self._live.start()
        elif not logger.hasHandlers():
            plain = logging.StreamHandler()
            plain.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
            logger.addHandler(plain)
        atexit.register(self.stop)

    def stop(self) -> None:
        """Give the terminal and the logger back. May be called twice."""
        atexit.unregister(self.stop)
        if self._live is not None:
            live, self._live = self._live, None
            self._phase = ""
            live.stop()
        if self._handlers is not None:
            logger.handlers, logger.propagate = self._handlers, self._propagate
            self._handlers = None

    def announce(self, text: str) -> None:
        """Say one line."""
        logger.info(text)

    def progress(self, task: str, done: int, total: int, note: str = "") -> None:
        """Show how far a task is; in plain mode the first and last time and every ten seconds."""
        ended = done >= total
        if self._terminal and not ended:
            self._tasks[task] = (done, total, note)
            return
        self._tasks.pop(task, None)
        now = time.monotonic()
        if ended or now - self._said.get(task, -PROGRESS_EVERY_S) >= PROGRESS_EVERY_S:
            self._said[task] = now
            logger.info(f"{task}: step {done}/{total} {note}".rstrip())

    def phase(self, name: str) -> None:
        """Name the phase of the step that goes on now (terminal only)."""
        self._phase = name

    def step(self, row: Mapping[str, float]) -> None:
        """Show the row of a finished step, and what it is the first to say is wrong."""
        # Evaluations are rare: the last one stays in the table until the next; its seconds do not.
        lasting = {name: value for name, value in self._row.items() if not name.startswith("time/")}
        self._row = lasting | dict(row)
        if row["step"] > 0 and "time/step_s" in row:
            # The first step of a learner that was started again holds its start.
            self._durations.append(row["time/step_s"] - row.get("time/start_s", 0.0))
        if not self._terminal:
            logger.info(step_line(row, self._total, self.eta_s))
        for finding in self._monitor.add(row):
            logger.warning(str(finding))

    def show(self, event: Mapping[str, Any]) -> None:
        """Show one line of events.jsonl. Raises ValueError for a kind that is none."""
        if event["kind"] == "announce":
            self.announce(event["text"])
        elif event["kind"] == "progress":
            self.progress(event["task"], event["done"], event["total"], event["note"])
        elif event["kind"] == "phase":
            self.phase(event["name"])
        elif event["kind"] != "step":  # whose row is shown instead
            raise ValueError(f"event of unknown kind {event['kind']!r}: announce, progress, phase and step are known")

    @property
    def eta_s(self) -> float | None:
        """Seconds to the last step at the mean pace of the last ten; None before the first step and after the last."""
        left = self._total - int(self._row["step"])
        if not self._durations or left <= 0:
            return None
        return left * sum(self._durations) / len(self._durations)

    def _render(self) -> RenderableType:
        row, step = self._row, int(self._row["step"])
        head = Table.grid(padding=(0, 2), expand=True)
        head.add_column(no_wrap=True)
        head.add_column(ratio=1)
        head.add_column(justify="right", no_wrap=True)
        eta = "" if self.eta_s is None else f"ETA {duration(self.eta_s)}"
        head.add_row(f"[bold]step {step}/{self._total}", ProgressBar(total=self._total, completed=step), eta)
        for task, (done, total, note) in self._tasks.items():
            head.add_row(Text(f"{task} {done}/{total}"), ProgressBar(total=total, completed=done), Text(note))
        numbers = Table.grid(padding=(0, 2))
        numbers.add_column(style="dim", no_wrap=True)
        numbers.add_column()
        for label, value in _numbers(row):
            numbers.add_row(label, value)
        return Panel(
            Group(head, numbers),
            title=Text(self._name, style="bold"),
            subtitle=Text(f"now: {self._phase}") if self._phase else None,
        )


def _numbers(row: Mapping[str, float]) -> list[tuple[str, str]]:
    """Label and text of what the table shows; what was not measured is left out."""
    shown = []
    if "reward/mean" in row:
        shown.append(("reward", f"{row['reward/mean']:.3f}"))
    if evaluation(row):
        by = next((f"{name} " for name in ("judge", "reward") if f"eval/{name}" in row), "")
        shown.append(("held-out", f"{by}{evaluation(row)}"))
    if best_of(row):
        shown.append(("at start", best_of(row)))
    policy = [f"{name} {row[f'policy/{name}']:.3g}" for name in ("kl", "entropy") if f"policy/{name}" in row]
    if policy:
        shown.append(("policy", "  ".join(policy)))
    if "sync/logprob_gap_max" in row:
        shown.append(("trainer-engine gap", f"{row['sync/logprob_gap_max']:.1e} nats at most"))
    if "throughput/tokens_per_s" in row:
        shown.append(("training speed", f"{row['throughput/tokens_per_s']:,.0f} tokens/s"))
    if "time/step_s" in row:
        shown.append(("last step", f"{row['time/step_s']:.1f} s  {phases(row)}"))
    return shown
