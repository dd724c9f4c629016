"""Which file holds an array; and such files become objects without being copied."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from digitflow.storage.formats.arrays import write_npy
from digitflow.storage.formats.artifacts import Artifact
from digitflow.storage.formats.mapped import file_of, pieces
from digitflow.storage.keys import StageKey
from digitflow.storage.objects import ObjectStore
from digitflow.storage.store import Store
from tests.mnist import ROOT

ARRAY = np.arange(24, dtype=np.int16).reshape(4, 3, 2)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    np.save(tmp_path / "x.npy", ARRAY)
    return tmp_path / "x.npy"


def opened(file: Path, mode: Any = "r") -> np.memmap[Any, Any]:
    mapped: np.memmap[Any, Any] = np.load(file, mmap_mode=mode)
    return mapped


class TestFile:
    @pytest.mark.parametrize("view", [lambda x: x, lambda x: x[:4], lambda x: x[:].view()])
    def test_of_a_map_and_of_views_of_all_of_it(self, file: Path, view: Callable[[Any], Any]):
        assert file_of(view(opened(file))) == file

    @pytest.mark.parametrize(
        "other",
        [
            lambda x: x[:3],
            lambda x: x[1:],
            lambda x: x[::-1],
            lambda x: x.T,
            lambda x: x.reshape(12, 2),  # the same data under another header
            lambda x: x.view(np.uint16),
            lambda x: x + 0,
            lambda x: x[[0, 1, 2, 3]],
            lambda x: np.asarray(x),
            lambda x: x.copy(),
            lambda x: [1, 2],
        ],
    )
    def test_of_nothing_else(self, file: Path, other: Callable[[Any], Any]):
        assert file_of(other(opened(file))) is None

    def test_of_what_was_written_through_the_map(self, tmp_path: Path):
        mapped = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float64, (5,))
        mapped[:] = 2
        assert file_of(mapped) == tmp_path / "x.npy"
        assert np.load(tmp_path / "x.npy").tolist() == [2] * 5

    def test_not_of_a_map_whose_changes_stay_in_memory(self, file: Path):
        assert file_of(opened(file, "c")) is None

    def test_not_of_a_file_that_numpy_would_write_otherwise(self, tmp_path: Path):
        with (tmp_path / "two.npy").open("wb") as stream:
            np.lib.format.write_array(stream, ARRAY, version=(2, 0))
        np.save(tmp_path / "fortran.npy", np.asfortranarray(ARRAY))
        (tmp_path / "raw").write_bytes(bytes(128) + ARRAY.tobytes())
        raw = np.memmap(tmp_path / "raw", np.int16, "r", 128, ARRAY.shape)
        for mapped in (opened(tmp_path / "two.npy"), opened(tmp_path / "fortran.npy"), raw):
            assert file_of(mapped) is None

    def test_not_of_a_file_that_is_gone_or_longer(self, file: Path):
        mapped = opened(file)
        with file.open("ab") as stream:
            stream.write(b"more")
        assert file_of(mapped) is None
        file.unlink()
        assert file_of(mapped) is None


class TestPieces:
    @pytest.fixture(autouse=True)
    def _small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("digitflow.storage.formats.mapped._PIECE", 20)  # a row has 12 bytes

    @pytest.mark.parametrize("mode", ["r", "r+", "c", None])
    def test_are_all_rows(self, file: Path, mode: str | None):
        array = np.load(file, mmap_mode=mode)
        found = list(pieces(array))
        assert len(found) == 4
        np.testing.assert_array_equal(np.concatenate(found), ARRAY)

    def test_of_no_rows(self):
        assert list(pieces(np.empty((0, 3)))) == []

    def test_what_was_changed_in_a_copy_is_not_lost(self, file: Path):
        changed = opened(file, "c")
        changed[0] = 7
        assert [int(each[0, 0, 0]) for each in pieces(changed)] == [7, 6, 12, 18]
        assert changed[0, 0, 0] == 7

    @pytest.mark.parametrize("dtype", [">i4", "f8", "M8[s]", "?"])
    @pytest.mark.parametrize("rows", [slice(None), slice(1), slice(2, None), slice(0)])
    def test_are_written_as_numpy_would(self, tmp_path: Path, dtype: str, rows: slice):
        np.save(tmp_path / "x.npy", ARRAY.astype(dtype))
        part = opened(tmp_path / "x.npy")[rows]
        write_npy(tmp_path / "y.npy", part)
        np.save(tmp_path / "z.npy", np.array(part))
        assert (tmp_path / "y.npy").read_bytes() == (tmp_path / "z.npy").read_bytes()

    @pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
    def test_writing_a_large_part_takes_no_memory(self, tmp_path: Path):
        script = """
