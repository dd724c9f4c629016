"""A mirror over HTTP that counts: how often each file was asked for, sent, and both at once.

Like real ones it knows ETags, and sends nothing to who names the present one.
"""

import hashlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.patience import wait_for


@dataclass
class Mirror:
    """What was asked of a mirror.

    Attributes
    ----------
    url
        Prefix of its files.
    asked, sent
        File name → number of requests, and of those that were sent the file.
    at_once
        File name → most requests that were under way at the same time.
    """

    url: str = ""
    asked: Counter[str] = field(default_factory=Counter)
    sent: Counter[str] = field(default_factory=Counter)
    at_once: Counter[str] = field(default_factory=Counter)


@contextmanager
def serving(folder: Path, *, until: Callable[[], bool] = lambda: True) -> Iterator[Mirror]:
    """Serve the files of a folder while the context lasts, none of them until something holds."""
    mirror = Mirror()
    under_way: Counter[str] = Counter()
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.rpartition("/")[2]
            with lock:
                mirror.asked[name] += 1
                under_way[name] += 1
                mirror.at_once[name] = max(mirror.at_once[name], under_way[name])
            try:
                content = (folder / name).read_bytes()
                wait_for(until, "what the mirror waits for")
                etag = f'"{hashlib.sha256(content).hexdigest()}"'
                if self.headers.get("If-None-Match") == etag:
                    self.send_response(304)
                    self.end_headers()
                    return
                with lock:
                    mirror.sent[name] += 1
                self.send_response(200)
                self.send_header("ETag", etag)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
            finally:
                with lock:
                    under_way[name] -= 1

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        mirror.url = f"http://127.0.0.1:{server.server_port}/"
        try:
            yield mirror
        finally:
            server.shutdown()
            thread.join()
