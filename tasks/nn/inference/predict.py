"""What a stored model answers: its outputs for images, and what they mean.

The outputs of an ensemble are the mean of its members' probabilities: members that differ only in
their seeds err on different images, so their mean errs on fewer. Source: Lakshminarayanan et al.
2017, arXiv:1612.01474, section 2.4.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digitflow.tasks.nn.blas import blas_threads
from digitflow.tasks.nn.inference.model_file import kind_of, split_ensemble, to_network
from digitflow.tasks.nn.tutorial import predict_tutorial

Floats = NDArray[np.floating[Any]]


def predict(weights: Mapping[str, NDArray[Any]], images: NDArray[Any]) -> NDArray[Any]:
    """Return the outputs (n, classes) for `images`; the largest in a row is the answer.

    Parameters
    ----------
    weights : mapping of str to NDArray
        Content of a model file. To predict often, make the network once with
        `tasks.nn.inference.model_file.to_network` and call its `predict`.
    images : NDArray, shape (n, height, width) or (n, pixels)
        uint8 from 0 to 255, or floats from 0 to 1.

    Raises
    ------
    ValueError
        If the weights describe no network, or the images do not fit it.
    """
    with blas_threads(1):
        match kind_of(weights):
            case "ensemble":
                members, loss = split_ensemble(weights)
                return combine_outputs([predict(member, images) for member in members], loss)
            case "tutorial":
                return predict_tutorial(weights["weights_1"], weights["weights_2"], images)
            case "network":
                return to_network(weights).predict(images)


def input_shape(weights: Mapping[str, NDArray[Any]]) -> tuple[int, ...]:
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
    match kind_of(weights):
        case "ensemble":
            return input_shape(split_ensemble(weights)[0][0])
        case "tutorial":
            return weights["weights_1"].shape[:1]
        case "network":
            return to_network(weights).input_shape


def combine_outputs(outputs: Sequence[NDArray[Any]], loss: str) -> NDArray[Any]:
    """Return the outputs of an ensemble, given those of its members.

    They mean what a single network's do: `probabilities` makes of them the mean of the members'
    probabilities, and the largest in a row is the answer.

    Parameters
    ----------
    outputs : sequence of NDArray, each of shape (n, classes)
        Outputs of each member.
    loss : str
        ``cross_entropy``: the result is the logarithm of the mean, which is a logit.
        ``squared_error``: it is the mean itself.
    """
    dtype = outputs[0].dtype
    if loss != "cross_entropy":
        mean = np.mean([probabilities(each, loss) for each in outputs], axis=0)
        return np.asarray(mean, dtype)
    # In logarithms throughout: a probability that underflows to 0 has none.
    logs = np.stack([_log_softmax(each) for each in outputs])
    return np.asarray(np.logaddexp.reduce(logs, axis=0) - np.log(len(logs)), dtype)


def probabilities(outputs: Floats, loss: str) -> NDArray[np.float64]:
    """Return the probability of each class, each row summing to 1; the largest output stays first.

    What an output means depends on the loss that the network was trained on:

    - ``cross_entropy``: logits. Their softmax is what training fitted. (So logs of probabilities,
      averaged over several networks, come back as those averages.)
    - ``squared_error``: estimates of the probabilities themselves, since the mean of a one-hot
      target minimises the squared error. No constraint keeps them between 0 and 1, so the nearest
      point that is a probability distribution is taken, nearest in that same distance.

    Neither is calibrated (`tasks.nn.inference.temperature`): a confident network may be wrong.

    Sources: M. D. Richard and R. P. Lippmann, "Neural network classifiers estimate Bayesian a
    posteriori probabilities", Neural Computation 3 (1991). The projection: J. Duchi et al.,
    "Efficient projections onto the l1-ball", ICML 2008, figure 1.

    Parameters
    ----------
    outputs : NDArray, shape (n, classes)
        Outputs of a network or an ensemble.
    loss : str
        Setting `loss` of the training.

    Raises
    ------
    ValueError
        If the loss is another, or an output is not finite.
    """
    if not np.isfinite(outputs).all():
        message = "expected finite outputs, found NaN or infinity: the model's training diverged"
        raise ValueError(message)
    exact = np.asarray(outputs, np.float64)
    if loss == "cross_entropy":
        return _softmax(exact)
    if loss == "squared_error":
        return _nearest_distribution(exact)
    message = f"expected outputs of the loss cross_entropy or squared_error, found {loss!r}"
    raise ValueError(message)


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    # Subtracting the largest changes nothing but keeps exp from overflowing.
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return shares


def _log_softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    logs: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return logs


def _nearest_distribution(outputs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Subtract in each row what makes the rest above 0 sum to 1."""
    # Very large outputs would swallow the 1 that the rest must sum to; a shift changes nothing.
    shifted = outputs - outputs.max(axis=1, keepdims=True)
    descending = -np.sort(-shifted, axis=1)
    counts = np.arange(1, outputs.shape[1] + 1)
    offsets = (descending.cumsum(axis=1) - 1) / counts
    kept = (descending > offsets).sum(axis=1)
    offset = np.take_along_axis(offsets, kept[:, None] - 1, axis=1)
    shares: NDArray[np.float64] = np.maximum(shifted - offset, 0)
    shares /= shares.sum(axis=1, keepdims=True)
    return shares
