"""A shared store that cannot be used is said to be so before any work, with what to check."""

import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from digitflow.storage.backends.remote import Remote
from digitflow.storage.errors import SharedStoreError
from digitflow.storage.store import Store
from digitflow.storage.upkeep.gc import find_garbage
from digitflow.storage.upkeep.verify import find_damage
from tests.patience import PATIENCE, wait_for
from tests.share.conftest import Machine, remote_of
from tests.share.s3_server import S3, Refusal, Request
from tests.share.work import key, squares


@pytest.fixture
def nobody_listens(s3: S3, monkeypatch: pytest.MonkeyPatch) -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    return endpoint


def test_a_store_that_is_down(nobody_listens: str, tmp_path: Path) -> None:
    store = Store(tmp_path / "cache", "s3://some-bucket/store")
    with pytest.raises(SharedStoreError) as raised:
        store.connect()
    text = str(raised.value)
    assert "has not answered" not in text  # it was told at once, and no deadline has passed
    for part in ("s3://some-bucket/store", nobody_listens, "AWS_ENDPOINT_URL", "DIGITFLOW_STORE="):
        assert part in text


def test_a_store_that_is_down_is_no_miss(nobody_listens: str, tmp_path: Path) -> None:
    with pytest.raises(SharedStoreError):
        squares(Store(tmp_path / "cache", "s3://some-bucket/store"))


def test_a_bucket_that_does_not_exist(s3: S3, tmp_path: Path) -> None:
    store = Store(tmp_path / "cache", "s3://no-such-bucket/store")
    with pytest.raises(SharedStoreError, match="the bucket no-such-bucket does not exist"):
        store.connect()


USES: dict[str, Callable[[Store], object]] = {
    "a record": lambda store: store.records.load("squares", "0" * 64),
    "an object": lambda store: store.objects.verify("0" * 64),
    "a list": lambda store: list(store.runs.newest_first()),
    "a look": lambda store: remote_of(store).stat("runs/calm-owl.json"),
    "a stage": squares,
    "a plan": lambda store: store.cache.look_up(key(10), "squares"),
    "a sweep": lambda store: find_garbage(store, 30, shared=True),
    "a verification": lambda store: find_damage(store, shared=True),
}


@pytest.mark.parametrize("use", USES)
def test_in_a_missing_bucket_nothing_is_merely_missing(s3: S3, tmp_path: Path, use: str) -> None:
    store = Store(tmp_path / "cache", f"s3://no-such-bucket/{use}")
    with pytest.raises(SharedStoreError, match="the bucket no-such-bucket does not exist"):
        USES[use](store)


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize(
    ("refusal", "expected"),
    [
        (Refusal("301 Moved Permanently", "PermanentRedirect"), "lies in another region"),
        (Refusal("400 Bad Request", "AuthorizationHeaderMalformed"), "lies in another region"),
        (Refusal("500 Internal Server Error", "InternalError"), "it answers 500 Internal Server"),
    ],
)
def test_a_store_that_answers_nonsense(
    machine: Machine, s3: S3, use: str, refusal: Refusal, expected: str
) -> None:
    s3.before = lambda request: refusal
    with pytest.raises(SharedStoreError, match=expected) as raised:
        USES[use](machine("first"))
    assert "\n" not in str(raised.value)


