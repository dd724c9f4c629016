"""The training loop: `Training.fit` and `_run_epoch` are the whole of it."""

import time
from dataclasses import dataclass, field
from math import inf, nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digitflow.tasks.nn.feed import Feed, Rows, batch_edges, shuffled
from digitflow.tasks.nn.losses import Loss
from digitflow.tasks.nn.network import Network
from digitflow.tasks.nn.randomness import Randomness
from digitflow.tasks.nn.training.checkpoints import Arrays, Checkpoint, CheckpointFolder
from digitflow.tasks.nn.training.optimizers import Optimizer, clip_gradient, gradient_norm
from digitflow.tasks.nn.training.reports import (
    BatchListener,
    BatchReport,
    EpochListener,
    EpochReport,
    History,
    TrainingDivergedError,
    TrainingInterrupted,
    deferred_interrupt,
)
from digitflow.tasks.nn.training.schedules import Schedule, constant

COLUMNS = (
    "epoch",
    "train_loss",
    "train_accuracy",
    "validation_loss",
    "validation_accuracy",
    "learning_rate",
    "gradient_norm",
)

# A mean loss this many times that of the first batch (or 1, if that is more) has exploded.
EXPLODED = 1000.0


@dataclass(frozen=True)
class Examples:
    """Images as a feed, the labels of all of them, and the rows that are meant."""

    feed: Feed
    labels: NDArray[np.integer[Any]]
    rows: Rows

    def __post_init__(self) -> None:
        count = min(len(self.feed), len(self.labels))
        if len(self.rows) and not (self.rows.min() >= 0 and self.rows.max() < count):
            message = (
                f"Rows should be from 0 to {count - 1}, of {len(self.feed)} images and "
                f"{len(self.labels)} labels; found {self.rows.min()} to {self.rows.max()}."
            )
            raise ValueError(message)

    def __len__(self) -> int:
        return len(self.rows)


@dataclass
class EarlyStopping:
    """Watches the validation loss epoch by epoch.

    Parameters
    ----------
    patience : int
        Epochs without a new best loss after which training stops, at least 1.

    Attributes
    ----------
    best_loss : float
        Lowest validation loss so far.
    best_epoch : int
        Epoch of that loss, counted from 0; -1 before the first epoch.
    best : dict[str, NDArray]
        Copy of the network's numbers after the best epoch.
    """

    patience: int
    best_loss: float = inf
    best_epoch: int = -1
    best: Arrays = field(default_factory=dict)

    def should_stop(self, epoch: int, loss: float, state: Arrays) -> bool:
        """Take note of `loss` after `epoch`; return True once patience has run out."""
        if loss < self.best_loss:
            self.best_loss, self.best_epoch = loss, epoch
            self.best = {name: array.copy() for name, array in state.items()}
        return epoch - self.best_epoch >= self.patience


