"""What is remembered of a source between two retrainings."""

from typing import Any

import pytest
from pydantic import ValidationError

from digitflow.storage.store import Store
from digitflow.tasks.data.download.source_check import Seen
from digitflow.tasks.gate.source import _Memory

MEMORY = _Memory(
    last={"a.gz": "ab" * 32},
    seen={"https://a/": {"a.gz": Seen(7, "ab" * 32, '"v1"', "Thu, 01 Jan 1970 00:00:00 GMT", 12)}},
)


def test_comes_back_as_it_went_in(tmp_path):
    store = Store(tmp_path / "store").sources
    store.save("mnist", MEMORY.model_dump())
    assert _Memory.model_validate(store.load("mnist")) == MEMORY


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        [],
        {"last": {"a.gz": 1}},
        {"seen": {"m": {"a.gz": None}}},
        {"seen": {"m": {"a.gz": {"sha256": None}}}},
        {"seen": {"m": {"a.gz": {"size": "seven", "sha256": None}}}},
        {"seen": {"m": {"a.gz": {"size": 7, "sha256": 1}}}},
    ],
)
def test_anything_else_is_refused(wrong: Any):
    with pytest.raises(ValidationError):
        _Memory.model_validate(wrong)
