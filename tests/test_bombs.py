"""Small files that declare or unfold to much are refused with a sentence, in little memory."""

import gzip
import hashlib
import io
import json
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from digitflow.storage.digests import digest_json
from digitflow.storage.errors import ArtifactError, RecordDamagedError
from digitflow.storage.formats.artifacts import read_artifact
from digitflow.storage.store import Store
from digitflow.tasks.data.datasets.dataset import DatasetError
from digitflow.tasks.data.datasets.manifest import read_manifest
from digitflow.tasks.data.idx.arrays import IdxError, decode
from digitflow.tasks.data.pictures import files
from digitflow.tasks.data.pictures.files import PictureError, decode_picture
from digitflow.tasks.nn.training.checkpoints import CheckpointFolder
from digitflow.tasks.parameters import ParameterError, read_preset
from digitflow.tasks.reporting.results import ResultsFolderError, check_results_folder

MOST = 48 * 2**20


def refused(kind: type[Exception], read: Callable[[], object], says: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(kind, match=says):
            read()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < MOST, f"{peak:,} bytes were taken"


TOML_BOMBS = {
    "a million lines": ("".join(f"k{i} = {i}\n" for i in range(10**6)), "at most"),
    "a class a line": ("class_names = [\n" + '"x",\n' * 10**6 + "]\n", "at most"),
    "deep lists": ("a = " + "[" * 400_000, "levels deep|Unclosed|Invalid"),
    "deep tables": ("a = " + "{a=" * 100_000, "levels deep"),
    "a long number": ("a = " + "9" * 200_000, "digits"),
    "no text": ("\udcff", "utf-8|codec"),
}


@pytest.mark.parametrize("bomb", TOML_BOMBS)
def test_toml(tmp_path: Path, bomb: str) -> None:
    text, says = TOML_BOMBS[bomb]
    path = tmp_path / "bomb.toml"
    path.write_bytes(text.encode(errors="surrogateescape"))
    refused(DatasetError, lambda: read_manifest(path), says)
    refused(ParameterError, lambda: read_preset(str(path)), says)


def test_idx_in_gzip(tmp_path: Path) -> None:
    """A gigabyte of zeros in a megabyte, honestly declared and not."""
    header = struct.pack(">HBBI", 0, 8, 1, 2**30)
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(header + bytes(2**20)))
    refused(IdxError, lambda: decode(path, name="bomb"), "bomb: ")
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(struct.pack(">HBBI", 0, 8, 1, 10))
        for _ in range(64):
            file.write(bytes(2**20))
    refused(IdxError, lambda: decode(path, name="bomb"), "bomb: expected")


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in parts)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (png(60_000, 60_000), "at most 64,000,000 pixels"),
        (png(2**31 - 1, 2**31 - 1), "at most 64,000,000 pixels|damaged"),
        (png(9, 9, (b"zTXt", b"a\0\0" + zlib.compress(bytes(2**26)))), "damaged"),
        (png(9, 9, (b"iCCP", b"a\0\0" + zlib.compress(bytes(2**26)))), "damaged"),
    ],
)
def test_png(tmp_path: Path, data: bytes, says: str) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(data)
    refused(PictureError, lambda: decode_picture(path, "bomb.png"), says)


@pytest.mark.parametrize("form", ["TIFF", "ICO", "PPM", "TGA", "PCX", "ICNS", "JPEG2000", "EPS"])
def test_no_other_decoder_of_pillow_is_asked(tmp_path: Path, form: str) -> None:
    assert form not in files.FORMATS
    path = tmp_path / "picture.png"  # whatever it is called
    try:
        Image.new("RGB", (16, 16)).save(path, form)
    except (KeyError, OSError):
        pytest.skip(f"this Pillow writes no {form}")
    refused(PictureError, lambda: decode_picture(path, "picture.png"), "another kind")


def npy(shape: tuple[int, ...]) -> bytes:
    header = repr({"descr": "<f8", "fortran_order": False, "shape": shape}).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


def npz(*, compressed: bool, data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED if compressed else 0) as archive:
        archive.writestr("a.npy", data)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        npz(compressed=False, data=npy((2**27,)) + bytes(64)),
        npz(compressed=True, data=npy((2**23,)) + bytes(2**26)),
    ],
    ids=["declared", "compressed"],
)
def test_npz(tmp_path: Path, data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "bomb.npz"
    path.write_bytes(data)
    refused(ArtifactError, lambda: read_artifact("npz", path), "declares|compressed")
    # A checkpoint is what a killed training left, under a name that promises its bytes.
    checkpoints = CheckpointFolder(tmp_path, "ab" * 32)
    (
        checkpoints._folder / f"{checkpoints._prefix}000001-{hashlib.sha256(data).hexdigest()}.npz"
    ).write_bytes(data)
    tracemalloc.start()
    assert checkpoints.load(at_most=5) is None
    assert tracemalloc.get_traced_memory()[1] < MOST
    tracemalloc.stop()
    assert "declares more data" in caplog.text


def test_json(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes(b"[" * 2**21)
    refused(ResultsFolderError, lambda: check_results_folder(tmp_path), "which no run wrote")
    store = Store(tmp_path / "store")
    (store.root / "runs").mkdir(parents=True)
    (store.root / "runs" / "big.json").write_bytes(b" " * 2**26)
    refused(RecordDamagedError, lambda: store.runs.load("big"), "larger than")
    deep = {"sha256": digest_json([])}
    (store.root / "runs" / "deep.json").write_text(json.dumps(deep)[:-1] + ', "a": ' + "[" * 10**6)
    refused(RecordDamagedError, lambda: store.runs.load("deep"), "damaged")


def test_an_array_of_pictures(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npy"
    path.write_bytes(npy((2**40,)))
    refused(PictureError, lambda: files.read_arrays(path, "bomb.npy", (28, 28)), "sound .npy")
    np.save(path, np.zeros((2, 28, 28), np.uint8))
    assert len(files.read_arrays(path, "bomb.npy", (28, 28))[0]) == 2
