"""`digitflow dataset sample`: draw a dataset of any size into a folder."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from digitflow.flows.cli.commands.units import megabytes
from digitflow.flows.cli.terminal import Terminal
from digitflow.storage.atomic import sync_folder
from digitflow.storage.os_errors import explaining_full_disk
from digitflow.tasks.data.datasets.sources import DatasetError
from digitflow.tasks.engine.events import StageFinished, StageProgressed, StageStarted, emit

_LABEL = "draw-sample"


def write_sample_set(terminal: Terminal, folder: Path, training: int, test: int, seed: int) -> bool:
    """Draw a dataset; the folder is there whole at the end, or not at all.

    Parameters
    ----------
    terminal
        Where to show progress and what was written.
    folder
        A new one, or an empty one.
    training, test
        Numbers of images, at least 1.
    seed
        Seed of everything random, at least 0.

    Returns
    -------
    bool
        False if Ctrl-C stopped it.

    Raises
    ------
    DatasetError
        If something lies in the folder already, or a file in its place.
    StorageFullError
        If the disk is full.
    """
    folder = folder.expanduser().absolute()
    _check_new(folder)
    started = time.perf_counter()
    try:
        with explaining_full_disk("the sample set", folder.parent), terminal.showing():
            emit(StageStarted(_LABEL, ()))
            size = _write(folder, training, test, seed)
            emit(StageFinished(_LABEL, cached=False, seconds=time.perf_counter() - started))
    except KeyboardInterrupt:
        terminal.warn(f"stopped; nothing was written to {folder}")
        return False
    terminal.say(
        f"{training:,} training and {test:,} test images, {megabytes(size)}, seed {seed}: {folder}"
    )
    terminal.say(f"Train on them: digitflow run --dataset {folder}", "dim")
    return True


def _check_new(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists() or folder.is_symlink():
        found = "one with files in it" if folder.is_dir() else "a file"
        message = f"{folder}: expected a new or an empty folder, found {found}; name another place"
        raise DatasetError(message)


def _write(folder: Path, training: int, test: int, seed: int) -> int:
    """Draw beside the folder and give the whole its name; return its size in bytes."""
    from digitflow.tasks.data.sample.draw import write_sample

    def report(done: int, total: int) -> None:
        emit(StageProgressed(_LABEL, done, total, "images"))

    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".drawing-") as temporary:
        new = Path(temporary) / folder.name
        files = write_sample(new, training=training, test=test, seed=seed, progress=report)
        size = sum(file.stat().st_size for file in files.values())
        _check_new(folder)  # once more: drawing may have taken long
        new.rename(folder)  # replaces an empty folder, and no other
    sync_folder(folder.parent)
    return size
