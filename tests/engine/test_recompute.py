"""Records computed once more in a clean process: what is the same, what differs, what cannot be."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from digitflow.storage.digests import digest_bytes, digest_json
from digitflow.storage.formats.artifacts import Artifact
from digitflow.storage.records import Acceptance, Record
from digitflow.storage.store import Store
from digitflow.storage.upkeep.verify import find_damage
from digitflow.tasks.recomputation import clean_process, recompute
from digitflow.tasks.recomputation.audit import (
    SampleError,
    audit,
    chosen,
    headline,
    is_red,
    share_of,
)
from digitflow.tasks.recomputation.recompute import Recomputed
from tests.own_project import edit, run


def add(store: Store, data: bytes) -> Artifact:
    with store.objects.temporary() as file:
        file.write_bytes(data)
        return Artifact(*store.objects.add(file), "json")


def state(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(each.relative_to(folder)): (each.read_bytes(), each.stat().st_mtime_ns)
        for each in folder.rglob("*")
        if each.is_file()
    }


def test_what_is_right_is_the_same_and_nothing_is_written(project: str, store: Store):
    run(store, project)
    before = state(store.root)
    found = audit(store, share=1.0)
    assert [each.verdict for each in found] == ["same"] * 3, [each.details for each in found]
    assert headline(found) == "3 of 3 computed again: 3 same, 0 different"
    assert not is_red(found)
    assert state(store.root) == before
    assert json.loads(json.dumps([each.to_json() for each in found]))[0]["verdict"] == "same"


def test_a_planted_record_is_found_that_verify_takes_for_sound(project: str, store: Store):
    right = run(store, project)["scale"]
    planted = add(store, b"43")
    store.records.save(replace(right, outputs={**right.outputs, "total": planted}))
    assert find_damage(store).damaged == []
    (found,) = audit(store, share=1.0, stage="scale")
    assert found.verdict == "differs"
    assert found.details[0].startswith(f"total: recorded {planted.sha256[:12]}…, computed now ")
    assert "the record is wrong" in found.details[1]
    assert is_red([found])


def test_what_may_have_changed_is_named(project: str, store: Store):
    right = run(store, project)["scale"]
    other = replace(
        right,
        outputs={**right.outputs, "total": add(store, b"43")},
        made_with={**right.made_with, "BLAS": "another 0.1 Old × 1"},
    )
    store.records.save(other)
    (found,) = audit(store, share=1.0, stage="scale")
    assert any(each.startswith("BLAS another 0.1 Old × 1 → ") for each in found.details)


def test_each_of_a_hundred_changed_bytes_differs():
    """The comparison alone: any byte of an output is a difference, whatever else is right."""
    data = bytes(range(100))
    artifacts = {"whole": Artifact(digest_bytes(data), len(data), "file")}
    document = {"stage": "any", "code": {}, "parameters": {}, "inputs": {}}
    record = Record("0" * 64, "any", document, artifacts, "run", "2026-11-23T07:00:00+00:00", 0.0)
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1 << place % 8
        answer = {"outputs": {"whole": digest_bytes(bytes(changed))}}
        assert recompute._compared(record, answer).verdict == "differs"
    assert recompute._compared(record, {"outputs": {"whole": digest_bytes(data)}}).verdict == "same"
    assert recompute._compared(record, {"outputs": {}}).verdict == "differs"


def the(store: Store, stage: str) -> Recomputed:
    return audit(store, share=1.0, stage=stage)[0]


class TestWhatCannotBeAudited:
    def test_other_code(self, project: str, store: Store):
        run(store, project)
        edit(project, "factor * each", "each * factor")
        found = the(store, "scale")
        assert found.details == (f"code changed: {project}.py (scaled)",)
        assert not is_red([found])
        assert headline([found]) == (
            "0 of 1 computed again: 0 same, 0 different; 1 cannot be audited: 1 because its code "
            "is not the code that is here"
        )

    def test_a_parameter_more(self, project: str, store: Store):
        run(store, project)
        edit(project, "upto, name: str", "upto, of, name: str")
        assert the(store, "count").why == clean_process.CODE

    def test_inputs_that_are_gone(self, project: str, store: Store):
        record = run(store, project)["scale"]
        store.objects.path(record.document["inputs"]["several[1]"]).unlink()
        found = the(store, "scale")
        assert (found.verdict, found.why) == ("cannot", recompute.INPUTS_GONE)
        assert "several[1]" in found.details[0]

    def test_inputs_of_which_no_record_tells(self, project: str, store: Store):
        run(store, project)
        for path in (store.root / "records" / "count").iterdir():
            path.unlink()
        assert the(store, "scale").why == recompute.INPUTS_GONE

    def test_another_project(self, project: str, store: Store, tmp_path: Path, monkeypatch):
        run(store, project)
        monkeypatch.chdir(tmp_path)
        assert the(store, "scale").why == clean_process.PROJECT

    def test_what_else_lies_in_the_current_folder_is_not_imported(
        self, project: str, store: Store, tmp_path: Path
    ):
        run(store, project)
        for name in (
            "sitecustomize",
            "usercustomize",
            "json",
            "ast",
            "numpy",
            "filelock",
            "prefect",
        ):
            Path(f"{name}.py").write_text(f"open({str(tmp_path / 'got-in')!r}, 'w')")
        assert the(store, "scale").verdict == "same"
        assert not (tmp_path / "got-in").exists()

    def test_what_cannot_be_imported(self, project: str, store: Store):
        run(store, project)
        edit(project, "from digitflow import stage", "import no_such_thing_at_all")
        assert the(store, "scale").why == clean_process.PROJECT

    def test_an_ignored_parameter_that_any_text_does_not_do_for(self, project: str, store: Store):
        edit(project, "name: str", "name: list")
        run(store, project)
        assert the(store, "count").why == clean_process.IGNORED

    def test_a_parameter_that_json_has_no_form_for(self, project: str, store: Store):
        edit(project, "upto=n", "upto=(n,)")
        edit(project, "range(upto)", "range(*upto)")
        run(store, project)
        found = the(store, "count")
        assert (found.why, "upto" in found.details[0]) == (clean_process.TYPED, True)

    def test_a_file_that_it_read(self, project: str, store: Store):
        edit(project, "numbers = scaled", "open('factor.txt').close(); numbers = scaled")
        Path("factor.txt").write_text("1")
        run(store, project)
        Path("factor.txt").write_text("2")
        assert the(store, "scale").why == clean_process.READ

    def test_a_record_never_has_what_is_no_stage_imported(self, project: str, store: Store):
        right = run(store, project)["scale"]
        Path("setup.py").write_text("def main():\n  pass\nopen('ran', 'w').close()\n")
        document = {**right.document, "definition": "setup:main"}
        store.records.save(replace(right, document=document, key=digest_json(document)))
        store.records.path("scale", right.key).unlink()
        assert the(store, "scale").why == clean_process.PROJECT
        assert not Path("ran").exists()


def only_here(project: str, statement: str) -> None:
    """Let `scale` give something in this process only."""
    edit(project, "import stage", "import stage\nimport os")
    edit(project, "numbers = scaled", f"{statement.format(os.getpid())}; numbers = scaled")


def test_a_stage_that_fails_now_is_red(project: str, store: Store):
    only_here(project, "assert os.getpid() == {}")
    run(store, project)
    found = the(store, "scale")
    assert found.verdict == "differs"
    assert found.details[0].startswith("it fails now: AssertionError")


def test_a_process_that_dies_is_red(project: str, store: Store):
    only_here(project, "os.getpid() == {} or os._exit(9)")
    run(store, project)
    assert the(store, "scale").details[0].startswith("it fails now: its process ended with 9")


def test_one_that_takes_too_long_is_ended(project: str, store: Store, monkeypatch):
    record = run(store, project)["scale"]
    monkeypatch.setattr(recompute, "_SECONDS_TO_RECOMPUTE", 0.01)
    store.records.save(replace(record, seconds=0.0))
    assert the(store, "scale").details == ("it fails now: it had not ended after 0.01 s",)


class TestSample:
    def records(self, count: int) -> list[Record]:
        document = {"stage": "any", "code": {}, "parameters": {}, "inputs": {}}
        return [
            Record(digest_bytes(bytes([n])), "any", document, {}, "run", "2026-11-23T07:00:00Z", 0)
            for n in range(count)
        ]

    def test_is_chosen_by_key_and_seed(self):
        records = self.records(200)
        first = chosen(records, 0.05, 0)
        assert len(first) == 10
        assert chosen(reversed(records), 0.05, 0) == first
        assert chosen(records, 0.05, 1) != first
        # A larger sample holds the smaller one.
        assert chosen(records, 0.1, 0)[:10] == first
        assert {each.key for seed in range(200) for each in chosen(records, 0.05, seed)} == {
            each.key for each in records
        }

    def test_is_never_empty_unless_there_is_nothing(self):
        assert len(chosen(self.records(3), 0.01, 0)) == 1
        assert chosen([], 1.0, 0) == []

    def test_accepted_ones_come_first_whatever_the_share(self):
        *others, last = self.records(100)
        said = Acceptance("0" * 64, "anna", "renamed", "2026-11-23T07:00:00Z")
        accepted = replace(last, accepted=said)
        for seed in range(20):
            assert chosen([*others, accepted], 0.01, seed)[0] == accepted

    @pytest.mark.parametrize("text", ["5", "0%", "101%", "-5%", "five", "", "1e1%", "5%%"])
    def test_what_is_no_share(self, text: str):
        with pytest.raises(SampleError, match="percentage"):
            share_of(text)

    def test_shares(self):
        assert [share_of(each) for each in ("5%", "100 %", "0.5%")] == [0.05, 1.0, 0.005]
