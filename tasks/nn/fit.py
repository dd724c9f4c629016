"""The training loop."""

import time
from dataclasses import dataclass, field
from math import inf, nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digitflow.tasks.nn.checkpoints import Checkpoint, CheckpointFolder
from digitflow.tasks.nn.early_stopping import EarlyStopping
from digitflow.tasks.nn.errors import TrainingDivergedError, TrainingInterrupted
from digitflow.tasks.nn.evaluation import accuracy, evaluate
from digitflow.tasks.nn.feed import Feed, Rows, batch_edges, shuffled
from digitflow.tasks.nn.interrupt import deferred_interrupt
from digitflow.tasks.nn.losses import Loss
from digitflow.tasks.nn.network import Network
from digitflow.tasks.nn.optimizers import Optimizer, clip_gradient, gradient_norm
from digitflow.tasks.nn.progress import BatchListener, BatchReport, EpochListener, EpochReport
from digitflow.tasks.nn.randomness import Randomness
from digitflow.tasks.nn.schedules import Schedule, constant

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

History = dict[str, list[Any]]


@dataclass(frozen=True)
class Examples:
    """Images as a feed, their labels, and which of them are meant."""

    feed: Feed
    labels: NDArray[np.integer[Any]]
    rows: Rows

    def __len__(self) -> int:
        return len(self.rows)


