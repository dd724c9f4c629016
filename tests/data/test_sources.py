"""What the built-in datasets are, and how a directory becomes one."""

import dataclasses
import hashlib
from pathlib import Path

import pytest

from tasks.data.sources import (
    DATASETS,
    MNIST,
    ROLES,
    SAMPLE,
    Dataset,
    DatasetError,
    SourceFile,
    find,
    from_directory,
)

STEMS = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def fill(directory: Path, names: list[str]) -> Path:
    directory.mkdir(exist_ok=True)
    for name in names:
        (directory / name).write_bytes(name.encode())
    return directory


@pytest.mark.data
def test_mnist_as_published(mnist_directory):
    for file in MNIST.files:
        found = (mnist_directory / file.name).read_bytes()
        assert (file.size, file.sha256) == (len(found), hashlib.sha256(found).hexdigest())


def test_mnist_is_complete():
    assert tuple(file.role for file in MNIST.files) == ROLES
    assert tuple(file.name for file in MNIST.files) == tuple(f"{stem}.gz" for stem in STEMS)
    assert len({file.sha256 for file in MNIST.files}) == 4
    assert all(mirror.startswith("https://") for mirror in MNIST.mirrors)
    assert MNIST.class_names == tuple("0123456789")
    assert MNIST.title == "MNIST"


def test_sample_is_generated():
    assert find("sample") is SAMPLE
    assert SAMPLE.generated
    assert SAMPLE.files == ()


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_directory(tmp_path, ending):
    names = [stem + ending for stem in STEMS]
    dataset = from_directory(fill(tmp_path / "mine", names))
    assert dataset.name == dataset.title == "mine"
    assert dataset.mirrors == (str(tmp_path / "mine"),)
    assert not dataset.generated
    assert tuple(file.role for file in dataset.files) == ROLES
    for file, name in zip(dataset.files, names, strict=True):
        assert file.name == name
        assert file.sha256 == hashlib.sha256(name.encode()).hexdigest()
        assert file.size == len(name)


def test_dotted_names(tmp_path):
    names = [stem.replace("-idx", ".idx") for stem in STEMS]
    dataset = from_directory(fill(tmp_path, names))
    assert [file.name for file in dataset.files] == names


def test_gz_is_preferred_then_the_dash(tmp_path):
    dotted = [stem.replace("-idx", ".idx") for stem in STEMS]
    fill(tmp_path, [*STEMS, *dotted])
    assert [file.name for file in from_directory(tmp_path).files] == list(STEMS)
    fill(tmp_path, [f"{name}.gz" for name in dotted])
    assert [file.name for file in from_directory(tmp_path).files] == [f"{n}.gz" for n in dotted]


def test_missing_files_are_named(tmp_path):
    fill(tmp_path, ["train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte", "notes.txt"])
    with pytest.raises(DatasetError) as caught:
        from_directory(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: expected train-labels-idx1-ubyte, t10k-images-idx3-ubyte (or the same "
        f"with .gz), found notes.txt, t10k-labels-idx1-ubyte, train-images-idx3-ubyte.gz"
    )


def test_empty_and_crowded_directories(tmp_path):
    with pytest.raises(DatasetError, match="found an empty directory"):
        from_directory(tmp_path)
    fill(tmp_path, [f"{number:02}.txt" for number in range(20)])
    with pytest.raises(DatasetError, match="11.txt and 8 more$"):
        from_directory(tmp_path)


def test_not_a_directory(tmp_path):
    with pytest.raises(DatasetError, match="there is no such directory"):
        find(tmp_path / "none")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DatasetError, match="but it is a file"):
        find(tmp_path / "file")


def test_find_knows_names_and_directories(tmp_path, monkeypatch):
    assert find("mnist") is MNIST
    fill(tmp_path / "mnist", list(STEMS))
    monkeypatch.chdir(tmp_path)
    assert find("mnist") is MNIST  # the name wins
    assert find("./mnist").mirrors == (str(tmp_path / "mnist"),)
    (tmp_path / "mnist").rename("mine")
    assert find("mine").name == "mine"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find("~/mine").name == "mine"


@pytest.mark.parametrize(
    ("wanted", "hint"),
    [("mnits", "; did you mean 'mnist'?"), ("MNIST", "; did you mean 'mnist'?"), ("cifar", "")],
)
def test_unknown_name(wanted, hint):
    with pytest.raises(DatasetError) as caught:
        find(wanted)
    assert str(caught.value) == (
        f"unknown dataset {wanted!r}: expected 'mnist' or 'sample', "
        f"or a directory with the four IDX files{hint}"
    )


def test_empty_name_is_unknown():
    with pytest.raises(DatasetError, match="unknown dataset ''"):
        find("")


def test_file_by_role():
    assert MNIST.file("test_labels").name == "t10k-labels-idx1-ubyte.gz"
    with pytest.raises(DatasetError, match="no file for 'validation_images'"):
        MNIST.file("validation_images")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"role": "images"}, "expected a role out of training_images, "),
        ({"name": "../x"}, "expected a plain file name, found '../x'"),
        ({"sha256": "ABC"}, "expected a SHA-256 of 64 lower-case hex digits, found 'ABC'"),
        ({"size": -1}, "expected a size of 0 bytes or more, found -1"),
    ],
)
def test_wrong_descriptions_are_refused(change, text):
    right = {"role": "test_labels", "name": "x", "sha256": "0" * 64, "size": 1}
    SourceFile(**right)
    with pytest.raises(DatasetError, match=text):
        SourceFile(**{**right, **change})


def test_dataset_needs_each_role_once():
    with pytest.raises(DatasetError, match=r"found training_images, training_labels$"):
        dataclasses.replace(MNIST, files=MNIST.files[:2])
    with pytest.raises(DatasetError, match="expected files for training_images"):
        Dataset("x", (*MNIST.files[:3], MNIST.files[0]), (), (), "x")


def test_datasets_cannot_be_changed():
    with pytest.raises(TypeError):
        DATASETS["mine"] = MNIST  # type: ignore[index]
    with pytest.raises(dataclasses.FrozenInstanceError):
        MNIST.name = "x"  # type: ignore[misc]
