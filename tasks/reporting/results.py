"""A run's results as files in a folder: written whole or not at all.

Needs neither Prefect nor NumPy, so that a run with nothing to do can refresh its results at
once.
"""

from __future__ import annotations

import csv
import errno
import itertools
import json
import os
import platform
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from digitflow.storage.backends.base import MAX_DOCUMENT_BYTES
from digitflow.storage.backends.locks import briefly
from digitflow.storage.backends.os_errors import explaining_full_disk
from digitflow.storage.backends.safe_open import open_regular
from digitflow.storage.digests import digest_bytes, digest_file, digest_json
from digitflow.storage.errors import RecordDamagedError
from digitflow.storage.formats.artifacts import FORMATS, Artifact
from digitflow.storage.records import Record
from digitflow.storage.store import Store
from digitflow.storage.visible import visible
from digitflow.tasks.engine.call import StageResult, read_or_heal
from digitflow.tasks.reporting.cards import Training
from digitflow.tasks.reporting.html_report import ReportContents, page
from digitflow.tasks.reporting.report import FIGURES, history_table
from digitflow.tasks.reporting.run_summary import RunSummary

REPORT = "report.html"
# Stage and output → place in the folder.
_FILES = {
    ("train", "history"): "history.csv",
    ("train", "model"): "model.npz",
    ("evaluate", "metrics"): "metrics.json",
    ("evaluate", "confusion_csv"): "confusion.csv",
    ("compare", "points"): "points.csv",
    ("compare", "sweep"): "figures/sweep.png",
}
# What desktops leave wherever somebody has looked.
_LITTER = (".DS_Store", "Thumbs.db", "desktop.ini")
_RECORDED_PACKAGES = ("digitflow", "prefect", "numpy", "pandas", "matplotlib")


class ResultsFolderError(Exception):
    """The folder for results holds something that is not ours to replace."""


def check_results_folder(folder: Path) -> None:
    """Refuse a folder that holds anything but a run's results, which replace it as a whole.

    Raises
    ------
    ResultsFolderError
        If it is a file, or holds a file that its own ``run.json`` does not list.
    """
    with _alone_with(folder):
        _check(folder)


