import gc
from collections.abc import Iterator

import pytest

from digitflow.flows.server.prefect_setup import without_collection


@pytest.fixture(autouse=True)
def _collector_as_before() -> Iterator[None]:
    yield
    gc.enable()
    gc.unfreeze()


def test_garbage_is_left_alone_while_modules_are_imported():
    with without_collection():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0  # nor is what was imported looked at later


def test_the_collector_is_on_again_after_an_error():
    with pytest.raises(ImportError), without_collection():
        raise ImportError
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off():
    gc.disable()
    with without_collection():
        assert not gc.isenabled()
    assert not gc.isenabled()
