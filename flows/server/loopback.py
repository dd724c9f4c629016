"""No proxy stands between this machine and itself.

Prefect's clients (httpx, websockets) and the downloads (requests) obey ``HTTP_PROXY`` and its kin
for every host that ``NO_PROXY`` does not name, this machine included. A proxy that is asked for a
server on loopback answers for its own machine, or not at all.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import urlsplit

from digitflow.flows.server.prefect_setup import server_url

_ALWAYS = ("127.0.0.1", "localhost", "::1")


def bypass_proxies() -> None:
    """Have everything in this process, and what it starts, ask this machine without a proxy.

    ``NO_PROXY`` and ``no_proxy`` are extended, never replaced, and left alone where no proxy is
    named. To be called before anything is asked: clients read them when they are made.
    """
    proxies = {name for name, value in os.environ.items() if value and _names_a_proxy(name)}
    if not proxies:
        return
    ours = (*_ALWAYS, *_server())
    # Clients differ in which of the two they read where both are set, so each keeps its own.
    lower, upper = os.environ.get("no_proxy"), os.environ.get("NO_PROXY")
    os.environ["no_proxy"] = _extended(lower or upper, ours)
    os.environ["NO_PROXY"] = _extended(upper or lower, ours)


def is_this_machine(host: str) -> bool:
    """Tell whether a URL's host is this machine, without asking a name server."""
    if host == "localhost" or host.endswith(".localhost") or host == socket.gethostname().lower():
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    # 0.0.0.0 is what a server listens on, and to connect to it is to connect to loopback.
    return address.is_loopback or address.is_unspecified


def _server() -> Iterator[str]:
    """Yield the host of the configured server, if that is this machine under another name."""
    # Settings that cannot be read are the business of the command that needs them.
    with suppress(OSError, ValueError):
        host = urlsplit(server_url() or "").hostname
        if host and is_this_machine(host):
            yield host


def _names_a_proxy(variable: str) -> bool:
    name = variable.lower()
    return name.endswith("_proxy") and name != "no_proxy"


def _extended(listed: str | None, ours: tuple[str, ...]) -> str:
    # httpx fails on IPv6 in brackets, and every client understands it without.
    known = [each.strip().strip("[]") for each in (listed or "").split(",")]
    return ",".join(dict.fromkeys(filter(None, (*known, *ours))))
