"""Arrays that are made once, begin a cache line, and lie in memory as they are asked to."""

import numpy as np
import pytest

from digitflow.tasks.nn.layers.buffer import LINE, Buffer, aligned, as_images, in_memory_order


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(3,), (5, 7), (2, 3, 4, 5), (1000, 784)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.bool_])
def test_aligned_begins_a_line_and_is_zero(shape, dtype, order) -> None:
    array = aligned(shape, dtype, order)
    assert array.ctypes.data % LINE == 0
    assert (array.shape, array.dtype) == (shape, np.dtype(dtype))
    assert array.flags[f"{order}_CONTIGUOUS"]
    assert array.flags.writeable
    assert not array.any()


@pytest.mark.parametrize(("shape", "order"), [((4, 3), "C"), ((4, 3), "F"), ((1, 3), "F")])
def test_like_lies_in_memory_as_features_do(shape, order) -> None:
    array = Buffer().like(np.empty(shape, np.float32, order=order), np.bool_)
    assert (array.shape, array.dtype) == (shape, np.dtype(bool))
    assert array.flags[f"{order}_CONTIGUOUS"]
    assert array.ctypes.data % LINE == 0


@pytest.mark.parametrize("order", ["C", "F"])
def test_images_lie_with_the_batch_innermost_whatever_was_given(order) -> None:
    array = Buffer().like(np.empty((4, 3, 5, 2), np.float32, order=order), np.float64)
    assert array.shape == (4, 3, 5, 2)
    assert in_memory_order(array).shape == (5, 3, 2, 4)
    assert in_memory_order(array).flags.c_contiguous
    assert np.shares_memory(as_images(in_memory_order(array)), array)


def test_the_same_array_until_another_is_asked_for() -> None:
    buffer = Buffer()
    first = buffer.shaped((2, 3), np.float32)
    assert buffer.shaped((2, 3), np.float32) is first
    assert buffer.shaped((2, 4), np.float32) is not first
    assert buffer.shaped((2, 4), np.float32, "F").flags.f_contiguous
