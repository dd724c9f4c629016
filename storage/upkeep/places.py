"""The two places that are swept and verified, and what protects what is in use in each.

On this machine locks do: runs in progress are known, and what is to be removed is moved aside and
looked at once more. Nobody can lock a bucket, nor touch an object in it. There age decides alone:
machines write a record again that they have used for `sync_state.RENEWAL_SECONDS`, and an object
that a new record names and that lay there for as long; nothing goes that was written in twice that
time. Who serves a record all the same that goes at that very moment loses a hit, not a result.
"""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from digitflow.storage.backends.base import Backend
from digitflow.storage.backends.local import LocalBackend
from digitflow.storage.documents import COPIES, Documents
from digitflow.storage.errors import SharedStoreError
from digitflow.storage.history.batches import BATCHES
from digitflow.storage.history.models import ModelVersion
from digitflow.storage.history.runs import RUNS, RunRecord
from digitflow.storage.history.sources import SOURCES
from digitflow.storage.records import RECORDS, Record
from digitflow.storage.sync_state import RENEWAL_SECONDS, is_sent
from digitflow.storage.upkeep.liveness import oldest_start
from digitflow.storage.upkeep.quarantine import remove_unless, settle

if TYPE_CHECKING:
    from digitflow.storage.store import Store

MIN_KEEP_DAYS = 2 * RENEWAL_SECONDS / 86_400.0
# What a starting run has just made and not yet recorded must never look abandoned.
_GRACE_SECONDS = 60.0


@dataclass(frozen=True)
class Cutoffs:
    """Times before which things are old, in seconds since 1970.

    Attributes
    ----------
    documents
        For records and runs.
    others
        For everything else.
    """

    documents: float
    others: float


class Place(ABC):
    """What a store holds in one place.

    Attributes
    ----------
    backend
        Where everything lies.
    records, runs
        What stages gave, and what runs did.
    others
        The other documents, by what people call them.
    roots
        Documents that nothing can make again, by what people call them. While one cannot be read,
        nobody can tell what is needed.
    is_whole
        Whether all that a record names has to be there as well.
    temporary
        Folders in which killed writers leave files, each with how many levels below.
    """

    backend: Backend
    records: Documents[Record]
    runs: Documents[RunRecord]
    others: tuple[tuple[str, Documents[Any]], ...] = ()
    roots: tuple[tuple[str, Documents[Any]], ...]
    is_whole = True
    temporary: tuple[tuple[str, int], ...] = (
        ("records", 2),
        ("runs", 1),
        (f"{COPIES}/runs", 1),
        ("objects", 2),
    )

    def documents(self) -> dict[str, Documents[Any]]:
        """Return all documents, by what people call them."""
        return {"record": self.records, "run": self.runs, **dict(self.others)}

    def blocked(self) -> Iterator[tuple[str, str]]:
        """Yield folders that cannot be listed, and why."""
        found = dict(self.backend.blocked("objects", re.compile("[0-9a-f]{2}").fullmatch))
        named = [("record", self.records), *self.roots, *self.others]
        for documents in (each for _, each in named):
            kind = documents.kind
            found.update(documents.backend.blocked(kind.folder, kind.is_folder))
            if kind.is_copied:
                copies = f"{COPIES}/{kind.folder}"
                found.update(documents.backend.blocked(copies, kind.is_folder))
        yield from found.items()

    @abstractmethod
    def cutoffs(self, keep_days: float) -> Cutoffs:
        """Return what counts as old, where documents used in so many days are kept."""

    @abstractmethod
    def remove_unless(self, name: str, needed: Callable[[str], bool]) -> bool:
        """Remove something, unless it proves to be needed; return whether it was removed.

        Parameters
        ----------
        name
            What to remove.
        needed
            Told the name that it has meanwhile; says whether it must stay.
        """

    @abstractmethod
    def in_use(self) -> Iterator[str]:
        """Yield the digests of objects that are kept, beside those of records and runs."""

    @abstractmethod
    def reproducible(self) -> Iterable[ModelVersion]:
        """Return the versions of models whose records are kept for `digitflow reproduce`."""

    def only_here(self, name: str) -> bool:
        """Tell whether a document must stay because a shared store does not have it yet."""
        return False

    def holds(self, name: str) -> bool:
        """Tell whether something is there."""
        return self.backend.stat(name) is not None

    def heal(self, sha256: str) -> bool:
        """Put an object back in its place from elsewhere, if that can be done."""
        return False


