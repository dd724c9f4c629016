import numpy as np
import pytest

from digitflow.tasks.figures.contact_sheet import (
    UNSURE,
    choose_for_sheet,
    contact_sheet_figure,
)
from digitflow.tasks.figures.png import to_png

rng = np.random.default_rng(0)


def sheet(count, **changes):
    given = {
        "images": rng.integers(0, 256, (count, 28, 28), dtype=np.uint8),
        "labels": [str(i % 10) for i in range(count)],
        "probabilities": np.linspace(0.31, 0.999, count).tolist(),
        "names": [f"{i:04}.png" for i in range(count)],
        "total": count,
        "title": "model 3",
        **changes,
    }
    positional = [given.pop(name) for name in ("images", "labels", "probabilities", "names")]
    return positional, given


class TestChoice:
    def test_all_of_few_by_rising_probability(self):
        assert choose_for_sheet(np.array([0.9, 0.2, 0.5]), count=3, seed=0).tolist() == [1, 2, 0]

    def test_the_least_certain_and_others(self):
        probabilities = rng.random(1000)
        chosen = choose_for_sheet(probabilities, count=40, seed=0)
        shown = probabilities[chosen]
        assert len(set(chosen.tolist())) == 40
        assert (np.diff(shown) >= 0).all()
        assert np.array_equal(shown[:20], np.sort(probabilities)[:20])
        assert shown[20:].mean() > 0.3  # not only the next ones
        assert np.array_equal(chosen, choose_for_sheet(probabilities, count=40, seed=0))


def test_each_picture_has_its_class_probability_and_name(built, texts, inside):
    positional, given = sheet(11)
    figure = built(contact_sheet_figure, *positional, **given)
    said = texts(figure)
    assert "model 3 · 11 pictures, least certain first" in said
    assert "0\n31.0 %" in said
    assert "0000.png" in said
    inside(figure)


def test_long_names_fit(built, inside):
    positional, given = sheet(16, labels=["Ankle boot, left"] * 16, names=["w" * 60] * 16)
    inside(built(contact_sheet_figure, *positional, **given))


def test_the_unsure_are_framed(built, tiles):
    positional, given = sheet(2, probabilities=[UNSURE - 0.01, UNSURE])
    figure = built(contact_sheet_figure, *positional, **given)
    widths = [tile.frame.get_linewidth() for tile in tiles(figure)]
    assert widths[0] > 2 > widths[1]


def test_what_is_unsure_is_framed_and_says_so(built, texts, tiles):
    positional, given = sheet(2, probabilities=[0.99, 0.99], unsure=[True, False])
    figure = built(contact_sheet_figure, *positional, **given)
    widths = [tile.frame.get_linewidth() for tile in tiles(figure)]
    assert widths[0] > 2 > widths[1]
    assert "0\nunsure" in texts(figure)
    assert "1\n99.0 %" in texts(figure)


def test_says_what_was_left_out(built, texts):
    positional, given = sheet(9, total=10_000)
    said = texts(built(contact_sheet_figure, *positional, **given))
    assert (
        "model 3 · the 5 least certain and 4 at random of 10,000 pictures, least certain first"
        in said
    )


def test_the_same_bytes():
    positional, given = sheet(3)
    first = to_png(contact_sheet_figure(*positional, **given), dpi=60)
    assert first == to_png(contact_sheet_figure(*positional, **given), dpi=60)
    assert first.startswith(b"\x89PNG")


def test_lengths_that_differ():
    positional, given = sheet(3, names=["a"])
    with pytest.raises(ValueError, match=r"found 3 pictures, 3 classes, 3 probabilities, 1 names"):
        contact_sheet_figure(*positional, **given)
