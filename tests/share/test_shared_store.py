"""Two machines share what either of them computes, on S3, in a folder and in memory."""

import logging
import re
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from digitflow.storage import shared
from digitflow.storage.digests import digest_bytes
from digitflow.storage.history.runs import RunRecord
from digitflow.storage.keys import StageKey
from digitflow.storage.store import Store
from tests.patience import PATIENCE
from tests.share.conftest import Machine
from tests.share.s3_server import S3
from tests.share.work import FORMATS, key, squares, values


def test_the_second_machine_computes_nothing(any_machine: Machine) -> None:
    first, second = any_machine("first"), any_machine("second")
    first.connect()
    made, ran = squares(first)
    assert (made.cached, ran) == (False, 1)

    second.connect()
    served, ran = squares(second)

    assert (served.cached, ran) == (True, 0)
    assert served.record == made.record
    assert values(second, served) == ([n * n for n in range(10)], {"sum": 285})


def test_a_second_look_asks_nobody(machine: Machine, s3: S3) -> None:
    squares(machine("first"))
    second = machine("second")
    squares(second)

    with s3.counting() as requests:
        again = machine("second")
        outcome, ran = squares(again)
        values(again, outcome)

    assert (outcome.cached, ran) == (True, 0)
    assert requests == []


def test_the_bucket_has_the_layout_of_a_folder(
    machine: Machine, s3: S3, bucket: str, tmp_path: Path
) -> None:
    first = machine("first")
    squares(first)

    there = {name.removeprefix("team/store/"): data for name, data in s3.keys(bucket).items()}

    here = {
        str(path.relative_to(first.root)): path.read_bytes()
        for folder in ("objects", "records")
        for path in (first.root / folder).rglob("*")
        if path.is_file() and path.suffix != ".sent"
    }
    assert there == here
    # So a store in a folder that is copied into a bucket is one that can be shared, and back.
    for name, data in there.items():
        (tmp_path / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "copy" / name).write_bytes(data)
    assert squares(Store(tmp_path / "copy"))[1] == 0


def test_bytes_that_are_there_are_not_sent_again(machine: Machine, s3: S3) -> None:
    squares(machine("first"))
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
    sent = [request.path for request in requests if request.method == "PUT"]
    assert len(sent) == 1
    assert sent[0].endswith(f"records/squares/{other.digest()}.json")
    # Nor fetched, for they have just been made here.
    assert not [each for each in requests if each.method == "GET" and "/objects/" in each.path]


