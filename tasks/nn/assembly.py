"""From settings to layers, loss, optimiser and schedule."""

from digitflow.tasks.nn.convolution import Conv
from digitflow.tasks.nn.layer import Layer
from digitflow.tasks.nn.layers import Dense, Dropout, Flatten, ReLU
from digitflow.tasks.nn.losses import LOSSES, Loss
from digitflow.tasks.nn.normalization import BatchNorm
from digitflow.tasks.nn.optimizers import SGD, Adam, AdamW, Optimizer
from digitflow.tasks.nn.pooling import GlobalAveragePool, MaxPool
from digitflow.tasks.nn.schedules import SCHEDULES, Schedule, warm_up
from digitflow.tasks.nn.settings import TrainingSettings


def assemble(settings: TrainingSettings, height: int, width: int, classes: int) -> list[Layer]:
    """Return the layers for images of that size."""
    # Batch normalisation subtracts the mean, so a bias before it would have no effect.
    bias = settings.bias and not settings.batch_normalization
    normalization: list[type[Layer]] = [BatchNorm] if settings.batch_normalization else []
    layers: list[Layer] = []
    for channels in settings.convolution_channels:
        layers.append(
            Conv(
                channels,
                settings.kernel_size,
                bias=bias,
                initialization=settings.initialization,
            )
        )
        # ReLU after pooling gives the same as before it, for a quarter of the work.
        if min(height, width) >= 4:
            layers.append(MaxPool())
            height, width = height // 2, width // 2
        layers += [*(kind() for kind in normalization), ReLU()]
    if settings.convolution_channels:
        layers.append(GlobalAveragePool() if settings.global_average_pooling else Flatten())
    for size in settings.hidden_sizes:
        layers.append(Dense(size, bias=bias, initialization=settings.initialization))
        layers += [*(kind() for kind in normalization), ReLU()]
        if settings.dropout:
            layers.append(Dropout(settings.dropout))
    layers.append(Dense(classes, bias=settings.bias, initialization=settings.initialization))
    return layers


def make_loss(settings: TrainingSettings, classes: int) -> Loss:
    """Return the loss over `classes` outputs."""
    return LOSSES[settings.loss](classes, settings.label_smoothing, settings.dtype)


def make_optimizer(settings: TrainingSettings) -> Optimizer:
    """Return the optimiser."""
    decay = settings.weight_decay
    if settings.optimizer == "sgd":
        return SGD(settings.momentum, nesterov=settings.nesterov, weight_decay=decay)
    return {"adam": Adam, "adamw": AdamW}[settings.optimizer](weight_decay=decay)


def make_schedule(settings: TrainingSettings) -> Schedule:
    """Return the schedule of the learning rate, with its warm-up."""
    schedule = SCHEDULES[settings.schedule]
    share = settings.warm_up_epochs / settings.epochs
    return warm_up(schedule, share) if share else schedule
