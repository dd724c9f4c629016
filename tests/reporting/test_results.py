"""The results folder: complete, replaced whole or not at all, and nobody else's files."""

import json
import os
import stat
import tempfile
import threading
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock

from digitflow.storage.backends import locks
from digitflow.storage.errors import ObjectDamagedError
from digitflow.storage.formats.artifacts import PNG_SIGNATURE
from digitflow.storage.keys import StageKey
from digitflow.storage.store import Store
from digitflow.tasks.engine.call import StageResult
from digitflow.tasks.reporting.results import (
    ResultsFolderError,
    check_results_folder,
    read_metrics,
    write_results,
)
from digitflow.tasks.reporting.run_summary import RunSummary
from tests.patience import PATIENCE

PNG = PNG_SIGNATURE + bytes(16)
METRICS = {
    "test_accuracy": 0.75,
    "test_loss": 0.5,
    "test_samples": 4,
    "errors": 1,
    "macro_f1": 0.7,
    "per_class": [
        {
            "class": "0",
            "precision": 1.0,
            "recall": 0.75,
            "f1": 0.8,
            "support": 4,
            "training_images": 9,
        }
    ],
}
OUTPUTS: dict[str, dict[str, tuple[str, Any]]] = {
    "train": {
        "model": ("npz", {"weights_1": np.eye(2)}),
        "history": ("csv", pd.DataFrame({"epoch": [0], "train_loss": [0.5]})),
        "predictions": ("npz", {"outputs": np.eye(3)}),
    },
    "evaluate": {
        "metrics": ("json", METRICS),
        "confusion_csv": ("text", "true,0\n0,1\n"),
    },
    "plot": {"learning_curves": ("png", PNG), "gallery": ("png", PNG + b"x")},
}
PLACES = {
    "run.json",
    "report.html",
    "history.csv",
    "model.npz",
    "metrics.json",
    "confusion.csv",
    "figures/learning_curves.png",
    "figures/gallery.png",
}


