"""Why Prefect's server gets another SQLite from us, and what that one does."""

import asyncio
from pathlib import Path

import pytest
from prefect.server.database.configurations import AioSqliteConfiguration
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession

from flows.services.sqlite import WaitingSqlite


async def count_and_add(
    configuration: AioSqliteConfiguration, session: AsyncSession, *, pause: float
) -> int:
    """Read, wait, and write what was read: what two of at once must not get in the way of."""
    async with configuration.begin_transaction(session):
        count = (await session.execute(text("SELECT count(*) FROM runs"))).scalar_one()
        await asyncio.sleep(pause)
        await session.execute(text(f"INSERT INTO runs VALUES ({count})"))
    return int(count)


async def two_at_once(configuration: AioSqliteConfiguration) -> list[int]:
    engine = await configuration.engine()
    sessions = [await configuration.session(engine) for _ in range(2)]
    try:
        async with configuration.begin_transaction(sessions[0]):
            await sessions[0].execute(text("CREATE TABLE runs (number INTEGER)"))
        slow = asyncio.create_task(count_and_add(configuration, sessions[0], pause=0.5))
        await asyncio.sleep(0.1)
        quick = asyncio.create_task(count_and_add(configuration, sessions[1], pause=0.0))
        return [await quick, await slow]
    finally:
        for session in sessions:
            await session.close()
        await engine.dispose()


def test_writers_wait_for_each_other(tmp_path: Path) -> None:
    configuration = WaitingSqlite(f"sqlite+aiosqlite:///{tmp_path / 'prefect.db'}")
    assert asyncio.run(two_at_once(configuration)) == [1, 0]


def test_those_of_prefect_fail(tmp_path: Path) -> None:
    """Should this fail one day, Prefect has mended it, and `WaitingSqlite` can go."""
    configuration = AioSqliteConfiguration(f"sqlite+aiosqlite:///{tmp_path / 'prefect.db'}")
    with pytest.raises(OperationalError, match="database is locked"):
        asyncio.run(two_at_once(configuration))
