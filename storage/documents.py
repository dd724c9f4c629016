"""Documents: frozen dataclasses, kept as JSON files that carry the digest of their own contents.

A kind of document is declared once: its class, whose annotations say what each field may be, its
folder, and its names. Writing, reading back, and refusing what is damaged or was never ours are
the same for all of them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import from_json

from digitflow.storage.backends.base import MAX_DOCUMENT_BYTES, Backend, Entry, TooLargeError
from digitflow.storage.backends.local import LocalBackend
from digitflow.storage.backends.os_errors import explaining
from digitflow.storage.backends.safe_open import open_regular
from digitflow.storage.digests import canonical_json, digest_bytes, encoded_json
from digitflow.storage.errors import RecordDamagedError, StorageError, StoreUnusableError
from digitflow.storage.index import Index

_log = logging.getLogger(__name__)

# Below a store's root: copies of what nothing can make again, under the names of the originals.
COPIES = "copies"

_DIGEST = "sha256"
_BEGINNING = b'{"sha256":"'  # of a file: its digest, and then the digested bytes but the first
_DIGITS = slice(len(_BEGINNING), len(_BEGINNING) + 64)
_SUFFIX = ".json"
_LONGEST_PROBLEM = 300  # characters

T = TypeVar("T", bound="Document")


@dataclass(frozen=True)
class Document:
    """Base of what is kept as a document: other fields than its own are refused."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    # Whether one that was read is written again as it was, byte for byte: whoever holds its digest
    # holds that of the fields of then, and fields have been added since.
    stays_as_written: ClassVar[bool] = False
    written: ClassVar[bytes] = b""  # the digested bytes of one that was read, if it stays so


@dataclass(frozen=True)
class Kind(Generic[T]):
    """One kind of document.

    Attributes
    ----------
    of
        Its class.
    folder
        Where its files lie below a store's root.
    is_name
        Tells whether a text can name one, and so a file below `folder`, without ``.json``.
    expected
        What a name is, for the error.
    title
        How people call the one of a name, such as ``record 3fa9…``.
    name_of
        The name that a document must have, or None if nothing in it says so.
    new_name
        Draws a name for a document in which nothing says it.
    order
        What names are ordered by in time: by default when the file was last written or used; or
        the name itself, or what `facts` says.
    facts
        What an index notes of a document's JSON: when it was made, and the digests that it names.
    check
        Raises `ValueError` for what the types of its fields do not tell.
    depth
        How many levels below `folder` the files lie.
    is_folder
        Tells whether a text can name one of the folders between.
    is_copied
        Whether a copy of each is kept, because nothing can make it again: one damaged file,
        whichever of the two it is, loses nothing.
    """

    of: type[T]
    folder: str
    is_name: Callable[[str], object]
    expected: str
    title: Callable[[str], str]
    name_of: Callable[[T], str] | None = None
    new_name: Callable[[T], str] | None = None
    order: Literal["use", "name", "facts"] = "use"
    facts: Callable[[Mapping[str, Any]], tuple[str, Iterable[str]]] = lambda body: ("", ())
    check: Callable[[T], None] = lambda document: None
    depth: int = 1
    is_folder: Callable[[str], object] = lambda name: False
    is_copied: bool = False

    def file(self, name: str) -> str:
        """Return the file of a document below the store's root.

        Raises
        ------
        ValueError
            If the name could become another path.
        """
        if not self.is_name(name):
            message = f"expected {self.expected}, found {name!r}"
            raise ValueError(message)
        return f"{self.folder}/{name}{_SUFFIX}"

    def copy(self, name: str) -> str:
        """Return the file of a document's copy, where one is kept."""
        return f"{COPIES}/{self.file(name)}"

    def name_in(self, file: str) -> str | None:
        """Return the name of the document in a file below the store's root, or None."""
        name = file[len(self.folder) + 1 : -len(_SUFFIX)]
        is_one = file == f"{self.folder}/{name}{_SUFFIX}" and self.is_name(name)
        return name if is_one else None

    def body(self, document: T) -> dict[str, Any]:
        """Return a document as a JSON object, in a tenth of the time of `dataclasses.asdict`."""
        body: dict[str, Any] = self._adapter.dump_python(document, warnings=False)
        return body

    def dump(self, document: T) -> bytes:
        """Return a document as the bytes of its file."""
        return _sealed(document.written) if document.written else checksummed(self.body(document))

    def parse(self, data: bytes) -> T:
        """Read a document back, trusting nothing.

        Raises
        ------
        RecordDamagedError
            Saying what is wrong, if it is not JSON, is not what its own digest promises, or has
            fields that we never wrote.
        """
        digested = _digested(data)
        try:
            document = self._adapter.validate_json(digested, strict=True)
            self.check(document)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"]))
            message = f"{place}: {first['msg']}, found {first['input']!r}"
            raise RecordDamagedError(message[:_LONGEST_PROBLEM]) from error
        except ValueError as error:
            raise RecordDamagedError(str(error)) from error
        if document.stays_as_written:
            object.__setattr__(document, "written", digested)  # no field: `replace` drops it
        return document

    @cached_property
    def _adapter(self) -> TypeAdapter[T]:
        return TypeAdapter(self.of)


