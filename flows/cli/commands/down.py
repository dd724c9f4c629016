"""`digitflow down`: end what a `digitflow up` has started, here or in a terminal that is gone."""

from __future__ import annotations

import os
import signal

from rich.console import Console

from digitflow.flows.server import ServiceError
from digitflow.flows.server.pidfile import Pidfile, UpRecord
from digitflow.flows.server.prefect_setup import prepare_environment
from digitflow.flows.server.process import start_time
from digitflow.flows.server.supervisor import shut_down

_SECONDS_TO_GO_DOWN = 120.0
# Clocks are put right now and then, and with them the time at which a process has started.
_SECONDS_OF_DOUBT = 2.0


def take_all_down(console: Console) -> None:
    """End what a `digitflow up` of this user has started, whether it still runs or was killed.

    Raises
    ------
    ServiceError
        If it does not end.
    """
    records = Pidfile()
    record = records.load()
    if not records.take():
        if record is not None and _is_alive(record):
            os.kill(record.pid, signal.SIGTERM)
        if not records.take(_SECONDS_TO_GO_DOWN):
            message = (
                f"digitflow up (process {record.pid if record else 'unknown'}) has not ended "
                f"within {_SECONDS_TO_GO_DOWN:g} s; its logs are in {records.folder}"
            )
            raise ServiceError(message)
        console.print("digitflow up has ended, and everything that it had started")
        return
    if record is None:
        console.print("nothing to do: no digitflow up is running, and none has left anything")
        return
    prepare_environment(verbose=False)
    clear_away(console, records, record)


def clear_away(console: Console, records: Pidfile, record: UpRecord) -> None:
    """End everything of an `up`, forget it, and say what became of its runs."""
    count = shut_down(record)
    records.remove()
    console.print("down: everything that digitflow up had started has ended")
    if count:
        runs = "1 run goes on" if count == 1 else f"{count} runs go on"
        console.print(f"{runs} from the last epoch with the next digitflow up")


def _is_alive(record: UpRecord) -> bool:
    started = start_time(record.pid)
    return started is not None and abs(started - record.started) < _SECONDS_OF_DOUBT
