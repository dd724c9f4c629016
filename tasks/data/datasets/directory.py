"""A directory of IDX files as a dataset: which file is which, and what they declare.

Imported to plan a run, so it stays on the standard library. Labels are read whole, streamed, to
know the classes before any work starts; of images only the headers.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

from digitflow.tasks.data.datasets.dataset import (
    MAX_CLASSES,
    ROLES,
    Dataset,
    DatasetError,
    Images,
    SourceFile,
    describe_labels,
)
from digitflow.tasks.data.datasets.places import directory_of, is_http, what_it_is
from digitflow.tasks.data.idx.header import (
    OUTPUT_CHUNK,
    IdxError,
    image_header,
    label_values,
    open_bytes,
)

# The stems under which the four files go round: LeCun's own, and the dotted ones that some
# archives unpack to.
STEMS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "training_images": ("train-images-idx3-ubyte", "train-images.idx3-ubyte"),
        "training_labels": ("train-labels-idx1-ubyte", "train-labels.idx1-ubyte"),
        "test_images": ("t10k-images-idx3-ubyte", "t10k-images.idx3-ubyte"),
        "test_labels": ("t10k-labels-idx1-ubyte", "t10k-labels.idx1-ubyte"),
    }
)

# Words in other names that say what a file holds.
_PARTS = {
    "training": frozenset({"train", "training"}),
    "test": frozenset({"t10k", "test", "testing"}),
}
_KINDS = {
    "images": frozenset({"image", "images", "idx3"}),
    "labels": frozenset({"label", "labels", "idx1"}),
}
# Inode, size and time: with another one, a file is read again.
_Stamp = tuple[int, int, int]
_SAYING_NOTHING = frozenset({"idx", "ubyte"})
_MOST_LISTED = 12


def from_directory(
    path: str | os.PathLike[str],
    *,
    class_names: Sequence[str] | None = None,
    transposed: bool = False,
    prefix: str = "",
    shown: str | None = None,
) -> Dataset:
    """Describe the four IDX files of a directory.

    Taken are the files whose names say what they hold and nothing else, as MNIST's do
    (``train-images-idx3-ubyte``, also ``train-images.idx3-ubyte``), with or without ``.gz``.
    Failing that, those whose names say something more, the same in all of them, such as
    ``emnist-letters-test-images-idx3-ubyte.gz``. Where a file is there several times, packed and
    unpacked or under two spellings, it must hold the same data; the ``.gz`` is taken then, being
    what publishers give digests for.

    Parameters
    ----------
    path : path-like
        The directory. Dataset and title are called after it, and it is the only mirror.
    class_names : sequence of str, optional
        What the labels stand for, in ascending order of the labels; the labels themselves if
        not given.
    transposed : bool
        Whether rows and columns of the images are exchanged.
    prefix : str
        Only files whose names start so are looked at, where a directory has several sets.
    shown : str, optional
        What error messages call the directory; `path` if not given.

    Raises
    ------
    DatasetError
        If `path` is no directory, files are missing or cannot be told apart, or what they
        declare does not fit together; says what was expected and found.
    """
    shown = os.fspath(path) if shown is None else shown
    directory = Path(path).expanduser().resolve()
    if not directory.is_dir():
        found = what_it_is(Path(path).expanduser())
        reason = "there is no such directory" if found is None else f"it is {found}"
        message = f"{shown}: expected a directory with the four IDX files, but {reason}"
        raise DatasetError(message)
    try:
        files = _find_files(directory, shown, prefix)
        labels, images = _read(files, shown, transposed=transposed)
        described = tuple(_describe(role, files[role]) for role in ROLES)
    except IdxError as error:
        message = f"{shown}: {error}"
        raise DatasetError(message) from error
    except OSError as error:
        message = f"{shown}: expected files that can be read, but {error.strerror or error}"
        raise DatasetError(message) from error
    return Dataset(
        name=directory.name or "root",
        files=described,
        mirrors=(str(directory),),
        class_names=tuple(map(str, labels)) if class_names is None else tuple(class_names),
        title=directory.name or "root",
        labels=labels,
        transposed=transposed,
        images=images,
    )


def check_unchanged(dataset: Dataset, remedy: str) -> None:
    """Refuse a dataset whose files have changed in a directory since it was described.

    What is not there, or is to be downloaded, is left to the stage that fetches it.

    Raises
    ------
    DatasetError
        With both digests of each changed file, and `remedy`.
    """
    changed = []
    for mirror in dataset.mirrors:
        directory = Path(mirror).expanduser()
        for file in dataset.files if "://" not in mirror else ():
            path = directory / file.name
            if path.is_file() and (found := _describe(file.role, path)) != file:
                changed.append(
                    f"  {path}\n    expected {file.size:,} bytes, SHA-256 {file.sha256}\n"
                    f"    found    {found.size:,} bytes, SHA-256 {found.sha256}"
                )
    if changed:
        listed = "\n".join(changed)
        message = f"{dataset.name} has changed since it was added:\n{listed}\n{remedy}"
        raise DatasetError(message)


def as_it_is_today(dataset: Dataset) -> Dataset:
    """Return a moving dataset with the digests and the images that its files have now.

    The classes stay those of the manifest, so that a class that is missing today is not another
    network tomorrow.

    Raises
    ------
    DatasetError
        If the files are not in a directory, do not fit together, or have a label that the manifest
        does not name.
    """
    (mirror,) = dataset.mirrors
    if is_http(mirror):
        message = (
            f"dataset {dataset.name} is moving: expected its files in a directory, found a URL; "
            "have them copied to one, and name that"
        )
        raise DatasetError(message)
    directory = directory_of(mirror)
    files = {file.role: directory / file.name for file in dataset.files}
    for path in files.values():
        if not path.is_file():  # a pipe would not end
            message = (
                f"dataset {dataset.name}: expected the file {path}, found "
                f"{what_it_is(path) or 'nothing there'}"
            )
            raise DatasetError(message)
    try:
        labels, images = _read(files, dataset.name, transposed=dataset.transposed)
        described = tuple(_describe(role, files[role]) for role in ROLES)
    except IdxError as error:
        message = f"dataset {dataset.name}: {error}"
        raise DatasetError(message) from error
    except OSError as error:
        message = (
            f"dataset {dataset.name}: expected files that can be read in {directory}, but "
            f"{error.filename or ''}: {error.strerror or error}"
        )
        raise DatasetError(message) from error
    unknown = sorted(set(labels) - set(dataset.labels))
    if unknown:
        message = (
            f"dataset {dataset.name}: expected labels of the classes that were added "
            f"({describe_labels(dataset.labels)}), found {describe_labels(unknown)} as well; if "
            "that is a new class, add the directory again with --replace"
        )
        raise DatasetError(message)
    return replace(dataset, files=described, images=images)


def role_of(name: str) -> str | None:
    """Return which of `ROLES` a file name speaks of, or None."""
    stem = _stem(name)
    if "idx" not in stem and "ubyte" not in stem:
        return None
    words = _words(name)
    parts = [part for part, spellings in _PARTS.items() if words & spellings]
    kinds = [kind for kind, spellings in _KINDS.items() if words & spellings]
    return f"{parts[0]}_{kinds[0]}" if len(parts) == len(kinds) == 1 else None


def _stem(name: str) -> str:
    return name.lower().removesuffix(".gz")


def _words(name: str) -> frozenset[str]:
    return frozenset(re.split(r"[^a-z0-9]+", _stem(name)))


def _more_words(name: str) -> frozenset[str]:
    """Return what a file name says beside its role: of which set it is, where there are several."""
    return _words(name).difference(_SAYING_NOTHING, *_PARTS.values(), *_KINDS.values())


def _find_files(directory: Path, shown: str, prefix: str) -> dict[str, Path]:
    names = sorted(entry.name for entry in directory.iterdir())
    files = [name for name in names if name.startswith(prefix) and (directory / name).is_file()]
    found = {role: _candidates(role, files) for role in ROLES}
    missing = [role for role in ROLES if not found[role]]
    if missing:
        beginning = f" that start with {prefix!r}" if prefix else ""
        message = (
            f"{shown}: expected {', '.join(STEMS[role][0] for role in missing)} (or the same with "
            f".gz, or something before it){beginning}, found {_listed(directory, names, missing)}"
        )
        raise DatasetError(message)
    several = next((each for each in found.values() if len(set(map(_more_words, each))) > 1), None)
    if several is not None:
        more = f" and {len(several) - 6} more" if several[6:] else ""
        message = (
            f"{shown}: expected one dataset, found {', '.join(several[:6])}{more}; name one with "
            "`digitflow dataset add DIR --name NAME --prefix BEGINNING`"
        )
        raise DatasetError(message)
    return {
        role: _one_of([directory / name for name in names], shown) for role, names in found.items()
    }


def _candidates(role: str, names: Sequence[str]) -> list[str]:
    """Return the files that may have a role, the most usual name first."""
    usual = [f"{stem}.gz" for stem in STEMS[role]] + list(STEMS[role])
    speaking = [name for name in names if role_of(name) == role]
    found = [name for name in speaking if not _more_words(name)] or speaking

    def rarity(name: str) -> tuple[int, bool]:
        return usual.index(name) if name in usual else len(usual), not name.endswith(".gz")

    return sorted(found, key=rarity)


def _one_of(files: Sequence[Path], shown: str) -> Path:
    """Return the first of files that are to hold the same, and refuse others."""
    first, *others = files
    for other in others:
        if not _hold_the_same(first, _stamp(first), other, _stamp(other)):
            message = (
                f"{shown}: expected one file for each part, found {first.name} and {other.name}, "
                "which hold different data; move away the one that is not meant"
            )
            raise DatasetError(message)
    return first


@lru_cache(maxsize=64)
def _hold_the_same(one: Path, _stamp: _Stamp, other: Path, _other_stamp: _Stamp) -> bool:
    """Compare what two files hold, gzipped or plain."""
    with open_bytes(one, one.name) as left, open_bytes(other, other.name) as right:
        while (piece := left.read(OUTPUT_CHUNK)) == right.read(OUTPUT_CHUNK):
            if not piece:
                return True
    return False


def _listed(directory: Path, names: Sequence[str], missing: Sequence[str]) -> str:
    """List names for a message, those first that speak of what is missing, and say why not."""
    if not names:
        return "an empty directory"
    ordered = sorted(names, key=lambda name: (role_of(name) not in missing, name))
    described = [
        name
        if (directory / name).is_file() or role_of(name) is None
        else f"{name} ({what_it_is(directory / name)})"
        for name in ordered[:_MOST_LISTED]
    ]
    more = f" and {len(names) - _MOST_LISTED} more" if names[_MOST_LISTED:] else ""
    return ", ".join(described) + more


def _read(
    files: Mapping[str, Path], shown: str, *, transposed: bool
) -> tuple[tuple[int, ...], Images]:
    """Return the label values, and number and size of the images."""
    values: set[int] = set()
    counts = {}
    sizes = {}
    for part in ("training", "test"):
        images, labels = files[f"{part}_images"], files[f"{part}_labels"]
        counts[part], *sizes[part] = image_header(images, images.name).shape
        labelled, found = label_values(labels, labels.name, MAX_CLASSES)
        if labelled != counts[part]:
            message = (
                f"{shown}: expected as many labels as images, found {counts[part]:,} in "
                f"{images.name} and {labelled:,} in {labels.name}; check that both files are of "
                "the same set"
            )
            raise DatasetError(message)
        values |= found
    if sizes["training"] != sizes["test"]:
        (height, width), (test_height, test_width) = sizes["training"], sizes["test"]
        message = (
            f"{shown}: expected training and test images of one size, found {height} x {width} "
            f"and {test_height} x {test_width} pixels"
        )
        raise DatasetError(message)
    height, width = reversed(sizes["test"]) if transposed else sizes["test"]
    return tuple(sorted(values)), Images(counts["training"], counts["test"], height, width)


def _describe(role: str, file: Path) -> SourceFile:
    digest, size = _digest(file, _stamp(file))
    return SourceFile(role, file.name, digest, size)


def _stamp(file: Path) -> _Stamp:
    found = file.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


@lru_cache(maxsize=64)
def _digest(file: Path, _stamp: _Stamp) -> tuple[str, int]:
    # A run asks for its dataset several times. Were this out of date, the stages would notice:
    # they check the bytes that they read.
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return digest, stream.tell()
