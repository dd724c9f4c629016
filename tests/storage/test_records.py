import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from digitflow.storage.backends.local import LocalBackend
from digitflow.storage.digests import digest_json
from digitflow.storage.documents import LocalDocuments, verified
from digitflow.storage.errors import RecordDamagedError
from digitflow.storage.formats.artifacts import Artifact
from digitflow.storage.keys import StageKey
from digitflow.storage.records import RECORDS, Record, RecordStore, is_stage_name, now

KEY = StageKey("train", {"a.py": {"f": "1"}}, {"epochs": 20}, {"images": "a" * 64})
RECORD = Record(
    KEY.digest(),
    "train-once",
    KEY.document(),
    {"model": Artifact("b" * 64, 7, "npz", {"arrays": {}})},
    "quiet-ant",
    "2026-11-23T07:00:00.000+00:00",
    1.5,
)


@pytest.fixture
def records(tmp_path: Path) -> RecordStore:
    return RecordStore(LocalDocuments(RECORDS, LocalBackend(tmp_path)))


def forged(**changes: Any) -> bytes:
    """A record with other contents, whole by its own digest."""
    body = {**json.loads(RECORDS.dump(RECORD)), **changes}
    del body["sha256"]
    body = {name: value for name, value in body.items() if value != "removed"}
    return json.dumps({**body, "sha256": digest_json(body)}).encode()


def forged_document(**changes: Any) -> bytes:
    document = {**KEY.document(), **changes}
    document = {name: value for name, value in document.items() if value != "removed"}
    return forged(document=document, key=digest_json(document))


def test_a_record_comes_back(records: RecordStore):
    records.save(RECORD)
    back = records.load("train", RECORD.key)
    assert back == RECORD
    assert back is not None
    assert back.stage == "train"
    assert back.outputs["model"].details == {"arrays": {}}


def test_there_is_none(records: RecordStore):
    assert records.load("train", RECORD.key) is None
    assert list(records.of_stage("train")) == []
    assert not records.root.exists()


def test_a_file_holds_one_record_and_says_which(records: RecordStore):
    records.save(RECORD)
    assert [str(path.relative_to(records.root)) for path in records.root.rglob("*.*")] == [
        f"train/{RECORD.key}.json"
    ]


def test_a_record_of_an_older_digitflow_is_read_though_it_is_laid_out_differently(
    records: RecordStore,
):
    data = RECORDS.dump(RECORD)
    body = json.loads(data)
    old = json.dumps(body, sort_keys=True, ensure_ascii=False).encode()
    assert old != data
    assert RECORDS.parse(old) == RECORD
    assert verified(old) == verified(data)
    with pytest.raises(RecordDamagedError, match="does not match its digest"):
        RECORDS.parse(old.replace(b"quiet-ant", b"quiet-bee"))


def test_each_changed_byte_and_each_truncation_is_noticed(records: RecordStore):
    records.save(RECORD)
    path = records.path("train", RECORD.key)
    data = path.read_bytes()
    for place in range(len(data)):
        changed = [data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :] for bit in (1, 32)]
        for damaged in (*changed, data[:place]):
            with pytest.raises(RecordDamagedError):
                RECORDS.parse(damaged)
    for damaged in (b"", data[:-1], data[:100], data.replace(b"20", b"30"), data + b"x"):
        path.write_bytes(damaged)
        with pytest.raises(RecordDamagedError, match=f"record {RECORD.key[:12]}… is damaged: "):
            records.load("train", RECORD.key)
        assert list(records.of_stage("train")) == []


