"""An input that proves damaged when it is opened is made again by its stage, inside the run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from digitflow.storage.errors import ObjectDamagedError, ObjectMissingError
from digitflow.storage.formats.artifacts import Artifact
from digitflow.storage.store import Store
from digitflow.storage.upkeep.verify import find_damage
from digitflow.tasks.engine.call import Context, Handle, compute, using
from digitflow.tasks.engine.events import Event, StageNoted, observing
from digitflow.tasks.engine.stage import stage
from tests.faults.corrupting import empty, flip, replace_by_folder, truncate

DAMAGES: dict[str, Callable[[Path], None]] = {
    "flipped": flip,
    "truncated": truncate,
    "emptied": empty,
    "deleted": Path.unlink,
    "a folder": replace_by_folder,
}
ran: list[str] = []
drawn: list[int] = []


@stage(outputs={"numbers": "npy"})
def first_numbers(*, upto: int) -> dict[str, Any]:
    ran.append("numbers")
    return {"numbers": np.arange(upto)}


@stage(outputs={"squares": "npy"})
def squared(numbers: Any) -> dict[str, Any]:
    ran.append("squares")
    return {"squares": numbers**2}


@stage(outputs={"total": "json"})
def summed(several: Any, *, factor: int = 1) -> dict[str, Any]:
    ran.append("total")
    return {"total": factor * int(sum(each.sum() for each in several))}


@stage(outputs={"number": "json"})
def never_the_same(*, start: int) -> dict[str, Any]:
    drawn.append(start)
    return {"number": len(drawn)}


@stage(outputs={"number": "json"})
def handed_on(number: int) -> dict[str, Any]:
    return {"number": number}


@pytest.fixture(autouse=True)
def forget() -> None:
    ran.clear()


def wired(between: Callable[[Handle, Handle], None]) -> dict[str, int]:
    """Three stages, and something that happens just before the last one opens its inputs."""
    numbers = first_numbers.submit(upto=4)
    squares = squared.submit(numbers["numbers"])
    squares.result()
    between(numbers, squares)
    total = summed.submit((numbers["numbers"], squares["squares"]))
    return {"total": total.result().read("total")}


def artifact(handle: Handle) -> Artifact:
    return next(iter(handle.result().outputs.values()))


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_input_that_is_damaged_after_it_was_served(tmp_path: Path, damage: str) -> None:
    store = Store(tmp_path / "store")
    seen: list[Event] = []

    def harm(numbers: Handle, squares: Handle) -> None:
        DAMAGES[damage](store.objects.path(artifact(squares).sha256))

    with observing(seen.append), using(Context(store, "script", compute)):
        assert wired(harm) == {"total": 6 + 14}
    assert ran == ["numbers", "squares", "squares", "total"]
    (said,) = (each for each in seen if isinstance(each, StageNoted))
    assert said.label == "summed"
    assert "object " in said.text
    assert "squared makes it again" in said.text
    assert find_damage(store).damaged == []


def test_an_input_and_what_it_is_made_of(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")

    def harm(numbers: Handle, squares: Handle) -> None:
        for handle in (numbers, squares):
            flip(store.objects.path(artifact(handle).sha256))

    with using(Context(store, "script", compute)):
        assert wired(harm) == {"total": 20}
    assert ran == ["numbers", "squares", "numbers", "squares", "total"]
    assert find_damage(store).damaged == []


def test_a_result_that_is_read(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    with using(Context(store, "script", compute)):
        numbers = first_numbers.submit(upto=4)
        store.objects.path(artifact(numbers).sha256).unlink()
        assert numbers.result().read("numbers").tolist() == [0, 1, 2, 3]
    assert ran == ["numbers", "numbers"]


def test_a_stage_that_makes_other_bytes_fails_the_run_once(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")

    def run(harm: bool) -> int:
        with using(Context(store, "script", compute)):
            number = never_the_same.submit(start=1)
            number.result()
            if harm:
                flip(store.objects.path(artifact(number).sha256))
            found: int = handed_on.submit(number["number"]).result().read("number")
            return found

    with pytest.raises(ObjectDamagedError, match="ran again and made other bytes. Run once more"):
        run(harm=True)
    assert run(harm=False) == 2


def test_without_a_stage_that_made_it_damage_is_an_error(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    with pytest.raises(ObjectMissingError):
        handed_on.run(store, "x", {"number": Artifact("ab" * 32, 2, "json")}, {}, run="run")
