"""Prefect's settings for a run that a person starts in a terminal.

Set in the environment before Prefect is imported, and only where the user has set nothing.
"""

from __future__ import annotations

import gc
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SERVER_SETTINGS = {
    # Without a network a server logs an error about telemetry that cannot be sent.
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    # On a busy machine SQLite's writers wait for each other longer than 10 s.
    "PREFECT_SERVER_DATABASE_TIMEOUT": "60",
    "PREFECT_SERVER_DATABASE_CONNECTION_TIMEOUT": "60",
}
_EMBEDDED = {
    **SERVER_SETTINGS,
    # Two seconds off a cold start; a real server registers its blocks when it starts.
    "PREFECT_SERVER_REGISTER_BLOCKS_ON_START": "false",
}
_QUIET = {
    # The terminal is ours. What Prefect logs still reaches its server and its UI.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_HANDLERS_DEBUG_LEVEL": "CRITICAL",
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
}


def prepare_environment(*, verbose: bool) -> None:
    """Set what a run in a terminal needs. Call it before Prefect is imported."""
    for name, value in {**_EMBEDDED, **({} if verbose else _QUIET)}.items():
        os.environ.setdefault(name, value)


def ask_for_a_password() -> None:
    """Have the embedded server ask for a password that this process and its children know alone.

    Loopback is open to everybody on the machine, and whoever asks may start runs. Call it before
    Prefect is imported.
    """
    if not os.environ.get("PREFECT_SERVER_API_AUTH_STRING"):
        drawn = f"digitflow:{secrets.token_urlsafe()}"
        os.environ["PREFECT_SERVER_API_AUTH_STRING"] = drawn
        os.environ["PREFECT_API_AUTH_STRING"] = drawn


@contextmanager
def without_collection() -> Iterator[None]:
    """Import without the collector of cyclic garbage, which would look at every module again.

    Modules stay, so it would find nothing: a sixth of the time that Prefect takes to import.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()


@contextmanager
def run_settings(api_url: str | None) -> Iterator[None]:
    """Apply the settings of a run in a terminal.

    Parameters
    ----------
    api_url
        The server to use instead of the configured one, or None.
    """
    from prefect.settings import (
        PREFECT_API_AUTH_STRING,
        PREFECT_API_URL,
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
        temporary_settings,
    )

    # Heartbeats let a server notice that a worker's run has died, and their thread takes up to
    # a second to end. A person at a terminal notices.
    updates: dict[Any, Any] = {PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}
    if api_url is not None:
        updates[PREFECT_API_URL] = api_url
        updates[PREFECT_API_AUTH_STRING] = os.environ.get("PREFECT_API_AUTH_STRING")
    with temporary_settings(updates):
        yield


def flush_to_server() -> None:
    """Send what Prefect still holds back, logs and states of tasks, before its server stops."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogHandler

    EventsWorker.drain_all(timeout=10)
    APILogHandler().flush()
