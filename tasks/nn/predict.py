"""Outputs of a stored model for new images."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.nn.architecture import from_arrays
from tasks.nn.ensemble import combine_outputs, is_ensemble, split
from tasks.nn.tutorial import predict_tutorial


def predict(weights: dict[str, NDArray[Any]], images: NDArray[Any]) -> NDArray[Any]:
    """Return the outputs (n, classes) for `images`; the largest in a row is the answer.

    Parameters
    ----------
    weights : dict[str, NDArray]
        A `TrainingResult`'s, of the tutorial's network or any other, or an ensemble's. To predict
        often, make the network once with `tasks.nn.architecture.from_arrays` and call its
        `predict`.
    images : NDArray, shape (n, height, width) or (n, pixels)
        uint8 from 0 to 255, or floats from 0 to 1.

    Raises
    ------
    ValueError
        If the weights describe no network, or the images do not fit it.
    """
    if is_ensemble(weights):
        members, loss = split(weights)
        return combine_outputs([predict(member, images) for member in members], loss)
    if weights.keys() == {"weights_1", "weights_2"}:
        flat = images.reshape(len(images), math.prod(images.shape[1:]))
        pixels = flat / 255 if flat.dtype == np.uint8 else flat.astype(np.float64)
        return predict_tutorial(weights["weights_1"], weights["weights_2"], pixels)
    return from_arrays(weights).predict(images)


def image_side(weights: dict[str, NDArray[Any]]) -> int:
    """Return the side, in pixels, of the square grey images that a stored model takes.

    Raises
    ------
    ValueError
        If the weights describe no network, or it takes other images.
    """
    if is_ensemble(weights):
        return image_side(split(weights)[0][0])
    if weights.keys() == {"weights_1", "weights_2"}:
        shape: tuple[int, ...] = weights["weights_1"].shape[:1]
    else:
        shape = from_arrays(weights).input_shape
    side = math.isqrt(math.prod(shape))
    # A dense network knows only how many pixels there are.
    if shape not in ((side * side,), (1, side, side)):
        message = f"expected a model of square grey images, found one of the input shape {shape}"
        raise ValueError(message)
    return side
