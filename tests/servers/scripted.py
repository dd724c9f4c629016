"""A real HTTP server that misbehaves as told."""

import os
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Behaviour = Callable[["Handler"], None]

# Seconds for which a server is silent on purpose, until its test is over.
SILENCE = 60.0


class Handler(BaseHTTPRequestHandler):
    server: "ScriptedServer"

    def do_GET(self) -> None:
        self.server.next_behaviour(self.path, dict(self.headers))(self)

    def log_message(self, *args: Any) -> None:
        pass

    def begin(self) -> int:
        """The offset that the request asks for."""
        return int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))

    def reply(self, status: int, headers: dict[str, Any], body: bytes = b"") -> None:
        # The other one sends a date of its own.
        (self.send_response_only if "Date" in headers else self.send_response)(status)
        for key, value in headers.items():
            self.send_header(key, str(value))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()


class ScriptedServer(ThreadingHTTPServer):
    """Answers request after request as `script` says; the last behaviour repeats.

    Attributes
    ----------
    waited_out
        Whether anybody has waited for it until it broke its silence.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.behaviours: list[Behaviour] = []
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.stopped = threading.Event()
        self.waited_out = False
        self.scheme = "http"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients hang up on purpose here."""

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_port}/mnist/"

    @property
    def ranges(self) -> list[str | None]:
        return [headers.get("Range") for _, headers in self.asked]

    def script(self, *behaviours: Behaviour) -> str:
        self.behaviours = list(behaviours)
        return self.url

    def next_behaviour(self, path: str, headers: dict[str, str]) -> Behaviour:
        self.asked.append((path, headers))
        return self.behaviours.pop(0) if len(self.behaviours) > 1 else self.behaviours[0]


@contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[ScriptedServer]:
    """A server that listens on a free port of loopback for the time of the context."""
    server = ScriptedServer()
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
        server.scheme = "https"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield server
    finally:
        server.stopped.set()
        server.shutdown()
        server.server_close()


class Behaviours:
    """What a server may do with a request, given the bytes it should serve."""

    @staticmethod
    def serve(data: bytes, *, stop_after: int | None = None, then: str = "close") -> Behaviour:
        """Answer properly, Range included, but break off after so many bytes of the body."""

        def behave(handler: Handler) -> None:
            begin = handler.begin()
            if begin >= len(data) > 0:
                handler.reply(416, {"Content-Range": f"bytes */{len(data)}"})
                return
            body = data[begin:]
            headers: dict[str, Any] = {"Content-Length": len(body)}
            if begin:
                headers["Content-Range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
            handler.reply(206 if begin else 200, headers, body[:stop_after])
            _end(handler, then)

        return behave

    @staticmethod
    def serve_without_range(data: bytes, *, stop_after: int | None = None) -> Behaviour:
        def behave(handler: Handler) -> None:
            handler.reply(200, {"Content-Length": len(data)}, data[:stop_after])

        return behave

    @staticmethod
    def serve_without_length(data: bytes, *, then: str = "close") -> Behaviour:
        def behave(handler: Handler) -> None:
            handler.reply(200, {}, data)
            _end(handler, then)

        return behave

    @staticmethod
    def serve_chunked(data: bytes, *, stop_after: int | None = None) -> Behaviour:
        def behave(handler: Handler) -> None:
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for start in range(0, len(data), 10_000):
                if stop_after is not None and start >= stop_after:
                    return
                chunk = data[start : start + 10_000]
                handler.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            handler.wfile.write(b"0\r\n\r\n")

        return behave

    @staticmethod
    def serve_and_keep_alive(data: bytes) -> Behaviour:
        def behave(handler: Handler) -> None:
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(data)}\r\n\r\n"
            handler.wfile.write(head.encode() + data)
            _end(handler, "stall")

        return behave

    @staticmethod
    def answer(status: int, body: bytes = b"", **headers: Any) -> Behaviour:
        named = {key.replace("_", "-"): value for key, value in headers.items()}

        def behave(handler: Handler) -> None:
            handler.reply(status, {"Content-Length": len(body), **named}, body)

        return behave

    @staticmethod
    def pause(seconds: float, then: Behaviour) -> Behaviour:
        def behave(handler: Handler) -> None:
            handler.server.stopped.wait(seconds)
            then(handler)

        return behave

    @staticmethod
    def drip(start: bytes, *, seconds: float = 0.05) -> Behaviour:
        """Answer with `start` at once, and then with a byte now and then, for ever."""

        def behave(handler: Handler) -> None:
            handler.wfile.write(start)
            with suppress(OSError):  # whoever reads has left
                while not handler.server.stopped.wait(seconds):
                    handler.wfile.write(b"1")

        return behave

    @staticmethod
    def reset() -> Behaviour:
        return lambda handler: _end(handler, "reset")

    @staticmethod
    def stall() -> Behaviour:
        return lambda handler: _end(handler, "stall")


def _end(handler: Handler, how: str) -> None:
    if how == "stall" and not handler.server.stopped.wait(SILENCE):
        handler.server.waited_out = True
    if how == "reset":
        # Lingering for 0 s makes closing send RST instead of FIN.
        linger = struct.pack("ii", 1, 0)
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        os.close(handler.connection.detach())
