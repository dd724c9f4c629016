"""A shared store is read whole on request, and repaired from what this machine has."""

from digitflow.storage.cache import Cache
from digitflow.storage.remote.objects import object_name
from digitflow.storage.remote.records import record_name
from digitflow.storage.remote.store import SharedStore
from digitflow.storage.remote.verify import find_shared_damage, repair_shared
from digitflow.storage.runs import RunRecord
from digitflow.storage.verify import find_damage
from tests.share.conftest import Machine
from tests.share.work import key, squares

RUN = RunRecord("ok", "2026-01-01T00:00:00.000+00:00", 1.0, "p", "d", {}, (), {}, None)
RECORD = record_name("squares", key(10).digest())


def shared(cache: Cache) -> SharedStore:
    assert cache.shared is not None
    return cache.shared


def test_a_sound_store(any_machine: Machine) -> None:
    first = any_machine("first")
    outcome, _ = squares(first)
    first.runs.save(RUN)
    report = find_shared_damage(shared(any_machine("second")))
    assert (report.objects, report.records, report.damaged) == (2, 2, [])
    assert report.size == sum(each.size for each in outcome.record.outputs.values())
    # Nothing of that stays on the machine that looked.
    assert list(any_machine("second").objects) == []


def test_damage_is_found_and_healed_from_here(any_machine: Machine) -> None:
    first = any_machine("first")
    outcome, _ = squares(first)
    first.runs.save(RUN)
    remote = shared(first).remote
    one, other = (object_name(each.sha256) for each in outcome.record.outputs.values())
    remote.write(b"x", one)
    remote.delete(other)
    remote.write(b"{}", "runs/ok.json")
    report = find_shared_damage(shared(first))
    assert [(each.kind, each.name) for each in report.damaged] == [
        ("run", "runs/ok.json"),
        ("object", one),
        ("record", RECORD),
    ]
    assert "does not have" in report.damaged[2].problem

    repair_shared(shared(first), report)

    assert find_shared_damage(shared(first)).damaged == []
    assert squares(any_machine("second"))[1] == 0


def test_what_this_machine_lacks_is_removed_and_built_again(any_machine: Machine) -> None:
    first = any_machine("first")
    outcome, _ = squares(first)
    remote = shared(first).remote
    one, other = (object_name(each.sha256) for each in outcome.record.outputs.values())
    remote.write(b"x", one)
    second = any_machine("second")
    repair_shared(shared(second), find_shared_damage(shared(second)))
    assert remote.look(one) is None
    # The record now names what is missing.
    repair_shared(shared(second), find_shared_damage(shared(second)))
    assert remote.look(RECORD) is None
    assert remote.look(other) is not None
    assert find_shared_damage(shared(second)).damaged == []
    assert squares(second)[1] == 1
    assert squares(any_machine("third"))[1] == 0


def test_damaged_records_are_removed(any_machine: Machine) -> None:
    first = any_machine("first")
    squares(first)
    remote = shared(first).remote
    remote.write(b"not a record", RECORD)
    report = find_shared_damage(shared(first))
    assert [(each.kind, each.name) for each in report.damaged] == [("record", RECORD)]
    repair_shared(shared(first), report)
    assert remote.look(RECORD) is None


def test_what_was_healed_meanwhile_stays(any_machine: Machine) -> None:
    first = any_machine("first")
    outcome, _ = squares(first)
    remote = shared(first).remote
    artifact = outcome.record.outputs["squares"]
    name = object_name(artifact.sha256)
    remote.write(b"x", name)
    second = any_machine("second")
    report = find_shared_damage(shared(second))
    remote.send(first.objects.path(artifact.sha256), name)
    repair_shared(shared(second), report)
    assert remote.look(name) is not None


def test_copies_need_not_be_all(any_machine: Machine) -> None:
    """A record that is here and objects that are only there are no damage of this machine."""
    squares(any_machine("first"))
    second = any_machine("second")
    assert len(list(second.records.of_stage("squares"))) == 1
    assert list(second.objects) == []
    assert find_damage(second).damaged == []
