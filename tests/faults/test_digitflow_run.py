"""The faults that matter most once more, with `digitflow run` itself and its Prefect server."""

import os
import random
import re
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from tasks.data.sources import Dataset
from tests import walk
from tests.faults.conftest import Undisturbed
from tests.faults.http_mirror import Mirror, serving
from tests.faults.processes import Job, from_command
from tests.faults.small_disk import mounted
from tests.faults.soundness import check_free, check_sound, outcomes
from tests.mnist import ROOT

pytestmark = pytest.mark.prefect

SECONDS = 300


@pytest.fixture
def environment(tmp_path: Path) -> Mapping[str, str]:
    """Nothing in it leads to the user's own server, store or network."""
    own = ("PREFECT_", "DIGITFLOW_")
    kept = {name: text for name, text in os.environ.items() if not name.startswith(own)}
    nowhere = "http://127.0.0.1:9"  # nobody listens on the discard port
    return {
        **kept,
        "HOME": str(tmp_path / "home"),
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PYTHONPATH": str(ROOT),
        "OPENBLAS_NUM_THREADS": "1",
        "COLUMNS": "400",
        "http_proxy": nowhere,
        "https_proxy": nowhere,
        "no_proxy": "127.0.0.1,localhost",
    }


def digitflow_run(
    folder: Path,
    environment: Mapping[str, str],
    dataset: Dataset,
    undisturbed: Undisturbed,
    mirror: Mirror | None = None,
) -> Job:
    """The undisturbed walk as a command."""
    settings = {**walk.TINY, **undisturbed.walk.changes}
    command = [sys.executable, "-m", "flows", "run", "--dataset", dataset.mirrors[0]]
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
        while attempt.running and "download" not in attempt.output():
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 3))
        attempt.kill()
        check_free(store)
        check_sound(store)
        deadline = time.monotonic() + 30
        while processes_of(store):
            assert time.monotonic() < deadline, "the server outlives its run"
            time.sleep(0.1)
    attempt = job(store, log)
    assert attempt.wait(SECONDS) == 0, attempt.output()
    assert outcomes(store) == undisturbed.outcomes
    check_free(store)
    check_sound(store)


@pytest.mark.slow
def test_four_at_once_on_an_empty_store(
    tmp_path: Path, environment: Mapping[str, str], dataset: Dataset, undisturbed: Undisturbed
) -> None:
    store, log = tmp_path / "store", tmp_path / "log"
    with serving(Path(dataset.mirrors[0]), seconds=0.5) as mirror:
        job = digitflow_run(tmp_path / "folder", environment, dataset, undisturbed, mirror)
        attempts = [job(store, log) for _ in range(4)]
        codes = [attempt.wait(SECONDS) for attempt in attempts]
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
        assert attempt.wait(SECONDS) == 1
        said = attempt.output()
        assert "error: no room for " in said
        assert str(store) in said
        assert re.search(r"[\d,]+ bytes are needed and [\d,]+ are free|more is needed than", said)
        assert "Traceback" not in said
        assert "--verbose" not in said
        check_sound(store)
        disk.resize(64 * 1024 * 1024)
        attempt = job(store, log)
        assert attempt.wait(SECONDS) == 0, attempt.output()
        assert outcomes(store) == undisturbed.outcomes
        check_sound(store)
