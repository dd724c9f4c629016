"""A sweep beside runs: nothing that a run needs is ever deleted."""

import io
import itertools
import os
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from filelock import FileLock

from digitflow import storage
from digitflow.flows.cli.app import main
from digitflow.flows.selection import Selection
from digitflow.storage.keys import StageKey
from digitflow.storage.store import Store
from digitflow.storage.upkeep.gc import find_garbage, sweep
from digitflow.storage.upkeep.quarantine import remove_unless
from digitflow.storage.upkeep.verify import find_damage, repair
from tests.faults.conftest import Undisturbed
from tests.faults.corrupting import flip
from tests.faults.killing import kill_when
from tests.faults.logged_walk import LoggedWalk, events
from tests.faults.processes import from_function
from tests.faults.soundness import check_free, check_sound, make_old, outcomes
from tests.patience import PATIENCE, wait_for

# A file's time is that of the system's last tick, some milliseconds ago. What the minute of
# grace covers in earnest must not be left to chance where it is switched off.
TICK = 0.5


@dataclass(frozen=True)
class Runs:
    """Walks again and again with changing parameters, and checks what comes out.

    It ends once it has done so often enough, and a sweep has deleted something meanwhile.

    Attributes
    ----------
    walks
        To choose from.
    expected
        Digests of all outputs of each.
    count
        How many at least.
    seed
        Of the choice.
    sweeps
        What sweeps have said.
    """

    walks: tuple[LoggedWalk, ...]
    expected: tuple[Mapping[str, str], ...]
    count: int
    seed: int
    sweeps: tuple[Path, ...]

    def __call__(self, store: Path, log: Path) -> None:
        rng = random.Random(self.seed)
        for number in itertools.count():
            if number >= self.count and deletions(self.sweeps):
                break
            # Now and then nobody runs, and everything can go.
            time.sleep(rng.expovariate(5))
            which = rng.randrange(len(self.walks))
            refresh = rng.choice([(), (), ("decode",), ("train",), ("evaluate",)])
            selection = Selection(refresh=refresh, until="evaluate")
            name = f"run-{self.seed}-{number}"
            walk = replace(self.walks[which], selection=selection, name=name)
            assert walk(store, log).digests() == self.expected[which]


def deletions(sweeps: Iterable[Path]) -> list[str]:
    """What those sweeps said that deleted something."""
    lines = [line for path in sweeps if path.exists() for line in path.read_text().splitlines()]
    return [line for line in lines if line.startswith("deleted")]


@dataclass(frozen=True)
class Sweeps:
    """Sweeps without a pause, and without the minute of grace, until a file appears."""

    stop: Path

    def __call__(self, store: Path, log: Path) -> None:
        storage.upkeep.places._GRACE_SECONDS = TICK
        os.environ["DIGITFLOW_STORE"] = str(store)
        while not self.stop.exists():
            said = io.StringIO()
            with redirect_stdout(said):
                assert main(["gc", "--keep-days", "0", "--apply"]) == 0
            with log.open("a") as file:
                file.write(said.getvalue().splitlines()[-1] + "\n")


@pytest.mark.parametrize(
    ("runners", "count"), [(3, 5), pytest.param(4, 60, marks=pytest.mark.slow)]
)
def test_every_run_beside_a_sweep_succeeds(
    undisturbed: Undisturbed, tmp_path: Path, runners: int, count: int
) -> None:
    store, log, stop = tmp_path / "store", tmp_path / "log", tmp_path / "stop"
    walks = tuple(
        replace(undisturbed.walk, changes={"epochs": epochs, "learning_rate": rate})
        for epochs, rate in ((2, 0.005), (2, 0.01), (3, 0.005))
    )
    until = Selection(until="evaluate")
    expected = tuple(
        replace(walk, selection=until)(tmp_path / "alone", tmp_path / "alone.log").digests()
        for walk in walks
    )
    sweeps = tuple(tmp_path / f"sweeps-{number}" for number in range(2))
    sweepers = [from_function(Sweeps(stop))(store, said) for said in sweeps]
    attempts = [
        from_function(Runs(walks, expected, count, seed, sweeps))(store, log)
        for seed in range(runners)
    ]
    codes = [attempt.wait() for attempt in attempts]
    said = [attempt.output() for attempt in attempts]
    stop.touch()
    assert [sweeper.wait() for sweeper in sweepers] == [0, 0], sweepers[0].output()
    assert codes == [0] * runners, "\n".join(said)

    begun = events(log, "StageStarted")
    served = [each for each in events(log, "StageFinished") if each["cached"]]
    print(
        f"{len(begun)} stages ran, {len(served)} were served, "
        f"{len(deletions(sweeps))} sweeps deleted something"
    )
    check_free(store)
    check_sound(store)
    make_old(store)
    sweep(Store(store), keep_days=0)
    check_sound(store)
    assert not outcomes(store)


