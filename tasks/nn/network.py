"""A network: layers in a row, over one long vector of parameters."""

from collections.abc import Sequence
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from digitflow.tasks.nn.feed import Augmentation, Feed
from digitflow.tasks.nn.layers.base import Floats, Layer, Parameter, Shape
from digitflow.tasks.nn.layers.buffer import aligned
from digitflow.tasks.nn.layers.convolution import Conv
from digitflow.tasks.nn.layers.normalization import BatchNorm
from digitflow.tasks.nn.randomness import Randomness

# Images that pass through at once. A convolution's intermediate results are large, and it pays
# to keep those of a few images in the cache; a dense layer would rather have more.
CONVOLUTION_PASS = 32
DENSE_PASS = 1024


class Network:
    """Layers in a row; the weights of all of them are one vector, and so are the gradients.

    Parameters
    ----------
    layers : sequence of Layer
        From input to output; each is built here and belongs to this network.
    input_shape : tuple[int, ...]
        Of one sample: ``(pixels,)`` or ``(channels, height, width)``.
    randomness : Randomness
        Where initial weights and dropout come from.
    dtype : dtype
        float32 or float64.
    inverted : bool
        The images that it takes are dark on light; its layers see them light on dark.
    mean, deviation : float
        Of the pixels it is trained on, light on dark, 0 to 1: its layers see what is left when the
        mean is subtracted, divided by the deviation.

    Attributes
    ----------
    values, gradients : NDArray, shape (size,)
        All parameters and their gradients; layers hold views of both. The first `decayed` are
        those that weight decay applies to.
    output_shape : tuple[int, ...]
    smallest_batch : int
        Images that a batch needs in training: 2 with batch normalisation of features.

    Raises
    ------
    ValueError
        If there is no layer, or one cannot take what the one before it gives, or is part of a
        network already; names the layer. If the mean is not finite or the deviation not positive.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        input_shape: Shape,
        *,
        randomness: Randomness,
        dtype: DTypeLike = np.float32,
        inverted: bool = False,
        mean: float = 0.0,
        deviation: float = 1.0,
    ) -> None:
        self.layers = list(layers)
        if not self.layers:
            message = "A network takes at least one layer; found none."
            raise ValueError(message)
        if not (isfinite(mean) and isfinite(deviation) and deviation > 0):
            message = (
                "A network takes a finite mean and a finite deviation above 0 of its pixels; found "
                f"{mean} and {deviation}."
            )
            raise ValueError(message)
        self.inverted, self.mean, self.deviation = inverted, mean, deviation
        self.input_shape = input_shape
        self.dtype = np.dtype(dtype)
        shape = input_shape
        for index, layer in enumerate(self.layers):
            # Built again, it would leave the network that it is in with weights that nobody trains.
            if hasattr(layer, "parameters"):
                message = (
                    f"Layer {index} is part of a network already, perhaps of this one; give a "
                    f"{type(layer).__name__} of its own."
                )
                raise ValueError(message)
            try:
                shape = layer.build(shape, randomness, dtype)
            except ValueError as error:
                message = f"Layer {index} does not fit: {error}"
                raise ValueError(message) from error
        self.output_shape = shape
        self.smallest_batch = max(layer.smallest_batch for layer in self.layers)
        self._collect_parameters()
        learning = [index for index, layer in enumerate(self.layers) if layer.parameters]
        self._first = min(learning, default=0)
        self.layers[self._first].is_first = True
        self._convolves = any(isinstance(layer, Conv) for layer in self.layers)
        self._normalizes = any(isinstance(layer, BatchNorm) for layer in self.layers)

    def forward(self, x: Floats, *, training: bool = False) -> Floats:
        """Return the outputs for the batch `x`, in a buffer that the next call overwrites."""
        for layer in self.layers:
            x = layer.forward(x, training=training)
        return x

    def backward(self, dy: Floats) -> None:
        """Set `gradients` from the gradient in the outputs of the last `forward`."""
        for layer in reversed(self.layers[self._first :]):
            dy = layer.backward(dy)

    def predict(self, images: NDArray[Any]) -> Floats:
        """Return the outputs (n, classes) for `images` (n, height, width), uint8 or 0 to 1."""
        outputs = np.empty((len(images), *self.output_shape), self.dtype)
        feed = self.feed(images)
        for start in range(0, len(images), self.prediction_pass):
            stop = min(start + self.prediction_pass, len(images))
            outputs[start:stop] = self.forward(feed.load(slice(start, stop)))
        return outputs

    def feed(self, images: NDArray[Any], augment: Augmentation | None = None) -> Feed:
        """Return what makes this network's input of images, uint8 or 0 to 1."""
        return Feed(
            images,
            self.input_shape,
            self.dtype,
            augment,
            inverted=self.inverted,
            mean=self.mean,
            deviation=self.deviation,
        )

    @property
    def prediction_pass(self) -> int:
        """How many images `predict` sends through at once."""
        return CONVOLUTION_PASS if self._convolves else DENSE_PASS

    def training_pass(self, batch_size: int) -> int:
        """How many images of a batch pass at once; their gradients are summed.

        Batch normalisation needs the whole batch, since it averages over it.
        """
        if self._normalizes:
            return batch_size
        return min(batch_size, self.prediction_pass)

    def state(self) -> dict[str, NDArray[Any]]:
        """Return every number that prediction depends on, by name, as views."""
        arrays: dict[str, NDArray[Any]] = {}
        for index, layer in enumerate(self.layers):
            prefix = f"{index}_{type(layer).__name__}"
            for name, parameter in layer.parameters.items():
                arrays[f"{prefix}.{name}"] = parameter.value
            for name, statistic in layer.statistics.items():
                arrays[f"{prefix}.{name}"] = statistic
        return arrays

    def restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Take over the numbers that `state` of an equal network returned.

        Raises
        ------
        ValueError
            If a name is missing or unknown, or a shape differs.
        """
        own = self.state()
        if own.keys() != arrays.keys():
            message = (
                f"The network has the arrays {', '.join(sorted(own))}; "
                f"found {', '.join(sorted(arrays))}."
            )
            raise ValueError(message)
        for name, array in own.items():
            if array.shape != arrays[name].shape:
                message = f"{name} has shape {array.shape}; found {arrays[name].shape}."
                raise ValueError(message)
            array[...] = arrays[name]

    def _collect_parameters(self) -> None:
        """Move all parameters into one vector, those that decay first."""
        parameters: list[Parameter] = [
            parameter for layer in self.layers for parameter in layer.parameters.values()
        ]
        parameters.sort(key=lambda parameter: not parameter.decay)
        self.decayed = sum(parameter.value.size for parameter in parameters if parameter.decay)
        size = sum(parameter.value.size for parameter in parameters)
        self.values, self.gradients = (aligned((size,), self.dtype) for _ in range(2))
        start = 0
        for parameter in parameters:
            stop, shape = start + parameter.value.size, parameter.value.shape
            self.values[start:stop] = parameter.value.ravel()
            parameter.value = self.values[start:stop].reshape(shape)
            parameter.gradient = self.gradients[start:stop].reshape(shape)
            start = stop
