"""An edit that is taken as one that changes nothing: what is served, refused, and found out."""

from dataclasses import replace

import pytest

from digitflow.storage.errors import UnknownNameError
from digitflow.storage.records import Record
from digitflow.storage.store import Store
from digitflow.tasks.engine.plan import plan
from digitflow.tasks.recomputation.accept import Accepted, NotEquivalentError
from digitflow.tasks.recomputation.accept import accept as accept_calls
from digitflow.tasks.recomputation.audit import audit
from tests.own_project import edit, loaded, run


def accept(store: Store, project: str, stage: str, **given: object) -> list[Accepted]:
    module = loaded(project)
    return accept_calls(stage, module.both, store=store, by="anna", reason="the same", **given)


def cached(store: Store, project: str) -> list[bool]:
    return [each.cached for each in plan(loaded(project).both, store=store)]


@pytest.fixture
def before(project: str, store: Store) -> dict[str, Record]:
    """What the code before the edit made."""
    return run(store, project)


def test_an_edit_is_served_without_computing(project: str, store: Store, before: dict[str, Record]):
    edit(project, "factor * each", "each * factor")
    assert cached(store, project) == [True, True, False]
    (accepted,) = accept(store, project, "scale")
    assert accepted.edits == [f"code changed: {project}.py (scaled)"]
    served = plan(loaded(project).both, store=store)[-1].record
    assert served.outputs == before["scale"].outputs
    assert (served.accepted.by, served.accepted.reason) == ("anna", "the same")
    assert served.accepted.key == before["scale"].key != served.key
    assert accept(store, project, "scale") == []


def test_what_follows_hits_as_before(project: str, store: Store, before: dict[str, Record]):
    edit(project, "list(range(upto))", "[*range(upto)]")
    assert cached(store, project) == [False, False, False]
    assert len(accept(store, project, "count")) == 2
    assert cached(store, project) == [True, True, True]


def test_an_accepted_edit_is_audited_first(project: str, store: Store, before: dict[str, Record]):
    edit(project, "factor * each", "each * factor")
    accept(store, project, "scale")
    found = audit(store, share=0.01)
    assert [(each.record.stage, each.verdict) for each in found[:1]] == [("scale", "same")]
    assert found[0].record.accepted is not None


def test_a_wrong_accept_is_found(project: str, store: Store, before: dict[str, Record]):
    edit(project, "factor * each", "factor + each")
    accept(store, project, "scale")
    found = {each.record.key: each for each in audit(store, share=0.01, stage="scale")}
    (wrong,) = [each for each in found.values() if each.record.accepted is not None]
    assert wrong.verdict == "differs"
    assert "accepted by anna" in wrong.details[-1]
    assert "--refresh scale" in wrong.details[-1]


def test_an_edit_may_use_another_library(project: str, store: Store, before: dict[str, Record]):
    edit(project, "def scaled(", "import numpy as np\n\ndef scaled(")
    edit(project, "factor * each", "int(np.int64(factor) * each)")
    (accepted,) = accept(store, project, "scale")
    assert "numpy" in accepted.record.document["libraries"]


class TestRefusals:
    @pytest.fixture(autouse=True)
    def _edited(self, before: dict[str, Record], project: str) -> None:
        edit(project, "factor * each", "each * factor")

    def refused(self, store: Store, project: str, **given: object) -> str:
        names = store.records.documents.everywhere()
        with pytest.raises(NotEquivalentError) as error:
            accept(store, project, "scale", **given)
        assert store.records.documents.everywhere() == names
        return str(error.value)

    def test_another_parameter(self, project: str, store: Store):
        assert "more than its code differs: parameter factor 3 → 4" in self.refused(
            store, project, factor=4
        )

    def test_a_parameter_more(self, project: str, store: Store):
        edit(project, "factor=3, scratch", "factor=3, shift=0, scratch")
        assert "parameter shift (none) → 0" in self.refused(store, project)

    def test_another_version_of_a_library(
        self, project: str, store: Store, before: dict[str, Record]
    ):
        self.rewrite(store, before["scale"], libraries={"Python": "3.0"})
        assert "Python 3.0 → 3." in self.refused(store, project)

    def test_another_processor(self, project: str, store: Store, before: dict[str, Record]):
        self.rewrite(store, before["scale"], processor="abacus")
        assert "processor abacus → (any)" in self.refused(store, project)

    def test_another_input(self, project: str, store: Store, before: dict[str, Record]):
        inputs = {**before["scale"].document["inputs"], "several[1]": "0" * 64}
        self.rewrite(store, before["scale"], inputs=inputs)
        assert "input changed: several[1]" in self.refused(store, project)

    def test_something_that_it_read(self, project: str, store: Store, before: dict[str, Record]):
        store.records.save(replace(before["scale"], observed={"environment::X": "0" * 64}))
        with pytest.raises(NotEquivalentError):
            accept(store, project, "scale")

    def test_outputs_that_are_gone(self, project: str, store: Store, before: dict[str, Record]):
        store.objects.path(before["scale"].outputs["total"].sha256).unlink()
        assert "is missing; run it" in self.refused(store, project)

    def test_other_outputs(self, project: str, store: Store):
        edit(project, '"total": "json"', '"total": "csv"')
        assert "has other outputs now" in self.refused(store, project)

    def test_what_must_run_first(self, project: str, store: Store):
        edit(project, "list(range(upto))", "[*range(upto)]")
        assert "scale waits for count" in self.refused(store, project)

    def test_a_stage_that_is_not_called(self, project: str, store: Store):
        with pytest.raises(UnknownNameError, match="count, scale"):
            accept(store, project, "scall")

    def test_never_run(self, project: str, tmp_path):
        with pytest.raises(NotEquivalentError, match="never run"):
            accept(Store(tmp_path / "empty"), project, "count")

    def rewrite(self, store: Store, record: Record, **changes: object) -> None:
        from digitflow.storage.digests import digest_json

        document = {**record.document, **changes}
        store.records.path("scale", record.key).unlink()
        store.records.save(replace(record, document=document, key=digest_json(document)))


def test_of_several_records_the_newest_is_taken(
    project: str, store: Store, before: dict[str, Record]
):
    edit(project, "factor * each", "each * factor")
    run(store, project)
    edit(project, "each * factor", "factor * (each)  * 1")
    newest = max(store.records.of_stage("scale"), key=lambda record: record.created)
    (accepted,) = accept(store, project, "scale")
    assert accepted.old.key == newest.key != before["scale"].key
