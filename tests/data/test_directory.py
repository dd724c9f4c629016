"""Which file of a directory is which, and what is found out before any work starts."""

import gzip
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from digitflow.tasks.data.datasets.dataset import ROLES, DatasetError, Images
from digitflow.tasks.data.datasets.directory import STEMS, from_directory, role_of
from digitflow.tasks.data.idx import arrays as idx

USUAL = tuple(STEMS[role][0] for role in ROLES)
DOTTED = tuple(STEMS[role][1] for role in ROLES)


def content(role: str, *, count: int = 6, shape: tuple[int, ...] = (3, 5)) -> np.ndarray:
    if role.endswith("labels"):
        return (np.arange(count) % 3 + 1).astype(np.uint8)
    return np.full((count, *shape), 7, np.uint8)


def fill(folder: Path, names: tuple[str, ...] = USUAL, **arrays: np.ndarray) -> Path:
    """Write the four files under these names; some with contents of their own."""
    folder.mkdir(exist_ok=True)
    for role, name in zip(ROLES, names, strict=True):
        data = idx.encode(arrays.get(role, content(role)))
        (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return folder


def refusal(folder: Path, **options: object) -> str:
    with pytest.raises(DatasetError) as caught:
        from_directory(folder, **options)  # type: ignore[arg-type]
    return str(caught.value)


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_directory(tmp_path, ending):
    names = tuple(stem + ending for stem in USUAL)
    dataset = from_directory(fill(tmp_path / "mine", names))
    assert dataset.name == dataset.title == "mine"
    assert dataset.mirrors == (str(tmp_path / "mine"),)
    assert not dataset.generated
    assert dataset.labels == (1, 2, 3)
    assert dataset.class_names == ("1", "2", "3")
    assert dataset.images == Images(training=6, test=6, height=3, width=5)
    assert tuple(file.role for file in dataset.files) == ROLES
    for file, name in zip(dataset.files, names, strict=True):
        found = (tmp_path / "mine" / name).read_bytes()
        assert file.name == name
        assert (file.sha256, file.size) == (hashlib.sha256(found).hexdigest(), len(found))


def test_names_and_turning(tmp_path):
    dataset = from_directory(fill(tmp_path), class_names=("a", "b", "c"), transposed=True)
    assert dataset.class_names == ("a", "b", "c")
    assert dataset.transposed
    assert (dataset.images.height, dataset.images.width) == (5, 3)
    assert "expected 3 class names" in refusal(tmp_path, class_names=("a", "b"))


def test_changed_bytes_are_another_dataset(tmp_path):
    before = from_directory(fill(tmp_path))
    fill(tmp_path, test_labels=content("test_labels")[::-1])
    after = from_directory(tmp_path)
    assert before.files[:3] == after.files[:3]
    assert before.files[3] != after.files[3]


def test_gz_is_preferred_then_the_dash(tmp_path):
    for names in (USUAL, DOTTED):
        assert [file.name for file in from_directory(fill(tmp_path, DOTTED)).files]
        fill(tmp_path, names)
    assert [file.name for file in from_directory(tmp_path).files] == list(USUAL)
    zipped = tuple(f"{name}.gz" for name in DOTTED)
    fill(tmp_path, zipped)
    assert [file.name for file in from_directory(tmp_path).files] == list(zipped)


@pytest.mark.parametrize(
    "names",
    [
        DOTTED,
        tuple(f"emnist-letters-{name.replace('t10k', 'test')}.gz" for name in USUAL),
        tuple(f"digits.{name}" for name in USUAL),
        (
            "X_kannada_MNIST_train-idx3-ubyte.gz",
            "y_kannada_MNIST_train-idx1-ubyte.gz",
            "X_kannada_MNIST_test-idx3-ubyte.gz",
            "y_kannada_MNIST_test-idx1-ubyte.gz",
        ),
        ("training_images.idx", "training_labels.idx", "TEST_IMAGES.idx", "TEST_LABELS.idx"),
    ],
)
def test_names_that_say_what_they_are(tmp_path, names):
    fill(tmp_path, names)
    (tmp_path / "emnist-letters-mapping.txt").write_text("1 65 97")
    (tmp_path / "train-images.png").write_bytes(b"")
    assert [file.name for file in from_directory(tmp_path).files] == list(names)


@pytest.mark.parametrize(
    "name",
    ["train-images.png", "images-idx3-ubyte", "train-test-images-idx3-ubyte", "trained-idx3-ubyte"],
)
def test_names_that_do_not(name):
    assert role_of(name) is None


def test_unpacked_beside_packed_is_one_file(tmp_path):
    names = tuple(f"a-{name}" for name in USUAL)
    fill(tmp_path, names)
    fill(tmp_path, tuple(f"{name}.gz" for name in names))
    assert all(file.name.endswith(".gz") for file in from_directory(tmp_path).files)


def test_of_several_datasets_one_is_named(tmp_path):
    for name in ("balanced", "letters"):
        fill(tmp_path, tuple(f"emnist-{name}-{stem}" for stem in USUAL))
    assert refusal(tmp_path) == (
        f"{tmp_path}: expected one dataset, found emnist-balanced-train-images-idx3-ubyte, "
        "emnist-letters-train-images-idx3-ubyte; name one with "
        "`digitflow dataset add DIR --name NAME --prefix BEGINNING`"
    )
    dataset = from_directory(tmp_path, prefix="emnist-letters")
    assert {file.name.split("-")[1] for file in dataset.files} == {"letters"}
    assert "that start with 'emnist-digits'" in refusal(tmp_path, prefix="emnist-digits")


def test_missing_files_are_named(tmp_path):
    for name in ("train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte", "notes.txt"):
        (tmp_path / name).touch()
    assert refusal(tmp_path) == (
        f"{tmp_path}: expected train-labels-idx1-ubyte, t10k-images-idx3-ubyte (or the same "
        "with .gz, or something before it), found notes.txt, t10k-labels-idx1-ubyte, "
        "train-images-idx3-ubyte.gz"
    )


def test_empty_and_crowded_directories(tmp_path):
    assert refusal(tmp_path).endswith("found an empty directory")
    for number in range(20):
        (tmp_path / f"{number:02}.txt").touch()
    assert refusal(tmp_path).endswith("11.txt and 8 more")


def test_a_link_that_leads_nowhere_is_told_as_that(tmp_path):
    fill(tmp_path)
    for number, target in enumerate(("/gone/images", USUAL[1])):
        file = tmp_path / USUAL[number]
        file.unlink()
        file.symlink_to(target)
    (tmp_path / USUAL[2]).unlink()
    (tmp_path / USUAL[2]).mkdir()
    found = refusal(tmp_path).partition("found ")[2]
    assert f"{USUAL[0]} (a link to /gone/images, which is not there)" in found
    assert f"{USUAL[1]} (too many levels of symbolic links)" in found
    assert f"{USUAL[2]} (a directory)" in found
    assert f", {USUAL[3]}" in found


def test_what_is_no_directory_is_told_as_what_it_is(tmp_path):
    place = tmp_path / "place"
    expected = f"{place}: expected a directory with the four IDX files, but "
    assert refusal(place) == f"{expected}there is no such directory"
    place.symlink_to("/gone")
    assert refusal(place) == f"{expected}it is a link to /gone, which is not there"
    place.unlink()
    place.touch()
    assert refusal(place) == f"{expected}it is a file"


ANOTHER = content("test_labels")[::-1]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (USUAL[3], USUAL[3].replace("t10k", "test")),
        (USUAL[3], f"{USUAL[3]}.gz"),
        (USUAL[3], DOTTED[3]),
        (f"{USUAL[3]}.gz", "test_labels.idx"),
        ("TEST-LABELS.IDX", "test_labels.idx"),
    ],
)
def test_of_two_files_for_one_part_none_is_taken_silently(tmp_path, one, other):
    fill(tmp_path, (*USUAL[:3], one))
    fill(tmp_path, (*USUAL[:3], other), test_labels=ANOTHER)
    text = refusal(tmp_path)
    assert text.startswith(f"{tmp_path}: expected one file for each part, found ")
    assert one in text
    assert other in text
    assert text.endswith("which hold different data; move away the one that is not meant")
    # Of two that hold the same, either will do.
    fill(tmp_path, (*USUAL[:3], other))
    assert from_directory(tmp_path).labels == (1, 2, 3)


