"""A network's outputs as probabilities: the one place that says what an output means."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


def probabilities(outputs: Floats, loss: str) -> NDArray[np.float64]:
    """Return how probable each class is, each row summing to 1; the largest output stays first.

    What a network was trained to make small decides what its outputs are:

    - ``cross_entropy``: logits. Their softmax is what training fitted. (So logs of probabilities,
      averaged over several networks, come back as those averages.)
    - ``squared_error``: estimates of the probabilities themselves, since the mean of a one-hot
      target is what makes a squared error least. No constraint keeps them between 0 and 1, so the
      nearest point that is a probability distribution is taken, nearest in that same distance.

    Neither is calibrated: a network that is sure of itself may be wrong.

    Sources: M. D. Richard and R. P. Lippmann, "Neural network classifiers estimate Bayesian a
    posteriori probabilities", Neural Computation 3 (1991). The projection: J. Duchi et al.,
    "Efficient projections onto the l1-ball", ICML 2008, figure 1.

    Parameters
    ----------
    outputs : NDArray, shape (n, classes)
    loss : str
        The setting `loss` of the training.

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
