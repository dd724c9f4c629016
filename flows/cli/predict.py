"""`digitflow predict` and `drift`: what a model sees, and whether pictures still look familiar."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.progress import Progress

from digitflow.flows.cli.arguments import AT_LEAST_ONE, Json, VersionOrChampion
from digitflow.flows.cli.render import (
    local_time,
    number,
    plain_console,
    print_table,
    print_text,
    table,
    word,
)
from digitflow.storage.backends.atomic import write_bytes
from digitflow.storage.history.models import ModelVersion
from digitflow.storage.store import Store
from digitflow.storage.visible import visible
from digitflow.tasks.monitoring.drift import Drift
from digitflow.tasks.monitoring.report import (
    DriftReport,
    drift_headline,
    drift_json,
    report_drift,
)
from digitflow.tasks.parameters import ParameterError
from digitflow.tasks.prediction.model import Model
from digitflow.tasks.prediction.predictions import (
    BLANK,
    CANNOT_TELL,
    Prediction,
    predictions_csv,
    predictions_json,
    record_batch,
)

ALL_READ, SOME_UNREADABLE = 0, 1
_MOST_NAMES = 5
LIKE_THE_TEST_SET, DRIFTED = 0, 3


def predict(
    *files: Annotated[
        Path,
        Parameter(help="Pictures (PNG, JPEG, BMP, GIF, WebP), .npy or IDX files, or folders."),
    ],
    model: VersionOrChampion = None,
    json: Json = False,
    csv: Annotated[
        str | None, Parameter(help="New CSV file to write; - prints it.", allow_leading_hyphen=True)
    ] = None,
    record: Annotated[
        bool, Parameter(help="Keep class counts and confidence, for digitflow drift.")
    ] = False,
) -> int:
    """Print what a model sees on pictures.

    Returns
    -------
    int
        0 if all could be read, else 1.

    Raises
    ------
    ParameterError
        If no file is named, the CSV file is there already, or two outputs want the terminal.
    UnknownNameError
        If there is no such model, or no champion.
    """
    if not files:
        message = "expected pictures, found none; name files or folders: digitflow predict FILE…"
        raise ParameterError(message)
    if json and csv == "-":
        message = "--json and --csv - both print; name a file for the CSV, or leave one out"
        raise ParameterError(message)
    if csv is not None and csv != "-":
        _check_new(csv)
    cache = Store()
    loaded = Model.load(model, store=cache)
    version = loaded.version
    # On stderr, and gone when all is read, so that what is printed can be piped on.
    errors = plain_console(stderr=True)
    with Progress(console=errors, transient=True, disable=not errors.is_terminal) as shown:
        task = shown.add_task("reading", total=None)
        batch = loaded.read(
            files, lambda done, total: shown.update(task, completed=done, total=total)
        )
    predictions = loaded.predict_batch(batch)
    if record:
        record_batch(
            cache,
            version,
            predictions,
            len(batch.unreadable),
            run="digitflow predict",
            images=batch.images,
        )
    console = plain_console()
    if csv == "-":
        sys.stdout.write(predictions_csv(predictions, batch.unreadable))
    elif csv is not None:
        write_bytes(Path(csv), predictions_csv(predictions, batch.unreadable).encode())
    if json:
        told = predictions_json(
            version, predictions, batch.unreadable, tells_unsure=loaded.calibration is not None
        )
        console.print_json(data=told)
    elif csv is None:
        _print(console, version, predictions)
    elif csv != "-":
        count = len(predictions)
        what = "prediction is" if count == 1 else "predictions are"
        print_text(console, f"{count:,} {what} in {csv}")
    if loaded.calibration is None and errors.is_terminal:  # scripts are told by the JSON
        print_text(errors, CANNOT_TELL.format(version.version), "dim")
    if batch.passed_over:
        names = ", ".join(Path(each).name for each in batch.passed_over[:_MOST_NAMES])
        more = ", …" if len(batch.passed_over) > _MOST_NAMES else ""
        print_text(errors, f"passed over, as no pictures: {names}{more}", "dim")
    for name, problem in batch.unreadable:
        print_text(errors, f"{visible(name, kept='')}: {problem}", "red")
    return SOME_UNREADABLE if batch.unreadable else ALL_READ


def drift(
    *,
    model: VersionOrChampion = None,
    last: Annotated[
        int, Parameter(help="Number of the newest batches to compare.", validator=AT_LEAST_ONE)
    ] = 10,
    json: Json = False,
) -> int:
    """Print the newest recorded batches beside a model's test set.

    Returns
    -------
    int
        3 if the newest batch or all together have drifted, else 0.

    Raises
    ------
    UnknownNameError
        If there is no such model, or no champion.
    """
    cache = Store()
    report = report_drift(cache, Model.load(model, store=cache).version, last)
    console = plain_console()
    if json:
        console.print_json(data=None if report is None else drift_json(report))
    elif report is None:
        console.print("no predictions recorded yet; record some: digitflow predict FILE… --record")
    else:
        _print_batches(console, report)
        console.print()
        _print_classes(console, report)
        console.print()
        console.print(drift_headline(report))
    has_drifted = report is not None and report.state == "drifted"
    return DRIFTED if has_drifted else LIKE_THE_TEST_SET


def _check_new(csv: str) -> None:
    if csv.startswith("-"):
        message = f"--csv: expected the name of a new file, or -, found {csv!r}"
        raise ParameterError(message)
    if Path(csv).exists():
        message = f"--csv {csv}: expected a new file, found one that is there; name another"
        raise ParameterError(message)


def _print(console: Console, model: ModelVersion, predictions: Sequence[Prediction]) -> None:
    """Print a line a picture. A table of rich's takes seconds for ten thousand."""
    if not predictions:
        return
    classes = max(5, *(len(name) for name in model.class_names))
    room = max(20, console.width - classes * 2 - 26)
    names = [_shortened(visible(each.picture, kept=""), room) for each in predictions]
    width = max(7, *(len(name) for name in names))
    head = f"{'picture':{width}}  {'class':{classes}}  probability  {'runner-up':{classes}}"
    if any(each.unsure for each in predictions):
        head += "           unsure"
    lines = [head]
    for name, each in zip(names, predictions, strict=True):
        if each.label is None:
            lines.append(f"{name:{width}}  {BLANK}")
            continue
        lines.append(
            f"{name:{width}}  {each.label:{classes}}  {_percent(each.probability):>11}  "
            f"{each.runner_up:{classes}}  {_percent(each.runner_up_probability):>7}"
            f"{f'  {each.doubt}' if each.unsure else ''}"
        )
    console.print("\n".join(lines), soft_wrap=True)


