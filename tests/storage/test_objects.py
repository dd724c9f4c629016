import re
from collections.abc import Callable
from pathlib import Path

import pytest

from digitflow.storage.digests import digest_bytes
from digitflow.storage.errors import ObjectDamagedError, ObjectMissingError, StorageError
from digitflow.storage.objects import ObjectStore

Put = Callable[[bytes], str]
DATA = b"digits " * 1000


def overwrite(path: Path, data: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(data)


def test_an_object_lies_under_its_digest(objects: ObjectStore, put: Put):
    name = put(DATA)
    assert name == digest_bytes(DATA)
    assert objects.verify(name, len(DATA)) == objects.root / name[:2] / name[2:]
    assert objects.verify(name).read_bytes() == DATA
    assert list(objects) == [name]


def test_adding_moves_the_file_and_leaves_no_temporary_ones(objects: ObjectStore, put: Put):
    put(DATA)
    put(DATA)  # there already: the second file is swept
    assert not any((objects.root / "tmp").iterdir())


def test_an_object_cannot_be_edited_by_accident(objects: ObjectStore, put: Put):
    assert objects.path(put(DATA)).stat().st_mode & 0o777 == 0o444


def test_nothing_is_created_before_the_first_object(objects: ObjectStore):
    assert list(objects) == []
    assert not objects.holds("0" * 64)
    assert not objects.root.exists()


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda path: overwrite(path, DATA[:-1] + b"?"), id="flipped"),
        pytest.param(lambda path: overwrite(path, DATA[:-1]), id="truncated"),
        pytest.param(lambda path: overwrite(path, b""), id="emptied"),
        pytest.param(lambda path: overwrite(path, DATA + b"x"), id="grown"),
        pytest.param(lambda path: path.unlink(), id="deleted"),
        pytest.param(lambda path: (path.unlink(), path.mkdir()), id="folder"),
        pytest.param(
            lambda path: (path.unlink(), path.mkdir(), (path / "file").write_bytes(DATA)),
            id="full folder",
        ),
        pytest.param(lambda path: (path.unlink(), path.symlink_to("nowhere")), id="dead link"),
        pytest.param(lambda path: (path.unlink(), path.symlink_to(path.parent)), id="folder link"),
    ],
)
def test_adding_replaces_a_damaged_object(
    objects: ObjectStore, put: Put, damage: Callable[[Path], object]
):
    name = put(DATA)
    damage(objects.path(name))
    assert not objects.holds(name)
    with pytest.raises((ObjectDamagedError, ObjectMissingError)):
        objects.verify(name, len(DATA))
    assert put(DATA) == name
    assert objects.verify(name, len(DATA)).read_bytes() == DATA
    assert not objects.path(name).is_symlink()


def test_each_flipped_bit_is_noticed(objects: ObjectStore, put: Put):
    data = b"sixteen bytes..."
    name = put(data)
    path = objects.path(name)
    for place in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[place // 8] ^= 1 << place % 8
        overwrite(path, bytes(flipped))
        with pytest.raises(ObjectDamagedError):
            objects.verify(name)


def test_what_is_said_of_a_missing_object(objects: ObjectStore):
    name = "ab" * 32
    with pytest.raises(
        ObjectMissingError,
        match=re.escape(
            f"object abababababab… is missing: expected it at {objects.root / 'ab' / ('ab' * 31)}"
        ),
    ):
        objects.verify(name)


def test_what_is_said_of_damaged_objects(objects: ObjectStore, put: Put):
    name = put(DATA)
    path = objects.path(name)
    overwrite(path, b"x" * len(DATA))
    start = re.escape(f"object {name[:12]}… is damaged: ")
    with pytest.raises(ObjectDamagedError, match=start + ".*hash to"):
        objects.verify(name)
    overwrite(path, b"x")
    with pytest.raises(ObjectDamagedError, match=start + f"expected {len(DATA)} bytes, found 1 in"):
        objects.verify(name, len(DATA))
    path.unlink()
    path.mkdir()
    with pytest.raises(ObjectDamagedError, match=start + ".*cannot be read"):
        objects.verify(name)


def test_a_wrong_size_is_noticed_even_if_the_bytes_are_right(objects: ObjectStore, put: Put):
    with pytest.raises(ObjectDamagedError, match="expected 5 bytes, found 7000"):
        objects.verify(put(DATA), 5)


@pytest.mark.parametrize(
    "name",
    [
        "../../../../etc/passwd",
        "ab/../../../../etc/passwd",
        "/etc/passwd",
        "",
        "..",
        "A" * 64,
        "a" * 64 + "/../x",
        "a" * 63 + "\0",
    ],
)
def test_a_name_cannot_become_another_path(objects: ObjectStore, name: str):
    for ask in (objects.path, objects.verify, objects.holds):
        with pytest.raises(StorageError, match="expected a SHA-256 of 64 hexadecimal digits"):
            ask(name)


def test_a_file_in_place_of_a_fan_out_folder_is_a_missing_object(objects: ObjectStore):
    objects.root.mkdir()
    (objects.root / "ab").write_bytes(b"in the way")
    with pytest.raises(ObjectMissingError):
        objects.verify("ab" * 32)


def test_listing_skips_what_is_no_object(objects: ObjectStore, put: Put):
    names = sorted(put(bytes([number])) for number in range(20))
    (objects.root / "README").write_text("x")
    (objects.root / names[0][:2] / "notes.txt").write_text("x")
    (objects.root / "zz").mkdir()
    (objects.root / "zz" / ("0" * 62)).write_text("x")
    assert list(objects) == names
