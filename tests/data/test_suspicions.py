"""Each kind of fault is planted and found, and clean data raises none."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from digitflow.tasks.data.idx import arrays as idx
from digitflow.tasks.data.measures import measure_data
from digitflow.tasks.data.sample import write_sample
from digitflow.tasks.data.suspicions import look, near_duplicates, suspicions

Arrays = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]
NAMES = tuple("0123456789")


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Arrays:
    folder = tmp_path_factory.mktemp("drawn")
    write_sample(folder, training=1_000, test=300, seed=3)
    names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    images, labels, test, test_labels = (
        np.asarray(idx.decode(folder / f"{name}-ubyte.gz")) for name in names
    )
    return images, labels, test, test_labels


def kinds(data: Arrays) -> list[str]:
    measures = measure_data(*data, classes=10)
    return [each.kind for each in suspicions(measures, look(*data), NAMES)]


def shared(data: Arrays) -> None:
    data[2][:20] = data[0][:20]


def nearly_shared(data: Arrays) -> None:
    data[2][:20] = np.where(data[0][:20] > 3, data[0][:20] - 2, data[0][:20])


def repeated(data: Arrays) -> None:
    data[0][100:200] = data[0][:100]


def repeated_test(data: Arrays) -> None:
    data[2][100:200] = data[2][:100]


def blank(data: Arrays) -> None:
    data[0][:50] = 0


def without_sevens(data: Arrays) -> None:
    data[1][data[1] == 7] = 1


def of_one_class(data: Arrays) -> None:
    data[3][: len(data[3]) * 2 // 3] = 4


def faint(data: Arrays) -> None:
    for part in (0, 2):
        data[part][...] = data[part] // 6


def mislabelled(data: Arrays) -> None:
    rows = np.random.default_rng(1).choice(len(data[1]), 200, replace=False)
    data[1][rows] = (data[1][rows] + 3) % 10


def turned(data: Arrays) -> None:
    data[2][...] = data[2].transpose(0, 2, 1).copy()


def cropped(data: Arrays) -> None:
    for part in (0, 2):
        data[part][:, :, :10] = data[part][:, :, 18:] = 0
        data[part][:, :8] = data[part][:, 20:] = 0


@pytest.mark.parametrize(
    ("plant", "kind"),
    [
        (shared, "shared"),
        (nearly_shared, "near-duplicates"),
        (repeated, "duplicates, training"),
        (repeated_test, "duplicates, test"),
        (blank, "blank, training"),
        (without_sevens, "missing classes, training"),
        (of_one_class, "majority, test"),
        (faint, "contrast, training"),
        (mislabelled, "labels"),
        (turned, "transposed"),
        (cropped, "constant pixels"),
    ],
)
def test_each_kind_is_found(clean: Arrays, plant: Callable[[Arrays], None], kind: str) -> None:
    data = tuple(each.copy() for each in clean)
    plant(data)
    assert kind in kinds(data)


def test_clean_data_raises_no_suspicion(clean: Arrays) -> None:
    assert kinds(clean) == []


def test_a_near_duplicate_is_not_the_same(clean: Arrays) -> None:
    assert near_duplicates(clean[0], clean[0][:50]) == 0


@pytest.mark.data
def test_mnist_raises_no_suspicion(mnist_directory: Path) -> None:
    names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    images, labels, test, test_labels = (
        np.asarray(idx.decode(mnist_directory / f"{name}-ubyte.gz"))[:10_000] for name in names
    )
    assert kinds((images, labels, test, test_labels)) == []
