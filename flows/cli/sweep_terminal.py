"""What a person sees while a sweep goes on: points as they finish, time left, the ranking."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from digitflow.flows.cli.terminal import Terminal
from digitflow.tasks.engine.events import (
    Event,
    PointDone,
    PointsStarted,
    StageFailed,
    StageFinished,
    StageProgressed,
    StageStarted,
    StageWaiting,
)
from digitflow.tasks.sweeps.grid import shown
from digitflow.tasks.sweeps.ranking import METRICS, Outcome, rows
from digitflow.tasks.sweeps.report import effort, first_line, score_text
from digitflow.tasks.sweeps.summary import SweepSummary

_POINTS = "points"
_MOST_IN_TABLE = 30
_INDENT = 19


class SweepTerminal(Terminal):
    """Shows a sweep on a console: a line for each finished point, and one bar for them all.

    Parameters
    ----------
    console
        Where to write.
    quiet
        Show errors only.
    """

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        super().__init__(console, quiet=quiet)
        self._points: dict[str, str] = {}
        self._shares: dict[str, float] = {}
        self._metric: str = METRICS[0]
        self._epochs = 0
        self._started = time.monotonic()
        self._done = 0

    def show(self, event: Event) -> None:
        """Show one event."""
        match event:
            case PointsStarted(points, metric, epochs):
                self._start(points, metric, epochs)
            case PointDone(label):
                self._shares[label] = 1.0
                self._done += 1
                self._show_point(event)
                self._show_all()
            case StageProgressed(label, done, total) if label in self._points:
                self._shares[label] = min(1.0, done / min(self._epochs, total or self._epochs))
                self._show_all()
            case StageStarted(label) | StageFinished(label) | StageFailed(label) if (
                label in self._points
            ):
                pass  # a point's line says it, with its score
            case StageWaiting(label, reason) if label in self._points:
                self.point_line("waits", "yellow", "", self._points[label], reason)
            case _:
                super().show(event)

    def _start(self, points: Mapping[str, str], metric: str, epochs: int) -> None:
        what = f"{len(points)} of them go on" if self._points else f"training {len(points)} points"
        self.say(f"{what}, until epoch {epochs}", "dim")
        self._points, self._metric, self._epochs = dict(points), metric, epochs
        self._shares, self._done, self._started = {}, 0, time.monotonic()

    def _show_point(self, event: PointDone) -> None:
        point = self._points[event.label]
        score = score_text(self._metric, event.score)
        if event.error is not None:
            # Whole it stands below the ranking.
            reason = textwrap.shorten(event.error, self.console.width - _INDENT, placeholder="…")
            self.point_line("failed", "red", "", point, reason)
        else:
            status, style = ("cached", "dim") if event.cached else ("ran", "green")
            seconds = f"{event.seconds:.1f} s"
            found = f"{score} after {event.epochs} epochs{self._how_far()}"
            self.point_line(status, style, seconds, point, found)

    def _how_far(self) -> str:
        """Return how many points are done and how long the others may take, for a log file."""
        if self.console.is_terminal:
            return ""  # the bar shows it
        share = self._share()
        left = (time.monotonic() - self._started) * (1 - share) / share if share else 0.0
        remaining = f", {left:.0f} s left" if self._done < len(self._points) else ""
        return f" · {self._done} of {len(self._points)}{remaining}"

    def _share(self) -> float:
        return sum(self._shares.values()) / max(len(self._points), 1)

    def point_line(self, status: str, style: str, seconds: str, point: str, found: str) -> None:
        """Write a point's line; what was found stands below where there is no room."""
        if self._quiet:
            return
        line = f"  [{style}]{status:7}[/] {seconds:>7}  {escape(point)}"
        fits = _INDENT + len(point) + 2 + len(found) <= self.console.width
        gap = "  " if fits else "\n" + " " * _INDENT
        self.console.print(f"{line}{gap}{escape(found)}", highlight=False)

    def _show_all(self) -> None:
        if self._done < len(self._points):
            numbers = f"{self._done} of {len(self._points)} done"
            self.show_bar(_POINTS, self._share(), numbers)
        else:
            self.remove_bar(_POINTS)

    def summarise_sweep(self, summary: SweepSummary) -> None:
        """Write the ranking, the winner's test, and how to train it on all the data."""
        if self._quiet:
            return
        self.say("")
        self.console.print(_table(summary), highlight=False)
        more = len(summary.ranked) - _MOST_IN_TABLE
        if more > 0:
            self.say(f"and {more} more: points.csv in the results", "dim")
        for outcome in summary.ranked:
            if outcome.error is not None:
                self.say(f"failed: {outcome.point.label}: {first_line(outcome)}", "red")
        run, winner = summary.run, summary.ranked[0]
        self.say("")
        self.console.print(
            f"[bold]{escape(winner.point.label)}[/] is the winner: test accuracy "
            f"[bold]{run.metrics['test_accuracy'] * 100:.2f} %[/] of "
            f"{run.metrics['test_samples']:,} images, which chose nothing",
            highlight=False,
        )
        self.say(f"Trained: {effort(summary)}, {run.seconds:.1f} s in all")
        self.say(f"Results: {run.folder}")
        self.say("To train the winner on all the data:")
        self.console.print(f"  {escape(summary.command)}", highlight=False, soft_wrap=True)


def _table(summary: SweepSummary) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("rank", justify="right")
    for name in summary.names:
        table.add_column(name.replace("_", " "), justify="right")
    for metric in METRICS:
        title = metric.replace("_", " ")
        table.add_column(
            f"[bold]{title}[/]" if metric == summary.metric else title, justify="right"
        )
    table.add_column("epochs", justify="right")
    table.add_column("", no_wrap=True)
    ranked = summary.ranked[:_MOST_IN_TABLE]
    for row, outcome in zip(rows(ranked), ranked, strict=True):
        table.add_row(*_cells(row, outcome, summary), style="bold" if row["rank"] == 1 else "")
    return table


def _cells(row: dict[str, Any], outcome: Outcome, summary: SweepSummary) -> list[str]:
    return [
        str(row["rank"] or "–"),
        *(escape(shown(outcome.point.values[name])) for name in summary.names),
        *(score_text(metric, outcome.scores.get(metric)) for metric in METRICS),
        str(outcome.epochs),
        outcome.status,
    ]
