"""What a model predicts for pictures: as JSON, as CSV, and as what is recorded of it."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from digitflow.storage.backends.os_errors import explaining
from digitflow.storage.formats.cells import guarded
from digitflow.storage.history.batches import BatchRecord
from digitflow.storage.history.models import ModelVersion
from digitflow.storage.records import now
from digitflow.storage.store import Store
from digitflow.storage.visible import visible

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BLANK = "blank"
CANNOT_TELL = (
    "model {} cannot tell when it is unsure: repeat the run that trained it (what is cached is not "
    "computed again), with training images that it does not learn from (validation_size)"
)
_YES_OR_NO = {None: "", False: "no", True: "yes"}

COLUMNS = (
    *("picture", "class", "probability", "runner_up", "runner_up_probability", "note"),
    *("found", "unsure"),
)


@dataclass(frozen=True)
class Prediction:
    """What a model predicts for one picture.

    Attributes
    ----------
    picture
        Its file, with its place in a file of several.
    label
        Name of the most probable class; None if nothing is on the picture.
    probability
        Of that class, 0 to 1; 0 if nothing is on the picture.
    runner_up, runner_up_probability
        The second most probable class, likewise.
    found
        How many things stand side by side on the picture; None if that cannot be told.
    doubt
        Why the model does not know what it shows, empty where it does; None of a model that cannot
        tell, because it was trained before that was fitted, or on all the images there are.
    """

    picture: str
    label: str | None
    probability: float
    runner_up: str | None
    runner_up_probability: float
    found: int | None = None
    doubt: str | None = None

    @property
    def unsure(self) -> bool | None:
        """Whether the model does not know what the picture shows; None if it cannot tell."""
        return None if self.doubt is None else self.doubt != ""


def count_unsure(predictions: Sequence[Prediction]) -> int | None:
    """Return how many of the pictures that are not blank are unsure; None if it cannot be told."""
    told = [each.unsure for each in predictions if each.label is not None]
    return None if None in told else sum(map(bool, told))


def record_batch(
    cache: Store,
    model: ModelVersion,
    predictions: Sequence[Prediction],
    unreadable: int,
    *,
    run: str,
    images: NDArray[np.uint8] | None = None,
) -> None:
    """Keep how often each class was predicted, how surely, and how bright the pictures were.

    Of the pictures themselves nothing is kept. Where their `images` are not given, of shape
    (pictures, height, width) as the model saw them, nothing is said of what they look like.

    Raises
    ------
    StoreUnusableError, StorageFullError
        If the store cannot be written.
    """
    seen = [each for each in predictions if each.label is not None]
    counts = Counter(each.label for each in seen)
    confidence = sum(each.probability for each in seen) / len(seen) if seen else 0.0
    brightness = contrast = None
    if images is not None and seen:
        from digitflow.tasks.data.measures import brightness_and_contrast

        shown = images[[each.label is not None for each in predictions]]
        brightness, contrast = (float(each.mean()) for each in brightness_and_contrast(shown))
    with explaining("the record of predictions", cache.root):
        cache.batches.save(
            BatchRecord(
                created=now(),
                run=run,
                model=model.version,
                class_names=model.class_names,
                counts=tuple(counts[name] for name in model.class_names),
                confidence=confidence,
                blank=len(predictions) - len(seen),
                unreadable=unreadable,
                brightness=brightness,
                contrast=contrast,
                unsure=count_unsure(predictions),
            )
        )


def predictions_json(
    model: ModelVersion,
    predictions: Sequence[Prediction],
    unreadable: Sequence[tuple[str, str]],
    *,
    tells_unsure: bool = False,
) -> dict[str, Any]:
    """Return predictions as a JSON object.

    Whether the model tells when it is unsure is said besides: where it does not, `unsure` is null.
    """
    return {
        "model": model.version,
        "tells_unsure": tells_unsure,
        "predictions": [
            {
                "picture": each.picture,
                "class": each.label,
                "probability": each.probability,
                "runner_up": each.runner_up,
                "runner_up_probability": each.runner_up_probability,
                "blank": each.label is None,
                "found": each.found,
                "unsure": each.unsure,
                "doubt": each.doubt,
            }
            for each in predictions
        ],
        "unreadable": [{"file": name, "problem": problem} for name, problem in unreadable],
    }


def predictions_csv(
    predictions: Sequence[Prediction], unreadable: Sequence[tuple[str, str]]
) -> str:
    """Return predictions as CSV; what is blank or unreadable has a note instead of a class.

    A note says also why a prediction is unsure. The last two columns are empty where it is not
    known.

    A file or a class may be called ``=HYPERLINK(…)``, which a spreadsheet would execute, or hold
    characters that a terminal obeys: see `guarded` and `visible`.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for each in predictions:
        row: list[str | None]
        if each.label is None:
            row = [each.picture, "", "", "", "", BLANK]
        else:
            first, second = f"{each.probability:.6f}", f"{each.runner_up_probability:.6f}"
            row = [each.picture, each.label, first, each.runner_up, second, each.doubt]
        row += ["" if each.found is None else str(each.found), _YES_OR_NO[each.unsure]]
        writer.writerow(map(_harmless, row))
    for name, problem in unreadable:
        row = [name, "", "", "", "", f"unreadable: {problem}", "", ""]
        writer.writerow(map(_harmless, row))
    return text.getvalue()


def _harmless(cell: str | None) -> str:
    return guarded(visible(cell or "", kept="\n\t"))
