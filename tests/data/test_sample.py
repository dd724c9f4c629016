"""The built-in dataset: in MNIST's form, the same each time, learnable and not trivial."""

import gzip
import struct

import numpy as np
import pytest

from digitflow.tasks.data.datasets.sources import ROLES, from_directory
from digitflow.tasks.data.idx.arrays import check_pair, decode
from digitflow.tasks.data.sample import balanced_labels, draw_blocks, write_sample


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("sample")


@pytest.fixture(scope="module")
def sample(folder):
    files = write_sample(folder, seed=3)
    assert set(files) == set(ROLES)
    return {role: decode(file) for role, file in files.items()}


def test_form_is_mnists(sample, folder):
    assert sample["training_images"].shape == (6000, 28, 28)
    assert sample["test_images"].shape == (1000, 28, 28)
    assert {array.dtype for array in sample.values()} == {np.dtype(np.uint8)}
    check_pair(sample["training_images"], sample["training_labels"])
    check_pair(sample["test_images"], sample["test_labels"])
    assert {file.role for file in from_directory(folder).files} == set(ROLES)


def test_files_are_genuine_idx(folder):
    data = gzip.decompress((folder / "train-images-idx3-ubyte.gz").read_bytes())
    assert struct.unpack(">4I", data[:16]) == (0x803, 6000, 28, 28)


def test_labels_are_balanced_and_shuffled(sample):
    for part in ("training", "test"):
        labels = sample[f"{part}_labels"]
        assert np.ptp(np.bincount(labels, minlength=10)) == 0
        assert 0.05 < np.mean(labels[1:] == labels[:-1]) < 0.15


def test_digits_are_light_on_black_and_centred(sample):
    images = sample["training_images"].astype(float)
    border = np.ones((28, 28), bool)
    border[2:-2, 2:-2] = False
    assert images[:, border].mean() < 10
    assert images.max(axis=(1, 2)).min() > 150
    assert 15 < images.mean() < 60  # MNIST: 33
    ink = images > 100
    rows, columns = ink.any(axis=2), ink.any(axis=1)
    for lit in (rows, columns):
        first, last = lit.argmax(axis=1), 27 - lit[:, ::-1].argmax(axis=1)
        assert abs((first + last).mean() / 2 - 13.5) < 0.2
    height = rows.sum(axis=1)
    assert 16 < np.median(height) < 22


def test_every_image_is_another(sample):
    images = np.concatenate([sample["training_images"], sample["test_images"]])
    assert len(np.unique(images.reshape(7000, -1), axis=0)) == 7000


@pytest.fixture
def undistorted(monkeypatch):
    for name in ("TURN", "SHEAR", "STRETCH", "SHIFT", "WARP", "SPECKLE"):
        monkeypatch.setattr(f"digitflow.tasks.data.sample.{name}", 0.0)
    for name, value in (("SCALE", 1.0), ("STROKE", 1.0), ("EDGE", 1.0), ("INK", 1.0)):
        monkeypatch.setattr(f"digitflow.tasks.data.sample.{name}", (value, value))


def drawn_plainly():
    """Ten of each digit, float64 of 0 to 1, always in the same faces."""
    labels = np.repeat(np.arange(10, dtype=np.uint8), 10)
    (images,) = draw_blocks(labels, np.random.default_rng(0))
    return images / 255


def rotation(degrees):
    angle = np.radians(degrees)
    matrix = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return lambda n, generator: np.tile(np.array(matrix, np.float32), (n, 1, 1))


def test_digits_stand_upright_and_are_not_mirrored(undistorted):
    by_digit = drawn_plainly().reshape(10, 10, 28, 28).mean(axis=1)
    top, bottom = by_digit[:, :14].sum(axis=(1, 2)), by_digit[:, 14:].sum(axis=(1, 2))
    left, right = by_digit[:, :, :14].sum(axis=(1, 2)), by_digit[:, :, 14:].sum(axis=(1, 2))
    assert top[7] > 1.2 * bottom[7]
    assert top[9] > 1.05 * bottom[9]
    assert bottom[6] > 1.05 * top[6]
    assert right[3] > 1.2 * left[3]


