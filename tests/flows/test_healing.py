"""A Prefect flow heals what it meets: an input, and what it publishes."""

import pytest
from prefect import flow

from digitflow.storage.store import Store
from digitflow.storage.upkeep.verify import find_damage
from digitflow.tasks.engine.call import Handle
from tests.engine.test_healing import artifact, ran, wired
from tests.faults.corrupting import flip


@pytest.mark.prefect
@pytest.mark.usefixtures("on_the_server")
def test_a_flow_makes_a_damaged_input_again() -> None:
    ran.clear()
    store = Store()

    def harm(numbers: Handle, squares: Handle) -> None:
        for handle in (numbers, squares):
            flip(store.objects.path(artifact(handle).sha256))

    @flow(validate_parameters=False)
    def a_flow() -> dict[str, int]:
        return wired(harm)

    assert a_flow() == {"total": 20}
    assert sorted(ran) == ["numbers", "numbers", "squares", "squares", "total"]
    assert find_damage(store).damaged == []
