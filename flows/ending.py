"""How a flow ends in a red state that is an answer and no accident."""

from __future__ import annotations

import os
from typing import Any
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.client.schemas.responses import SetStateStatus
from prefect.exceptions import Abort
from prefect.runtime import flow_run


def ended(state: State[Any]) -> State[Any]:
    """Return the state in which a run with an answer ends.

    A failed state that a flow returns is raised by Prefect's engine, which logs it as an unexpected
    exception with its traceback. An answer is none: in a process of its own the run is put into its
    state here, and the engine is told that this has been done.

    Raises
    ------
    Abort
        In a process of its own, if the state is a failed one.
    """
    if not state.is_failed() or os.environ.get("PREFECT__FLOW_RUN_ID") != flow_run.id:
        return state
    with get_client(sync_client=True) as client:
        told = client.set_flow_run_state(UUID(flow_run.id), state)
    if told.status is not SetStateStatus.ACCEPT:
        return state
    done = Abort(str(state.message))
    done.state = told.state  # type: ignore[attr-defined]
    raise done
