"""What is logged of ours and in our runs: text that does nothing, and tells no password."""

from __future__ import annotations

import logging
import re
from typing import Any

from digitflow.storage.visible import redacted, visible

# Prefect's loggers are those of runs, too.
_OURS = ("digitflow", "prefect")
# What a server asks is somebody's webhook, whose path lets one in. As httpx quotes it in an error.
_SERVERS = "prefect.server"
_PATH = re.compile(r"(?<=for url ')(\w+://[^/']*)/[^']*")


class _Record(logging.LogRecord):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.exc_info:
            # Formatters take what is there already.
            text = _harmless(logging.Formatter().formatException(self.exc_info))
            self.exc_text = _PATH.sub(r"\1/…", text) if self.name.startswith(_SERVERS) else text

    def getMessage(self) -> str:
        return _harmless(super().getMessage())


def _harmless(text: str) -> str:
    return visible(redacted(text))


def make_harmless() -> None:
    """Have messages and tracebacks of our loggers, and of Prefect's, hold nothing unseen or secret.

    In the records themselves: which handlers there are, on a terminal, in a file, to Prefect's
    API, is for Prefect and the user to say.
    """
    logging.setLogRecordFactory(_record)


def _record(name: str, *args: Any, **kwargs: Any) -> logging.LogRecord:
    make = _Record if name.partition(".")[0] in _OURS else logging.LogRecord
    return make(name, *args, **kwargs)
