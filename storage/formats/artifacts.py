"""References to stored values, and the formats in which values are stored.

Stages hand each other an `Artifact`, never an array. A format is a pair of functions, one
that writes a value to a file and one that reads it back; no format can execute code.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, ConfigDict, TypeAdapter, ValidationError

from digitflow.storage.digests import check_keys
from digitflow.storage.errors import ArtifactError, StorageError
from digitflow.storage.fields import Count, Sha256
from digitflow.storage.formats.arrays import outline_npz, read_npy, read_npz, write_npy, write_npz
from digitflow.storage.formats.folders import outline_folder, unpack, write_folder
from digitflow.storage.formats.sameness import difference
from digitflow.storage.formats.tables import (
    DECLARE_TABLE,
    outline_table,
    read_csv,
    read_table,
    write_csv,
    write_table,
)

FOLDER = "folder"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def _known(name: str) -> str:
    if name not in FORMATS:
        message = f"expected one of the formats {', '.join(FORMATS)}"
        raise ValueError(message)
    return name


@dataclass(frozen=True)
class Artifact:
    """A stored value: where its bytes are, and what they are.

    Attributes
    ----------
    sha256
        Digest of the bytes, which is also the object's name in the store.
    size
        Number of bytes.
    format
        One of `FORMATS`.
    details
        What people want to know without opening it: shape and dtype, columns and rows.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    sha256: Sha256
    size: Count
    format: Annotated[str, AfterValidator(_known)]
    details: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Return the reference as a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Any) -> Artifact:
        """Read a reference back, trusting nothing.

        Raises
        ------
        ArtifactError
            If the document is not a reference: a name that is no digest, an unknown format,
            a negative size.
        """
        try:
            return _references().validate_python(document)
        except ValidationError as error:
            message = f"expected a reference (sha256, size, format, details), found {document!r}"
            raise ArtifactError(message[:500]) from error


@cache
def _references() -> TypeAdapter[Artifact]:
    return TypeAdapter(Artifact)


@dataclass(frozen=True)
class Format:
    """How a kind of value is written and read.

    Attributes
    ----------
    suffix
        Ending of the file's name where people see it.
    write
        Writes a value to a path and returns the details for its reference.
    read
        Reads the value back from a verified file.
    outline
        As `read`, where that would read large arrays: their shapes and dtypes are right, what they
        hold is not. By default `read`.
    otherwise
        What to do about a value that it does not keep.
    """

    suffix: str
    write: Callable[[Path, Any], dict[str, Any]]
    read: Callable[[Path], Any]
    outline: Callable[[Path], Any] | None = None
    otherwise: str = ""


def write_artifact(format_name: str, path: Path, value: Any) -> dict[str, Any]:
    """Write `value` to `path`, read it back, and return the reference's details.

    Raises
    ------
    ArtifactError
        If the value does not fit the format, or would not come back as it is: says which part.
    """
    form = _format(format_name)
    try:
        details = form.write(path, value)
    except (AttributeError, TypeError, ValueError, RecursionError) as error:
        message = f"expected a value of the format {format_name}, found {_name(value)}: {error}"
        raise ArtifactError(message) from error
    try:
        lost = difference(value, _read(format_name, form.outline or form.read, path))
    except ArtifactError as error:
        lost = f"it cannot be read back: {error}"
    if lost:
        message = f"the format {format_name} does not keep it: {lost}{form.otherwise}"
        raise ArtifactError(message)
    return details


def size_of(value: Any) -> int | None:
    """Return how many bytes a value takes at least, or None where only writing it can tell."""
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, Mapping):
        sizes = [size_of(each) for each in value.values()]
        return sum(size for size in sizes if size is not None) or None
    size = getattr(value, "nbytes", None)  # of an array
    return size if isinstance(size, int) else None


def take_over(file: Path, path: Path) -> None:
    """Move a stage's own file to `path`."""
    # Its time may be long ago, if an attempt that was killed made it: new, nothing sweeps it.
    os.utime(file)
    file.replace(path)