@dataclass
class Training:
    """One network's training: `fit` runs it, epoch by epoch.

    Parameters
    ----------
    network : Network
        What learns; `fit` changes it in place.
    loss : Loss
        What is minimised.
    optimizer : Optimizer
        How a gradient moves the weights.
    examples : Examples
        Training examples, at least as many as the network's smallest batch.
    randomness : Randomness
        Generators of the network; `shuffle` orders the examples anew in every epoch.
    epochs, batch_size : int
        Passes over the examples, and examples per step, both at least 1.
    learning_rate : float
        Base learning rate, multiplied by `schedule`.
    schedule : callable
        Factor as a function of the share of all steps that is done.
    validation : Examples, optional
        Examples evaluated after every epoch, never learnt from.
    early_stopping : EarlyStopping, optional
        Needs `validation`; when training ends, the best epoch's weights are put back.
    gradient_clip_norm : float, optional
        Norm to which longer gradients are shortened.
    on_epoch, on_batch : callable, optional
        Called with an `EpochReport` or a `BatchReport`.
    checkpoints : CheckpointFolder, optional
        Saved to after every epoch, and resumed from.
    stop_after : int, optional
        Number of epochs after which to stop, to be resumed from the checkpoint another time. The
        schedule is that of all `epochs`, so the final result is as if there had been no stop.
    """

    network: Network
    loss: Loss
    optimizer: Optimizer
    examples: Examples
    randomness: Randomness
    epochs: int
    batch_size: int
    learning_rate: float
    schedule: Schedule = constant
    validation: Examples | None = None
    early_stopping: EarlyStopping | None = None
    gradient_clip_norm: float | None = None
    on_epoch: EpochListener | None = None
    on_batch: BatchListener | None = None
    checkpoints: CheckpointFolder | None = None
    stop_after: int | None = None
    history: History = field(init=False)

    def fit(self) -> History:
        """Train, and return one value per epoch for each of `COLUMNS`.

        Raises
        ------
        ValueError
            If a batch would be smaller than the network's smallest.
        TrainingDivergedError
            As soon as a batch's loss is NaN, infinite or more than 1,000 times the first's.
        TrainingInterrupted
            After the batch in which Ctrl-C was pressed.
        """
        self._prepare()
        last = min(self.epochs, self.stop_after or self.epochs)
        self._resume(at_most=last)
        # Overflow is looked for in the loss of every batch, and reported better than a warning.
        with (
            deferred_interrupt() as self._interrupted,
            np.errstate(over="ignore", invalid="ignore", divide="ignore"),
        ):
            while len(self.history["epoch"]) < last and not self._finished:
                self._run_epoch(len(self.history["epoch"]))
        if self.early_stopping is not None and self.early_stopping.best:
            self.network.restore(self.early_stopping.best)
        return self.history

    def _run_epoch(self, epoch: int) -> None:
        start, network, last_batch = time.perf_counter(), self.network, len(self._edges) - 2
        losses, right = 0.0, 0
        for batch, order in enumerate(shuffled(self._edges, self.randomness.shuffle)):
            rate = self._rate(epoch, batch)
            loss, hits = self._differentiate(self.examples.rows[order])
            losses, right = losses + loss * len(order), right + hits
            self._check_loss(loss, epoch, batch, rate)
            if batch == last_batch:
                # Of the last batch only: the optimiser overwrites gradients, and norms take time.
                norm = gradient_norm(network.gradients)
            if self.gradient_clip_norm is not None:
                clip_gradient(network.gradients, self.gradient_clip_norm)
            self.optimizer.step(network.values, network.gradients, rate)
            if self.on_batch is not None:
                self.on_batch(BatchReport(epoch, self.epochs, batch + 1, last_batch + 1))
            if self._interrupted():
                saved = self.checkpoints is not None and epoch > 0
                raise TrainingInterrupted(epoch=epoch, batch=batch, saved=saved)
        n = len(self.examples)
        row = (epoch, losses / n, right / n, *self._validate(epoch), rate, norm)
        for column, value in zip(COLUMNS, row, strict=True):
            self.history[column].append(value)
        self._save(epoch + 1)
        self._report(time.perf_counter() - start)

    def _prepare(self) -> None:
        self.history = {column: [] for column in COLUMNS}
        self._loss_limit = inf
        self._finished = False
        network, n = self.network, len(self.examples)
        if min(self.batch_size, n) < network.smallest_batch:
            what, found = ("batch_size", self.batch_size) if n > 1 else ("training images", n)
            message = (
                f"This network's batch normalisation needs at least {network.smallest_batch} "
                f"images in a batch: expected {what} ≥ {network.smallest_batch}, found {found}."
            )
            raise ValueError(message)
        self._edges = batch_edges(n, self.batch_size, network.smallest_batch)
        self.optimizer.prepare(network.values.size, network.decayed, network.dtype)
        self._sum_of_passes = np.empty_like(network.gradients)

    def _rate(self, epoch: int, batch: int) -> float:
        # The schedule is read in the middle of the step, so neither end of it is lost.
        batches = len(self._edges) - 1
        done = (epoch * batches + batch + 0.5) / (self.epochs * batches)
        return self.learning_rate * self.schedule(done)

    def _differentiate(self, rows: Rows) -> tuple[float, int]:
        """Set the network's gradients for one batch; return its mean loss and right answers."""
        network, total, right = self.network, 0.0, 0
        pass_size = network.training_pass(len(rows))
        for start in range(0, len(rows), pass_size):
            part = rows[start : start + pass_size]
            labels = self.examples.labels[part]
            outputs = network.forward(self.examples.feed.load(part), training=True)
            total += float(self.loss.forward(outputs, labels).sum())
            right += int(np.count_nonzero(outputs.argmax(axis=1) == labels))
            network.backward(self.loss.backward(len(rows)))
            if start > 0:
                network.gradients += self._sum_of_passes
            if start + pass_size < len(rows):
                self._sum_of_passes[...] = network.gradients
        return total / len(rows), right

    def _check_loss(self, loss: float, epoch: int, batch: int, rate: float) -> None:
        if not loss <= self._loss_limit:
            norm = gradient_norm(self.network.gradients)
            raise TrainingDivergedError(
                epoch=epoch, batch=batch, loss=loss, gradient_norm=norm, learning_rate=rate
            )
        if self._loss_limit == inf:
            self._loss_limit = EXPLODED * max(loss, 1.0)

    def _validate(self, epoch: int) -> tuple[float, float]:
        """Return loss and accuracy on the validation examples; NaN where there are none."""
        if self.validation is None:
            return nan, nan
        outputs, losses = outputs_and_losses(self.network, self.validation, self.loss)
        loss = float(losses.mean(dtype=np.float64))
        if self.early_stopping is not None:
            self._finished = self.early_stopping.should_stop(epoch, loss, self.network.state())
        right = outputs.argmax(axis=1) == self.validation.labels[self.validation.rows]
        return loss, float(np.mean(right))

    def _report(self, seconds: float) -> None:
        if self.on_epoch is None:
            return
        newest = {column: values[-1] for column, values in self.history.items()}
        self.on_epoch(
            EpochReport(
                newest["epoch"],
                self.epochs,
                train_loss=newest["train_loss"],
                train_accuracy=newest["train_accuracy"],
                held_out=None if self.validation is None else "validation",
                held_out_loss=newest["validation_loss"],
                held_out_accuracy=newest["validation_accuracy"],
                learning_rate=newest["learning_rate"],
                seconds=seconds,
                images_per_second=len(self.examples) / seconds,
            )
        )

    def _save(self, epoch: int) -> None:
        if self.checkpoints is None:
            return
        arrays = {"network": self.network.state(), "optimizer": self.optimizer.state}
        state = {
            "history": self.history,
            "randomness": self.randomness.state(),
            "steps": self.optimizer.steps,
            "loss_limit": self._loss_limit,
            "finished": self._finished,
        }
        if self.early_stopping is not None:
            arrays["best"] = self.early_stopping.best
            state["best"] = [self.early_stopping.best_loss, self.early_stopping.best_epoch]
        self.checkpoints.save(Checkpoint(epoch, arrays, state))

    def _resume(self, *, at_most: int) -> None:
        saved = self.checkpoints and self.checkpoints.load(at_most=at_most)
        if not saved:
            return
        self.network.restore(saved.arrays["network"])
        self.optimizer.state = saved.arrays.get("optimizer", {})
        self.optimizer.steps = saved.state["steps"]
        self.history = saved.state["history"]
        self.randomness.restore(saved.state["randomness"])
        self._loss_limit, self._finished = saved.state["loss_limit"], saved.state["finished"]
        if self.early_stopping is not None:
            self.early_stopping.best = saved.arrays.get("best", {})
            self.early_stopping.best_loss, self.early_stopping.best_epoch = saved.state["best"]


def outputs_and_losses(
    network: Network, examples: Examples, loss: Loss
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the network's outputs (n, classes) and losses (n,) for `examples`."""
    rows = examples.rows
    outputs = np.empty((len(rows), *network.output_shape), network.dtype)
    losses = np.empty(len(rows), network.dtype)
    for start in range(0, len(rows), network.prediction_pass):
        part = slice(start, start + network.prediction_pass)
        outputs[part] = network.forward(examples.feed.load(rows[part]))
        losses[part] = loss.forward(outputs[part], examples.labels[rows[part]])
    return outputs, losses
