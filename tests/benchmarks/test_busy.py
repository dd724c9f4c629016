"""What wall time a fair scheduler gives."""

import os

from benchmarks.busy import ideal_seconds, states, wanting


def test_an_idle_machine_gives_a_whole_core():
    assert ideal_seconds(4.0, [1, 2, 1], cores=2) == 4.0


def test_a_busy_one_gives_each_process_the_same():
    assert ideal_seconds(4.0, [3, 3], cores=2) == 6.0
    # Busy for half of the time: an idle half does not make up for it.
    assert ideal_seconds(4.0, [1, 4], cores=2) == 6.0


def test_who_wants_a_core():
    said = [
        "1 (init) S 0 1 1 0",
        "7 (a) R (b) R 1 7 7 0",
        "8 (python) R 7 7 7 0",
        "9 (R) D 1 9 9 0",
        "10 (python) R 1 10 10 0",
    ]
    assert wanting(said, by_session=False) == 3
    assert wanting(said, by_session=True) == 2


def test_this_process_is_not_among_the_others():
    found = [state.split()[0] for state in states()]
    assert str(os.getppid()) in found
    assert str(os.getpid()) not in found