def _check(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        message = f"results folder {folder}: expected a folder, found a file; choose another place"
        raise ResultsFolderError(message)
    foreign = sorted(_places(folder) - _listed(folder))
    if foreign:
        more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
        message = (
            f"results folder {folder}: found {', '.join(foreign[:3])}{more}, which no run wrote "
            "there and the results would replace; move that away, or choose an empty or new "
            "folder with --output"
        )
        raise ResultsFolderError(message)


def _places(folder: Path) -> set[str]:
    """Return every file below a folder, and every folder without one, by its relative path."""
    # os.walk passes over what another run moves away at this moment.
    entries = {
        Path(parent, name).relative_to(folder)
        for parent, folders, files in os.walk(folder)
        for name in [*folders, *files]
        if name not in _LITTER
    }
    return {path.as_posix() for path in entries - {path.parent for path in entries}}


def _listed(folder: Path) -> set[str]:
    """Return the files that the run whose results these are says it wrote."""
    try:
        return {"run.json", *_read_run(folder)["files"]}
    except (TypeError, KeyError):
        return set()


def _read_run(folder: Path) -> dict[str, Any]:
    """Return what ``run.json`` holds; nothing if it is missing or damaged."""
    try:
        with open_regular(folder / "run.json") as file:
            run = json.loads(file.read(MAX_DOCUMENT_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return run if isinstance(run, dict) else {}


def write_results(cache: Store, summary: RunSummary) -> None:
    """Write a run's results into its folder, replacing earlier results there.

    Raises
    ------
    ResultsFolderError
        If the folder holds something that is not ours.
    StorageError
        If an object has been lost or damaged since the stage handed it on, or the disk is full.
    """
    if not summary.decision:
        summary = replace(summary, decision=_earlier_decision(summary, summary.folder))
    replace_folder(summary.folder, partial(_fill, cache, summary))


def results_are_whole(summary: RunSummary) -> bool:
    """Tell whether a run's folder holds that run's results, every file as it was written.

    The report and ``run.json`` are the run's own words and have no digest: they count as whole
    where they are there, and ``run.json`` names this run and its files.
    """
    folder = summary.folder
    run = _read_run(folder)
    places = dict(_files(summary))
    if run.get("run") != summary.name or run.get("files") != [REPORT, *places]:
        return False
    return (folder / REPORT).is_file() and all(
        _has_digest(folder / place, artifact.sha256) for place, artifact in places.items()
    )


def _has_digest(path: Path, sha256: str) -> bool:
    try:
        return digest_file(path) == sha256
    except OSError:
        return False


def _earlier_decision(summary: RunSummary, folder: Path) -> str:
    """Return what the gate decided about this run's model when it was judged, if it was."""
    run = _read_run(folder)
    judged = (run.get("run"), run.get("model")) == (summary.name, summary.model)
    return str(run.get("decision", "")) if judged else ""


def _fill(cache: Store, summary: RunSummary, new: Path) -> None:
    recipes = {
        each.sha256: result.recipe for result in summary.stages for each in result.outputs.values()
    }
    for place, artifact in _files(summary):
        target = new / place
        target.parent.mkdir(exist_ok=True)
        recipe = recipes.get(artifact.sha256)
        source = read_or_heal(cache, artifact, recipe, summary.name, read=_path)
        # A copy, not a link: whoever edits results must not damage the store.
        shutil.copyfile(source, target)
    run = _run_json(summary)
    report = page(summary, _report_contents(cache, summary, new, run["versions"]))
    (new / REPORT).write_text(report, encoding="utf-8")
    text = visible(json.dumps(run, indent=2, ensure_ascii=False))  # the same JSON
    (new / "run.json").write_text(text + "\n", encoding="utf-8")


def _path(cache: Store, artifact: Artifact) -> Path:
    return cache.objects.verify(artifact.sha256, artifact.size)


def replace_folder(folder: Path, fill: Callable[[Path], None]) -> None:
    """Write a results folder whole or not at all, replacing earlier results there.

    Parameters
    ----------
    folder
        Its place.
    fill
        Writes the results into the empty folder that it is given, and ``run.json`` with the
        names of all the others under ``files``.

    Raises
    ------
    ResultsFolderError
        If the folder holds something that is not ours.
    StorageFullError
        If the disk is full.
    """
    folder = folder.resolve()  # a link stays, and what it leads to is replaced
    check_results_folder(folder)
    with explaining_full_disk("the results", folder.parent):
        _replace(folder, fill)


def _replace(folder: Path, fill: Callable[[Path], None]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".writing-") as temporary:
        new = Path(temporary) / "new"
        new.mkdir()
        fill(new)
        with _alone_with(folder):
            _check(folder)  # once more: what came there meanwhile is not ours to replace
            _put(new, folder, Path(temporary))


@contextmanager
def _alone_with(folder: Path) -> Iterator[None]:
    """Hold off other runs: a folder that is being replaced looks like one with foreign files.

    The lock lies elsewhere, so that beside the results there is nothing but results. There every
    user of the machine can put something under its name first, and keep that locked: what is not
    ours keeps nobody off, and of two runs at once one may find foreign files.
    """
    owner = os.getuid() if hasattr(os, "getuid") else 0
    name = f"digitflow-{owner}-{digest_bytes(str(folder.resolve()).encode())[:16]}.lock"
    path = Path(tempfile.gettempdir()) / name
    try:
        found = path.lstat()
    except FileNotFoundError:
        is_ours = True
    else:
        is_ours = stat.S_ISREG(found.st_mode) and found.st_uid == owner
    with briefly(path, f"the results folder {folder}", 0o600) if is_ours else nullcontext():
        yield


def _put(new: Path, folder: Path, aside: Path) -> None:
    """Put `new` in the place of `folder`. Of several at once the last one wins, and none fails."""
    for attempt in itertools.count():
        old = aside / f"old-{attempt}"
        with suppress(FileNotFoundError):
            folder.rename(old)
        try:
            new.rename(folder)
        except BaseException as error:
            if getattr(error, "errno", None) in (errno.ENOTEMPTY, errno.EEXIST):
                continue  # another run has put its own there meanwhile
            if old.exists():
                old.rename(folder)
            raise
        return


def read_metrics(cache: Store, stages: Sequence[StageResult]) -> dict[str, Any]:
    """Return what `evaluate` found, or an empty mapping if it was not part of the run."""
    for result in stages:
        if result.stage == "evaluate":
            metrics: dict[str, Any] = read_or_heal(
                cache, result.outputs["metrics"], result.recipe, "results"
            )
            return metrics
    return {}


def _files(summary: RunSummary) -> list[tuple[str, Artifact]]:
    files = []
    for (stage, output), place in _FILES.items():
        artifact = summary.output(stage, output)
        if artifact is not None:
            files.append((place, artifact))
    for result in summary.stages:
        if result.stage == "plot":
            files.extend(
                (f"figures/{name}{FORMATS[each.format].suffix}", each)
                for name, each in result.outputs.items()
            )
    return files


def _report_contents(
    cache: Store, summary: RunSummary, folder: Path, versions: Mapping[str, str | None]
) -> ReportContents:
    """Gather what the report shows from the results that are in the folder already."""
    figures = {name: folder / "figures" / f"{name}.png" for name in FIGURES}
    history = folder / _FILES["train", "history"]
    confusion = folder / _FILES["evaluate", "confusion_csv"]
    return ReportContents(
        figures={name: path.read_bytes() for name, path in figures.items() if path.exists()},
        history=history_table(history) if history.exists() else (),
        code={stage.label: _code_digest(cache, stage) for stage in summary.stages},
        versions=versions,
        confusion=_rows(confusion) if confusion.exists() else (),
        training=_training(cache, summary.stages),
    )


def _rows(file: Path) -> list[list[str]]:
    with file.open(newline="", encoding="utf-8") as lines:
        return list(csv.reader(lines))


def _training(cache: Store, stages: Sequence[StageResult]) -> Training | None:
    """Return what is on record of the training, of an ensemble all of it; None if one is gone."""
    records = [_record(cache, stage) for stage in stages if stage.stage == "train"]
    known = [record for record in records if record is not None]
    if not known or len(known) < len(records):
        return None
    last = max(known, key=lambda record: record.created)
    seconds = sum(record.seconds for record in known)
    return Training(last.run, last.created, seconds, last.made_with)


def _record(cache: Store, stage: StageResult) -> Record | None:
    try:
        return cache.local.records.load(stage.stage, stage.key)
    except RecordDamagedError:
        return None


def _code_digest(cache: Store, stage: StageResult) -> str:
    """Return the digest of a stage's code; nothing if its record is gone, or promised the bytes."""
    record = _record(cache, stage)
    if record is None or not record.document["code"]:
        return ""
    return digest_json(record.document["code"])


def _run_json(summary: RunSummary) -> dict[str, Any]:
    sweep = {} if summary.sweep is None else {"sweep": summary.sweep}
    return {
        "run": summary.name,
        "dataset": summary.dataset,
        "preset": summary.preset,
        "parameters": dict(summary.parameters),
        "seconds": summary.seconds,
        "model": summary.model,
        "decision": summary.decision,
        **sweep,
        "stages": summary.stages_json(),
        "versions": {
            "python": platform.python_version(),
            **{name: installed_version(name) for name in _RECORDED_PACKAGES},
        },
        "cores": os.cpu_count(),
        **({"workers": summary.workers} if summary.workers else {}),
        "files": [REPORT, *(place for place, _ in _files(summary))],
    }


def installed_version(package: str) -> str | None:
    """Return the version of an installed package; None for ours where it runs from its source."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
