"""What a network is trained on: the first images of a dataset, checked."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from digitflow.tasks.data.classes import SampleError
from digitflow.tasks.data.idx.arrays import check_pair


def take_first(
    what: str, images: NDArray[Any], labels: NDArray[Any], count: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the first `count` images and labels, without copying.

    Parameters
    ----------
    what : str
        ``training`` or ``test``, for messages.
    images : NDArray, shape (n, height, width)
    labels : NDArray, shape (n,)
    count : int
        At most n; 0 for all.

    Raises
    ------
    IdxError
        If images and labels do not belong together.
    SampleError
        If there are fewer than `count`.
    """
    check_pair(images, labels, name=f"the {what} set")
    if count > len(images):
        message = (
            f"{what}_sample: expected at most {len(images)}, the {what} images that the data "
            f"holds, found {count}; ask for {what}_sample={len(images)} or fewer"
        )
        raise SampleError(message)
    count = count or len(images)
    return images[:count], labels[:count]


def check_images(training: NDArray[Any], test: NDArray[Any]) -> None:
    """Refuse images that are not grey, not of bytes, or not all of one size.

    Raises
    ------
    SampleError
        Says what was found.
    """
    for what, images in (("training", training), ("test", test)):
        if images.ndim != 3 or images.dtype != np.uint8:
            message = (
                f"expected {what} images of unsigned bytes and shape (images, height, width), "
                f"found {images.dtype.name} of shape {images.shape}"
            )
            raise SampleError(message)
    if training.shape[1:] != test.shape[1:]:
        (height, width), (test_height, test_width) = training.shape[1:], test.shape[1:]
        message = (
            f"expected training and test images of one size, found {height} x {width} and "
            f"{test_height} x {test_width} pixels"
        )
        raise SampleError(message)
