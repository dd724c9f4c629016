"""The last step of a batch of predictions: results folder, Prefect artifacts, record."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from digitflow.storage.history.models import ModelVersion
from digitflow.storage.store import Store
from digitflow.storage.visible import visible
from digitflow.tasks.data.pictures.batch import Batch
from digitflow.tasks.engine.step import step
from digitflow.tasks.figures.contact_sheet import choose_for_sheet, contact_sheet_figure
from digitflow.tasks.figures.png import to_png
from digitflow.tasks.prediction.predictions import (
    Prediction,
    count_unsure,
    predictions_csv,
    record_batch,
)
from digitflow.tasks.reporting.artifacts import markdown_artifact, table_artifact
from digitflow.tasks.reporting.render import render
from digitflow.tasks.reporting.results import replace_folder

# Of the pictures that a contact sheet shows at random.
_SHEET_SEED = 0


@dataclass(frozen=True)
class Predicted:
    """What a run of predictions did.

    Attributes
    ----------
    run
        Its name.
    source
        Where the pictures came from.
    model
        What predicted.
    batch
        The pictures as the model saw them.
    predictions
        What it predicted, picture by picture.
    folder
        Where the results go.
    """

    run: str
    source: Path
    model: ModelVersion
    batch: Batch
    predictions: tuple[Prediction, ...]
    folder: Path

    @property
    def seen(self) -> list[Prediction]:
        """The predictions for pictures that are not blank."""
        return [each for each in self.predictions if each.label is not None]

    @property
    def pictures(self) -> str:
        """How many pictures that were, in words."""
        count = len(self.predictions)
        return f"{count:,} picture{'' if count == 1 else 's'}"


@step("publish", "Write the CSV and the contact sheet, and leave the report in the UI.")
def publish_predictions(done: Predicted, *, record: bool, sheet: int) -> None:
    """Write a batch's results, record and artifacts.

    Parameters
    ----------
    done
        The batch and what was predicted.
    record
        Whether to keep class counts and confidence, for `digitflow drift`.
    sheet
        Pictures on the contact sheet at most.
    """
    drawn = _contact_sheet(done, sheet)
    files = {"predictions.csv": predictions_csv(done.predictions, done.batch.unreadable).encode()}
    if drawn is not None:
        files["contact_sheet.png"] = drawn
    replace_folder(done.folder, lambda new: _fill(new, done, files))
    if record:
        unreadable = len(done.batch.unreadable)
        images = done.batch.images
        record_batch(Store(), done.model, done.predictions, unreadable, run=done.run, images=images)
    # The UI cuts a description off after some 45 characters.
    about = f"{done.pictures} · model {done.model.version}"
    table_artifact(
        class_table(done),
        key="digitflow-predicted-classes",
        description=f"Predicted classes · {about}",
    )
    markdown_artifact(
        predictions_markdown(done, drawn),
        key="digitflow-predictions",
        description=f"Predictions · {about}",
    )


def class_table(done: Predicted) -> list[dict[str, Any]]:
    """Return how often each class was predicted, and how surely, as one row per class."""
    rows = []
    for name in done.model.class_names:
        found = [each.probability for each in done.seen if each.label == name]
        rows.append(
            {
                "class": name,
                "pictures": len(found),
                "share": round(len(found) / len(done.seen), 4) if done.seen else 0.0,
                "mean probability": round(sum(found) / len(found), 4) if found else None,
            }
        )
    return rows


def predictions_markdown(done: Predicted, sheet: bytes | None) -> str:
    """Return the report.

    Parameters
    ----------
    done
        The batch and what was predicted.
    sheet
        The contact sheet, a PNG; None if there is nothing on it.
    """
    sure = [each.probability for each in done.seen]
    return render(
        "predictions.md",
        done=done,
        model=done.model,
        confidence=f"{sum(sure) / len(sure):.3f}" if sure else "–",
        blank=len(done.predictions) - len(sure),
        unsure=count_unsure(done.predictions),
        sheet=sheet,
    )


def _contact_sheet(done: Predicted, count: int) -> bytes | None:
    """Draw the pictures on which something was seen; None if there is none."""
    seen = [i for i, each in enumerate(done.predictions) if each.label is not None]
    if not seen:
        return None
    # What is unsure comes before all that is not, however probable.
    shares = np.array(
        [each.probability - bool(each.unsure) for each in (done.predictions[i] for i in seen)]
    )
    chosen = [seen[i] for i in choose_for_sheet(shares, count=count, seed=_SHEET_SEED)]
    shown = [done.predictions[i] for i in chosen]
    return to_png(
        contact_sheet_figure(
            done.batch.images[chosen],
            [str(each.label) for each in shown],
            [each.probability for each in shown],
            [Path(each.picture).name for each in shown],
            unsure=[bool(each.unsure) for each in shown],
            total=len(seen),
            title=f"model {done.model.version}",
        )
    )


def _fill(folder: Path, done: Predicted, files: Mapping[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name).write_bytes(data)
    about: dict[str, Any] = {
        "run": done.run,
        "source": str(done.source),
        "model": done.model.version,
        "pictures": len(done.predictions),
        "unreadable": len(done.batch.unreadable),
        "files": sorted(files),
    }
    text = visible(json.dumps(about, indent=2, ensure_ascii=False))  # the same JSON
    (folder / "run.json").write_text(text + "\n", encoding="utf-8")
