"""Prefect's server, as it is, above an SQLite whose writers wait for each other."""

from __future__ import annotations

import sys
from contextlib import suppress


def serve() -> None:
    """Run `prefect server start` in this process, until it is stopped. Prefect's settings hold."""
    from prefect.cli import app

    from digitflow.flows.server.sqlite import let_writers_wait

    let_writers_wait()
    sys.argv = ["prefect", "server", "start"]
    with suppress(KeyboardInterrupt):
        app()
