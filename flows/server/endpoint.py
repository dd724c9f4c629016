"""Where the Prefect server is: one that runs already, or a port of this machine for our own."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from digitflow.flows.server.errors import ServiceError
from digitflow.flows.server.loopback import is_this_machine
from digitflow.flows.server.prefect_setup import server_url
from digitflow.storage.within import NoAnswerError, within

DEFAULT_PORT = 4200


@dataclass(frozen=True)
class Place:
    """A server's API, and the port to start it on if it is not there yet."""

    api_url: str
    port: int | None


def choose_place(port: int | None) -> Place:
    """Decide which server to use.

    A server that ``PREFECT_API_URL`` names and that answers is used as it is. Otherwise one is to
    be started here, on `port`, on the port that ``PREFECT_API_URL`` names, or on 4200.

    Raises
    ------
    ServiceError
        If the named server is another machine's and does not answer, or the port is taken.
    """
    named = server_url()
    if named is not None:
        api_url = named.rstrip("/")
        if answers(api_url):
            if port is not None:
                message = (
                    f"PREFECT_API_URL names a server that runs, {api_url}, so no other one is "
                    f"started on port {port}. Leave --port out to use that server, or unset "
                    "PREFECT_API_URL to start your own"
                )
                raise ServiceError(message)
            return Place(api_url, None)
        parts = urlsplit(api_url)
        if parts.hostname is None or not is_this_machine(parts.hostname):
            message = (
                f"PREFECT_API_URL names the server {api_url}, which does not answer. Start it, or "
                "unset PREFECT_API_URL to start one on this machine"
            )
            raise ServiceError(message)
        port = port or parts.port
    port = port or DEFAULT_PORT
    place = Place(f"http://127.0.0.1:{port}/api", port)
    if not _is_free(port):
        raise ServiceError(_taken(place))
    return place


def answers(api_url: str, seconds: float = 5.0) -> bool:
    """Tell whether a Prefect server answers there, within `seconds`."""
    import httpx  # as Prefect's client asks: through the same proxies, or none

    # Loading certificates takes longer than the rest, and http has none.
    secure = api_url.startswith("https")
    try:
        reply = within(
            seconds, lambda: httpx.get(f"{api_url}/health", timeout=seconds, verify=secure)
        )
        # One that wants a password is a server, too.
        return reply.status_code in (401, 403) or (reply.is_success and reply.json() is True)
    except (NoAnswerError, httpx.HTTPError, httpx.InvalidURL, ValueError):
        return False


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _taken(place: Place) -> str:
    if answers(place.api_url):
        return (
            f"on port {place.port} there is a Prefect server already that digitflow did not start. "
            f"To use it: PREFECT_API_URL={place.api_url} digitflow up. To start another one "
            "beside it: digitflow up --port PORT"
        )
    return (
        f"port {place.port} is in use by another program. Name another one: "
        "digitflow up --port PORT"
    )