import sys
from pathlib import Path
import numpy as np
from digitflow.storage.formats.arrays import write_npy
place = Path(sys.argv[1])
np.lib.format.open_memmap(place / "x.npy", "w+", np.uint8, (200_000, 784))

def peak():
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))

before = peak()
write_npy(place / "y.npy", np.load(place / "x.npy", mmap_mode="r")[1:])
print((peak() - before) // 1024)
"""
        command = [sys.executable, "-c", script, str(tmp_path)]
        done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
        assert int(done.stdout) < 40  # MB; it has 157


class TestObjects:
    """Of what stages return: how it becomes an object."""

    @pytest.fixture
    def plain(self, store: Store) -> Artifact:
        """What an array in memory becomes."""
        return obtain(store, "plain", lambda scratch: {"array": ARRAY})

    def test_a_file_in_the_scratch_folder_is_moved(self, store: Store, plain: Artifact):
        inode = 0

        def compute(scratch: Path) -> dict[str, Any]:
            nonlocal inode
            np.save(scratch / "x.npy", ARRAY)
            inode = (scratch / "x.npy").stat().st_ino
            return {"array": opened(scratch / "x.npy")}

        store.objects.path(plain.sha256).unlink()
        made = obtain(store, "moved", compute)
        path = store.objects.path(made.sha256)
        assert (made, made.details) == (plain, plain.details)
        assert (path.stat().st_ino, path.stat().st_mode & 0o777) == (inode, 0o444)
        np.testing.assert_array_equal(store.read(made), ARRAY)

    def test_an_object_is_kept_and_counts_as_used(
        self, store: Store, plain: Artifact, monkeypatch: pytest.MonkeyPatch
    ):
        path = store.objects.path(plain.sha256)
        os.utime(path, (1000, 1000))
        inode = path.stat().st_ino
        monkeypatch.setattr(ObjectStore, "add", lambda *_: pytest.fail("it was written again"))
        made = obtain(store, "kept", lambda scratch: {"array": store.read(plain)[:4]})
        assert (made, made.details) == (plain, plain.details)
        assert path.stat().st_ino == inode
        assert path.stat().st_mtime > 1000

    @pytest.mark.parametrize("harm", ["damaged", "swept"])
    def test_an_object_that_is_lost_meanwhile_is_written_again(
        self, store: Store, plain: Artifact, harm: str
    ):
        path = store.objects.path(plain.sha256)

        def compute(scratch: Path) -> dict[str, Any]:
            mapped = store.read(plain)
            # What is mapped keeps its bytes; in its place there is another file, or none.
            path.unlink()
            if harm == "damaged":
                path.write_bytes(bytes(plain.size))
            return {"array": mapped}

        made = obtain(store, "kept", compute)
        assert made == plain
        np.testing.assert_array_equal(store.read(made), ARRAY)

    def test_a_link_out_of_the_scratch_folder_is_not_followed(
        self, store: Store, plain: Artifact, file: Path
    ):
        def compute(scratch: Path) -> dict[str, Any]:
            (scratch / "x.npy").symlink_to(file)
            return {"array": opened(scratch / "x.npy")}

        store.objects.path(plain.sha256).unlink()
        assert obtain(store, "linked", compute) == plain
        assert file.exists()
        assert not store.objects.path(plain.sha256).is_symlink()

    def test_a_file_from_elsewhere_is_copied(self, store: Store, plain: Artifact, file: Path):
        store.objects.path(plain.sha256).unlink()
        made = obtain(store, "copied", lambda scratch: {"array": opened(file)})
        assert made == plain
        assert file.stat().st_ino != store.objects.path(made.sha256).stat().st_ino
        assert file.stat().st_mode & 0o200


def obtain(store: Store, stage: str, compute: Callable[[Path], Mapping[str, Any]]) -> Artifact:
    key = StageKey(stage, {"steps.py": {stage: "1"}}, {}, {})
    return store.cache.obtain(key, stage, compute, {"array": "npy"}, run="first").record.outputs[
        "array"
    ]
