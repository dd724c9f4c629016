import numpy as np
import pytest

from tasks.nn.split import stratified_split


def test_every_class_keeps_its_share() -> None:
    labels = np.repeat([0, 1, 2], [600, 300, 100])
    train, held_back = stratified_split(labels, 100, np.random.default_rng(0))
    assert np.bincount(labels[held_back]).tolist() == [60, 30, 10]
    assert sorted([*train, *held_back]) == list(range(1000))


@pytest.mark.parametrize("size", [0, 1, 7, 99])
def test_exactly_as_many_as_asked_for_are_held_back(size: int) -> None:
    labels = np.random.default_rng(1).integers(0, 10, 100)
    train, held_back = stratified_split(labels, size, np.random.default_rng(0))
    assert (len(train), len(held_back)) == (100 - size, size)


def test_the_seed_decides() -> None:
    labels = np.arange(200) % 10
    splits = [stratified_split(labels, 50, np.random.default_rng(seed))[1] for seed in (0, 0, 1)]
    assert np.array_equal(splits[0], splits[1])
    assert not np.array_equal(splits[0], splits[2])


@pytest.mark.parametrize("size", [-1, 5])
def test_impossible_sizes_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"0 to 4 can be held back; asked for {size}"):
        stratified_split(np.zeros(5, int), size, np.random.default_rng(0))
