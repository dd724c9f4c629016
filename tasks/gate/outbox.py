"""Tell Prefect's automations what has happened to models: each entry of the ledger, once.

The ledger says what happened, and how far it has been told. A run that is killed between the two
loses nothing: whoever comes next tells what is left. An event's id follows from its entry, so that
Prefect keeps one of two that are told at once.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

import httpx
from prefect.client.orchestration import get_client
from prefect.events import Event
from prefect.exceptions import PrefectException
from pydantic import ValidationError

from digitflow.storage.errors import StorageError
from digitflow.storage.history.models import LedgerEntry, State
from digitflow.storage.store import Store
from digitflow.storage.visible import visible_values

_log = logging.getLogger(__name__)

EVENTS: Mapping[str, str] = {
    "promoted": "promoted",
    "rejected": "rejected",
    "held": "held",
    "rolled-back": "rolled-back",
    "quarantine": "quarantined",
    "hold": "on-hold",
    "release": "released",
}
_NAMES = UUID("5c7a2f0e-9a56-4d0c-b3f4-8d0f3a8e6d11")
_AT_ONCE = 50


def tell(cache: Store) -> int:
    """Send the events of all entries that have not been told yet; return how many there were.

    Where the ledger does not answer, or no server takes them, they are left for the next time,
    with a warning.
    """
    try:
        state = cache.models.state()
        chain = cache.models.ledger.read()
        told = cache.models.told()
    except StorageError as error:  # what is to be told has been decided all the same
        _log.warning("Events are left for the next time: %s", error)
        return 0
    events = [event for entry in chain[told:] if (event := _event(entry, state)) is not None]
    try:
        with get_client(sync_client=True) as client:
            for start in range(0, len(events), _AT_ONCE):
                batch = [each.model_dump(mode="json") for each in events[start : start + _AT_ONCE]]
                client.request("POST", "/events", json=batch)
    except (httpx.HTTPError, PrefectException) as error:
        _log.warning("%d events are left for the next time: %s", len(events), error)
        return 0
    if len(chain) > told:
        cache.models.mark_told(len(chain))
    return len(events)


def _event(entry: LedgerEntry, state: State) -> Event | None:
    """Return what is told of an entry; None if it is nothing for automations."""
    if entry.kind not in EVENTS:
        return None
    version = state.versions.get(entry.version)
    number = None if version is None else version.version
    details: dict[str, Any] = dict(entry.details)
    run = details.pop("flow_run", None)
    resource = {
        "prefect.resource.id": f"digitflow.model.{entry.model if number is None else number}",
        "prefect.resource.name": (
            f"digitflow model {entry.model}"
            if number is None
            else f"digitflow model version {number}"
        ),
        "digitflow.model": entry.model or (state.named(version) if version else ""),
        **(
            {"digitflow.dataset": version.dataset, "digitflow.preset": version.preset}
            if version
            else {}
        ),
    }
    related = [
        {"prefect.resource.id": f"prefect.flow-run.{run}", "prefect.resource.role": "flow-run"}
    ]
    said = {"headline": entry.reason, "model": entry.model, "version": number}
    try:
        return Event.model_validate(
            {
                "event": f"digitflow.model.{EVENTS[entry.kind]}",
                "id": uuid5(_NAMES, entry.digest),
                "occurred": datetime.fromisoformat(entry.at),
                "resource": visible_values({name: each for name, each in resource.items() if each}),
                "related": related if run else [],
                "payload": visible_values(
                    {**said, "by": entry.by, "reason": entry.reason, **details}
                ),
            }
        )
    except ValidationError as error:  # of an entry by hand that Prefect would not bear
        _log.warning("ledger entry %d is told to nobody: %s", entry.order, error)
        return None
