"""The last step of a batch of predictions: results folder, Prefect artifacts, record."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from digitflow.storage.cache import Cache
from digitflow.storage.models import ModelVersion
from digitflow.tasks.data.pictures.batch import Batch
from digitflow.tasks.figures.contact_sheet import choose_for_sheet, draw_contact_sheet
from digitflow.tasks.monitoring.batch_record import record_batch
from digitflow.tasks.prediction.predictions import Prediction, as_csv
from digitflow.tasks.prediction.report import card, class_table, markdown
from digitflow.tasks.reporting.report import embedded
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
        What it said, picture by picture.
    folder
        Where the results go.
    """

    run: str
    source: Path
    model: ModelVersion
    batch: Batch
    predictions: tuple[Prediction, ...]
    folder: Path


@task(
    name="publish",
    task_run_name="publish",
    description="Write the CSV and the contact sheet, and leave the report in the UI.",
    cache_policy=NO_CACHE,
    persist_result=False,
)
def publish_predictions(done: Predicted, *, record: bool, sheet: int) -> None:
    """Write a batch's results, record and artifacts.

    Parameters
    ----------
    done
        The batch and what was predicted.
    record
        Whether to keep class counts and confidence, for `digitflow drift`.
    sheet
        How many pictures the contact sheet shows at most.
    """
    picture = _contact_sheet(done, sheet)
    files = {"predictions.csv": as_csv(done.predictions, done.batch.unreadable).encode()}
    if picture is not None:
        files["contact_sheet.png"] = picture
    replace_folder(done.folder, lambda new: _fill(new, done, files))
    if record:
        unreadable = len(done.batch.unreadable)
        record_batch(Cache(), done.model, done.predictions, unreadable, run=done.run)
    create_table_artifact(
        class_table(done.model, done.predictions),
        key="digitflow-predicted-classes",
        description=card("Predicted classes", done.model, done.predictions),
    )
    drawn = (
        None if picture is None else embedded(done.folder / "contact_sheet.png", "Contact sheet")
    )
    create_markdown_artifact(
        markdown(
            done.model, done.source, done.predictions, done.batch.unreadable, drawn, done.folder
        ),
        key="digitflow-predictions",
        description=card("Predictions", done.model, done.predictions),
    )


def _contact_sheet(done: Predicted, count: int) -> bytes | None:
    """Draw the pictures on which something was seen; None if there is none."""
    seen = [i for i, each in enumerate(done.predictions) if each.label is not None]
    if not seen:
        return None
    shares = np.array([done.predictions[i].probability for i in seen])
    chosen = [seen[i] for i in choose_for_sheet(shares, count=count, seed=_SHEET_SEED)]
    shown = [done.predictions[i] for i in chosen]
    return draw_contact_sheet(
        done.batch.images[chosen],
        [str(each.label) for each in shown],
        [each.probability for each in shown],
        [Path(each.picture).name for each in shown],
        total=len(seen),
        title=f"model {done.model.version}",
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
    text = json.dumps(about, indent=2, ensure_ascii=False)
    (folder / "run.json").write_text(text + "\n", encoding="utf-8")
