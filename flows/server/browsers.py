"""Keep pages of other sites from a Prefect server that asks for no password.

A browser sends this machine what any page asks for: without a preflight where no type of content
is named, which Prefect takes for JSON; over WebSockets, to which CORS does not apply; and as the
server's own page, if the page's site has its name lead to 127.0.0.1 (DNS rebinding).
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from prefect.server.api import server
from prefect.settings import get_current_settings
from starlette.responses import JSONResponse

from digitflow.flows.server.endpoint import exposure

if TYPE_CHECKING:
    from collections.abc import Collection

    from fastapi import FastAPI
    from starlette.types import ASGIApp, Receive, Scope, Send

_HERE = ("127.0.0.1", "localhost", "::1")


class OwnPages:
    """Answer what is asked under names of this machine, by its own pages or by no page.

    Parameters
    ----------
    app
        What answers.
    hosts
        Names under which it may be asked.
    origins
        Of further pages that may ask, as ``https://host:port``; ``*`` is any.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str], origins: Collection[str]) -> None:
        self._app = app
        self._hosts = hosts
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse with a sentence."""
        # The server's own services ask it in this process, through no socket, under made-up names.
        socket = scope.get("server") or ("", 0)
        is_within = scope["type"] == "lifespan" or socket[1] is None
        problem = None if is_within else self._problem(scope)
        if problem is None:
            await self._app(scope, receive, send)
        else:
            await JSONResponse({"detail": problem}, 403)(scope, receive, send)

    def _problem(self, scope: Scope) -> str | None:
        given: dict[bytes, list[str]] = {b"host": [], b"origin": []}
        for name, value in scope["headers"]:
            given.get(name.lower(), []).append(value.decode("latin-1"))
        hosts, origins = given.values()
        if [_host(each) in self._hosts for each in hosts] != [True]:
            return (
                f"expected a request for {' or '.join(self._hosts)}, found one for "
                f"{', '.join(hosts) or 'nobody'}. Under other names a server asks for a password: "
                "PREFECT_SERVER_API_AUTH_STRING"
            )
        own = {f"http://{hosts[0]}", f"https://{hosts[0]}"}
        strangers = [each for each in origins if each not in own and each not in self._origins]
        if strangers and "*" not in self._origins:
            return (
                f"expected a request of the server's own pages, found one of {strangers[0]}. Name "
                "whose pages may ask: PREFECT_SERVER_CORS_ALLOWED_ORIGINS"
            )
        return None


def _host(netloc: str) -> str | None:
    try:
        return urlsplit(f"//{netloc}").hostname
    except ValueError:
        return None


def admit_own_pages() -> None:
    """Have a server of this process admit its own pages alone, if it needs that.

    It does if it listens on this machine only and asks for no password. Names that its settings
    give its UI are its own as well. Call it before the server is made.
    """
    create_app = server.create_app
    guarded: list[FastAPI] = []

    def create_guarded(*arguments: object, **named: object) -> FastAPI:
        app = create_app(*arguments, **named)  # type: ignore[arg-type]
        if app in guarded:
            return app  # its own services ask for it again, while it runs
        told = get_current_settings().server
        # A password of no letters, such as that of a variable that is not set, is none.
        password = told.api.auth_string
        if not (password and password.get_secret_value()) and exposure(told.api.host, None) is None:
            origins = told.api.cors_allowed_origins.split(",")
            if "cors_allowed_origins" not in told.api.model_fields_set:  # else any, by default
                origins = [f"http://{name}:{told.api.port}" for name in _HERE[:2]]
            if told.ui.api_url:  # behind a proxy that names this machine as the host
                public = urlsplit(told.ui.api_url)
                origins.append(f"{public.scheme}://{public.netloc}")
            named_so = [_host(urlsplit(each).netloc) for each in (*origins, told.ui.api_url or "")]
            hosts = dict.fromkeys((*_HERE, *filter(None, named_so)))
            app.add_middleware(OwnPages, hosts=(*hosts,), origins=origins)
            guarded.append(app)
        return app

    server.create_app = create_guarded
