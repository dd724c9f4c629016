"""The flow `digitflow-predict`: pictures in, a CSV and a contact sheet out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed
from prefect.utilities.annotations import quote
from pydantic import Field

from digitflow.storage.history.runs import run_name
from digitflow.tasks.data.pictures.batch import Batch
from digitflow.tasks.data.pictures.files import PictureError
from digitflow.tasks.engine.step import step
from digitflow.tasks.prediction.model import Model
from digitflow.tasks.prediction.predictions import Prediction, count_unsure
from digitflow.tasks.prediction.publish import Predicted, publish_predictions
from digitflow.tasks.reporting.results import check_results_folder

_Version = Annotated[int, Field(ge=1)]
_SheetSize = Annotated[int, Field(ge=1, le=100)]


@flow(
    name="digitflow-predict",
    log_prints=False,
    persist_result=False,
    result_serializer="json",
)
def predict(
    pictures: str,
    model: _Version | None = None,
    record: bool = True,
    sheet: _SheetSize = 40,
    output: str | None = None,
) -> State[Any]:
    """Classify pictures; write a CSV and a contact sheet of the least certain predictions.

    Args:
        pictures: Folder of pictures (PNG, JPEG, BMP, GIF, WebP, .npy), or one such or IDX file,
            on the worker's machine.
        model: Model version. Default: the champion.
        record: Keep class counts and confidence (never the pictures), for digitflow drift.
        sheet: Most pictures on the contact sheet; of more, the least certain and some at random.
        output: Folder for the results. Default: results/RUN, named after the run.
    """
    run = run_name(flow_run.name or "unnamed")
    source = Path(pictures).expanduser().absolute()
    folder = Path(output or Path("results") / run).expanduser().absolute()
    if not source.exists():
        message = (
            f"pictures: expected a folder or a file on the worker's machine, found none: {source}"
        )
        raise PictureError(message)
    check_results_folder(folder)
    loaded = Model.load(model)
    # Quoted throughout: Prefect would look through every picture for states and futures.
    batch = _read.submit(quote(loaded), source, return_state=False).result()
    predictions = _predict.submit(quote(loaded), quote(batch), return_state=False).result()
    done = Predicted(run, source, loaded.version, batch, tuple(predictions), folder)
    publish_predictions.submit(quote(done), record=record, sheet=sheet, return_state=False).result()
    return _state(done)


@step(
    "read-pictures", "Decode the pictures and bring them to the form that the model was trained on."
)
def _read(model: Model, source: Path) -> Batch:
    batch = model.read([source])
    for name, problem in batch.unreadable:
        get_run_logger().warning("%s: %s", name, problem)
    if not batch.names:
        message = f"{source}: expected pictures, found none that can be read"
        if batch.unreadable:
            name, problem = batch.unreadable[0]
            message += f"; {name}: {problem}"
        raise PictureError(message)
    return batch


@step("predict", "Predict what is on each picture, in one pass.")
def _predict(model: Model, batch: Batch) -> list[Prediction]:
    return model.predict_batch(batch)


def _state(done: Predicted) -> State[Any]:
    """Return a state that says at a glance whether every file was read."""
    blank = sum(each.label is None for each in done.predictions)
    unreadable, unsure = len(done.batch.unreadable), count_unsure(done.predictions)
    doubt = "" if unsure is None else f"{unsure:,} unsure, "
    message = (
        f"{len(done.predictions):,} pictures by model {done.model.version}, {blank:,} blank, "
        f"{doubt}{unreadable:,} files unreadable; results: {done.folder}"
    )
    return Completed(name="Incomplete" if unreadable else "Completed", message=message)