def test_counters_are_hollow(undistorted):
    zeros = drawn_plainly()[:10]
    assert np.median(zeros[:, 9:11, 13:15].mean(axis=(1, 2))) < 0.05


@pytest.mark.parametrize("degrees", [0, 30, 45, 90])
def test_box_is_20_pixels_and_centred(undistorted, monkeypatch, degrees):
    monkeypatch.setattr("digitflow.tasks.data.sample._random_affine", rotation(degrees))
    ink = drawn_plainly() > 0.5
    sides = []
    for lit in (ink.any(axis=1), ink.any(axis=2)):
        first, last = lit.argmax(axis=1), 27 - lit[:, ::-1].argmax(axis=1)
        assert np.abs(first + last - 27).max() <= 2  # a pixel of rounding at each end
        sides.append(last - first + 1)
    # Thickening and thinning move the edge by about a pixel each.
    assert np.abs(np.maximum(*sides) - 20).max() <= 3
    assert abs(np.maximum(*sides).mean() - 20) < 1


def test_turned_digits_are_the_upright_ones_turned(undistorted, monkeypatch):
    upright = drawn_plainly()
    monkeypatch.setattr("digitflow.tasks.data.sample._random_affine", rotation(90))
    # y points down, so that a positive angle turns clockwise.
    clockwise = np.rot90(upright, k=-1, axes=(1, 2))
    assert np.abs(drawn_plainly() - clockwise).max() < 0.02


def test_same_seed_same_bytes(tmp_path):
    def drawn(name, seed):
        files = write_sample(tmp_path / name, training=700, test=30, seed=seed)
        return {role: file.read_bytes() for role, file in files.items()}

    assert drawn("a", 1) == drawn("b", 1)
    first, other = drawn("a", 1), drawn("c", 2)
    assert all(first[role] != other[role] for role in ROLES)


def test_labels_are_those_of_wider_numbers():
    generator, other = np.random.default_rng(5), np.random.default_rng(5)
    wide = other.permutation(np.arange(1203) % 10)
    assert np.array_equal(balanced_labels(1203, generator), wide)
    assert generator.random() == other.random()


def test_progress_counts_images(tmp_path):
    seen = []
    write_sample(tmp_path, training=700, test=30, seed=1, progress=lambda *news: seen.append(news))
    assert seen == [(500, 730), (700, 730), (730, 730)]


def test_training_set_does_not_depend_on_the_test_sets_size(tmp_path):
    first = write_sample(tmp_path / "a", training=50, test=10, seed=1)
    other = write_sample(tmp_path / "b", training=50, test=20, seed=1)
    for role in ("training_images", "training_labels"):
        assert first[role].read_bytes() == other[role].read_bytes()


def test_blocks_are_bounded():
    generator = np.random.default_rng(0)
    labels = balanced_labels(1203, generator)
    assert [len(block) for block in draw_blocks(labels, generator)] == [500, 500, 203]


@pytest.mark.parametrize("counts", [{"training": 0}, {"test": -1}])
def test_counts_below_one(tmp_path, counts):
    with pytest.raises(ValueError, match="expected at least 1 "):
        write_sample(tmp_path, seed=1, **counts)


def test_learnable_but_not_trivial(sample):
    """Ridge regression on 1,000 images: far above chance (0.1), far below perfect."""
    x = sample["training_images"][:1000].reshape(1000, -1) / 255
    y = np.eye(10)[sample["training_labels"][:1000]]
    weights = np.linalg.solve(x.T @ x + 10 * np.eye(784), x.T @ y)
    outputs = sample["test_images"].reshape(1000, -1) / 255 @ weights
    accuracy = np.mean(outputs.argmax(axis=1) == sample["test_labels"])
    assert 0.7 < accuracy < 0.95
