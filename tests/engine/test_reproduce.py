"""A model trained once more from its records: the same, different, or refused with a sentence."""

import errno
import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from digitflow.flows.cli.app import main
from digitflow.storage.code import commit
from digitflow.storage.errors import ObjectMissingError, StoreUnusableError
from digitflow.storage.formats.artifacts import Artifact
from digitflow.storage.history.models import ModelVersion
from digitflow.storage.records import Record
from digitflow.storage.store import Store
from digitflow.storage.upkeep.gc import sweep
from digitflow.tasks.prediction.model import Model
from digitflow.tasks.recomputation import code_base
from digitflow.tasks.recomputation.code_base import CodeBaseError, CodeBases
from digitflow.tasks.recomputation.recompute import Recomputed
from digitflow.tasks.recomputation.reproduce import (
    NotReproducibleError,
    lost_of,
    reproduce,
    restore_lost,
)
from tests.faults.soundness import make_old
from tests.own_project import edit, run
from tests.patience import PATIENCE


def git(*arguments: str) -> str:
    identity = ("-c", "user.name=Anna", "-c", "user.email=anna@example.org")
    done = subprocess.run(
        ["git", *identity, *arguments], check=True, capture_output=True, text=True, timeout=PATIENCE
    )
    return done.stdout


def committed() -> str:
    git("add", ".")
    git("commit", "--quiet", "--allow-empty", "--message", "a state")
    commit.commit_of.cache_clear()
    commit._described.cache_clear()
    return git("rev-parse", "HEAD").strip()


@pytest.fixture
def project(project: str) -> str:
    """The project under git, nothing of it committed yet."""
    git("init", "--quiet")
    return project


def register(store: Store, record: Record, **changes: object) -> ModelVersion:
    fields = {
        "run": "first",
        "preset": "own",
        "dataset": "numbers",
        "parameters": {},
        "metrics": {},
        "training": record.key,
        "data": {},
        "class_names": (),
        "weights": record.outputs["numbers"],
        "predictions": record.outputs["total"],
    }
    return store.models.register(**{**fields, **changes})


def again(store: Store, version: ModelVersion, **given: object) -> list[tuple[str, str, str]]:
    said: list[tuple[Recomputed, str]] = []
    reproduce(
        store,
        version,
        repository=Path.cwd(),
        say=lambda found, base: said.append((found, base)),
        **given,
    )
    return [(found.record.stage, found.verdict, base) for found, base in said]


def test_with_the_code_of_its_commit(project: str, store: Store):
    first = committed()
    made = run(store, project)["scale"]
    assert made.made_with["commit"] == first
    version = register(store, made)
    # Neither what is here now nor what lies in the store between data and model is used.
    edit(project, "factor * each", "factor + each")
    committed()
    for sha256 in made.document["inputs"].values():
        store.objects.path(sha256).unlink()
    name = f"commit {first[:12]}"
    assert again(store, version) == [
        ("count", "same", name),
        ("count", "same", name),
        ("scale", "same", name),
    ]
    assert len(git("worktree", "list").splitlines()) == 1


def wrongly_counted(project: str, store: Store) -> Record:
    """The record of a model, one of whose inputs is recorded as if it had been made otherwise."""
    committed()
    made = run(store, project)["scale"]
    counted = store.records.of_stage("count")
    wrong = next(
        each
        for each in counted
        if each.outputs["numbers"].sha256 == made.document["inputs"]["several[0]"]
    )
    # As if 3 had once been counted like 4: what was made from it is consistent with that.
    document = {**wrong.document, "parameters": {"upto": 5}}
    from digitflow.storage.digests import digest_json

    store.records.path("count", wrong.key).unlink()
    store.records.save(replace(wrong, document=document, key=digest_json(document)))
    return made


def test_the_first_stage_that_differs(project: str, store: Store):
    found = again(store, register(store, wrongly_counted(project, store)))
    assert [each[:2] for each in found] == [("count", "differs")]


def test_what_was_not_committed_is_told_by_its_digests(project: str, store: Store):
    committed()
    edit(project, "factor * each", "each * factor")
    made = run(store, project)["scale"]
    assert made.made_with["commit"].endswith("-dirty")
    version = register(store, made)
    assert again(store, version)[-1] == ("scale", "same", "the code that is here")
    edit(project, "each * factor", "factor + each")
    with pytest.raises(NotReproducibleError, match=r"scale cannot be .*\(scaled\).*not committed"):
        again(store, version)


def test_a_commit_that_is_gone(project: str, store: Store):
    committed()
    made = run(store, project)["scale"]
    made = replace(made, made_with={**made.made_with, "commit": "1" * 40})
    store.records.save(made)
    version = register(store, made)
    assert again(store, version)[-1] == ("scale", "same", "the code that is here")
    edit(project, "each", "one")
    with pytest.raises(NotReproducibleError, match="commit 111111111111 is on no branch"):
        again(store, version)


