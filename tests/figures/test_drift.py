import pytest

from digitflow.tasks.figures.drift import drift_figure
from digitflow.tasks.figures.png import to_png

DIGITS = [str(digit) for digit in range(10)]
TENTHS = [0.1] * 10
NOW = [0.3, 0.02, *[0.085] * 8]
KNOWN = {"confidence_then": 0.97, "thresholds": (0.1, 0.25), "title": "model 3"}


def test_says_what_it_shows(built, texts, inside):
    figure = built(drift_figure, DIGITS, TENTHS, NOW, [0.01, 0.12, 0.4], [0.97, 0.9, 0.81], **KNOWN)
    said = texts(figure)
    assert "model 3 · predictions now and on the test set · the last 3 batches" in said
    for text in ("test set", "now", "watch from 0.1", "drifted from 0.25", "Mean confidence"):
        assert text in said
    inside(figure)


@pytest.mark.parametrize("index", [0.0, 5.0])
def test_one_batch_and_long_names(built, texts, inside, index):
    names = ["T-shirt, or something like that", "b"]
    figure = built(drift_figure, names, [0.0, 1.0], [1.0, 0.0], [index], [0.1], **KNOWN)
    assert any("the last batch" in text for text in texts(figure))
    inside(figure)


def test_the_same_bytes():
    given = (DIGITS, TENTHS, NOW, [0.1], [0.9])
    assert to_png(drift_figure(*given, **KNOWN), dpi=60) == to_png(
        drift_figure(*given, **KNOWN), dpi=60
    )


@pytest.mark.parametrize(
    ("indices", "confidences", "now"), [([], [], NOW), ([0.1], [], NOW), ([0.1], [0.9], [1.0])]
)
def test_lengths_that_differ(indices, confidences, now):
    with pytest.raises(ValueError, match="expected two shares a class, and at least one batch"):
        drift_figure(DIGITS, TENTHS, now, indices, confidences, **KNOWN)
