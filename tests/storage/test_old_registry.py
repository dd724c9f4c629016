"""A store of an older digitflow is taken over without loss, and is never changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from digitflow.storage.backends.local import LocalBackend
from digitflow.storage.documents import Documents, checksummed, read_checksummed
from digitflow.storage.errors import LedgerError
from digitflow.storage.history.models import ModelVersion
from digitflow.storage.history.old_registry import ALIASES, VERSIONS, Alias, OldMove
from digitflow.storage.history.registry import ModelStore
from tests.storage.test_registry import fields

AT = "2026-01-02T03:04:05.000+00:00"


def write(root: Path, moves: list[tuple[int, str]], **titles: str) -> None:
    """Write three versions and the champion's moves, as an older digitflow did."""
    backend = LocalBackend(root)
    versions = Documents(VERSIONS, backend)
    for number in (1, 2, 3):
        title = titles.get(f"v{number}", "MNIST")
        given = fields(f"{number:064x}", dataset=title)
        versions.save(ModelVersion(version=number, created=AT, **given))
        path = root / "models" / "versions" / f"{number:06d}.json"
        body = read_checksummed(path)
        del body["model"], body["image_size"], body["transposed"]
        path.write_bytes(checksummed(body))
    if moves:
        alias = Alias("champion", tuple(OldMove(number, AT, why) for number, why in moves))
        Documents(ALIASES, backend).save(alias)


def opened(root: Path) -> ModelStore:
    return ModelStore(LocalBackend(root))


def old_files(root: Path) -> dict[Path, bytes]:
    found = (root / "models").rglob("0*.json"), (root / "models").rglob("champion.json")
    return {path: path.read_bytes() for each in found for path in each}


def test_versions_numbers_and_moves_are_those_that_were(tmp_path: Path) -> None:
    write(tmp_path, [(1, "first"), (2, "better"), (3, "better"), (2, "rolled back from version 3")])
    before = old_files(tmp_path)
    for _ in range(2):  # the second time there is nothing left to take over
        models = opened(tmp_path)
        assert [each.version for each in models.oldest_first()] == [1, 2, 3]
        assert [(move.version, move.why) for move in models.moves("mnist")] == [
            (1, "first"),
            (2, "better"),
            (3, "better"),
            (2, "rolled back from version 3"),
        ]
        assert models.champion() == models.load(2)
        assert len(models.ledger.read()) == 4
    assert opened(tmp_path).rollback().version == 1
    assert old_files(tmp_path) == before


def test_it_goes_on_where_a_kill_ended_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, [(1, "first"), (2, "better")])
    create = LocalBackend.create
    left = [2]

    def killed(self: LocalBackend, name: str, data: bytes) -> bool:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return create(self, name, data)

    with monkeypatch.context() as patch:
        patch.setattr(LocalBackend, "create", killed)
        with pytest.raises(KeyboardInterrupt):
            opened(tmp_path).champion()
    models = opened(tmp_path)
    assert [each.version for each in models.oldest_first()] == [1, 2, 3]
    assert models.champion() == models.load(2)
    assert len(models.ledger.read()) == 4


def test_a_store_without_a_champion_still_has_none(tmp_path: Path) -> None:
    write(tmp_path, [])
    models = opened(tmp_path)
    assert models.champion() is None
    models.check_certain(models.state())
    assert models.register(**fields("99" * 32)).version == 4


def test_the_name_that_belongs_to_a_title_is_learnt(tmp_path: Path) -> None:
    write(tmp_path, [(1, "first")], v1="Kuzushiji-MNIST")
    models = opened(tmp_path)
    assert models.find("kuzushiji-mnist").version == 1
    same = fields(f"{1:064x}", dataset="Kuzushiji-MNIST", image_size=(28, 28))
    again = models.register(dataset_name="kmnist", **same)
    assert (again.version, again.model, again.image_size) == (1, "kmnist", (28, 28))
    assert models.champion("kmnist") == again
    assert opened(tmp_path).champion("kmnist") == again


def test_two_datasets_had_one_alias_and_have_two_champions(tmp_path: Path) -> None:
    write(tmp_path, [(1, "first"), (3, "by hand")], v3="Letters")
    models = opened(tmp_path)
    assert models.champion("mnist") == models.load(1)
    assert models.champion("letters") == models.load(3)


@pytest.mark.parametrize("file", ["versions/000002.json", "aliases/champion.json"])
def test_what_is_damaged_in_it_is_lost_and_said(tmp_path: Path, file: str) -> None:
    write(tmp_path, [(1, "first"), (2, "better")])
    path = tmp_path / "models" / file
    path.write_bytes(path.read_bytes().replace(b"2", b"4", 1))
    models = opened(tmp_path)
    with pytest.raises(LedgerError, match="lost.*digitflow models promote VERSION"):
        models.check_certain(models.state())
    with pytest.raises(LedgerError, match="lost"):
        list(models.references())
    # The number of a damaged version never comes to mean another one.
    assert models.register(**fields("99" * 32)).version == 4
    models.promote(1, "it was this one")
    models.check_certain(opened(tmp_path).state())
    assert opened(tmp_path).champion() == models.load(1)


def test_another_machines_registry_adds_versions_and_moves_no_champion(tmp_path: Path) -> None:
    """Of a shared store each machine had a registry of its own, with numbers of its own."""
    there = LocalBackend(tmp_path / "shared")
    write(tmp_path / "a", [(1, "first")])
    write(tmp_path / "b", [(2, "better")], v2="MNIST")
    other = tmp_path / "b" / "models" / "versions" / "000002.json"
    body: dict[str, Any] = read_checksummed(other)
    other.write_bytes(checksummed({**body, "training": "77" * 32}))
    first = ModelStore(LocalBackend(tmp_path / "a"), there)
    second = ModelStore(LocalBackend(tmp_path / "b"), there)
    assert first.champion() == first.load(1)
    assert second.champion() == first.load(1)
    assert [each.version for each in first.oldest_first()] == [1, 2, 3, 4]
    assert first.load(4).training == "77" * 32
    assert list(second.oldest_first()) == list(first.oldest_first())
