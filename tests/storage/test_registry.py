"""The registry: versions that stay, an alias that moves whole, and a way back."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from digitflow.storage.backends.local import LocalBackend
from digitflow.storage.errors import (
    LedgerError,
    MovedMeanwhileError,
    ObjectDamagedError,
    ObjectMissingError,
    UnknownNameError,
)
from digitflow.storage.formats.artifacts import Artifact
from digitflow.storage.history.models import State
from digitflow.storage.history.registry import ModelStore
from digitflow.storage.store import Store
from digitflow.storage.upkeep.gc import find_garbage

DIGEST = "ab" * 32


def fields(weights: str = DIGEST, **changes: Any) -> dict[str, Any]:
    return {
        "run": "calm-owl",
        "preset": "quick",
        "dataset": "MNIST",
        "parameters": {"epochs": 3},
        "metrics": {"test_accuracy": 0.97},
        "training": "cd" * 32,
        "data": {"test_inputs": "ef" * 32},
        "class_names": ("0", "1"),
        "weights": Artifact(weights, 10, "npz"),
        "predictions": Artifact("12" * 32, 20, "npz"),
        **changes,
    }


@pytest.fixture
def models(tmp_path: Path) -> ModelStore:
    return ModelStore(LocalBackend(tmp_path))


def test_versions_count_from_one_and_come_back_as_they_went_in(models: ModelStore) -> None:
    first = models.register(**fields())
    second = models.register(**fields("34" * 32))
    assert (first.version, second.version) == (1, 2)
    assert models.load(1) == first
    assert list(models.oldest_first()) == [first, second]
    assert first.class_names == ("0", "1")


def test_a_training_that_is_registered_keeps_its_version(models: ModelStore) -> None:
    first = models.register(**fields())
    assert models.register(**fields(run="another-run")) == first
    assert len(list(models.oldest_first())) == 1


def test_the_images_that_a_model_takes_come_back(models: ModelStore) -> None:
    models.register(**fields(image_size=(9, 7), transposed=True))
    loaded = models.load(1)
    assert (loaded.image_size, loaded.transposed) == ((9, 7), True)


@pytest.mark.parametrize(
    "change", [{"training": "00" * 32}, {"data": {"test_inputs": "00" * 32}}, {"weights": None}]
)
def test_other_code_data_or_weights_are_another_version(
    models: ModelStore, change: dict[str, Any]
) -> None:
    models.register(**fields())
    if change == {"weights": None}:
        change = {"weights": Artifact("56" * 32, 10, "npz")}
    assert models.register(**{**fields(), **change}).version == 2


def test_an_unknown_version_is_refused_with_those_there_are(models: ModelStore) -> None:
    with pytest.raises(UnknownNameError, match="found 7; there are none yet"):
        models.load(7)
    models.register(**fields())
    with pytest.raises(UnknownNameError, match="found 7; there are 1"):
        models.promote(7, "by hand")


def test_promoting_and_going_back(models: ModelStore) -> None:
    for number in range(3):
        models.register(**fields(f"{number:064x}"))
    assert models.champion() is None
    with pytest.raises(UnknownNameError, match="found ''"):
        models.rollback()
    for version in (1, 2, 3):
        models.promote(version, "better")
    assert [move.version for move in models.moves()] == [1, 2, 3]
    assert models.rollback().version == 2
    assert models.rollback().version == 1
    with pytest.raises(UnknownNameError, match="no earlier champion"):
        models.rollback()
    champion = models.champion()
    assert champion is not None
    assert champion.version == 1
    assert [move.version for move in models.moves()] == [1, 2, 3, 2, 1]
    assert models.moves()[-1].why == "rolled back from version 2"


def test_a_decision_about_another_champion_moves_nothing(models: ModelStore) -> None:
    for number in range(3):
        models.register(**fields(f"{number:064x}"))
    models.promote(1, "first", judged_against=None)
    models.promote(2, "better", judged_against=1)
    for judged_against in (1, None):
        with pytest.raises(MovedMeanwhileError, match=f"version {judged_against}, found 2"):
            models.promote(3, "better than 1", judged_against=judged_against)
    assert [move.version for move in models.moves()] == [1, 2]


def test_no_verdict_is_noted_against_a_champion_that_has_been_moved(models: ModelStore) -> None:
    """A person would be asked about it, and would promote what nobody has compared."""
    three(models)
    said = {"by": "calm-owl", "details": {"until": "2100-01-01T00:00:00.000+00:00"}}
    for kind in ("held", "rejected"):
        with pytest.raises(MovedMeanwhileError, match="version 2, found 3"):
            models.verdict(kind, models.load(1), "why", "mnist", judged_against=2, **said)
    assert models.state().verdicts == []
    models.verdict("held", models.load(1), "why", "mnist", judged_against=3, **said)
    assert models.state().question(models.load(1)) is not None


def three(models: ModelStore) -> None:
    """Register three versions, and make each the champion in turn."""
    for number in range(3):
        models.register(**fields(f"{number:064x}"))
        models.promote(number + 1, "better")


def champion(models: ModelStore, model: str = "") -> int | None:
    found = models.champion(model)
    return None if found is None else found.version


@pytest.mark.parametrize(
    ("promoted", "expected"),
    [((), None), ((1,), None), ((1, 1), None), ((1, 2), 1), ((1, 2, 2), 1)],
)
def test_the_version_to_go_back_to(
    models: ModelStore, promoted: tuple[int, ...], expected: int | None
) -> None:
    for number in range(2):
        models.register(**fields(f"{number:064x}"))
    for version in promoted:
        models.promote(version, "by hand")
    if expected is None:
        with pytest.raises(UnknownNameError, match="no earlier champion|of none yet"):
            models.rollback()
    else:
        assert models.rollback().version == expected


class TestVerdictsOfPeople:
    def test_what_is_rolled_back_is_not_promoted_until_it_is_released(
        self, models: ModelStore
    ) -> None:
        three(models)
        models.rollback("blurred eights")
        with pytest.raises(LedgerError, match="version 3 is in quarantine.*blurred eights"):
            models.promote(3, "passed the gate", by="a night")
        with pytest.raises(LedgerError, match="digitflow models release 3"):
            models.promote(3, "by hand")
        assert models.release("v3") == "version 3"
        models.promote(3, "passed the gate", by="a night")
        assert champion(models) == 3

    def test_a_version_of_the_same_weights_is_in_quarantine_too(self, models: ModelStore) -> None:
        three(models)
        models.rollback()
        twin = models.register(**fields(f"{2:064x}", training="99" * 32))
        assert twin.version == 4
        with pytest.raises(LedgerError, match="in quarantine"):
            models.promote(4, "passed the gate", by="a night")
        models.release("4")
        models.promote(4, "by hand")
        models.promote(3, "by hand")

    def test_going_back_passes_over_what_is_in_quarantine(self, models: ModelStore) -> None:
        three(models)
        models.quarantine(2, "leaky")
        assert models.rollback().version == 1

    def test_the_champion_is_not_put_into_quarantine(self, models: ModelStore) -> None:
        three(models)
        with pytest.raises(LedgerError, match="models rollback"):
            models.quarantine(3, "leaky")

    def test_a_champion_on_hold_is_moved_by_nobody(self, models: ModelStore) -> None:
        three(models)
        assert models.hold("exam week") == "mnist"
        for move in (lambda: models.promote(1, "x"), models.rollback):
            with pytest.raises(LedgerError, match="on hold.*exam week.*models release mnist"):
                move()
        models.release("mnist")
        assert models.rollback().version == 2

    def test_who_did_it_and_why_is_on_record(self, models: ModelStore) -> None:
        three(models)
        models.rollback("blurred eights")
        entry = models.state().quarantine(models.load(3))
        assert entry is not None
        assert "@" in entry.by
        assert "blurred eights" in entry.reason

    def test_a_release_ends_no_hold_but_the_one_that_was_seen(
        self, models: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        three(models)
        models.hold("exam week")
        models.quarantine(1, "leaky")
        others = ModelStore(LocalBackend(tmp_path))
        append = models._append

        def release(what: str, meanwhile: Callable[[], object]) -> None:
            def late(*given: Any) -> None:
                meanwhile()
                append(*given)

            with monkeypatch.context() as patch:
                patch.setattr(models, "_append", late)
                models.release(what)

        with pytest.raises(MovedMeanwhileError, match="it has been released"):
            release("mnist", lambda: others.release("mnist"))
        models.hold("exam week")
        with pytest.raises(MovedMeanwhileError, match="exam week; it is now so .*: audit"):
            release("mnist", lambda: (others.release("mnist"), others.hold("audit")))
        with pytest.raises(MovedMeanwhileError, match="leaky; it has been released"):
            release("1", lambda: others.release("1"))
        assert [entry.kind for entry in others.ledger.read()].count("release") == 3

    def test_only_what_is_held_can_be_released(self, models: ModelStore) -> None:
        three(models)
        for what in ("3", "mnist"):
            with pytest.raises(UnknownNameError, match="not (on hold|in quarantine)"):
                models.release(what)


class TestNamedModels:
    def test_each_has_a_champion_of_its_own(self, models: ModelStore) -> None:
        models.register(**fields("01" * 32))
        models.register(**fields("02" * 32, dataset="Letters"))
        models.promote(1, "first")
        models.promote(2, "first")
        assert (champion(models, "mnist"), champion(models, "letters")) == (1, 2)
        with pytest.raises(UnknownNameError, match="several models.*letters, mnist"):
            models.champion()
        assert models.find("letters").version == 2

    def test_one_training_serves_several(self, models: ModelStore) -> None:
        models.register(**fields())
        assert models.register(model="kiosk", **fields()).version == 1
        models.promote(1, "first", "kiosk")
        assert (champion(models, "kiosk"), champion(models, "mnist")) == (1, None)

    @pytest.mark.parametrize("name", ["../x", "Kiosk", "", "a b"])
    def test_a_name_is_plain(self, models: ModelStore, name: str) -> None:
        models.register(**fields())
        if name:
            with pytest.raises(UnknownNameError, match="expected the name of a model"):
                models.promote(1, "first", name)

    def test_versions_are_found_by_number_handle_and_digest(self, models: ModelStore) -> None:
        model = models.register(**fields())
        for text in ("1", "v1", model.id, model.id[:8]):
            assert models.find(text) == model
        for text in ("2", "v2", "zz", "mnist"):
            with pytest.raises(UnknownNameError):
                models.find(text)


@pytest.mark.parametrize("which", ["weights", "predictions"])
@pytest.mark.parametrize("damage", ["lost", "flipped"])
def test_nothing_becomes_champion_without_its_weights_and_predictions(
    tmp_path: Path, which: str, damage: str
) -> None:
    store = Store(tmp_path)
    made = {}
    for name in ("weights", "predictions"):
        with store.objects.temporary() as file:
            file.write_bytes(name.encode())
            made[name] = Artifact(*store.objects.add(file), "npz")
    store.models.register(**{**fields(), **made})
    store.models.register(**{**fields(training="00" * 32), **made})
    path = store.objects.path(made[which].sha256)
    path.chmod(0o644)
    before = path.read_bytes()
    store.models.promote(1, "sound")
    store.models.promote(2, "sound")
    path.write_bytes(before[::-1]) if damage == "flipped" else path.unlink()
    for move in (lambda: store.models.promote(1, "x"), store.models.rollback):
        with pytest.raises((ObjectMissingError, ObjectDamagedError)):
            move()
    assert champion(store.models) == 2


def test_the_state_follows_from_the_entries_alone(models: ModelStore, tmp_path: Path) -> None:
    three(models)
    models.rollback("blurred")
    models.hold("exam week")
    fresh = ModelStore(LocalBackend(tmp_path))
    ours, theirs = models.state(), State.after(fresh.ledger.read())
    assert ours.versions == theirs.versions
    assert ours.standings == theirs.standings
    assert ours.quarantined == theirs.quarantined


def test_a_sweep_keeps_what_versions_refer_to(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.objects.temporary() as file:
        file.write_bytes(b"weights")
        sha256, size = store.objects.add(file)
    path = store.objects.path(sha256)
    old = path.stat().st_mtime - 10_000_000
    os.utime(path, (old, old))
    assert find_garbage(store, 0).count("object") == 1
    store.models.register(**fields(weights=sha256))
    assert find_garbage(store, 0).count("object") == 0


def test_a_champions_data_is_kept_and_no_other_versions(models: ModelStore) -> None:
    """A challenger is judged on the test images that the champion was promoted by."""
    models.register(**fields())
    models.register(**fields("34" * 32, data={"test_inputs": "56" * 32}))
    assert not {"ef" * 32, "56" * 32} & {*models.references()}
    models.promote(2, "by hand")
    assert "56" * 32 in {*models.references()}
    assert "ef" * 32 not in {*models.references()}


def test_the_version_of_a_rollback_is_kept_like_a_champion(models: ModelStore) -> None:
    """Once gone back to it, challengers are judged by its data, and it may have to be restored."""
    for number in (1, 2, 3, 4):
        data = {"test_inputs": f"{number:064d}"}
        models.register(**fields(f"{number:x}" * 64, data=data))
        models.promote(number, "by hand")

    def kept() -> set[int]:
        """The numbers of versions whose data are kept."""
        of_data = {f"{number:064d}": number for number in (1, 2, 3, 4)}
        return {of_data[each] for each in models.references() if each in of_data}

    def trainable() -> set[int]:
        return {each.version for each in models.reproducible()}

    assert kept() == trainable() == {4, 3}
    models.quarantine(3, "leaky data")
    assert kept() == {4, 2}
    assert trainable() == {4, 3, 2}
    models.rollback("blurred")
    assert champion(models) == 2
    assert kept() == {2, 1}
