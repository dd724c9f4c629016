"""Records of runs that machines share."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from digitflow.storage.atomic import write_bytes
from digitflow.storage.errors import RecordDamagedError
from digitflow.storage.records import MAX_RECORD_BYTES
from digitflow.storage.remote.remote import Remote
from digitflow.storage.remote.sync_state import date, is_sent, mark_sent, mark_unsent, sending
from digitflow.storage.runs import RUN_NAME, RunRecord, RunStore, parse_run

_log = logging.getLogger(__name__)


class SharedRuns(RunStore):
    """Records of runs of this machine, shared with others.

    Parameters
    ----------
    root
        Folder of the records on this machine.
    remote
        The shared store.
    """

    def __init__(self, root: Path, remote: Remote) -> None:
        super().__init__(root)
        self._remote = remote

    def save(self, run: RunRecord) -> None:
        """Write a run's record here, then send it."""
        mark_unsent(self.path(run.name))
        super().save(run)
        self._send(run.name)

    def send_unsent(self) -> None:
        """Send what an earlier run could not."""
        for path in self.root.glob("*.json"):
            if not is_sent(path) and RUN_NAME.fullmatch(path.stem):
                try:
                    super().load(path.stem)
                except RecordDamagedError as error:
                    _log.info("not sent to %s: %s", self._remote, error)
                else:
                    self._send(path.stem)

    def newest_first(self) -> Iterator[RunRecord]:
        """Iterate over the readable records of this machine and of others, newest first."""
        wanted = {}
        for each in self._remote.files("runs"):
            name = each.name.removesuffix(".json")
            if (
                each.name.endswith(".json")
                and RUN_NAME.fullmatch(name)
                and each.size <= MAX_RECORD_BYTES
                and not self.path(name).exists()
            ):
                wanted[run_name(name)] = (name, each)
        for place, data in self._remote.read_many(wanted).items():
            name, listed = wanted[place]
            try:
                parse_run(data, name, f"{self._remote}/{place}")
            except RecordDamagedError:
                continue
            write_bytes(self.path(name), data)
            mark_sent(self.path(name))
            date(self.path(name), listed)
        yield from super().newest_first()

    def _send(self, name: str) -> None:
        path = self.path(name)
        with sending(path, f"the record of {name}"):
            self._remote.write(path.read_bytes(), run_name(name))


def run_name(name: str) -> str:
    """Return where a run's record lies in a shared store; `name` must have been checked."""
    return f"runs/{name}.json"
