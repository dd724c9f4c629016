"""Shared stores: a bucket on a real S3 server, and machines with caches of their own."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from digitflow.storage.backends.remote import Remote
from digitflow.storage.cache import Cache
from tests.share.s3_server import S3, running_s3

Machine = Callable[[str], Cache]


def remote_of(cache: Cache) -> Remote:
    """Return what lies behind a store's URL."""
    assert cache.shared is not None
    return cache.shared.remote


@pytest.fixture(scope="session")
def s3_session() -> Iterator[S3]:
    with running_s3() as s3:
        yield s3


@pytest.fixture
def s3(s3_session: S3, monkeypatch: pytest.MonkeyPatch) -> S3:
    """The server, undisturbed, with this process's environment set for it."""
    s3_session.before = s3_session.after = None
    for name, value in s3_session.environment.items():
        monkeypatch.setenv(name, value)
    return s3_session


@pytest.fixture
def bucket(s3: S3) -> str:
    """A new, empty bucket."""
    name = f"tests-{uuid.uuid4().hex[:12]}"
    s3.client().create_bucket(Bucket=name)
    return name


@pytest.fixture
def url(bucket: str) -> str:
    return f"s3://{bucket}/team/store"


@pytest.fixture(params=["s3", "file", "memory"])
def any_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A shared store in each of three kinds of places."""
    if request.param == "s3":
        bucket: str = request.getfixturevalue("bucket")
        return f"s3://{bucket}/team/store"
    if request.param == "file":
        return (tmp_path / "share").as_uri()
    return f"memory://tests-{uuid.uuid4().hex}/store"


@pytest.fixture
def machine(url: str, tmp_path: Path) -> Machine:
    """Open the shared S3 store as the machine of this name sees it."""
    return lambda name: Cache(tmp_path / name, url)


@pytest.fixture
def any_machine(any_url: str, tmp_path: Path) -> Machine:
    """The same for each kind of place."""
    return lambda name: Cache(tmp_path / name, any_url)