class Documents(Generic[T]):
    """The documents of one kind that a backend holds.

    Parameters
    ----------
    kind
        Their kind.
    backend
        Where they lie.
    """

    def __init__(self, kind: Kind[T], backend: Backend) -> None:
        self.kind = kind
        self.backend = backend

    def place(self, name: str) -> str:
        """Return where a document lies, for people."""
        return f"{self.backend}/{self.kind.file(name)}"

    def load(self, name: str) -> T:
        """Read a document; one of which a copy is kept is healed from it.

        Raises
        ------
        FileNotFoundError
            If there is none.
        RecordDamagedError
            If there is one that cannot be trusted.
        """
        return self.fetch(name)[0]

    def fetch(self, name: str) -> tuple[T, Entry, bytes]:
        """Read a document; return also what is known of its file, and that file's bytes."""
        try:
            return self._fetch(name, self.kind.file(name))
        except (FileNotFoundError, RecordDamagedError) as error:
            if not self.kind.is_copied:
                raise
            try:
                document, entry, data = self._fetch(name, self.kind.copy(name))
            except (FileNotFoundError, RecordDamagedError):
                raise error from None
            self._heal(name, data, error)
            return document, replace(entry, name=self.kind.file(name)), data

    def examine(self, name: str) -> T:
        """Read a document as it lies there, healing nothing; raises as `load`."""
        return self._fetch(name, self.kind.file(name))[0]

    def examine_copy(self, name: str) -> T:
        """Read a document's copy; raises as `load`."""
        return self._fetch(name, self.kind.copy(name))[0]

    def complete_copies(self) -> None:
        """Write the copies that are missing, as those of an older digitflow are."""
        if not self.kind.is_copied:
            return
        for name in sorted(self.names() - self._names_of_copies()):
            with suppress(FileNotFoundError, RecordDamagedError):
                self.write_copy(name)

    def write_copy(self, name: str) -> None:
        """Write a document's copy; raises as `load`."""
        _, _, data = self.fetch(name)
        self.backend.clear_way(self.kind.copy(name))
        self.backend.write(self.kind.copy(name), data)

    def _fetch(self, name: str, file: str) -> tuple[T, Entry, bytes]:
        try:
            entry, data = self.backend.fetch(file, MAX_DOCUMENT_BYTES)
        except FileNotFoundError:
            raise
        except (OSError, TooLargeError) as error:
            raise self._damaged(name, f"cannot be read ({error})") from error
        return self.parse(name, data), entry, data

    def _heal(self, name: str, data: bytes, problem: Exception) -> None:
        """Write a document from the bytes of its copy, if this place lets us."""
        what = self.kind.title(name)
        said = problem if isinstance(problem, RecordDamagedError) else f"{what} is missing"
        file = self.kind.file(name)
        try:
            self.backend.clear_way(file)
            self.backend.write(file, data)
        except (OSError, StorageError) as error:
            _log.warning("%s; read from its copy, but not healed: %s", said, error)
        else:
            _log.warning("%s; healed from its copy", said)

    def parse(self, name: str, data: bytes) -> T:
        """Read a document from the bytes of its file.

        Raises
        ------
        RecordDamagedError
            If it cannot be trusted, or is that of another name.
        """
        try:
            document = self.kind.parse(data)
        except RecordDamagedError as error:
            raise self._damaged(name, str(error)) from error
        if self.kind.name_of is not None and self.kind.name_of(document) != name:
            raise self._damaged(name, f"holds {self.kind.title(self.kind.name_of(document))}")
        return document

    def save(self, document: T, name: str | None = None) -> str:
        """Write a document whole or not at all; return its name.

        Parameters
        ----------
        document
            What to write.
        name
            Its name, where nothing in it says so.

        Raises
        ------
        StorageFullError, StoreUnusableError
            If the disk is full, or the store cannot be written.
        """
        name = self._name(document, name)
        with explaining(self.kind.title(name), Path(str(self.backend))):
            data = self.kind.dump(document)
            if self.kind.is_copied:
                self.backend.write(self.kind.copy(name), data)
            self.backend.write(self.kind.file(name), data)
        return name

    def entries(self, within: str = "") -> dict[str, Entry]:
        """Return what is known of each document without reading it, by name and in order.

        Parameters
        ----------
        within
            A folder of the names, such as that of a stage, or all of them.
        """
        folder = f"{self.kind.folder}/{within}".rstrip("/")
        depth = self.kind.depth - bool(within)
        if not self.kind.is_copied:
            return self._named(self.backend.list(folder, depth))
        copies = self._listed_copies(folder, depth)
        try:
            originals = self.backend.list(folder, depth)
        except StoreUnusableError:
            if not copies:
                raise
            originals = []  # something else lies there; whoever reads one heals it
        return dict(sorted({**self._named(copies), **self._named(originals)}.items()))

    def since(self, name: str) -> dict[str, Entry]:
        """Return what `entries` would of a document, and of those whose names come after its."""
        # Without the suffix: so its own file comes after that, too.
        return self._named(self.backend.list(self.kind.folder, after=f"{self.kind.folder}/{name}"))

    def some(self, within: str, most: int) -> dict[str, Entry]:
        """Return what `entries` would of a folder, or of some in it where that is large."""
        folder = f"{self.kind.folder}/{within}"
        return self._named(self.backend.some(folder, self.kind.depth - 1, most))

    def names(self) -> set[str]:
        """Return the names of all documents, without a look at their files."""
        copies = self._names_of_copies()
        try:
            return copies | self._names_in(self.kind.folder)
        except StoreUnusableError:
            if not copies:
                raise
            return copies

    def stamps(self) -> dict[str, str | None]:
        """Return what is another text once a document was added, replaced or removed.

        Returns
        -------
        dict of str or None
            By the folder of the names, such as that of a stage, or "" for all of them. None if it
            is not known without a look at each document.
        """
        folder = self.kind.folder
        if self.kind.depth > 1:
            parts = filter(self.kind.is_folder, self.backend.folders(folder))
            return {part: self.backend.stamp(f"{folder}/{part}") for part in parts}
        stamps = [self.backend.stamp(folder)]
        if self.kind.is_copied:
            stamps.append(self.backend.stamp(f"{COPIES}/{folder}"))
        return {"": None if None in stamps else " ".join(map(str, stamps))}

    def _names_of_copies(self) -> set[str]:
        try:
            return self._names_in(f"{COPIES}/{self.kind.folder}") if self.kind.is_copied else set()
        except StoreUnusableError:
            return set()  # `verify` says so

    def _names_in(self, folder: str) -> set[str]:
        files = (
            each.removeprefix(f"{COPIES}/") for each in self.backend.names(folder, self.kind.depth)
        )
        return {name for name in map(self.kind.name_in, files) if name is not None}

    def _listed_copies(self, folder: str, depth: int) -> list[Entry]:
        try:
            found = self.backend.list(f"{COPIES}/{folder}", depth)
        except StoreUnusableError:
            return []  # `verify` says so
        return [replace(entry, name=entry.name.removeprefix(f"{COPIES}/")) for entry in found]

    def _named(self, listed: Iterable[Entry]) -> dict[str, Entry]:
        named = {self.kind.name_in(entry.name): entry for entry in listed}
        return {name: entry for name, entry in named.items() if name is not None}

    def readable(self) -> Iterator[T]:
        """Iterate over the documents that can be trusted, in order of their names."""
        yield from (document for _, document in self._trusted(self.entries()))

    def damaged(self) -> Iterator[tuple[str, str]]:
        """Iterate over the names of those that cannot be trusted, and what is wrong with them."""
        for name in self.entries():
            try:
                self.load(name)
            except FileNotFoundError:
                continue
            except RecordDamagedError as error:
                yield name, str(error)

    def bodies(
        self, names: Collection[str]
    ) -> Iterator[tuple[str, Mapping[str, Any] | RecordDamagedError]]:
        """Iterate over documents by name, each as the JSON object that its digest promises.

        Its fields are not looked at, which takes a third of the time.
        """
        files = {self.kind.file(name): name for name in names}
        seen = set()
        for entry, data in self.backend.fetch_many(files):
            with suppress(RecordDamagedError):
                body = verified(data)
                seen.add(files[entry.name])
                yield files[entry.name], body
        for name in names:
            if name not in seen:
                with suppress(FileNotFoundError):  # gone meanwhile
                    try:
                        yield name, self.kind.body(self.load(name))
                    except RecordDamagedError as error:
                        yield name, error

    def _trusted(self, names: Collection[str]) -> Iterator[tuple[str, T]]:
        """Yield those that can be trusted; damage is said by who asks for that one alone."""
        files = {self.kind.file(name): name for name in names}
        sound = set()
        for entry, data in self.backend.fetch_many(files):
            name = files[entry.name]
            try:
                document = self.parse(name, data)
            except RecordDamagedError:
                continue
            sound.add(name)
            yield name, document
        for name in names if self.kind.is_copied else ():
            if name not in sound:
                with suppress(FileNotFoundError, RecordDamagedError):
                    yield name, self.load(name)  # from its copy

    def _name(self, document: T, name: str | None) -> str:
        naming = self.kind.name_of or self.kind.new_name
        if name is not None:
            return name
        if naming is None:
            message = f"expected the name of a {self.kind.of.__name__}, which does not name itself"
            raise ValueError(message)
        return naming(document)

    def _damaged(self, name: str, problem: str) -> RecordDamagedError:
        return RecordDamagedError(
            f"{self.kind.title(name)} is damaged: {self.place(name)}: {problem}"
        )


