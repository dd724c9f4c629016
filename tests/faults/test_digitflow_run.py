"""The faults that matter most once more, with `digitflow run` itself and its Prefect server."""

import random
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from digitflow.tasks.data.datasets.sources import Dataset
from tests import walk
from tests.environment import CLEAN, OFFLINE
from tests.faults.conftest import Undisturbed
from tests.faults.http_mirror import Mirror, serving
from tests.faults.killing import kill_after
from tests.faults.processes import Attempt, Job, from_command
from tests.faults.small_disk import mounted
from tests.faults.soundness import check_free, check_sound, outcomes
from tests.patience import wait_for

pytestmark = pytest.mark.prefect


@pytest.fixture
def environment(tmp_path: Path) -> Mapping[str, str]:
    """A home of its own, no network, and a screen on which no line is broken."""
    return {**CLEAN, **OFFLINE, "HOME": str(tmp_path / "home"), "COLUMNS": "400"}


def digitflow_run(
    folder: Path,
    environment: Mapping[str, str],
    dataset: Dataset,
    undisturbed: Undisturbed,
    mirror: Mirror | None = None,
) -> Job:
    """The undisturbed walk as a command."""
    settings = {**walk.TINY, **undisturbed.walk.changes}
    command = [sys.executable, "-m", "digitflow", "run", "--dataset", dataset.mirrors[0]]
    command += ["--mirror", mirror.url] if mirror is not None else []
    command += ["--set", *(f"{name}={value}" for name, value in settings.items())]
    folder.mkdir(exist_ok=True)
    return from_command(command, folder=folder, environment=environment)


def processes_of(store: Path) -> list[int]:
    """The processes that were started with this store, a server for a run among them."""
    mark = f"DIGITFLOW_STORE={store}".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if mark in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found


@pytest.mark.slow
def test_killed(
    tmp_path: Path, environment: Mapping[str, str], dataset: Dataset, undisturbed: Undisturbed
) -> None:
    rng = random.Random(5)
    store, log = tmp_path / "store", tmp_path / "log"
    job = digitflow_run(tmp_path / "folder", environment, dataset, undisturbed)
    for _ in range(4):
        attempt = job(store, log)
        # Its stages begin some seconds after it does.
        wait_for(lambda a=attempt: "download" in a.output() or not a.running, "its first stage")
        kill_after(attempt, log, rng.uniform(0, 3))
        check_free(store)
        check_sound(store)
        wait_for(lambda: not processes_of(store), "the end of the run's server")
    attempt = job(store, log)
    assert attempt.wait() == 0, attempt.output()
    assert outcomes(store) == undisturbed.outcomes
    check_free(store)
    check_sound(store)


@pytest.mark.slow
def test_four_at_once_on_an_empty_store(
    tmp_path: Path, environment: Mapping[str, str], dataset: Dataset, undisturbed: Undisturbed
) -> None:
    store, log = tmp_path / "store", tmp_path / "log"
    attempts: list[Attempt] = []

    def somebody_waits() -> bool:
        return any("waits" in attempt.output() for attempt in attempts)

    with serving(Path(dataset.mirrors[0]), until=somebody_waits) as mirror:
        job = digitflow_run(tmp_path / "folder", environment, dataset, undisturbed, mirror)
        attempts += [job(store, log) for _ in range(4)]
        codes = [attempt.wait() for attempt in attempts]
    said = [attempt.output() for attempt in attempts]
    assert codes == [0] * 4, "\n\n".join(said)
    assert all(count == 1 for count in mirror.at_once.values())
    assert mirror.asked == {file.name: 1 for file in dataset.files}
    ran = [
        label
        for text in said
        for label in re.findall(r"^ +ran +\d+\.\d s +(\S+)", text, flags=re.MULTILINE)
    ]
    assert sorted(ran) == sorted(walk.LABELS)
    assert outcomes(store) == undisturbed.outcomes
    check_free(store)
    check_sound(store)


@pytest.mark.slow
def test_a_full_disk(
    tmp_path: Path, environment: Mapping[str, str], dataset: Dataset, undisturbed: Undisturbed
) -> None:
    with mounted(tmp_path / "disk", 128 * 1024) as disk:
        store, log = disk.folder / "store", tmp_path / "log"
        job = digitflow_run(tmp_path / "folder", environment, dataset, undisturbed)
        attempt = job(store, log)
        assert attempt.wait() == 1
        said = attempt.output()
        assert "error: no room for " in said
        assert str(store) in said
        assert re.search(r"[\d,]+ bytes are needed and [\d,]+ are free|more is needed than", said)
        assert "Traceback" not in said
        assert "--verbose" not in said
        check_sound(store)
        disk.resize(64 * 1024 * 1024)
        attempt = job(store, log)
        assert attempt.wait() == 0, attempt.output()
        assert outcomes(store) == undisturbed.outcomes
        check_sound(store)
