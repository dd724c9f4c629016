"""The ledger: one linear history, healed from its copies, and never silently shorter."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from digitflow.storage.backends.base import Entry
from digitflow.storage.backends.local import LocalBackend
from digitflow.storage.documents import checksummed, verified
from digitflow.storage.errors import LedgerError, RootUnreadableError
from digitflow.storage.history.models import LedgerEntry
from digitflow.storage.history.registry import ModelStore
from digitflow.storage.store import Store
from digitflow.storage.upkeep.gc import sweep
from digitflow.storage.upkeep.verify import find_damage, repair
from tests.storage.test_registry import fields

COUNT = 6  # entries: three versions, each promoted


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store in which three versions have become champions, one after the other."""
    models = ModelStore(LocalBackend(tmp_path))
    for number in range(3):
        models.register(**fields(f"{number:064x}"))
        models.promote(number + 1, "better")
    return tmp_path


def opened(root: Path) -> ModelStore:
    return ModelStore(LocalBackend(root))


def champion(root: Path) -> int | None:
    model = opened(root).champion()
    return None if model is None else model.version


def files(root: Path) -> dict[str, bytes]:
    found = [*(root / "ledger").iterdir(), *(root / "ledger-copies").iterdir()]
    return {str(each.relative_to(root)): each.read_bytes() for each in found if each.is_file()}


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)


def forge(path: Path) -> None:
    """Write another entry, sound in itself."""
    body = verified(path.read_bytes())
    path.write_bytes(checksummed({**body, "reason": "forged"}))


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replace_by_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


DAMAGES: tuple[Callable[[Path], None], ...] = (
    flip,
    forge,
    replace_by_folder,
    replace_by_link,
    Path.unlink,
    lambda path: os.truncate(path, 100),
    lambda path: os.truncate(path, 0),
)


def written_before_there_were(root: Path, *names: str) -> None:
    """Write all entries as a digitflow did whose versions did not have these fields."""
    before = "0" * 64
    for name in sorted(each.name for each in (root / "ledger").glob("*.json")):
        body = verified((root / "ledger" / name).read_bytes())
        body["previous"] = before
        if body["trained"]:
            body["trained"] = {k: v for k, v in body["trained"].items() if k not in names}
        data = checksummed(body)
        before = json.loads(data)["sha256"]
        for folder in ("ledger", "ledger-copies"):
            (root / folder / name).write_bytes(data)
    head = {"entries": COUNT, "digest": before}
    (root / "ledger-head.json").write_bytes(checksummed(head))


@pytest.mark.parametrize("names", [("metric",), ("metric", "calibration", "form")])
def test_fields_that_were_added_since_break_no_chain(root: Path, names: tuple[str, ...]) -> None:
    written_before_there_were(root, *names)
    before = files(root)
    models = opened(root)
    assert models.state().lost == []
    assert [champion(root), files(root)] == [3, before]
    (root / "ledger" / "00000003.json").unlink()
    (root / "ledger-copies" / "00000004.json").write_bytes(b"{}")
    assert champion(root) == 3
    assert files(root) == before  # healed to the same bytes, on which the digests after them rest
    opened(root).promote(1, "by hand")
    assert [champion(root), opened(root).state().lost] == [1, []]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("order", range(1, COUNT + 1))
@pytest.mark.parametrize("folder", ["ledger", "ledger-copies"])
def test_any_one_damaged_file_is_healed(
    root: Path, folder: str, order: int, damage: Callable[[Path], None]
) -> None:
    before = files(root)
    damage(root / folder / f"{order:08d}.json")
    assert champion(root) == 3
    store = Store(root)
    if files(root) != before:  # a copy that looks right is read by `verify` alone
        assert folder == "ledger-copies"
        report = find_damage(store)
        repair(store, report)
    assert files(root) == before
    assert [move.version for move in opened(root).moves()] == [1, 2, 3]


@pytest.mark.parametrize("folder", ["ledger", "ledger-copies"])
def test_a_whole_folder_is_healed(root: Path, folder: str) -> None:
    before = files(root)
    shutil.rmtree(root / folder)
    assert champion(root) == 3
    assert files(root) == before


