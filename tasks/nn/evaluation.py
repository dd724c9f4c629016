"""The loss and the outputs of a network on images it does not learn from."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from digitflow.tasks.nn.feed import Feed, Rows
from digitflow.tasks.nn.losses import Loss
from digitflow.tasks.nn.network import Network


def evaluate(
    network: Network, feed: Feed, labels: NDArray[Any], rows: Rows, loss: Loss
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return outputs (len(rows), classes) and losses (len(rows),) for some of the images.

    Parameters
    ----------
    feed : Feed
        All images.
    labels : NDArray[int], shape (n,)
        Of all images.
    rows : NDArray[intp]
        Which of them to evaluate.
    """
    outputs = np.empty((len(rows), *network.output_shape), network.dtype)
    losses = np.empty(len(rows), network.dtype)
    for start in range(0, len(rows), network.prediction_pass):
        part = slice(start, start + network.prediction_pass)
        outputs[part] = network.forward(feed.load(rows[part]))
        losses[part] = loss.forward(outputs[part], labels[rows[part]])
    return outputs, losses


def accuracy(outputs: NDArray[Any], labels: NDArray[Any]) -> float:
    """Return the share of rows whose largest output is the label's."""
    return float(np.mean(outputs.argmax(axis=1) == labels))
