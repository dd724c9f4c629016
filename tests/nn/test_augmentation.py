from typing import Any

import numpy as np
import pytest

from tasks.nn.augmentation import Augment, sample_bilinear


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
    images = np.zeros((2000, 9, 9), np.uint8)
    images[:, 4, 4] = 255
    moved = Augment(rng(), shift=2)(images)
    assert (moved.reshape(2000, -1) > 0).sum(axis=1).tolist() == [1] * 2000
    reached = np.argwhere(moved.sum(axis=0))
    assert reached.min() == 2
    assert reached.max() == 6
    assert len(reached) == 25
    assert not np.array_equal(moved, images)


def test_what_leaves_the_image_is_gone_and_zeros_come_in() -> None:
    full = np.full((200, 4, 4), 9, np.uint8)
    moved = Augment(rng(), shift=1)(full)
    assert set(moved.sum(axis=(1, 2)) // 9) == {16, 12, 9}


def test_bilinear_sampling_worked_by_hand() -> None:
    image = np.array([[[0, 100], [40, 200]]], np.uint8)
    rows, columns = np.array([[[0.5, 0.0]]], np.float32), np.array([[[0.5, 0.25]]], np.float32)
    # (0 + 100 + 40 + 200)/4 = 85 and 0.75·0 + 0.25·100 = 25.
    assert sample_bilinear(image, rows, columns).tolist() == [[[85, 25]]]
    # Half way out of the image is half of its border; far out is nothing.
    rows, columns = np.array([[[1.5, 90.0]]], np.float32), np.array([[[1.0, -90.0]]], np.float32)
    assert sample_bilinear(image, rows, columns).tolist() == [[[100, 0]]]


def test_sampling_each_pixel_where_it_is_changes_nothing() -> None:
    images = rng().integers(0, 256, (3, 5, 7), dtype=np.uint8)
    rows, columns = np.broadcast_arrays(*np.mgrid[:5, :7].astype(np.float32)[:, None])
    shape = (3, 5, 7)
    places = np.broadcast_to(rows, shape), np.broadcast_to(columns, shape)
    assert np.array_equal(sample_bilinear(images, *places), images)


@pytest.mark.parametrize("setting", [{"rotation": 20.0}, {"scale": 0.2}, {"elastic": 1.0}])
def test_warping_changes_the_picture_but_not_much_of_its_ink(setting: dict[str, float]) -> None:
    images = digit()
    warped = Augment(rng(), **setting)(images)
    assert warped.dtype == np.uint8
    assert warped.shape == images.shape
    assert all(not np.array_equal(a, b) for a, b in zip(warped, images, strict=True))
    assert float(warped.sum()) == pytest.approx(float(images.sum()), rel=0.1)
    assert np.array_equal(Augment(rng(), **setting)(images), warped)


def test_rotation_turns_about_the_centre_by_the_angle() -> None:
    images = np.zeros((500, 21, 21), np.uint8)
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
