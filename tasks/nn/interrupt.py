"""Let Ctrl-C wait for a convenient moment."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Catch SIGINT inside the block; the function it gives says whether one came.

    A second Ctrl-C interrupts at once, as usual. Only Python's main thread receives signals;
    in any other thread this does nothing, and the main thread's own handling applies.
    """
    came = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield came.is_set
        return

    def take_note(number: int, frame: FrameType | None) -> None:
        came.set()
        signal.signal(signal.SIGINT, previous)

    previous = signal.getsignal(signal.SIGINT)
    if previous is None:
        # Installed by something that is not Python; it could not be put back.
        yield came.is_set
        return
    signal.signal(signal.SIGINT, take_note)
    try:
        yield came.is_set
    finally:
        signal.signal(signal.SIGINT, previous)
