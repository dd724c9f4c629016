"""Every setting of a network's training, with its bounds and what it means."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

# Of validation images, where the settings do not say how many. A share of 5,000 has a standard
# error of at most 0.7 points; more would be taken from what is learnt from for little.
LARGEST_VALIDATION_SET = 5_000


class TrainingSettings(BaseModel):
    """What decides a network and its training, beside the data.

    A preset is a few values that differ from these defaults.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    # The inputs
    standardization: Annotated[
        bool,
        Field(
            description="Subtract the training pixels' mean and divide by their standard deviation."
        ),
    ] = True

    # The network
    convolution_channels: Annotated[
        tuple[Annotated[int, Field(ge=1, le=1024)], ...],
        Field(
            max_length=6,
            description="Channels of each convolution, each followed by 2x2 max pooling while the "
            "image is large enough; none for a dense network.",
        ),
    ] = ()
    kernel_size: Annotated[
        int, Field(ge=1, le=11, description="Height and width of the kernels; odd.")
    ] = 3
    global_average_pooling: Annotated[
        bool, Field(description="Average each channel over all positions instead of flattening.")
    ] = False
    hidden_sizes: Annotated[
        tuple[Annotated[int, Field(ge=1, le=65_536)], ...],
        Field(max_length=20, description="Units in each hidden layer, from input to output."),
    ] = (100,)
    bias: Annotated[bool, Field(description="Add a bias in every layer.")] = True
    initialization: Annotated[
        Literal["he", "glorot", "tutorial"],
        Field(description="Distribution of the initial weights."),
    ] = "he"
    batch_normalization: Annotated[
        bool, Field(description="Batch normalisation before every ReLU.")
    ] = False
    dropout: Annotated[
        float, Field(ge=0, lt=1, description="Fraction of hidden units dropped in training.")
    ] = 0.0
    dtype: Annotated[
        Literal["float32", "float64"], Field(description="Floating-point precision.")
    ] = "float32"

    # The loss
    loss: Annotated[
        Literal["cross_entropy", "squared_error"],
        Field(description="Loss function that training minimises."),
    ] = "cross_entropy"
    label_smoothing: Annotated[
        float, Field(ge=0, lt=1, description="Fraction of each target spread over all classes.")
    ] = 0.0

    # Optimisation
    epochs: Annotated[int, Field(ge=1, le=10_000, description="Passes over the training set.")] = 10
    batch_size: Annotated[int, Field(ge=1, le=65_536, description="Images per step.")] = 128
    optimizer: Annotated[
        Literal["sgd", "adam", "adamw"], Field(description="Optimiser that updates the weights.")
    ] = "adam"
    learning_rate: Annotated[
        float, Field(gt=0, le=10, description="Peak learning rate of the schedule.")
    ] = 0.001
    momentum: Annotated[float, Field(ge=0, lt=1, description="Momentum; SGD only.")] = 0.9
    nesterov: Annotated[bool, Field(description="Nesterov momentum; SGD with momentum only.")] = (
        False
    )
    weight_decay: Annotated[
        float, Field(ge=0, le=10, description="Weight decay: L2 penalty, or decoupled (adamw).")
    ] = 0.0
    gradient_clip_norm: Annotated[
        float, Field(ge=0, le=1e6, description="Clip the gradient norm to this; 0 disables.")
    ] = 0.0
    schedule: Annotated[
        Literal["constant", "step", "cosine", "one_cycle"],
        Field(description="Learning-rate schedule."),
    ] = "one_cycle"
    warm_up_epochs: Annotated[
        float, Field(ge=0, le=1000, description="Epochs of learning-rate warm-up.")
    ] = 0.0

    # Validation, early stopping, augmentation
    validation_size: Annotated[
        int | None,
        Field(
            ge=0,
            le=100_000_000,
            description="Training images held out for validation; None for "
            f"{LARGEST_VALIDATION_SET:,}, or a tenth if that is less.",
        ),
    ] = None
    patience: Annotated[
        int,
        Field(
            ge=0,
            le=10_000,
            description="Stop after this many epochs without a better validation loss; 0 disables.",
        ),
    ] = 0
    shift: Annotated[
        int, Field(ge=0, le=14, description="Augmentation: maximum shift, in pixels.")
    ] = 0
    rotation: Annotated[
        float, Field(ge=0, le=180, description="Augmentation: maximum rotation, in degrees.")
    ] = 0.0
    scale: Annotated[
        float, Field(ge=0, le=0.9, description="Augmentation: maximum relative scaling.")
    ] = 0.0
    elastic: Annotated[
        float,
        Field(ge=0, le=10, description="Augmentation: elastic displacement (std), in pixels."),
    ] = 0.0
    # What it computes with
    blas_threads: Annotated[
        int,
        Field(
            ge=1,
            le=256,
            description="BLAS threads for training; the last bits of the weights depend on it.",
        ),
    ] = 1
    seed: Annotated[
        int, Field(ge=0, lt=2**63, description="Seed of all random numbers of a training.")
    ] = 0

    def held_back(self, images: int, classes: int) -> int:
        """Return how many of the training images are held back for validation.

        Parameters
        ----------
        images, classes : int
            Of the training set; every class keeps an image to be learnt from.
        """
        if self.validation_size is not None:
            return self.validation_size
        return max(0, min(LARGEST_VALIDATION_SET, images // 10, images - classes))

    @model_validator(mode="after")
    def _fit_together(self) -> TrainingSettings:
        self._check_fit()
        return self

    def _check_fit(self) -> None:
        if self.patience and self.validation_size == 0:
            message = "patience needs a validation set: set validation_size above 0, or patience=0"
            raise ValueError(message)
        if self.batch_normalization and self.batch_size == 1 and self.hidden_sizes:
            message = (
                "batch_normalization needs at least 2 images in a batch: set batch_size=2 or "
                "more, or batch_normalization=false"
            )
            raise ValueError(message)
        if self.nesterov and not (self.optimizer == "sgd" and self.momentum > 0):
            message = "nesterov needs optimizer='sgd' and momentum above 0"
            raise ValueError(message)
        if self.global_average_pooling and not self.convolution_channels:
            message = "global_average_pooling needs convolution_channels"
            raise ValueError(message)
        if self.warm_up_epochs >= self.epochs:
            message = "warm_up_epochs must be smaller than epochs"
            raise ValueError(message)
        if self.kernel_size % 2 == 0:
            message = "kernel_size must be odd, so that height and width stay as they are"
            raise ValueError(message)
