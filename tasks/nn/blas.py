"""How many threads BLAS computes with: one, unless a training asks for more.

BLAS divides large products among its threads, and where it divides a sum, the order of additions
and so the last bits depend on their number. With one, the same inputs give the same bytes on
every machine with the same kernels, and a machine that is busy with other things is shared fairly:
threads that wait for each other at the end of each product make a busy machine many times slower.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy  # noqa: F401 - what limits BLAS finds those libraries that are loaded
from threadpoolctl import LibController, OpenBLASController, ThreadpoolController


class _Limit:
    """The number of threads, which is one of the whole process, held by threads that agree on it.

    Who wants another number waits until those who compute with the present one are done.
    """

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._holders = 0
        self._count = 0
        self._before: list[tuple[LibController, int]] = []

    def acquire(self, count: int) -> None:
        with self._change:
            self._change.wait_for(lambda: not self._holders or self._count == count)
            libraries = ThreadpoolController().select(user_api="blas").lib_controllers
            if not self._holders:
                self._before = [(library, library.num_threads) for library in libraries]
                self._count = count
            # By every holder: where BLAS is built on OpenMP, the number is one of each thread.
            try:
                for library in libraries:
                    _set_threads(library, count)
            except BaseException:
                self._put_back_if_unheld()
                raise
            self._holders += 1

    def release(self) -> None:
        with self._change:
            self._holders -= 1
            self._put_back_if_unheld()

    def _put_back_if_unheld(self) -> None:
        if not self._holders:
            for library, before in self._before:
                _set_threads(library, before)
            self._change.notify_all()


def _set_threads(library: LibController, count: int) -> None:
    """Set a library's number of threads, or raise ValueError.

    threadpoolctl lets only the first thread that ever set OpenBLAS's number set it again, and
    passes over the wish of any other without a word. Here the threads agree on it.
    """
    if isinstance(library, OpenBLASController):
        library.clear_controlling_thread(force=True)
    library.set_num_threads(count)
    if isinstance(library, OpenBLASController):
        library.clear_controlling_thread(force=True)
    if library.num_threads != count:
        message = (
            f"blas_threads: expected a number of threads that {library.prefix} takes, found "
            f"{count}: it uses {library.num_threads}"
        )
        raise ValueError(message)


_limit = _Limit()
_held = threading.local()


@contextmanager
def blas_threads(count: int = 1) -> Iterator[None]:
    """Compute with `count` BLAS threads inside the block, whatever the environment says.

    Blocks may be nested, and entered by several threads at once: those that ask for different
    numbers take turns.

    Parameters
    ----------
    count : int
        Number of threads, at least 1.

    Raises
    ------
    ValueError
        If BLAS does not take that many; the number is then the one before.
    """
    outer: int | None = getattr(_held, "count", None)
    if outer == count:
        yield
        return
    try:
        # Two threads that held one number and wanted another would wait for each other for ever.
        _hold(count)
        yield
    finally:
        _hold(outer)


def _hold(count: int | None) -> None:
    """Give up the number that this thread holds, and hold another one, or none."""
    if getattr(_held, "count", None) is not None:
        _held.count = None
        _limit.release()
    if count is not None:
        _limit.acquire(count)
        _held.count = count


def blas_in_use() -> str:
    """Return which BLAS computes, by its kernels and threads: ``openblas 0.3.31 Haswell × 1``.

    NumPy's own, where it has brought one; others are another library's, and loaded or not.
    """
    loaded = ThreadpoolController().select(user_api="blas").info()
    own = [
        each
        for each in loaded
        if any(part.startswith("numpy") for part in Path(each["filepath"]).parts)
    ]
    found = [
        f"{each['internal_api']} {each['version']} {each.get('architecture', '')} "
        f"× {each['num_threads']}"
        for each in own or loaded
    ]
    return ", ".join(sorted(set(found))) or "none that can be told"
