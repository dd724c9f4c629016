"""`digitflow predict`: what a model sees on pictures."""

from __future__ import annotations

import json as json_format
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from digitflow.storage.atomic import write_bytes
from digitflow.storage.cache import Cache
from digitflow.storage.models import ModelVersion
from digitflow.tasks.monitoring.batch_record import record_batch
from digitflow.tasks.parameters import ParameterError
from digitflow.tasks.prediction.predictions import (
    BLANK,
    Prediction,
    as_csv,
    as_json,
    image_size_of,
    model_to_use,
    predict_batch,
)

ALL_READ, SOME_UNREADABLE = 0, 1


def predict_pictures(
    console: Console,
    files: Sequence[Path],
    version: int | None,
    *,
    json: bool,
    csv: str | None,
    record: bool,
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
    cache = Cache()
    model = model_to_use(cache, version)

    from digitflow.tasks.data.pictures.batch import read_batch

    size = image_size_of(cache, model)
    # On stderr, and gone when all is read, so that what is printed can be piped on.
    errors = Console(stderr=True, highlight=False, markup=False)
    with Progress(console=errors, transient=True, disable=not errors.is_terminal) as shown:
        task = shown.add_task("reading", total=None)
        batch = read_batch(
            files,
            size,
            lambda done, total: shown.update(task, completed=done, total=total),
            transposed=model.transposed,
        )
    predictions = predict_batch(cache, model, batch)
    if record:
        record_batch(cache, model, predictions, len(batch.unreadable), run="digitflow predict")
    if csv == "-":
        sys.stdout.write(as_csv(predictions, batch.unreadable))
    elif csv is not None:
        write_bytes(Path(csv), as_csv(predictions, batch.unreadable).encode())
    if json:
        console.print_json(json_format.dumps(as_json(model, predictions, batch.unreadable)))
    elif csv is None:
        _print(console, model, predictions)
    elif csv != "-":
        count = len(predictions)
        what = "prediction is" if count == 1 else "predictions are"
        console.print(f"{count:,} {what} in {csv}", soft_wrap=True)
    for name, problem in batch.unreadable:
        errors.print(f"{name}: {problem}", style="red", soft_wrap=True)
    return SOME_UNREADABLE if batch.unreadable else ALL_READ


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
    names = [_shortened(each.picture, room) for each in predictions]
    width = max(7, *(len(name) for name in names))
    head = f"{'picture':{width}}  {'class':{classes}}  probability  {'runner-up':{classes}}"
    lines = [head]
    for name, each in zip(names, predictions, strict=True):
        if each.label is None:
            lines.append(f"{name:{width}}  {BLANK}")
            continue
        lines.append(
            f"{name:{width}}  {each.label:{classes}}  {_percent(each.probability):>11}  "
            f"{each.runner_up:{classes}}  {_percent(each.runner_up_probability):>7}"
        )
    console.print("\n".join(lines), soft_wrap=True)


def _percent(share: float) -> str:
    return f"{share * 100:.1f} %"


def _shortened(name: str, room: int) -> str:
    """Cut off the start of a name that is too long: its end tells it from others."""
    return name if len(name) <= room else f"…{name[1 - room :]}"