class LocalDocuments(Documents[T]):
    """The documents of one kind in a folder of this machine."""

    def __init__(self, kind: Kind[T], backend: LocalBackend) -> None:
        super().__init__(kind, backend)
        self.local = backend
        self.index = Index(backend.path("index.sqlite3"), Documents(kind, backend))

    @property
    def root(self) -> Path:
        """The folder."""
        return self.local.path(self.kind.folder)

    def path(self, name: str) -> Path:
        """Return where a document lies or would lie; `ValueError` if the name leads elsewhere."""
        return self.local.path(self.kind.file(name))

    def save(self, document: T, name: str | None = None) -> str:
        """Write a document whole or not at all, and what copies are missing; return its name."""
        name = super().save(document, name)
        with explaining(f"the copy of {self.kind.title(name)}", Path(str(self.backend))):
            self.complete_copies()
        return name

    def mark_used(self, document: T) -> None:
        """Note that a document was served now; `FileNotFoundError` if it is no longer there."""
        self.local.touch(self.kind.file(self._name(document, None)))

    def newest_first(self, within: str = "", most: int | None = None) -> Iterator[T]:
        """Iterate over the documents that can be trusted, newest first in the order of their kind.

        Each is read when it is asked for.

        Parameters
        ----------
        within
            As for `entries`.
        most
            How many are looked at; by default all of them.
        """
        if self.kind.order == "facts":
            names = self.index.newest_first()
        else:
            entries = self.entries(within)
            names = sorted(entries, reverse=True)
            if self.kind.order == "use":
                names.sort(key=lambda name: entries[name].modified, reverse=True)
        for name in names[:most]:
            with suppress(FileNotFoundError, RecordDamagedError):
                yield super().load(name)

    def naming(self, digest: str) -> Iterator[T]:
        """Iterate over the documents that name a digest, newest first."""
        for name in self.index.naming(digest):
            with suppress(FileNotFoundError, RecordDamagedError):
                yield super().load(name)

    def everywhere(self) -> list[str]:
        """Return the names of all documents that can be loaded, in order."""
        return sorted(self.names())


