"""What people see: tables and fields, sizes and times, and a run as it goes on.

In a terminal, text is fitted to its width and long stages have a moving bar. In a pipe or a log
file nothing wraps, so that `grep` finds whole names, and progress comes as plain lines.
"""

from __future__ import annotations

import re
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.measure import Measurement
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.segment import Segment
from rich.table import Column, Table
from rich.text import Text

from digitflow.storage.digests import is_sha256, short
from digitflow.storage.fields import is_time
from digitflow.storage.visible import visible
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

# Wider than any line. Rich takes a pipe to be 80 columns wide.
_UNBOUNDED = 100_000
# Seconds between two progress lines of a stage in a log file: epochs, and everything else.
_SECONDS_BETWEEN_EPOCHS = 2.0
_SECONDS_BETWEEN_LINES = 15.0
# `plan --json` has them all.
_MOST_REASONS = 6
_LABEL_WIDTH = 24
_FIELD_WIDTH = 12


class _Console(Console):
    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Render what is printed, by print or in a table, a bar or JSON: its text does nothing."""
        for segment in super().render(renderable, options):
            is_text = not segment.control
            yield segment._replace(text=visible(segment.text)) if is_text else segment

    def on_broken_pipe(self) -> None:
        """Let `main` end well: the reader of our output has gone, as `head` does."""
        with suppress(SystemExit):
            super().on_broken_pipe()  # so that nothing is written there any more
        raise BrokenPipeError


def plain_console(*, stderr: bool = False) -> Console:
    """Return a console that prints text as it is, and wraps only in a terminal."""
    shown = _Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not shown.is_terminal:
        shown.width = _UNBOUNDED
    return shown


def print_text(console: Console, text: str, style: str = "") -> None:
    """Print text; a terminal's lines end between words, and identifiers stay whole."""
    for line in text.split("\n"):
        console.print(Text(_wrapped(console, line), style), soft_wrap=True)


def word(header: str = "") -> Column:
    """Return a column of identifiers, which never wrap."""
    return Column(header, no_wrap=True)


def number(header: str) -> Column:
    """Return a column of numbers."""
    return Column(header, no_wrap=True, justify="right")


def table(*columns: Column | str) -> Table:
    """Return an empty table; columns that are given as text may wrap."""
    return Table(*columns, box=None, pad_edge=False, padding=(0, 2, 0, 0))


def print_table(console: Console, table: Table, *narrower: Table) -> None:
    """Print a table; in a terminal too narrow for any, a line for each cell.

    Parameters
    ----------
    console
        Console to print on.
    table
        What to print.
    *narrower
        What may stand for it where it does not fit, from the widest to the narrowest.
    """
    for each in narrower:
        if _least_width(console, table) > console.width:
            table = each
    headers = [str(column.header) for column in table.columns]
    if _least_width(console, table) > console.width:
        for column in table.columns:
            if column.no_wrap:
                column.header = re.sub(" |(?<=/)", "\n", str(column.header))
    if _least_width(console, table) <= console.width:
        console.print(table, crop=False)
        return
    wide = max(map(cell_len, headers))
    for number_of_row, row in enumerate(zip(*(each.cells for each in table.columns), strict=True)):
        if number_of_row:
            console.print()
        for header, cell in zip(headers, map(str, row), strict=True):
            if cell:
                _print_field(console, header, wide, [cell])


def _least_width(console: Console, table: Table) -> int:
    """Return the width below which an identifier or a number of a table would be cut."""
    for column in table.columns:
        if column.no_wrap:
            cells = map(str, (column.header, *column.cells))
            column.min_width = max(cell_len(line) for cell in cells for line in cell.split("\n"))
    options = console.options.update(width=_UNBOUNDED)
    return Measurement.get(console, options, table).minimum


def print_fields(console: Console, document: Mapping[str, Any]) -> None:
    """Print one field a line, or more where its value has several parts."""
    for field, value in document.items():
        _print_field(console, field.replace("_", " "), _FIELD_WIDTH, _lines(value) or ["–"])


def _print_field(console: Console, title: str, width: int, lines: Sequence[str]) -> None:
    """Print lines beside a title of at least so many characters, and each wrapped below its own."""
    for line in lines:
        first = f"{title:{width}}  "
        text = _wrapped(console, line, first, " " * (width + 2))
        console.print(Text(text), soft_wrap=True)
        title = ""


def print_status(
    console: Console, head: Text, label: str, notes: Sequence[str], style: str = "dim"
) -> None:
    """Print a label with its notes: one beside it if there is room, several below.

    Parameters
    ----------
    console
        Console to print on.
    head
        What stands before the label, of the same width in every line.
    label
        Name of a stage or a point; never wrapped.
    notes
        Sentences about it.
    style
        Style of the notes.
    """
    line = Text.assemble(head, label)
    column = head.cell_len + max(_LABEL_WIDTH, len(label)) + 2
    if len(notes) == 1 and column + len(notes[0]) <= console.width:
        line.pad_right(column - line.cell_len)
        line.append(notes[0], style)
        notes = ()
    console.print(line, soft_wrap=True)
    indent = " " * head.cell_len
    for note in notes:
        text = _wrapped(console, note, indent, indent + "  ")
        console.print(Text(text, style), soft_wrap=True)


