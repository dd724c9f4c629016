"""What wall time a fair scheduler gives."""

import pytest

from benchmarks.busy import ideal_seconds, runnable


def test_an_idle_machine_gives_a_whole_core():
    assert ideal_seconds(4.0, [1, 2, 1], cores=2) == 4.0


def test_a_busy_one_gives_each_process_the_same():
    assert ideal_seconds(4.0, [3, 3], cores=2) == 6.0
    # Busy for half of the time: an idle half does not make up for it.
    assert ideal_seconds(4.0, [1, 4], cores=2) == 6.0


def test_who_counts_is_not_counted():
    assert runnable("cpu 1 2 3\nprocs_running 4\nprocs_blocked 9\n") == 3


def test_another_system_is_refused():
    with pytest.raises(ValueError, match="needs Linux"):
        runnable("")
