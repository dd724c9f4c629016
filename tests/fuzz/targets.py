"""What is fuzzed: every reader of bytes that others may have written, and what must hold of it.

A target reads any bytes, or refuses them with an error of our own. Whatever else it raises is a
finding: another exception, a result that does not come back as it was read, an accepted record
over which a command stumbles.
"""

import gzip
import io
import json
import os
import shutil
import struct
import traceback
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from digitflow.flows.cli import history
from digitflow.flows.cli.render import age, local_time
from digitflow.storage.backends.local import LocalBackend
from digitflow.storage.digests import digest_json
from digitflow.storage.documents import LocalDocuments
from digitflow.storage.errors import ArtifactError, RecordDamagedError
from digitflow.storage.formats.artifacts import read_artifact, write_artifact
from digitflow.storage.history.runs import RUNS
from digitflow.storage.keys import differences
from digitflow.storage.records import RECORDS
from digitflow.tasks.data.datasets.dataset import DatasetError
from digitflow.tasks.data.datasets.manifest import read_manifest, write_manifest
from digitflow.tasks.data.idx.arrays import IdxError, decode, encode
from digitflow.tasks.data.idx.header import image_header, label_values

# What a reader may take, all in all, for an input of at most so many bytes.
MEMORY_LIMIT = 32 * 2**20
LONGEST_INPUT = 4_096

# What the commands that show runs are asked for.
RUN = "fuzzed-run"

Target = Callable[[bytes, Path], None]

_PARSE_ERRORS = (ValueError, RecursionError)


# Causes of a refusal that no input excuses: it asked for the memory that the input declares, or
# our own code is broken.
_NO_EXCUSE = (MemoryError, NameError, ImportError, AssertionError)


class FindingError(AssertionError):
    """A target does something with an input that it must not do."""


def check_refusal(error: BaseException) -> None:
    """Let no refusal pass that has another cause than the input."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, _NO_EXCUSE) and not _is_assertion_of_pandas(cause):
            message = f"refused because of {type(cause).__name__}: {cause}"
            raise FindingError(message) from error
        cause = cause.__cause__ or cause.__context__


def _is_assertion_of_pandas(error: BaseException) -> bool:
    """Tell whether pandas refuses what it is given, which it now and then does by an assertion."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    by = frames[-1].f_globals.get("__name__", "") if frames else ""
    return isinstance(error, AssertionError) and by.startswith("pandas.")


def idx(data: bytes, folder: Path) -> None:
    """An IDX file, and the same bytes in a sound gzip stream that a fuzzer would not find."""
    for packed in (data, gzip.compress(data, compresslevel=1, mtime=0)):
        file = folder / "idx"
        file.write_bytes(packed)
        try:
            array = decode(file, max_bytes=2**20)
        except IdxError as error:
            check_refusal(error)
            for look in (image_header, partial(label_values, most=100)):
                with suppress(IdxError):
                    look(file, "idx")
            continue
        plain = gzip.decompress(packed) if packed.startswith(b"\x1f\x8b") else packed
        if encode(array) != plain:
            raise FindingError("decoded to something else than it holds")
        if array.ndim == 1 and array.dtype.kind in "iu":
            expected = (len(array), set(array.tolist()))
            if label_values(file, "idx", most=2**20) != expected:
                raise FindingError("its labels take other values than those that were found")


def manifest(data: bytes, folder: Path) -> None:
    """A dataset's manifest."""
    file = folder / "set.toml"
    file.write_bytes(data)
    try:
        dataset = read_manifest(file)
    except DatasetError as error:
        check_refusal(error)
        return
    write_manifest(folder / "again.toml", dataset)
    if read_manifest(folder / "again.toml") != dataset:
        raise FindingError("it does not come back as it was read")


def record(data: bytes, _folder: Path) -> None:
    """A stage's record, as it is and with the digests that it ought to carry."""
    for text in (data, *_signed(data, "record")):
        try:
            found = RECORDS.parse(text)
        except RecordDamagedError as error:
            check_refusal(error)
            continue
        if RECORDS.parse(RECORDS.dump(found)) != found:
            raise FindingError("it does not come back as it was read")
        # What `plan`, `show` and the results folder do with a record that was accepted.
        age(found.created)
        local_time(found.created)
        differences(found.document, _OTHER_DOCUMENT)
        differences(_OTHER_DOCUMENT, found.document)
        for name in found.outputs:
            if Path(f"figures/{name}.png").name != f"{name}.png":
                raise FindingError(f"the output {name!r} would leave the results folder")


def run(data: bytes, folder: Path) -> None:
    """A run's record, as it is and with the digest that it ought to carry."""
    os.environ["DIGITFLOW_STORE"] = str(folder)
    runs = LocalDocuments(RUNS, LocalBackend(folder))
    runs.root.mkdir(exist_ok=True)
    for text in (data, *_signed(data, "run")):
        runs.path(RUN).write_bytes(text)
        try:
            runs.load(RUN)
        except RecordDamagedError as error:
            check_refusal(error)
            continue
        for as_json in (False, True):
            with redirect_stdout(io.StringIO()):
                history.runs(json=as_json)
                history.show(RUN, json=as_json)
                history.diff(RUN, RUN, json=as_json)


def npy(data: bytes, folder: Path) -> None:
    """An array's file, and the bytes as header and data below a sound magic and length."""
    for variant in (data, _framed(data)):
        _artifact("npy", variant, folder)


