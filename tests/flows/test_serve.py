"""The champion over HTTP: answered, followed, and refused with a sentence."""

from __future__ import annotations

import gzip
import io
import os
import re
import socket
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from PIL import Image, PngImagePlugin

from digitflow.flows import serve as serving
from digitflow.flows.cli.app import main
from digitflow.flows.serve import Impatient, application
from digitflow.storage.errors import LedgerError
from digitflow.storage.formats.artifacts import Artifact
from digitflow.storage.store import Store
from digitflow.tasks.prediction.model import Model
from tests.patience import PATIENCE, wait_for
from tests.registered import SIDE, register

PNG = {"Content-Type": "image/png"}


# Tells a stroke that is tall from one that is wide, by the columns in which there is ink.
_INSIDE = np.abs(np.arange(SIDE) - (SIDE - 1) / 2) < 4
WEIGHTS = {
    "weights_1": np.stack([np.tile(_INSIDE, SIDE), np.tile(~_INSIDE, SIDE)], axis=1) / 100,
    "weights_2": np.eye(2),
}


def array() -> bytes:
    """Return one image as an IDX file, which might unfold to any size."""
    return struct.pack(">BBBBIII", 0, 0, 8, 3, 1, SIDE, SIDE) + bytes(SIDE * SIDE)


def picture(ink: int = 255, side: int = 60) -> bytes:
    """Return a PNG of a tall stroke."""
    image = np.zeros((side, side), np.uint8)
    image[5:55, 27:33] = ink
    file = io.BytesIO()
    Image.fromarray(image).save(file, "png")
    return file.getvalue()


@contextmanager
def served(store: Store, token: str = "") -> Iterator[httpx.Client]:
    """A real server, and a client of it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        app = application(store=store, token=token)
        config = uvicorn.Config(app, http=Impatient, log_level="warning")
        server = uvicorn.Server(config)
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
    assert [each["class"] for each in answer["probabilities"]] == ["tall", "wide"]
    assert sum(each["probability"] for each in answer["probabilities"]) == pytest.approx(1)
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


def test_where_an_entry_is_lost_nobody_is_taken_for_the_champion(
    client: httpx.Client, store: Store
) -> None:
    """Also where it is another process that has found it to be lost."""
    crown(store, weights_2=np.eye(2)[::-1])
    assert client.get("/health").json()["model"] == 2
    for folder in ("ledger", "ledger-copies"):
        (store.root / folder / "00000002.json").unlink()
    other = Store()
    register(other, weights={**WEIGHTS, "weights_2": np.eye(2) / 2}, class_names=("tall", "wide"))
    for found in (client.get("/health"), client.post("/predict", content=picture(), headers=PNG)):
        assert found.status_code == 503
        assert "entry 2 of " in found.json()["detail"]
        assert "digitflow models promote VERSION" in found.json()["detail"]
    for asked in (None, "mnist"):
        with pytest.raises(LedgerError, match="entry 2 of .* lost"):
            Model.load(asked)
    other.models.promote(1, "the backup is lost")
    assert client.get("/health").json()["model"] == 1


def test_the_weights_of_one_champion_are_read_once(
    client: httpx.Client, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    original = Store.read

    def counted(self: Store, artifact: Artifact) -> Any:
        read.append(artifact.sha256)
        return original(self, artifact)

    monkeypatch.setattr(Store, "read", counted)
    for _ in range(3):
        assert client.post("/predict", content=picture(), headers=PNG).status_code == 200
    crown(store, weights_2=np.eye(2)[::-1])
    assert client.post("/predict", content=picture(), headers=PNG).json()["model"] == 2
    assert read == [model.weights.sha256 for model in store.models.oldest_first()]


def test_it_is_well_while_it_predicts(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits for predictions keeps nobody from asking how it is."""
    begun, go_on = threading.Semaphore(0), threading.Event()
    predict = Model.predict_with_shares

    def slow(self: Model, batch: Any) -> Any:
        begun.release()
        assert go_on.wait(PATIENCE)
        return predict(self, batch)

    monkeypatch.setattr(Model, "predict_with_shares", slow)
    answers: list[int] = []

    def ask() -> None:
        answers.append(client.post("/predict", content=picture(), headers=PNG).status_code)

    asking = [threading.Thread(target=ask) for _ in range(2 * serving.AT_ONCE)]
    for thread in asking:
        thread.start()
    try:
        for _ in range(serving.AT_ONCE):
            assert begun.acquire(timeout=PATIENCE)
        assert client.get("/health").json()["status"] == "ok"
        assert client.get("/metrics").status_code == 200
        assert answers == []
    finally:
        go_on.set()
        for thread in asking:
            thread.join(PATIENCE)
    assert answers == [200] * len(asking)


