"""`digitflow sweep`: check every point, run the flow, show points and ranking."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.text import Text

from digitflow.flows.cli.arguments import Quiet, SweepArguments, Verbose
from digitflow.flows.cli.render import Terminal, number, plain_console, print_table, table, word
from digitflow.flows.cli.session import run_flow, settle
from digitflow.tasks.engine.cancellation import StoppedError
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
from digitflow.tasks.sweeps.grid import plan_points
from digitflow.tasks.sweeps.halving import check_halving
from digitflow.tasks.sweeps.ranking import METRICS
from digitflow.tasks.sweeps.report import SweepSummary, first_line, points_table, score_text

_POINTS = "points"
_MOST_IN_TABLE = 30
# What stands before a point: status and seconds.
_INDENT = 19


def sweep(
    file: Annotated[
        Path | None,
        Parameter(
            metavar="FILE.toml",
            help="A sweep as a file: preset, dataset, and the tables set and grid.",
        ),
    ] = None,
    /,
    arguments: SweepArguments | None = None,
    *,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Run a sweep as typed, and show it.

    Raises
    ------
    ParameterError, DatasetError, ResultsFolderError
        If anything that was typed is not acceptable; before any work.
    StoppedError
        If Ctrl-C stopped it.
    """
    arguments = arguments or SweepArguments()
    arguments = arguments if file is None else arguments.with_file(file)
    spec = arguments.spec()
    grid = list(arguments.grid or ())
    points = plan_points(
        spec.preset,
        spec.options.overrides,
        grid,
        random=arguments.random,
        seed=arguments.seed,
    )
    if arguments.early_stop is not None:
        check_halving(points)
    terminal = SweepTerminal(plain_console(), quiet=quiet)
    _, spec = settle(spec, terminal, dataset_named=arguments.dataset is not None)
    terminal.say(f"{spec.dataset.title} · preset {spec.preset} · {len(points)} points", "bold")
    parameters = {
        "grid": grid,
        "random": arguments.random,
        "random_seed": arguments.seed,
        "metric": arguments.metric,
        "early_stop": arguments.early_stop,
    }
    try:
        summary = run_flow(
            "digitflow.flows.sweep:sweep", spec, terminal, verbose=verbose, **parameters
        )
    except StoppedError as stop:
        terminal.say(f"{str(stop).partition(';')[0]}; finished points are cached", "yellow")
        raise
    terminal.summarise_sweep(summary)


class SweepTerminal(Terminal):
    """Shows a sweep on a console: a line for each finished point, and one bar for them all.

    Parameters
    ----------
    console
        Console to print on.
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
                self.line("waits", "yellow", self._points[label], [reason], note_style="")
            case _:
                super().show(event)

    def _start(self, points: Mapping[str, str], metric: str, epochs: int) -> None:
        what = f"{len(points)} of them go on" if self._points else f"training {len(points)} points"
        self.say(f"{what}, until epoch {epochs}", "dim")
        self._points, self._metric, self._epochs = dict(points), metric, epochs
        self._shares, self._done, self._started = {}, 0, time.monotonic()

    def _show_point(self, event: PointDone) -> None:
        point = self._points[event.label]
        if event.error is not None:
            # Whole it stands below the ranking.
            reason = textwrap.shorten(event.error, self.console.width - _INDENT, placeholder="…")
            self.line("failed", "red", point, [reason], note_style="")
        else:
            status, style = ("cached", "dim") if event.cached else ("ran", "green")
            score = score_text(self._metric, event.score)
            found = f"{score} after {event.epochs} epochs{self._how_far()}"
            seconds = f"{event.seconds:.1f} s"
            self.line(status, style, point, [found], seconds=seconds, note_style="")

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

    def _show_all(self) -> None:
        if self._done < len(self._points):
            numbers = f"{self._done} of {len(self._points)} done"
            self.show_bar(_POINTS, self._share(), numbers)
        else:
            self.remove_bar(_POINTS)

    def summarise_sweep(self, summary: SweepSummary) -> None:
        """Print the ranking, the winner's test, and how to train it on all the data."""
        if self._quiet:
            return
        self.say("")
        _print_ranking(self.console, summary)
        more = len(summary.ranked) - _MOST_IN_TABLE
        if more > 0:
            self.say(f"and {more} more: points.csv in the results", "dim")
        for outcome in summary.ranked:
            if outcome.error is not None:
                self.say(f"failed: {outcome.point.label}: {first_line(outcome)}", "red")
        run, winner = summary.run, summary.ranked[0]
        self.say("")
        self.say(
            f"{winner.point.label} is the winner: test accuracy "
            f"{run.metrics['test_accuracy'] * 100:.2f} % of {run.metrics['test_samples']:,} "
            "images, none of them used to choose it",
            "bold",
        )
        self.say(f"Trained: {summary.effort}, {run.seconds:.1f} s in all")
        self.say(f"Results: {run.folder}")
        self.say("To train the winner on all the data:")
        self.console.print(Text(f"  {summary.command}"), soft_wrap=True)


def _print_ranking(console: Console, summary: SweepSummary) -> None:
    names = (*summary.names, *METRICS)
    shown = table(
        number("rank"),
        *(number(name.replace("_", " ")) for name in names),
        number("epochs"),
        word(),
    )
    for row in points_table(summary)[:_MOST_IN_TABLE]:
        cells = [Text(str(row[name])) for name in ("rank", *names, "epochs", "status")]
        shown.add_row(*cells, style="bold" if row["rank"] == 1 else "")
    print_table(console, shown)
