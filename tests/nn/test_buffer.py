"""Arrays that are made once, begin a cache line, and lie in memory as they are asked to."""

import numpy as np
import pytest

from tasks.nn.buffer import LINE, Buffer, aligned


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


@pytest.mark.parametrize("axes", [(0, 1, 2, 3), (3, 1, 0, 2), (3, 2, 1, 0)])
def test_like_lies_in_memory_as_its_model_does(axes) -> None:
    model = np.empty((4, 3, 5, 2), np.float32).transpose(axes)
    array = Buffer().like(model, bool)
    assert (array.shape, array.dtype) == (model.shape, np.dtype(bool))
    assert array.strides == tuple(stride // model.itemsize for stride in model.strides)
    assert array.ctypes.data % LINE == 0


def test_the_same_array_until_another_is_asked_for() -> None:
    buffer = Buffer()
    first = buffer.shaped((2, 3), np.float32)
    assert buffer.shaped((2, 3), np.float32) is first
    assert buffer.shaped((2, 4), np.float32) is not first
    assert buffer.shaped((2, 4), np.float32, "F").flags.f_contiguous
