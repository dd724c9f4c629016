"""`digitflow gc` and `verify`."""

import itertools
import weakref
from typing import Any

import pytest

from digitflow.storage.documents import Documents
from digitflow.storage.store import Store
from tests.answers import Cli
from tests.walk import Walk


def test_verify_finds_damage(cli: Cli, cache: Store, first: Walk):
    assert cli("verify").code == 0
    sha256 = first.output("train", "model").sha256
    path = cache.objects.path(sha256)
    path.chmod(0o644)
    path.write_bytes(b"damaged")
    answer = cli("verify")
    assert answer.code == 1
    assert sha256[:12] in answer.out
    assert cli("verify", "--repair").code == 1
    assert not path.exists()
    assert "train" in cli("plan").out


def test_what_takes_long_says_in_a_log_how_far_it_is(
    cli: Cli, cache: Store, first: Walk, monkeypatch: pytest.MonkeyPatch
):
    clock = itertools.count(0.0, 10.0)  # seconds, at each look
    monkeypatch.setattr("digitflow.flows.cli.render.time.monotonic", lambda: next(clock))
    objects = len(list(cache.objects))
    for command in ("verify", "gc"):
        answer = cli(command)
        assert answer.code == 0
        assert f"  objects: {objects}/{objects} · 100%\n" in answer.err
        assert "100%" not in answer.out


def test_what_takes_long_has_a_bar_in_a_terminal(
    cli: Cli, cache: Store, terminal: None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TERM", "xterm")
    for command in ("verify", "gc"):
        assert "objects" in cli(command).err


def test_verify_keeps_no_record(
    cli: Cli, cache: Store, first: Walk, monkeypatch: pytest.MonkeyPatch
):
    """A hundred thousand would be gigabytes."""
    plain = Documents.examine
    read: list[weakref.ref[Any]] = []
    kept = [0]

    def examine(self: Documents[Any], name: str) -> Any:
        kept.append(sum(each() is not None for each in read))
        document = plain(self, name)
        read.append(weakref.ref(document))
        return document

    monkeypatch.setattr(Documents, "examine", examine)
    assert cli("verify").code == 0
    assert len(read) >= len(first.results)
    assert max(kept) <= 2


def test_gc_only_says_what_it_would_delete(cli: Cli, cache: Store):
    before = len(list(cache.objects))
    assert "nothing to delete" in cli("gc").out
    assert cli("gc", "--keep-days", "0").code == 0
    assert len(list(cache.objects)) == before
