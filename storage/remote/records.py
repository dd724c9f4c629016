"""Records of stages that machines share: read here first, written here and then there."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from digitflow.storage.atomic import write_bytes
from digitflow.storage.digests import is_sha256, short
from digitflow.storage.errors import (
    ObjectDamagedError,
    ObjectMissingError,
    RecordDamagedError,
    SharedStoreError,
)
from digitflow.storage.records import MAX_RECORD_BYTES, Record, RecordStore, is_stage_name
from digitflow.storage.remote.listing import RemoteFile
from digitflow.storage.remote.objects import SharedObjects
from digitflow.storage.remote.remote import Remote
from digitflow.storage.remote.sync_state import (
    date,
    is_sent,
    is_to_be_renewed,
    mark_sent,
    mark_unsent,
    sending,
)

_log = logging.getLogger(__name__)

# So many of a stage's newest records are looked at to explain a miss.
_MOST_RECORDS = 200


class SharedRecords(RecordStore):
    """Records of this machine, shared with others.

    Parameters
    ----------
    root
        Folder of the records on this machine.
    objects
        The shared objects, which are sent before the records that name them.
    """

    def __init__(self, root: Path, objects: SharedObjects) -> None:
        super().__init__(root)
        self._objects = objects
        self._remote = objects.remote

    def load(self, stage: str, key: str) -> Record | None:
        """Return the record of a key, fetched if this machine has none that is sound."""
        damage: RecordDamagedError | None = None
        try:
            record = super().load(stage, key)
        except RecordDamagedError as error:
            record, damage = None, error
        if record is not None:
            return record
        name = record_name(stage, key)
        found = _read(self._remote, name, f"record {short(key)}…")
        if found is None:
            if damage is not None:
                raise damage
            return None
        if damage is not None:
            _log.warning("%s; fetched again from %s", damage, self._remote)
        listed, data = found
        record = parse_record(data, stage, key, f"{self._remote}/{name}")
        self._keep(record, data, listed)
        return record

    def save(self, record: Record) -> None:
        """Write a record here, then send what it names, and then the record."""
        path = self.path(record.stage, record.key)
        mark_unsent(path)
        super().save(record)
        self.send(record)

    def mark_used(self, record: Record) -> None:
        """Note that a record was served now, here and, now and then, in the shared store."""
        super().mark_used(record)
        path = self.path(record.stage, record.key)
        if not is_sent(path):
            self.send(record)
        elif is_to_be_renewed(path):
            try:
                self._renew(record)
            except SharedStoreError as error:  # a hit needs no writing, and some may only read
                _log.warning("%s is served, but not noted as used: %s", record.label, error)

    def send(self, record: Record) -> None:
        """Send what a record names, and then the record.

        Raises
        ------
        SharedStoreError
            If the shared store cannot be used. What this machine has stays.
        """
        path = self.path(record.stage, record.key)
        with sending(path, f"{record.label} of {record.run}"):
            for artifact in record.outputs.values():
                self._objects.send(artifact)
            self._remote.write(path.read_bytes(), record_name(record.stage, record.key))

    def send_unsent(self) -> None:
        """Send what an earlier run could not."""
        for path in self.root.glob("*/*.json"):
            if is_sent(path) or not (is_stage_name(path.parent.name) and is_sha256(path.stem)):
                continue
            try:
                record = super().load(path.parent.name, path.stem)
                if record is not None:
                    self.send(record)
            except (RecordDamagedError, ObjectMissingError, ObjectDamagedError) as error:
                # Whoever asks for that key is told, and computes it again.
                _log.info("not sent to %s: %s", self._remote, error)

    def stages(self) -> list[str]:
        """Return the names of the stages that have records here or there."""
        there = [name for name in self._remote.folders("records") if is_stage_name(name)]
        return sorted({*there, *super().stages()})

    def of_stage(self, stage: str) -> Iterator[Record]:
        """Iterate over the readable records of a stage, this machine's and others'."""
        listed = {
            each.name.removesuffix(".json"): each
            for each in self._remote.files(f"records/{stage}")
            if each.name.endswith(".json") and each.size <= MAX_RECORD_BYTES
        }
        newest = sorted(listed, key=lambda key: listed[key].modified or 0.0, reverse=True)
        keys = [key for key in newest if is_sha256(key)][:_MOST_RECORDS]
        wanted = {
            record_name(stage, key): key for key in keys if not self.path(stage, key).exists()
        }
        for name, data in self._remote.read_many(wanted).items():
            key = wanted[name]
            try:
                record = parse_record(data, stage, key, f"{self._remote}/{name}")
            except RecordDamagedError:
                continue  # said to whoever asks for that key
            self._keep(record, data, listed[key])
            date(self.path(stage, key), listed[key])
        yield from super().of_stage(stage)

    def _renew(self, record: Record) -> None:
        """Write a record there again, so that it counts as used, and what it lacks there."""
        path = self.path(record.stage, record.key)
        # First, because it says of the objects that they are in use.
        self._remote.write(path.read_bytes(), record_name(record.stage, record.key))
        for artifact in record.outputs.values():
            self._objects.send(artifact, renew=False)
        mark_sent(path)

    def _keep(self, record: Record, data: bytes, listed: RemoteFile) -> None:
        path = self.path(record.stage, record.key)
        write_bytes(path, data)
        mark_sent(path, listed.modified)


def record_name(stage: str, key: str) -> str:
    """Return where a record lies in a shared store; both parts must have been checked."""
    return f"records/{stage}/{key}.json"


def parse_record(data: bytes, stage: str, key: str, place: str) -> Record:
    """Read a record that came from elsewhere.

    Raises
    ------
    RecordDamagedError
        If it is none, or that of another key.
    """
    try:
        record = Record.from_json(data)
    except RecordDamagedError as error:
        message = f"record {short(key)}… is damaged: {place}: {error}"
        raise RecordDamagedError(message) from error
    if (record.stage, record.key) != (stage, key):
        message = f"record {short(key)}… is damaged: {place} holds the record of another key"
        raise RecordDamagedError(message)
    return record


def _read(remote: Remote, name: str, what: str) -> tuple[RemoteFile, bytes] | None:
    try:
        return remote.read(name, MAX_RECORD_BYTES)
    except ValueError as error:
        message = f"{what} is damaged: {error}"
        raise RecordDamagedError(message) from error
