"""What was predicted lately, measured against a model's test set: found, and put for people.

Light until something is found: it opens arrays only then, and needs no Prefect.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from digitflow.storage.errors import StorageError
from digitflow.storage.history.batches import BatchRecord
from digitflow.storage.history.models import ModelVersion
from digitflow.storage.store import Store
from digitflow.tasks.monitoring.drift import (
    DRIFTED,
    STATES,
    WATCH,
    Distribution,
    Drift,
    Sign,
    State,
    measure,
    pooled,
)
from digitflow.tasks.prediction.model import Model
from digitflow.tasks.reporting.render import picture, render

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LAST_BATCHES = 10

_MEANINGS: dict[State, str] = {
    "stable": "the pictures are like those of the test set",
    "watch": "the pictures have begun to differ from those of the test set",
    "drifted": "the pictures differ from those of the test set",
    "too few": "too few pictures to tell",
}


@dataclass(frozen=True)
class DriftReport:
    """Recorded batches against the test set of a model.

    Attributes
    ----------
    model
        Whose test set it is.
    then
        What the model predicted there.
    now
        What was predicted in all the batches together.
    drift
        How far the one is from the other.
    batches
        The batches, oldest first, and how far each is from the test set.
    """

    model: ModelVersion
    then: Distribution
    now: Distribution
    drift: Drift
    batches: tuple[tuple[BatchRecord, Drift], ...]

    @property
    def state(self) -> State:
        """The worse of all batches together and of the newest, which may be the first of many."""
        newest = self.batches[-1][1].state
        return max(self.drift.state, newest, key=STATES.index)

    def by_class(self) -> Iterator[tuple[str, float, float, float]]:
        """Yield each class: its name, its share on the test set and now, its part of the index."""
        names = self.model.class_names
        return zip(names, self.then.shares, self.now.shares, self.drift.terms, strict=True)


def report_drift(cache: Store, model: ModelVersion, last: int = LAST_BATCHES) -> DriftReport | None:
    """Compare the newest batches with a model's test set; None if no batch is recorded.

    Batches of other models count, too, if their classes are the same: what has drifted is the
    pictures. Only how sure another model was says nothing.

    Raises
    ------
    StorageError
        If the model's predictions are lost or damaged.
    """
    newest = (
        batch
        for batch in cache.batches.newest_first()
        if batch.class_names == model.class_names and (any(batch.counts) or batch.blank)
    )
    batches = list(islice(newest, last))[::-1]
    if not batches:
        return None
    then = seen_in_test(cache, model)
    calibrated = Model(model, cache).calibration is not None
    seen = [
        Distribution(
            batch.counts,
            batch.confidence,
            batch.brightness,
            batch.contrast,
            batch.blank,
            # A model that has been calibrated since was as sure in another way before.
            confidence_compares=batch.model == model.version
            and (batch.unsure is not None) == calibrated,
            unsure=batch.unsure,
        )
        for batch in batches
    ]
    measured = [measure(then, each) for each in seen]
    together = pooled(seen)
    return DriftReport(
        model,
        then,
        together,
        measure(then, together),
        tuple(zip(batches, measured, strict=True)),
    )


def seen_in_test(cache: Store, model: ModelVersion) -> Distribution:
    """Return what a model predicted for its test set, and what that looks like.

    Where its test images are no longer in the store, what they look like is not known.
    """
    import numpy as np

    from digitflow.tasks.data.measures import brightness_and_contrast
    from digitflow.tasks.data.pictures.ink import are_blank

    outputs = np.asarray(cache.read(model.predictions)["outputs"])
    sure = Model(model, cache).shares(outputs).max(axis=1)
    deviations = [("confidence", float(sure.std()))]
    predicted, blank, looks = outputs.argmax(axis=1), 0, dict[str, float]()
    images = _test_images(cache, model)
    if images is not None and len(images) == len(outputs):
        shown = ~are_blank(images)
    else:
        shown = np.zeros(0, bool)
    if images is not None and shown.any():
        blank = int((~shown).sum())
        predicted, sure = predicted[shown], sure[shown]
        measured = brightness_and_contrast(images[shown])
        for name, each in zip(("brightness", "contrast"), measured, strict=True):
            looks[name] = float(each.mean())
            deviations.append((name, float(each.std())))
    counts = np.bincount(predicted, minlength=len(model.class_names))
    return Distribution(
        tuple(int(count) for count in counts),
        float(sure.mean()),
        looks.get("brightness"),
        looks.get("contrast"),
        blank,
        tuple(deviations),
    )


def _test_images(cache: Store, model: ModelVersion) -> NDArray[np.uint8] | None:
    try:
        reference = cache.reference(model.data.get("test_inputs", ""), "npy")
        images: NDArray[np.uint8] = cache.read(reference)
    except StorageError:
        return None
    return images


def drift_headline(report: DriftReport | None) -> str:
    """Return the report in one line."""
    if report is None:
        return "Drift: cannot tell, no predictions are recorded"
    newest, drift = report.batches[-1]
    over = f" and {report.drift.psi:.3f} over the last {len(report.batches)}"
    both = len(report.batches) > 1
    reasons = drift.reasons or report.drift.reasons
    why = f" ({'; '.join(map(_because, reasons))})" if reasons else ""
    return (
        f"Drift: {_MEANINGS[report.state]}{why}; PSI {drift.psi:.3f} in the newest batch"
        f"{over if both else ''}, mean confidence {newest.confidence:.3f}"
        f"{f' and {report.now.confidence:.3f}' if both else ''}, "
        f"on the test set {report.then.confidence:.3f}"
    )


def _because(sign: Sign) -> str:
    if sign.name == "blank":
        return f"{100 * sign.now:.0f} % are blank, {100 * sign.then:.0f} % there"
    if sign.name == "unsure":
        return f"{100 * sign.now:.0f} % are unsure, at most {100 * sign.then:.0f} % there"
    digits = 3 if sign.name == "confidence" else 1
    return f"mean {sign.name} {sign.now:.{digits}f} against {sign.then:.{digits}f}"


def drift_markdown(report: DriftReport, png: bytes) -> str:
    """Return the report as Markdown.

    Parameters
    ----------
    report
        What was found.
    png
        Its picture, as `drift_picture` draws it.
    """
    return render(
        "drift.md",
        headline=drift_headline(report),
        image=picture(png, "Predictions now and on the test set"),
        report=report,
        watch=f"{WATCH:g}",
        drifted=f"{DRIFTED:g}",
    )


def drift_picture(report: DriftReport, dpi: int = 110) -> bytes:
    """Return the report's picture as PNG bytes."""
    from digitflow.tasks.figures.drift import drift_figure
    from digitflow.tasks.figures.png import to_png

    return to_png(
        drift_figure(
            report.model.class_names,
            report.then.shares,
            report.now.shares,
            [drift.psi for _, drift in report.batches],
            [batch.confidence for batch, _ in report.batches],
            confidence_then=report.then.confidence,
            thresholds=(WATCH, DRIFTED),
            title=f"model {report.model.version}",
        ),
        dpi=dpi,
    )


