"""Files made to do harm are refused: no code runs, no memory is taken, no path is left."""

import io
import json
import pickle
import struct
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from digitflow.storage.errors import ArtifactError
from digitflow.storage.formats.artifacts import FORMATS, read_artifact, write_artifact

GIGABYTES = 2**40
executed: list[str] = []


class Bomb:
    """Goes off when it is unpickled."""

    def __reduce__(self) -> Any:
        return executed.append, ("unpickled",)


@pytest.fixture(autouse=True)
def _nothing_is_executed() -> Iterator[None]:
    executed.clear()
    yield
    assert executed == []


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "hostile"


def npy(
    array: Any = None, *, header: dict[str, Any] | str | None = None, data: bytes = b""
) -> bytes:
    """Bytes of an .npy file, or of a header of one's own before some data."""
    buffer = io.BytesIO()
    if header is None:
        np.save(buffer, array, allow_pickle=True)
        return buffer.getvalue()
    text = (header if isinstance(header, str) else repr(header)).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def archive(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return buffer.getvalue()


def refuse(format_name: str, file: Path, data: bytes, says: str) -> None:
    file.write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(ArtifactError, match=says):
            read_artifact(format_name, file)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 32 * 2**20, f"{peak:,} bytes were allocated"


HEADER = {"descr": "<f8", "fortran_order": False, "shape": (2,)}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (pickle.dumps(Bomb()), "is not an .npy file"),
        (npy(np.array([Bomb()])), "names Python objects, which are never loaded"),
        (npy(header={**HEADER, "descr": "|O"}, data=pickle.dumps(Bomb())), "names Python objects"),
        (npy(header={**HEADER, "descr": [("a", "<f8"), ("b", "|O")]}), "names Python objects"),
        (npy(header={**HEADER, "shape": (GIGABYTES,)}, data=b"x" * 64), "declares .* found 64"),
        (npy(header={**HEADER, "shape": (GIGABYTES, 0)}, data=b"x" * 8), "declares 0 bytes"),
        (npy(header={**HEADER, "shape": (2**62, 4)}, data=b""), "declares .* found 0"),
        (npy(header={**HEADER, "shape": (-1, -2)}, data=b"x" * 16), "declares"),
        (npy(header={**HEADER, "shape": (1.0,)}, data=b"x" * 8), "not a readable npy"),
        (npy(header={**HEADER, "shape": "2"}, data=b"x" * 16), "not a readable npy"),
        (npy(header={**HEADER, "descr": "<f99"}, data=b"x" * 16), "not a readable npy"),
        (npy(header={**HEADER, "descr": "|V999999999"}, data=b"x"), "declares"),
        (npy(header="__import__('os').abort()"), "not a readable npy"),
        (npy(header="{" * 5000), "not a readable npy"),
        (npy(header="-" * 9000 + "1"), "not a readable npy"),
        (npy(header="9" * 9000), "not a readable npy"),
        (npy(header={**HEADER, "more": 1}, data=b"x" * 16), "not a readable npy"),
        (npy(np.eye(3))[:-1], "declares 72 bytes of data, found 71"),
        (npy(np.eye(3)) + b"x", "declares 72 bytes of data, found 73"),
        (npy(np.eye(3))[:20], "not a readable npy"),
        (b"\x93NUMPY", "not a readable npy"),
        (b"\x93NUMPY\x09\x00" + npy(np.eye(3))[8:], "declares a header of"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff", "header of 4,294,967,295 bytes"),
        (b"", "is not an .npy file"),
        (archive({"a.npy": npy(np.eye(2))}), "is not an .npy file"),
    ],
)  # fmt: skip
def test_arrays(file: Path, data: bytes, says: str):
    refuse("npy", file, data, says)
    if data:
        # The same file as a member of an archive.
        refuse(
            "npz",
            file,
            archive({"good.npy": npy(np.eye(2)), "bad.npy": data}),
            says.replace("npy a", "npz a").replace("readable npy", "readable npz"),
        )


