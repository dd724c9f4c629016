import numpy as np
import pytest

from digitflow.tasks.nn.randomness import stratified_split


def test_every_class_keeps_its_share() -> None:
    labels = np.repeat([0, 1, 2], [600, 300, 100])
    train, held_back = stratified_split(labels, 100, np.random.default_rng(0))
    assert np.bincount(labels[held_back]).tolist() == [60, 30, 10]
    assert sorted([*train, *held_back]) == list(range(1000))


@pytest.mark.parametrize("size", [0, 1, 7, 90])
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


@pytest.mark.parametrize("size", [0, 1, 5, 7, 9])
def test_a_class_keeps_an_image_to_be_learnt_from(size: int) -> None:
    labels = np.array([0] * 8 + [1] * 3 + [2, 3, 4])
    train, held_back = stratified_split(labels, size, np.random.default_rng(0))
    assert set(labels[train]) == {0, 1, 2, 3, 4}
    assert len(held_back) == size
    with pytest.raises(ValueError, match="Each of the 5 classes keeps one to be learnt from"):
        stratified_split(labels, 10, np.random.default_rng(0))
