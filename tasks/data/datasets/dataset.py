"""What a dataset is: four files, where they can be had, and what the labels mean.

Imported to plan a run, so it stays on the standard library.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

ROLES = ("training_images", "training_labels", "test_images", "test_labels")

# A matrix or a table of more cannot be read, and labels with more values are measurements.
MAX_CLASSES = 1_000


class DatasetError(ValueError):
    """A dataset is unknown, incomplete or described wrongly."""


def check_file_name(name: str) -> str:
    """Return `name` if it is a plain file name.

    Names come from descriptions that others wrote, and become paths: one with a separator
    could write outside the folder it belongs in.

    Raises
    ------
    DatasetError
        If `name` is empty, ``.`` or ``..``, or holds a separator or a character that cannot be
        seen.
    """
    if name in ("", ".", "..") or re.search(r"[/\\]", name) or not name.isprintable():
        message = f"expected a plain file name, found {name!r}"
        raise DatasetError(message)
    return name


@dataclass(frozen=True)
class SourceFile:
    """One file of a dataset, as its publisher serves it.

    Attributes
    ----------
    role : str
        What the file holds, one of `ROLES`.
    name : str
        Its name on every mirror.
    sha256 : str
        Digest of its bytes as served (compressed, where they are), 64 lower-case hex digits.
    size : int
        Its length as served, in bytes.
    """

    role: str
    name: str
    sha256: str
    size: int

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            message = f"{self.name}: expected a role out of {', '.join(ROLES)}, found {self.role!r}"
            raise DatasetError(message)
        check_file_name(self.name)
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            message = (
                f"{self.name}: expected a SHA-256 of 64 lower-case hex digits, "
                f"found {self.sha256!r}"
            )
            raise DatasetError(message)
        if self.size < 0:
            message = f"{self.name}: expected a size of 0 bytes or more, found {self.size}"
            raise DatasetError(message)


@dataclass(frozen=True)
class Images:
    """How many images a dataset has, and how large they are, in pixels, once they stand upright."""

    training: int
    test: int
    height: int
    width: int


@dataclass(frozen=True)
class Datasheet:
    """What no file says of a dataset and only people know; what is empty is unknown.

    The questions are those of T. Gebru et al., "Datasheets for datasets", arXiv:1803.09010.

    Attributes
    ----------
    motivation : str
        What the data were gathered for, by whom, and who paid for it.
    collection : str
        How, when and from whom they were gathered.
    people : str
        Whether they are about people, what these agreed to, and whom the data may harm.
    labelling : str
        What was done to them before they became these files, and who labelled them.
    uses : str
        What they are for, and what not.
    maintenance : str
        Who keeps them, and how errors are mended.
    contact : str
        Whom to ask about the data and models trained on them, and under which terms such models
        are passed on.
    """

    motivation: str = ""
    collection: str = ""
    people: str = ""
    labelling: str = ""
    uses: str = ""
    maintenance: str = ""
    contact: str = ""


@dataclass(frozen=True)
class Dataset:
    """A data set: four files, where they can be had, and what the labels mean.

    Attributes
    ----------
    name : str
        Its name on the command line and in records.
    files : tuple of SourceFile
        One for each of `ROLES`, or none for a generated dataset.
    mirrors : tuple of str
        URL prefixes or directories, in the order to try them.
    class_names : tuple of str
        What the labels stand for, in their order.
    title : str
        Its name in figures and reports.
    generated : bool
        True where the project makes the files itself and nothing is fetched.
    labels : tuple of int
        The values that the labels take, ascending; 0, 1, … if not given. The network's classes
        are their places: of labels 1 to 26, label 1 is class 0.
    transposed : bool
        True where rows and columns of the images are exchanged.
    moving : bool
        True where the files change by design, so that `files` says what they are today.
    licence, citation : str
        Of the publisher.
    images : Images or None
        Their number and size, where known.
    datasheet : Datasheet
        What only people know.
    """

    name: str
    files: tuple[SourceFile, ...]
    mirrors: tuple[str, ...]
    class_names: tuple[str, ...]
    title: str
    generated: bool = False
    labels: tuple[int, ...] = ()
    transposed: bool = False
    moving: bool = False
    licence: str = ""
    citation: str = ""
    images: Images | None = None
    datasheet: Datasheet = Datasheet()

    def __post_init__(self) -> None:
        expected = () if self.generated else ROLES
        found = tuple(file.role for file in self.files)
        if sorted(found) != sorted(expected):
            message = (
                f"dataset {self.name}: expected files for {', '.join(expected) or 'no role'}, "
                f"found {', '.join(found) or 'none'}"
            )
            raise DatasetError(message)
        if not self.labels:
            object.__setattr__(self, "labels", tuple(range(len(self.class_names))))
        _check_classes(self.name, self.labels, self.class_names)

    def file(self, role: str) -> SourceFile:
        """Return the file with this role.

        Raises
        ------
        DatasetError
            If the dataset has no such file.
        """
        for file in self.files:
            if file.role == role:
                return file
        message = f"dataset {self.name} has no file for {role!r}"
        raise DatasetError(message)


def _check_classes(dataset: str, labels: Sequence[int], names: Sequence[str]) -> None:
    if len(names) != len(labels):
        message = (
            f"dataset {dataset}: expected {len(labels)} class names, one for each label "
            f"({describe_labels(labels)}), found {len(names)}"
        )
        raise DatasetError(message)
    if not 2 <= len(labels) <= MAX_CLASSES:
        message = (
            f"dataset {dataset}: expected labels of 2 to {MAX_CLASSES:,} classes, "
            f"found {len(labels):,} ({describe_labels(labels)})"
        )
        raise DatasetError(message)
    if any(left >= right for left, right in zip(labels, labels[1:], strict=False)):
        message = f"dataset {dataset}: expected ascending labels, found {describe_labels(labels)}"
        raise DatasetError(message)
    outside = [label for label in labels if not -(2**31) <= label < 2**31]
    if outside:
        message = f"dataset {dataset}: expected labels that IDX can hold, found {outside[0]}"
        raise DatasetError(message)
    unreadable = [name for name in names if not name.strip() or not name.isprintable()]
    if unreadable:
        message = f"dataset {dataset}: expected class names to read, found {unreadable[0]!r}"
        raise DatasetError(message)
    twice = next((name for name in names if list(names).count(name) > 1), None)
    if twice is not None:
        message = f"dataset {dataset}: expected class names that differ, found {twice!r} twice"
        raise DatasetError(message)


def describe_labels(labels: Sequence[int]) -> str:
    """Return label values in a few words: ``1 to 26``, or ``-1, 4, 9`` where there are gaps."""
    if len(labels) > 2 and list(labels) == list(range(labels[0], labels[0] + len(labels))):
        return f"{labels[0]} to {labels[-1]}"
    if len(labels) <= 6:
        return ", ".join(map(str, labels)) or "none"
    return f"{', '.join(map(str, labels[:5]))}, … {labels[-1]}"
