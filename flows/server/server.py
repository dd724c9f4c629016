"""Prefect's server in this process, above an SQLite whose writers wait for each other."""

from __future__ import annotations

import sys
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import uvicorn
from prefect.server.api.server import create_app
from prefect.server.database.configurations import AioSqliteConfiguration
from prefect.server.database.dependencies import set_database_config
from prefect.settings import (
    PREFECT_API_DATABASE_CONNECTION_URL,
    PREFECT_SERVER_API_AUTH_STRING,
    PREFECT_SERVER_API_HOST,
)
from sqlalchemy.ext.asyncio import AsyncSession, AsyncSessionTransaction

from digitflow.flows.cli.render import plain_console, print_text
from digitflow.flows.server.browsers import admit_own_pages
from digitflow.flows.server.endpoint import exposure


class WaitingSqlite(AioSqliteConfiguration):
    """Prefect's SQLite, whose transactions take the write lock when they begin.

    Most of Prefect's begin as readers (Prefect 3.9.1). Once they write, SQLite cannot wait for
    another writer any more, since what they have read may be out of date, and fails at once with
    "database is locked": runs that were started in the UI while others were going on were refused.
    Prefect takes the lock early where it has met this itself (``with_for_update``).

    Source: https://www.sqlite.org/lang_transaction.html, sections 2.1 and 2.2.
    """

    @asynccontextmanager
    async def begin_transaction(
        self,
        session: AsyncSession,
        with_for_update: bool = False,  # noqa: ARG002 - as if it were always true
    ) -> AsyncGenerator[AsyncSessionTransaction, None]:
        """Begin a transaction that nobody can get in the way of."""
        async with super().begin_transaction(session, with_for_update=True) as transaction:
            yield transaction


def let_writers_wait() -> None:
    """Have a server of this process use `WaitingSqlite`, unless its database is another one.

    Call it before the server is made.
    """
    url = PREFECT_API_DATABASE_CONNECTION_URL.value()
    if url.startswith("sqlite"):
        set_database_config(WaitingSqlite(connection_url=url))


def serve() -> None:
    """Run `prefect server start` in this process, until it is stopped. Prefect's settings hold."""
    from prefect.cli import app

    password = PREFECT_SERVER_API_AUTH_STRING.value()
    warning = exposure(PREFECT_SERVER_API_HOST.value(), str(password or ""))
    if warning is not None:
        print_text(plain_console(stderr=True), f"warning: {warning}", "yellow")
    let_writers_wait()
    admit_own_pages()
    sys.argv = ["prefect", "server", "start"]
    with suppress(KeyboardInterrupt):
        app()


def serve_embedded(port: int) -> None:
    """Run a server until it is told to stop, or its parent is gone."""
    let_writers_wait()
    api = create_app(ephemeral=True, final=True)
    config = uvicorn.Config(api, host="127.0.0.1", port=port, log_level="error", lifespan="on")
    server = uvicorn.Server(config)

    def stop_with_parent() -> None:
        # Nobody writes: reading ends when the parent closes the pipe or dies.
        sys.stdin.buffer.read()
        server.should_exit = True

    threading.Thread(target=stop_with_parent, daemon=True).start()
    server.run()


if __name__ == "__main__":
    serve_embedded(int(sys.argv[1]))
