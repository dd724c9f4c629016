"""End what a `digitflow up` started, and nothing else."""

from __future__ import annotations

import signal
from uuid import UUID

from digitflow.flows.server.endpoint import answers
from digitflow.flows.server.pidfile import Record
from digitflow.flows.server.processes import Marked, end, marked

_SERVER = "server"
_SECONDS_FOR_WORKERS = 3.0
_SECONDS_FOR_SERVER = 20.0
_SECONDS_TO_DIE = 10.0


def take_down(record: Record) -> int:
    """End every process of an `up`, in good order, and hand its runs back to the server.

    Returns
    -------
    int
        How many runs were under way. They go on from their last epoch with the next worker.
    """
    found = marked(record.mark)
    runs = {each.run for each in found if each.run is not None}
    # Told to stop, a worker takes nothing new. What it does with its run differs: it waits for
    # it, or kills it and says nothing.
    end(
        [each.pid for each in found if _is_worker_or_monitor(each)],
        signal.SIGINT,
        _SECONDS_FOR_WORKERS,
    )
    left = [each for each in marked(record.mark) if each.service != _SERVER]
    runs |= {each.run for each in left if each.run is not None}
    # Workers first: one that sees its run die would report a crash.
    end([each.pid for each in left if _is_worker_or_monitor(each)], signal.SIGKILL, _SECONDS_TO_DIE)
    end(
        [each.pid for each in left if not _is_worker_or_monitor(each)],
        signal.SIGKILL,
        _SECONDS_TO_DIE,
    )
    try:
        return _hand_back(record.api_url, runs)
    finally:
        end([each.pid for each in marked(record.mark)], signal.SIGTERM, _SECONDS_FOR_SERVER)
        kill_all(record)


def kill_all(record: Record) -> None:
    """End every process of an `up` at once."""
    end([each.pid for each in marked(record.mark)], signal.SIGKILL, _SECONDS_TO_DIE)


def _is_worker_or_monitor(each: Marked) -> bool:
    return each.service != _SERVER and each.run is None


def _hand_back(api_url: str, runs: set[str]) -> int:
    """Schedule runs again whose processes are gone; return how many of them had not ended.

    Where the server does not answer, nothing is done: when it is back, a monitor notices that they
    are silent.
    """
    if not runs or not answers(api_url):
        return 0
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, temporary_settings
    from prefect.states import AwaitingRetry

    message = "Its worker was stopped; it goes on from what is cached when the next one starts."
    count = 0
    with temporary_settings({PREFECT_API_URL: api_url}), get_client(sync_client=True) as client:
        for run in sorted(runs):
            state = client.read_flow_run(UUID(run)).state
            if state is not None and state.is_final() and not state.is_crashed():
                continue
            client.set_flow_run_state(UUID(run), AwaitingRetry(message=message), force=True)
            count += 1
    return count