def _percent(share: float) -> str:
    return f"{share * 100:.1f} %"


def _shortened(name: str, room: int) -> str:
    """Cut off the start of a name that is too long: its end tells it from others."""
    return name if len(name) <= room else f"…{name[1 - room :]}"


def _print_batches(console: Console, report: DriftReport) -> None:
    numbers = map(number, ("model", "pictures", "unsure", "confidence", "PSI", "by chance"))
    shown = table(word("batch"), *numbers, word())
    model = str(report.model.version)
    shown.add_row("test set", model, str(report.then.images), "", f"{report.then.confidence:.3f}")
    for batch, drift in report.batches:
        shown.add_row(
            local_time(batch.created),
            str(batch.model),
            str(sum(batch.counts)),
            _known(batch.unsure),
            f"{batch.confidence:.3f}",
            *_numbers(drift),
        )
    together = report.now
    shown.add_row(
        *("all of them", "", str(together.images), _known(together.unsure)),
        f"{together.confidence:.3f}",
        *_numbers(report.drift),
    )
    print_table(console, shown)


def _known(count: int | None) -> str:
    return "–" if count is None else str(count)


def _print_classes(console: Console, report: DriftReport) -> None:
    shown = table(word("class"), *map(number, ("test set", "now", "part of PSI")))
    for name, then, now, term in report.by_class():
        shown.add_row(name, _percent(then), _percent(now), f"{term:.3f}")
    print_table(console, shown)


def _numbers(drift: Drift) -> tuple[str, str, str]:
    because = ", ".join(each.name for each in drift.reasons)
    state = f"{drift.state}: {because}" if because else drift.state
    return f"{drift.psi:.3f}", f"{drift.chance:.3f}", state
