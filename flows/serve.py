"""The champion over HTTP: a picture in, its class and probabilities out, and a page to draw on.

A new champion is served from the next request on. Nothing of a picture is kept.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, JSONResponse
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect
from uvicorn.protocols.http.h11_impl import H11Protocol

from digitflow.storage.errors import StorageError, UnknownNameError
from digitflow.storage.store import Store
from digitflow.tasks.data.pictures.files import PictureError, declared_size
from digitflow.tasks.parameters import ParameterError
from digitflow.tasks.prediction.model import Model
from digitflow.tasks.prediction.predictions import predictions_json

MOST_BYTES = 10 * 1024**2
MOST_PIXELS = 16_000_000
# Pictures that are worked on at once, and that wait for that; more are told to come again.
AT_ONCE, MOST_WAITING = 2, 64
# For a client to begin a request, and to send its picture.
SECONDS_TO_SEND = 10.0
LOOPBACK = ("127.0.0.1", "localhost")

_log = logging.getLogger("uvicorn.error")
_BLANK = "(blank)"
_PAGE = Path(__file__).with_name("draw.html")


class Impatient(H11Protocol):
    """uvicorn's protocol, which would wait for ever for the first request of a connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Close the connection if no request has begun in time."""
        super().connection_made(transport)

        def close_if_nothing_came() -> None:
            if getattr(self, "cycle", None) is None and not transport.is_closing():
                transport.close()

        self.loop.call_later(SECONDS_TO_SEND, close_if_nothing_came)


def application(model: str = "", *, store: Store | None = None, token: str = "") -> FastAPI:
    """Return the web application that serves a named model's champion.

    Parameters
    ----------
    model
        Name of the model; not needed if only one has a champion.
    store
        Where it lies; by default the store that ``DIGITFLOW_STORE`` names.
    token
        What a client must send as ``Authorization: Bearer TOKEN``. Without one only requests to a
        loopback address are answered, whatever name leads there, and no page but the server's own
        may ask.
    """
    champion = _Champion(model, store or Store())
    registry = CollectorRegistry()
    requests = Counter(
        "digitflow_requests", "Requests to /predict, by status.", ["status"], registry=registry
    )
    predictions = Counter(
        "digitflow_predictions", "Pictures by predicted class.", ["label"], registry=registry
    )
    seconds = Histogram(
        "digitflow_prediction_seconds", "Seconds from picture to answer.", registry=registry
    )
    version = Gauge("digitflow_champion_version", "Version that answered last.", registry=registry)
    working, waiting = asyncio.Semaphore(AT_ONCE), asyncio.Semaphore(MOST_WAITING)
    # Its documentation page would load scripts from elsewhere.
    app = FastAPI(title="digitflow", docs_url=None, redoc_url=None, openapi_url=None)
    if not token:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(LOOPBACK))

    def authorized(request: Request) -> None:
        scheme, _, sent = request.headers.get("authorization", "").partition(" ")
        right = hmac.compare_digest(sent.encode("latin-1"), token.encode("latin-1"))
        if token and not (scheme.lower() == "bearer" and right):
            raise HTTPException(401, "expected the server's token", {"WWW-Authenticate": "Bearer"})

    @app.middleware("http")
    async def count(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        origins = request.headers.getlist("origin")
        try:
            if not token and any(each != f"http://{request.url.netloc}" for each in origins):
                message = "expected a request of the server's own page, or of no page"
                response: Response = JSONResponse({"detail": message}, 403)
            else:
                response = await call_next(request)
        except Exception:  # noqa: BLE001 - a fault of ours: the client and the log are told
            _log.exception("A request failed")
            response = JSONResponse({"detail": "the server failed; its log says how"}, 500)
        if request.url.path == "/predict":
            requests.labels(str(response.status_code)).inc()
        if response.status_code >= 400:
            # What is still to come of the body is not waited for.
            response.headers["Connection"] = "close"
        return response

    @app.exception_handler(StorageError)
    @app.exception_handler(ParameterError)
    async def unavailable(_request: Request, error: Exception) -> Response:
        return JSONResponse({"detail": str(error)}, 503)

    @app.post("/predict", dependencies=[Depends(authorized)])
    async def predict(request: Request) -> dict[str, Any]:
        data = await _picture(request)
        if waiting.locked():
            raise HTTPException(503, "too many pictures at once; come again", {"Retry-After": "1"})
        async with waiting, working:
            began = time.perf_counter()
            answer = await run_in_threadpool(_answer, champion, data)
            seconds.observe(time.perf_counter() - began)
        version.set(answer["model"])
        label = answer["predictions"][0]["class"]
        predictions.labels(_BLANK if label is None else label).inc()
        return answer

    @app.api_route("/health", methods=["GET", "HEAD"])
    def health() -> dict[str, Any]:
        served = champion.now().version
        return {"status": "ok", "model": served.version, "dataset": served.dataset}

    @app.get("/metrics", dependencies=[Depends(authorized)])
    def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    @app.api_route("/", methods=["GET", "HEAD"], response_class=HTMLResponse)
    def draw() -> HTMLResponse:
        nonce = secrets.token_urlsafe(16)
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; "
            "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
        )
        text = _PAGE.read_text(encoding="utf-8").replace("NONCE", nonce)
        return HTMLResponse(text, headers={"Content-Security-Policy": policy})

    return app