@pytest.mark.parametrize(
    "data",
    [
        b"null",
        b"[]",
        b'"text"',
        b"{}",
        b'{"sha256": 1}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"\xff\xfe\x00",
        b"9" * 5000,
        b" " * (16 * 2**20 + 1),
        forged(more=1),
        forged(format="one"),
        forged(label="removed"),
        forged(label=5),
        forged(created=5),
        forged(created="today"),
        forged(created="2026-01-01T00:00:00"),
        forged(run=None),
        forged(seconds="long"),
        forged(seconds=True),
        forged(seconds=10**400),
        forged(outputs={"../../x": RECORD.outputs["model"].to_json()}),
        forged(key="a" * 64),
        forged(key=["a"]),
        forged(outputs=[]),
        forged(outputs={"model": None}),
        forged(outputs={"model": {**RECORD.outputs["model"].to_json(), "sha256": "../../x"}}),
        forged(outputs={"model": {**RECORD.outputs["model"].to_json(), "format": "pickle"}}),
        forged(outputs={"model": {**RECORD.outputs["model"].to_json(), "size": -1}}),
        forged(document=None),
        forged_document(stage="removed"),
        forged_document(stage=5),
        forged_document(parameters="removed"),
        forged_document(parameters=[]),
        forged_document(code={"a.py": "f"}),
        forged_document(inputs={"images": 5}),
    ],
)
def test_what_is_no_record(records: RecordStore, data: bytes):
    path = records.path("train", RECORD.key)
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    with pytest.raises(RecordDamagedError, match="is damaged: "):
        records.load("train", RECORD.key)
    assert list(records.of_stage("train")) == []


def test_the_forger_of_these_tests_can_forge():
    assert RECORDS.parse(forged()) == RECORD
    assert RECORDS.parse(forged(label="another")).label == "another"


def test_a_whole_record_in_the_place_of_another_is_not_taken_for_it(records: RecordStore):
    other = StageKey("train", {}, {"epochs": 30}, {})
    records.save(replace(RECORD, key=other.digest(), document=other.document()))
    path = records.path("train", RECORD.key)
    records.path("train", other.digest()).replace(path)
    with pytest.raises(RecordDamagedError, match=f"holds record {other.digest()[:12]}"):
        records.load("train", RECORD.key)


def test_a_record_of_another_stage_is_not_taken_for_one_of_this(records: RecordStore):
    records.save(RECORD)
    target = records.path("evaluate", RECORD.key)
    target.parent.mkdir()
    records.path("train", RECORD.key).replace(target)
    with pytest.raises(RecordDamagedError, match=f"holds record {RECORD.key[:12]}"):
        records.load("evaluate", RECORD.key)


def test_a_folder_in_place_of_a_record_is_damage(records: RecordStore):
    records.path("train", RECORD.key).mkdir(parents=True)
    with pytest.raises(RecordDamagedError, match="cannot be read"):
        records.load("train", RECORD.key)
    assert list(records.of_stage("train")) == []


@pytest.mark.parametrize(
    ("stage", "key"),
    [
        ("../train", RECORD.key),
        ("..", RECORD.key),
        ("", RECORD.key),
        ("/train", RECORD.key),
        ("train/x", RECORD.key),
        ("Train", RECORD.key),
        ("train\n", RECORD.key),
        ("a" * 101, RECORD.key),
        ("train", "../../x"),
        ("train", RECORD.key.upper()),
    ],
)
def test_names_cannot_become_other_paths(records: RecordStore, stage: str, key: str):
    with pytest.raises(ValueError, match="expected a stage name and a SHA-256"):
        records.load(stage, key)
    assert not is_stage_name(stage) or key != RECORD.key


def test_records_of_a_stage_come_newest_first_and_damaged_ones_not_at_all(records: RecordStore):
    keys = []
    for number in range(5):
        key = StageKey("train", {}, {"epochs": number}, {})
        record = replace(RECORD, key=key.digest(), document=key.document())
        records.save(record)
        os.utime(records.path("train", key.digest()), (1000 + number, 1000 + number))
        keys.append(key.digest())
    records.path("train", keys[2]).write_bytes(b"damaged")
    (records.root / "train" / "notes.json").write_text("{}")
    assert [record.key for record in records.of_stage("train")] == [
        keys[number] for number in (2, 4, 3, 1, 0) if number != 2
    ]
    first = records.load("train", keys[0])
    assert first is not None
    assert records.last_used(first).timestamp() == 1000
    records.mark_used(first)
    assert next(iter(records.of_stage("train"))).key == keys[0]
    assert records.last_used(first).timestamp() > 1004


def test_marking_changes_no_byte(records: RecordStore):
    records.save(RECORD)
    before = records.path("train", RECORD.key).read_bytes()
    records.mark_used(RECORD)
    assert records.path("train", RECORD.key).read_bytes() == before


def test_times_sort_as_texts():
    assert now() <= now()
    assert now().endswith("+00:00")
    assert len(now()) == len("2026-11-23T07:00:00.000+00:00")
