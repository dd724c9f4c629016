"""Values come back as they went in, and equal values give equal bytes."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from digitflow.storage.digests import digest_file
from digitflow.storage.errors import ArtifactError
from digitflow.storage.formats.artifacts import (
    FORMATS,
    PNG_SIGNATURE,
    Artifact,
    read_artifact,
    write_artifact,
)

PNG = PNG_SIGNATURE + b"\0\0\0\rIHDR" + (640).to_bytes(4) + (480).to_bytes(4) + b"the rest"
REFERENCE = {"sha256": "a" * 64, "size": 7, "format": "npy", "details": {"shape": [7]}}

INTEGERS = ["u1", "i1", "u2", "i2", "<i4", ">i4", "i8", "u8"]
DTYPES = [*INTEGERS, "f2", "f4", "f8", ">f8", "c8", "c16", "?", "U3", "S3", "M8[D]", "m8[s]"]


def identical(one: Any, other: Any) -> bool:
    """Equal in shape, dtype and every bit: NaN is NaN, and -0.0 is not 0.0."""
    one, other = np.asarray(one), np.asarray(other)
    return (
        one.shape == other.shape and one.dtype == other.dtype and one.tobytes() == other.tobytes()
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "file"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (2, 0, 3), (2, 3, 4)])
def test_arrays_of_every_shape_and_dtype(file: Path, dtype: str, shape: tuple[int, ...]):
    array = np.arange(math.prod(shape)).reshape(shape).astype(np.dtype(dtype))
    details = write_artifact("npy", file, array)
    assert details == {"shape": list(shape), "dtype": str(array.dtype)}
    assert identical(read_artifact("npy", file), array)
    details = write_artifact("npz", file, {"file": array, "allow_pickle": array})
    assert details["arrays"]["file"] == {"shape": list(shape), "dtype": str(array.dtype)}
    back = read_artifact("npz", file)
    assert list(back) == ["file", "allow_pickle"]  # names that numpy.savez keeps to itself
    assert identical(back["file"], array)


@settings(max_examples=50)
@given(hnp.arrays(hnp.scalar_dtypes(), hnp.array_shapes(min_dims=0, max_side=4)))
def test_arrays_that_hypothesis_makes(tmp_path: Path, array: Any):
    for format_name, value in (("npy", array), ("npz", {"x": array})):
        write_artifact(format_name, tmp_path / "file", value)
        back = read_artifact(format_name, tmp_path / "file")
        assert identical(back if format_name == "npy" else back["x"], array)


def test_arrays_are_opened_as_read_only_memory_maps(file: Path):
    write_artifact("npy", file, np.arange(5))
    array = read_artifact("npy", file)
    assert isinstance(array, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1


@pytest.mark.parametrize(
    "lie",
    [
        np.asfortranarray,
        lambda array: np.repeat(array, 2, axis=1)[:, ::2],
        lambda array: array[::-1][::-1],
        lambda array: np.ascontiguousarray(array.T).T,
        lambda array: np.broadcast_to(array, array.shape),
    ],
)
def test_equal_arrays_give_equal_bytes_however_they_lie_in_memory(tmp_path: Path, lie: Any):
    array = np.arange(12.0).reshape(3, 4)
    for format_name, values in (
        ("npy", (array, lie(array))),
        ("npz", ({"x": array}, {"x": lie(array)})),
    ):
        for name, value in zip("ab", values, strict=True):
            write_artifact(format_name, tmp_path / name, value)
        assert digest_file(tmp_path / "a") == digest_file(tmp_path / "b")


def test_the_bytes_of_archives_are_those_of_numpy(tmp_path: Path):
    arrays = {"weights_1": np.ones((3, 2)), "weights_2": np.zeros(4, np.uint8)}
    write_artifact("npz", tmp_path / "ours", arrays)
    with (tmp_path / "theirs").open("wb") as theirs:
        np.savez(theirs, **arrays)
    assert digest_file(tmp_path / "ours") == digest_file(tmp_path / "theirs")


def test_another_process_on_another_day_writes_the_same_bytes(tmp_path: Path):
    script = (
        "import sys, time; from pathlib import Path; import numpy as np, pandas as pd\n"
        "time.localtime = lambda *now: time.gmtime(0)\n"
        "from digitflow.storage.formats.artifacts import write_artifact\n"
        "where = Path(sys.argv[1])\n"
        "write_artifact('npz', where / 'npz', {'a': np.eye(3), 'b': np.array('x')})\n"
        "write_artifact('npy', where / 'npy', np.eye(3))\n"
        "table = pd.DataFrame({'x': [0.1, 1 / 3], 'y': ['a', None]})\n"
        "write_artifact('csv', where / 'csv', table)\n"
        "write_artifact('json', where / 'json', dict([('b', 0.1), ('a', {'ä': [1, None]})]))\n"
    )
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir(), here.mkdir()
    subprocess.run(
        [sys.executable, "-c", script, there],
        check=True,
        env={"PYTHONHASHSEED": "1", "TZ": "Asia/Tokyo"},
        cwd=Path(__file__).parents[2],
    )
    write_artifact("npz", here / "npz", {"a": np.eye(3), "b": np.array("x")})
    write_artifact("npy", here / "npy", np.eye(3))
    write_artifact("csv", here / "csv", pd.DataFrame({"x": [0.1, 1 / 3], "y": ["a", None]}))
    write_artifact("json", here / "json", {"a": {"ä": [1, None]}, "b": 0.1})
    for name in ("npz", "npy", "csv", "json"):
        assert (here / name).read_bytes() == (there / name).read_bytes(), name


def test_tables(file: Path):
    table = pd.DataFrame(
        {
            "epoch": [0, 1, 2],
            "loss": [0.1 + 0.2, 1e-300, math.nan],
            "name": ["NA", "null", 'a "quoted", name\nin two lines'],
            "seed": [884736743, 2**63 - 1, -1],
        }
    )
    details = write_artifact("csv", file, table)
    assert details == {"columns": ["epoch", "loss", "name", "seed"], "rows": 3}
    pd.testing.assert_frame_equal(read_artifact("csv", file), table, check_exact=True)


@settings(max_examples=50)
@given(st.lists(st.floats(allow_infinity=True), min_size=1, max_size=20))
def test_every_number_of_a_table_comes_back_to_the_last_bit(tmp_path: Path, numbers: list[float]):
    write_artifact("csv", tmp_path / "file", pd.DataFrame({"x": numbers}))
    back = read_artifact("csv", tmp_path / "file")["x"].to_numpy(dtype=float)
    np.testing.assert_array_equal(back, numbers)


def test_documents(file: Path):
    document = {"b": [1, 2.5, None, True], "a": {"ä": "→", "": {}}, "big": 2**70}
    assert write_artifact("json", file, document) == {}
    assert read_artifact("json", file) == document
    assert json.loads(file.read_text(encoding="utf-8")) == document


def test_pictures(file: Path):
    assert write_artifact("png", file, PNG) == {"width": 640, "height": 480}
    assert read_artifact("png", file) == PNG


def test_a_file_of_the_stage_is_taken_over(tmp_path: Path, file: Path):
    own = tmp_path / "digits.gz"
    own.write_bytes(b"bytes")
    assert write_artifact("file", file, own) == {"name": "digits.gz"}
    assert not own.exists()
    assert read_artifact("file", file) == file
    assert file.read_bytes() == b"bytes"


@pytest.mark.parametrize(
    ("format_name", "value", "says"),
    [
        ("npy", np.array([object()]), "expected an array of numbers, found dtype object"),
        ("npy", np.array([1, "a", None]), "found dtype object"),
        ("npy", np.zeros(2, [("a", "i4"), ("b", "O")]), "found dtype"),
        ("npy", [[1, 2], [3]], "expected a value of the format npy, found list"),
        ("npz", {"good": np.eye(2), "bad": np.array([None])}, "expected 'bad' of numbers"),
        ("npz", [np.eye(2)], "expected a value of the format npz, found list"),
        ("npz", None, "expected a value of the format npz, found NoneType"),
        ("csv", {"a": [1]}, "expected a value of the format csv, found dict"),
        ("csv", pd.DataFrame(), "expected a table with columns"),
        ("json", {"x": math.nan}, "not JSON compliant"),
        ("json", {"x": np.float32(1)}, "float32 is not JSON serializable"),
        ("json", {1: "x"}, "expected strings as keys"),
        ("png", b"GIF89a", "expected the bytes of a PNG picture, found b'GIF89a'"),
        ("png", None, "expected the bytes of a PNG picture, found None"),
        ("file", "path.gz", "expected the path of a file, found 'path.gz'"),
        ("file", Path("nowhere"), "expected the path of a file"),
        (
            "pickle",
            1,
            "expected one of the formats npy, npz, table, .*, file, folder, found 'pickle'",
        ),
    ],
)
def test_values_that_do_not_fit_the_format(file: Path, format_name: str, value: Any, says: str):
    with pytest.raises(ArtifactError, match=says):
        write_artifact(format_name, file, value)


def test_folders_and_links_are_no_files(tmp_path: Path, file: Path):
    precious = tmp_path / "precious"
    precious.write_bytes(b"x")
    link = tmp_path / "link"
    link.symlink_to(precious)
    for value in (link, tmp_path):
        with pytest.raises(ArtifactError, match="expected the path of a file"):
            write_artifact("file", file, value)
    assert precious.read_bytes() == b"x"


def test_references_come_back():
    artifact = Artifact("a" * 64, 7, "npy", {"shape": [7]})
    assert artifact.to_json() == REFERENCE
    assert Artifact.from_json(json.loads(json.dumps(REFERENCE))) == artifact
    assert set(FORMATS) == {"npy", "npz", "table", "csv", "json", "png", "text", "file", "folder"}


@pytest.mark.parametrize(
    "change",
    [
        {"sha256": "../../etc/passwd"},
        {"sha256": None},
        {"size": -1},
        {"size": 1.5},
        {"size": True},
        {"size": "7"},
        {"format": "pickle"},
        {"format": ["npy"]},
        {"format": None},
        {"details": []},
        {"more": 1},
    ],
)
def test_references_that_are_none(change: dict[str, Any]):
    with pytest.raises(ArtifactError, match="expected a reference"):
        Artifact.from_json({**REFERENCE, **change})


@pytest.mark.parametrize("document", [None, [], "text", 1, {}])
def test_documents_that_are_no_references(document: Any):
    with pytest.raises(ArtifactError, match="expected a reference"):
        Artifact.from_json(document)
