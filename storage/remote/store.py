"""Objects, records and runs that machines share: a folder of this machine before a remote store.

Reading: what is not here, or is damaged here, is fetched, verified and kept. Writing: first here,
then there, a record after everything that it names, so that nothing that can be seen refers to
something absent. A file ``….sent`` beside a record says that the shared store has it; what
lacks one, because a run was killed or the network failed, is sent when it is next used.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from digitflow.storage.remote.objects import SharedObjects
from digitflow.storage.remote.records import SharedRecords
from digitflow.storage.remote.remote import remote
from digitflow.storage.remote.runs import SharedRuns


class SharedStore:
    """A store behind a URL, and what this machine keeps of it.

    Parameters
    ----------
    root
        Folder of this machine.
    url
        Of the shared store.
    settle
        As for `ObjectStore`.

    Attributes
    ----------
    remote, objects, records, runs
        What lies there, and the three kinds of it that both hold.
    """

    def __init__(self, root: Path, url: str, settle: Callable[[], None]) -> None:
        self.remote = remote(url)
        self.objects = SharedObjects(root / "objects", self.remote, root / "locks", settle)
        self.records = SharedRecords(root / "records", self.objects)
        self.runs = SharedRuns(root / "runs", self.remote)

    def connect(self) -> None:
        """Make sure that the shared store answers, and send it what an earlier run could not.

        Raises
        ------
        SharedStoreError
            If it cannot be used.
        """
        self.remote.connect()
        self.records.send_unsent()
        self.runs.send_unsent()