def npz(data: bytes, folder: Path) -> None:
    """An archive, and the bytes as the only member of a sound one."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.npy", data)
    for variant in (data, archive.getvalue()):
        _artifact("npz", variant, folder)


def table(data: bytes, folder: Path) -> None:
    """A table with its types, and the bytes as what a sound archive says of its arrays."""
    for variant in (data, _with_schema(data, folder / "sound")):
        _artifact("table", variant, folder)


def csv(data: bytes, folder: Path) -> None:
    """A table for people."""
    _artifact("csv", data, folder)


def json_document(data: bytes, folder: Path) -> None:
    """A JSON document."""
    _artifact("json", data, folder)


def png(data: bytes, folder: Path) -> None:
    """A picture."""
    _artifact("png", data, folder)


def text(data: bytes, folder: Path) -> None:
    """A text."""
    _artifact("text", data, folder)


def unpacked(data: bytes, folder: Path) -> None:
    """A folder's archive, and the lines as names and contents of the files in a sound one."""
    lines = data.split(b"\n")
    archive = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(archive, "w") as file:
        warnings.simplefilter("ignore")  # of names that come twice
        for name, content in zip(lines[::2], lines[1::2], strict=False):
            file.writestr(zipfile.ZipInfo(name.decode(errors="replace")), content)
    for variant in (data, archive.getvalue()):
        inside = folder / "inside"
        inside.mkdir()
        _artifact("folder", variant, inside)
        if {each.name for each in folder.iterdir()} - {"inside", "sound", "artifact", "again"}:
            raise FindingError("something was written outside")
        shutil.rmtree(inside)


TARGETS: dict[str, Target] = {
    "idx": idx,
    "manifest": manifest,
    "record": record,
    "run": run,
    "npy": npy,
    "npz": npz,
    "table": table,
    "csv": csv,
    "json": json_document,
    "png": png,
    "text": text,
    "folder": unpacked,
}
JSON_TARGETS = ("record", "run", "table", "json")


def _artifact(format_name: str, data: bytes, folder: Path) -> None:
    file = folder / "artifact"
    file.write_bytes(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pandas warns of odd tables, and reads them
            value = read_artifact(format_name, file)
    except ArtifactError as error:
        check_refusal(error)
        return
    _check_value(format_name, value, data, folder)


def _check_value(format_name: str, value: Any, data: bytes, folder: Path) -> None:
    """Check what was read against the bytes, and that it survives being stored again."""
    arrays = {"npy": lambda: [value], "npz": lambda: list(value.values())}.get(format_name, list)()
    if any(array.dtype.hasobject for array in arrays):
        raise FindingError("it holds Python objects")
    if sum(array.nbytes for array in arrays) > len(data):
        raise FindingError("it holds more than the file")
    if format_name == "png" and value != data:
        raise FindingError("the picture is another")
    if format_name in ("npy", "npz"):
        write_artifact(format_name, folder / "again", value)
        again = read_artifact(format_name, folder / "again")
        others = [again] if format_name == "npy" else list(again.values())
        if [array.tobytes() for array in arrays] != [array.tobytes() for array in others]:
            raise FindingError("the arrays do not come back as they were read")
    if format_name == "json":
        json.dumps(value, allow_nan=False)
    if format_name == "text" and value.encode() != data:
        raise FindingError("the text is another")
    if format_name == "table":
        if len(value) and any(
            dtype.kind == "O" and dtype.name == "object" for dtype in value.dtypes
        ):
            raise FindingError("it holds Python objects")
        # An index that counts may be as long as it says, and takes no memory for that.
        if len(value) < LONGEST_INPUT:
            with suppress(ArtifactError):  # what we would not have written
                write_artifact("table", folder / "again", value)
    if format_name == "folder":
        _check_unpacked(value, data, folder)


def _check_unpacked(value: Path, data: bytes, folder: Path) -> None:
    if value.parent != folder or value.is_symlink() or not value.is_dir():
        raise FindingError(f"it was unpacked to {value}")
    found = {}
    for each in value.rglob("*"):
        if each.is_symlink():
            raise FindingError("it holds a link")
        if each.is_file():
            found[each.relative_to(value).as_posix()] = each.read_bytes()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [each for each in archive.infolist() if not each.is_dir()]
        if found != {each.filename: archive.read(each) for each in members}:
            raise FindingError("the folder holds something else than its archive")
    if sum(map(len, found.values())) > len(data):
        raise FindingError("it holds more than the file")
    write_artifact("folder", folder / "again", value)


def _signed(data: bytes, kind: str) -> Iterator[bytes]:
    """Yield the record with the digests that it would have to carry, if it is one at all."""
    with suppress(*_PARSE_ERRORS, TypeError, UnicodeError):
        body = json.loads(data)
        if isinstance(body, dict):
            body.pop("sha256", None)
            if kind == "record":
                body["key"] = digest_json(body.get("document"))
            else:
                body["name"] = RUN
            yield json.dumps({**body, "sha256": digest_json(body)}).encode()


def _with_schema(data: bytes, place: Path) -> bytes:
    """An archive of arrays of several kinds, with the bytes as its schema."""
    numbers = np.arange(3)
    arrays = (numbers, numbers / 2, numbers > 1, numbers.astype("datetime64[us]"), numbers - 1)
    named = {str(number): array for number, array in enumerate(arrays)}
    write_artifact("npz", place, {"schema": np.frombuffer(data or b" ", np.uint8), **named})
    return place.read_bytes()


def _framed(data: bytes) -> bytes:
    """The bytes up to the first line's end as the header of an array's file."""
    header, _, rest = data.partition(b"\n")
    return (
        np.lib.format.MAGIC_PREFIX
        + b"\x01\x00"
        + struct.pack("<H", len(header) + 1)
        + (header + b"\n" + rest)
    )


_OTHER_DOCUMENT = {
    "format": 1,
    "stage": "train",
    "code": {"tasks/stages/train.py": {"train": "0" * 64}},
    "parameters": {"epochs": 20},
    "inputs": {"training_images": "1" * 64},
}