@pytest.fixture
def filled(undisturbed: Undisturbed, tmp_path: Path) -> Store:
    """A store that was filled two hours ago, and that no run is using."""
    shutil.copytree(undisturbed.store, tmp_path / "store")
    make_old(tmp_path / "store")
    return Store(tmp_path / "store")


@contextmanager
def next_step_noticed() -> Iterator[threading.Event]:
    """Give an event that is set once anybody wants to take a sweep's step, and may have to wait."""
    wanted, plain = threading.Event(), storage.upkeep.quarantine._step

    @contextmanager
    def step(root: Path) -> Iterator[None]:
        wanted.set()
        with plain(root):
            yield

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage.upkeep.quarantine, "_step", step)
        yield wanted


@contextmanager
def waiting_in_a_step(cache: Store, path: Path, *, needed: bool) -> Iterator[None]:
    """Hold a sweep between its two steps: `path` lies aside until somebody waits for it."""
    aside, go_on = threading.Event(), threading.Event()

    def look(_: Path) -> bool:
        wanted.clear()  # it was the sweep itself
        aside.set()
        wait_for(lambda: wanted.is_set() or go_on.is_set(), "somebody who waits for the step")
        return needed

    thread = threading.Thread(target=remove_unless, args=(cache.root, path, look))
    with next_step_noticed() as wanted:
        thread.start()
        assert aside.wait(PATIENCE)
        try:
            yield
            assert wanted.is_set()
        finally:
            go_on.set()
            thread.join()


def test_a_reader_waits_for_a_sweep_that_looks_at_its_object(filled: Store) -> None:
    sha256 = next(iter(filled.objects))
    path = filled.objects.path(sha256)
    with waiting_in_a_step(filled, path, needed=True):
        assert not path.exists()
        assert filled.objects.verify(sha256) == path


def test_who_serves_an_object_waits_too(filled: Store) -> None:
    sha256 = next(iter(filled.objects))
    with waiting_in_a_step(filled, filled.objects.path(sha256), needed=True):
        filled.objects.mark_used(sha256)


def test_what_a_sweep_does_not_put_back_is_missing(filled: Store) -> None:
    sha256 = next(iter(filled.objects))
    with waiting_in_a_step(filled, filled.objects.path(sha256), needed=False):
        assert not filled.objects.holds(sha256)


def test_what_a_killed_sweep_left_aside_is_put_back(filled: Store) -> None:
    sha256 = next(iter(filled.objects))
    path = filled.objects.path(sha256)
    aside = filled.root / "aside" / path.relative_to(filled.root)
    aside.parent.mkdir(parents=True)
    path.rename(aside)
    assert filled.objects.verify(sha256) == path
    path.rename(aside)
    assert sweep(filled, keep_days=30).items == []
    check_sound(filled.root)


def test_what_a_run_was_served_stays_whatever_becomes_of_the_record(
    filled: Store, undisturbed: Undisturbed
) -> None:
    """Another sweep may hold the record aside just as this one looks for references."""
    with filled.in_use():
        done = replace(undisturbed.walk, name="again")(filled.root, filled.root / "log")
        assert not done.ran
        for path in filled.records.root.glob("*/*.json"):
            path.unlink()
        for path in filled.runs.root.glob("*.json"):
            path.unlink()
        sweep(filled, keep_days=0)
        for result in done.results.values():
            for artifact in result.outputs.values():
                filled.read(artifact)


