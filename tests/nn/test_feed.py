from pathlib import Path

import numpy as np
import pytest

from digitflow.tasks.nn.feed import Feed, batch_edges, shuffled

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 3, 4), dtype=np.uint8)


@pytest.mark.parametrize("input_shape", [(12,), (1, 3, 4)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gathers_and_scales(input_shape: tuple[int, ...], dtype: str) -> None:
    feed = Feed(IMAGES, input_shape, dtype)
    for rows in (np.array([3, 1, 1]), np.array([0]), np.arange(20)):
        x = feed.load(rows)
        assert x.dtype == dtype
        np.testing.assert_allclose(x, IMAGES[rows].reshape(-1, *input_shape) / 255, rtol=1e-6)
    np.testing.assert_allclose(feed.load(slice(2, 5)), feed.load(np.arange(2, 5)))


def test_reads_a_memory_map_without_copying_it(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", IMAGES)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r", allow_pickle=False)
    feed = Feed(mapped, (12,), "float32")
    assert np.shares_memory(feed._images, mapped)
    np.testing.assert_array_equal(
        feed.load(np.array([4])), Feed(IMAGES, (12,), "f4").load(np.array([4]))
    )


def test_fractions_are_taken_as_they_are() -> None:
    fractions = np.random.default_rng(0).random((5, 12))
    assert np.array_equal(Feed(fractions, (12,), "float64").load(slice(0, 5)), fractions)


def test_another_number_of_pixels_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(13,\); images of shape \(3, 4\)"):
        Feed(IMAGES, (13,), "float32")


def test_every_row_comes_once_in_a_new_order() -> None:
    rng = np.random.default_rng(0)
    edges = batch_edges(10, 4)
    first, second = list(shuffled(edges, rng)), list(shuffled(edges, rng))
    assert [len(rows) for rows in first] == [4, 4, 2]
    assert sorted(np.concatenate(first)) == list(range(10))
    assert not np.array_equal(np.concatenate(first), np.concatenate(second))


@pytest.mark.parametrize(
    ("n", "batch_size", "smallest", "sizes"),
    [
        (10, 4, 1, [4, 4, 2]),
        (9, 4, 1, [4, 4, 1]),
        (9, 4, 2, [4, 5]),
        (8, 4, 2, [4, 4]),
        (10, 4, 3, [4, 6]),
        (1, 4, 1, [1]),
        (5, 4, 2, [5]),
    ],
)
def test_a_remainder_that_is_too_small_joins_the_batch_before(
    n: int, batch_size: int, smallest: int, sizes: list[int]
) -> None:
    batches = list(shuffled(batch_edges(n, batch_size, smallest), np.random.default_rng(0)))
    assert [len(rows) for rows in batches] == sizes
    assert sorted(np.concatenate(batches)) == list(range(n))
