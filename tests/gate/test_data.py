"""The gate for data: quiet on ordinary data, and never silent when a feed has gone wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from digitflow.tasks.data.idx import arrays as idx
from digitflow.tasks.data.measures import Agreement, Measures, label_agreement, measure_data
from digitflow.tasks.data.sample import write_sample
from digitflow.tasks.gate.data import (
    LEAST_TEST_IMAGES,
    DataCheck,
    champion_holds,
    judge_data,
    level_holds,
)
from tests.mnist import has_mnist, mnist_folder

NAMES = tuple("0123456789")
TRAINING, TEST = 3_000, 1_000
Arrays = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]


def read(folder: Path) -> Arrays:
    names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    images, labels, test_images, test_labels = (
        np.asarray(idx.decode(folder / f"{name}-ubyte.gz")) for name in names
    )
    return images, labels, test_images, test_labels


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Arrays:
    """Drawn digits, twice as many as are used at once."""
    folder = tmp_path_factory.mktemp("drawn")
    write_sample(folder, training=2 * TRAINING, test=2 * TEST, seed=3)
    return read(folder)


def cut(data: Arrays, training: int = TRAINING, test: int = TEST) -> Arrays:
    return data[0][:training], data[1][:training], data[2][:test], data[3][:test]


def measured(data: Arrays) -> Measures:
    return measure_data(*data, classes=10)


def agreed(then: Arrays, now: Arrays) -> Agreement:
    return label_agreement((then[:2], then[2:]), (now[:2], now[2:]))


def doubts(now: Arrays, then: Arrays | None) -> list[DataCheck]:
    known = None if then is None else measured(then)
    agreement = None if then is None else agreed(then, now)
    checks = judge_data(measured(now), known, agreement, NAMES)
    return [check for check in checks if not check.met]


class TestOrdinaryData:
    def test_drawn_digits(self, data: Arrays) -> None:
        assert doubts(data, None) == []
        assert doubts(data, data) == []

    @pytest.mark.parametrize("training", [300, 1_000, 2 * TRAINING])
    def test_data_that_grows(self, data: Arrays, training: int) -> None:
        assert doubts(cut(data, training, 2 * TEST), cut(data, 200, 150)) == []

    def test_other_images_of_the_same_kind(self, data: Arrays) -> None:
        other = (data[0][TRAINING:], data[1][TRAINING:], data[2][TEST:], data[3][TEST:])
        assert doubts(other, cut(data)) == []

    def test_a_few_corrected_labels(self, data: Arrays) -> None:
        labels = data[3].copy()
        labels[:5] = (labels[:5] + 1) % 10
        assert doubts((*data[:3], labels), data) == []

    @pytest.mark.data
    @pytest.mark.skipif(not has_mnist(), reason="the MNIST files are missing")
    def test_mnist(self) -> None:
        """Its first test images are by other people than the rest, and that is no fault."""
        mnist = read(mnist_folder())
        for training, test in ((600, 200), (6_000, 2_000), (60_000, 5_000)):
            assert doubts(mnist, cut(mnist, training, test)) == []


def shifted(data: Arrays) -> Arrays:
    return np.roll(data[0], 5, axis=1), data[1], np.roll(data[2], 5, axis=1), data[3]


def swapped(data: Arrays) -> Arrays:
    def swap(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.where(labels == 3, 8, np.where(labels == 8, 3, labels)).astype(np.uint8)

    return data[0], swap(data[1]), data[2], swap(data[3])


def leaked(data: Arrays) -> Arrays:
    """One test image in fifty is learnt from."""
    few = slice(0, TEST // 50)
    return (
        np.concatenate([data[0], data[2][few]]),
        np.concatenate([data[1], data[3][few]]),
        *data[2:],
    )


def noisy(data: Arrays) -> Arrays:
    labels = data[1].copy()
    labels[:60] = (labels[:60] + 1) % 10
    return data[0], labels, data[2], data[3]


def blanked(data: Arrays) -> Arrays:
    images = data[2].copy()
    images[:20] = 7
    return data[0], data[1], images, data[3]


def repeated(data: Arrays) -> Arrays:
    images = data[2].copy()
    images[1:30] = images[0]
    return data[0], data[1], images, np.where(np.arange(TEST) < 30, data[3][0], data[3])


def faint(data: Arrays) -> Arrays:
    return data[0] // 3, data[1], data[2] // 3, data[3]


def grainy(data: Arrays) -> Arrays:
    rng = np.random.default_rng(0)
    grain = rng.normal(0, 80, data[2].shape)
    return data[0], data[1], np.clip(data[2] + grain, 0, 255).astype(np.uint8), data[3]


def without_nines(data: Arrays) -> Arrays:
    kept, tested = data[1] != 9, data[3] != 9
    return data[0][kept], data[1][kept], data[2][tested], data[3][tested]


def mostly_small(data: Arrays) -> Arrays:
    order = np.argsort(data[3] > 4, kind="stable")[: TEST // 2 + 60]
    return data[0], data[1], data[2][order], data[3][order]


@pytest.mark.parametrize(
    ("fault", "subject", "said"),
    [
        (shifted, "test data", "the ink's vertical centre in test images has moved from "),
        (
            swapped,
            "test data",
            "192 of 1,000 test images of the champion's data are labelled other",
        ),
        (leaked, "test data", "20 of 1,000 test images are training images, too (at most 5)"),
        (noisy, "training data", "60 of 3,000 training images of the champion's data are labelled"),
        (blanked, "test data", "20 of 1,000 test images are blank (at most 10)"),
        (repeated, "test data", "29 of 1,000 test images repeat another one (at most 10)"),
        (faint, "training data", "the brightness in training images has moved from "),
        (grainy, "test data", "the contrast in test images has moved from "),
        (without_nines, "test data", "the test data has no images of 9"),
        (mostly_small, "test data", "the classes of the test data come in other shares (PSI "),
    ],
)
def test_a_feed_that_has_gone_wrong(
    data: Arrays, fault: Callable[[Arrays], Arrays], subject: str, said: str
) -> None:
    then = cut(data)
    found = doubts(fault(then), then)
    assert any(each.subject == subject and each.complaint.startswith(said) for each in found), found


@pytest.mark.parametrize("share", [0.0, 0.002, 0.02])
def test_what_the_champions_data_has_as_well_is_no_change(data: Arrays, share: float) -> None:
    """Shared images, repeated and blank ones: as many as before are no fault."""
    few = slice(0, int(share * TEST))
    images = data[2][:TEST].copy()
    images[few] = 0
    then = (
        np.concatenate([data[0], images[100:200][few]]),
        np.concatenate([data[1], data[3][100:200][few]]),
        images,
        data[3][:TEST],
    )
    assert doubts(then, then) == []


@pytest.mark.parametrize(("test", "then", "met"), [(10, None, False), (99, None, False),
                                                   (100, None, True), (100, 300, False),
                                                   (150, 300, True)])  # fmt: skip
def test_a_test_set_that_is_too_small(data: Arrays, test: int, then: int | None, met: bool) -> None:
    before = None if then is None else cut(data, TRAINING, then)
    found = doubts(cut(data, TRAINING, test), before)
    assert ("too few to judge by" not in " ".join(each.complaint for each in found)) is met
    assert LEAST_TEST_IMAGES == 100


class TestTheFirstNight:
    def test_a_leak_is_seen_without_a_champion(self, data: Arrays) -> None:
        (found,) = doubts(leaked(cut(data)), None)
        assert found.complaint == "20 of 1,000 test images are training images, too (at most 5)"


class TestTheChampionOnNewImages:
    @pytest.mark.parametrize(("images", "images_then"), [(100, 100), (1_000, 200), (800, 8_000)])
    def test_it_is_seldom_called_a_fall_by_chance(self, images: int, images_then: int) -> None:
        rng = np.random.default_rng(images)
        for share in (0.7, 0.93, 0.99):
            now, then = rng.binomial(images, share, 4_000), rng.binomial(images_then, share, 4_000)
            held = [
                not champion_holds(int(a), images, int(b), images_then).met
                for a, b in zip(now, then, strict=True)
            ]
            assert np.mean(held) <= 0.004  # a little more than 0.001 near 1: counts are whole

    def test_a_real_fall(self) -> None:
        found = champion_holds(850, 1_000, 930, 1_000)
        assert not found.met
        assert found.complaint == (
            "the champion's accuracy falls from 0.9300 on its own test images to 0.8500 on 1,000 "
            "new ones"
        )
        assert champion_holds(915, 1_000, 930, 1_000).met

    def test_labels_that_get_worse_each_night_are_noticed_in_the_end(self) -> None:
        """A tenth of them in a year, each champion compared with the one before: 0.954 → 0.86."""
        best = round(0.954 * 1_000)
        levels = [round(1_000 * (0.954 - 0.095 * night / 365)) for night in range(365)]
        held = [not level_holds(right, 1_000, best, 1_000).met for right in levels]
        assert held.index(True) < 160
        assert all(held[held.index(True) :])
