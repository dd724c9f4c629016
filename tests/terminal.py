"""A terminal of a chosen width, without colours, for what is written to a pipe in truth."""

import pytest


def pretend_a_terminal(monkeypatch: pytest.MonkeyPatch, columns: int = 80) -> None:
    """Let rich take every stream for a terminal that knows no colours and no movements."""
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("LINES", "25")
