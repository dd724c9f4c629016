"""A directory of IDX files as a dataset: which file is which, and what they declare.

Imported to plan a run, so it stays on the standard library. Labels are read whole, streamed, to
know the classes before any work starts; of images only the headers.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

from tasks.data.dataset import MAX_CLASSES, ROLES, Dataset, DatasetError, Images, SourceFile
from tasks.data.idx_header import image_header, label_values
from tasks.data.idx_stream import IdxError

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


def from_directory(
    path: str | os.PathLike[str],
    *,
    class_names: Sequence[str] | None = None,
    transposed: bool = False,
    prefix: str = "",
) -> Dataset:
    """Describe the four IDX files of a directory.

    Taken are the files with MNIST's names (``train-images-idx3-ubyte``, also
    ``train-images.idx3-ubyte``), with or without ``.gz``. Where a file is there both ways the
    ``.gz`` is taken, being what publishers give digests for; where it is there under both
    spellings, the one with the dash. Failing that, the one file whose name says what it holds,
    such as ``emnist-letters-test-images-idx3-ubyte.gz``.

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

    Raises
    ------
    DatasetError
        If `path` is no directory, files are missing or cannot be told apart, or what they
        declare does not fit together; says what was expected and found.
    """
    directory = Path(path).expanduser().resolve()
    if not directory.is_dir():
        reason = "it is a file" if directory.exists() else "there is no such directory"
        message = f"{path}: expected a directory with the four IDX files, but {reason}"
        raise DatasetError(message)
    try:
        files = _find_files(directory, os.fspath(path), prefix)
        labels, images = _read(files, os.fspath(path), transposed=transposed)
        described = tuple(_describe(role, files[role]) for role in ROLES)
    except IdxError as error:
        message = f"{path}: {error}"
        raise DatasetError(message) from error
    except OSError as error:
        message = f"{path}: expected files that can be read, but {error.strerror or error}"
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


def role_of(name: str) -> str | None:
    """Return which of `ROLES` a file name speaks of, or None."""
    stem = name.lower().removesuffix(".gz")
    if "idx" not in stem and "ubyte" not in stem:
        return None
    words = set(re.split(r"[^a-z0-9]+", stem))
    parts = [part for part, spellings in _PARTS.items() if words & spellings]
    kinds = [kind for kind, spellings in _KINDS.items() if words & spellings]
    return f"{parts[0]}_{kinds[0]}" if len(parts) == len(kinds) == 1 else None


def _find_files(directory: Path, shown: str, prefix: str) -> dict[str, Path]:
    names = sorted(entry.name for entry in directory.iterdir())
    eligible = [name for name in names if name.startswith(prefix) and (directory / name).is_file()]
    found = {role: _candidates(role, eligible) for role in ROLES}
    missing = [STEMS[role][0] for role in ROLES if not found[role]]
    if missing:
        listed = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if names[12:] else "")
        beginning = f" that start with {prefix!r}" if prefix else ""
        message = (
            f"{shown}: expected {', '.join(missing)} (or the same with .gz, or something before "
            f"it){beginning}, found {listed or 'an empty directory'}"
        )
        raise DatasetError(message)
    several = next((names for names in found.values() if len(names) > 1), None)
    if several is not None:
        more = f" and {len(several) - 6} more" if several[6:] else ""
        message = (
            f"{shown}: expected one dataset, found {', '.join(several[:6])}{more}; name one with "
            "`digitflow dataset add DIR --name NAME --prefix BEGINNING`"
        )
        raise DatasetError(message)
    return {role: directory / names[0] for role, names in found.items()}


def _candidates(role: str, names: Sequence[str]) -> list[str]:
    """Return the files that may have a role: one, where it is clear which."""
    usual = [f"{stem}.gz" for stem in STEMS[role]] + list(STEMS[role])
    for name in usual:
        if name in names:
            return [name]
    speaking = [name for name in names if role_of(name) == role]
    return [name for name in speaking if f"{name}.gz" not in speaking]


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
    found = file.stat()
    digest, size = _digest(file, found.st_ino, found.st_size, found.st_mtime_ns)
    return SourceFile(role, file.name, digest, size)


@lru_cache(maxsize=64)
def _digest(file: Path, _inode: int, _size: int, _changed: int) -> tuple[str, int]:
    # A run asks for its dataset several times. Were this out of date, the stages would notice:
    # they check the bytes that they read.
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return digest, stream.tell()
