"""Where the Prefect server is: one that runs already, or a port of this machine for our own.

No proxy stands between this machine and itself. Prefect's clients (httpx, websockets) and the
downloads (requests) obey ``HTTP_PROXY`` and its kin for every host that ``NO_PROXY`` does not name,
this machine included. A proxy that is asked for a server on loopback answers for its own machine,
or not at all.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from digitflow.storage.backends.within import NoAnswerError, within
from digitflow.storage.visible import redacted, shown_url

DEFAULT_PORT = 4200
_ALWAYS = ("127.0.0.1", "localhost", "::1")


class ServiceError(Exception):
    """A server, a worker or a deployment is not as it has to be; says what to do."""


@dataclass(frozen=True)
class Endpoint:
    """A server's API, and the port to start it on if it is not there yet."""

    api_url: str
    port: int | None


def choose_endpoint(port: int | None) -> Endpoint:
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
                    f"PREFECT_API_URL names a server that runs, {shown_url(api_url)}, so no other "
                    f"one is started on port {port}. Leave --port out to use that server, or unset "
                    "PREFECT_API_URL to start your own"
                )
                raise ServiceError(message)
            return Endpoint(api_url, None)
        parts = urlsplit(api_url)
        if parts.hostname is None or not is_this_machine(parts.hostname):
            message = (
                f"PREFECT_API_URL names the server {shown_url(api_url)}, which does not answer. "
                "Start it, or unset PREFECT_API_URL to start one on this machine"
            )
            raise ServiceError(message)
        port = port or parts.port
    port = port or DEFAULT_PORT
    endpoint = Endpoint(f"http://127.0.0.1:{port}/api", port)
    if not _is_free(port):
        raise ServiceError(_taken(endpoint))
    return endpoint


def answers(api_url: str, seconds: float = 5.0) -> bool:
    """Tell whether a Prefect server answers there, within `seconds`.

    Raises
    ------
    ServiceError
        If a proxy's variable holds what is none: no client can be made then, for any server.
    """
    import httpx  # as Prefect's client asks: through the same proxies, or none

    _check_proxies()
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


def server_url() -> str | None:
    """Return the URL of the configured Prefect server, or None if there is none.

    Looks where Prefect looks (environment, ``.env``, ``prefect.toml``, ``pyproject.toml``, the
    active profile) without its second of import time.
    """
    candidates = (
        os.environ.get("PREFECT_API_URL"),
        _from_dotenv(Path(".env")),
        _from_toml(Path("prefect.toml"), "api"),
        _from_toml(Path("pyproject.toml"), "tool", "prefect", "api"),
        _from_profile(),
    )
    return next((url for url in candidates if url), None)


def bypass_proxies() -> None:
    """Have everything in this process, and what it starts, ask this machine without a proxy.

    ``NO_PROXY`` and ``no_proxy`` are extended, never replaced, and left alone where no proxy is
    named. To be called before anything is asked: clients read them when they are made.
    """
    proxies = {name for name, value in os.environ.items() if value and _names_a_proxy(name)}
    if not proxies:
        return
    ours = (*_ALWAYS, *_own_name())
    # Clients differ in which of the two they read where both are set, so each keeps its own.
    lower, upper = os.environ.get("no_proxy"), os.environ.get("NO_PROXY")
    os.environ["no_proxy"] = _extended(lower or upper, ours)
    os.environ["NO_PROXY"] = _extended(upper or lower, ours)


def _check_proxies() -> None:
    from urllib.request import getproxies  # takes time to import, which a cached run has not

    import httpx  # makes no client at all while one of them is wrong

    for scheme, url in getproxies().items():
        if scheme not in ("http", "https", "all"):
            continue
        try:
            httpx.Proxy(url if "://" in url else f"http://{url}")
        except (ValueError, httpx.InvalidURL) as error:
            message = (
                f"{scheme.upper()}_PROXY: expected the URL of a proxy, http://HOST:PORT or one of "
                f"https, socks5 or socks5h, found another ({redacted(str(error))}). Mend it, or "
                "unset it"
            )
            raise ServiceError(message) from error


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


def exposure(host: str, auth: str | None) -> str | None:
    """Say what it means that a server listens on an address; None if only this machine reaches it.

    Parameters
    ----------
    host
        What it listens on.
    auth
        What it asks for of whoever asks: ``user:password``, or None.
    """
    with suppress(ValueError):
        if ipaddress.ip_address(host).is_loopback:
            return None
    if host == "localhost":
        return None
    return (
        f"the Prefect server listens on {host} (PREFECT_SERVER_API_HOST), beyond this machine, "
        + (
            "and its password travels unencrypted: put it behind TLS"
            if auth
            else "and asks for no password: whoever reaches it can run code here. Set "
            "PREFECT_SERVER_API_AUTH_STRING, and PREFECT_API_AUTH_STRING for its clients"
        )
    )


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _taken(endpoint: Endpoint) -> str:
    if answers(endpoint.api_url):
        return (
            f"on port {endpoint.port} there is a Prefect server already that digitflow did not "
            f"start. To use it: PREFECT_API_URL={shown_url(endpoint.api_url)} digitflow up. To "
            "start another one beside it: digitflow up --port PORT"
        )
    return (
        f"port {endpoint.port} is in use by another program. Name another one: "
        "digitflow up --port PORT"
    )


def _from_profile() -> str | None:
    home = Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser()
    path = Path(os.environ.get("PREFECT_PROFILES_PATH") or home / "profiles.toml")
    profiles = _read_toml(path)
    active = os.environ.get("PREFECT_PROFILE") or profiles.get("active")
    settings = profiles.get("profiles", {}).get(active, {})
    url = settings.get("PREFECT_API_URL") if isinstance(settings, dict) else None
    return url if isinstance(url, str) else None


def _from_toml(path: Path, *keys: str) -> str | None:
    table = _read_toml(path)
    for key in keys:
        table = table.get(key, {})
    url = table.get("url")
    return url if isinstance(url, str) else None


def _from_dotenv(path: Path) -> str | None:
    if not path.is_file():
        return None
    from dotenv import dotenv_values

    return dotenv_values(path).get("PREFECT_API_URL")


def _read_toml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    return tomllib.loads(path.read_text(encoding="utf-8"))


def _own_name() -> Iterator[str]:
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
    if "*" in known:
        return "*"  # no host at all by a proxy; most clients understand it only if it stands alone
    return ",".join(dict.fromkeys(filter(None, (*known, *ours))))