def test_of_two_that_hold_the_same_and_change_later(tmp_path):
    """What was compared once is not believed for ever."""
    fill(tmp_path)
    fill(tmp_path, DOTTED)
    from_directory(tmp_path)
    fill(tmp_path, DOTTED, test_labels=ANOTHER)
    assert "which hold different data" in refusal(tmp_path)


PAGE = b"\xef\xbb\xbf\n<!DOCTYPE html><html><body>Please log in</body></html>"


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("name", [USUAL[0], f"{USUAL[0]}.gz"])
@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (PAGE, "found an HTML page, as a server sends it in place of a file"),
        (b"<!-- proxy -->\n<HTML><head>", "found an HTML page"),
        (b"<?xml version='1.0'?><Error><Code>NoSuchKey", "found an XML document"),
        (b"<?xml version='1.0'?><!DOCTYPE html PUBLIC '-//W3C'><html>", "found an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1", "found a pointer of Git LFS"),
        (b"PK\x03\x04rest", "found a ZIP archive; unpack it"),
        (b"\x93NUMPY\x01", "found a NumPy array"),
        (b"\x89PNG", "found 89 50"),
        (b"{}", "found 7b 7d"),
    ],
)
def test_what_is_no_idx_file_is_told_as_what_it_is(tmp_path, name, zipped, data, kind):
    fill(tmp_path)
    (tmp_path / USUAL[0]).unlink()
    (tmp_path / name).write_bytes(gzip.compress(data) if zipped else data)
    text = refusal(tmp_path)
    assert f"{tmp_path}: {name}: expected an IDX file, which begins with the bytes 00 00" in text
    assert kind in text


