"""After a time in which nothing ran: one scheduled run does the work of all that were missed."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from prefect import get_run_logger
from prefect.client.orchestration import get_client
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
from prefect.runtime import flow_run
from prefect.states import Cancelled

# The tag of a run that a schedule asked for, and of no other.
_SCHEDULED = "auto-scheduled"


def skip_what_was_missed() -> list[FlowRun]:
    """End, as *Skipped*, the scheduled runs that were due before this one began.

    A server that was away starts one run for each night that it missed. This run took the data as
    it was when it began, and so did what they would do. Runs that a person or an event asked for
    stay, and so does one with other parameters.

    Returns
    -------
    list of FlowRun
        Those that were skipped; none where no deployment started this run.
    """
    if flow_run.id is None:
        return []
    with get_client(sync_client=True) as client:
        own = client.read_flow_run(UUID(flow_run.id))
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
        message = f"{own.name} began later and did the same"
        state: State[Any] = Cancelled(name="Skipped", message=message)
        missed = [each for each in due if each.parameters == own.parameters]
        for each in missed:
            client.set_flow_run_state(each.id, state)
    if missed:
        count = f"{len(missed)} runs that were" if len(missed) > 1 else "one run that was"
        get_run_logger().info("Skipped %s due before this one began", count)
    return missed
