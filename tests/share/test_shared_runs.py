"""A run's record on a shared store, or its copy there, damaged: the next command heals it."""

from collections.abc import Callable, Mapping

import pytest

from digitflow.storage.backends.base import Backend
from digitflow.storage.history.runs import RUNS
from digitflow.storage.upkeep.verify import find_damage, repair
from tests.finished_runs import a_run
from tests.share.conftest import Machine, remote_of


def _flipped(there: Backend, file: str) -> None:
    data = bytearray(there.read(file))
    data[len(data) // 2] ^= 1
    there.write(file, bytes(data))


SHARED_DAMAGES: Mapping[str, Callable[[Backend, str], None]] = {
    "flipped": _flipped,
    "truncated": lambda there, file: there.write(file, there.read(file)[:20]),
    "emptied": lambda there, file: there.write(file, b""),
    "deleted": lambda there, file: there.delete(file),
    "grown": lambda there, file: there.write(file, b" " * (17 * 2**20)),
}


@pytest.mark.parametrize("which", ["the run", "its copy"])
@pytest.mark.parametrize("damage", SHARED_DAMAGES)
def test_a_run_on_a_shared_store_is_healed(any_machine: Machine, damage: str, which: str) -> None:
    first = any_machine("first")
    first.runs.save(a_run("calm-owl"))
    there = remote_of(first)
    file = RUNS.file("calm-owl") if which == "the run" else RUNS.copy("calm-owl")
    sound = there.read(file)
    SHARED_DAMAGES[damage](there, file)

    second = any_machine("second")
    assert [run.name for run in second.runs.newest_first()] == ["calm-owl"]
    assert any_machine("third").runs.load("calm-owl") == a_run("calm-owl")
    if which == "its copy":
        repair(second, find_damage(second, shared=True), shared=True)
    assert there.read(file) == sound
    assert find_damage(any_machine("fourth"), shared=True).damaged == []