def drift_json(report: DriftReport) -> dict[str, Any]:
    """Return the report as a JSON object."""

    def measured(drift: Drift) -> dict[str, Any]:
        signs = {each.name: asdict(each) for each in drift.signs}
        return {
            "psi": drift.psi,
            "by_chance": drift.chance,
            "signs": signs,
            "state": drift.state,
        }

    def seen(pictures: Distribution) -> dict[str, Any]:
        return {
            "pictures": pictures.images,
            "confidence": pictures.confidence,
            "brightness": pictures.brightness,
            "contrast": pictures.contrast,
            "blank": pictures.blank,
            "unsure": pictures.unsure,
        }

    classes = zip(
        report.model.class_names,
        report.then.counts,
        report.now.counts,
        report.drift.terms,
        strict=True,
    )
    return {
        "model": report.model.version,
        "state": report.state,
        "test_set": seen(report.then),
        "together": seen(report.now) | measured(report.drift),
        "classes": [
            {"class": name, "test_set": then, "now": now, "psi": term}
            for name, then, now, term in classes
        ],
        "batches": [
            {
                "created": batch.created,
                "run": batch.run,
                "model": batch.model,
                "pictures": sum(batch.counts),
                "blank": batch.blank,
                "unsure": batch.unsure,
                "unreadable": batch.unreadable,
                "confidence": batch.confidence,
                **measured(drift),
            }
            for batch, drift in report.batches
        ],
    }
