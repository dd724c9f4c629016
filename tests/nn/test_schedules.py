import pytest

from digitflow.tasks.nn.training.schedules import (
    SCHEDULES,
    constant,
    cosine,
    one_cycle,
    step,
    warm_up,
)


def test_values_worked_by_hand() -> None:
    assert [constant(0), constant(1)] == [1, 1]
    assert [cosine(0), cosine(0.5), cosine(1)] == pytest.approx([1, 0.5, 0], abs=1e-15)
    assert cosine(1 / 3) == pytest.approx(0.75)
    assert [step(0.0), step(0.34), step(0.67), step(1.0)] == pytest.approx([1, 0.1, 0.01, 0.01])
    assert [one_cycle(0), one_cycle(0.15), one_cycle(0.3)] == pytest.approx([0.04, 0.52, 1])
    assert [one_cycle(0.65), one_cycle(1)] == pytest.approx([0.5, 0], abs=1e-15)


def test_warm_up_rises_evenly_and_then_passes_through_the_whole_schedule() -> None:
    warmed = warm_up(cosine, 0.2)
    assert [warmed(0), warmed(0.1), warmed(0.2)] == pytest.approx([0, 0.5, 1])
    assert [warmed(0.6), warmed(1)] == pytest.approx([0.5, 0], abs=1e-15)


@pytest.mark.parametrize("name", list(SCHEDULES))
def test_factors_stay_between_0_and_1(name: str) -> None:
    factors = [SCHEDULES[name](i / 100) for i in range(101)]
    assert min(factors) >= 0
    assert max(factors) == pytest.approx(1)


def test_warm_up_for_the_whole_training_is_refused() -> None:
    with pytest.raises(ValueError, match="below 1; found 1"):
        warm_up(constant, 1)
