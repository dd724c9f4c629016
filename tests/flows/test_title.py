"""What a run is called in the UI, and that its own name is found in it again."""

import pytest

from digitflow.flows.title import own_name, title
from digitflow.storage.history.runs import run_name


@pytest.mark.parametrize("metrics", [{}, {"test_accuracy": 0.784}, {"test_accuracy": 1.0}])
def test_own_name_is_found_again(metrics: dict[str, float]) -> None:
    shown = title("cinnamon-cat", "mnist", "tutorial", metrics)
    assert own_name(shown, "mnist", "tutorial") == "cinnamon-cat"


def test_title_says_what_tells_runs_apart() -> None:
    shown = title("cinnamon-cat", "mnist", "tutorial", {"test_accuracy": 0.784})
    assert shown == "cinnamon-cat · mnist · tutorial · 78.4 %"


@pytest.mark.parametrize(
    "shown", ["a · b", "Run #1", "x · mnist · cnn", "x · mnist · tutorial · 3"]
)
def test_what_a_person_wrote_is_not_taken_for_a_title(shown: str) -> None:
    assert own_name(shown, "mnist", "tutorial") == run_name(shown)


def test_a_dataset_may_be_called_anything() -> None:
    shown = title("cinnamon-cat", "a (1).*", "tutorial", {"test_accuracy": 0.5})
    assert own_name(shown, "a (1).*", "tutorial") == "cinnamon-cat"