def test_what_is_used_while_a_sweep_goes_on_stays(
    filled: Store, undisturbed: Undisturbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run begins to use everything just after the sweep has found it old."""
    plain = storage.upkeep.places.remove_unless
    served = []

    def late(root: Path, path: Path, needed: Callable[[Path], bool]) -> bool:
        if not served:
            served.append(replace(undisturbed.walk, name="again")(filled.root, filled.root / "log"))
        return plain(root, path, needed)

    monkeypatch.setattr(storage.upkeep.places, "remove_unless", late)
    monkeypatch.setattr(storage.upkeep.places, "_GRACE_SECONDS", TICK)
    with filled.in_use():
        assert sweep(filled, keep_days=0).count("record") == 0
    assert served[0].ran == []
    assert outcomes(filled.root) == undisturbed.outcomes
    check_sound(filled.root)


def test_a_scratch_folder_in_use_stays(filled: Store) -> None:
    """What is left of a killed attempt is old, and may be in use again."""
    key = StageKey("train", {}, {}, {})
    scratch = filled.root / "scratch" / key.digest()
    scratch.mkdir(parents=True)
    (scratch / "part").write_text("half a file")
    make_old(filled.root)

    def compute(folder: Path) -> dict[str, object]:
        sweep(filled, keep_days=0)
        assert (folder / "part").read_text() == "half a file"
        return {"value": {"answer": 42}}

    filled.cache.obtain(key, "train", compute, {"value": "json"}, run="run")
    assert not scratch.exists()


def test_a_scratch_folder_that_nobody_uses_goes(filled: Store) -> None:
    scratch = filled.root / "scratch" / StageKey("train", {}, {}, {}).digest()
    scratch.mkdir(parents=True)
    make_old(filled.root)
    assert sweep(filled, keep_days=30).count("scratch") == 1
    assert not scratch.exists()


def test_a_file_that_an_earlier_attempt_left_counts_as_new(filled: Store) -> None:
    key = StageKey("download", {}, {}, {})

    def compute(folder: Path) -> dict[str, Path]:
        (folder / "file").write_text("finished long ago, and never committed")
        make_old(folder)
        return {"archive": folder / "file"}

    outcome = filled.cache.obtain(key, "download", compute, {"archive": "file"}, run="run")
    path = filled.objects.path(outcome.record.outputs["archive"].sha256)
    assert path.stat().st_mtime > time.time() - 3600  # and not two hours ago


def test_a_run_in_progress_counts_from_its_start(filled: Store) -> None:
    """Some versions of filelock renew the time of a lock's file whenever somebody tries it."""
    before = time.time()
    with filled.in_use():
        after = time.time()
        (lock,) = (filled.root / "live").iterdir()
        os.utime(lock, (before + 3600, before + 3600))
        start = storage.upkeep.places.oldest_start(filled.root / "live")
    assert start is not None
    assert before <= start <= after


def test_a_killed_run_counts_no_more(filled: Store, undisturbed: Undisturbed) -> None:
    attempt = undisturbed.job(filled.root / "other", filled.root / "log-of-other")
    kill_when(
        attempt,
        filled.root / "log-of-other",
        lambda: any((filled.root / "other").glob("live/*.lock")),
    )
    assert storage.upkeep.places.oldest_start(filled.root / "other" / "live") is None
    assert not list((filled.root / "other").glob("live/*.lock"))


def test_repair_leaves_alone_what_a_run_has_healed(filled: Store, undisturbed: Undisturbed) -> None:
    sha256 = next(iter(filled.objects))
    flip(filled.objects.path(sha256))
    report = find_damage(filled)
    assert len(report.damaged) == 1
    undisturbed.walk(filled.root, filled.root / "log")
    repair(filled, report)
    assert filled.objects.holds(sha256)
    check_sound(filled.root)


def test_saying_what_can_go_changes_nothing(filled: Store) -> None:
    before = {path: path.lstat().st_mtime_ns for path in filled.root.rglob("*")}
    assert find_garbage(filled, keep_days=0).items
    after = {path: path.lstat().st_mtime_ns for path in filled.root.rglob("*")}
    assert after == before


def test_two_sweeps_at_once_take_turns(filled: Store) -> None:
    sha256 = next(iter(filled.objects))
    thread = threading.Thread(
        target=remove_unless, args=(filled.root, filled.objects.path(sha256), lambda aside: False)
    )
    with FileLock(filled.root / "locks" / "aside.lock"), next_step_noticed() as wanted:
        thread.start()
        wait_for(lambda: wanted.is_set() or not thread.is_alive(), "the second sweep")
        assert filled.objects.path(sha256).exists()
    thread.join()
    assert not filled.objects.path(sha256).exists()
