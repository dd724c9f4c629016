"""Train the points of a sweep: all of them to the end, or the better ones after each rung."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise

from digitflow.flows.pipeline import train_network
from digitflow.flows.workers import Workers
from digitflow.tasks.engine import cancellation
from digitflow.tasks.engine.call import Context, Handle, Ref, StageResult, using
from digitflow.tasks.engine.cancellation import StoppedError
from digitflow.tasks.engine.events import PointDone, PointsStarted, emit
from digitflow.tasks.stages.partial_train import rung
from digitflow.tasks.sweeps.grid import Point
from digitflow.tasks.sweeps.halving import rungs, survivors
from digitflow.tasks.sweeps.ranking import Outcome, rank, scores_of


class Trainer:
    """Trains points on workers and keeps what became of them.

    Parameters
    ----------
    context
        Of the run.
    workers
        Where to train.
    prepared
        What `preprocess` made, for every point.
    classes
        Of the dataset.
    metric
        By which points are compared.

    Attributes
    ----------
    trained
        By the label of a point, its call of `train`.
    epochs
        So many were trained, without those that were cached.
    """

    def __init__(
        self, context: Context, workers: Workers, prepared: Handle, classes: int, metric: str
    ) -> None:
        self._context = replace(context, execute=workers.submit, called=[])
        self._workers, self._prepared = workers, prepared
        self._classes, self.metric = classes, metric
        self.trained: dict[str, Handle] = {}
        self.epochs = 0
        self._rungs: dict[str, StageResult] = {}

    def result(self, point: Point) -> StageResult:
        """Return the result of a point that was trained to the end."""
        return self.trained[point.label].result()

    def train(self, points: Sequence[Point]) -> list[Outcome]:
        """Train points to the end; those that were begun go on from there."""

        def submit(label: str, point: Point) -> None:
            begun = self._rungs.get(point.label)
            self.trained[point.label] = train_network(
                label,
                self._prepared,
                point.parameters,
                self._classes,
                checkpoint=None if begun is None else Ref(begun, "checkpoint"),
            )

        epochs = max(point.parameters.epochs for point in points)
        return self._run({f"train {point.label}": point for point in points}, epochs, submit)

    def begin(self, points: Sequence[Point], until: int) -> list[Outcome]:
        """Train the first epochs of points; those that were begun go on from there."""

        def submit(label: str, point: Point) -> None:
            begun = self._rungs.get(point.label)
            rung.with_label(label).submit(
                self._prepared["training_inputs"],
                self._prepared["training_targets"],
                self._prepared["form"],
                **({} if begun is None else {"checkpoint": Ref(begun, "checkpoint")}),
                settings=point.parameters.training(),
                classes=self._classes,
                until=until,
            )

        by_label = {f"rung {until} {point.label}": point for point in points}
        return self._run(by_label, until, submit)

    def _run(
        self, by_label: Mapping[str, Point], epochs: int, submit: Callable[[str, Point], None]
    ) -> list[Outcome]:
        outcomes: dict[str, Outcome] = {}

        def done(label: str, result: StageResult | BaseException) -> None:
            if isinstance(result, StoppedError):
                return
            outcome = self._outcome(by_label[label], result)
            outcomes[label] = outcome
            emit(
                PointDone(
                    label,
                    outcome.status == "cached",
                    outcome.seconds,
                    outcome.epochs,
                    outcome.scores.get(self.metric),
                    outcome.error,
                )
            )

        labels = {label: point.label for label, point in by_label.items()}
        emit(PointsStarted(labels, self.metric, epochs))
        # What is at work when a stop is asked for is still to be waited for.
        with using(self._context), suppress(StoppedError):
            # The longest first: at the end no worker waits long for the last one.
            for label, point in sorted(by_label.items(), key=lambda each: -_work(each[1])):
                submit(label, point)
        self._workers.wait(done)
        if cancellation.requested() or len(outcomes) < len(by_label):
            message = f"stopped with {len(outcomes)} of {len(by_label)} points finished"
            raise StoppedError(message)
        return [outcomes[label] for label in by_label]

    def _outcome(self, point: Point, result: StageResult | BaseException) -> Outcome:
        if isinstance(result, BaseException):
            return Outcome(point, error=str(result) or type(result).__name__)
        read = self._context.store.read
        history = read(result.outputs["history"])
        before = self._rungs.get(point.label)
        if not result.cached:
            already = 0 if before is None else len(read(before.outputs["history"]))
            self.epochs += len(history) - already
        if result.stage == rung.name:
            self._rungs[point.label] = result
        scores = scores_of(history, point.parameters.patience)
        if scores[self.metric] != scores[self.metric]:  # NaN
            return Outcome(point, error="there were no validation images to judge it by")
        return Outcome(
            point,
            scores,
            len(history),
            "cached" if result.cached else "ran",
            None,
            result.key,
            0.0 if result.cached else result.seconds,
        )


def _work(point: Point) -> float:
    """Estimate how long a point trains, in no unit: enough to tell which takes longest.

    Multiplications per image, of images of some 800 pixels, times epochs.
    """
    settings = point.parameters
    dense = (800, *settings.hidden_sizes, 10)
    channels = (1, *settings.convolution_channels)
    places = [800 / 4**depth for depth in range(len(channels) - 1)]
    products: float = sum(a * b for a, b in pairwise(dense))
    products += sum(
        settings.kernel_size**2 * a * b * area
        for (a, b), area in zip(pairwise(channels), places, strict=True)
    )
    return settings.epochs * products


def train_all(trainer: Trainer, points: Sequence[Point], *, halving: bool) -> list[Outcome]:
    """Train points and return what became of each.

    Parameters
    ----------
    trainer
        Trains them.
    points
        The points.
    halving
        After each rung, only the better third goes on.

    Raises
    ------
    StoppedError
        If a stop was asked for.
    """
    if not halving:
        return trainer.train(points)
    ended: list[Outcome] = []
    going = list(points)
    epochs = min(point.parameters.epochs for point in points)
    for until in rungs(epochs, len(points)):
        found = trainer.begin(going, until)
        ranked = [outcome for outcome in rank(found, trainer.metric) if outcome.scores]
        better = {outcome.point.label for outcome in ranked[: survivors(len(going))]}
        ended += [
            outcome if outcome.error else _stopped(outcome)
            for outcome in found
            if outcome.point.label not in better
        ]
        going = [point for point in going if point.label in better]
        if not going:
            break
    return [*trainer.train(going), *ended] if going else ended


def _stopped(outcome: Outcome) -> Outcome:
    return replace(outcome, status="stopped")
