"""Adding a dataset: what it is today is written down, and it is held to that later.

Nobody has published digests of such a dataset, so the first look is trusted, and said to be.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path

from digitflow.tasks.data.datasets.dataset import ROLES, Dataset, DatasetError, describe_labels
from digitflow.tasks.data.datasets.directory import STEMS, from_directory
from digitflow.tasks.data.datasets.manifest import check_name, read_manifest, write_manifest
from digitflow.tasks.data.datasets.places import (
    absolute,
    check_place,
    directory_of,
    display,
    is_http,
)
from digitflow.tasks.data.datasets.sources import DATASETS, datasets_folder
from digitflow.tasks.data.download.errors import RefusedError
from digitflow.tasks.data.download.mirrors import open_file
from digitflow.tasks.data.download.waiting import LIMITS, TIMEOUT, Watch, ask_in_turn
from digitflow.tasks.data.idx.header import IdxError, check_complete

# Of one file, as it is served. Nobody has said how large it is, so a server could fill the disk.
MAX_FILE_BYTES = 4 * 1024**3

# Takes a file's name and the number of bytes that have arrived.
Progress = Callable[[str, int], None]


class DownloadError(Exception):
    """A file of a dataset that is to be added could not be downloaded."""


def describe(
    place: str,
    name: str,
    *,
    folder: Path,
    title: str | None = None,
    class_names: Sequence[str] | None = None,
    transposed: bool = False,
    moving: bool = False,
    prefix: str = "",
    progress: Progress = lambda name, done: None,
    say: Callable[[str], None] = lambda text: None,
) -> Dataset:
    """Describe the dataset in a directory, or below a URL, under a name of the user's.

    Parameters
    ----------
    place : str
        Directory with the four IDX files, or URL prefix.
    name : str
        What it will be called.
    folder : Path
        An empty folder for what is downloaded.
    title : str, optional
        Its name in figures; `name` if not given.
    class_names : sequence of str, optional
        In ascending order of the labels.
    transposed : bool
        Whether rows and columns of the images are exchanged.
    moving : bool
        Whether the files change by design, so that each run takes them as they are then.
    prefix : str
        What the names of the files begin with.
    progress : callable
        Called with a file's name and the number of bytes that have arrived.
    say : callable
        Told in a sentence of each pause that a server asks for.

    Raises
    ------
    DatasetError
        If the name is taken or not one, or the files are not a dataset's, whole and sound.
    DownloadError
        If a file could not be downloaded.
    """
    check_name(name)
    if name in DATASETS:
        message = f"--name {name}: a dataset of that name is built in; choose another"
        raise DatasetError(message)
    check_place(place)
    if moving and is_http(place):
        message = (
            f"--moving: expected a directory, found {display(place)}; have the files copied to "
            "one, and name that"
        )
        raise DatasetError(message)
    if is_http(place):
        directory, mirror = folder, place
        for role in ROLES:
            _download(place, _spellings(role, prefix), folder, progress, say)
    else:
        directory = absolute(directory_of(place))
        mirror = str(directory)
    shown = display(place)
    dataset = from_directory(
        directory, class_names=class_names, transposed=transposed, prefix=prefix, shown=shown
    )
    for file in dataset.files:
        try:
            check_complete(directory / file.name, file.name)
        except IdxError as error:
            message = f"{shown}: {error}"
            raise DatasetError(message) from error
    return replace(dataset, name=name, title=title or name, mirrors=(mirror,), moving=moving)


def keep(dataset: Dataset, *, instead: bool) -> tuple[Path, bool]:
    """Write a dataset's manifest into the user's folder.

    What people have written into the one before stays, if it is about data from the same place:
    licence, citation, datasheet.

    Parameters
    ----------
    dataset : Dataset
    instead : bool
        Whether it may take the place of another of that name.

    Returns
    -------
    tuple of Path and bool
        The manifest, and whether it was written; False if it was there already.

    Raises
    ------
    DatasetError
        If another dataset of that name is there and may not be replaced; says how they differ.
        If its manifest cannot be read, and may not be replaced.
    """
    path = datasets_folder() / f"{dataset.name}.toml"
    before = None
    if path.exists():
        with suppress(DatasetError) if instead else nullcontext():
            before = read_manifest(path)
    if before is not None and before.mirrors == dataset.mirrors:
        dataset = replace(
            dataset,
            licence=before.licence,
            citation=before.citation,
            datasheet=before.datasheet,
        )
    if before is not None and not instead:
        differences = list(_differences(before, dataset))
        if not differences:
            return path, False
        message = (
            f"{dataset.name} has been added already ({path}), and what is there now is another:\n"
            + "\n".join(f"  {each}" for each in differences)
            + "\nIf it is right now, trust it with --replace; models that were trained on the old "
            "one stay as they are."
        )
        raise DatasetError(message)
    write_manifest(path, dataset)
    return path, True


def _spellings(role: str, prefix: str) -> list[str]:
    """Return the names under which a file may be served, the most usual first."""
    begin = f"{prefix.rstrip('-')}-" if prefix else ""
    stems = [*STEMS[role], *(stem.replace("t10k", "test") for stem in STEMS[role])]
    names = [begin + stem for stem in dict.fromkeys(stems)]
    return [f"{name}{ending}" for name, ending in itertools.product(names, (".gz", ""))]


def _download(
    url: str,
    names: Sequence[str],
    folder: Path,
    progress: Progress,
    say: Callable[[str], None],
) -> None:
    """Download the first of the names that is there."""
    deadline = LIMITS.deadline()
    left = list(names)
    reasons: list[str] = []

    def ask(mirror: str) -> None:
        while left:
            try:
                _receive(mirror, left[0], folder, Watch(LIMITS, deadline), progress)
                return
            except RefusedError as error:
                if not error.permanent:
                    raise
                reasons.append(error.reason)
                left.pop(0)
        reason = f"expected one of {', '.join(names)}, but: {reasons[0]}"
        raise RefusedError(reason, permanent=True)

    _, failures = ask_in_turn([url], ask, limits=LIMITS, deadline=deadline, say=say)
    if failures:
        failure = failures[0]
        if failure.permanent:
            problem = f"{failure.reason}; download the files and add their directory"
        else:
            problem = f"{left[0]} could not be downloaded: {failure.reason}; try again"
        message = f"{failure.mirror}: {problem}"
        raise DownloadError(message)


def _receive(url: str, name: str, folder: Path, watch: Watch, progress: Progress) -> None:
    file = folder / name
    with (
        open_file(url, name, begin=0, size=None, timeout=TIMEOUT, watch=watch) as answer,
        file.open("wb") as output,
    ):
        for chunk in answer.chunks:
            output.write(chunk)
            progress(name, output.tell())
            if output.tell() > MAX_FILE_BYTES:
                reason = f"{name}: expected at most {MAX_FILE_BYTES:,} bytes, it sends more"
                raise RefusedError(reason, permanent=True)


def _differences(before: Dataset, now: Dataset) -> list[str]:
    found = [
        f"{old.role}: SHA-256 {old.sha256} then, {new.sha256} now"
        for old, new in zip(before.files, now.files, strict=True)
        if old.sha256 != new.sha256 and not (before.moving and now.moving)
    ]
    facts: list[tuple[str, Callable[[Dataset], object]]] = [
        ("class names", lambda each: ", ".join(each.class_names)),
        ("labels", lambda each: describe_labels(each.labels)),
        ("transposed", lambda each: each.transposed),
        ("moving", lambda each: each.moving),
        ("title", lambda each: each.title),
        ("place", lambda each: ", ".join(map(display, each.mirrors))),
    ]
    for what, value in facts:
        if value(before) != value(now):
            found.append(f"{what}: {value(before)} then, {value(now)} now")
    return found
