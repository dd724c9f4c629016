"""What the data cannot give is said before any work."""

from dataclasses import replace

import pytest

from digitflow.flows.sample_sizes import check_sample_sizes
from digitflow.tasks.data.datasets.dataset import Images
from digitflow.tasks.data.datasets.sources import DATASETS
from digitflow.tasks.parameters import ParameterError, resolve

SMALL = replace(DATASETS["mnist"], title="small", images=Images(30, 500, 28, 28))


@pytest.mark.parametrize(
    ("preset", "overrides"),
    [
        ("tutorial", {"training_sample": 30, "test_sample": 500}),
        ("tutorial", {"training_sample": 0, "test_sample": 0}),
        ("mlp", {}),
        ("mlp", {"validation_size": 28}),
        ("cnn", {"training_sample": 20, "validation_size": 18}),
    ],
)
def test_what_there_is(preset, overrides):
    check_sample_sizes(resolve(preset, overrides), SMALL)


@pytest.mark.parametrize(
    ("preset", "overrides", "text"),
    [
        (
            "tutorial",
            {},
            "training_sample: expected at most 30, the images that small has, or 0 for all, "
            "found 1,000; test_sample: expected at most 500, the images that small has, or 0 for "
            "all, found 1,000; set training_sample=0 test_sample=0",
        ),
        (
            "mlp",
            {"test_sample": 501},
            "test_sample: expected at most 500, the images that small has, or 0 for all, "
            "found 501; set test_sample=0",
        ),
        (
            "mlp",
            {"validation_size": 29},
            "validation_size: expected at most 28 of the 30 training images, found 29; "
            "set validation_size=3",
        ),
        (
            "mlp",
            {"training_sample": 1, "validation_size": 1},
            "validation_size: expected at most 0 of the 1 training images, found 1; "
            "set validation_size=0",
        ),
    ],
)
def test_what_there_is_not(preset, overrides, text):
    with pytest.raises(ParameterError) as caught:
        check_sample_sizes(resolve(preset, overrides), SMALL)
    assert str(caught.value) == text


def test_where_it_is_not_known_the_stages_find_out():
    check_sample_sizes(resolve("tutorial", {}), DATASETS["sample"])
