"""`digitflow monitor`: start lost runs again, until it is told to stop."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from functools import partial

import httpx
from rich.console import Console

from digitflow.flows.cli.commands.flags import print_with_time
from digitflow.flows.server import ServiceError
from digitflow.flows.server.endpoint import server_url
from digitflow.flows.server.monitor import SECONDS_BETWEEN_CHECKS, Monitor, Timeouts
from digitflow.flows.server.prefect_setup import prepare_environment


def monitor(console: Console, pools: Sequence[str], timeouts: Timeouts) -> None:
    """Look after the runs of some work pools for as long as this process lives.

    A server that is away is waited for.

    Parameters
    ----------
    console
        Where each act is shown, a line each.
    pools
        Names of the work pools.
    timeouts
        When to act.

    Raises
    ------
    ServiceError
        If no server is named.
    """
    named = server_url()
    if named is None:
        message = (
            "expected the URL of a Prefect server in PREFECT_API_URL, found none. Name the one "
            "whose runs are to be looked after; digitflow up does it by itself"
        )
        raise ServiceError(message)
    prepare_environment(verbose=False)
    # Ended by systemd or `up` in the same way as by Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    say = partial(print_with_time, console)
    say(f"looking after the runs of {', '.join(pools)} on {named}")
    try:
        _look_for_ever(pools, timeouts, say)
    except KeyboardInterrupt:
        say("stopped")


def _look_for_ever(pools: Sequence[str], timeouts: Timeouts, say: Callable[[str], None]) -> None:
    from prefect.client.orchestration import get_client

    away = False
    with get_client(sync_client=True) as client:
        monitor = Monitor(client, pools, timeouts, say)
        while True:
            try:
                monitor.check()
            except httpx.HTTPError as error:
                if not away:
                    say(f"the server does not answer: {error or type(error).__name__}; waiting")
                away = True
            else:
                if away:
                    say("the server answers again")
                away = False
            time.sleep(SECONDS_BETWEEN_CHECKS)
