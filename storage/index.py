"""An index of documents: a question about ten thousand of them reads but the few it is about.

It lies in the store's folder and says, of each file as it was when it was last read, when its
document was made and what it names. It is never right by itself: what it leads to is read and
verified like everything else. What was added, replaced or removed since it was asked last is read
before it answers; where the folders' times say that nothing was, no file is looked at. Whoever
deletes it, or damages it, loses seconds.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from digitflow.storage.errors import RecordDamagedError

if TYPE_CHECKING:
    from digitflow.storage.documents import Documents

# Raise it when what is noted changes.
_VERSION = 5
_PATIENCE = 10.0  # seconds for another process that writes; then without what is there
_LAST = "\U0010ffff"  # comes after all that a name holds
_TABLES = """
create table document (
    number integer primary key, folder text, name text, modified real, size integer, created text,
    unique (folder, name)
);
create table mention (
    digest text, document integer, primary key (digest, document)
) without rowid;
create index mention_by_document on mention (document);
create table seen (
    folder text, part text, stamp text, primary key (folder, part)
) without rowid;
"""


class Index:
    """What is known of the documents of one kind without reading them.

    Parameters
    ----------
    path
        Its file, which the indexes of other kinds share.
    documents
        The documents; their kind says what is noted of each.
    """

    def __init__(self, path: Path, documents: Documents[Any]) -> None:
        self._path = path
        self._documents = documents
        self._folder = documents.kind.folder

    def newest_first(self) -> list[str]:
        """Return the names of all documents by the time that they state; damaged ones last."""
        with closing(self._open()) as database:
            found = database.execute(
                "select name from document where folder = ? order by created desc, name desc",
                (self._folder,),
            )
            return [name for (name,) in found]

    def naming(self, digest: str) -> list[str]:
        """Return the names of the documents that name a digest, newest first."""
        with closing(self._open()) as database:
            found = database.execute(
                "select name from mention join document on number = document "
                "where folder = ? and digest = ? order by created desc, name desc",
                (self._folder, digest),
            )
            return [name for (name,) in found]

    def _open(self) -> sqlite3.Connection:
        """Return a connection to the index, which knows all files as they are now."""
        for place in (str(self._path), str(self._path), ":memory:"):
            if place != ":memory:" and not self._path.parent.is_dir():
                continue
            try:
                database = sqlite3.connect(place, timeout=_PATIENCE)
            except sqlite3.Error:
                continue
            try:
                self._refresh(database)
            except (sqlite3.OperationalError, sqlite3.IntegrityError):
                # Read-only, or kept busy by others: without it.
                database.close()
            except sqlite3.DatabaseError:  # damaged
                database.close()
                with suppress(OSError):
                    self._path.unlink()
            else:
                return database
        message = "an index in memory cannot fail"
        raise AssertionError(message)

    def _refresh(self, database: sqlite3.Connection) -> None:
        """Read what has changed since, and forget what has gone."""
        database.execute("pragma cache_size = -65536")  # kibibytes, for the first question
        if self._is_current(database):
            return  # a store that may only be read has its answers, too
        with database:
            # Before what is known is read: of two processes the second finds it up to date.
            database.execute("begin immediate")
            if not _has_tables(database):
                for table in ("document", "mention", "seen"):
                    database.execute(f"drop table if exists {table}")
                for statement in filter(str.strip, _TABLES.split(";")):
                    database.execute(statement)
                database.execute(f"pragma user_version = {_VERSION}")
            # Before the files are: what changes from here on is looked at the next time.
            stamps = self._documents.stamps()
            seen = self._seen(database)
            for part in {**seen, **stamps}:
                stamp = stamps.get(part)
                if stamp is None or seen.get(part) != stamp:
                    self._refresh_part(database, part, stamp)

    def _is_current(self, database: sqlite3.Connection) -> bool:
        return _has_tables(database) and self._seen(database) == self._documents.stamps()

    def _seen(self, database: sqlite3.Connection) -> dict[str, str]:
        return dict(
            database.execute("select part, stamp from seen where folder = ?", (self._folder,))
        )

    def _refresh_part(self, database: sqlite3.Connection, part: str, stamp: str | None) -> None:
        # All that a folder of the names holds, or all names.
        place = (self._folder, f"{part}/" if part else "", f"{part}/{_LAST}" if part else _LAST)
        rows = database.execute(
            "select name, modified, size, number from document "
            "where folder = ? and name between ? and ?",
            place,
        )
        known, numbers = {}, {}
        for name, modified, size, number in rows:
            known[name], numbers[name] = (modified, size), number
        entries = self._documents.entries(part)
        changed = [
            name
            for name, entry in entries.items()
            if known.get(name) != (entry.modified, entry.size)
        ]
        gone = [(numbers[name],) for name in {*known} - ({*entries} - {*changed})]
        database.executemany("delete from document where number = ?", gone)
        database.executemany("delete from mention where document = ?", gone)
        for name, body in self._documents.bodies(changed):
            created, digests = self._facts(body)
            entry = entries[name]
            added = database.execute(
                "insert into document (folder, name, modified, size, created) "
                "values (?, ?, ?, ?, ?)",
                (self._folder, name, entry.modified, entry.size, created),
            )
            database.executemany(
                "insert or ignore into mention values (?, ?)",
                [(digest, added.lastrowid) for digest in digests],
            )
        damaged = database.execute(
            "select 1 from document where folder = ? and name between ? and ? and created = ''",
            place,
        )
        database.execute("delete from seen where folder = ? and part = ?", (self._folder, part))
        # What is damaged may be mended in its place, which changes no folder's time.
        if stamp is not None and damaged.fetchone() is None:
            database.execute("insert into seen values (?, ?, ?)", (self._folder, part, stamp))

    def _facts(self, body: Mapping[str, Any] | RecordDamagedError) -> tuple[str, list[str]]:
        if isinstance(body, RecordDamagedError):
            return "", []
        try:
            created, digests = self._documents.kind.facts(body)
            return str(created), [*map(str, digests)]
        except (AttributeError, KeyError, TypeError):  # sound JSON, and not ours
            return "", []


def _has_tables(database: sqlite3.Connection) -> bool:
    (version,) = database.execute("pragma user_version").fetchone()
    return bool(version == _VERSION)