def test_one_at_a_time_looks_who_the_champion_is(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a store knows of its ledger is no threads' common good: half of it might be read."""
    crown(store)
    look, inside = Model.champion, [0, 0]

    def slow(*given: Any, **named: Any) -> Model:
        inside[0] += 1
        inside[1] = max(inside)
        found = look(*given, **named)
        for _ in range(100):
            os.sched_yield()
        inside[0] -= 1
        return found

    monkeypatch.setattr(Model, "champion", slow)
    champion = serving._Champion("", store)
    with ThreadPoolExecutor(8) as pool:
        found = [*pool.map(lambda _: champion.now().version.version, range(64))]
    assert found == [1] * 64
    assert inside == [0, 1]


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
        (array(), "image/png", 422, "expected a picture (PNG, JPEG, BMP, GIF, WebP)"),
        (gzip.compress(array(), mtime=0), "image/png", 422, "expected a picture"),
        (picture(side=5_000), "image/png", 413, "at most 16,000,000 pixels, found 5,000 x 5,000"),
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
    assert found.status_code in (413, 422)


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
    for origin in ("https://evil.example", "null", "http://localhost:1"):
        for method, path in (("POST", "/predict"), ("GET", "/metrics"), ("GET", "/")):
            refused = client.request(method, path, headers={**PNG, "Origin": origin})
            assert refused.status_code == 403
            assert "own page" in refused.json()["detail"]
    own = {**PNG, "Origin": str(client.base_url).rstrip("/")}
    assert client.post("/predict", content=picture(), headers=own).status_code == 200
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
    assert 'digitflow_predictions_total{label="(blank)"} 1.0' in text
    assert "digitflow_prediction_seconds_count 3.0" in text
    assert "digitflow_champion_version 1.0" in text


@pytest.mark.parametrize(
    ("target", "headers", "status"),
    [
        (b"/predict", b"Host: LOCALHOST:1\r\n", 200),
        (b"/predict", b"", 400),
        (b"/predict", b"Host: \r\n", 400),
        (b"/predict", b"Host: localhost\r\nHost: evil.example\r\n", 400),
        (b"/predict", b"Host: localhost.evil.example\r\n", 400),
        (b"/predict", b"Host: localhost:80@evil.example\r\n", 400),
        (b"/predict", b"Host: localhost.\r\n", 400),
        (b"/predict", b"Host: [::1]\r\n", 400),
        (b"/predict", b"Host: evil.example\r\nX-Forwarded-Host: localhost\r\n", 400),
        (b"http://localhost/predict", b"Host: evil.example\r\n", 400),
        (b"http://evil.example/predict", b"Host: localhost\r\n", 404),
        (b"/predict", b"Host: localhost\r\nContent-Length: 5\r\n", 400),
        (b"/predict", b"Host: localhost\r\nTransfer-Encoding: chunked\r\n", 400),
        (b"/predict", b"Host: localhost\r\nX: %s\r\n" % bytes(200_000), 400),
        (b"/../../etc/passwd", b"Host: localhost\r\n", 404),
    ],
)
def test_odd_requests(client: httpx.Client, target: bytes, headers: bytes, status: int) -> None:
    body = picture()
    head = b"Content-Type: image/png\r\nConnection: close\r\nContent-Length: %d\r\n" % len(body)
    answer = answer_to(client, b"POST %s HTTP/1.1\r\n%s%s\r\n%s" % (target, headers, head, body))
    assert answer.startswith(b"HTTP/1.1 %d " % status)


def test_what_has_no_length_has_an_end(client: httpx.Client) -> None:
    pieces = (b"%x\r\n%s\r\n" % (2**16, bytes(2**16)) for _ in range(serving.MOST_BYTES // 2**15))
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(pieces)
    assert b" 413 " in answer_to(client, chunked)
    assert client.get("/health").status_code == 200


def connected(client: httpx.Client) -> socket.socket:
    """Connect to the client's server, and say nothing yet."""
    place = (client.base_url.host, client.base_url.port or 80)
    return socket.create_connection(place, timeout=PATIENCE)


def answer_to(client: httpx.Client, request: bytes) -> bytes:
    """Send what may be no sound request, and return all that comes until the end."""
    with connected(client) as line:
        answer = b""
        with suppress(ConnectionError):  # of who does not wait for the rest
            line.sendall(request)
        with suppress(ConnectionError):
            while piece := line.recv(10_000):
                answer += piece
        return answer


def answer_to_a_beginning(client: httpx.Client, announced: int) -> bytes:
    """Announce a picture, send two bytes of it, and return all that comes until the end."""
    head = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\n"
    return answer_to(client, head + b"Content-Length: %d\r\n\r\n12" % announced)


def test_who_sends_by_drops_is_left(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    crown(store)
    monkeypatch.setattr(serving, "SECONDS_TO_SEND", 0.3)
    with served(store) as client:
        answer = answer_to_a_beginning(client, announced=1_000)
    assert b" 408 " in answer
    assert b"within 0.3 s" in answer


def test_who_connects_and_says_nothing_is_left(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    crown(store)
    monkeypatch.setattr(serving, "SECONDS_TO_SEND", 0.5)
    with served(store) as client:
        idle = [connected(client) for _ in range(100)]
        idle[0].sendall(b"GET /health HTTP/1.1\r\nHost: ")  # and no more
        assert client.get("/health").status_code == 200
        for each in idle:
            assert each.recv(1) == b""
            each.close()


def test_who_is_refused_is_not_listened_to_any_longer(store: Store) -> None:
    crown(store)
    with served(store, token="s3cret") as client:
        assert b" 401 " in answer_to_a_beginning(client, announced=100_000_000)


def test_a_model_that_answers_with_no_numbers_is_said_to_and_counted(
    client: httpx.Client, store: Store
) -> None:
    crown(store, weights_2=np.full((2, 2), np.nan))
    found = client.post("/predict", content=picture(), headers=PNG)
    assert (found.status_code, "version 2: expected finite" in found.json()["detail"]) == (
        503,
        True,
    )

    def broken(*_: Any) -> Any:
        raise RuntimeError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serving, "_answer", broken)
        assert client.post("/predict", content=picture(), headers=PNG).status_code == 500
    text = client.get("/metrics").text
    assert 'digitflow_requests_total{status="503"} 1.0' in text
    assert 'digitflow_requests_total{status="500"} 1.0' in text


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


@pytest.mark.parametrize("host", ["127.0.0.2", "::1", "::", ""])
def test_beyond_one_loopback_address_a_token_is_asked_for(
    store: Store, host: str, capsys: pytest.CaptureFixture[str]
) -> None:
    crown(store)
    assert main(["serve", "--port", "0", f"--host={host}"]) == 1
    assert "DIGITFLOW_SERVE_TOKEN" in capsys.readouterr().err


def test_the_model_that_is_served_stays_the_same_when_others_get_champions(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    crown(store)
    asked: list[str] = []
    monkeypatch.setattr(uvicorn.Server, "run", lambda *_, **__: None)
    monkeypatch.setattr(serving, "application", lambda name, **_: asked.append(name))
    assert main(["serve", "--port", "0"]) == 0
    assert asked == ["mnist"]


@pytest.mark.parametrize("token", ["pässwörd", "two words"])
def test_a_token_that_no_header_can_carry_is_refused(
    store: Store, token: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DIGITFLOW_SERVE_TOKEN", token)
    assert main(["serve"]) == 1
    assert token not in capsys.readouterr().err
