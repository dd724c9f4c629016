"""A shared store is read whole on request, and repaired from what this machine has."""

from digitflow.storage.history.runs import RunRecord
from digitflow.storage.objects import object_name
from digitflow.storage.records import record_name
from digitflow.storage.upkeep.verify import find_damage, repair
from tests.share.conftest import Machine, remote_of
from tests.share.work import key, squares

RUN = RunRecord("ok", "2026-01-01T00:00:00.000+00:00", 1.0, "p", "d", {}, (), {}, None)
RECORD = record_name("squares", key(10).digest())


def test_a_sound_store(any_machine: Machine) -> None:
    first = any_machine("first")
    outcome, _ = squares(first)
    first.runs.save(RUN)
    report = find_damage(any_machine("second"), shared=True)
    assert (report.objects, report.records, report.damaged) == (2, 2, [])
    assert report.size == sum(each.size for each in outcome.record.outputs.values())
    # Nothing of that stays on the machine that looked.
    assert list(any_machine("second").objects) == []


def test_damage_is_found_and_healed_from_here(any_machine: Machine) -> None:
    first = any_machine("first")
    outcome, _ = squares(first)
    first.runs.save(RUN)
    remote = remote_of(first)
    one, other = (object_name(each.sha256) for each in outcome.record.outputs.values())
    remote.write(one, b"x")
    remote.delete(other)
    remote.write("runs/ok.json", b"{}")
    report = find_damage(first, shared=True)
    assert [(each.kind, each.name) for each in report.damaged] == [
        ("run", "runs/ok.json"),
        ("object", one),
        ("record", RECORD),
    ]
    assert "is missing" in report.damaged[2].problem

    repair(first, report, shared=True)

    assert find_damage(first, shared=True).damaged == []
    assert squares(any_machine("second"))[1] == 0


def test_what_this_machine_lacks_is_removed_and_built_again(any_machine: Machine) -> None:
    first = any_machine("first")
    outcome, _ = squares(first)
    remote = remote_of(first)
    one, other = (object_name(each.sha256) for each in outcome.record.outputs.values())
    remote.write(one, b"x")
    second = any_machine("second")
    repair(second, find_damage(second, shared=True), shared=True)
    assert remote.stat(one) is None
    # The record now names what is missing.
    repair(second, find_damage(second, shared=True), shared=True)
    assert remote.stat(RECORD) is None
    assert remote.stat(other) is not None
    assert find_damage(second, shared=True).damaged == []
    assert squares(second)[1] == 1
    assert squares(any_machine("third"))[1] == 0


def test_damaged_records_are_removed(any_machine: Machine) -> None:
    first = any_machine("first")
    squares(first)
    remote = remote_of(first)
    remote.write(RECORD, b"not a record")
    report = find_damage(first, shared=True)
    assert [(each.kind, each.name) for each in report.damaged] == [("record", RECORD)]
    repair(first, report, shared=True)
    assert remote.stat(RECORD) is None


def test_what_was_healed_meanwhile_stays(any_machine: Machine) -> None:
    first = any_machine("first")
    outcome, _ = squares(first)
    remote = remote_of(first)
    artifact = outcome.record.outputs["squares"]
    name = object_name(artifact.sha256)
    remote.write(name, b"x")
    second = any_machine("second")
    report = find_damage(second, shared=True)
    remote.upload(first.objects.path(artifact.sha256), name)
    repair(second, report, shared=True)
    assert remote.stat(name) is not None


def test_copies_need_not_be_all(any_machine: Machine) -> None:
    """A record that is here and objects that are only there are no damage of this machine."""
    squares(any_machine("first"))
    second = any_machine("second")
    assert len(list(second.records.of_stage("squares"))) == 1
    assert list(second.objects) == []
    assert find_damage(second).damaged == []
