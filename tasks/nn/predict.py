"""Outputs of a stored model for new images."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digitflow.tasks.nn.architecture import from_arrays
from digitflow.tasks.nn.blas import blas_threads
from digitflow.tasks.nn.ensemble import combine_outputs, is_ensemble, split
from digitflow.tasks.nn.tutorial import predict_tutorial

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
    with blas_threads(1):
        return _predict(weights, images)


def _predict(weights: dict[str, NDArray[Any]], images: NDArray[Any]) -> NDArray[Any]:
    if is_ensemble(weights):
        members, loss = split(weights)
        return combine_outputs([_predict(member, images) for member in members], loss)
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


def input_shape(weights: dict[str, NDArray[Any]]) -> tuple[int, ...]:
    """Return the shape of what a stored model takes of one image.

    Returns
    -------
    tuple[int, ...]
        (pixels,) of a network that begins with a dense layer and knows no more; (channels, height,
        width) of others.

    Raises
    ------
    ValueError
        If the weights describe no network.
    """
    if is_ensemble(weights):
        return input_shape(split(weights)[0][0])
    if weights.keys() == {"weights_1", "weights_2"}:
        return weights["weights_1"].shape[:1]
    return from_arrays(weights).input_shape