def lying(data: bytes, size: int) -> bytes:
    """The archive with another uncompressed size of its only member, in both its headers."""
    patched = bytearray(data)
    central = data.rindex(b"PK\x01\x02")
    patched[central + 24 : central + 28] = struct.pack("<I", size)
    patched[22:26] = struct.pack("<I", size)
    return bytes(patched)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (archive({"bomb.npy": npy(np.zeros(10**6))}, zipfile.ZIP_DEFLATED), "declares more data"),
        (archive({"a.npy": npy(np.arange(9) ** 9)}, zipfile.ZIP_DEFLATED), "compressed|more data"),
        (archive({"a.npy": npy(np.arange(9) ** 9)}, zipfile.ZIP_LZMA), "compressed|more data"),
        (lying(archive({"a.npy": npy(np.eye(2))}), 2**31), "declares more data than it holds"),
        (lying(archive({"a.npy": npy(np.eye(2))}), 100), "not a readable npz|declares"),
        (archive({"a.npy": npy(np.eye(2))})[:-30], "not a readable npz"),
        (archive({"a.npy": npy(np.eye(2))}).replace(b"\x00\x00\xf0?", b"\x00\x00\xf1?"), "CRC"),
        (archive({"readme.txt": b"not an array"}), "is not an .npy file"),
        (archive({"folder/": b""}), "is not an .npy file"),
        (npy(np.eye(2)), "not a readable npz"),
        (pickle.dumps(Bomb()), "not a readable npz"),
        (b"PK\x03\x04", "not a readable npz"),
        (b"", "not a readable npz"),
    ],
)  # fmt: skip
def test_archives(file: Path, data: bytes, says: str):
    refuse("npz", file, data, says)


def test_an_encrypted_archive_asks_for_no_password(file: Path):
    data = bytearray(archive({"a.npy": npy(np.eye(2))}))
    data[6] |= 1
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    refuse("npz", file, bytes(data), "compressed or encrypted")


@pytest.mark.parametrize(
    "name", ["../../escaped.npy", "/tmp/escaped.npy", "..\\escaped.npy", "a/b.npy"]
)
def test_names_in_archives_are_names_only(tmp_path: Path, name: str):
    folder = tmp_path / "deep" / "deeper"
    folder.mkdir(parents=True)
    (folder / "file").write_bytes(archive({name: npy(np.eye(2))}))
    before = sorted(tmp_path.rglob("*"))
    arrays = read_artifact("npz", folder / "file")
    assert list(arrays) == [name.removesuffix(".npy")]
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 200_000,
        b'{"a":' * 200_000,
        b"9" * 10_000,
        b"{",
        b"\xff\xfe",
        b"",
        b"[1] [2]",
        b"NaN",
        b"[1e999]",
    ],
)
def test_documents(file: Path, data: bytes):
    refuse("json", file, data, "is not a readable json artifact")


@pytest.mark.parametrize("data", [b"", b"\xff\xfe\xfd", b'"open', b"a,b\n1,2,3\n4,5,6,7\n"])
def test_tables(file: Path, data: bytes):
    refuse("csv", file, data, "is not a readable csv artifact")


@pytest.mark.parametrize("data", [b"", b"\x89PN", b"GIF89a", b"<svg onload='alert(1)'>"])
def test_pictures(file: Path, data: bytes):
    refuse("png", file, data, "is not a PNG picture")


def test_a_folder_is_no_artifact(tmp_path: Path):
    for format_name in set(FORMATS) - {"file"}:
        with pytest.raises(ArtifactError):
            read_artifact(format_name, tmp_path)


def small_folder(folder: Path) -> Path:
    (folder / "inner").mkdir(parents=True, exist_ok=True)
    (folder / "inner" / "a").write_bytes(b"12345")
    return folder


def honest(format_name: str, file: Path) -> bytes:
    values: dict[str, Callable[[], Any]] = {
        "npy": lambda: np.arange(6.0).reshape(2, 3),
        "npz": lambda: {"a": np.arange(3), "b": np.zeros(2, "u1")},
        "json": lambda: {"a": [1, {"b": None}]},
        "table": lambda: pd.DataFrame(
            {"a": ["x", None], "b": pd.array([1, None]), "c": pd.Categorical(["u", "v"])},
            index=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)]),
        ),
        "folder": lambda: small_folder(file.with_name("shards")),
    }
    write_artifact(format_name, file, values[format_name]())
    return file.read_bytes()


@settings(max_examples=200)
@given(
    st.sampled_from(["npy", "npz", "json", "table", "folder"]),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=4),
    st.floats(0, 1),
)
def test_changed_bytes_raise_nothing_but_our_error(
    tmp_path: Path, format_name: str, changes: list[tuple[float, int]], cut: float
):
    file = tmp_path / "file"
    data = bytearray(honest(format_name, file))
    for place, value in changes:
        data[int(place * len(data))] = value
    if cut < 0.5:
        del data[int(cut * 2 * len(data)) :]
    file.write_bytes(data)
    try:
        read_artifact(format_name, file)
    except ArtifactError as error:
        assert str(file) in str(error)  # noqa: PT017 - or it is still readable


def test_json_of_the_fuzzer_is_what_it_seems(tmp_path: Path):
    assert json.loads(honest("json", tmp_path / "file")) == {"a": [1, {"b": None}]}
