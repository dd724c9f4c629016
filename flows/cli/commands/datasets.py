"""`digitflow dataset list`, `show` and `add`."""

from __future__ import annotations

import json as json_format
import shutil
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from digitflow.flows.cli.commands.units import megabytes
from digitflow.flows.cli.terminal import Terminal
from digitflow.storage.cache import Cache
from digitflow.tasks.data.datasets.sources import (
    DATASETS,
    DEFAULT_DATASET,
    Dataset,
    DatasetError,
    datasets_folder,
    find,
    known,
)
from digitflow.tasks.engine.events import StageFinished, StageProgressed, StageStarted, emit


def list_datasets(console: Console, *, json: bool) -> None:
    """Print one line a dataset that has a name."""
    datasets = known()
    if json:
        console.print_json(json_format.dumps([_entry(name, each) for name, each in datasets]))
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("dataset", overflow="fold")
    table.add_column("title")
    table.add_column("training", justify="right", no_wrap=True)
    table.add_column("test", justify="right", no_wrap=True)
    table.add_column("pixels", justify="right", no_wrap=True)
    table.add_column("classes", justify="right", no_wrap=True)
    table.add_column("kind", no_wrap=True)
    problems = []
    for name, found in datasets:
        if isinstance(found, DatasetError):
            problems.append(f"{name} cannot be used: {found}")
            continue
        images = found.images
        size = ("–", "–", "–")
        if images is not None:
            pixels = f"{images.height} x {images.width}"
            size = (f"{images.training:,}", f"{images.test:,}", pixels)
        table.add_row(name, found.title, *size, str(len(found.labels)), _kind(name, found))
    console.print(table)
    for problem in problems:
        console.print(problem, style="yellow", soft_wrap=True)
    console.print(f"\nWithout --dataset a run takes {DEFAULT_DATASET}.", style="dim")


def show_dataset(console: Console, wanted: str, *, json: bool) -> None:
    """Print everything that is known of a dataset.

    Raises
    ------
    DatasetError
        If there is no such dataset.
    """
    dataset = find(wanted)
    if json:
        console.print_json(json_format.dumps(_entry(dataset.name, dataset)))
        return
    from digitflow.tasks.data.datasets.dataset import describe_labels
    from digitflow.tasks.data.datasets.places import display

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    table.add_row("dataset", dataset.name)
    table.add_row("title", dataset.title)
    images = dataset.images
    if images is not None:
        turned = ", stored transposed" if dataset.transposed else ""
        table.add_row("training", f"{images.training:,} images")
        table.add_row("test", f"{images.test:,} images")
        table.add_row("pixels", f"{images.height} x {images.width}{turned}")
    table.add_row("labels", describe_labels(dataset.labels))
    table.add_row("classes", f"{len(dataset.class_names)}: {', '.join(dataset.class_names)}")
    objects = Cache().objects
    for file in dataset.files:
        here = "in the store" if objects.holds_here(file.sha256) else "not in the store"
        table.add_row("file", f"{file.name}, {megabytes(file.size)}, {here}\n{file.sha256}")
    for mirror in dataset.mirrors:
        table.add_row("mirror", display(mirror))
    if dataset.generated:
        table.add_row("files", "drawn when they are needed")
    for what, text in (("licence", dataset.licence), ("citation", dataset.citation)):
        if text:
            table.add_row(what, text)
    console.print(table)


def add_dataset(
    terminal: Terminal,
    place: str,
    *,
    name: str,
    title: str | None,
    class_names: list[str] | None,
    transposed: bool,
    prefix: str,
    replace: bool,
) -> None:
    """Write a manifest for the files in a directory or below a URL, and say what it trusts.

    Raises
    ------
    DatasetError
        If the files are not a dataset's, or another of that name is there.
    DownloadError
        If a file could not be downloaded.
    """
    from digitflow.tasks.data.datasets.places import is_http
    from digitflow.tasks.data.download.adding import describe, keep

    with tempfile.TemporaryDirectory(prefix="digitflow-add-") as temporary, terminal.showing():
        folder = Path(temporary)
        downloads = _Downloads()
        dataset = describe(
            place,
            name,
            folder=folder,
            title=title,
            class_names=class_names,
            transposed=transposed,
            prefix=prefix,
            progress=downloads.progressed,
            say=terminal.say,
        )
        downloads.finish()
        path, written = keep(dataset, instead=replace)
        if is_http(place):
            _store([folder / file.name for file in dataset.files])
    if not written:
        terminal.say(f"{name} is there already, with these very files: {path}")
        return
    terminal.say(f"{name}: {path}")
    for file in dataset.files:
        terminal.say(f"  {file.name}  {megabytes(file.size)}\n    SHA-256 {file.sha256}")
    terminal.say(
        "These digests are what was found today: nobody has published others, so they\n"
        "are trusted. From now on only these very bytes are taken under this name."
    )
    terminal.say(f"Train on it: digitflow run --dataset {name}", "dim")


class _Downloads:
    """Shows files that are downloaded one after the other."""

    def __init__(self) -> None:
        self._name: str | None = None
        self._since = 0.0

    def progressed(self, name: str, done: int) -> None:
        if name != self._name:
            self.finish()
            self._name, self._since = name, time.perf_counter()
            emit(StageStarted(name, ()))
        emit(StageProgressed(name, done, None, "bytes"))

    def finish(self) -> None:
        if self._name is not None:
            seconds = time.perf_counter() - self._since
            emit(StageFinished(self._name, cached=False, seconds=seconds))
            self._name = None


def _store(files: list[Path]) -> None:
    """Put what was downloaded into the store, so that a run need not download it again."""
    objects = Cache().objects
    for file in files:
        with objects.temporary() as copy:
            shutil.copyfile(file, copy)
            objects.add(copy)


def _kind(name: str, dataset: Dataset) -> str:
    if dataset.generated:
        return "generated"
    return "built in" if name in DATASETS else "added"


def _entry(name: str, found: Dataset | DatasetError) -> dict[str, Any]:
    if isinstance(found, DatasetError):
        return {"name": name, "kind": "added", "error": str(found)}
    entry = {**asdict(found), "kind": _kind(name, found)}
    if entry["kind"] == "added":
        entry["manifest"] = str(datasets_folder() / f"{name}.toml")
    return entry
