"""What is up on this machine: a file in Prefect's home, and a lock beside it.

Whoever is up holds the lock for as long as its process lives. A file without a held lock is that
of a crash, and tells `digitflow down` and the next `digitflow up` what there is to clear away.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from digitflow.storage.backends.atomic import make_folder, write_bytes
from digitflow.storage.visible import shown_url


@dataclass(frozen=True)
class UpRecord:
    """One `digitflow up`.

    Attributes
    ----------
    mark
        Drawn at random; in the environment of every process that it started.
    api_url
        The API of the Prefect server.
    port
        Port of the server, if this `up` started it; None for a server that it only uses.
    pid, started
        Its own process, and when that started: process numbers are used again.
    """

    mark: str
    api_url: str
    port: int | None
    pid: int
    started: float

    @property
    def ui_url(self) -> str:
        """Address for the browser."""
        return shown_url(self.api_url).removesuffix("/api")


class Pidfile:
    """The file and its lock, in ``digitflow-up`` below ``PREFECT_HOME``."""

    def __init__(self) -> None:
        home = Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser().absolute()
        self.folder = home / "digitflow-up"
        self._file = self.folder / "up.json"
        make_folder(self.folder)
        self.folder.chmod(0o700)  # logs, and the URL of the server with what lets one in
        self._lock = FileLock(self.folder / "up.lock")

    def take(self, seconds: float = 0.0) -> bool:
        """Take the lock and keep it until this process ends; False if another one is up."""
        try:
            self._lock.acquire(timeout=seconds)
        except Timeout:
            return False
        return True

    def load(self) -> UpRecord | None:
        """Return what the file says, or None if there is none that can be used."""
        try:
            return UpRecord(**json.loads(self._file.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def save(self, record: UpRecord) -> None:
        """Write the file whole."""
        write_bytes(self._file, json.dumps(asdict(record), indent=2).encode())

    def remove(self) -> None:
        """Remove the file: nothing is up any more."""
        with suppress(FileNotFoundError):
            self._file.unlink()
