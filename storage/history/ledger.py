"""An append-only, hash-chained log: what must never be lost, forged by accident, or have two ends.

Entry N is created and never replaced: whoever finds N taken reads it and tries N + 1, so that a
race has one winner on any backend that can create. Each entry holds the digest of the one before.

Layout below the root of the place that all machines of a store see::

    ledger/00000001.json         the entries
    ledger-copies/00000001.json  a copy of each
    ledger-head.json             how many there are at least, and which are known to be lost
    ledger-told.json             how many of them others have been told of

A machine that shares a store keeps one copy more, ``ledger-mirror/``, from which it reads. An entry
that is damaged or missing in one place is put back from another by whoever reads next. One that is
sound nowhere is *lost*: a stand-in takes its place in the chain, and says so for good.
"""

from __future__ import annotations

import errno
import logging
import re
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from digitflow.storage.backends.base import MAX_DOCUMENT_BYTES, Backend, Entry, TooLargeError
from digitflow.storage.backends.local import LocalBackend
from digitflow.storage.backends.os_errors import explaining
from digitflow.storage.digests import digest_bytes, digest_json, short
from digitflow.storage.documents import Document, Documents, Kind, checksummed, verified
from digitflow.storage.errors import LedgerError, RecordDamagedError, StorageError
from digitflow.storage.fields import Count, Sha256

_log = logging.getLogger(__name__)

GENESIS = "0" * 64  # what the first entry has in place of the digest of one before
_MIRROR = "ledger-mirror"
_HEAD = "ledger-head.json"
_TOLD = ("ledger-told.json", "ledger-copies/told")
# Each attempt that fails is another writer's success, so nobody comes near it.
_MOST_ATTEMPTS = 10_000
# More entries than this are not lost by any accident: somebody has put a file there.
_MOST_LOST = 10_000
# What the system says of a file that is not what it was; whatever else it says may pass.
_DAMAGE = (errno.EIO, errno.EINVAL, errno.ELOOP, errno.EISDIR, errno.ENOTDIR)


@dataclass(frozen=True)
class Link(Document):
    """What makes a document an entry of the chain.

    Attributes
    ----------
    order
        Its number, counted from 1.
    previous
        Digest of the entry before; zeros for the first.
    stands_for
        Of a stand-in, the digest of the entry that was lost, as far as it is known.
    """

    stays_as_written: ClassVar[bool] = True
    order: Count
    previous: Sha256
    stands_for: Sha256 | None = None

    @property
    def digest(self) -> str:
        """What the next entry holds of this one."""
        if self.stands_for:
            return self.stands_for
        return digest_bytes(self.written) if self.written else digest_json(asdict(self))


L = TypeVar("L", bound=Link)


@dataclass(frozen=True)
class _Head:
    """Of which entry it is known that there was one, its digest, and which have stand-ins."""

    order: int
    digest: str
    lost: list[int] = field(default_factory=list)


def entries(of: type[L], folder: str = "ledger") -> Kind[L]:
    """Return the kind of document that a ledger's entries are."""
    return Kind(
        of,
        folder=folder,
        is_name=re.compile(r"\d{8}").fullmatch,
        expected="a number of eight digits",
        title=lambda name: f"ledger entry {int(name)}",
        name_of=lambda entry: _name(entry.order),
    )


