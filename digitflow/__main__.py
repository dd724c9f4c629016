"""`python -m digitflow` is `digitflow`: the command line, which Ctrl-C ends well at any moment."""

import os
import signal
import sys
from typing import Any

from digitflow.tasks.engine.cancellation import INTERRUPTED  # light, as all of this has to be


def main() -> int:
    """Run the command line: see `digitflow.flows.cli.app.main`.

    Returns
    -------
    int
        The exit code; 130 if Ctrl-C came while nothing was there yet that had to be put in order.
    """
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:  # a background job of a shell ignores it, and so does this
        signal.signal(signal.SIGINT, _stop)
    from digitflow.flows.cli.app import main as command

    if ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return command()
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        if ours:
            signal.signal(signal.SIGINT, _stop)


def _stop(_signal: int, _frame: Any) -> None:
    # An exception would be swallowed or changed by what is being imported, or shown at exit.
    os.write(2, b"stopped\n")
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    sys.exit(main())
