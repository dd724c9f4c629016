import itertools
from typing import Any

import numpy as np
import pytest

from digitflow.tasks.nn.layers import convolution
from digitflow.tasks.nn.layers.convolution import Conv
from digitflow.tasks.nn.randomness import Randomness
from tests.nn.gradients import assert_gradients_are_right, built, relative_error

Floats = Any


def slow_convolution(x: Floats, kernels: Floats, biases: Floats, stride: int, pad: int) -> Floats:
    """The definition, one output number at a time; kernels (outputs, rows, columns, inputs)."""
    n, _, height, width = x.shape
    outputs, size = kernels.shape[:2]
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    shape = ((side + 2 * pad - size) // stride + 1 for side in (height, width))
    y = np.zeros((n, outputs, *shape))
    for image, output, row, column in np.ndindex(y.shape):
        top, left = row * stride, column * stride
        seen = padded[image, :, top : top + size, left : left + size]
        kernel = kernels[output].transpose(2, 0, 1)
        y[image, output, row, column] = biases[output] + (seen * kernel).sum()
    return y


# n, channels in, channels out, height, width, kernel, stride, padding
GRID = [
    case
    for case in itertools.product(
        (1, 3), (1, 2), (1, 3), (5,), (4, 6), (1, 2, 3), (1, 2, 3), (0, 1)
    )
    if case[7] < case[5]
] + [(2, 2, 2, 7, 7, 5, 2, 2), (2, 3, 2, 5, 5, 5, 1, 4), (1, 1, 1, 3, 3, 3, 1, 0)]

# Images as narrow as their padding: some columns of the kernel see nothing but zeros.
NARROW = [
    (2, 1, 2, height, width, kernel, stride, pad)
    for (height, width), kernel, stride in itertools.product(
        ((1, 1), (2, 1), (1, 2), (3, 3), (2, 4), (4, 5)), (7, 9, 11), (1, 2, 5)
    )
    for pad in (kernel // 2, kernel - 1)
    if min(height, width) + 2 * pad >= kernel
]
DIFFERENTIATED = [*GRID[::4], *GRID[-3:], *NARROW[::3]]
GRID += NARROW


@pytest.mark.parametrize("case", GRID)
def test_agrees_with_the_definition(case: tuple[int, ...]) -> None:
    n, channels, outputs, height, width, kernel, stride, pad = case
    layer = built(Conv(outputs, kernel, stride, pad), (channels, height, width))
    assert isinstance(layer, Conv)
    x = np.random.default_rng(1).standard_normal((n, channels, height, width))
    expected = slow_convolution(x, layer.kernels.value, layer.biases.value, stride, pad)
    y = layer.forward(x.copy(), training=True)
    assert y.shape == expected.shape == (n, *layer.output_shape((channels, height, width)))
    assert relative_error(y, expected) < 1e-13


@pytest.mark.parametrize("case", DIFFERENTIATED)
def test_gradients(case: tuple[int, ...]) -> None:
    n, channels, outputs, height, width, kernel, stride, pad = case
    layer = built(Conv(outputs, kernel, stride, pad), (channels, height, width))
    assert_gradients_are_right(
        layer, np.random.default_rng(2).standard_normal((n, channels, height, width))
    )


def test_gradients_without_bias() -> None:
    layer = built(Conv(2, bias=False), (2, 4, 4))
    assert list(layer.parameters) == ["kernels"]
    assert_gradients_are_right(layer, np.random.default_rng(2).standard_normal((2, 2, 4, 4)))


def test_worked_by_hand() -> None:
    layer = Conv(1, 2, padding=0)
    layer.build((1, 2, 3), Randomness.from_seed(0), np.float64)
    layer.kernels.value[0, :, :, 0] = [[1, 2], [3, 4]]
    layer.biases.value[...] = 100
    x = np.array([[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]])
    # 1·1 + 2·2 + 3·4 + 4·5 + 100 = 137 and 1·2 + 2·3 + 3·5 + 4·6 + 100 = 147.
    assert layer.forward(x, training=True).tolist() == [[[[137, 147]]]]
    layer.backward(np.array([[[[1.0, 10.0]]]]))
    assert layer.kernels.gradient[0, :, :, 0].tolist() == [[21, 32], [54, 65]]
    assert layer.biases.gradient.tolist() == [11]


def test_borders_stay_zero_when_batch_sizes_alternate() -> None:
    layer = built(Conv(3, 3, stride=2), (2, 6, 6))
    for n in (4, 1, 4):
        assert_gradients_are_right(layer, np.random.default_rng(n).standard_normal((n, 2, 6, 6)))


def test_wide_products_are_computed_in_blocks_with_the_same_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layer = built(Conv(4), (3, 6, 16))
    x = np.random.default_rng(3).standard_normal((8, 3, 6, 16))
    whole = layer.forward(x.copy(), training=True).copy()
    sizes = []
    original = convolution.np.matmul

    def record(a: Floats, b: Floats, out: Floats) -> Floats:
        sizes.append(b.shape[-1])
        return original(a, b, out=out)

    monkeypatch.setattr(convolution, "SMALL_PRODUCT", 4 * 27 * 70)
    monkeypatch.setattr(convolution.np, "matmul", record)
    convolution._block.cache_clear()
    blocks = layer.forward(x.copy(), training=True)
    convolution._block.cache_clear()
    assert sizes == [64]
    assert relative_error(blocks, whole) < 1e-14


def test_lies_in_memory_with_the_batch_innermost() -> None:
    y = built(Conv(3), (1, 4, 4)).forward(np.ones((5, 1, 4, 4)), training=True)
    assert y.transpose(2, 1, 3, 0).flags.c_contiguous


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(0, 1, 0), (3, 0, 1), (3, 1, 3), (3, 1, -1)]
)
def test_impossible_settings_are_refused(kernel: int, stride: int, padding: int) -> None:
    with pytest.raises(ValueError, match=f"found kernel {kernel}, stride {stride}"):
        Conv(1, kernel, stride, padding)


@pytest.mark.parametrize("shape", [(5,), (1, 2, 9)])
def test_images_that_do_not_fit_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="Conv takes samples of shape"):
        Conv(1, 5, padding=1).build(shape, Randomness.from_seed(0), np.float64)
