"""What a person sees while a run goes on: stages as they finish, bars, and a summary.

In a terminal long stages have a moving bar; in a log file the same news come as plain lines.
"""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from digitflow.tasks.engine.cancellation import StoppedError
from digitflow.tasks.engine.events import (
    Event,
    StageFailed,
    StageFinished,
    StageNoted,
    StageProgressed,
    StageStarted,
    StageWaiting,
    observing,
)
from digitflow.tasks.reporting.report import warnings
from digitflow.tasks.reporting.results import REPORT
from digitflow.tasks.reporting.run_summary import RunSummary

# In a log file: at most one progress line a stage in so many seconds.
_SECONDS_BETWEEN_EPOCHS = 2.0
_SECONDS_BETWEEN_LINES = 15.0
# `plan --json` has them all.
_MOST_REASONS = 6
_LABEL_WIDTH = 24
_INDENT = 20
_REASON_COLUMN = 18 + _LABEL_WIDTH + 2


class Terminal:
    """Shows a run on a console.

    Parameters
    ----------
    console
        Where to write.
    quiet
        Show errors only.
    """

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self.console = console
        self._quiet = quiet
        self._progress = Progress(
            TextColumn("  {task.description:24}"),
            BarColumn(bar_width=18),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[numbers]}"),
            console=console,
            transient=True,
            disable=quiet or not console.is_terminal,
        )
        self._bars: dict[str, TaskID] = {}
        self._said: dict[str, float] = {}

    @contextmanager
    def showing(self) -> Iterator[None]:
        """Show every event of this process while the context lasts."""
        with self._progress, observing(self.show):
            yield

    def show(self, event: Event) -> None:
        """Show one event."""
        if self._quiet:
            return
        match event:
            case StageWaiting(label, reason):
                self._line("waits", "yellow", "", label, (reason,))
            case StageNoted(label, text):
                self._line("note", "yellow", "", label, (text,))
            case StageStarted(label):
                self._said[label] = time.monotonic()
            case StageProgressed(label):
                self._show_progress(event)
            case StageFinished(label):
                self.remove_bar(label)
                self.finished(label, event.cached, event.seconds, event.reasons)
            case StageFailed(label):
                self.remove_bar(label)
                if isinstance(event.error, StoppedError):
                    self._line("stopped", "yellow", "", label)
                    return
                # The message stands at the end of the run, once and whole.
                if event.tries_left:
                    self._line("retry", "yellow", "", label, (f"{event.tries_left} tries left",))
                else:
                    self._line("failed", "red", "", label, (type(event.error).__name__,))

    def finished(
        self, label: str, cached: bool, seconds: float, reasons: tuple[str, ...] = ()
    ) -> None:
        """Show one finished stage: ran or cached, seconds, and why it ran."""
        if self._quiet:
            return
        status, style = ("cached", "dim") if cached else ("ran", "green")
        self._line(status, style, f"{seconds:.1f} s", label, reasons)

    def say(self, text: str, style: str = "") -> None:
        """Write a line of text; in a log file it stays one line, however long."""
        if not self._quiet:
            one_line = not self.console.is_terminal
            self.console.print(escape(text), style=style, highlight=False, soft_wrap=one_line)

    def warn(self, text: str) -> None:
        """Write a line even if quiet: something is not as it was asked for."""
        console = Console(stderr=True) if self._quiet else self.console
        console.print(escape(text), style="yellow", highlight=False)

    def summarise(self, summary: RunSummary) -> None:
        """Write the closing summary: result, place, what to try next."""
        for warning in warnings(summary.metrics):
            self.warn(f"warning: {warning}")
        if self._quiet:
            return
        ran = sum(not stage.cached for stage in summary.stages)
        cached = len(summary.stages) - ran
        self.say("")
        if summary.metrics:
            accuracy = summary.metrics["test_accuracy"]
            tested = summary.metrics["test_samples"]
            self.console.print(
                f"[bold]{escape(summary.dataset)}: test accuracy {accuracy * 100:.1f} %[/] "
                f"of {tested:,} images, loss {summary.metrics['test_loss']:.3f}",
                highlight=False,
            )
        self.say(f"Stages: {ran} ran, {cached} cached, {summary.seconds:.1f} s in all")
        if summary.model is not None:
            self.say(f"Model: version {summary.model}; see digitflow models")
        self.say(f"Results: {summary.folder}")
        self.say(f"Report: {summary.folder / REPORT}")

    def show_bar(self, label: str, share: float, numbers: str) -> None:
        """Move a bar that stands for several stages at once."""
        if label not in self._bars:
            self._bars[label] = self._progress.add_task(label, total=1.0, numbers="")
        self._progress.update(self._bars[label], completed=share, numbers=numbers)

    def remove_bar(self, label: str) -> None:
        """Take a bar away, if there is one."""
        bar = self._bars.pop(label, None)
        if bar is not None:
            self._progress.remove_task(bar)

    def _line(
        self, status: str, style: str, seconds: str, label: str, reasons: tuple[str, ...] = ()
    ) -> None:
        """Write a stage's line; reasons stand beside it, or below where there is no room."""
        line = f"  [{style}]{status:7}[/] {seconds:>6}  {escape(label)}"
        width = self.console.width - _REASON_COLUMN
        if len(reasons) == 1 and len(reasons[0]) <= width and len(label) <= _LABEL_WIDTH:
            gap = " " * (_LABEL_WIDTH - len(label) + 2)
            line += f"{gap}[dim]{escape(reasons[0])}[/]"
            reasons = ()
        self.console.print(line, highlight=False, soft_wrap=True)
        if len(reasons) > _MOST_REASONS:
            more = f"and {len(reasons) - _MOST_REASONS + 1} more"
            reasons = (*reasons[: _MOST_REASONS - 1], more)
        for reason in reasons:
            indent = " " * _INDENT
            text = textwrap.fill(
                reason,
                max(40, self.console.width - 1),
                initial_indent=indent,
                subsequent_indent=indent + "  ",
            )
            self.console.print(escape(text), style="dim", highlight=False, soft_wrap=True)

    def _show_progress(self, event: StageProgressed) -> None:
        if not self.console.is_terminal:
            self._show_line(event)
            return
        if event.label not in self._bars:
            self._bars[event.label] = self._progress.add_task(event.label, numbers="")
        bar = self._bars[event.label]
        self._progress.update(bar, completed=event.done, total=event.total)
        # Between epochs the numbers of the last one stay.
        if event.numbers or event.unit != "epochs":
            self._progress.update(bar, numbers=_beside_bar(event))

    def _show_line(self, event: StageProgressed) -> None:
        """Write progress as a line: finished epochs a few seconds apart, the rest less often."""
        now = time.monotonic()
        pause = _SECONDS_BETWEEN_EPOCHS if event.numbers else _SECONDS_BETWEEN_LINES
        if now - self._said.get(event.label, now) >= pause:
            self._said[event.label] = now
            self.say(f"  {event.label}: {_as_line(event)}")


def _beside_bar(event: StageProgressed) -> str:
    """Return what little fits beside a bar in 80 columns."""
    parts = [_amount(event)]
    for part in ("test", "validation", "train"):
        accuracy = event.numbers.get(f"{part}_accuracy")
        if accuracy is not None:
            parts.append(f"{accuracy * 100:.1f} % {part}")
            break
    return " · ".join(parts)


def _as_line(event: StageProgressed) -> str:
    """Return everything that is known, for a log file."""
    formats = {
        "loss": "{} {:.4f}",
        "accuracy": "{} {:.4f}",
        "rate": "{} {:.2g}",
        "seconds": "{1:.2f} s",
        "second": "{1:,.0f} images/s",
    }
    known = [
        formats[name.rpartition("_")[2]].format(name.replace("_", " "), value)
        for name, value in event.numbers.items()
    ]
    share = f"{event.done / event.total:.0%}" if event.total and not known else ""
    return " · ".join(part for part in (_amount(event), share, *known) if part)


def _amount(event: StageProgressed) -> str:
    if event.unit == "bytes":
        return f"{event.done / 1e6:.1f} MB"
    if event.total is None:
        return f"{event.done:g} {event.unit}"
    return f"{int(event.done)}/{event.total:g} {event.unit}"
