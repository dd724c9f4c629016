"""Which datasets there are, and how a word becomes one of them."""

import dataclasses
import hashlib
import os
from pathlib import Path

import pytest

from digitflow.tasks.data.datasets.manifest import write_manifest
from digitflow.tasks.data.datasets.sources import (
    DATASETS,
    ROLES,
    DatasetError,
    added,
    find,
    from_directory,
)
from tests.walk import write_dataset

MNIST = DATASETS["mnist"]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the user's manifests are."""
    monkeypatch.setenv("DIGITFLOW_DATASETS", str(tmp_path / "added"))
    return tmp_path / "added"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "mine")


@pytest.mark.data
def test_mnist_as_published(mnist_directory):
    for file in MNIST.files:
        found = (mnist_directory / file.name).read_bytes()
        assert (file.size, file.sha256) == (len(found), hashlib.sha256(found).hexdigest())
    described = from_directory(mnist_directory)
    assert described.images == MNIST.images
    assert (described.labels, described.class_names) == (MNIST.labels, MNIST.class_names)


@pytest.mark.parametrize("name", [name for name in DATASETS if name != "sample"])
def test_what_is_built_in_is_complete(name):
    dataset = DATASETS[name]
    assert dataset.name == name
    assert tuple(file.role for file in dataset.files) == ROLES
    assert len({file.sha256 for file in dataset.files}) == 4
    assert len(dataset.mirrors) == 2
    assert dataset.licence
    assert dataset.citation
    assert dataset.images is not None


def test_no_two_datasets_share_a_file():
    digests = [file.sha256 for dataset in DATASETS.values() for file in dataset.files]
    assert len(digests) == len(set(digests)) == 12


def test_sample_is_generated():
    assert find("sample").generated
    assert find("sample").files == ()


def test_datasets_cannot_be_changed():
    with pytest.raises(TypeError):
        DATASETS["mine"] = MNIST  # type: ignore[index]
    with pytest.raises(dataclasses.FrozenInstanceError):
        MNIST.name = "x"  # type: ignore[misc]


def test_find_knows_names_and_directories(files, tmp_path, monkeypatch):
    assert find("mnist") is MNIST
    write_dataset(tmp_path / "mnist")
    monkeypatch.chdir(tmp_path)
    assert find("mnist") is MNIST  # the name wins
    assert find("./mnist").mirrors == (str(tmp_path / "mnist"),)
    assert find("mine").mirrors == (str(tmp_path / "mine"),)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find("~/mine").name == "mine"


def test_find_knows_manifests_and_added_names(files, place, tmp_path, monkeypatch):
    dataset = dataclasses.replace(from_directory(files), name="own", title="My own")
    write_manifest(tmp_path / "own.toml", dataset)
    monkeypatch.chdir(tmp_path)
    assert find("own.toml") == find(tmp_path / "own.toml") == dataset
    with pytest.raises(DatasetError, match="unknown dataset 'own'"):
        find("own")
    write_manifest(place / "own.toml", dataset)
    assert added() == {"own": place / "own.toml"}
    assert find("own") == dataset
    (tmp_path / "own").mkdir()
    assert find("own") == dataset  # the name wins


def test_an_added_manifest_bears_the_name_of_its_file(files, place):
    write_manifest(place / "other.toml", from_directory(files))
    with pytest.raises(DatasetError, match=r"expected name = 'other', .* found 'mine'"):
        find("other")


def test_only_the_built_in_sample_is_generated(tmp_path):
    path = tmp_path / "drawn.toml"
    path.write_text('name = "drawn"\ngenerated = true\nlabels = [0, 1]\n')
    with pytest.raises(DatasetError, match="only the built-in one is generated"):
        find(path)


@pytest.mark.parametrize(
    ("wanted", "hint"),
    [("mnits", "; did you mean 'mnist'?"), ("KMNIST", "; did you mean 'kmnist'?"), ("cifar", "")],
)
def test_unknown_name(wanted, hint):
    with pytest.raises(DatasetError) as caught:
        find(wanted)
    assert str(caught.value) == (
        f"unknown dataset {wanted!r}: expected one of fashion-mnist, kmnist, mnist, sample, "
        f"a manifest (FILE.toml), or a directory with the four IDX files{hint}"
    )


def test_what_is_not_there(tmp_path):
    with pytest.raises(DatasetError, match="unknown dataset ''"):
        find("")
    with pytest.raises(DatasetError, match="there is no such directory"):
        find(tmp_path / "none")
    with pytest.raises(DatasetError, match="found no such file"):
        find(tmp_path / "none.toml")
    with pytest.raises(DatasetError, match="found a URL; give it a name first: digitflow dat"):
        find("https://example.org/letters/")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DatasetError, match="but it is a file"):
        find(tmp_path / "file")


@pytest.fixture
def moving(files, place):
    """A named dataset whose files change by design."""
    dataset = dataclasses.replace(from_directory(files), name="own", title="My own", moving=True)
    write_manifest(place / "own.toml", dataset)
    return dataset


def test_a_moving_dataset_is_what_its_files_are_now(files, moving):
    assert find("own") == moving
    write_dataset(files, training=70, seed=1, labels=range(9), test_labels=range(9))
    now = find("own")
    assert now.images == from_directory(files).images
    assert now.images.training == 70
    assert now.files == from_directory(files).files != moving.files
    # A class without images tonight is one tomorrow.
    assert (now.labels, now.class_names, now.title) == (moving.labels, moving.class_names, "My own")


def test_what_a_moving_dataset_may_not_become(files, moving):
    write_dataset(files, labels=range(12))
    with pytest.raises(DatasetError, match=r"own: .*\(0 to 9\), found 10, 11 as well.*--replace"):
        find("own")
    (files / moving.file("test_labels").name).write_bytes(b"")
    with pytest.raises(DatasetError, match="dataset own: t10k-labels"):
        find("own")
    (files / moving.file("test_labels").name).unlink()
    with pytest.raises(DatasetError, match=r"own: expected the file .*t10k-lab.*nothing there"):
        find("own")
    os.mkfifo(files / moving.file("test_labels").name)
    with pytest.raises(DatasetError, match=r"own: expected the file .*found not a regular file"):
        find("own")


@pytest.mark.parametrize(
    ("mirrors", "message"),
    [
        (("http://127.0.0.1/own/",), "own is moving: expected its files in a directory, found a"),
        (("one", "two"), "moving: expected one mirror, .* found 2"),
    ],
)
def test_where_a_moving_dataset_can_be(moving, place, mirrors, message):
    write_manifest(place / "own.toml", dataclasses.replace(moving, mirrors=mirrors))
    with pytest.raises(DatasetError, match=message):
        find("own")
