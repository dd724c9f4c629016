"""From a record to its outputs once more: in a clean process, with nothing of the cache written.

A fresh interpreter gets the stage's inputs from a store of its own, into which they are copied by
their digests, and leaves its outputs there. What comes out is compared with what the record says.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

from digitflow.storage.code.commit import COMMIT
from digitflow.storage.digests import short
from digitflow.storage.errors import ObjectDamagedError, ObjectMissingError, RecordDamagedError
from digitflow.storage.formats.artifacts import Artifact
from digitflow.storage.records import Record
from digitflow.storage.store import Store
from digitflow.tasks.recomputation import clean_process
from digitflow.tasks.recomputation.clean_process import ANSWER, REQUEST, STORE

SAME: Final = "same"
DIFFERENT: Final = "differs"
CANNOT: Final = "cannot"

INPUTS_GONE = "its inputs are gone"
# As long as a stage may take, or so many times as long as its record says that it took.
_SECONDS_TO_RECOMPUTE = 3_600.0
_TIMES_AS_LONG = 20
# Where this digitflow is imported from: a checkout, or an environment's packages.
CHECKOUT = Path(clean_process.__file__).parents[3]


@dataclass(frozen=True)
class Recomputed:
    """What came of computing a record's outputs once more.

    Attributes
    ----------
    record
        The record.
    verdict
        ``same``, ``differs``, or ``cannot`` be told.
    why
        In a few words, why it cannot be told.
    details
        What differs, and what may have made it differ; or more on why it cannot be told.
    compared
        Whether there were outputs to compare. Where the process was killed, or the disk full, the
        same code may come to the same bytes the next time.
    """

    record: Record
    verdict: Literal["same", "differs", "cannot"]
    why: str = ""
    details: tuple[str, ...] = ()
    compared: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        accepted = self.record.accepted
        return {
            "stage": self.record.stage,
            "label": self.record.label,
            "key": self.record.key,
            "run": self.record.run,
            "verdict": self.verdict,
            "why": self.why or None,
            "details": list(self.details),
            "accepted": None if accepted is None else asdict(accepted),
        }


class Records:
    """The readable records of a store, each read once.

    Parameters
    ----------
    store
        The store.
    """

    def __init__(self, store: Store) -> None:
        self.by_key: dict[str, Record] = {}
        self._makers: dict[str, list[Record]] = {}
        for name in store.records.documents.everywhere():
            with suppress(FileNotFoundError, RecordDamagedError):  # `digitflow verify` says so
                record = store.records.documents.load(name)
                self.by_key[record.key] = record
                for sha256 in {each.sha256 for each in record.outputs.values()}:
                    self._makers.setdefault(sha256, []).append(record)

    def makers(self, sha256: str) -> list[Record]:
        """Return the records of what gave an object, newest first."""
        made = self._makers.get(sha256, [])
        return sorted(made, key=lambda record: record.created, reverse=True)

    def artifact(self, sha256: str) -> Artifact | None:
        """Return the reference to an object, or None if no record, or no two alike, has it."""
        found = {
            each.format: each
            for record in self._makers.get(sha256, [])
            for each in record.outputs.values()
            if each.sha256 == sha256
        }
        return next(iter(found.values())) if len(found) == 1 else None


def recompute(
    record: Record,
    store: Store,
    records: Records,
    folder: Path,
    *,
    project: Path | None = None,
    python: str = sys.executable,
) -> Recomputed:
    """Compute a record's outputs in a clean process, and compare their digests with the record's.

    Parameters
    ----------
    record
        What is computed once more.
    store
        Where its inputs are; only read.
    records
        Those of the store.
    folder
        For the process: its request, its answer and its store, in which inputs that an earlier
        call left or made are found first.
    project
        Whose code is run; by default that of the working directory, with this digitflow.
    python
        Interpreter.
    """
    inputs = {}
    fresh = Store(folder / STORE)
    for name, sha256 in record.document["inputs"].items():
        artifact = records.artifact(sha256)
        if artifact is None:
            detail = f"no record says what its input {name} is, {short(sha256)}…"
            return Recomputed(record, CANNOT, INPUTS_GONE, (detail,))
        try:
            bring(artifact, store, fresh)
        except (ObjectMissingError, ObjectDamagedError) as error:
            detail = f"{name}: {str(error).partition(':')[0]}"
            return Recomputed(record, CANNOT, INPUTS_GONE, (detail,))
        inputs[name] = artifact.to_json()
    request = {
        "label": record.label,
        "document": dict(record.document),
        "observed": dict(record.observed),
        "inputs": inputs,
    }
    folder.joinpath(REQUEST).write_text(json.dumps(request), encoding="utf-8")
    answer = _ask(folder, project, python, record.seconds)
    if "cannot" in answer:
        return Recomputed(record, CANNOT, answer["cannot"], tuple(answer["details"]))
    if "failed" in answer:
        return Recomputed(record, DIFFERENT, details=(f"it fails now: {answer['failed']}",))
    return _compared(record, answer)


def bring(artifact: Artifact, store: Store, other: Store) -> None:
    """Copy an object from one store to another, unless that has it sound.

    Raises
    ------
    ObjectMissingError, ObjectDamagedError
        If neither has.
    """
    if other.objects.holds(artifact.sha256):
        return
    source = store.objects.verify(artifact.sha256, artifact.size)
    with other.objects.temporary() as copy:
        shutil.copyfile(source, copy)
        other.objects.put_back(copy)


def _ask(folder: Path, project: Path | None, python: str, seconds: float) -> dict[str, Any]:
    """Run the process on the request in a folder; return its answer."""
    answer = folder / ANSWER
    answer.unlink(missing_ok=True)
    path = [str(project)] if project else [os.environ.get("PYTHONPATH", "")]
    # Somebody's own stages lie in the current folder; what else lies there stands for no library.
    last = [] if project else [str(Path.cwd())]
    if not any("-packages" in part for part in CHECKOUT.parts):
        path.append(str(CHECKOUT))
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
        "DIGITFLOW_STORE": str(folder / STORE),
    }
    limit = max(_SECONDS_TO_RECOMPUTE, _TIMES_AS_LONG * seconds)
    try:
        done = subprocess.run(  # noqa: S603 - our own script
            [python, "-P", clean_process.__file__, str(folder), *last],
            cwd=project,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=False,
            timeout=limit,
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"it had not ended after {limit:g} s"}
    if done.returncode != 0 or not answer.is_file():
        said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        return {"failed": f"its process ended with {done.returncode}: {said}"}
    found: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
    return found


def _compared(record: Record, answer: Mapping[str, Any]) -> Recomputed:
    recorded = {name: artifact.sha256 for name, artifact in record.outputs.items()}
    found: Mapping[str, str] = answer["outputs"]
    if found == recorded:
        changed = tuple(answer.get("changed", ()))
        return Recomputed(record, SAME, details=changed, compared=True)
    differ = [
        f"{name}: recorded {_shown(recorded.get(name))}, computed now {_shown(found.get(name))}"
        for name in sorted({*recorded, *found})
        if recorded.get(name) != found.get(name)
    ]
    details = (*differ, *_causes(record, answer))
    return Recomputed(record, DIFFERENT, details=details, compared=True)


def _causes(record: Record, answer: Mapping[str, Any]) -> Iterable[str]:
    """Say what may have made the outputs differ."""
    accepted = record.accepted
    if accepted is not None:
        return [
            f"accepted by {accepted.by} as equivalent to {short(accepted.key)}… "
            f"({accepted.reason}): it is not; digitflow run --refresh {record.stage}"
        ]
    made_with = answer.get("made_with", {})
    changed = list(answer.get("changed", ()))
    changed += [
        f"{name} {before} → {made_with[name]}"
        for name, before in record.made_with.items()
        if name != COMMIT and made_with.get(name, before) != before
    ]
    return dict.fromkeys(changed) or [
        "code, libraries, BLAS and processor are those of the record: the record is wrong, or the "
        "stage does not give the same bytes twice"
    ]


def _shown(sha256: str | None) -> str:
    return "none" if sha256 is None else f"{short(sha256)}…"