def test_a_pipe_is_no_file(tmp_path):
    fill(tmp_path)
    (tmp_path / USUAL[0]).unlink()
    os.mkfifo(tmp_path / USUAL[0])
    assert "expected train-images-idx3-ubyte (or" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("role", "array", "text"),
    [
        ("training_images", content("i", shape=(15,)), "expected grey images of shape"),
        ("test_images", content("i", shape=(3, 5, 3)), r"found shape \(6, 3, 5, 3\)"),
        ("training_images", content("i").astype(np.float32), "found float32; scale them"),
        ("test_images", content("i").astype(np.int16), "found int16; scale them to that"),
        ("test_images", content("i", shape=(4, 5)), "of one size, found 3 x 5 and 4 x 5 pixels"),
        ("test_images", content("i", count=5), "as many labels as images, found 5 in t10k-images"),
        ("test_images", content("i", count=0), r"expected at least one image, found shape \(0,"),
        ("test_images", content("i", shape=(0, 5)), "expected at least one image"),
        ("test_labels", content("labels").astype(np.float64), "one integer label for each image"),
        ("test_labels", np.zeros((6, 8), np.int32), r"found int32 of shape \(6, 8\)"),
        ("test_labels", content("labels")[:5], "found 6 in t10k-images-idx3-ubyte and 5 in t10k-l"),
    ],
)
def test_what_does_not_fit_is_refused_before_any_work(tmp_path, role, array, text):
    fill(tmp_path, **{role: array})
    with pytest.raises(DatasetError, match=text):
        from_directory(tmp_path)


def test_one_class_is_none(tmp_path):
    same = np.full(6, 4, np.uint8)
    fill(tmp_path, training_labels=same, test_labels=same)
    assert "expected labels of 2 to 1,000 classes, found 1 (4)" in refusal(tmp_path)


def test_labels_of_too_many_values(tmp_path):
    many = np.arange(1001, dtype=np.int32)
    fill(tmp_path, training_images=content("i", count=1001), training_labels=many)
    assert "expected labels of at most 1,000 different values, found more" in refusal(tmp_path)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.int32])
def test_labels_of_every_integer_type(tmp_path, dtype):
    limits = np.iinfo(dtype)
    values = np.array([limits.min, limits.max, 3, limits.max, 3, 3], dtype)
    fill(tmp_path, training_labels=values, test_labels=np.array([5, 3] * 3, dtype))
    assert from_directory(tmp_path).labels == (limits.min, 3, 5, limits.max)


@pytest.mark.parametrize("zipped", [False, True])
def test_a_file_of_labels_that_breaks_off(tmp_path, zipped):
    data = idx.encode(content("labels"))[:-2]
    fill(tmp_path)
    (tmp_path / USUAL[1]).write_bytes(gzip.compress(data) if zipped else data)
    assert "expected 6 bytes of data, found 4; the file is not complete" in refusal(tmp_path)


def test_more_labels_than_a_chunk(tmp_path):
    count = 700_000
    labels = np.zeros(count, np.int16)
    labels[-1] = 9
    images = np.zeros((count, 1, 1), np.uint8)
    fill(tmp_path, training_labels=labels, training_images=images,
         test_images=content("i", shape=(1, 1)))  # fmt: skip
    assert from_directory(tmp_path).labels == (0, 1, 2, 3, 9)
