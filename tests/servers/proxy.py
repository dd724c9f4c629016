"""An HTTP proxy that remembers what it was asked for, and has the files of one folder to give."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit


@dataclass
class Proxy:
    """A running proxy.

    Attributes
    ----------
    url
        Its own.
    asked
        Every target that it was asked for: URLs, and what tunnels should lead to.
    """

    url: str = ""
    asked: list[str] = field(default_factory=list)

    @property
    def hosts(self) -> set[str]:
        """The hosts that it was asked for."""
        return {urlsplit(each).hostname or each for each in self.asked}


@contextmanager
def running_proxy(folder: Path) -> Iterator[Proxy]:
    """Run a proxy while the context lasts: whatever host is asked for, `folder` is what it has."""
    proxy = Proxy()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            proxy.asked.append(self.path)
            file = folder / urlsplit(self.path).path.rpartition("/")[2]
            found = file.is_file()
            content = file.read_bytes() if found else b""
            self.send_response(200 if found else 502)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_CONNECT = do_GET

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        proxy.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield proxy
        finally:
            server.shutdown()
            thread.join()
