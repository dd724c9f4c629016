"""Folders of files as outputs: verified like the others, and nothing leads out of them."""

import io
import os
import shutil
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from digitflow.storage.digests import digest_file
from digitflow.storage.errors import ArtifactError, ObjectDamagedError
from digitflow.storage.formats.artifacts import read_artifact, write_artifact
from digitflow.storage.keys import StageKey
from digitflow.storage.store import Store
from digitflow.storage.upkeep.gc import sweep

FILES = {"b.txt": b"second", "a/deep/x.bin": bytes(300), "a/ü →.txt": b"", "empty/": None}


def fill(folder: Path, files: Mapping[str, bytes | None] = FILES) -> Path:
    folder.mkdir(parents=True)
    for name, data in files.items():
        place = folder / name
        if data is None:
            place.mkdir(parents=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
    return folder


def contents(folder: Path) -> dict[str, bytes | None]:
    return {
        each.relative_to(folder).as_posix() + ("/" if each.is_dir() else ""): (
            None if each.is_dir() else each.read_bytes()
        )
        for each in folder.rglob("*")
        if each.is_file() or not any(each.iterdir())
    }


def obtain(store: Store, files: Mapping[str, bytes | None] = FILES) -> Any:
    def compute(scratch: Path) -> Mapping[str, Any]:
        return {"shards": fill(scratch / "shards", files)}

    formats = {"shards": "folder"}
    return store.cache.obtain(
        StageKey("split", {}, {}, {}), "split", compute, formats, run="r"
    ).record.outputs["shards"]


def test_a_folder_comes_back_with_its_names_and_bytes(tmp_path: Path):
    store = Store(tmp_path / "store")
    artifact = obtain(store)
    assert artifact.details == {"name": "shards", "files": 3}
    back = store.read(artifact)
    assert contents(back) == FILES
    assert store.read(artifact) == back  # unpacked once
    with pytest.raises(PermissionError) if os.getuid() else pytest.raises(AssertionError):
        (back / "b.txt").open("ab").close()
        raise AssertionError


def test_equal_folders_are_one_object(tmp_path: Path):
    fill(tmp_path / "one")
    fill(tmp_path / "two", dict(reversed(FILES.items())))
    os.utime(tmp_path / "two" / "b.txt", (0, 0))
    for name in ("one", "two"):
        write_artifact("folder", tmp_path / f"{name}.zip", tmp_path / name)
    assert digest_file(tmp_path / "one.zip") == digest_file(tmp_path / "two.zip")


def test_an_empty_folder(tmp_path: Path):
    store = Store(tmp_path / "store")
    assert contents(store.read(obtain(store, {}))) == {}


def test_what_somebody_did_to_the_unpacked_folder_is_undone(tmp_path: Path):
    store = Store(tmp_path / "store")
    artifact = obtain(store)
    for harm in (
        lambda folder: (folder / "more").write_bytes(b""),
        lambda folder: (folder / "b.txt").unlink(),
        lambda folder: shutil.rmtree(folder / "empty"),
        lambda folder: ((folder / "b.txt").unlink(), (folder / "b.txt").write_bytes(b"sEcond")),
        lambda folder: ((folder / "b.txt").unlink(), (folder / "b.txt").symlink_to("/etc/passwd")),
        lambda folder: (shutil.rmtree(folder), folder.symlink_to(tmp_path)),
        lambda folder: (shutil.rmtree(folder), folder.write_bytes(b"a file")),
    ):
        harm(store.read(artifact))
        assert contents(store.read(artifact)) == FILES
    assert (tmp_path / "store").is_dir()


def test_a_damaged_object_is_not_unpacked(tmp_path: Path):
    store = Store(tmp_path / "store")
    artifact = obtain(store)
    path = store.objects.path(artifact.sha256)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b"second", b"sEcond"))
    with pytest.raises(ObjectDamagedError):
        store.read(artifact)