def test_what_a_miss_costs(machine: Machine, s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most 40 requests on a machine that has nothing, however many records there are."""
    first = machine("first")
    for size in range(1, 25):
        squares(first, size)
    # As 6,000 records would be, of which each request lists a thousand.
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "4")
    monkeypatch.setattr(shared, "_MOST_NAMES", shared._MOST_NAMES // 250)

    with s3.counting() as requests:
        outcome, ran = squares(machine("second"), 1_000)

    assert ran == 1
    assert re.fullmatch(r"parameter size \d+ → 1000", outcome.reasons[0])
    assert len([each for each in requests if "list-type" in each.query]) <= 5
    assert len(requests) <= 40


def test_a_miss_is_explained_with_the_records_of_others(any_machine: Machine) -> None:
    squares(any_machine("first"), 10)
    outcome, ran = squares(any_machine("second"), 11)
    assert ran == 1
    assert outcome.reasons == ("parameter size 10 → 11",)


def test_records_of_others_are_listed_with_our_own(any_machine: Machine) -> None:
    squares(any_machine("first"), 10)
    second = any_machine("second")
    squares(second, 11)
    sizes = {record.document["parameters"]["size"] for record in second.records.of_stage("squares")}
    assert sizes == {10, 11}
    assert second.records.stages() == ["squares"]
    assert any_machine("third").records.stages() == ["squares"]


def _run(name: str, created: str) -> RunRecord:
    return RunRecord(name, created, 1.0, "tutorial", "mnist", {}, (), {}, None)


def test_runs_of_all_machines_are_listed(any_machine: Machine) -> None:
    any_machine("first").runs.save(_run("early-bird", "2026-01-01T00:00:00.000+00:00"))
    second = any_machine("second")
    second.runs.save(_run("late-owl", "2026-01-02T00:00:00.000+00:00"))
    assert [run.name for run in second.runs.newest_first()] == ["late-owl", "early-bird"]
    third = any_machine("third")
    assert [run.name for run in third.runs.newest_first()] == ["late-owl", "early-bird"]
    # What was listed lies on this machine now.
    assert [run.name for run in third.local.runs.newest_first()] == ["late-owl", "early-bird"]


def test_what_another_machine_has_just_written_is_seen(
    machine: Machine, s3: S3, bucket: str
) -> None:
    store, elsewhere = machine("second"), machine("third").local
    for count, name in enumerate(("early-bird", "late-owl"), 1):
        elsewhere.runs.save(_run(name, "2026-01-01T00:00:00.000+00:00"))
        # By somebody else's client: our own knows what it has written itself.
        s3.client().put_object(
            Bucket=bucket,
            Key=f"team/store/runs/{name}.json",
            Body=elsewhere.runs.path(name).read_bytes(),
        )
        assert len(list(store.runs.newest_first())) == count


def test_an_object_is_found_by_the_start_of_its_name(any_machine: Machine) -> None:
    outcome, _ = squares(any_machine("first"))
    sha256 = outcome.record.outputs["squares"].sha256
    assert any_machine("second").objects.starting_with(sha256[:6]) == {sha256}
    assert any_machine("second").objects.starting_with("f" * 40) == set()


def test_promised_bytes_are_fetched_and_then_asked_for_no_more(machine: Machine, s3: S3) -> None:
    data = b"promised by its digest"
    pinned = {"archive": digest_bytes(data)}
    wanted = StageKey("download", {}, {"sha256": pinned["archive"]}, {})

    def download(store: Store, size: int) -> int:
        ran = 0

        def compute(scratch: Path) -> Mapping[str, Any]:
            nonlocal ran
            ran += 1
            (scratch / "archive").write_bytes(data)
            return {"archive": scratch / "archive"}

        key = StageKey("download", {}, {**wanted.parameters, "size": size}, {})
        store.cache.obtain(
            key, "download", compute, {"archive": "file"}, run="tests", pinned=pinned
        )
        return ran

    assert download(machine("first"), 1) == 1
    # Another key, so no record, but the same promise.
    assert download(machine("second"), 2) == 0
    with s3.counting() as requests:
        assert download(machine("second"), 2) == 0
    assert requests == []


def test_of_two_machines_at_once_the_last_record_counts_and_nothing_is_mixed(
    machine: Machine,
) -> None:
    """No lock reaches from one machine to another; whole records keep their outputs together."""
    first_computes, second_is_done = threading.Event(), threading.Event()

    def compute(who: str) -> Mapping[str, Any]:
        return {"squares": np.array([ord(letter) for letter in who]), "summary": {"who": who}}

    def slowly(scratch: Path) -> Mapping[str, Any]:
        first_computes.set()
        assert second_is_done.wait(PATIENCE)
        return compute("first")

    def obtain(name: str, how: Any) -> None:
        machine(name).cache.obtain(key(3), "squares", how, FORMATS, run=name)

    slow = threading.Thread(target=obtain, args=("first", slowly))
    slow.start()
    assert first_computes.wait(PATIENCE)
    obtain("second", lambda scratch: compute("second"))
    between = machine("between")
    outcome, ran = squares(between, 3)
    assert (ran, outcome.record.run) == (0, "second")
    second_is_done.set()
    slow.join()

    for name, who in (("between", "second"), ("later", "first")):
        store = machine(name)
        outcome, ran = squares(store, 3)
        assert (ran, outcome.record.run) == (0, who)
        assert values(store, outcome) == ([ord(letter) for letter in who], {"who": who})


def test_of_several_processes_of_a_machine_one_fetches(machine: Machine, s3: S3) -> None:
    outcome, _ = squares(machine("first"))
    artifact = outcome.record.outputs["squares"]
    with s3.counting() as requests:
        threads = [
            threading.Thread(
                target=lambda: machine("second").objects.verify(artifact.sha256, artifact.size)
            )
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [request.method for request in requests].count("GET") == 1


@pytest.mark.parametrize("created", ["2999-01-01T00:00:00+00:00", "1970-01-02T00:00:00+00:00"])
@pytest.mark.parametrize("known", [False, True])
def test_a_refresh_is_heard_whatever_the_clock_of_another_machine_says(
    any_machine: Machine, created: str, known: bool
) -> None:
    first = any_machine("first")
    record = squares(first)[0].record
    first.records.save(replace(record, created=created))
    if known:
        assert squares(any_machine("second"))[1] == 0
    outcome, ran = squares(any_machine("second"), refresh=True, run="refreshing")
    assert (ran, outcome.record.run) == (1, "refreshing")
    assert squares(any_machine("third"))[0].record.run == "refreshing"


def test_a_refresh_replaces_what_is_shared(machine: Machine) -> None:
    squares(machine("first"))
    outcome, ran = squares(machine("second"), refresh=True, run="refreshing")
    assert (ran, outcome.reasons) == (1, ("refresh asked for",))
    assert squares(machine("third"))[0].record.run == "refreshing"


def test_a_damaged_copy_is_fetched_again_and_that_is_said(
    any_machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    store = any_machine("first")
    outcome, _ = squares(store)
    path = store.objects.path(outcome.record.outputs["squares"].sha256)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    record = store.records.path("squares", outcome.record.key)
    record.write_bytes(record.read_bytes().replace(b'"label"', b'"lapel"'))

    with caplog.at_level(logging.WARNING):
        again, ran = squares(any_machine("first"))

    assert (again.cached, ran) == (True, 0)
    assert values(store, again) == values(store, outcome)
    said = [each.getMessage() for each in caplog.records]
    assert [text.partition(":")[0].split("… ")[1] for text in said] == ["is damaged"] * 2
    assert all("fetch" in text for text in said)


def test_a_folder_in_the_place_of_a_copy_is_replaced(machine: Machine) -> None:
    store = machine("first")
    outcome, _ = squares(store)
    path = store.objects.path(outcome.record.outputs["summary"].sha256)
    path.unlink()
    (path / "inside").mkdir(parents=True)
    assert squares(machine("first"))[1] == 0
    assert path.is_file()
