"""Mutations of JSON documents that leave them JSON: byte by byte a fuzzer mostly breaks them."""

import json
import random
from typing import Any

# What a field may be that ought to be something else.
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 0.5, -0.0, 1e308, 2**63, 10**400, "", "a", "train", "\u0000"),
    *([], {}, [[]], {"": {}}, [None], ["a", "a"], "0" * 64, "../../x", "/etc/passwd", "C:\\x"),
    *("2026-01-01T00:00:00.000+00:00", "2026-01-01T00:00:00", "0001-01-01T00:00:00+14:00"),
    *("\ud800", "[red]x[/]", "[/]", "é→", "a" * 300, "%s{0}", "npy", "pickle", "1e999", "NaN"),
)


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Change some values, names or places of a JSON document, or the bytes of what is none.

    A custom mutator as libFuzzer calls it.
    """
    chance = random.Random(seed)
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return _bytes_changed(data, chance)[:max_size]
    if chance.random() < 0.1:
        return _bytes_changed(data, chance)[:max_size]
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        document = changed(document, chance)
    mutated = json.dumps(document).encode()
    return mutated if len(mutated) <= max_size else _bytes_changed(data, chance)[:max_size]


def changed(document: Any, chance: random.Random) -> Any:
    """Return the document with one change somewhere in it."""
    below = list(document) if isinstance(document, dict) else []
    if isinstance(document, list):
        below = list(range(len(document)))
    if not below or chance.random() < 0.2:
        return _grown(document, chance) if chance.random() < 0.3 else chance.choice(_VALUES)
    place = chance.choice(below)
    action = chance.random()
    copy: Any = dict(document) if isinstance(document, dict) else list(document)
    if action < 0.8:
        copy[place] = changed(document[place], chance)
    elif action < 0.9:
        del copy[place]
    elif isinstance(copy, dict):
        copy[chance.choice(("", "x", "../x", "stage", "sha256", "format"))] = copy.pop(place)
    else:
        copy.insert(place, document[place])
    return copy


def _grown(value: Any, chance: random.Random) -> Any:
    if isinstance(value, bool) or value is None:
        return [value]
    if isinstance(value, int | float):
        return -value if chance.random() < 0.5 else value * 2
    if isinstance(value, str):
        place = chance.randrange(len(value) + 1)
        return value[:place] + chance.choice(("/", "\u0000", "0", " ", "[")) + value[place + 1 :]
    if isinstance(value, dict):
        return {**value, "more": chance.choice(_VALUES)}
    return [*value, chance.choice(_VALUES)]


def _bytes_changed(data: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(data) + 1)
    end = start + chance.choice((0, 1, 1, 2, 8))
    new = chance.randbytes(chance.choice((0, 1, 1, 2, 8)))
    if data and chance.random() < 0.4:
        other = chance.randrange(len(data))
        new = data[other : other + chance.choice((1, 2, 4, 16))]
    return data[:start] + new + data[end:]