def test_an_unpacked_folder_is_swept_when_it_is_old(tmp_path: Path):
    store = Store(tmp_path / "store")
    back = store.read(obtain(store))
    sweep(store, 0)
    assert back.is_dir()
    for each in [back, *back.rglob("*")]:
        os.utime(each, (0, 0))
    sweep(store, 1)
    assert not back.exists()


def link(folder: Path) -> None:
    (folder / "a").mkdir()
    (folder / "a" / "link").symlink_to("/etc/passwd")


def link_to_folder(folder: Path) -> None:
    (folder / "link").symlink_to(folder.parent)


def pipe(folder: Path) -> None:
    os.mkfifo(folder / "pipe")


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (link, "'a/link': expected a file or a folder, found a link"),
        (link_to_folder, "'link': expected a file or a folder, found a link"),
        (pipe, "'pipe': expected a file or a folder, found no regular file"),
        (lambda folder: (folder / "a\\..\\b").write_bytes(b""), "without backslashes"),
        (lambda folder: (folder / os.fsdecode(b"\xff")).write_bytes(b""), "a name in UTF-8"),
    ],
)
def test_what_is_no_plain_file_is_refused_by_its_name(tmp_path: Path, harm: Any, says: str):
    folder = fill(tmp_path / "folder", {"fine": b""})
    harm(folder)
    with pytest.raises(ArtifactError, match=says.replace("\\", "\\\\")):
        write_artifact("folder", tmp_path / "file", folder)


def test_folders_from_elsewhere_are_refused(tmp_path: Path):
    store = Store(tmp_path / "store")
    elsewhere = fill(tmp_path / "elsewhere")

    def attempt(make: Any) -> None:
        def compute(scratch: Path) -> Mapping[str, Any]:
            return {"x": make(scratch)}

        key = StageKey("split", {}, {}, {})
        store.cache.obtain(key, "split", compute, {"x": "folder"}, run="r")

    def linked(scratch: Path) -> Path:
        (scratch / "link").symlink_to(elsewhere)
        return scratch / "link"

    def linked_inside(scratch: Path) -> Path:
        fill(scratch / "mine")
        (scratch / "alias").symlink_to(scratch / "mine")
        return scratch / "alias"

    for make in (lambda _: elsewhere, lambda scratch: scratch / "..", lambda _: None, linked):
        with pytest.raises(ArtifactError, match="x of split: expected a folder in the stage's"):
            attempt(make)
    for make in (linked_inside, lambda scratch: scratch / "nowhere"):
        with pytest.raises(ArtifactError, match="x of split: expected the path of a folder"):
            attempt(make)
    assert contents(elsewhere) == FILES


def archive(*members: tuple[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", compression) as file:
        warnings.simplefilter("ignore")  # of names that occur twice
        for name, data in members:
            file.writestr(zipfile.ZipInfo(name), data, compression)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        archive(("../escaped", b"x")),
        archive(("a/../../escaped", b"x")),
        archive(("/escaped", b"x")),
        archive(("a//b", b"x")),
        archive(("./a", b"x")),
        archive(("a\\..\\b", b"x")),
        archive(("C:escaped", b"x")),
        archive(("../", b"")),
        archive(("a", b"x"), ("a", b"y")),
        archive(("a", b"x"), ("a/b", b"y")),
        archive(("a/", b""), ("a/b", b"y")),
        archive(("a/b", b"x"), ("a", b"y")),
        archive(("a", bytes(10**6)), compression=zipfile.ZIP_DEFLATED),
        b"PK\x03\x04",
        b"",
    ],
)
def test_archives_that_others_made_lead_nowhere(tmp_path: Path, data: bytes):
    place = tmp_path / "in" / "here"
    place.mkdir(parents=True)
    (place / "file").write_bytes(data)
    with pytest.raises(ArtifactError):
        read_artifact("folder", place / "file", place / "scratch")
    assert {each.name for each in tmp_path.rglob("*")} <= {"in", "here", "file", "scratch"}
