"""A Prefect server for one run, where none is configured.

Prefect can start one by itself, but in the terminal's process group: Ctrl-C then kills it before
the run has told it how it ended, and the run waits for it forever. This one lives in a session
of its own, ends with its parent however that ends, and several may start at once on one
database without racing through its migrations.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NoReturn

from filelock import FileLock

from flows.services.place import answers

_SECONDS_TO_START = 180.0


class EmbeddedServerError(Exception):
    """The embedded server did not start."""


class EmbeddedServer:
    """A server that is started on entering, can be waited for, and is stopped on leaving.

    Parameters
    ----------
    verbose
        Let its log through to standard error.
    """

    def __init__(self, *, verbose: bool) -> None:
        home = Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser()
        home.mkdir(parents=True, exist_ok=True)
        self._verbose = verbose
        self._log = home / "digitflow-server.log"
        self._starting = FileLock(home / "digitflow-server.lock")
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def __enter__(self) -> EmbeddedServer:
        self._starting.acquire()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        with self._log.open("wb") as log:
            output = None if self._verbose else log
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-m", "flows.embedded_server", str(port)],
                cwd=Path(__file__).resolve().parents[1],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.url = f"http://127.0.0.1:{port}/api"
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

    def __exit__(self, *exception: object) -> None:
        self._starting.release()
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()

    def _wait_for_answer(self) -> None:
        deadline = time.monotonic() + _SECONDS_TO_START
        while time.monotonic() < deadline:
            if self._process is not None and self._process.poll() is not None:
                self._fail(f"ended with exit code {self._process.returncode} before it answered")
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


def _serve(port: int) -> None:
    """Run the server in this process until it is told to stop or its parent is gone."""
    import uvicorn
    from prefect.server.api.server import create_app

    from flows.services.sqlite import let_writers_wait

    let_writers_wait()
    app = create_app(ephemeral=True, final=True)
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error", lifespan="on")
    server = uvicorn.Server(config)

    def stop_with_parent() -> None:
        # Nobody writes: reading ends when the parent closes the pipe or dies.
        sys.stdin.buffer.read()
        server.should_exit = True

    threading.Thread(target=stop_with_parent, daemon=True).start()
    server.run()


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
