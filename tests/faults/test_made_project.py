"""The harness pointed at what `digitflow new` makes: killed and damaged, it comes to the same."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest

from digitflow.flows.cli.app import main
from digitflow.storage.store import Store
from digitflow.tasks.engine.call import Context, compute, using
from tests.faults.corrupting import DAMAGES, objects, records
from tests.faults.killing import DyingAt
from tests.faults.processes import finish, from_function
from tests.faults.soundness import check_free, check_sound, outcomes

pytest.importorskip("sklearn", reason="scikit-learn is not installed: make install")

NAME = "mills"


@dataclass(frozen=True)
class Night:
    """A night of the project, gate and all, without a server; called with a store and a log."""

    folder: Path

    def __call__(self, store: Path, _log: Path) -> None:
        """Run it in this process."""
        os.chdir(self.folder)
        if str(self.folder) not in sys.path:
            sys.path.insert(0, str(self.folder))
        flow = import_module(f"{NAME}.flow")
        with using(Context(Store(store), "night", compute)):
            getattr(flow, NAME).fn()


@dataclass(frozen=True)
class Undisturbed:
    """A night that nothing happened to, and where it left everything."""

    night: Night
    store: Path


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("made")
    assert main(["new", NAME, "--in", str(folder)]) == 0
    night = Night(folder / NAME)
    finish(from_function(night), folder / "store", folder / "log")
    assert {stage for stage, _ in outcomes(folder / "store")} == {
        *("read", "split", "train", "evaluate")
    }
    return Undisturbed(night, folder / "store")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave this process as it was before a night ran in it."""
    monkeypatch.chdir(Path.cwd())
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    for name in [*sys.modules]:
        if name.partition(".")[0] == NAME:
            del sys.modules[name]


def is_as_undisturbed(store: Path, undisturbed: Undisturbed) -> None:
    assert outcomes(store) == outcomes(undisturbed.store)
    check_sound(store)
    check_free(store)
    models = Store(store).models
    champion = models.champion(NAME)
    assert champion is not None
    assert champion.version == 1
    assert champion.id == Store(undisturbed.store).models.load(1).id
    # However often it was judged, it was promoted once.
    assert len(models.moves(NAME)) == 1


@pytest.mark.parametrize("change", [4, 30, 55, 80])
def test_killed_before_a_file_is_changed(
    undisturbed: Undisturbed, tmp_path: Path, change: int
) -> None:
    store, log = tmp_path / "store", tmp_path / "log"
    attempt = from_function(DyingAt(undisturbed.night, change))(store, log)
    assert attempt.wait() == -9, attempt.output()
    check_sound(store)
    check_free(store)
    finish(from_function(undisturbed.night), store, log)
    is_as_undisturbed(store, undisturbed)


@pytest.mark.usefixtures("here")
def test_whatever_is_damaged_is_made_again(undisturbed: Undisturbed, tmp_path: Path) -> None:
    files = [
        path.relative_to(undisturbed.store)
        for path in (*objects(undisturbed.store), *records(undisturbed.store))
    ]
    assert len(files) == 5 + 4
    for number, file in enumerate(files):
        store = tmp_path / f"store-{number}"
        shutil.copytree(undisturbed.store, store)
        [*DAMAGES.values()][number % len(DAMAGES)](store / file)
        undisturbed.night(store, tmp_path / "log")
        is_as_undisturbed(store, undisturbed)