def read_artifact(format_name: str, path: Path, scratch: Path | None = None) -> Any:
    """Read the value that `path` holds; arrays come as read-only memory maps.

    Parameters
    ----------
    format_name
        One of `FORMATS`.
    path
        A verified file.
    scratch
        Where a folder is unpacked; by default beside the file.

    Raises
    ------
    ArtifactError
        If the file is not of the format, names a Python object, or declares more data
        than it holds.
    """
    read = _format(format_name).read
    if format_name == FOLDER and scratch is not None:
        read = partial(unpack, into=scratch)
    return _read(format_name, read, path)


def _read(format_name: str, read: Callable[[Path], Any], path: Path) -> Any:
    try:
        return read(path)
    except StorageError:
        raise
    except Exception as error:
        # Parsers of bytes that were made to do harm raise anything; it always means the same.
        message = f"{path} is not a readable {format_name} artifact: {error}"
        raise ArtifactError(message) from error


def _format(name: str) -> Format:
    try:
        return FORMATS[name]
    except KeyError:
        message = f"expected one of the formats {', '.join(FORMATS)}, found {name!r}"
        raise ArtifactError(message) from None


def _name(value: Any) -> str:
    return type(value).__name__


def _write_json(path: Path, value: Any) -> dict[str, Any]:
    try:
        check_keys(value)
        path.write_bytes(_json(value))
    except (TypeError, ValueError) as error:
        message = f"{_culprit(value)}: {error}"
        raise TypeError(message) from error
    return {}


def _json(value: Any) -> bytes:
    text = json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode()


def _culprit(value: Any, place: str = "") -> str:
    """Return where in a document the part lies that JSON has no form for."""
    parts: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            return place
        parts = value.items()
    elif isinstance(value, list | tuple):
        parts = enumerate(value)
    for key, part in parts:
        try:
            check_keys(part)
            _json({key: part} if isinstance(key, str) else part)
        except (TypeError, ValueError):
            return _culprit(part, f"{place}[{key!r}]")
    return place


def _read_json(path: Path) -> Any:
    # JSON has no word for NaN and infinity, and `_write_json` writes none.
    text = path.read_text(encoding="utf-8")
    return json.loads(text, parse_constant=_finite, parse_float=_finite)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        message = f"expected finite numbers, found {text}"
        raise ValueError(message)
    return number


def _write_text(path: Path, value: str) -> dict[str, Any]:
    path.write_bytes(value.encode())  # lines end as they end, on every system
    return {"characters": len(value)}


def _read_text(path: Path) -> str:
    return path.read_bytes().decode()


def _write_png(path: Path, value: bytes) -> dict[str, Any]:
    if not isinstance(value, bytes) or not value.startswith(PNG_SIGNATURE):
        message = f"expected the bytes of a PNG picture, found {value!r:.40}"
        raise ArtifactError(message)
    path.write_bytes(value)
    return {
        "width": int.from_bytes(value[16:20], "big"),
        "height": int.from_bytes(value[20:24], "big"),
    }


def _read_png(path: Path) -> bytes:
    data = path.read_bytes()
    if not data.startswith(PNG_SIGNATURE):
        message = f"{path} is not a PNG picture"
        raise ArtifactError(message)
    return data


def _write_file(path: Path, value: Path) -> dict[str, Any]:
    # The stage's own file is taken over; `Cache` sees to it that it lies in the scratch folder.
    if not isinstance(value, Path) or value.is_symlink() or not value.is_file():
        message = f"expected the path of a file, found {value!r}"
        raise ArtifactError(message)
    take_over(value, path)
    return {"name": value.name}


FORMATS: Mapping[str, Format] = {
    "npy": Format(".npy", write_npy, read_npy),
    "npz": Format(".npz", write_npz, read_npz, outline_npz),
    "table": Format(".npz", write_table, read_table, outline_table),
    "csv": Format(".csv", write_csv, read_csv, otherwise=DECLARE_TABLE),
    "json": Format(".json", _write_json, _read_json),
    "png": Format(".png", _write_png, _read_png),
    "text": Format(".txt", _write_text, _read_text),
    "file": Format("", _write_file, lambda path: path),
    FOLDER: Format(".zip", write_folder, lambda path: unpack(path, path.parent), outline_folder),
}