def lose(root: Path, *orders: int) -> None:
    for order in orders:
        for folder in ("ledger", "ledger-copies"):
            (root / folder / f"{order:08d}.json").unlink()


def damage_both(root: Path, order: int) -> None:
    for folder in ("ledger", "ledger-copies"):
        flip(root / folder / f"{order:08d}.json")


@pytest.mark.parametrize("order", range(1, COUNT + 1))
@pytest.mark.parametrize("how", [lose, damage_both])
def test_what_is_lost_everywhere_is_said_until_a_person_decides(
    root: Path, order: int, how: Callable[[Path, int], None]
) -> None:
    how(root, order)
    models = opened(root)
    assert models.state().lost == [order]
    with pytest.raises(LedgerError, match=f"entry {order} of .* lost.*digitflow models promote"):
        models.check_certain(models.state())
    known = [model.version for model in models.oldest_first()]
    with pytest.raises(LedgerError, match="lost"):
        models.promote(known[-1], "passed the gate", by="a night")
    # A new version is registered all the same, under a number that never meant another one.
    new = models.register(**fields("99" * 32))
    assert new.version > 3
    assert opened(root).state().lost == [order]
    opened(root).promote(new.version, "the backup is lost")
    assert opened(root).state().lost == []
    assert champion(root) == new.version
    assert find_damage(Store(root)).damaged[0].kind == "model"  # of what has no objects here
    chain = opened(root).ledger.read()
    assert [entry.order for entry in chain] == list(range(1, len(chain) + 1))
    assert all(b.previous == a.digest for a, b in zip(chain, chain[1:], strict=False))


def test_lost_is_not_the_same_as_never_had_any(root: Path, tmp_path: Path) -> None:
    shutil.rmtree(root / "ledger")
    shutil.rmtree(root / "ledger-copies")
    assert opened(root).champion() is None
    assert opened(root).state().lost == list(range(1, COUNT + 1))
    fresh = opened(tmp_path / "fresh")
    assert (fresh.champion(), fresh.state().lost) == (None, [])


def test_what_is_found_again_replaces_its_stand_in(root: Path, tmp_path: Path) -> None:
    kept = (root / "ledger" / "00000004.json").read_bytes()
    lose(root, 4)
    opened(root).register(**fields("99" * 32))
    assert opened(root).state().lost == [4]
    (root / "ledger" / "00000004.json").write_bytes(kept)
    assert opened(root).state().lost == []
    assert (root / "ledger-copies" / "00000004.json").read_bytes() == kept


def test_the_bytes_of_a_lost_entry_are_kept(root: Path) -> None:
    damage_both(root, 4)
    left = (root / "ledger" / "00000004.json").read_bytes()
    opened(root).register(**fields("99" * 32))
    (kept,) = (root / "ledger-damaged").iterdir()
    assert kept.read_bytes() == left


