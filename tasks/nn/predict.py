"""Outputs of a stored model for new images."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.nn.architecture import from_arrays
from tasks.nn.ensemble import combine_outputs, is_ensemble, split
from tasks.nn.tutorial import predict_tutorial

# Images at once in eight bytes a pixel. More than a usual test set has: BLAS may round the rows
# of another number of images otherwise.
_TUTORIAL_PASS = 16_384


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
        outputs = np.empty((len(flat), weights["weights_2"].shape[1]))
        for start in range(0, len(flat), _TUTORIAL_PASS):
            part = flat[start : start + _TUTORIAL_PASS]
            pixels = part / 255 if part.dtype == np.uint8 else part.astype(np.float64)
            outputs[start : start + _TUTORIAL_PASS] = predict_tutorial(
                weights["weights_1"], weights["weights_2"], pixels
            )
        return outputs
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
