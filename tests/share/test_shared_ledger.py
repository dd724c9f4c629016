"""One ledger for all machines of a shared store: they agree, and every race has one winner."""

from __future__ import annotations

import shutil

import pytest

from digitflow.storage.backends.local import LocalBackend
from digitflow.storage.errors import LedgerError, MovedMeanwhileError, SharedStoreError
from digitflow.storage.history.registry import ModelStore
from digitflow.storage.store import Store
from tests.share.conftest import Machine, remote_of
from tests.share.s3_server import S3, Refusal, Request
from tests.storage.test_registry import fields


def models(store: Store) -> ModelStore:
    """The registry of a machine, whose objects do not matter here."""
    return ModelStore(LocalBackend(store.root), remote_of(store))


def test_two_machines_agree(any_machine: Machine) -> None:
    first, second = models(any_machine("first")), models(any_machine("second"))
    first.register(**fields("01" * 32))
    second.register(**fields("02" * 32))
    first.promote(1, "first")
    second.promote(2, "better", judged_against=1)
    with pytest.raises(MovedMeanwhileError):
        first.promote(1, "judged before", judged_against=None)
    assert first.load(2) == second.load(2)
    assert first.champion() == second.champion() == first.load(2)
    assert first.rollback("blurred").version == 1
    assert second.state().quarantine(second.load(2)) is not None
    with pytest.raises(LedgerError, match="in quarantine"):
        second.promote(2, "passed the gate", by="a night")


def test_a_fresh_machine_has_all_of_it(machine: Machine) -> None:
    first = models(machine("first"))
    first.register(**fields())
    first.promote(1, "first")
    ours = models(machine("second")).state()
    assert ours.versions == first.state().versions
    assert ours.standings == first.state().standings


def test_what_the_bucket_has_lost_comes_back_from_a_machine(
    machine: Machine, s3: S3, bucket: str
) -> None:
    first = models(machine("first"))
    first.register(**fields())
    first.promote(1, "first")
    before = s3.keys(bucket)
    for key in before:
        s3.client().delete_object(Bucket=bucket, Key=key)
    assert first.champion() == first.load(1)
    assert {k: v for k, v in s3.keys(bucket).items() if "head" not in k} == {
        k: v for k, v in before.items() if "head" not in k
    }


def test_what_the_bucket_has_damaged_is_put_back(machine: Machine, s3: S3, bucket: str) -> None:
    first = models(machine("first"))
    first.register(**fields())
    before = s3.keys(bucket)
    key = "team/store/ledger/00000001.json"
    s3.client().put_object(Bucket=bucket, Key=key, Body=before[key].replace(b"calm", b"balm"))
    assert models(machine("second")).load(1) == first.load(1)
    assert s3.keys(bucket) == before


def test_two_histories_are_refused(machine: Machine, s3: S3, bucket: str) -> None:
    first = models(machine("first"))
    first.register(**fields())
    for key in s3.keys(bucket):
        s3.client().delete_object(Bucket=bucket, Key=key)
    models(machine("second")).register(**fields("77" * 32))
    again = models(machine("first"))
    with pytest.raises(LedgerError, match="two histories from entry 1 on.*delete that folder"):
        again.champion()
    shutil.rmtree(machine("first").root / "ledger-mirror")
    assert models(machine("first")).load(1).weights.sha256 == "77" * 32


def test_a_store_that_replaces_what_it_is_to_create_is_refused(
    machine: Machine, s3: S3, bucket: str
) -> None:
    def forget(request: Request) -> None:
        request.environment.pop("HTTP_IF_NONE_MATCH", None)

    s3.before = forget
    with pytest.raises(LedgerError, match="replaces what it is asked to create.*If-None-Match"):
        models(machine("first")).register(**fields())
    assert not any("ledger/" in key for key in s3.keys(bucket))


def test_an_answer_that_never_came_is_no_second_entry(machine: Machine, s3: S3) -> None:
    """The store has created the entry, and the answer is lost: tried again, it is refused."""
    first = models(machine("first"))
    first.register(**fields())
    create = remote_of(machine("first")).create
    first.ledger._home.create = (  # type: ignore[method-assign]
        lambda name, data: create(name, data) and False
    )
    try:
        first.promote(1, "first")
    finally:
        del first.ledger._home.create
    assert [entry.kind for entry in first.ledger.read()] == ["trained", "promoted"]


def test_offline_the_mirror_is_read_and_never_written(machine: Machine) -> None:
    first = models(machine("first"))
    first.register(**fields())
    first.promote(1, "first")
    offline = Store(machine("first").root).models
    assert offline.champion() == first.load(1)
    with pytest.raises(LedgerError, match="this machine's copy of a shared store's ledger"):
        offline.hold("exam week")


def test_a_look_at_the_champion_takes_few_requests(machine: Machine, s3: S3) -> None:
    first = models(machine("first"))
    for number in range(5):
        first.register(**fields(f"{number:064x}"))
    with s3.counting() as requests:
        assert len(models(machine("first")).state().versions) == 5
    assert len(requests) <= 3


def test_what_is_made_is_told_as_made_although_the_store_fails_after_it(
    machine: Machine, s3: S3
) -> None:
    """Whoever is told of a failure does it again, and it would be there twice."""
    first = models(machine("first"))
    first.register(**fields())

    def refuse(request: Request) -> Refusal | None:
        is_lost = request.method == "PUT" and "/ledger/" not in request.path
        return Refusal("503 Slow Down", "SlowDown") if is_lost else None

    s3.before = refuse
    first.promote(1, "first")
    assert [entry.kind for entry in first.ledger.read()] == ["trained", "promoted"]
    s3.before = None
    create = remote_of(machine("first")).create

    def unanswered(name: str, data: bytes) -> bool:
        create(name, data)
        message = "no answer"
        raise SharedStoreError(message)

    first.ledger._home.create = unanswered  # type: ignore[method-assign]
    try:
        first.hold("exam week")
    finally:
        del first.ledger._home.create
    kinds = [entry.kind for entry in models(machine("second")).ledger.read()]
    assert kinds == ["trained", "promoted", "hold"]
