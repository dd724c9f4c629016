from typing import Any

import numpy as np
import pytest

from digitflow.tasks.nn.training.augmentation import GROUP, Augment, sample_bilinear


def digit(n: int = 50, side: int = 15) -> Any:
    """Images of an L in the middle."""
    images = np.zeros((n, side, side), np.uint8)
    images[:, 4:11, 6] = 255
    images[:, 10, 6:10] = 200
    return images


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_nothing_asked_for_changes_nothing() -> None:
    assert np.array_equal(Augment(rng())(digit()), digit())


def test_shifts_reach_every_offset_and_no_further() -> None:
    images = np.zeros((400 * GROUP, 9, 9), np.uint8)
    images[:, 4, 4] = 255
    moved = Augment(rng(), shift=2)(images)
    assert set((moved.reshape(len(images), -1) > 0).sum(axis=1)) == {1}
    reached = np.argwhere(moved.sum(axis=0))
    assert reached.min() == 2
    assert reached.max() == 6
    assert len(reached) == 25
    assert not np.array_equal(moved, images)


def test_what_leaves_the_image_is_gone_and_zeros_come_in() -> None:
    full = np.full((100 * GROUP, 4, 4), 9, np.uint8)
    moved = Augment(rng(), shift=1)(full)
    assert set(moved.sum(axis=(1, 2)) // 9) == {16, 12, 9}


def test_groups_move_differently_and_the_last_may_be_short() -> None:
    images = digit(5 * GROUP + 3)
    moved = Augment(rng(), shift=3)(images)
    ways = {moved[start].tobytes() for start in range(0, len(images), GROUP)}
    assert len(ways) > 2
    assert np.array_equal(moved[0], moved[GROUP - 1])
    assert moved[-1].any()


def test_bilinear_sampling_worked_by_hand() -> None:
    image = np.array([[[0, 100], [40, 200]]], np.uint8)

    def at(*places: tuple[float, float]) -> Any:
        rows, columns = np.array(places * 2, np.float32).T.reshape(2, 2, 2)
        return sample_bilinear(image, rows, columns)[0, 0].tolist()

    # (0 + 100 + 40 + 200)/4 = 85 and 0.75·0 + 0.25·100 = 25.
    assert at((0.5, 0.5), (0.0, 0.25)) == [85, 25]
    # 9/16·100 + 1/16·40 + 3/16·200 = 96.25 and 1/16·100 + 9/16·40 + 3/16·200 = 66.25.
    assert at((0.25, 0.75), (0.75, 0.25)) == [96, 66]
    # Half way out of the image is half of its border; far out is nothing.
    assert at((1.5, 1.0), (90.0, -90.0)) == [100, 0]


def test_sampling_each_pixel_where_it_is_changes_nothing() -> None:
    images = rng().integers(0, 256, (3, 5, 7), dtype=np.uint8)
    rows, columns = np.mgrid[:5, :7].astype(np.float32)
    assert np.array_equal(sample_bilinear(images, rows, columns), images)


@pytest.mark.parametrize("setting", [{"rotation": 20.0}, {"scale": 0.2}, {"elastic": 1.0}])
def test_warping_changes_the_picture_but_not_much_of_its_ink(setting: dict[str, float]) -> None:
    images = digit(20 * GROUP)
    warped = Augment(rng(), **setting)(images)
    assert warped.dtype == np.uint8
    assert warped.shape == images.shape
    assert all(not np.array_equal(a, b) for a, b in zip(warped, images, strict=True))
    assert float(warped.sum()) == pytest.approx(float(images.sum()), rel=0.15)
    assert np.array_equal(Augment(rng(), **setting)(images), warped)


def test_rotation_turns_about_the_centre_by_the_angle() -> None:
    images = np.zeros((300 * GROUP, 21, 21), np.uint8)
    images[:, 10, 18] = 255
    warped = Augment(rng(), rotation=30.0)(images).astype(float)
    y, x = np.mgrid[-10:11, -10:11]
    mass = warped.sum(axis=(1, 2))
    angle = np.degrees(
        np.arctan2((warped * y).sum(axis=(1, 2)) / mass, (warped * x).sum(axis=(1, 2)) / mass)
    )
    assert 25 < angle.max() < 31
    assert -31 < angle.min() < -25


def test_elastic_displacement_has_the_size_that_is_asked_for() -> None:
    augment = Augment(rng(), elastic=0.7)
    rows, columns = augment._sources((400, 28, 28))
    y, x = np.mgrid[:28, :28]
    assert (rows - y).std() == pytest.approx(0.7, rel=0.05)
    assert (columns - x).std() == pytest.approx(0.7, rel=0.05)
    # Neighbours move together.
    assert np.abs(np.diff(rows - y, axis=2)).mean() < 0.2