def test_a_wait_is_said(
    machine: Machine,
    s3: S3,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    first = machine("first")
    first.connect()
    monkeypatch.setattr("digitflow.storage.backends.remote._SECONDS_UNTIL_SAID", 0.01)

    def wait(request: Request) -> None:
        wait_for(lambda: "which has not answered for" in caplog.text, "a sentence")

    s3.before = wait
    assert first.records.load("squares", "0" * 64) is None


def test_an_empty_store_is_no_missing_bucket(machine: Machine) -> None:
    machine("first").connect()


def test_credentials_that_are_refused(machine: Machine, s3: S3) -> None:
    s3.before = lambda request: Refusal("403 Forbidden", "InvalidAccessKeyId")
    with pytest.raises(SharedStoreError, match="AWS_ACCESS_KEY_ID"):
        machine("first").connect()
    s3.before = None
    machine("first").connect()  # a failure is not remembered


def test_no_credentials(s3: S3, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(SharedStoreError, match="credentials"):
        Remote(url).connect()


def test_a_store_that_never_answers(
    machine: Machine, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("digitflow.storage.backends.remote._SECONDS_TO_ANSWER", 0.3)

    over = threading.Event()

    def swallow(request: Request) -> None:
        over.wait(PATIENCE)

    s3.before = swallow
    try:
        with pytest.raises(SharedStoreError, match="has not answered within"):
            machine("first").connect()
    finally:
        over.set()


@pytest.mark.parametrize("writes", [False, True])
def test_a_store_that_stops_answering(
    machine: Machine, s3: S3, monkeypatch: pytest.MonkeyPatch, writes: bool
) -> None:
    first = machine("first")
    first.connect()
    stopped = threading.Event()

    def swallow(request: Request) -> None:
        if request.writes is writes:
            stopped.wait(PATIENCE)

    s3.before = swallow
    monkeypatch.setattr("digitflow.storage.backends.remote._SECONDS_FOR_A_REQUEST", 0.5)
    with pytest.raises(SharedStoreError, match="has not answered within"):
        squares(first)
    stopped.set()


def test_a_large_object_may_take_longer(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given: list[float] = []

    def within(seconds: float, call: Callable[[], Any], *said: object) -> Any:
        given.append(seconds)
        return call()

    machine("first").connect()
    monkeypatch.setattr("digitflow.storage.backends.remote.within", within)
    file = tmp_path / "large"
    with file.open("wb") as large:
        large.truncate(5_000_000)
    remote = machine("first").shared.remote  # type: ignore[union-attr]
    remote.upload(file, "objects/aa/bb")
    remote.download("objects/aa/bb", file, 5_000_000)
    assert set(given) == {400.0}


def test_a_failure_in_the_midst_loses_nothing(machine: Machine, s3: S3) -> None:
    first = machine("first")

    def refuse(request: Request) -> Refusal | None:
        return Refusal("503 Service Unavailable", "ServiceUnavailable") if request.writes else None

    s3.before = refuse
    with pytest.raises(SharedStoreError, match="is kept on this machine and sent by the next run"):
        squares(first)
    assert squares(machine("second").local)[1] == 1  # nothing was shared
    s3.before = None

    machine("first").connect()

    assert squares(machine("third"))[1] == 0
    with s3.counting() as requests:
        assert squares(machine("first"))[1] == 0
    assert requests == []


def test_a_hit_that_was_not_sent_is_sent(machine: Machine, s3: S3) -> None:
    """Also without `connect`: whoever runs stages by themselves need not know of it."""
    s3.before = lambda request: (
        Refusal("503 Service Unavailable", "ServiceUnavailable") if request.writes else None
    )
    with pytest.raises(SharedStoreError):
        squares(machine("first"))
    s3.before = None
    assert squares(machine("first"))[1] == 0
    assert squares(machine("second"))[1] == 0


def test_what_was_damaged_before_it_was_sent_is_not_sent(
    machine: Machine, s3: S3, bucket: str
) -> None:
    s3.before = lambda request: (
        Refusal("503 Service Unavailable", "ServiceUnavailable") if request.writes else None
    )
    with pytest.raises(SharedStoreError):
        squares(machine("first"))
    s3.before = None
    for path in (machine("first").root / "objects").glob("??/*"):
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:-1] + b"!")

    machine("first").connect()

    assert s3.keys(bucket) == {}
    outcome, ran = squares(machine("first"))
    assert ran == 1
    assert outcome.reasons[0].startswith("object ")
    assert squares(machine("second"))[1] == 0


def test_what_was_made_without_the_store_is_sent_later(machine: Machine) -> None:
    """As the message advises: DIGITFLOW_STORE=<the folder of this machine>."""
    assert squares(machine("first").local)[1] == 1
    machine("first").connect()
    assert squares(machine("second"))[1] == 0


def test_a_full_disk_is_no_matter_of_the_store(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from digitflow.storage.errors import StorageFullError

    squares(machine("first"))
    second = machine("second")
    place = second.shared.remote._place()  # type: ignore[union-attr]

    def full(*what: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(place, "download", full)
    with pytest.raises(StorageFullError, match="no room"):
        squares(second)
    monkeypatch.undo()
    assert list((second.root / "objects" / "tmp").iterdir()) == []


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("nonsense://somewhere", "expected a path, or a URL with one of s3://, gs://, az://"),
        ("sftp://user:secret@host/store", "sftp:// is not supported: mount it"),
    ],
)
def test_an_address_that_leads_nowhere(tmp_path: Path, address: str, expected: str) -> None:
    with pytest.raises(SharedStoreError, match=expected) as raised:
        Store(tmp_path / "cache", address).connect()
    assert "secret" not in str(raised.value)


def test_a_folder_whose_parent_is_absent_is_not_made(tmp_path: Path) -> None:
    """Under a mount that is absent it would be another folder, on this machine."""
    missing = tmp_path / "mount" / "team"
    with pytest.raises(SharedStoreError, match=f"the folder {missing} does not exist"):
        Store(tmp_path / "cache", (missing / "store").as_uri()).connect()
    assert not missing.exists()
