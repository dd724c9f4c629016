"""After a time in which nothing ran: one scheduled run does the work of all that were missed."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from uuid import UUID

import httpx
from prefect import get_run_logger
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.runtime import flow_run
from prefect.states import Cancelled

# The tag of a run that a schedule asked for, and of no other.
_SCHEDULED = "auto-scheduled"


def skip_what_was_missed() -> list[FlowRun]:
    """End, as *Skipped*, the scheduled runs that were due before this one began.

    A server that was away starts one run for each night that it missed. This run took the data as
    it was when it began, and so did what they would do. Runs that a person or an event asked for
    stay, and so does one with other parameters. If the server does not do it, that is a warning:
    this run has its verdict, and those will find nothing to do.

    Returns
    -------
    list of FlowRun
        Those that were skipped; none where no deployment started this run.
    """
    skipped: list[FlowRun] = []
    if flow_run.id is None:
        return skipped
    try:
        with get_client(sync_client=True) as client:
            own = client.read_flow_run(UUID(flow_run.id))
            message = f"{own.name} began later and did the same"
            state: State[Any] = Cancelled(name="Skipped", message=message)
            for each in _missed(client, own):
                with suppress(ObjectNotFound):  # somebody has deleted it
                    client.set_flow_run_state(each.id, state)
                    skipped.append(each)
    except (httpx.HTTPError, PrefectException) as error:
        get_run_logger().warning("Runs that were missed could not be skipped: %s", error)
    if skipped:
        count = f"{len(skipped)} runs that were" if len(skipped) > 1 else "one run that was"
        get_run_logger().info("Skipped %s due before this one began", count)
    return skipped


def _missed(client: SyncPrefectClient, own: FlowRun) -> list[FlowRun]:
    if own.deployment_id is None or own.start_time is None:
        return []
    due = client.read_flow_runs(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[own.deployment_id])),
        flow_run_filter=FlowRunFilter(
            tags=FlowRunFilterTags(all_=[_SCHEDULED]),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
            expected_start_time=FlowRunFilterExpectedStartTime(before_=own.start_time),
        ),
    )
    return [
        each
        for each in due
        # One that a person has answered is scheduled again, to take the answer.
        if each.parameters == own.parameters and not each.empirical_policy.pause_keys
    ]