class Here(Place):
    """What this machine holds; of a shared store that need not be all of it."""

    def __init__(self, store: Store) -> None:
        self.root = store.root
        self.backend = self.folder = LocalBackend(store.root)
        self.records = Documents(RECORDS, self.backend)
        self.runs = Documents(RUNS, self.backend)
        self.batches = Documents(BATCHES, self.backend)
        self.models = store.models
        self.locks = store.locks
        self.is_whole = store.shared is None
        self.others = (
            ("source", Documents(SOURCES, self.backend)),
            ("batch", self.batches),
            *_entries(store.models.ledger.here()),
        )
        self.temporary = (("", 1), ("objects/tmp", 1), ("records", 2), ("models", 2))
        ledger = ("ledger", "ledger-copies", "ledger-mirror")
        folders = ("runs", f"{COPIES}/runs", "sources", "batches", *ledger)
        self.temporary += tuple((folder, 1) for folder in folders)
        self.roots = (("run", self.runs), *_entries(store.models.ledger.here()))

    def cutoffs(self, keep_days: float) -> Cutoffs:
        """Return what counts as old: nothing that was made or used since a run started."""
        moment = time.time()
        live = oldest_start(self.root / "live")
        # Without a run in progress nothing is half done, but one may start any moment.
        others = min(moment, live if live is not None else moment) - _GRACE_SECONDS
        return Cutoffs(min(moment - keep_days * 86_400, others), others)

    def remove_unless(self, name: str, needed: Callable[[str], bool]) -> bool:
        """Remove something that lies aside while it is looked at."""
        return remove_unless(
            self.root,
            self.folder.path(name),
            lambda aside: needed(str(aside.relative_to(self.root))),
        )

    def in_use(self) -> Iterator[str]:
        """Yield what the versions of models refer to, as far as this machine knows."""
        return self.models.references_here()

    def reproducible(self) -> Iterable[ModelVersion]:
        """Return the versions to keep the records of; a shared store keeps them for all."""
        return self.models.reproducible() if self.is_whole else ()

    def only_here(self, name: str) -> bool:
        """Tell whether a shared store is still to be sent this document."""
        return not self.is_whole and not is_sent(self.folder.path(name))

    def holds(self, name: str) -> bool:
        """Tell whether something is there, or is aside for a moment."""
        if not super().holds(name):
            settle(self.root)
        return super().holds(name)


class There(Place):
    """What lies behind the URL of a shared store.

    Raises
    ------
    SharedStoreError
        If the store has no URL, or cannot be reached.
    """

    temporary = (*Place.temporary, ("unfinished", 1))

    def __init__(self, store: Store) -> None:
        if store.shared is None:
            message = f"expected a store with a URL such as s3://bucket/prefix, found {store.root}"
            raise SharedStoreError(message)
        store.connect()
        self.backend = store.shared.remote
        self.records = Documents(RECORDS, self.backend)
        self.runs = Documents(RUNS, self.backend)
        self.models = store.models
        self.others = _entries(store.models.ledger.there())
        self.roots = (("run", self.runs), *self.others)
        self._here = store.shared.objects

    def cutoffs(self, keep_days: float) -> Cutoffs:
        """Return what counts as old.

        Raises
        ------
        ValueError
            If `keep_days` is less than is safe beside machines that use the store.
        """
        if keep_days < MIN_KEEP_DAYS:
            message = (
                f"expected at least {MIN_KEEP_DAYS:g} days for a shared store, found "
                f"{keep_days:g}: other machines may be using what is younger"
            )
            raise ValueError(message)
        moment = time.time()
        return Cutoffs(moment - keep_days * 86_400, moment - MIN_KEEP_DAYS * 86_400)

    def remove_unless(self, name: str, needed: Callable[[str], bool]) -> bool:
        """Remove something after another look at it."""
        if not self.holds(name) or needed(name):
            return False
        self.backend.delete(name)
        return True

    def in_use(self) -> Iterator[str]:
        """Yield what the versions of models refer to."""
        return self.models.references()

    def reproducible(self) -> Iterable[ModelVersion]:
        """Return the versions to keep the records of."""
        return self.models.reproducible()

    def heal(self, sha256: str) -> bool:
        """Send an object again that this machine has sound."""
        if not self._here.holds_here(sha256):
            return False
        self._here.send_again(sha256)
        return True


def _entries(found: Iterable[Documents[Any]]) -> tuple[tuple[str, Documents[Any]], ...]:
    """Return the files of a ledger's entries, by what people call them."""
    return tuple(("ledger entry", each) for each in found)
