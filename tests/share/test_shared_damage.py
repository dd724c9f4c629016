"""Damage in a bucket, by accident or on purpose: noticed, said, and healed by computing again."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from digitflow.storage.digests import digest_json
from digitflow.storage.errors import SharedStoreError, StorageError
from digitflow.storage.history.runs import RunRecord
from digitflow.storage.objects import object_name
from digitflow.storage.records import record_name
from digitflow.storage.store import Store
from digitflow.storage.upkeep.verify import find_damage
from digitflow.tasks.engine.call import Context, Handle, compute, using
from tests.engine.test_healing import artifact, ran, wired
from tests.share.conftest import Machine, remote_of
from tests.share.s3_server import S3
from tests.share.work import key, squares, values

Damage = Callable[[bytes], bytes]

DAMAGES: dict[str, Damage] = {
    "one byte flipped": lambda data: data[:-2] + bytes([data[-2] ^ 1]) + data[-1:],
    "truncated": lambda data: data[: len(data) // 2],
    "emptied": lambda data: b"",
    "longer": lambda data: data + b" more",
    "another's bytes": lambda data: json.dumps({"sha256": "0" * 64}).encode(),
}

PREFIX = "team/store/"


class Bucket:
    """The bucket as somebody with write access to it sees it."""

    def __init__(self, s3: S3, bucket: str) -> None:
        self.client = s3.client()
        self.bucket = bucket

    def read(self, name: str) -> bytes:
        body: bytes = self.client.get_object(Bucket=self.bucket, Key=PREFIX + name)["Body"].read()
        return body

    def write(self, name: str, data: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=PREFIX + name, Body=data)

    def delete(self, name: str) -> None:
        self.client.delete_object(Bucket=self.bucket, Key=PREFIX + name)


@pytest.fixture
def outside(s3: S3, bucket: str) -> Bucket:
    return Bucket(s3, bucket)


def _objects(store: Store) -> dict[str, str]:
    outcome, _ = squares(store)
    return {name: object_name(artifact.sha256) for name, artifact in outcome.record.outputs.items()}


@pytest.mark.parametrize(
    ("damage", "output"),
    [*((damage, "squares") for damage in DAMAGES), ("one byte flipped", "summary")],
)
def test_a_damaged_object_is_computed_again_and_replaced(
    machine: Machine, outside: Bucket, damage: str, output: str
) -> None:
    name = _objects(machine("first"))[output]
    sound = outside.read(name)
    outside.write(name, DAMAGES[damage](sound))

    second = machine("second")
    outcome, ran = squares(second)

    assert ran == 1
    assert len(outcome.reasons) == 1
    assert outcome.reasons[0].startswith("object ")
    assert outcome.reasons[0].endswith("… is damaged")
    assert values(second, outcome) == ([n * n for n in range(10)], {"sum": 285})
    assert outside.read(name) == sound
    assert squares(machine("third"))[1] == 0


def test_several_damaged_objects_are_replaced_at_once(machine: Machine, outside: Bucket) -> None:
    names = _objects(machine("first")).values()
    for name in names:  # of the right size, so only reading them tells
        outside.write(name, DAMAGES["one byte flipped"](outside.read(name)))
    assert squares(machine("second"))[1] == 1
    assert squares(machine("third"))[1] == 0


def test_half_an_object_from_somebody_else_does_not_count_as_sent(
    machine: Machine, outside: Bucket
) -> None:
    """Nobody has read it, so only its size tells."""
    elsewhere = machine("elsewhere").local
    outcome, _ = squares(elsewhere)
    artifact = outcome.record.outputs["squares"]
    sound = elsewhere.objects.path(artifact.sha256).read_bytes()
    outside.write(object_name(artifact.sha256), sound[:40])
    squares(machine("first"))
    assert outside.read(object_name(artifact.sha256)) == sound


def test_a_deleted_object_is_computed_again(machine: Machine, outside: Bucket) -> None:
    name = _objects(machine("first"))["squares"]
    outside.delete(name)
    outcome, ran = squares(machine("second"))
    assert ran == 1
    assert outcome.reasons[0].endswith("… is missing")
    assert squares(machine("third"))[1] == 0


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_record_is_computed_again_and_replaced(
    machine: Machine, outside: Bucket, damage: str
) -> None:
    squares(machine("first"))
    name = record_name("squares", key(10).digest())
    outside.write(name, DAMAGES[damage](outside.read(name)))

    outcome, ran = squares(machine("second"))

    assert ran == 1
    assert outcome.reasons == (f"record {key(10).digest()[:12]}… is damaged",)
    assert squares(machine("third"))[1] == 0


def test_the_record_of_another_key_serves_nothing(machine: Machine, outside: Bucket) -> None:
    squares(machine("first"), 10)
    other = outside.read(record_name("squares", key(10).digest()))
    outside.write(record_name("squares", key(11).digest()), other)
    outcome, ran = squares(machine("second"), 11)
    assert ran == 1
    assert outcome.reasons == (f"record {key(11).digest()[:12]}… is damaged",)


def test_a_deleted_record_is_only_a_miss(machine: Machine, outside: Bucket) -> None:
    squares(machine("first"))
    outside.delete(record_name("squares", key(10).digest()))
    outcome, ran = squares(machine("second"))
    assert (ran, outcome.reasons) == (1, ("never run",))
    assert squares(machine("third"))[1] == 0


def test_what_a_record_promises_otherwise_is_not_even_downloaded(
    machine: Machine, outside: Bucket, s3: S3
) -> None:
    name = _objects(machine("first"))["squares"]
    outside.write(name, bytes(50_000_000))
    with s3.counting() as requests:
        _, ran = squares(machine("second"))
    assert ran == 1
    assert not [each for each in requests if each.method == "GET" and each.path.endswith(name)]


def test_a_record_of_gigabytes_is_not_downloaded(machine: Machine, outside: Bucket, s3: S3) -> None:
    squares(machine("first"))
    name = record_name("squares", key(10).digest())
    outside.write(name, bytes(64 * 2**20))
    before = s3.sent
    outcome, ran = squares(machine("second"))
    assert ran == 1
    # What lies in buffers between the two has been sent, but nobody asked for the rest.
    assert s3.sent - before < 32 * 2**20
    assert outcome.reasons == (f"record {key(10).digest()[:12]}… is damaged",)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sha256", "../../../../etc/passwd"),
        ("sha256", "A" * 64),
        ("format", "pickle"),
        ("size", -1),
        ("size", True),
    ],
)
def test_a_record_crafted_with_a_right_digest_is_refused(
    machine: Machine, outside: Bucket, field: str, value: Any
) -> None:
    squares(machine("first"))
    name = record_name("squares", key(10).digest())
    body = json.loads(outside.read(name))
    body["outputs"]["squares"][field] = value
    del body["sha256"]
    body["sha256"] = digest_json(body)
    outside.write(name, json.dumps(body).encode())
    outcome, ran = squares(machine("second"))
    assert ran == 1
    assert outcome.reasons == (f"record {key(10).digest()[:12]}… is damaged",)


def test_names_in_the_bucket_lead_nowhere_else(
    machine: Machine, outside: Bucket, tmp_path: Path
) -> None:
    outcome, _ = squares(machine("first"))
    sha256 = outcome.record.outputs["squares"].sha256
    record = outside.read(record_name("squares", key(10).digest()))
    for name in (
        "runs/..json",
        "runs/.hidden.json",
        "runs/a\\..\\b.json",
        "records/squares/short.json",
        f"records/squares/{sha256[:63]}Z.json",
        "records/Squares/x.json",
        f"objects/{sha256[:2]}/{sha256[2:]}x",
    ):
        outside.write(name, record)
    before = {path for path in tmp_path.rglob("*") if "second" not in path.parts}

    second = machine("second")
    assert list(second.runs.newest_first()) == []
    assert second.records.stages() == ["squares"]
    assert len(list(second.records.of_stage("squares"))) == 1
    assert second.objects.starting_with(sha256[:2]) == {sha256}

    assert {path for path in tmp_path.rglob("*") if "second" not in path.parts} == before
    assert sorted(path.name for path in (second.root / "records" / "squares").iterdir()) == [
        f"{key(10).digest()}.json",
        f"{key(10).digest()}.sent",
    ]


def test_a_damaged_run_is_left_out(machine: Machine, outside: Bucket) -> None:
    run = RunRecord("ok", "2026-01-01T00:00:00.000+00:00", 1.0, "p", "d", {}, (), {}, None)
    machine("first").runs.save(run)
    data = outside.read("runs/ok.json")
    outside.write("runs/flipped.json", DAMAGES["one byte flipped"](data))
    outside.write("runs/other.json", data)
    second = machine("second")
    assert [each.name for each in second.runs.newest_first()] == ["ok"]
    assert sorted(path.name for path in second.runs.root.iterdir()) == ["ok.json", "ok.sent"]


def test_a_name_that_leads_elsewhere_is_refused_with_a_sentence(
    machine: Machine, outside: Bucket
) -> None:
    """obstore lists no folder that holds one, so it has to be removed."""
    squares(machine("first"))
    outside.write("records/../escaped.json", b"x")
    with pytest.raises(SharedStoreError, match=r"leads elsewhere.*records/\.\./escaped\.json"):
        machine("second").records.stages()
    with pytest.raises(StorageError, match="expected the name of something below the store"):
        remote_of(machine("second")).read("records/../escaped.json")


def test_what_lies_on_the_shared_store_only(machine: Machine) -> None:
    """This machine has lost its copy, and the one that is shared is damaged."""
    ran.clear()
    store = machine("first")

    def harm(numbers: Handle, squares: Handle) -> None:
        sha256 = artifact(squares).sha256
        store.objects.path(sha256).unlink()
        remote_of(store).write(object_name(sha256), b"x")

    with using(Context(store, "script", compute)):
        assert wired(harm) == {"total": 20}
    assert ran == ["numbers", "squares", "squares", "total"]
    assert find_damage(machine("second"), shared=True).damaged == []


def test_what_is_no_file_is_one_damage_and_not_the_end_of_the_store(tmp_path: Path) -> None:
    runs = tmp_path / "there" / "runs"
    runs.mkdir(parents=True)
    os.mkfifo(runs / "pipe.json")
    (runs / "link.json").symlink_to(__file__)
    store = Store(tmp_path / "here", f"file://{tmp_path / 'there'}")
    damaged = {each.name for each in find_damage(store, shared=True).damaged}
    assert damaged == {"runs/pipe.json", "runs/link.json"}
    assert list(store.runs.newest_first()) == []
