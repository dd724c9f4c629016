"""Why Prefect's server gets another SQLite from us, and what that one does."""

import asyncio
import inspect
from pathlib import Path

import pytest
from prefect.server.api.deployments import create_flow_run_from_deployment
from prefect.server.database.configurations import AioSqliteConfiguration
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession

from digitflow.flows.server.server import WaitingSqlite
from tests.patience import PATIENCE


async def count(session: AsyncSession) -> int:
    return int((await session.execute(text("SELECT count(*) FROM runs"))).scalar_one())


async def add(session: AsyncSession, number: int) -> None:
    await session.execute(text(f"INSERT INTO runs VALUES ({number})"))


async def two_at_once(configuration: AioSqliteConfiguration, seconds: float) -> list[int]:
    """Let a second writer come between the first one's reading and writing.

    The first one waits for the second for some seconds. Returns what each has counted.
    """
    engine = await configuration.engine()
    first, second = [await configuration.session(engine) for _ in range(2)]

    async def come_between() -> int:
        async with configuration.begin_transaction(second):
            found = await count(second)
            await add(second, found)
        return found

    try:
        async with configuration.begin_transaction(first):
            await first.execute(text("CREATE TABLE runs (number INTEGER)"))
        async with configuration.begin_transaction(first):
            found = await count(first)
            other = asyncio.create_task(come_between())
            await asyncio.wait([other], timeout=seconds)
            await add(first, found)
        return [found, await other]
    finally:
        await first.close()
        await second.close()
        await engine.dispose()


def test_writers_wait_for_each_other(tmp_path: Path) -> None:
    configuration = WaitingSqlite(f"sqlite+aiosqlite:///{tmp_path / 'prefect.db'}")
    assert asyncio.run(two_at_once(configuration, 0.5)) == [0, 1]


def test_those_of_prefect_fail(tmp_path: Path) -> None:
    """Should this fail one day, Prefect has mended it, and `WaitingSqlite` can go."""
    configuration = AioSqliteConfiguration(f"sqlite+aiosqlite:///{tmp_path / 'prefect.db'}")
    with pytest.raises(OperationalError, match="database is locked"):
        asyncio.run(two_at_once(configuration, PATIENCE))


def test_the_form_of_prefect_begins_as_a_reader() -> None:
    """Should this fail one day, look whether the others do so still."""
    source = inspect.getsource(create_flow_run_from_deployment)
    assert "session_context(begin_transaction=True)" in source
