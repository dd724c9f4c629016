"""A Prefect server for one run, where none is configured.

Prefect can start one by itself, but in the terminal's process group: Ctrl-C then kills it before
the run has told it how it ended, and the run waits for it forever. This one lives in a session
of its own, ends with its parent however that ends, and several may start at once on one
database without racing through its migrations. One that dies is started again on its port:
Prefect's client would ask for a minute, and again with each next request, and the run would crawl.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from filelock import FileLock, Timeout

import digitflow
from digitflow.flows.server.endpoint import answers
from digitflow.storage.backends.atomic import make_folder

_SECONDS_TO_START = 180.0
# Until others have started theirs, one after the other.
_SECONDS_FOR_OTHERS = 600.0
_SECONDS_UNTIL_SAID = 2.0
_SECONDS_TO_END = 10.0
_SECONDS_BETWEEN_LOOKS = 1.0
_MOST_STARTS = 4


class EmbeddedServerError(Exception):
    """The embedded server did not start."""


class EmbeddedServer:
    """A server that is started on entering, can be waited for, and is stopped on leaving.

    Parameters
    ----------
    verbose
        Let its log through to standard error.
    say
        Told in a sentence of a wait for others, and of a server that had to be started again.
    on_loss
        Called, in another thread, when it has died too often to be started again.
    """

    def __init__(
        self,
        *,
        verbose: bool,
        say: Callable[[str], None] = lambda text: None,
        on_loss: Callable[[], None] = lambda: None,
    ) -> None:
        home = Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser()
        make_folder(home)
        self._verbose = verbose
        self._say = say
        self._on_loss = on_loss
        self._lost = False
        self._log = home / "digitflow-server.log"
        self._starting = FileLock(home / "digitflow-server.lock")
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0
        self._leaving = threading.Event()
        self._watching = threading.Thread(target=self._watch, name="watches Prefect", daemon=True)

    @property
    def url(self) -> str:
        """Of its API."""
        return f"http://127.0.0.1:{self._port}/api"

    def __enter__(self) -> EmbeddedServer:
        self._take_turns()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self._log.unlink(missing_ok=True)
        self._process = self._start()
        return self

    def wait(self) -> None:
        """Wait until the server answers.

        Raises
        ------
        EmbeddedServerError
            If it does not; names its log.
        """
        try:
            self._wait_for_answer()
        finally:
            self._starting.release()
        self._watching.start()

    def __exit__(self, *exception: object) -> None:
        self._leaving.set()
        if self._watching.is_alive():
            self._watching.join(_SECONDS_TO_END)
        self._starting.release()
        self._put_away()

    def _take_turns(self) -> None:
        """Wait until no other process is starting a server on the same database."""
        try:
            try:
                self._starting.acquire(timeout=_SECONDS_UNTIL_SAID)
            except Timeout:
                self._say("waiting for another digitflow that is starting Prefect")
                self._starting.acquire(timeout=_SECONDS_FOR_OTHERS)
        except Timeout as error:
            message = (
                f"another digitflow has been starting Prefect for {_SECONDS_FOR_OTHERS:g} s, and "
                f"keeps {self._starting.lock_file} locked. End it if it hangs (fuser shows which), "
                "or name a server that runs: PREFECT_API_URL"
            )
            raise EmbeddedServerError(message) from error

    def _start(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            output = None if self._verbose else log
            return subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-m", "digitflow.flows.server.server", str(self._port)],
                # Where it is found without being installed, and nothing of the user's is.
                cwd=Path(digitflow.__file__).absolute().parents[1],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def check(self) -> None:
        """Say so if the server has died too often to be started again.

        Raises
        ------
        EmbeddedServerError
            Then. What was finished is in the store.
        """
        if self._lost:
            self._fail(f"ended {_MOST_STARTS} times, the last time with {self._code()}")

    def _put_away(self) -> None:
        """End the process if it lives, and close what leads to it."""
        if self._process is None:
            return
        for stop in (self._process.terminate, self._process.kill):
            stop()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_SECONDS_TO_END)
                break
        if self._process.stdin is not None:
            self._process.stdin.close()

    def _code(self) -> int | None:
        return None if self._process is None else self._process.poll()

    def _watch(self) -> None:
        """Start the server again when it has ended by itself, but not for ever."""
        for start in range(1, _MOST_STARTS + 1):
            while self._code() is None:
                if self._leaving.wait(_SECONDS_BETWEEN_LOOKS):
                    return
            if start < _MOST_STARTS:
                self._say(
                    f"Prefect's embedded server ended with {self._code()}; starting it again "
                    f"({start + 1} of {_MOST_STARTS}). Its log is {self._log}"
                )
                self._put_away()
                self._process = self._start()
        self._lost = True
        self._on_loss()

    def _wait_for_answer(self) -> None:
        deadline = time.monotonic() + _SECONDS_TO_START
        while time.monotonic() < deadline:
            if self._code() is not None:
                self._fail(f"ended with exit code {self._code()} before it answered")
            if answers(self.url, seconds=2.0):
                return
            time.sleep(0.05)
        self._fail(f"did not answer within {_SECONDS_TO_START:.0f} s")

    def _fail(self, what: str) -> NoReturn:
        message = (
            f"Prefect's embedded server {what}; its log is {self._log}. "
            "Or name a server that runs: PREFECT_API_URL"
        )
        raise EmbeddedServerError(message)
