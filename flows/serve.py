"""The champion over HTTP: a picture in, its class and probabilities out, and a page to draw on.

A new champion is served from the next request on. Nothing of a picture is kept.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import tempfile
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

from digitflow.storage.errors import StorageError, UnknownNameError
from digitflow.storage.store import Store
from digitflow.tasks.parameters import ParameterError
from digitflow.tasks.prediction.model import Model
from digitflow.tasks.prediction.predictions import predictions_json

MOST_BYTES = 10 * 1024**2
SECONDS_TO_SEND = 10.0
LOOPBACK = ("127.0.0.1", "localhost")

_PAGE = Path(__file__).with_name("draw.html")


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
        loopback address are answered, whatever name leads there, so that a page of another site
        cannot ask by a name of its own.
    """
    cache = store or Store()
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
    # Its documentation page would load scripts from elsewhere.
    app = FastAPI(title="digitflow", docs_url=None, redoc_url=None)
    if not token:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(LOOPBACK))

    def authorized(request: Request) -> None:
        sent = request.headers.get("authorization", "").encode()
        if token and not hmac.compare_digest(sent, f"Bearer {token}".encode()):
            raise HTTPException(401, "expected the server's token", {"WWW-Authenticate": "Bearer"})

    @app.middleware("http")
    async def count(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        response = await call_next(request)
        if request.url.path == "/predict":
            requests.labels(str(response.status_code)).inc()
        return response

    @app.exception_handler(StorageError)
    @app.exception_handler(ParameterError)
    async def unavailable(_request: Request, error: Exception) -> Response:
        return JSONResponse({"detail": str(error)}, 503)

    @app.post("/predict", dependencies=[Depends(authorized)])
    async def predict(request: Request) -> dict[str, Any]:
        data = await _picture(request)
        began = time.perf_counter()
        answer = await run_in_threadpool(_answer, cache, model, data)
        seconds.observe(time.perf_counter() - began)
        version.set(answer["model"])
        predictions.labels(answer["predictions"][0]["class"] or "blank").inc()
        return answer

    @app.get("/health")
    def health() -> dict[str, Any]:
        served = Model.champion(model, store=cache).version
        return {"status": "ok", "model": served.version, "dataset": served.dataset}

    @app.get("/metrics", dependencies=[Depends(authorized)])
    def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/", response_class=HTMLResponse)
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
    return bytes(data)


def _answer(cache: Store, name: str, data: bytes) -> dict[str, Any]:
    try:
        model = Model.champion(name, store=cache)
    except UnknownNameError as error:
        raise HTTPException(503, str(error)) from error
    with tempfile.TemporaryDirectory(prefix="digitflow-serve-") as folder:
        file = Path(folder) / "picture"
        file.write_bytes(data)
        batch = model.read([file])
    problems = [problem for _, problem in batch.unreadable]
    if problems or len(batch.names) != 1:
        raise HTTPException(422, "; ".join(problems) or "expected one picture")
    predictions = model.predict_batch(batch)
    told = model.calibration is not None
    answer = predictions_json(model.version, predictions, (), tells_unsure=told)
    del answer["unreadable"], answer["predictions"][0]["picture"]
    shares = model.probabilities(batch.images)[0].tolist()
    return {**answer, "probabilities": dict(zip(model.class_names, shares, strict=True))}
