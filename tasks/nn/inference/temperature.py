"""Temperature: one number that makes a network's probabilities mean what they say.

A network trained to the end is surer than it is right. Its outputs divided by one temperature,
fitted on images that it did not learn from, keep their order, and their softmax is right about as
often as it says. Source: C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger, "On calibration of modern
neural networks", ICML 2017, arXiv:1706.04599, section 4.2.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Temperatures between which the best is looked for. Outputs of a squared error lie between 0 and
# 1, and want a low one.
_LOWEST, _HIGHEST = 0.01, 100.0
_STEPS = 60
_GOLDEN = (math.sqrt(5) - 1) / 2


def at_temperature(outputs: NDArray[Any], temperature: float) -> NDArray[np.float64]:
    """Return softmax(outputs / T), the probability of each class; each row sums to 1.

    Parameters
    ----------
    outputs : NDArray, shape (n, classes)
        Logits, or what else is larger for the likelier class.
    temperature : float
        Above 0; 1 leaves the softmax as it is.
    """
    return np.exp(_log_shares(outputs, temperature))


def fit_temperature(outputs: NDArray[Any], labels: NDArray[np.integer[Any]]) -> float:
    """Return the temperature under which the labels are likeliest.

    The mean of -log softmax(outputs / T)[label] is convex in 1 / T, so it has one minimum, which
    golden-section search finds.

    Parameters
    ----------
    outputs : NDArray, shape (n, classes)
        For images that the network did not learn from, at least one.
    labels : NDArray[int], shape (n,)
        Their classes.
    """
    rows = np.arange(len(labels))

    def loss(log: float) -> float:
        return -float(_log_shares(outputs, math.exp(log))[rows, labels].mean())

    low, high = math.log(_LOWEST), math.log(_HIGHEST)
    for _ in range(_STEPS):
        width = _GOLDEN * (high - low)
        if loss(high - width) <= loss(low + width):
            high = low + width
        else:
            low = high - width
    return math.exp((low + high) / 2)


def _log_shares(outputs: NDArray[Any], temperature: float) -> NDArray[np.float64]:
    scaled = np.asarray(outputs, np.float64) / temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    shares: NDArray[np.float64] = scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True))
    return shares
