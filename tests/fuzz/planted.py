"""Readers with bugs on purpose: a fuzzer that does not find these finds nothing."""

from pathlib import Path


def crash(data: bytes, _folder: Path) -> None:
    """Crash on five bytes that chance does not meet, but coverage leads to one by one."""
    for found, wanted in zip(data, b"digit", strict=False):
        if found != wanted:
            return
    if len(data) >= 5:
        raise IndexError("planted")


def memory(data: bytes, _folder: Path) -> None:
    """Make room for what the input declares."""
    if len(data) >= 4:
        bytearray(int.from_bytes(data[:4], "big"))


PLANTED = {"planted-crash": crash, "planted-memory": memory}