@dataclass
class Training:
    """One network's training: `fit` runs it, epoch by epoch.

    Parameters
    ----------
    network, loss, optimizer : Network, Loss, Optimizer
        What learns, towards what, and how.
    examples : Examples
        To learn from.
    randomness : Randomness
        The network's own; its `shuffle` orders the examples anew in every epoch.
    epochs, batch_size : int
        Passes over the examples, and examples per step.
    learning_rate : float
        Multiplied by `schedule`, a function of the share of all steps that is done.
    validation : Examples, optional
        Evaluated after every epoch, never learnt from.
    early_stopping : EarlyStopping, optional
        Needs `validation`; when training ends, the best epoch's weights are put back.
    gradient_clip_norm : float, optional
        Gradients longer than this are shortened to it.
    on_epoch, on_batch : callable, optional
        Called with an `EpochReport` or a `BatchReport`.
    checkpoints : CheckpointFolder, optional
        Saved to after every epoch, and gone on from.
    stop_after : int, optional
        Stop when so many epochs are done, to go on another time from the checkpoint. The schedule
        is that of all `epochs`, so what comes out in the end is as if there had been no stop.
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
        self._last = min(self.epochs, self.stop_after or self.epochs)
        self._resume()
        # Overflow is looked for in the loss of every batch, and reported better than a warning.
        with (
            deferred_interrupt() as self._interrupted,
            np.errstate(over="ignore", invalid="ignore", divide="ignore"),
        ):
            while len(self.history["epoch"]) < self._last and not self._finished:
                self._run_epoch(len(self.history["epoch"]))
        if self.early_stopping is not None and self.early_stopping.best:
            network.restore(self.early_stopping.best)
        return self.history

    def _run_epoch(self, epoch: int) -> None:
        start, network = time.perf_counter(), self.network
        n, edges = len(self.examples), self._edges
        batches = len(edges) - 1
        losses, self._hits = 0.0, 0
        for batch, order in enumerate(shuffled(edges, self.randomness.shuffle)):
            # The schedule is read in the middle of the step, so neither end of it is lost.
            done = (epoch * batches + batch + 0.5) / (self.epochs * batches)
            rate = self.learning_rate * self.schedule(done)
            loss = self._differentiate(self.examples.rows[order])
            losses += loss * len(order)
            if not loss <= self._loss_limit:
                norm = gradient_norm(network.gradients)
                raise TrainingDivergedError(
                    epoch=epoch, batch=batch, loss=loss, gradient_norm=norm, learning_rate=rate
                )
            if self._loss_limit == inf:
                self._loss_limit = EXPLODED * max(loss, 1.0)
            if batch == batches - 1:
                # Of the last batch only: the optimiser overwrites gradients, and norms take time.
                norm = gradient_norm(network.gradients)
            if self.gradient_clip_norm is not None:
                clip_gradient(network.gradients, self.gradient_clip_norm)
            self.optimizer.step(network.values, network.gradients, rate)
            if self.on_batch is not None:
                self.on_batch(BatchReport(epoch, self.epochs, batch + 1, batches))
            if self._interrupted():
                saved = self.checkpoints is not None and epoch > 0
                raise TrainingInterrupted(epoch=epoch, batch=batch, saved=saved)
        validation = self._validate(epoch)
        row = (epoch, losses / n, self._hits / n, *validation, rate, norm)
        for column, value in zip(COLUMNS, row, strict=True):
            self.history[column].append(value)
        self._save(epoch + 1)
        if self.on_epoch is not None:
            seconds = time.perf_counter() - start
            self.on_epoch(
                EpochReport(
                    epoch,
                    self.epochs,
                    train_loss=losses / n,
                    train_accuracy=self._hits / n,
                    held_out=None if self.validation is None else "validation",
                    held_out_loss=validation[0],
                    held_out_accuracy=validation[1],
                    learning_rate=rate,
                    seconds=seconds,
                    images_per_second=n / seconds,
                )
            )

    def _differentiate(self, rows: Rows) -> float:
        """Set the network's gradients for one batch; return its mean loss."""
        network, total = self.network, 0.0
        pass_size = network.training_pass(len(rows))
        for start in range(0, len(rows), pass_size):
            part = rows[start : start + pass_size]
            labels = self.examples.labels[part]
            outputs = network.forward(self.examples.feed.load(part), training=True)
            total += float(self.loss.forward(outputs, labels).sum())
            self._hits += int(np.count_nonzero(outputs.argmax(axis=1) == labels))
            network.backward(self.loss.backward(len(rows)))
            if start > 0:
                network.gradients += self._sum_of_passes
            if start + pass_size < len(rows):
                self._sum_of_passes[...] = network.gradients
        return total / len(rows)

    def _validate(self, epoch: int) -> tuple[float, float]:
        held_back = self.validation
        if held_back is None:
            return nan, nan
        outputs, losses = evaluate(
            self.network, held_back.feed, held_back.labels, held_back.rows, self.loss
        )
        loss = float(losses.mean(dtype=np.float64))
        if self.early_stopping is not None:
            self._finished = self.early_stopping.should_stop(epoch, loss, self.network.state())
        return loss, accuracy(outputs, held_back.labels[held_back.rows])

    def _save(self, epoch: int) -> None:
        if self.checkpoints is None:
            return
        groups = {"network": self.network.state(), "optimizer": self.optimizer.state}
        state = {
            "history": self.history,
            "randomness": self.randomness.state(),
            "steps": self.optimizer.steps,
            "loss_limit": self._loss_limit,
            "finished": self._finished,
        }
        if self.early_stopping is not None:
            groups["best"] = self.early_stopping.best
            state["best"] = [self.early_stopping.best_loss, self.early_stopping.best_epoch]
        arrays = {
            f"{group}/{name}": array
            for group, named in groups.items()
            for name, array in named.items()
        }
        self.checkpoints.save(Checkpoint(epoch, arrays, state))

    def _resume(self) -> None:
        saved = self.checkpoints and self.checkpoints.load(at_most=self._last)
        if not saved:
            return

        def group(prefix: str) -> dict[str, NDArray[Any]]:
            start = f"{prefix}/"
            return {
                name.removeprefix(start): array
                for name, array in saved.arrays.items()
                if name.startswith(start)
            }

        self.network.restore(group("network"))
        self.optimizer.state = group("optimizer")
        self.optimizer.steps = saved.state["steps"]
        self.history = saved.state["history"]
        self.randomness.restore(saved.state["randomness"])
        self._loss_limit, self._finished = saved.state["loss_limit"], saved.state["finished"]
        if self.early_stopping is not None:
            self.early_stopping.best = group("best")
            self.early_stopping.best_loss, self.early_stopping.best_epoch = saved.state["best"]