def test_an_entry_that_may_not_be_read_is_not_taken_for_lost(root: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("the administrator may read everything")
    path = root / "ledger" / "00000004.json"
    path.chmod(0)
    with pytest.raises(LedgerError, match="Permission denied"):
        opened(root).champion()
    path.chmod(0o644)
    assert champion(root) == 3


def test_a_file_that_is_none_of_ours_does_not_make_history(root: Path) -> None:
    (root / "ledger" / "99999999.json").write_bytes(b"{}")
    (root / "ledger" / "notes.txt").write_text("mine")
    assert champion(root) == 3
    path = root / "ledger" / "00000006.json"
    body = json.loads(path.read_text())
    del body["sha256"]
    forged = checksummed({**body, "order": 99_999_999})
    (root / "ledger" / "99999999.json").write_bytes(forged)
    with pytest.raises(LedgerError, match="not digitflow that made it"):
        champion(root)


def test_a_sweep_takes_nothing_while_an_entry_is_lost(root: Path) -> None:
    store = Store(root)
    with store.objects.temporary() as file:
        file.write_bytes(b"perhaps the champion's weights")
        sha256, _ = store.objects.add(file)
    os.utime(store.objects.path(sha256), (0, 0))
    lose(root, 5)
    with pytest.raises(RootUnreadableError, match="entry 5 of .* lost"):
        sweep(store, 0)
    assert store.objects.path(sha256).exists()


def test_the_head_alone_is_no_evidence_of_a_loss(root: Path) -> None:
    (root / "ledger-head.json").unlink()
    assert (champion(root), opened(root).state().lost) == (3, [])
    (root / "ledger-head.json").write_bytes(b"damaged")
    assert (champion(root), opened(root).state().lost) == (3, [])


def test_of_two_writers_at_once_each_adds_its_own(root: Path) -> None:
    """The one that comes second sees what the first has done, and decides once more."""
    first, second = opened(root), opened(root)
    seen: list[int] = []

    def make(chain: list[LedgerEntry]) -> Callable[[int, str], LedgerEntry]:
        seen.append(len(chain))
        if len(seen) == 1:
            first.hold("faster")
        return lambda order, previous: LedgerEntry(order, previous, kind="hold", model="x")

    second.ledger.append(make)
    assert seen == [COUNT, COUNT + 1]
    assert [entry.model for entry in opened(root).ledger.read()[COUNT:]] == ["mnist", "x"]


def test_an_entry_costs_the_same_however_many_there_are(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has seen the ledger reads on from there."""
    ours, theirs = opened(root), opened(root)
    seen: list[str] = []
    fetch, whole = LocalBackend.fetch, LocalBackend.list

    def fetched(self: LocalBackend, name: str, *limit: int) -> tuple[Entry, bytes]:
        seen.append(name)
        return fetch(self, name, *limit)

    def listed(self: LocalBackend, *given: Any, **named: Any) -> list[Entry]:
        found = whole(self, *given, **named)
        seen.extend(entry.name for entry in found)
        return found

    def another() -> int:
        ours.state()
        theirs.hold("exam week")
        seen.clear()
        ours.release("mnist")
        return len(seen)

    monkeypatch.setattr(LocalBackend, "fetch", fetched)
    monkeypatch.setattr(LocalBackend, "list", listed)
    another()
    few = another()
    for _ in range(20):
        theirs.hold("exam week")
    ours.state()
    assert another() == few


@pytest.mark.parametrize("lost", [(COUNT + 1,), (COUNT + 2,), (COUNT + 1, COUNT + 2)])
def test_what_is_lost_behind_the_last_that_is_known_is_seen(
    root: Path, lost: tuple[int, ...]
) -> None:
    """Or its number would be given once more."""
    ours, theirs = opened(root), opened(root)
    ours.state()
    theirs.hold("exam week")
    theirs.release("mnist")
    lose(root, *lost)
    assert ours.state().lost == [*lost]


@pytest.mark.parametrize("order", range(1, COUNT + 1))
def test_what_somebody_else_records_as_lost_is_heard_at_the_next_look(
    root: Path, order: int
) -> None:
    ours, theirs = opened(root), opened(root)
    ours.state()
    lose(root, order)
    new = theirs.register(**fields("99" * 32)).version
    assert ours.state().lost == [order]
    with pytest.raises(LedgerError, match=f"entry {order} of .* lost"):
        ours.promote(new, "passed the gate", by="a night")
    theirs.promote(new, "the backup is lost")
    assert ours.state().lost == []
    assert ours.ledger.read() == opened(root).ledger.read()


def test_what_a_listing_passed_over_is_read_all_the_same(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that is listed while entries come may show the later, and not the one before."""
    ours, theirs = opened(root), opened(root)
    ours.state()
    head = root / "ledger-head.json"
    before = head.read_bytes()
    theirs.hold("exam week")
    theirs.release("mnist")
    head.write_bytes(before)  # whoever adds them has not come so far
    whole = LocalBackend.list

    def passing(self: LocalBackend, *given: Any, **named: Any) -> list[Entry]:
        found = whole(self, *given, **named)
        return [entry for entry in found if f"{COUNT + 1:08d}" not in entry.name]

    with monkeypatch.context() as patch:
        patch.setattr(LocalBackend, "list", passing)
        assert len(ours.ledger.read()) == len(opened(root).ledger.read()) == COUNT + 2
    assert ours.ledger.read() == opened(root).ledger.read()
