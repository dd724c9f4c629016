"""A shared store loses what nobody has used for long, and nothing that anybody may need."""

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from digitflow.storage.errors import SharedStoreError
from digitflow.storage.history.runs import RunRecord
from digitflow.storage.keys import StageKey
from digitflow.storage.objects import object_name
from digitflow.storage.records import record_name
from digitflow.storage.store import Store
from digitflow.storage.upkeep.gc import Garbage, find_garbage, sweep
from digitflow.storage.upkeep.places import MIN_KEEP_DAYS
from tests.share.aging import age, sweep_all
from tests.share.conftest import Machine, remote_of
from tests.share.s3_server import S3, Refusal
from tests.share.work import FORMATS, key, squares

Wait = Callable[[float], None]


@pytest.fixture
def wait(monkeypatch: pytest.MonkeyPatch) -> Wait:
    """Let so many days pass, for this process alone."""
    passed = 0.0

    def wait(days: float) -> None:
        nonlocal passed
        passed += days * 86_400
        clock = SimpleNamespace(time=lambda: time.time() + passed)
        for module in ("upkeep.places", "sync_state"):
            monkeypatch.setattr(f"digitflow.storage.{module}.time", clock)

    return wait


def names(garbage: Garbage) -> list[str]:
    return [item.name for item in garbage.items]


def test_what_is_young_stays(any_machine: Machine, wait: Wait) -> None:
    first = any_machine("first")
    squares(first)
    wait(MIN_KEEP_DAYS - 1)
    assert sweep(first, MIN_KEEP_DAYS, shared=True).items == []


def test_what_nobody_used_goes_records_first(any_machine: Machine, wait: Wait) -> None:
    first = any_machine("first")
    outcome, _ = squares(first)
    objects = sorted(object_name(each.sha256) for each in outcome.record.outputs.values())
    wait(31)
    expected = [record_name("squares", key(10).digest()), *objects]

    assert names(find_garbage(first, 30, shared=True)) == expected
    assert squares(any_machine("second"))[1] == 0  # only said so far
    assert names(sweep(first, 30, shared=True)) == expected

    assert find_garbage(first, 30, shared=True).items == []
    assert squares(any_machine("third"))[1] == 1


def test_an_object_of_a_record_in_use_stays(tmp_path: Path) -> None:
    """However old it is itself: a hit renews the record now and then, and that is enough."""
    share = tmp_path / "share"
    store = Store(tmp_path / "first", share.as_uri())
    store.connect()
    squares(store)
    for _ in range(4):
        age(tmp_path, 8)
        assert squares(Store(tmp_path / "first", share.as_uri()))[1] == 0
    assert (
        min(path.stat().st_mtime for path in share.rglob("objects/*/*")) < time.time() - 31 * 86_400
    )
    assert sweep(store, 30, shared=True).items == []
    assert squares(Store(tmp_path / "second", share.as_uri()))[1] == 0

    age(share, 31)
    assert len(sweep(store, 30, shared=True).items) == 3


def test_an_object_of_a_run_that_is_kept_stays(machine: Machine, wait: Wait) -> None:
    first = machine("first")
    outcome, _ = squares(first)
    outputs = {name: each.to_json() for name, each in outcome.record.outputs.items()}
    stage = {
        "name": "squares",
        "stage": "squares",
        "cached": False,
        "reasons": [],
        "seconds": 1.0,
        "key": outcome.record.key,
        "outputs": outputs,
    }
    run = RunRecord("only", outcome.record.created, 1.0, "p", "d", {}, (stage,), {}, None)
    first.runs.save(run)
    wait(31)
    # The newest run is what people want to compare the next one with.
    assert names(sweep(first, 30, shared=True)) == [record_name("squares", key(10).digest())]


def test_an_object_of_a_model_of_this_machine_stays(machine: Machine, wait: Wait) -> None:
    first = machine("first")
    outcome, _ = squares(first)
    weights = outcome.record.outputs["squares"].sha256
    first.models.register(
        run="tests",
        preset="p",
        dataset="d",
        parameters={},
        metrics={},
        training="",
        data={},
        class_names=(),
        weights=outcome.record.outputs["squares"],
        predictions=outcome.record.outputs["squares"],
    )
    wait(31)
    assert object_name(weights) not in names(find_garbage(first, 30, shared=True))
    assert object_name(weights) not in names(sweep(first, 30, shared=True))
    assert remote_of(first).stat(object_name(weights)) is not None