class Ledger(Generic[L]):
    """The log of one store.

    Parameters
    ----------
    kind
        What its entries are, see `entries`.
    here
        Folder of this machine.
    there
        What lies behind the store's URL; None for a store in a folder.
    stand_in
        Makes the entry that stands for a lost one, of its order, `previous` and `stands_for`:
        always the same for the same three.

    Attributes
    ----------
    is_read_only
        Whether this is a machine's copy of a shared store's ledger, opened without the URL.
    """

    def __init__(
        self,
        kind: Kind[L],
        here: LocalBackend,
        there: Backend | None,
        stand_in: Callable[[int, str, str | None], L],
    ) -> None:
        self._kind = kind
        self._stand_in = stand_in
        self._home: Backend = here if there is None else there
        self.is_read_only = there is None and here.path(_MIRROR).is_dir()
        mirror = replace(kind, folder=_MIRROR)
        self.documents = Documents(mirror if self.is_read_only else kind, self._home)
        self._copies = Documents(replace(kind, folder="ledger-copies"), self._home)
        self._mirror = None if there is None else Documents(mirror, here)
        self._known: list[L] = []
        self._files: dict[str, Entry] = {}  # what the entries that are known were read from
        self._unrecorded: list[L] = []
        self._lost: list[int] = []  # as the head had it at the last look at the whole ledger
        self._can_create: bool | None = None if there is not None else True

    def __str__(self) -> str:
        """Return where the entries lie."""
        return f"{self._home}/{self.documents.kind.folder}"

    def read(self, *, whole: bool = False) -> list[L]:
        """Return all entries in order, stand-ins for lost ones included; heal what can be healed.

        The first time all of them are looked at, and wherever something is not as it ought to be
        or is known to be lost since, and if the `whole` ledger is asked for. Otherwise it is enough
        that the last that is known is as it was: what has come since follows it.

        Raises
        ------
        LedgerError
            If this machine has seen another history than lies there.
        SharedStoreError
            If the shared store cannot be used.
        """
        head = self._read_head()  # before the list: it is never ahead of what is listed later
        self._known = (None if whole else self._continued(head)) or self._whole(head)
        return list(self._known)

    def _continued(self, head: _Head | None) -> list[L] | None:
        """Return all entries if what follows those that are known is sound; else None."""
        if not self._known or self._unrecorded or (head is None and not self.is_read_only):
            return None
        if head is not None and head.lost != self._lost:
            return None  # somebody has found one of those that are known to be lost, or found it
        last = len(self._known)
        found = self.documents.since(_name(last))
        chain = self._follow(found, last - 1) if _name(last) in found else None
        return chain if chain is not None and (not head or self._holds(chain, head)) else None

    def _whole(self, head: _Head | None) -> list[L]:
        """Return all entries, after a look at every file of each."""
        self._lost = [] if head is None else head.lost
        copies = {} if self.is_read_only else self._copies.entries()
        mirrored = {} if self._mirror is None else self._mirror.entries()
        found = self.documents.entries()
        chain = self._follow(found)
        is_whole = (
            chain is not None
            and mirrored.keys() <= found.keys()
            and copies.keys() <= found.keys()
            and all(each.size == found[n].size for n, each in (*copies.items(), *mirrored.items()))
            and (head is None or self._holds(chain, head))
        )
        if chain is not None and is_whole:
            self._unrecorded = []
            if not self.is_read_only:
                for name in sorted(found.keys() - copies.keys()):
                    self._put_back(self._copies, chain[int(name) - 1])
        else:
            self._files = {}
            last = max((int(name) for name in (*found, *copies, *mirrored)), default=0)
            chain = self._mend(max(last, head.order if head else 0), head)
        return chain

    def append(self, decide: Callable[[list[L]], Callable[[int, str], L] | None]) -> L | None:
        """Add an entry, or none; of several writers at once each adds its own, one by one.

        Parameters
        ----------
        decide
            Told all entries that there are. Returns what makes the next one of its order and of
            `previous`, or None for no entry at all. It is asked again if another writer was
            faster.

        Returns
        -------
        Link
            The new entry, or None.

        Raises
        ------
        LedgerError
            If the store cannot create without replacing, or is a copy to be read only.
        StorageError
            Whatever `decide` raises, or if the store cannot be used.
        """
        self._check_own()
        chain = self.read()
        for _ in range(_MOST_ATTEMPTS):
            make = decide(chain)
            if make is None:
                return None
            self.check_writable()  # only now: a run that has nothing new to say asks for nothing
            if not self._record_losses():
                chain = self.read()
                continue
            entry = make(len(chain) + 1, chain[-1].digest if chain else GENESIS)
            if self._create(entry):
                self._known = [*chain, entry]
                self._settle(entry)
                return entry
            chain = self.read()
        message = f"{self}: {_MOST_ATTEMPTS:,} other entries came between; try again"
        raise LedgerError(message)

    def check_writable(self) -> None:
        """Refuse a place in which two writers could both believe that they had been first.

        Raises
        ------
        LedgerError
            If the store replaces what it was to create, or is a machine's copy of a shared one.
        """
        self._check_own()
        if self._can_create is None:
            name = f"ledger-probe-{secrets.token_hex(8)}"
            first = self._home.create(name, b"1")
            second = self._home.create(name, b"2")
            self._home.delete(name)
            self._can_create = first and not second
        if not self._can_create:
            message = (
                f"the store {self._home} replaces what it is asked to create only if absent, so "
                "two machines could both move the champion. Models are registered and retrained "
                "only in stores that can refuse: a folder, or S3 with conditional writes "
                "(If-None-Match), Google Cloud Storage, Azure"
            )
            raise LedgerError(message)

    def _check_own(self) -> None:
        if self.is_read_only:
            message = (
                f"{self} is this machine's copy of a shared store's ledger, and can only be read: "
                "set DIGITFLOW_STORE to the store's URL"
            )
            raise LedgerError(message)

    def here(self) -> list[Documents[L]]:
        """Return the entries' files on this machine, of a shared ledger its mirror."""
        if self._mirror is not None:
            return [self._mirror]
        return [self.documents] if self.is_read_only else [self.documents, self._copies]

    def there(self) -> list[Documents[L]]:
        """Return the entries' files behind the store's URL; none if it has no URL."""
        return [] if self._mirror is None else [self.documents, self._copies]

    def told(self) -> int:
        """Return up to which entry others have been told."""
        found = [0]
        for name in _TOLD:
            with suppress(OSError, TooLargeError, RecordDamagedError, KeyError, ValueError):
                found.append(int(verified(self._home.read(name))["entries"]))
        return max(found)

    def mark_told(self, order: int) -> None:
        """Note that others have been told of all entries up to this one."""
        for name in _TOLD:  # or damage to one file would tell them everything once more
            self._home.write(name, checksummed({"entries": order}))

    def repair(self) -> None:
        """Put back every damaged file of an entry that is sound elsewhere."""
        self._mend(len(self.read()), self._read_head())

    def _follow(self, found: dict[str, Entry], start: int = 0) -> list[L] | None:
        """Return the entries if each is sound and holds the digest of the one before.

        Those up to `start` are taken as they are known; the files of all others are `found`. A
        folder that is listed while entries come may show a later one, and not the one before.
        """
        chain = self._known[:start]
        for order in range(start + 1, max(map(int, found), default=start) + 1):
            name = _name(order)
            is_known = order <= len(self._known) and name in found
            if is_known and self._files.get(name) == found[name]:
                entry: L | None = self._known[order - 1]  # the file has not been touched since
            else:
                entry = self._load(order)
                if entry is not None and self._known[order - 1 : order] == [entry]:
                    entry = self._known[order - 1]
            if entry is None or entry.previous != (chain[-1].digest if chain else GENESIS):
                return None
            chain.append(entry)
        self._files |= found
        return chain

    def _load(self, order: int) -> L | None:
        """Return an entry, from this machine if it is sound here; None if damaged or absent."""
        name = _name(order)
        if self._mirror is not None:
            with suppress(OSError, StorageError):
                return self._mirror.load(name)
        try:
            entry = self.documents.load(name)
        except (FileNotFoundError, RecordDamagedError):
            return None
        if self._mirror is not None:
            self._put_back(self._mirror, entry)
        return entry

    def _mend(self, count: int, head: _Head | None) -> list[L]:
        """Find each entry wherever it is sound, put it back elsewhere, and name what is lost."""
        found = {order: self._sound(order) for order in self._orders(count)}
        last = max((order for order, each in found.items() if each), default=0)
        last = max(last, head.order if head else 0)
        there = {*self.documents.entries(), *self._copies.entries()}
        while _name(last + 1) in there:  # damaged at the end, where nothing says what it was
            last += 1
        if sum(not found.get(order) for order in range(1, last + 1)) > _MOST_LOST:
            message = (
                f"{self} holds an entry of the order {last:,}, and lacks most of those before: "
                "it was not digitflow that made it. Delete the files that are not its own"
            )
            raise LedgerError(message)
        # From the last to the first: each says what the one before it was.
        expected = head.digest if head is not None and head.order == last else None
        chosen: dict[int, L | None] = {}
        due: dict[int, str | None] = {}
        for order in range(last, 0, -1):
            due[order] = expected
            chosen[order] = entry = self._choose(order, found.get(order, []), expected)
            expected = None if entry is None else entry.previous
        return self._rebuild(chosen, due)

    def _orders(self, count: int) -> list[int]:
        """Return the orders for which there is a file, or ought to be."""
        if count <= _MOST_LOST:
            return list(range(1, count + 1))
        names = {*self.documents.entries(), *self._copies.entries()}
        return sorted(map(int, names))

    def _sound(self, order: int) -> list[L]:
        """Return what can be trusted of an entry, from each place."""
        places = [self.documents, self._copies]
        if self._mirror is not None:
            places.append(self._mirror)
        found = []
        for documents in places:
            try:
                found.append(documents.load(_name(order)))
            except FileNotFoundError:
                continue
            except RecordDamagedError as error:
                cause = error.__cause__
                if isinstance(cause, OSError) and cause.errno not in _DAMAGE:
                    message = f"{error}. Nothing is done before it can be read"
                    raise LedgerError(message) from error
        return found

    def _choose(self, order: int, found: list[L], expected: str | None) -> L | None:
        """Return the entry that what comes after it, or else the head, says it is; or None."""
        fitting = [entry for entry in found if expected in (None, entry.digest)]
        # What was taken for lost, and is there again, is better than its stand-in.
        fitting.sort(key=lambda entry: entry.stands_for is not None)
        chosen = fitting[0] if fitting else None
        others = {entry.digest for entry in fitting}
        if self._mirror is not None:  # what this machine has seen is as good a witness
            with suppress(FileNotFoundError, RecordDamagedError):
                others.add(self._mirror.load(_name(order)).digest)
        if len(others) > 1 or (others and chosen is None):
            raise self._two_histories(order)
        return chosen

    def _two_histories(self, order: int) -> LedgerError:
        way_out = "restore it from a backup"
        if self._mirror is not None:
            folder = f"{self._mirror.backend}/{_MIRROR}"
            way_out = (
                f"this machine has seen another one, {folder}. If the store was emptied and begun "
                "anew on purpose, delete that folder; if not, restore the store from a backup"
            )
        return LedgerError(f"{self} has two histories from entry {order} on: {way_out}")

    def _rebuild(self, chosen: dict[int, L | None], due: dict[int, str | None]) -> list[L]:
        chain: list[L] = []
        self._unrecorded = []
        for order in sorted(chosen):
            entry = chosen[order]
            if entry is None:
                previous = chain[-1].digest if chain else GENESIS
                entry = self._stand_in(order, previous, due[order])
                self._unrecorded.append(entry)
            elif not self.is_read_only:
                self._heal(entry)
            chain.append(entry)
        return chain

    def _heal(self, entry: L) -> None:
        """Write an entry wherever it is missing or damaged."""
        for documents in (self.documents, self._copies, self._mirror):
            if documents is None:
                continue
            try:
                if documents.load(_name(entry.order)) == entry:
                    continue
                problem = "is another entry"
            except FileNotFoundError:
                problem = "was missing"
            except RecordDamagedError:
                problem = "was damaged"
            if problem == "was missing" and documents is self.documents:
                done = self._create(entry)  # another writer may be adding his own at the end
            else:
                done = self._put_back(documents, entry)
            if done:
                place = documents.place(_name(entry.order))
                _log.warning("ledger entry %d %s and is put back: %s", entry.order, problem, place)

    def _record_losses(self) -> bool:
        """Give every lost entry its stand-in in the store; tell whether they are all still lost."""
        for entry in self._unrecorded:
            if not self._create(entry):
                with suppress(FileNotFoundError, RecordDamagedError):
                    self.documents.load(_name(entry.order))
                    return False  # somebody has put it back meanwhile
                self._keep_what_is_left(entry.order)
                self.documents.save(entry)
            _log.warning("ledger entry %d is lost; %s says so from now on", entry.order, self)
            self._settle(entry)
        self._unrecorded = []
        return True

    def _keep_what_is_left(self, order: int) -> None:
        """Keep the bytes of a damaged entry, which a person may still be able to read."""
        file = self.documents.kind.file(_name(order))
        with suppress(OSError, TooLargeError):
            data = self._home.read(file)
            self._home.write(f"ledger-damaged/{_name(order)}-{short(digest_bytes(data))}", data)

    def _create(self, entry: L) -> bool:
        """Create an entry; tell also of one that was created although no answer came back."""
        name, data = self._kind.file(_name(entry.order)), self._kind.dump(entry)
        if len(data) > MAX_DOCUMENT_BYTES:  # nobody would read it
            message = (
                f"{self._kind.title(_name(entry.order))}: expected at most {MAX_DOCUMENT_BYTES:,} "
                f"bytes, found {len(data):,}: give a shorter reason"
            )
            raise LedgerError(message)
        try:
            with explaining(self._kind.title(_name(entry.order)), Path(str(self._home))):
                if self._home.stat(name) is None and self._home.create(name, data):
                    return True
        except StorageError:
            if self._is_there(name, data):
                return True
            raise
        return self._is_there(name, data)

    def _is_there(self, name: str, data: bytes) -> bool:
        try:
            return self._home.read(name) == data
        except (OSError, StorageError):
            return False

    def _settle(self, entry: L) -> None:
        """Write what an entry's own file is not enough for: its copies, and the number of all."""
        self._put_back(self._copies, entry)
        if self._mirror is not None:
            self._put_back(self._mirror, entry)
        self._lost = [each.order for each in self._known if each.stands_for]
        try:
            body = {"entries": entry.order, "digest": entry.digest, "lost": self._lost}
            self._home.write(_HEAD, checksummed(body))
        except (OSError, StorageError) as error:  # the entry is made all the same
            _log.warning("%s/%s is not written: %s", self._home, _HEAD, error)

    def _put_back(self, documents: Documents[L], entry: L) -> bool:
        try:
            documents.save(entry)
        except (OSError, StorageError) as error:  # it may be read all the same
            _log.warning("%s", error)
            return False
        return True

    def _read_head(self) -> _Head | None:
        if self.is_read_only:
            return None
        try:
            body: dict[str, Any] = verified(self._home.read(_HEAD))
            lost = [int(each) for each in body.get("lost", ())]
            return _Head(int(body["entries"]), str(body["digest"]), lost)
        except (OSError, TooLargeError, RecordDamagedError, KeyError, ValueError, TypeError):
            return None

    @staticmethod
    def _holds(chain: list[L], head: _Head) -> bool:
        count = head.order
        return count <= len(chain) and (count == 0 or chain[count - 1].digest == head.digest)


def _name(order: int) -> str:
    return f"{order:08d}"
