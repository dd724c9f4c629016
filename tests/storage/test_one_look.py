from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from digitflow.storage.digests import digest_bytes
from digitflow.storage.keys import StageKey
from digitflow.storage.store import Store

FORMATS = {"text": "json"}


def key(number: int) -> StageKey:
    return StageKey("same", {}, {"number": number}, {})


@pytest.fixture
def stored(store: Store) -> Path:
    """The one object that two stages made."""

    def compute(_scratch: Path) -> Mapping[str, Any]:
        return {"text": "x" * 1000}

    outcomes = [store.cache.obtain(key(n), "same", compute, FORMATS, run="r") for n in (1, 2)]
    digests = {outcome.record.outputs["text"].sha256 for outcome in outcomes}
    return store.objects.path(digests.pop())


@pytest.fixture
def verified(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The objects that are hashed."""
    names: list[str] = []
    real = store.objects.verify

    def verify(sha256: str, size: int | None = None) -> Path:
        names.append(sha256)
        return real(sha256, size)

    monkeypatch.setattr(store.objects, "verify", verify)
    return names


def hit(store: Store, number: int) -> bool:
    return store.cache.look_up(key(number), "same").record is not None


def test_in_one_look_no_object_is_hashed_twice(store: Store, stored: Path, verified: list[str]):
    with store.cache.one_look():
        assert hit(store, 1)
        assert hit(store, 2)
    assert len(verified) == 1
    with store.cache.one_look():
        assert hit(store, 2)
    assert hit(store, 1)
    assert hit(store, 2)
    assert len(verified) == 4


def test_one_look_finds_damage(store: Store, stored: Path):
    data = stored.read_bytes()
    stored.chmod(0o644)
    stored.write_bytes(data.replace(b"x", b"y", 1))
    assert digest_bytes(stored.read_bytes()) != digest_bytes(data)
    with store.cache.one_look():
        assert not hit(store, 1)
        assert not hit(store, 2)


def test_what_one_look_saw_counts_in_no_other(store: Store, stored: Path):
    with store.cache.one_look():
        assert hit(store, 1)
    stored.unlink()
    with store.cache.one_look():
        assert not hit(store, 1)
    assert not hit(store, 2)
