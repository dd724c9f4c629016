"""The champion over HTTP: answered, followed, and refused with a sentence."""

from __future__ import annotations

import io
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from PIL import Image, PngImagePlugin

from digitflow.flows import serve as serving
from digitflow.flows.cli.app import main
from digitflow.flows.serve import application
from digitflow.storage.store import Store
from tests.patience import PATIENCE, wait_for
from tests.registered import SIDE, register

PNG = {"Content-Type": "image/png"}


# Tells a stroke that is tall from one that is wide, by the columns in which there is ink.
_INSIDE = np.abs(np.arange(SIDE) - (SIDE - 1) / 2) < 4
WEIGHTS = {
    "weights_1": np.stack([np.tile(_INSIDE, SIDE), np.tile(~_INSIDE, SIDE)], axis=1) / 100,
    "weights_2": np.eye(2),
}


def picture(ink: int = 255) -> bytes:
    """Return a PNG of a tall stroke."""
    image = np.zeros((60, 60), np.uint8)
    image[5:55, 27:33] = ink
    file = io.BytesIO()
    Image.fromarray(image).save(file, "png")
    return file.getvalue()


@contextmanager
def served(store: Store, token: str = "") -> Iterator[httpx.Client]:
    """A real server, and a client of it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        app = application(store=store, token=token)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            wait_for(lambda: server.started, "the server")
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            with httpx.Client(base_url=url, trust_env=False, timeout=PATIENCE) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("DIGITFLOW_STORE", str(tmp_path / "store"))
    monkeypatch.delenv("DIGITFLOW_SERVE_TOKEN", raising=False)
    return Store()


@pytest.fixture
def client(store: Store) -> Iterator[httpx.Client]:
    crown(store)
    with served(store) as client:
        yield client


def crown(store: Store, names: tuple[str, str] = ("tall", "wide"), **changed: Any) -> int:
    """Register a model that tells tall from wide, and promote it."""
    version = register(
        store, weights={**WEIGHTS, **changed}, class_names=names, image_size=(SIDE, SIDE)
    ).version
    store.models.promote(version, "for a test")
    return version


def test_a_picture_is_answered_as_by_predict(client: httpx.Client) -> None:
    found = client.post("/predict", content=picture(), headers=PNG)
    assert found.status_code == 200, found.text
    answer = found.json()
    assert answer["model"] == 1
    assert answer["predictions"][0]["class"] == "tall"
    assert set(answer["probabilities"]) == {"tall", "wide"}
    assert sum(answer["probabilities"].values()) == pytest.approx(1)
    assert "picture" not in answer["predictions"][0]
    blank = client.post("/predict", content=picture(0), headers=PNG).json()
    assert blank["predictions"][0]["blank"]
    assert blank["predictions"][0]["class"] is None


def test_the_next_champion_is_served_from_the_next_request_on(
    client: httpx.Client, store: Store
) -> None:
    assert client.get("/health").json()["model"] == 1
    upside_down = {"weights_2": np.eye(2)[::-1]}
    assert crown(store, **upside_down) == 2
    assert client.get("/health").json() == {"status": "ok", "model": 2, "dataset": "MNIST"}
    answer = client.post("/predict", content=picture(), headers=PNG).json()
    assert (answer["model"], answer["predictions"][0]["class"]) == (2, "wide")


def test_without_a_champion_it_says_so_and_is_not_well(store: Store) -> None:
    with served(store) as client:
        sent = client.post("/predict", content=picture(), headers=PNG)
        for found in (client.get("/health"), sent):
            assert found.status_code == 503
            assert "there is no champion" in found.json()["detail"]


@pytest.mark.parametrize(
    ("content", "kind", "status", "said"),
    [
        (b"GIF89a", "image/gif", 422, ""),
        (b"", "image/png", 422, ""),
        (b"<html></html>", "image/png", 422, ""),
        (picture()[:-40], "image/png", 422, ""),
        (picture(), "application/x-www-form-urlencoded", 415, "Content-Type: image/"),
        (picture(), "text/plain", 415, "found 'text/plain'"),
        (b"\0" * (serving.MOST_BYTES + 1), "image/png", 413, "at most 10,485,760 bytes"),
    ],
)
def test_what_is_no_picture_is_refused_with_a_sentence(
    client: httpx.Client, content: bytes, kind: str, status: int, said: str
) -> None:
    found = client.post("/predict", content=content, headers={"Content-Type": kind})
    assert found.status_code == status
    assert said in found.json()["detail"]
    assert "/tmp" not in found.json()["detail"]
    assert client.post("/predict", content=picture(), headers=PNG).status_code == 200


def test_a_bomb_is_refused(client: httpx.Client) -> None:
    file = io.BytesIO()
    notes = PngImagePlugin.PngInfo()
    Image.new("1", (40_000, 40_000)).save(file, "png", pnginfo=notes, optimize=True)
    assert len(file.getvalue()) < serving.MOST_BYTES
    found = client.post("/predict", content=file.getvalue(), headers=PNG)
    assert found.status_code == 422


def test_another_site_cannot_ask(client: httpx.Client) -> None:
    """By DNS rebinding it would come by its own name; a form may not say that it is a picture."""
    rebound = {**PNG, "Host": "evil.example"}
    assert client.post("/predict", content=picture(), headers=rebound).status_code == 400
    asked = {
        "Origin": "https://evil.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    allowed = client.options("/predict", headers=asked)
    assert "access-control-allow-origin" not in allowed.headers
    page = client.get("/")
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    assert "NONCE" not in page.text
    assert not re.findall(r"(?:src|href)=", page.text)


def test_with_a_token_only_who_has_it_is_answered(store: Store) -> None:
    crown(store)
    right, wrong = ({**PNG, "Authorization": f"Bearer {each}"} for each in ("s3cret", "s3cre"))
    with served(store, token="s3cret") as client:
        for headers in (PNG, wrong):
            refused = client.post("/predict", content=picture(), headers=headers)
            assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
            assert client.get("/metrics", headers=headers).status_code == 401
        # Behind a proxy it is called by a name of its own.
        named = {**right, "Host": "model.example"}
        assert client.post("/predict", content=picture(), headers=named).status_code == 200
        assert client.get("/metrics", headers=right).status_code == 200
        assert client.get("/health").status_code == 200


def test_metrics_count_what_was_asked(client: httpx.Client) -> None:
    for content in (picture(), picture(), picture(0), b"nothing"):
        client.post("/predict", content=content, headers=PNG)
    text = client.get("/metrics").text
    assert 'digitflow_requests_total{status="200"} 3.0' in text
    assert 'digitflow_requests_total{status="422"} 1.0' in text
    assert 'digitflow_predictions_total{label="tall"} 2.0' in text
    assert 'digitflow_predictions_total{label="blank"} 1.0' in text
    assert "digitflow_prediction_seconds_count 3.0" in text
    assert "digitflow_champion_version 1.0" in text


def test_who_sends_by_drops_is_left(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    crown(store)
    monkeypatch.setattr(serving, "SECONDS_TO_SEND", 0.3)

    def drops() -> Iterator[bytes]:
        yield picture()[:10]
        wait_for(lambda: answered.is_set(), "the answer")

    answered = threading.Event()
    timer = threading.Timer(1.5, answered.set)
    timer.start()
    with served(store) as client:
        found = client.post("/predict", content=drops(), headers=PNG)
    assert found.status_code == 408
    assert "within 0.3 s" in found.json()["detail"]
    timer.join()


def test_what_cannot_be_served_is_said_before_it_listens(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve"]) == 2
    assert "there is no champion" in capsys.readouterr().err
    crown(store)
    assert main(["serve", "--host", "0.0.0.0", "--port", "0"]) == 1
    assert "expected DIGITFLOW_SERVE_TOKEN" in capsys.readouterr().err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["serve", "--port", str(taken.getsockname()[1])]) == 1
    assert "try another --port" in capsys.readouterr().err
