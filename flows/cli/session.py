"""A flow run that a person started in a terminal: a server, a display, and Ctrl-C."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from digitflow.flows.cli.render import Terminal
from digitflow.flows.server.embedded import EmbeddedServer
from digitflow.flows.server.prefect_setup import (
    flush_to_server,
    prepare_environment,
    run_settings,
    server_url,
    without_collection,
)
from digitflow.tasks.engine import cancellation
from digitflow.tasks.engine.cancellation import StoppedError


def run_flow(
    load: Callable[[], Callable[..., Any]],
    parameters: dict[str, Any],
    terminal: Terminal,
    *,
    verbose: bool,
) -> Any:
    """Run a flow and show it; return what it returns.

    Parameters
    ----------
    load
        Imports the flow, and with it Prefect.
    parameters
        For the flow.
    terminal
        Where to show it.
    verbose
        Show Prefect's own log as well.

    Raises
    ------
    StoppedError
        If Ctrl-C stopped it.
    """
    embedded = server_url() is None
    if embedded:
        terminal.say(
            "starting Prefect (PREFECT_API_URL names no server, so one is embedded)", "dim"
        )
    prepare_environment(verbose=verbose)
    with ExitStack() as stack:
        server = None
        if embedded:
            say = partial(terminal.say, style="yellow")
            server = stack.enter_context(
                EmbeddedServer(verbose=verbose, say=say, on_loss=cancellation.request_stop)
            )
        # A second of imports, while the server starts.
        with without_collection():
            from prefect.exceptions import CancelledRun

            flow = load()

        if server is not None:
            server.wait()
        stack.enter_context(run_settings(server.url if server is not None else None))
        stack.callback(flush_to_server)
        stack.enter_context(terminal.showing())
        stack.enter_context(_stopping_on_interrupt(terminal))
        try:
            return flow(**parameters)
        except Exception as error:
            if server is not None:
                server.check()
            if isinstance(error, CancelledRun):
                raise StoppedError(str(error)) from error
            raise


@contextmanager
def _stopping_on_interrupt(terminal: Terminal) -> Iterator[None]:
    """Let Ctrl-C stop the stages in good order, and a second one stop everything at once."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return

    def stop(_signal: int, _frame: object) -> None:
        cancellation.request_stop()
        terminal.say("stopping in good order; press Ctrl-C again to stop at once", "yellow")
        signal.signal(signal.SIGINT, stop_at_once)

    def stop_at_once(_signal: int, _frame: object) -> None:
        # Threads cannot be interrupted. Dying is safe: nothing in the store is ever half written.
        os._exit(1)

    cancellation.clear()
    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
