"""Pages that are not the server's own get nowhere; tests/deploy/test_up.py asks a real server."""

import asyncio
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prefect.server.api import server
from prefect.settings import (
    PREFECT_SERVER_API_AUTH_STRING,
    PREFECT_SERVER_API_HOST,
    PREFECT_SERVER_API_PORT,
    PREFECT_SERVER_CORS_ALLOWED_ORIGINS,
    PREFECT_SERVER_UI_API_URL,
    temporary_settings,
)
from prefect.settings.legacy import Setting

from digitflow.flows.server.browsers import admit_own_pages

HERE = "127.0.0.1:4321"
PORT: dict[Setting, object] = {PREFECT_SERVER_API_PORT: 4321}
EVIL = "https://evil.example"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(server, "create_app", answering)
    admit_own_pages()
    return monkeypatch


def answering() -> FastAPI:
    app = FastAPI()

    @app.api_route("/", methods=["GET", "POST", "OPTIONS"])
    def answer() -> None:
        """Whatever is asked."""

    return app


def made(told: dict[Setting, object]) -> FastAPI:
    with temporary_settings({**PORT, **told}):
        return server.create_app()


def ask(told: dict[Setting, object], host: str, origin: str | None, method: str = "POST") -> int:
    async def answer() -> int:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(made(told))) as client:
            headers = {"Host": host} | ({} if origin is None else {"Origin": origin})
            return (await client.request(method, "http://any:4321/", headers=headers)).status_code

    return asyncio.run(answer())


@pytest.mark.usefixtures("asked")
class TestWhoIsAdmitted:
    @pytest.mark.parametrize("host", [HERE, "localhost:4321", "LOCALHOST", "[::1]:80", "127.0.0.1"])
    def test_names_of_this_machine(self, host: str) -> None:
        assert ask({}, host, None) == 200

    @pytest.mark.parametrize(
        "host",
        ["evil.example", "127.0.0.1.evil.example", "a@evil.example", "10.0.0.1", "", "[::1", "::1"],
    )
    def test_no_others(self, host: str) -> None:
        for method in ("GET", "POST", "OPTIONS"):
            assert ask({}, host, None, method) == 403

    @pytest.mark.parametrize("origin", [f"http://{HERE}", "http://localhost:4321"])
    def test_its_own_pages(self, origin: str) -> None:
        assert ask({}, HERE, origin) == 200

    def test_its_own_pages_through_a_tunnel(self) -> None:
        assert ask({}, "localhost:8080", "http://localhost:8080") == 200

    @pytest.mark.parametrize("origin", [EVIL, "null", "", "http://localhost:1", f"http://{HERE}.x"])
    def test_no_other_pages(self, origin: str) -> None:
        for method in ("GET", "POST", "OPTIONS"):
            assert ask({}, HERE, origin, method) == 403

    def test_nor_over_a_websocket(self) -> None:
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "websocket.connect"}

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"host", HERE.encode()), (b"origin", EVIL.encode())]
        asyncio.run(made({})({"type": "websocket", "headers": headers}, receive, send))
        assert (sent[0]["type"], sent[0]["status"]) == ("websocket.http.response.start", 403)

    def test_whom_the_settings_name(self) -> None:
        pages: dict[Setting, object] = {PREFECT_SERVER_CORS_ALLOWED_ORIGINS: "https://ui.example"}
        assert ask(pages, "ui.example", "https://ui.example") == 200
        assert ask(pages, HERE, EVIL) == 403
        api: dict[Setting, object] = {PREFECT_SERVER_UI_API_URL: "https://ui.example/api"}
        assert ask(api, "ui.example", "https://ui.example") == 200
        assert ask(api, HERE, "https://ui.example") == 200  # by a proxy that names this machine
        assert ask(api, HERE, EVIL) == 403
        assert ask({PREFECT_SERVER_CORS_ALLOWED_ORIGINS: "*"}, HERE, EVIL) == 200

    def test_the_server_s_own_services(self) -> None:
        """They ask through no socket: automations would tell nobody else."""
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request"}

        async def send(message: Any) -> None:
            sent.append(message)

        for socket, expected in ((("prefect-in-memory", None), 200), (("127.0.0.1", 4200), 403)):
            scope = {
                "type": "http",
                "method": "GET",
                "path": "/",
                "query_string": b"",
                "headers": [(b"host", b"prefect-in-memory")],
                "server": socket,
            }
            sent.clear()
            asyncio.run(made({})(scope, receive, send))
            assert sent[0]["status"] == expected

    def test_an_empty_password_is_none(self) -> None:
        assert ask({PREFECT_SERVER_API_AUTH_STRING: ""}, HERE, EVIL) == 403

    def test_where_a_password_is_asked_for_or_others_are_to_come(self) -> None:
        assert ask({PREFECT_SERVER_API_AUTH_STRING: "user:password"}, "ui.example", EVIL) == 200
        assert ask({PREFECT_SERVER_API_HOST: "0.0.0.0"}, "10.0.0.1", EVIL) == 200  # noqa: S104