def checksummed(body: Mapping[str, Any]) -> bytes:
    """Return a JSON object together with its digest, as the bytes of a file."""
    return _sealed(canonical_json(body))


def _sealed(digested: bytes) -> bytes:
    comma = b"" if digested == b"{}" else b","
    return _BEGINNING + digest_bytes(digested).encode() + b'"' + comma + digested[1:]


def verified(data: bytes) -> dict[str, Any]:
    """Return the JSON object in such a file, without its digest.

    Raises
    ------
    RecordDamagedError
        If it is not what its digest promises.
    """
    digested = _digested(data)
    try:
        body: dict[str, Any] = from_json(digested, allow_inf_nan=False, cache_strings="keys")
    except ValueError as error:
        raise _no_document(error) from error
    return body


def _digested(data: bytes) -> bytes:
    """Return the JSON object in such a file as the bytes that its digest is of."""
    rest = _DIGITS.stop + len(b'",')
    digested = b"{" + data[rest:]
    if (
        data.startswith(_BEGINNING)
        and data[_DIGITS.stop : rest] == b'",'
        and digest_bytes(digested).encode() == data[_DIGITS]
    ):
        return digested
    # Damaged, or of an older digitflow, whose files lay out the same object differently.
    try:
        body: dict[str, Any] = json.loads(data)
        digest = body.pop(_DIGEST)
        digested = encoded_json(body)
        is_intact = digest_bytes(digested) == digest
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _no_document(error) from error
    if not is_intact:
        message = "it does not match its digest"
        raise RecordDamagedError(message)
    return digested


def _no_document(error: Exception) -> RecordDamagedError:
    message = f"it is no document ({type(error).__name__}: {error})"
    return RecordDamagedError(message[:_LONGEST_PROBLEM])


def read_checksummed(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file of its own, without its digest.

    Raises
    ------
    OSError
        If there is no regular file that can be read.
    RecordDamagedError
        If it is not what its digest promises.
    """
    with open_regular(path) as file:
        return verified(file.read(MAX_DOCUMENT_BYTES))
