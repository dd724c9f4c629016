"""When the deployments run next, as a table."""

from __future__ import annotations

import time

from rich.table import Table

_SECONDS_TO_SCHEDULE = 30.0


def wait_for_schedule() -> dict[str, str]:
    """Return each deployment's name and next run, once the server has scheduled all of them.

    It does so some seconds after they were deployed; after half a minute nobody waits longer.
    """
    from digitflow.flows.server.deploy import TO_BE_SCHEDULED, next_runs

    deadline = time.monotonic() + _SECONDS_TO_SCHEDULE
    while True:
        scheduled = next_runs()
        if TO_BE_SCHEDULED not in scheduled.values() or time.monotonic() > deadline:
            return scheduled
        time.sleep(1.0)


def as_table(scheduled: dict[str, str]) -> Table:
    """Return a table of names and next runs."""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column("deployment", no_wrap=True)
    table.add_column("next run", no_wrap=True)
    for name, when in scheduled.items():
        table.add_row(name, when)
    return table
