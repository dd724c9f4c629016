"""The picture of the first layer: which weights, in which order, and that it says whose."""

import numpy as np
import pytest

from digitflow.tasks.figures.filters import (
    MOST_FILTERS,
    filters_figure,
    first_layer_filters,
)
from digitflow.tasks.figures.png import to_png


def test_the_columns_of_a_dense_layer_are_its_filters() -> None:
    weights = np.arange(6.0 * 2).reshape(6, 2)  # images of 2 × 3, two units
    filters = first_layer_filters({"0_Dense.weights": weights}, 2, 3)
    assert filters.shape == (2, 2, 3)
    assert filters[1].ravel().tolist() == [1.0, 3.0, 5.0, 7.0, 9.0, 11.0]


def test_the_kernels_of_a_convolution_are_its_filters() -> None:
    kernels = np.arange(2.0 * 3 * 3).reshape(2, 3, 3, 1)
    filters = first_layer_filters({"0_Conv.weights": kernels}, 28, 28)
    assert filters[1, 0].tolist() == [9.0, 10.0, 11.0]


def test_what_is_no_weight_of_a_first_layer_is_passed_over() -> None:
    arrays = {"architecture": np.zeros(9, np.uint8), "b": np.zeros(4), "w": np.ones((4, 1))}
    assert first_layer_filters(arrays, 2, 2).shape == (1, 2, 2)


def test_a_model_without_a_first_layer_is_refused_with_the_shapes_found() -> None:
    with pytest.raises(ValueError, match=r"expected weights of shape \(4, units\).*w \(3, 2\)"):
        first_layer_filters({"w": np.zeros((3, 2))}, 2, 2)


@pytest.mark.parametrize(
    "filters", [np.zeros((0, 2, 2)), np.zeros((2, 2)), np.full((1, 2, 2), np.nan)]
)
def test_filters_that_cannot_be_drawn_are_refused(filters: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected finite filters"):
        filters_figure(filters, dataset="MNIST")


def test_the_strongest_come_first_and_the_title_says_how_many() -> None:
    filters = np.ones((MOST_FILTERS + 5, 2, 2)) * np.arange(MOST_FILTERS + 5)[:, None, None]
    figure = filters_figure(filters, dataset="sample")
    title = figure.get_suptitle()
    assert "sample" in title
    assert f"the {MOST_FILTERS} strongest of {MOST_FILTERS + 5}" in title
    drawn = figure.axes[0].images[0].get_array()
    assert drawn is not None
    assert drawn[0, 0] == MOST_FILTERS + 4


def test_the_same_filters_give_the_same_bytes() -> None:
    filters = np.random.default_rng(0).normal(size=(12, 5, 7))
    first = to_png(filters_figure(filters, dataset="MNIST"))
    assert first == to_png(filters_figure(filters, dataset="MNIST"))
    assert first.startswith(b"\x89PNG")
    assert len(first) < 80_000


@pytest.mark.parametrize("shape", [(28, 28), (1, 784), (784, 1), (1, 1), (5, 40), (40, 5)])
@pytest.mark.parametrize("count", [1, 8, 100])
def test_filters_of_any_shape_make_a_figure_to_look_at(shape: tuple[int, int], count: int) -> None:
    figure = filters_figure(np.ones((count, *shape)), dataset="any")
    assert figure.get_figwidth() == 9.0
    assert 1.25 <= figure.get_figheight() <= 9.0
