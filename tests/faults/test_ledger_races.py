"""Processes that move champions at once, and are killed: no move is lost, none is made up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.races import Race, problems_of, race, trained
from digitflow.storage.history.ledger import GENESIS
from digitflow.storage.history.models import LedgerEntry, ModelVersion
from tests.environment import CLEAN
from tests.mnist import ROOT
from tests.share.s3_server import S3, running_s3


def hold(folder: Path, url: str = "", s3: S3 | None = None, **size: int) -> None:
    """Hold a race of so many processes and moves, and check what came of it."""
    environment = {**CLEAN, "PYTHONPATH": str(ROOT), **(s3.environment if s3 else {})}
    found = race(folder, **size, url=url, environment=environment)
    assert problems_of(found) == []
    assert len(found.done) == size["processes"] * size["moves"]


def hold_on_s3(folder: Path, monkeypatch: pytest.MonkeyPatch, **size: int) -> None:
    with running_s3() as s3:
        for name, value in s3.environment.items():
            monkeypatch.setenv(name, value)
        s3.client().create_bucket(Bucket="race")
        hold(folder, "s3://race/store", s3, **size)


def test_on_disk(tmp_path: Path) -> None:
    hold(tmp_path, processes=8, moves=25, kills=12)


def test_on_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hold_on_s3(tmp_path, monkeypatch, processes=3, moves=6, kills=2)


@pytest.mark.slow
def test_long_on_disk(tmp_path: Path) -> None:
    hold(tmp_path, processes=8, moves=1_000, kills=200)


@pytest.mark.slow
def test_long_on_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hold_on_s3(tmp_path, monkeypatch, processes=8, moves=60, kills=20)


def chain_of(*kinds: str) -> list[LedgerEntry]:
    """A chain of one version that is trained, promoted, and what comes after that."""
    version = ModelVersion(version=1, created="", **trained(0))  # type: ignore[arg-type]
    chain = [LedgerEntry(1, GENESIS, kind="trained", version="x", trained=version)]
    for order, kind in enumerate(("promoted", *kinds), 2):
        entry = LedgerEntry(
            order,
            chain[-1].digest,
            kind=kind,  # type: ignore[arg-type]
            reason=f"a {order}",
            version="x",
            details={"champion": None, "left": "elsewhere"},
        )
        chain.append(entry)
    return chain


def came(chain: list[LedgerEntry], *lost: str) -> list[str]:
    done = [*(entry.reason for entry in chain if entry.reason), *lost]
    return problems_of(Race(chain, {*done}, [*dict.fromkeys(done)], 0, 0, 0.0))


def test_the_referee_sees_what_is_wrong() -> None:
    right = chain_of("rejected")
    assert came(right) == []
    assert came(right, "a 7") == ["a 7 was told and is not in the ledger"]
    again = replace(right[2], order=4, previous=right[2].digest)
    assert came([*right, again]) == ["a 3 is 2 times in the ledger"]
    assert came(right[1:]) == [f"entry {n} does not follow the one before" for n in (1, 2)]
    for kind in ("promoted", "quarantine", "release", "rolled-back", "lost"):
        assert f"entry 3 is wrong where it stands: {kind}, a 3" in came(chain_of(kind))
    assert problems_of(Race(right, {"a 2"}, ["a 2", "a 2"], 0, 0, 0.0)) == [
        "a 2 was told 2 times",
        "a 3 is in the ledger, and nobody did it",
    ]
