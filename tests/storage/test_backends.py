"""What a backend promises: the same in a folder, on S3, and in memory."""

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from digitflow.storage.backends.base import Backend, TooLargeError
from digitflow.storage.backends.local import LocalBackend
from digitflow.storage.backends.remote import Remote
from digitflow.storage.digests import digest_bytes
from digitflow.storage.errors import StorageError
from tests.share.conftest import s3, s3_session  # noqa: F401 (fixtures)

PLACES = ["folder", "file", "memory", "s3"]


@pytest.fixture(params=PLACES)
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    if request.param == "folder":
        return LocalBackend(tmp_path / "store")
    if request.param == "file":
        return Remote((tmp_path / "store").as_uri())
    if request.param == "memory":
        return Remote("memory://tests")
    bucket = f"tests-{uuid.uuid4().hex[:12]}"
    request.getfixturevalue("s3").client().create_bucket(Bucket=bucket)
    return Remote(f"s3://{bucket}/store")


def test_what_was_written_is_read_listed_and_deleted(backend: Backend) -> None:
    assert backend.stat("runs/a.json") is None
    backend.write("runs/a.json", b"first")
    backend.write("runs/a.json", b"second")
    entry, data = backend.fetch("runs/a.json")
    assert (entry.name, entry.size, data) == ("runs/a.json", 6, b"second")
    assert backend.stat("runs/a.json") == entry
    assert backend.list("runs") == [entry]
    assert backend.digest("runs/a.json") == digest_bytes(b"second")
    backend.delete("runs/a.json")
    backend.delete("runs/a.json")
    assert backend.list("runs") == []
    for ask in (backend.read, backend.digest):
        with pytest.raises(FileNotFoundError):
            ask("runs/a.json")


def test_a_listing_is_of_one_depth_and_in_order(backend: Backend) -> None:
    for name in ("records/b/2", "records/a/1", "records/c"):
        backend.write(name, b"x")
    assert [entry.name for entry in backend.list("records", 2)] == ["records/a/1", "records/b/2"]
    assert [entry.name for entry in backend.list("records/a")] == ["records/a/1"]
    assert backend.list("nothing") == []


def test_a_listing_from_a_name_on_leaves_out_what_comes_before(backend: Backend) -> None:
    for name in ("log/0001.json", "log/0002.json", "log/0010.json", "logs/0003.json"):
        backend.write(name, b"x")
    after = [entry.name for entry in backend.list("log", after="log/0002")]
    assert after == ["log/0002.json", "log/0010.json"]
    assert backend.list("log", after="log/0011") == []


def test_the_second_create_is_refused(backend: Backend) -> None:
    assert backend.create("ledger/000001.json", b"first")
    assert not backend.create("ledger/000001.json", b"second")
    assert backend.read("ledger/000001.json") == b"first"
    assert [entry.name for entry in backend.list("ledger")] == ["ledger/000001.json"]


def test_of_many_creates_at_once_one_succeeds(backend: Backend) -> None:
    together = threading.Barrier(8)

    def create(number: int) -> bool:
        together.wait()
        return backend.create("ledger/000001.json", bytes([number]) * 1000)

    with ThreadPoolExecutor(8) as pool:
        created = list(pool.map(create, range(8)))
    assert created.count(True) == 1
    assert backend.read("ledger/000001.json") == bytes([created.index(True)]) * 1000


def test_where_there_are_no_hard_links_the_second_create_is_refused_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*paths: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("digitflow.storage.backends.local.os.link", no_links)
    backend = LocalBackend(tmp_path)
    assert backend.create("a", b"first")
    assert not backend.create("a", b"second")
    assert backend.read("a") == b"first"


def test_large_files_go_and_come_back(backend: Backend, tmp_path: Path) -> None:
    data = bytes(range(256)) * 100_000
    here, back = tmp_path / "here", tmp_path / "back"
    here.write_bytes(data)
    backend.upload(here, "objects/ab/cd")
    assert backend.digest("objects/ab/cd") == digest_bytes(data)
    backend.download("objects/ab/cd", back, len(data))
    assert back.read_bytes() == data
    with pytest.raises(FileNotFoundError):
        backend.download("objects/ab/ce", back, 1)


def test_empty_files_as_well(backend: Backend, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    backend.upload(empty, "objects/ab/cd")
    assert backend.read("objects/ab/cd") == b""
    backend.download("objects/ab/cd", tmp_path / "back", 0)
    assert (tmp_path / "back").read_bytes() == b""


def test_what_is_too_large_is_not_read(backend: Backend) -> None:
    backend.write("runs/a.json", b"x" * 101)
    assert backend.fetch("runs/a.json", 101)[1] == b"x" * 101
    with pytest.raises(TooLargeError, match="larger than 100 bytes"):
        backend.fetch("runs/a.json", 100)
    assert list(backend.fetch_many(["runs/a.json", "runs/b.json"])) == [
        backend.fetch("runs/a.json")
    ]


@pytest.mark.parametrize("name", ["", "a//b", "../a", "a/../b", "a/.", "a\\b", "/a", "a\0"])
def test_names_stay_below_the_place(backend: Backend, name: str) -> None:
    calls = (backend.stat, backend.read, backend.delete, backend.digest)
    for call in calls:
        with pytest.raises(StorageError, match="expected the name of something below the store"):
            call(name)
    for write in (backend.write, backend.create):
        with pytest.raises(StorageError, match="expected the name of something below the store"):
            write(name, b"x")


def test_a_folder_lists_what_lies_in_a_files_place(tmp_path: Path) -> None:
    (tmp_path / "runs" / "a.json").mkdir(parents=True)
    (tmp_path / "runs" / "b.json").symlink_to(tmp_path / "elsewhere")
    backend = LocalBackend(tmp_path)
    assert [entry.name for entry in backend.list("runs")] == ["runs/a.json", "runs/b.json"]
    for name in ("runs/a.json", "runs/b.json"):
        with pytest.raises(OSError, match="expected a regular file"):
            backend.read(name)
        backend.delete(name)
    assert backend.list("runs") == []