async def _picture(request: Request) -> bytes:
    """Return what was sent, or refuse it.

    A page of another site can send a form, but says `image/…` only if it was allowed to, and
    nobody allows it here.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not kind.startswith("image/"):
        message = f"expected a picture as the body, with Content-Type: image/…, found {kind!r}"
        raise HTTPException(415, message)
    data = bytearray()
    try:
        async with asyncio.timeout(SECONDS_TO_SEND):
            async for piece in request.stream():
                data += piece
                if len(data) > MOST_BYTES:
                    message = f"expected a picture of at most {MOST_BYTES:,} bytes"
                    raise HTTPException(413, message)
    except TimeoutError:
        message = f"expected the picture within {SECONDS_TO_SEND:g} s"
        raise HTTPException(408, message) from None
    except ClientDisconnect:
        raise HTTPException(400, "the client went away") from None
    return bytes(data)


def _check(data: bytes) -> None:
    """Refuse what is no picture, or a large one, by its header: arrays are not taken here."""
    try:
        width, height = declared_size(data)
    except PictureError as error:
        raise HTTPException(422, str(error)) from error
    if width * height > MOST_PIXELS:
        message = f"expected at most {MOST_PIXELS:,} pixels, found {width:,} x {height:,}"
        raise HTTPException(413, message)


class _Champion:
    """The champion as it is now. While it stays the same, its weights are read once.

    Parameters
    ----------
    name, store
        As for `application`.
    """

    def __init__(self, name: str, store: Store) -> None:
        self._name, self._store = name, store
        self._last: Model | None = None
        self._looking = threading.Lock()  # what a store knows of its ledger is one thread's

    def now(self) -> Model:
        """Return it; raises as `Model.champion` does."""
        with self._looking:
            found, last = Model.champion(self._name, store=self._store), self._last
            if last is not None and last.version == found.version:
                return last
            self._last = found
            return found


def _answer(champion: _Champion, data: bytes) -> dict[str, Any]:
    _check(data)
    try:
        model = champion.now()
    except UnknownNameError as error:
        raise HTTPException(503, str(error)) from error
    with tempfile.TemporaryDirectory(prefix="digitflow-serve-") as folder:
        file = Path(folder) / "picture"
        file.write_bytes(data)
        batch = model.read([file])
    problems = [problem for _, problem in batch.unreadable]
    if problems or len(batch.names) != 1:
        raise HTTPException(422, "; ".join(problems) or "expected one picture")
    try:
        found, shares = model.predict_with_shares(batch)
    except ValueError as error:  # outputs that are no numbers, say
        raise HTTPException(503, f"version {model.version.version}: {error}") from error
    tells = model.calibration is not None
    answer = predictions_json(model.version, found, (), tells_unsure=tells)
    del answer["unreadable"], answer["predictions"][0]["picture"]
    named = zip(model.class_names, shares[0].tolist(), strict=True)
    return {**answer, "probabilities": [{"class": each, "probability": p} for each, p in named]}
