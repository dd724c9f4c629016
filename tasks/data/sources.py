"""Where datasets come from: file names, sizes, published digests, mirrors.

The only module that knows MNIST. It is imported to plan a run, so it stays on the standard library.
"""

import difflib
import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

ROLES = ("training_images", "training_labels", "test_images", "test_labels")

DIGITS = tuple("0123456789")

# The stems under which the four files go round: LeCun's own, and the dotted ones that some
# archives unpack to.
_STEMS = MappingProxyType(
    {
        "training_images": ("train-images-idx3-ubyte", "train-images.idx3-ubyte"),
        "training_labels": ("train-labels-idx1-ubyte", "train-labels.idx1-ubyte"),
        "test_images": ("t10k-images-idx3-ubyte", "t10k-images.idx3-ubyte"),
        "test_labels": ("t10k-labels-idx1-ubyte", "t10k-labels.idx1-ubyte"),
    }
)


class DatasetError(ValueError):
    """A dataset is unknown, incomplete or described wrongly."""


def check_file_name(name: str) -> str:
    """Return `name` if it is a plain file name.

    Names come from descriptions that others wrote, and become paths: one with a separator
    could write outside the folder it belongs in.

    Raises
    ------
    DatasetError
        If `name` is empty, ``.`` or ``..``, or holds a separator or a control character.
    """
    if name in ("", ".", "..") or re.search(r"[/\\\x00-\x1f]", name):
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
        What label 0, 1, … stands for.
    title : str
        Its name in figures and reports.
    generated : bool
        True where the project makes the files itself and nothing is fetched.
    """

    name: str
    files: tuple[SourceFile, ...]
    mirrors: tuple[str, ...]
    class_names: tuple[str, ...]
    title: str
    generated: bool = False

    def __post_init__(self) -> None:
        expected = () if self.generated else ROLES
        found = tuple(file.role for file in self.files)
        if sorted(found) != sorted(expected):
            message = (
                f"dataset {self.name}: expected files for {', '.join(expected) or 'no role'}, "
                f"found {', '.join(found) or 'none'}"
            )
            raise DatasetError(message)

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


# Digests and sizes of the gzip files as Yann LeCun, Corinna Cortes and Christopher Burges
# published them (http://yann.lecun.com/exdb/mnist/); both mirrors serve the same bytes.
MNIST = Dataset(
    name="mnist",
    files=(
        SourceFile(
            "training_images",
            "train-images-idx3-ubyte.gz",
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            9_912_422,
        ),
        SourceFile(
            "training_labels",
            "train-labels-idx1-ubyte.gz",
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            28_881,
        ),
        SourceFile(
            "test_images",
            "t10k-images-idx3-ubyte.gz",
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            1_648_877,
        ),
        SourceFile(
            "test_labels",
            "t10k-labels-idx1-ubyte.gz",
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            4_542,
        ),
    ),
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    class_names=DIGITS,
    title="MNIST",
)

SAMPLE = Dataset(
    name="sample", files=(), mirrors=(), class_names=DIGITS, title="sample", generated=True
)

DATASETS: Mapping[str, Dataset] = MappingProxyType({each.name: each for each in (MNIST, SAMPLE)})


def from_directory(
    path: str | os.PathLike[str], *, class_names: tuple[str, ...] = DIGITS
) -> Dataset:
    """Describe the four IDX files of a directory.

    The files go by MNIST's names (``train-images-idx3-ubyte``, also ``train-images.idx3-ubyte``),
    with or without ``.gz``. Where a file is there both ways the ``.gz`` is taken, being what
    publishers give digests for; where it is there under both spellings, the one with the dash.

    Parameters
    ----------
    path : path-like
        The directory. Dataset and title are called after it, and it is the only mirror.
    class_names : tuple of str
        What the labels stand for, which IDX files do not say.

    Raises
    ------
    DatasetError
        If `path` is no directory, or files are missing; says which were expected and found.
    """
    directory = Path(path).expanduser().resolve()
    if not directory.is_dir():
        reason = "it is a file" if directory.exists() else "there is no such directory"
        message = f"{path}: expected a directory with the four IDX files, but {reason}"
        raise DatasetError(message)
    found = {role: _find_file(directory, stems) for role, stems in _STEMS.items()}
    missing = [_STEMS[role][0] for role, file in found.items() if file is None]
    if missing:
        names = sorted(entry.name for entry in directory.iterdir())
        shown = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if names[12:] else "")
        message = (
            f"{path}: expected {', '.join(missing)} (or the same with .gz), "
            f"found {shown or 'an empty directory'}"
        )
        raise DatasetError(message)
    return Dataset(
        name=directory.name or "root",
        files=tuple(_describe(role, file) for role, file in found.items() if file is not None),
        mirrors=(str(directory),),
        class_names=class_names,
        title=directory.name or "root",
    )


def _find_file(directory: Path, stems: tuple[str, ...]) -> Path | None:
    candidates = [f"{stem}.gz" for stem in stems] + list(stems)
    return next((directory / name for name in candidates if (directory / name).is_file()), None)


def _describe(role: str, file: Path) -> SourceFile:
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return SourceFile(role, file.name, digest, stream.tell())


def find(name_or_directory: str | os.PathLike[str]) -> Dataset:
    """Return the dataset of this name, or the one in this directory.

    A known name wins over a directory of the same name; write ``./mnist`` for the directory.

    Raises
    ------
    DatasetError
        If it is neither; names the known datasets and the nearest of them.
    """
    wanted = os.fspath(name_or_directory)
    known = DATASETS.get(wanted)
    if known is not None:
        return known
    # A bare word that names no directory is a misspelt name; a path is meant as a path.
    is_path = "/" in wanted or os.sep in wanted or wanted.startswith(("~", "."))
    if is_path or (wanted and Path(wanted).exists()):
        return from_directory(wanted)
    nearest = difflib.get_close_matches(wanted.lower(), DATASETS, n=1, cutoff=0.5)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    message = (
        f"unknown dataset {wanted!r}: expected {' or '.join(map(repr, DATASETS))}, "
        f"or a directory with the four IDX files{hint}"
    )
    raise DatasetError(message)