def megabytes(size: int) -> str:
    """Return a number of bytes such as ``9.9 MB`` or ``4.5 kB``."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} B"


def age(moment: str) -> str:
    """Return how long ago an ISO 8601 time was, such as ``3 min`` or ``2 d``."""
    seconds = (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()
    for unit, factor in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= factor:
            return f"{seconds / factor:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def local_time(moment: str) -> str:
    """Return an ISO 8601 time in the local time zone, to the minute."""
    return datetime.fromisoformat(moment).astimezone().strftime("%Y-%m-%d %H:%M")


def as_number(value: float | None) -> str:
    """Return a number as tables have it: four decimals unless it is whole; a dash for none."""
    if value is None:
        return "–"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


@contextmanager
def showing_progress() -> Iterator[Callable[[str, int, int], None]]:
    """Yield what is told how much is done of how much: a bar in a terminal, now and then a line.

    On stderr, so that what is printed can be piped on.
    """
    console = plain_console(stderr=True)
    said = time.monotonic()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as shown:
        bars: dict[str, TaskID] = {}

        def tell(what: str, done: int, total: int) -> None:
            nonlocal said
            if total and what not in bars:
                bars[what] = shown.add_task(what, total=total)
            if total:
                shown.update(bars[what], completed=done)
            is_due = done and time.monotonic() - said >= _SECONDS_BETWEEN_LINES
            if is_due and not console.is_terminal:
                said = time.monotonic()
                print_text(console, f"  {what}: {done:,}/{total:,} · {done / total:.0%}")

        yield tell


class Terminal:
    """Shows a run on a console.

    Parameters
    ----------
    console
        Console to print on.
    quiet
        Show errors only.
    """

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self.console = console
        self._quiet = quiet
        self._progress = Progress(
            TextColumn("  {task.description:24}", markup=False),
            BarColumn(bar_width=18),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[numbers]}", markup=False),
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
        match event:
            case StageWaiting(label, reason):
                self.line("waits", "yellow", label, [reason])
            case StageNoted(label, text):
                self.line("note", "yellow", label, [text])
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
                    self.line("stopped", "yellow", label)
                # The message stands at the end of the run, once and whole.
                elif event.tries_left:
                    self.line("retry", "yellow", label, [f"{event.tries_left} tries left"])
                else:
                    self.line("failed", "red", label, [type(event.error).__name__])

    def finished(
        self, label: str, cached: bool, seconds: float, reasons: Sequence[str] = ()
    ) -> None:
        """Show one finished stage: ran or cached, seconds, and why it ran."""
        if len(reasons) > _MOST_REASONS:
            more = f"and {len(reasons) - _MOST_REASONS + 1} more"
            reasons = (*reasons[: _MOST_REASONS - 1], more)
        status, style = ("cached", "dim") if cached else ("ran", "green")
        self.line(status, style, label, reasons, seconds=f"{seconds:.1f} s")

    def line(
        self,
        status: str,
        style: str,
        label: str,
        notes: Sequence[str] = (),
        *,
        seconds: str = "",
        note_style: str = "dim",
    ) -> None:
        """Show a line about a stage or a point."""
        if not self._quiet:
            head = Text.assemble("  ", (f"{status:7}", style), f" {seconds:>7}  ")
            print_status(self.console, head, label, notes, note_style)

    def say(self, text: str, style: str = "") -> None:
        """Print a line of text."""
        if not self._quiet:
            print_text(self.console, text, style)

    def warn(self, text: str, style: str = "yellow") -> None:
        """Print a line even if quiet: something is not as it was asked for."""
        shown = plain_console(stderr=True) if self._quiet else self.console
        print_text(shown, text, style)

    def summarise(self, summary: RunSummary) -> None:
        """Print the closing summary: the result, and where to find it."""
        for warning in warnings(summary.metrics, summary.notices):
            self.warn(f"warning: {warning}", "red")
        ran = sum(not stage.cached for stage in summary.stages)
        cached = len(summary.stages) - ran
        self.say("")
        if summary.metrics:
            accuracy = f"test accuracy {summary.metrics['test_accuracy'] * 100:.1f} %"
            tested = f" of {summary.metrics['test_samples']:,} images"
            loss = f", loss {summary.metrics['test_loss']:.3f}"
            self.say(f"{summary.dataset}: {accuracy}{tested}{loss}", "bold")
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
        """Remove a bar, if there is one."""
        bar = self._bars.pop(label, None)
        if bar is not None:
            self._progress.remove_task(bar)

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
        """Print progress as a line: finished epochs a few seconds apart, the rest less often."""
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


def _wrapped(console: Console, text: str, first: str = "", others: str = "") -> str:
    """Wrap a text between words; an identifier that is too long for a line stays whole."""
    return textwrap.fill(
        text,
        max(20, console.width - 1) if console.is_terminal else _UNBOUNDED,
        initial_indent=first,
        subsequent_indent=others,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _lines(value: Any) -> list[str]:
    """Return a field's value as people read it, a line for each of its parts."""
    match value:
        case None | "":
            return []
        case bool():
            return ["yes" if value else "no"]
        case Mapping():
            return [f"{name} = {_part(each)}" for name, each in value.items()]
        case list() | tuple():
            return [str(each) for each in value]
        case str() if is_time(value):
            return [f"{local_time(value)} ({age(value)} ago)"]
        case _:
            return [str(value)]


def _part(value: Any) -> str:
    if is_sha256(value):
        return short(value) + "…"
    match value:
        case {"sha256": sha256, "format": form, "size": size, "details": details}:
            facts = [_part(each) for each in details.values() if not isinstance(each, Mapping)]
            return " ".join([f"{short(sha256)}…", form, megabytes(size), *facts])
        case Mapping():
            return " ".join(f"{name}={_part(each)}" for name, each in value.items())
        case list() | tuple():
            return ",".join(map(str, value)) or "none"
        case _:
            return str(value)