def test_a_commit_that_was_only_fetched_or_is_none(project: str, tmp_path: Path):
    first = committed()
    git("checkout", "--quiet", "-b", "another")
    other = committed()
    git("checkout", "--quiet", "-")
    with CodeBases(Path.cwd(), tmp_path) as bases:
        assert bases.at(other) is not None
    git("update-ref", "refs/remotes/origin/another", other)
    git("branch", "--quiet", "-D", "another")
    with CodeBases(Path.cwd(), tmp_path) as bases:
        assert bases.at(other) is None
        assert bases.at("HEAD") is None
        assert bases.at("--orphan") is None
        assert bases.at(first) is not None


def test_what_the_ledger_names(project: str, store: Store):
    made = run(store, project)["scale"]
    other = next(iter(store.records.of_stage("count"))).outputs["numbers"]
    assert "commit" not in made.made_with
    version = register(store, made, weights=other)
    assert again(store, version)[-1] == ("scale", "differs", "the code that is here")


class TestWhatIsLost:
    """What the store has lost of a model is trained once more, and put back if it is the same."""

    def test_is_put_back(self, project: str, store: Store):
        committed()
        version = register(store, run(store, project)["scale"])
        restore_lost(store, version)
        store.objects.path(version.weights.sha256).unlink()
        damaged = store.objects.path(version.predictions.sha256)
        damaged.chmod(0o644)
        damaged.write_bytes(b"?" * version.predictions.size)
        assert again(store, version)[-1][1] == "same"
        assert lost_of(store, version) == (version.weights, version.predictions)
        restore_lost(store, version, repository=Path.cwd())
        assert lost_of(store, version) == ()

    def test_by_the_command(
        self,
        project: str,
        store: Store,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ):
        version = register(store, run(store, project)["scale"])
        store.objects.path(version.weights.sha256).unlink()
        with pytest.raises(
            ObjectMissingError, match="made again by digitflow reproduce v1 --restore"
        ):
            Model.load(1, store=store).probabilities(np.zeros((1, 2, 2), np.uint8))
        monkeypatch.setenv("DIGITFLOW_STORE", str(store.root))
        assert main(["reproduce", "1"]) == 1
        said = capsys.readouterr().out
        assert "but lost or damaged in the store: weights; put back by digitflow" in said
        assert "same:" not in said
        assert main(["reproduce", "1", "--json"]) == 1
        found = json.loads(capsys.readouterr().out)
        assert (found["same"], found["lost"]) == (False, ["weights"])
        assert [each["verdict"] for each in found["stages"]] == ["same"] * 3
        assert lost_of(store, version) == (version.weights,)
        assert main(["reproduce", "1", "--restore"]) == 0
        assert "lost or damaged in the store: weights; put back\n" in capsys.readouterr().out
        assert lost_of(store, version) == ()
        assert main(["reproduce", "1", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["same"]

    def test_a_store_that_cannot_be_written_is_found_out_first(
        self, project: str, store: Store, monkeypatch: pytest.MonkeyPatch
    ):
        version = register(store, run(store, project)["scale"])
        store.objects.path(version.weights.sha256).unlink()

        def refused(*_: object) -> None:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

        monkeypatch.setattr(store.objects, "temporary", refused)
        with pytest.raises(StoreUnusableError, match="what is put back cannot be written"):
            restore_lost(store, version, repository=Path.cwd())

    def test_is_not_replaced_by_something_else(self, project: str, store: Store):
        version = register(store, run(store, project)["scale"])
        store.objects.path(version.weights.sha256).unlink()
        edit(project, "factor * each", "factor + each")
        with pytest.raises(
            NotReproducibleError, match=r"1 of the objects.*promote another version"
        ):
            restore_lost(store, version, repository=Path.cwd())
        assert lost_of(store, version) == (version.weights,)

    @pytest.mark.parametrize(
        "standing", ["none", "champion", "before", "quarantined", "asked about"]
    )
    def test_a_sweep_leaves_what_it_is_trained_from(
        self, project: str, store: Store, standing: str
    ):
        committed()
        made = run(store, project)["scale"]
        version = register(store, made)
        if standing == "champion":
            store.models.promote(version.version, "first of all")
        elif standing == "before":
            with store.objects.temporary() as file:
                file.write_text("better")
                other = Artifact(*store.objects.add(file), "file")
            after = register(store, made, training="34" * 32, weights=other, predictions=other)
            store.models.promote(version.version, "first of all")
            store.models.promote(after.version, "better")
        elif standing == "quarantined":
            store.models.quarantine(version.version, "in doubt")
        elif standing == "asked about":
            details = {"until": "2999-01-01T00:00:00.000+00:00"}
            store.models.verdict("held", version, "in doubt", "numbers", by="r", details=details)
        make_old(store.root, hours=24 * 365)
        swept = sweep(store, 30)
        store.objects.path(version.weights.sha256).unlink()
        if standing == "none":
            assert swept.count("record") == 3
            with pytest.raises(NotReproducibleError, match="no longer in the store"):
                restore_lost(store, version, repository=Path.cwd())
        else:
            assert swept.count("record") == 0
            restore_lost(store, version, repository=Path.cwd())
            assert lost_of(store, version) == ()

    def test_what_came_to_other_bytes_is_not_tried_each_night(
        self, project: str, store: Store, monkeypatch: pytest.MonkeyPatch
    ):
        version = register(store, wrongly_counted(project, store))
        store.objects.path(version.weights.sha256).unlink()
        tried = []

        def counted(*given: Any, **named: Any) -> Any:
            tried.append(given)
            return reproduce(*given, **named)

        monkeypatch.setattr("digitflow.tasks.recomputation.reproduce.reproduce", counted)
        with pytest.raises(NotReproducibleError, match="differs"):
            restore_lost(store, version, repository=Path.cwd())
        with pytest.raises(
            NotReproducibleError, match="differs: .*digitflow reproduce v1 --restore tries again"
        ):
            restore_lost(store, version, repository=Path.cwd())
        assert len(tried) == 1
        # Another release of a package, say.
        monkeypatch.setattr("digitflow.tasks.recomputation.reproduce.distributions", list)
        with pytest.raises(NotReproducibleError, match="differs"):
            restore_lost(store, version, repository=Path.cwd())
        assert len(tried) == 2

    def test_what_was_killed_is_tried_again(
        self, project: str, store: Store, monkeypatch: pytest.MonkeyPatch
    ):
        committed()
        version = register(store, run(store, project)["scale"])
        store.objects.path(version.weights.sha256).unlink()
        with monkeypatch.context() as patch:
            killed = {"failed": "its process ended with -9: "}
            patch.setattr(
                "digitflow.tasks.recomputation.recompute._ask", lambda *_given, **_named: killed
            )
            with pytest.raises(NotReproducibleError, match="ended with -9"):
                restore_lost(store, version, repository=Path.cwd())
        restore_lost(store, version, repository=Path.cwd())
        assert lost_of(store, version) == ()

    def test_made_by_another_stage(self, project: str, store: Store):
        committed()
        made = run(store, project)
        (first, *_) = store.records.of_stage("count")
        version = register(store, made["scale"], calibration=first.outputs["numbers"])
        store.objects.path(first.outputs["numbers"].sha256).unlink()
        restore_lost(store, version, repository=Path.cwd())
        assert lost_of(store, version) == ()


class TestRefusals:
    def test_its_record_is_gone(self, project: str, store: Store):
        made = run(store, project)["scale"]
        version = register(store, made)
        store.records.path("scale", made.key).unlink()
        with pytest.raises(NotReproducibleError, match="the record of its training"):
            again(store, version)

    def test_the_record_of_an_input_is_gone(self, project: str, store: Store):
        made = run(store, project)["scale"]
        version = register(store, made)
        for path in (store.root / "records" / "count").iterdir():
            path.unlink()
        with pytest.raises(NotReproducibleError, match=r"its input several\[0\], .*, was made"):
            again(store, version)

    def test_data_that_is_gone(self, project: str, store: Store):
        made = run(store, project)["scale"]
        version = register(store, made)
        (data, *_) = store.records.of_stage("count")
        document = {**data.document, "code": {}}
        from digitflow.storage.digests import digest_json

        store.records.path("count", data.key).unlink()
        store.records.save(replace(data, document=document, key=digest_json(document)))
        store.objects.path(data.outputs["numbers"].sha256).unlink()
        with pytest.raises(NotReproducibleError, match="is missing"):
            again(store, version)


def test_an_environment_has_the_packages_of_its_commit(
    project: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    Path("requirements.txt").write_text("first==1\n")
    first = committed()
    Path("requirements.txt").write_text("second==2\n")
    commands: list[list[str]] = []
    monkeypatch.setattr(code_base.subprocess, "run", recording(commands))
    with CodeBases(Path.cwd(), tmp_path, venv=True) as bases:
        base = bases.at(first)
        assert base is not None
        venv, pip = [each for each in commands if each[0] != "git"]
        assert venv[1:3] == ["-m", "venv"]
        assert pip[0] == base.python == f"{venv[3]}/bin/python"
        assert Path(pip[-1]).read_text() == "first==1\n"
        Path("requirements.txt").unlink()
        with pytest.raises(CodeBaseError, match="found no file"):
            bases.here()


def recording(commands: list[list[str]]) -> object:
    real = subprocess.run

    def run(command: list[str], **given: object) -> object:
        commands.append(command)
        return real(command, **given) if command[0] == "git" else None

    return run
