"""A store: everything that is kept, in a folder, or behind a URL with copies in a folder.

Layout below the root, each part safe to list and to read with ordinary tools::

    objects/ab/cdef…          bytes under their SHA-256
    records/<stage>/<key>.json  what a stage gave for a key
    runs/<name>.json          what each run did
    copies/runs/<name>.json   the same, for one of the two may be damaged
    damaged/                  what lay in the place of a folder, moved there by a repair
    ledger/                   versions of trained models, and what happened to them; and its copies
    sources/<digest>.json     what a source of data served when it was last asked
    batches/                  what models predicted lately, in numbers
    index.sqlite3             where to find documents; made anew if it is missing
    scratch/<key>/            what a computation keeps until it is done
    scratch/<digest>/         a stored folder, unpacked
    locks/<key>.lock          somebody is computing; freed by the system if the holder dies
    locks/<key>.holder        who that is, for people who wait
    code.json                 what sources that were read before are made of
    live/<run>.lock           runs in progress, freed likewise; nothing newer is swept
    aside/                    what a sweep is looking at, for some microseconds
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from digitflow.storage.backends.local import LocalBackend
from digitflow.storage.backends.locks import KeyLocks
from digitflow.storage.backends.os_errors import explaining
from digitflow.storage.backends.owner import refuse_anothers, refuse_closed
from digitflow.storage.cache import Cache
from digitflow.storage.documents import LocalDocuments
from digitflow.storage.errors import StoreUnusableError
from digitflow.storage.formats.artifacts import Artifact, read_artifact
from digitflow.storage.history.batches import BATCHES
from digitflow.storage.history.registry import ModelStore
from digitflow.storage.history.runs import RUNS
from digitflow.storage.history.sources import SOURCES, SourceStore
from digitflow.storage.objects import ObjectStore
from digitflow.storage.records import RECORDS, RecordStore
from digitflow.storage.upkeep.quarantine import settle

if TYPE_CHECKING:
    from digitflow.storage.shared import SharedStore

# What a shared store needs is imported where it is used: most stores are folders.


def shared_url() -> str | None:
    """Return the URL in `DIGITFLOW_STORE`, or None if it names a folder or nothing."""
    place = os.environ.get("DIGITFLOW_STORE", "")
    return place if "://" in place else None


def store_location() -> Path:
    """Return the store's root: `DIGITFLOW_STORE`, or `~/.digitflow`.

    The default is absolute, so that a worker started elsewhere finds the same store.
    """
    return Path(os.environ.get("DIGITFLOW_STORE") or "~/.digitflow").expanduser().absolute()


class Store:
    """Objects, records, runs, models and the rest under one root.

    Parameters
    ----------
    root
        Folder of the store; created when something is written. By default that of
        `DIGITFLOW_STORE`.
    url
        Of a store that machines share. What lies there is kept in `root`, too; by default
        in a folder of this machine for that URL.

    Raises
    ------
    StoreUnusableError
        If a file lies there, or a folder that may not be read.
    """

    def __init__(self, root: Path | None = None, url: str | None = None) -> None:
        url = url or (shared_url() if root is None else None)
        if root is None and url is not None:
            from digitflow.storage.backends.remote import cache_folder

            root = cache_folder(url)
        self.root = root or store_location()
        refuse_closed(self.root)
        # Asked last whether it is a folder: another thread may make it at this moment.
        is_there = self.root.exists() or self.root.is_symlink()
        if is_there and not self.root.is_dir():
            found = (
                "a file"
                if self.root.exists()
                else f"a link to {self.root.readlink()}, which is not there"
            )
            message = (
                f"expected a folder for the store, found {found}: {self.root}. Move it away, or "
                "name another place: DIGITFLOW_STORE"
            )
            raise StoreUnusableError(message)
        folder = LocalBackend(self.root)
        settled = partial(settle, self.root)
        self.sources = SourceStore(LocalDocuments(SOURCES, folder))
        self.batches = LocalDocuments(BATCHES, folder)
        self.locks = KeyLocks(self.root / "locks")
        self.cache = Cache(self)
        self.shared: SharedStore | None = None
        if url is None:
            self.objects = ObjectStore(self.root / "objects", settled)
            self.records = RecordStore(LocalDocuments(RECORDS, folder))
            self.runs = LocalDocuments(RUNS, folder)
            self.models = ModelStore(folder, check=self._check)
            return
        from digitflow.storage.shared import SharedStore

        self.shared = SharedStore(folder, url, settled)
        self.objects = self.shared.objects
        self.records = RecordStore(self.shared.records)
        self.runs = self.shared.runs
        self.models = ModelStore(folder, self.shared.remote, self._check)

    @property
    def local(self) -> Store:
        """The store as this machine has it, without what lies behind its URL."""
        return self if self.shared is None else Store(self.root)

    def connect(self) -> None:
        """Make sure that a shared store answers, and send it what an earlier run could not.

        Call it before work that should not be in vain.

        Raises
        ------
        SharedStoreError
            If it cannot be used.
        StoreUnusableError
            If the folder is another user's store.
        """
        refuse_anothers(self.root)
        if self.shared is not None:
            self.shared.connect()

    def reference(self, sha256: str, format_name: str) -> Artifact:
        """Return a reference to an object of which the digest and the format are known.

        Raises
        ------
        ObjectMissingError, ObjectDamagedError
            If it is not there, or not what its name says.
        """
        return Artifact(sha256, self.objects.verify(sha256).stat().st_size, format_name)

    def read(self, artifact: Artifact) -> Any:
        """Open a stored value; arrays come as read-only memory maps, folders unpacked.

        Raises
        ------
        ObjectMissingError, ObjectDamagedError
            If its bytes are not there or not right.
        ArtifactError
            If they are not of the declared format.
        """
        path = self.objects.verify(artifact.sha256, artifact.size)
        return read_artifact(artifact.format, path, self.root / "scratch")

    def _check(self, artifact: Artifact) -> None:
        self.objects.verify(artifact.sha256, artifact.size)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Count as a run in progress: nothing that it makes or is served is swept meanwhile.

        Raises
        ------
        StorageFullError, StoreUnusableError
            If the store cannot be written.
        """
        from digitflow.storage.upkeep.liveness import in_progress

        with ExitStack() as stack:
            with explaining("the list of runs in progress", self.root):
                stack.enter_context(in_progress(self.root / "live"))
            yield