@pytest.fixture
def cache(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def summary(cache: Store, tmp_path: Path) -> RunSummary:
    stages = []
    for stage, outputs in OUTPUTS.items():
        key = StageKey(stage, {}, {}, {})
        outcome = cache.cache.obtain(
            key,
            stage,
            lambda scratch, outputs=outputs: {name: each for name, (_, each) in outputs.items()},
            {name: kind for name, (kind, _) in outputs.items()},
            run="r",
        )
        stages.append(
            StageResult(
                stage, stage, key.digest(), outcome.record.outputs, False, ("never run",), 0.5
            )
        )
    return RunSummary(
        name="quiet-ant",
        dataset="MNIST",
        preset="tutorial",
        parameters={"epochs": 20},
        stages=tuple(stages),
        seconds=1.5,
        metrics=METRICS,
        folder=tmp_path / "results" / "quiet-ant",
    )


def places(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_every_file_is_there_with_the_bytes_of_the_store(cache: Store, summary: RunSummary):
    write_results(cache, summary)
    assert places(summary.folder) == PLACES
    assert (summary.folder / "figures/gallery.png").read_bytes() == PNG + b"x"
    with np.load(summary.folder / "model.npz") as model:
        assert list(model) == ["weights_1"]
    assert json.loads((summary.folder / "metrics.json").read_text())["test_accuracy"] == 0.75
    assert (summary.folder / "history.csv").read_text() == "epoch,train_loss\n0,0.5\n"
    assert [path.name for path in summary.folder.parent.iterdir()] == ["quiet-ant"]


def test_the_run_tells_what_it_did(cache: Store, summary: RunSummary):
    write_results(cache, summary)
    run = json.loads((summary.folder / "run.json").read_text())
    assert {name: run[name] for name in ("run", "dataset", "preset", "parameters", "seconds")} == {
        "run": "quiet-ant",
        "dataset": "MNIST",
        "preset": "tutorial",
        "parameters": {"epochs": 20},
        "seconds": 1.5,
    }
    train = run["stages"][0]
    assert (train["name"], train["cached"], train["seconds"]) == ("train", False, 0.5)
    assert train["reasons"] == ["never run"]
    assert train["outputs"]["model"]["sha256"] == summary.stages[0].outputs["model"].sha256
    assert set(run["versions"]) == {
        "python",
        "digitflow",
        "prefect",
        "numpy",
        "pandas",
        "matplotlib",
    }
    assert {"run.json", *run["files"]} == PLACES


def test_a_decision_about_the_model_outlives_a_refresh(cache: Store, summary: RunSummary):
    judged = replace(summary, model=3, decision="# Version 3 is the champion")
    write_results(cache, judged)
    write_results(cache, replace(judged, decision=""))
    assert "Version 3 is the champion" in (summary.folder / "report.html").read_text()
    assert "champion" in json.loads((summary.folder / "run.json").read_text())["decision"]
    write_results(cache, replace(judged, decision="", model=4))
    assert "champion" not in (summary.folder / "report.html").read_text()


def test_a_run_that_stopped_early_has_what_it_made(cache: Store, summary: RunSummary):
    write_results(cache, replace(summary, stages=summary.stages[:1], metrics={}))
    assert places(summary.folder) == {"run.json", "report.html", "history.csv", "model.npz"}
    assert read_metrics(cache, summary.stages[:1]) == {}
    assert read_metrics(cache, summary.stages)["test_accuracy"] == 0.75


def test_later_results_replace_earlier_ones_whole(cache: Store, summary: RunSummary):
    write_results(cache, summary)
    write_results(cache, replace(summary, stages=summary.stages[:1]))
    assert places(summary.folder) == {"run.json", "report.html", "history.csv", "model.npz"}
    write_results(cache, summary)
    assert places(summary.folder) == PLACES


def test_editing_results_does_not_damage_the_store(cache: Store, summary: RunSummary):
    write_results(cache, summary)
    for place in PLACES:
        path = summary.folder / place
        assert stat.S_IMODE(path.stat().st_mode) & 0o600 == 0o600
        path.write_bytes(b"edited")
    for stage in summary.stages:
        for artifact in stage.outputs.values():
            cache.objects.verify(artifact.sha256, artifact.size)


class TestRefusal:
    def test_of_a_file(self, cache: Store, summary: RunSummary):
        summary.folder.parent.mkdir()
        summary.folder.write_text("mine")
        with pytest.raises(ResultsFolderError, match="expected a folder, found a file"):
            write_results(cache, summary)
        assert summary.folder.read_text() == "mine"

    @pytest.mark.parametrize(
        "mine", ["notes.txt", ".hidden", "figures/mine.png", "deep/er/file", "model.npz.bak"]
    )
    @pytest.mark.parametrize("with_results", [True, False])
    def test_of_somebody_elses_files(
        self, cache: Store, summary: RunSummary, mine: str, with_results: bool
    ):
        if with_results:
            write_results(cache, summary)
        file = summary.folder / mine
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("mine")
        before = places(summary.folder)
        with pytest.raises(ResultsFolderError, match=f"found {mine}, which no run wrote there"):
            check_results_folder(summary.folder)
        with pytest.raises(ResultsFolderError, match="--output"):
            write_results(cache, summary)
        assert places(summary.folder) == before
        assert file.read_text() == "mine"

    def test_of_a_folder_that_happens_to_hold_a_run_json(self, cache: Store, summary: RunSummary):
        summary.folder.mkdir(parents=True)
        for text in ("{}", "not json", "[]", '{"files": 5}', "[" * 100_000):
            (summary.folder / "run.json").write_text(text)
            with pytest.raises(ResultsFolderError, match=r"found run\.json, which no run wrote"):
                check_results_folder(summary.folder)

    @pytest.mark.parametrize("kind", ["file", "link"])
    def test_not_for_a_lock_of_somebody_else(
        self, summary: RunSummary, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        """Its name in the folder for temporary files can be foretold, and be somebody else's."""
        monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path / "temporary"))
        monkeypatch.setattr(locks, "SECONDS_FOR_A_BRIEF_LOCK", 0.1)
        (tmp_path / "temporary").mkdir()
        monkeypatch.setattr(os, "getuid", lambda: os.geteuid() + (kind == "file"))
        check_results_folder(summary.folder)
        (lock,) = (tmp_path / "temporary").iterdir()
        if kind == "link":
            lock.rename(tmp_path / "elsewhere")
            lock.symlink_to(tmp_path / "elsewhere")
        with FileLock(tmp_path / "elsewhere" if kind == "link" else lock):
            check_results_folder(summary.folder)

    def test_of_an_empty_folder_inside(self, summary: RunSummary):
        (summary.folder / "mine").mkdir(parents=True)
        with pytest.raises(ResultsFolderError, match="found mine"):
            check_results_folder(summary.folder)

    def test_names_three_files_and_counts_the_rest(self, summary: RunSummary):
        summary.folder.mkdir(parents=True)
        for number in range(7):
            (summary.folder / f"file-{number}").write_text("mine")
        with pytest.raises(ResultsFolderError, match="found file-0, file-1, file-2 and 4 more"):
            check_results_folder(summary.folder)

    @pytest.mark.parametrize("prepare", [lambda folder: None, Path.mkdir])
    def test_not_of_a_new_or_an_empty_folder(
        self, cache: Store, summary: RunSummary, prepare: Callable[[Path], None]
    ):
        summary.folder.parent.mkdir()
        prepare(summary.folder)
        write_results(cache, summary)
        assert places(summary.folder) == PLACES

    def test_not_of_what_a_desktop_left(self, cache: Store, summary: RunSummary):
        write_results(cache, summary)
        (summary.folder / "figures" / ".DS_Store").write_bytes(b"x")
        write_results(cache, summary)
        assert places(summary.folder) == PLACES


class CrashError(BaseException):
    """Stands for the process's death."""


class TestCrash:
    @pytest.mark.parametrize("step", range(1, 12))
    @pytest.mark.parametrize("with_old", [True, False])
    def test_at_any_step_keeps_the_old_results_or_leaves_none(
        self,
        cache: Store,
        summary: RunSummary,
        monkeypatch: pytest.MonkeyPatch,
        step: int,
        with_old: bool,
    ):
        if with_old:
            write_results(cache, replace(summary, name="old"))
        steps = 0

        def crashing(real: Callable[..., Any]) -> Callable[..., Any]:
            def crash(*args: Any, **kwargs: Any) -> Any:
                nonlocal steps
                steps += 1
                if steps == step:
                    raise CrashError
                return real(*args, **kwargs)

            return crash

        with monkeypatch.context() as patch:
            patch.setattr("shutil.copyfile", crashing(__import__("shutil").copyfile))
            patch.setattr(Path, "write_text", crashing(Path.write_text))
            patch.setattr(Path, "rename", crashing(Path.rename))
            try:
                write_results(cache, replace(summary, name="new"))
            except CrashError:
                found = "old"
            else:
                found = "new"
        assert (found == "new") == (steps < step)
        if found == "new" or with_old:
            assert json.loads((summary.folder / "run.json").read_text())["run"] == found
            assert places(summary.folder) == PLACES
        else:
            assert not summary.folder.exists()
        if summary.folder.parent.exists():
            assert set(os.listdir(summary.folder.parent)) <= {"quiet-ant"}  # noqa: PTH208

    def test_a_damaged_object_keeps_the_old_results(self, cache: Store, summary: RunSummary):
        write_results(cache, summary)
        path = cache.objects.path(summary.stages[0].outputs["model"].sha256)
        path.chmod(0o644)
        path.write_bytes(b"damaged")
        with pytest.raises(ObjectDamagedError):
            write_results(cache, replace(summary, name="new"))
        assert json.loads((summary.folder / "run.json").read_text())["run"] == "quiet-ant"


def test_several_runs_may_write_one_folder_at_once(cache: Store, summary: RunSummary):
    errors: list[BaseException] = []

    def write(name: str) -> None:
        try:
            for _ in range(10):
                write_results(cache, replace(summary, name=name))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(f"run-{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert errors == []
    assert places(summary.folder) == PLACES
    assert json.loads((summary.folder / "run.json").read_text())["run"].startswith("run-")
    assert [path.name for path in summary.folder.parent.iterdir()] == ["quiet-ant"]


def test_a_link_to_the_results_stays_a_link(cache: Store, summary: RunSummary, tmp_path: Path):
    target = tmp_path / "elsewhere"
    target.mkdir()
    summary.folder.parent.mkdir()
    summary.folder.symlink_to(target)
    write_results(cache, summary)
    assert summary.folder.is_symlink()
    assert places(target) == PLACES


def test_without_being_installed(
    cache: Store, summary: RunSummary, monkeypatch: pytest.MonkeyPatch
):
    def not_found(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("digitflow.tasks.reporting.results.version", not_found)
    write_results(cache, summary)
    run = json.loads((summary.folder / "run.json").read_text())
    assert run["versions"]["digitflow"] is None