def test_an_old_object_that_a_new_record_names_is_written_again(
    machine: Machine, wait: Wait, s3: S3
) -> None:
    """Or a sweep between the look at the object and the record would take it."""
    outcome, _ = squares(machine("first"))
    wait(8)
    other = StageKey("squares", {}, {"size": 10, "why": "another key, the same bytes"}, {})
    with s3.counting() as requests:
        machine("second").cache.obtain(
            other,
            "squares",
            lambda scratch: {
                "squares": np.arange(10, dtype=np.int64) ** 2,
                "summary": {"sum": 285},
            },
            FORMATS,
            run="tests",
        )
    sent = [each.path.partition("store/")[2] for each in requests if each.method == "PUT"]
    assert sent[:2] == [object_name(each.sha256) for each in outcome.record.outputs.values()]
    assert sent[2:] == [record_name("squares", other.digest())]


def test_what_was_written_since_it_was_listed_stays(
    machine: Machine, wait: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = machine("first")
    squares(first)
    wait(31)
    remote = remote_of(first)
    # To the sweep everything was written just now when it looks for the second time.
    stat = remote.stat

    def young(name: str) -> object:
        found = stat(name)
        return found and type(found)(found.name, found.size, time.time() + 31 * 86_400)

    monkeypatch.setattr(remote, "stat", young)
    assert sweep(first, 30, shared=True).items == []


def test_a_renewal_puts_back_what_the_store_lost(machine: Machine, wait: Wait, s3: S3) -> None:
    first = machine("first")
    outcome, _ = squares(first)
    remote = remote_of(first)
    remote.delete(object_name(outcome.record.outputs["squares"].sha256))
    remote.delete(record_name("squares", key(10).digest()))
    wait(8)
    assert squares(machine("first"))[1] == 0
    assert squares(machine("second"))[1] == 0


def test_a_machine_that_may_only_read_is_served(
    machine: Machine, wait: Wait, s3: S3, caplog: pytest.LogCaptureFixture
) -> None:
    squares(machine("first"))
    s3.before = lambda request: Refusal("403 Forbidden", "AccessDenied") if request.writes else None
    second = machine("second")
    second.connect()
    assert squares(second)[1] == 0
    wait(8)
    assert squares(machine("second"))[1] == 0
    assert "is served, but not noted as used" in caplog.text


def test_ages_that_are_not_safe_are_refused(machine: Machine) -> None:
    with pytest.raises(ValueError, match="at least 14 days"):
        find_garbage(machine("first"), 13, shared=True)
    with pytest.raises(ValueError, match="at least 14 days"):
        sweep(machine("first"), 0, shared=True)


def test_foreign_files_are_left_alone(machine: Machine, s3: S3, bucket: str, wait: Wait) -> None:
    for name in ("objects/ab/readme.txt", "records/Notes/x.json", "runs/.x.json", "other/y"):
        s3.client().put_object(Bucket=bucket, Key=f"team/store/{name}", Body=b"mine")
    wait(100)
    assert sweep(machine("first"), 30, shared=True).items == []


def test_an_upload_that_was_interrupted_goes(any_machine: Machine, wait: Wait) -> None:
    """Only where a put is a write and a rename is anything left of it that can be seen."""
    first = any_machine("first")
    first.connect()
    remote_of(first).write("unfinished/0123", b"half")
    assert sweep(first, 30, shared=True).items == []
    wait(MIN_KEEP_DAYS + 1)
    assert names(sweep(first, 30, shared=True)) == ["unfinished/0123"]


def test_a_sweep_of_this_machine_leaves_the_shared_store_alone(
    machine: Machine, s3: S3, bucket: str
) -> None:
    first = machine("first")
    squares(first)
    before = s3.keys(bucket)
    age(first.root)

    with s3.counting() as requests:
        assert sweep_all(first) > 0

    assert requests == []
    assert s3.keys(bucket) == before
    assert list(first.objects) == []
    assert squares(machine("first"))[1] == 0  # fetched again


def test_a_sweep_of_this_machine_keeps_what_was_not_sent(machine: Machine, s3: S3) -> None:
    first = machine("first")
    s3.before = lambda request: (
        Refusal("503 Service Unavailable", "ServiceUnavailable") if request.writes else None
    )
    with pytest.raises(SharedStoreError):
        squares(first)
    s3.before = None
    age(first.root)
    sweep_all(first)
    machine("first").connect()
    assert squares(machine("second"))[1] == 0


def test_marks_without_a_record_go(machine: Machine) -> None:
    first = machine("first")
    squares(first)
    first.records.path("squares", key(10).digest()).unlink()
    age(first.root)
    found = {Path(item.name).suffix: item.kind for item in find_garbage(first, 30).items}
    assert found[".sent"] == "temporary"
