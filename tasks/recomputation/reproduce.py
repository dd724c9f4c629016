"""A training once more, from its data on: each stage by its record, in a clean environment."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from importlib.metadata import distributions
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from digitflow.storage.backends.os_errors import explaining
from digitflow.storage.code.commit import COMMIT, DIRTY
from digitflow.storage.code.processor import processor
from digitflow.storage.digests import digest_bytes, digest_json, short
from digitflow.storage.errors import ObjectDamagedError, ObjectMissingError, RecordDamagedError
from digitflow.storage.formats.artifacts import Artifact
from digitflow.storage.history.models import ModelVersion
from digitflow.storage.records import Record, now
from digitflow.storage.store import Store
from digitflow.tasks.recomputation import clean_process
from digitflow.tasks.recomputation.clean_process import CODE, PROJECT, STORE
from digitflow.tasks.recomputation.code_base import CodeBase, CodeBaseError, CodeBases
from digitflow.tasks.recomputation.recompute import (
    CANNOT,
    CHECKOUT,
    DIFFERENT,
    SAME,
    Recomputed,
    Records,
    bring,
    recompute,
)


class NotReproducibleError(Exception):
    """What is recorded of a model is not enough to train it once more."""


def reproduce(
    store: Store,
    version: ModelVersion,
    *,
    repository: Path = CHECKOUT,
    venv: bool = False,
    restore: bool = False,
    say: Callable[[Recomputed, str], None] = lambda found, with_what: None,
) -> list[Recomputed]:
    """Train a model once more, in an empty store, and compare stage by stage.

    Parameters
    ----------
    store
        Where its records and its data are; only read, but for `restore`.
    version
        The model.
    repository
        Where commits are checked out from; by default that of this digitflow.
    venv
        Whether the packages are those of each commit's ``requirements.txt``.
    restore
        Whether what the store has lost of the model is put back, if every stage gives the same.
    say
        Told what came of each stage, and whose code it ran.

    Returns
    -------
    list of Recomputed
        Up to the first stage that differs.

    Raises
    ------
    NotReproducibleError
        If a record, the data or the code is not to be had.
    StoreUnusableError, StorageFullError
        If something is to be put back, and the store cannot be written.
    """
    records = Records(store)
    trained = records.by_key.get(version.training)
    if trained is None:
        message = (
            f"version {version.version} cannot be reproduced: the record of its training, "
            f"{short(version.training)}…, is no longer in the store"
        )
        raise NotReproducibleError(message)
    order = {}
    if store.runs.kind.is_name(version.run):
        try:
            order = {each["key"]: n for n, each in enumerate(store.runs.load(version.run).stages)}
        except (FileNotFoundError, RecordDamagedError):
            order = {}
    lineage: dict[str, Record] = {}
    _add(trained, records, order, lineage, ())
    lost = lost_of(store, version) if restore else ()
    if lost:  # found out now, and not after the training
        with explaining("what is put back", store.root), store.objects.temporary():
            pass
    for artifact in lost:  # the weights are the training's; what else there is follows from them
        _add_maker(artifact.sha256, "no record says how what was lost", records, order, lineage, ())
    found: list[Recomputed] = []
    with TemporaryDirectory(prefix="digitflow-reproduce-") as name:
        folder = Path(name)
        with CodeBases(repository, folder, venv=venv) as bases:
            for record in lineage.values():
                again, base = _again(record, store, records, folder, bases)
                if record is trained and again.verdict == SAME:
                    again = _as_registered(again, version)
                found.append(again)
                say(again, base)
                if again.verdict != SAME:
                    return found
            for artifact in lost:
                bring(artifact, Store(folder / STORE), store)
    return found


def lost_of(store: Store, version: ModelVersion) -> tuple[Artifact, ...]:
    """Return what a model is used by and the store does not have sound."""
    return tuple(each for each in version.artifacts if not store.objects.holds(each.sha256))


def restore_lost(
    store: Store,
    version: ModelVersion,
    *,
    repository: Path = CHECKOUT,
    say: Callable[[Recomputed, str], None] = lambda found, with_what: None,
) -> None:
    """Put back what the store has lost of a model, trained once more from its records.

    Parameters
    ----------
    store, version, repository, say
        As for `reproduce`.

    Raises
    ------
    NotReproducibleError
        If it cannot be trained to the same bytes; says what a person can do.
    StoreUnusableError, StorageFullError
        If it cannot be put back.
    """
    lost = lost_of(store, version)
    if not lost:
        return
    as_it_is = _as_it_is(version, lost)
    tried = _tried(store, version)
    if tried.get("as") == as_it_is:
        message = (
            f"{tried['why']}. That was found on {tried['at'][:10]}; until code, packages, the "
            f"processor or what is lost change, only digitflow reproduce v{version.version} "
            "--restore tries again"
        )
        raise NotReproducibleError(message)
    try:
        last = reproduce(store, version, repository=repository, restore=True, say=say)[-1]
    except (NotReproducibleError, CodeBaseError) as error:
        why, is_known = str(error), False
    else:
        if last.verdict == SAME:
            return
        why = f"trained once more, {last.record.label} differs: {'; '.join(last.details)}"
        is_known = last.compared
    message = (
        f"{len(lost)} of the objects that version {version.version} is used by are lost or "
        f"damaged, and {why}. Restore them from a backup of the store, or promote another version: "
        "digitflow models promote VERSION"
    )
    if is_known:  # it has cost a training, and would give the same the next night
        store.sources.save(_name(version), {"as": as_it_is, "why": message, "at": now()})
    raise NotReproducibleError(message)


def _name(version: ModelVersion) -> str:
    return f"training version {version.id} once more"


def _tried(store: Store, version: ModelVersion) -> dict[str, Any]:
    """Return what is remembered of the last time that it came to other bytes; here, as always."""
    try:
        return store.sources.load(_name(version)) or {}
    except RecordDamagedError:
        return {}


def _as_it_is(version: ModelVersion, lost: Iterable[Artifact]) -> str:
    """Return what is another text where training it once more may come to something else."""
    package = Path(clean_process.__file__).parents[2]
    sources = [file for room in ("storage", "tasks") for file in (package / room).rglob("*.py")]
    code = {str(file.relative_to(package)): digest_bytes(file.read_bytes()) for file in sources}
    packages = sorted(f"{each.name}=={each.version}" for each in distributions())
    gone = sorted(each.sha256 for each in lost)
    return digest_json([version.training, gone, code, packages, sys.version, processor(None)])


def _add(
    record: Record,
    records: Records,
    order: dict[str, int],
    lineage: dict[str, Record],
    below: tuple[str, ...],
) -> None:
    """Add what a record was made from, and then the record itself.

    A stage that hands on what it was given made the same object as who made it first: the maker is
    the first in the order of the model's run, or else the oldest record, and none that follows.
    """
    path = (*below, record.key)
    for name, sha256 in record.document["inputs"].items():
        problem = f"{record.label} cannot be reproduced: no record says how its input {name}"
        _add_maker(sha256, problem, records, order, lineage, path)
    lineage[record.key] = record


def _add_maker(
    sha256: str,
    problem: str,
    records: Records,
    order: dict[str, int],
    lineage: dict[str, Record],
    path: tuple[str, ...],
) -> None:
    makers = [each for each in records.makers(sha256) if each.key not in path]
    makers.sort(key=lambda each: (order.get(each.key, len(order)), each.created))
    if not makers:
        message = f"{problem}, {short(sha256)}…, was made"
        raise NotReproducibleError(message)
    if makers[0].key not in lineage:
        _add(makers[0], records, order, lineage, path)


def _again(
    record: Record, store: Store, records: Records, folder: Path, bases: CodeBases
) -> tuple[Recomputed, str]:
    """Compute a record once more, with the code of its commit or with what is here."""
    if not record.document["code"]:  # data, promised by its digest
        return _data(record, store), "data"
    commit, is_dirty = _commit(record)
    tried = []
    for base in _to_try(bases, commit, is_dirty):
        again = recompute(record, store, records, folder, project=base.project, python=base.python)
        if again.verdict != CANNOT:
            return again, base.name
        tried.append(f"{base.name}: {again.why}: {'; '.join(again.details)}")
        if again.why not in (CODE, PROJECT):
            break
    if not commit:
        tried.append("its record names no commit; check out the code of that time")
    elif is_dirty:
        tried.append(f"the code of that time was not committed as it was, on {commit[:12]}")
    elif bases.at(commit) is None:
        tried.append(f"commit {commit[:12]} is on no branch of this repository")
    message = f"{record.label} cannot be reproduced: {'; '.join(tried)}"
    raise NotReproducibleError(message)


def _to_try(bases: CodeBases, commit: str, is_dirty: bool) -> Iterable[CodeBase]:
    """Yield the code of a clean commit first, of a dirty one last: what is here may be it."""
    if is_dirty or not commit:
        yield bases.here()
    if commit and (base := bases.at(commit)) is not None:
        yield base
    if commit and not is_dirty:
        yield bases.here()


def _commit(record: Record) -> tuple[str, bool]:
    said = record.made_with.get(COMMIT, "")
    return said.removesuffix(DIRTY), said.endswith(DIRTY)


def _data(record: Record, store: Store) -> Recomputed:
    try:
        for artifact in record.outputs.values():
            store.objects.verify(artifact.sha256, artifact.size)
    except (ObjectMissingError, ObjectDamagedError) as error:
        message = f"{record.label} cannot be reproduced: {error}; digitflow run fetches it again"
        raise NotReproducibleError(message) from error
    return Recomputed(record, SAME)


def _as_registered(again: Recomputed, version: ModelVersion) -> Recomputed:
    """Hold what came out against the ledger too: the record may name other weights."""
    made = {artifact.sha256 for artifact in again.record.outputs.values()}
    wrong = {
        name: artifact
        for name, artifact in (("weights", version.weights), ("predictions", version.predictions))
        # Scores of a flow of one's own come after its training.
        if artifact.sha256 not in made and (version.is_of_images or name == "weights")
    }
    if not wrong:
        return again
    details = (f"{name}: the ledger names {short(each.sha256)}…" for name, each in wrong.items())
    return replace(again, verdict=DIFFERENT, details=(*details, "the training gives none of them"))
