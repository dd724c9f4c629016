"""How far a walk through a large store has come, for whoever waits for its end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias, TypeVar

T = TypeVar("T")

# Told what is gone through, how many are done, and how many there are.
Tell: TypeAlias = Callable[[str, int, int], None]

_BETWEEN = 100


def nobody(what: str, done: int, total: int) -> None:
    """Tell nobody."""


def telling(tell: Tell, what: str, items: Iterable[T], total: int) -> Iterator[T]:
    """Yield the items, and tell now and then how many of how many are done."""
    for done, item in enumerate(items):
        if done % _BETWEEN == 0:
            tell(what, done, total)
        yield item
    tell(what, total, total)
