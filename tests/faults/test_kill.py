"""`kill -9` at any moment: the next run completes, and comes to what an undisturbed one does."""

import random
import signal
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from digitflow.flows.selection import Selection
from tests.faults.conftest import Undisturbed
from tests.faults.killing import DyingAt, die_beyond, kill_at_random
from tests.faults.processes import finish, from_function
from tests.faults.soundness import check_free, check_sound, check_tidy, outcomes
from tests.walk import LABELS


@pytest.mark.parametrize(("seed", "kills"), [(1, 12), pytest.param(2, 150, marks=pytest.mark.slow)])
def test_killed_at_random_moments(
    undisturbed: Undisturbed, tmp_path: Path, seed: int, kills: int
) -> None:
    rng = random.Random(seed)
    hit: Counter[str] = Counter()
    number = 0
    while hit.total() < kills:
        number += 1
        store, log = tmp_path / f"store-{number}", tmp_path / f"log-{number}"
        # Several kills of one run after another, so that runs also start from what others left.
        for _ in range(rng.randint(1, 4)):
            kill = kill_at_random(
                undisturbed.job, store, log, rng, seconds=1.2, labels=list(LABELS)
            )
            if kill.came_late:
                break
            hit[kill.stage.split("-")[0]] += 1
            check_free(store)
            check_sound(store)
        finish(undisturbed.job, store, log)
        assert outcomes(store) == undisturbed.outcomes
        check_free(store)
        check_sound(store)
        check_tidy(store)
    print(f"{hit.total()} kills: {dict(hit)}, and {number} runs completed")
    assert len(hit) >= (6 if kills > 100 else 3)  # stages


@pytest.mark.parametrize(
    "changes", [range(3, 280, 23), pytest.param(range(400), marks=pytest.mark.slow)]
)
def test_killed_before_a_file_is_changed(
    undisturbed: Undisturbed, tmp_path: Path, changes: range
) -> None:
    # Figures take nine tenths of the time, and no other way to the disk than the rest.
    short = replace(undisturbed.walk, selection=Selection(until="evaluate"))
    expected = {key: each for key, each in undisturbed.outcomes.items() if key[0] != "plot"}
    died = 0
    for change in changes:
        store, log = tmp_path / f"store-{change}", tmp_path / f"log-{change}"
        attempt = from_function(DyingAt(short, change))(store, log)
        code = attempt.wait()
        if code == 0:
            break  # there are no more changes than that
        assert code == -9, attempt.output()
        died += 1
        check_free(store)
        check_sound(store)
        finish(from_function(short), store, log)
        assert outcomes(store) == expected
        check_free(store)
        check_tidy(store)
    print(f"killed before {died} changes of files")
    assert died > 10


@pytest.mark.parametrize("size", [0, 100, 2000, 2600, 3000, 9000, 15000])
def test_killed_in_the_middle_of_a_write(
    undisturbed: Undisturbed, tmp_path: Path, size: int
) -> None:
    """What has its final name is whole, whichever file was being written."""
    store, log = tmp_path / "store", tmp_path / "log"
    log.symlink_to("/dev/null")  # which never grows
    short = replace(undisturbed.walk, selection=Selection(until="evaluate"))
    attempt = from_function(short, before=partial(die_beyond, size))(store, log)
    assert attempt.wait() == -signal.SIGXFSZ, attempt.output()
    check_free(store)
    check_sound(store)
    finish(from_function(short), store, tmp_path / "log-again")
    assert outcomes(store) == {
        key: each for key, each in undisturbed.outcomes.items() if key[0] != "plot"
    }
    check_tidy(store)
