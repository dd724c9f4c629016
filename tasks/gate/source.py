"""The first step of retraining: ask the source whether the data has changed.

Never cached, and it decides nothing: what must run is for the cache to say, which goes by the
digests of the bytes. This says whether the source still serves them.
"""

from __future__ import annotations

from collections.abc import Mapping

from prefect import get_run_logger
from prefect.runtime import task_run
from pydantic import BaseModel, ValidationError

from digitflow.storage.errors import RecordDamagedError
from digitflow.storage.history.sources import SourceStore
from digitflow.storage.store import Store
from digitflow.tasks.data.datasets.places import display
from digitflow.tasks.data.datasets.sources import Dataset
from digitflow.tasks.data.download.source_check import Seen, SourceAnswer, check
from digitflow.tasks.engine import cancellation
from digitflow.tasks.engine.step import announce, step

_RETRIES = 2


class _Memory(BaseModel):
    """What a source served when it was last asked.

    Attributes
    ----------
    last
        Digest of each file, as the source last confirmed it.
    seen
        What each mirror served, by the file's name.
    """

    last: Mapping[str, str] = {}
    seen: Mapping[str, Mapping[str, Seen]] = {}


class SilentSourceError(Exception):
    """No mirror has answered yet; asking again may help."""


@step(
    "ask-source",
    "Ask the source whether the data has changed, without downloading what has not.",
    tags=("network",),
    retries=_RETRIES,
    retry_delay_seconds=[2, 10],
)
def ask_source(dataset: Dataset, mirrors: tuple[str, ...]) -> SourceAnswer:
    """Ask a dataset's mirrors, remember what they serve, and tell automations of changed data.

    Parameters
    ----------
    dataset
        As it is described now.
    mirrors
        Where to ask, in order.
    """
    store, source = Store().sources, _identity(dataset)
    memory = _recall(store, source)
    answer = check(
        dataset.files,
        mirrors,
        memory.last,
        memory.seen,
        say=get_run_logger().warning,
        alive=cancellation.check,
    )
    for file in answer.unconfirmed:
        get_run_logger().warning("%s: %s (%s)", file.name, file.verdict, file.how)
    tries_left = _RETRIES + 1 - (task_run.run_count or 1)
    if tries_left > 0 and any(not file.permanent for file in answer.unconfirmed):
        message = "; ".join(f"{file.name}: {file.how}" for file in answer.unconfirmed)
        raise SilentSourceError(message)
    if answer.changed:
        get_run_logger().info("The data has changed: %s", ", ".join(answer.changed))
        # Not under `digitflow.dataset.*`: the deployment that retrains on that event would hear of
        # what it found out itself, and start itself.
        announce(
            "digitflow.dataset.changed",
            f"digitflow.source.{dataset.name}",
            f"source of the dataset {dataset.title}",
            {
                "dataset": dataset.name,
                "changed": list(answer.changed),
                "files": {file.name: file.sha256 for file in dataset.files},
            },
        )
    # After the event: if we die between the two it is sent twice, which is better than never.
    confirmed = {file.name for file in answer.files} - {file.name for file in answer.unconfirmed}
    last = {
        file.name: file.sha256 if file.name in confirmed else memory.last[file.name]
        for file in dataset.files
        if file.name in confirmed or file.name in memory.last
    }
    store.save(source, _Memory(last=last, seen=answer.seen).model_dump())
    return answer


def _identity(dataset: Dataset) -> str:
    return " ".join([dataset.name, *map(display, dataset.mirrors)])


def _recall(store: SourceStore, source: str) -> _Memory:
    try:
        served = store.load(source)
        return _Memory() if served is None else _Memory.model_validate(served)
    except (RecordDamagedError, ValidationError) as error:
        get_run_logger().warning("As if the source had never been asked: %s", error)
        return _Memory()
