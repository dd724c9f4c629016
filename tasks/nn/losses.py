"""What a network is asked to make small.

A loss takes the outputs (n, classes) and the labels (n,), whole numbers from 0. `forward`
returns the loss of each sample, `backward` the gradient of their *mean over the batch*; a batch
may be passed in parts, so `backward` is told how large the whole is.
"""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digitflow.tasks.nn.layers.buffer import Buffer

Floats = NDArray[np.floating[Any]]
Labels = NDArray[np.integer[Any]]


class Loss(ABC):
    """A loss over one-hot targets, optionally smoothed.

    Parameters
    ----------
    classes : int
        Number of classes, the width of the outputs.
    smoothing : float
        Share of each target that is spread evenly over all classes; 0 keeps it one-hot.
        Source: Szegedy et al. 2016, arXiv:1512.00567, section 7.
    """

    def __init__(self, classes: int, smoothing: float = 0.0, dtype: str = "float32") -> None:
        # Column c is the target of class c.
        one_hot = np.eye(classes) * (1 - smoothing) + smoothing / classes
        self._columns = one_hot.astype(dtype)
        self._targets, self._work, self._gradient = Buffer(), Buffer(), Buffer()

    def forward(self, outputs: Floats, labels: Labels) -> Floats:
        """Return the loss of each sample, (n,).

        Raises
        ------
        ValueError
            If the shapes are not (n, classes) and (n,), or a label is no class.
        """
        if outputs.shape != (len(labels), len(self._columns)):
            message = (
                f"The loss takes outputs of shape (n, {len(self._columns)}) and n labels; found "
                f"{outputs.shape} and {len(labels)} labels."
            )
            raise ValueError(message)
        if len(labels) and not (labels.min() >= 0 and labels.max() < len(self._columns)):
            message = (
                f"Labels should be from 0 to {len(self._columns) - 1}; found {labels.min()} to "
                f"{labels.max()}."
            )
            raise ValueError(message)
        return self._forward(outputs, labels)

    def targets(self, labels: Labels) -> Floats:
        """Return the targets (n, classes) for `labels` (n,)."""
        shape = (len(labels), len(self._columns))
        out = self._targets.shaped(shape, self._columns.dtype, "F")
        # mode="clip" lets take write into `out` without a copy; labels were checked before.
        self._columns.take(labels, axis=1, out=out.T, mode="clip")
        return out

    @abstractmethod
    def _forward(self, outputs: Floats, labels: Labels) -> Floats:
        """Return the loss of each sample, and keep what `backward` needs."""

    @abstractmethod
    def backward(self, batch_size: int) -> Floats:
        """Return the gradient of Σ loss / `batch_size` in the outputs of the last `forward`."""


class CrossEntropy(Loss):
    """Softmax and cross-entropy in one, from logits z: loss = log Σ exp z - Σ t z.

    Subtracting the largest logit first changes nothing but keeps exp from overflowing.
    """

    def _forward(self, outputs: Floats, labels: Labels) -> Floats:
        z = self._work.like(outputs, self._columns.dtype)
        np.subtract(outputs, outputs.max(axis=1, keepdims=True), out=z)
        self._target = self.targets(labels)
        target_logit = np.einsum("nc,nc->n", self._target, z)
        np.exp(z, out=z)
        total = z.sum(axis=1, keepdims=True)
        z /= total
        self._probabilities = z
        losses: Floats = np.log(total[:, 0]) - target_logit
        return losses

    def backward(self, batch_size: int) -> Floats:
        # d loss / dz = softmax(z) - t, since the targets sum to 1.
        gradient = self._gradient.like(self._probabilities, self._columns.dtype)
        np.subtract(self._probabilities, self._target, out=gradient)
        gradient *= 1 / batch_size
        return gradient


class SquaredError(Loss):
    """The tutorial's loss: Σ (output - target)² over the classes."""

    def _forward(self, outputs: Floats, labels: Labels) -> Floats:
        self._difference = self._work.like(outputs, self._columns.dtype)
        np.subtract(outputs, self.targets(labels), out=self._difference)
        losses: Floats = np.einsum("nc,nc->n", self._difference, self._difference)
        return losses

    def backward(self, batch_size: int) -> Floats:
        gradient = self._gradient.like(self._difference, self._columns.dtype)
        np.multiply(self._difference, 2 / batch_size, out=gradient)
        return gradient


LOSSES: dict[str, type[Loss]] = {"cross_entropy": CrossEntropy, "squared_error": SquaredError}
