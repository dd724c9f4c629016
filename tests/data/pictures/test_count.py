"""How many things an image shows: digits side by side are several, strokes of one are not."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from digitflow.tasks.data.pictures.count import count_things
from digitflow.tasks.data.pictures.form import Form, fit_form
from digitflow.tasks.data.sample import balanced_labels, draw_blocks

FORM = Form((28, 28))


def written(text: str, size: int = 60) -> np.ndarray:
    image = Image.new("L", (60 * len(text) + 40, 120))
    pen = ImageDraw.Draw(image)
    pen.text((20, 20), text, 255, ImageFont.load_default(size))
    return FORM.bring(np.asarray(image))


@pytest.mark.parametrize(("text", "things"), [("7", 1), ("42", 2), ("i", 1), ("", 0)])
def test_what_is_written(text: str, things: int) -> None:
    found = count_things(written(text)[None], FORM)
    assert found is not None
    assert found.tolist() == [things]


def strokes(*lines: tuple[int, int, int, int]) -> np.ndarray:
    image = Image.new("L", (28, 28))
    for line in lines:
        ImageDraw.Draw(image).line(line, 255, 2)
    return np.asarray(image)


def test_strokes_of_one_digit_are_one() -> None:
    four = strokes((8, 4, 8, 14), (8, 14, 14, 14), (17, 4, 17, 24), (8, 14, 20, 14))
    five = strokes((8, 4, 20, 4), (9, 8, 9, 14), (9, 14, 19, 16), (19, 16, 18, 24), (18, 24, 8, 24))
    found = count_things(np.stack([four, five]), FORM)
    assert found is not None
    assert found.tolist() == [1, 1]


def test_of_drawn_digits_hardly_any_are_several_in_either_polarity() -> None:
    rng = np.random.default_rng(1)
    images = np.concatenate(list(draw_blocks(balanced_labels(300, rng), rng)))
    for shown in (images, 255 - images):
        found = count_things(shown, fit_form(shown))
        assert found is not None
        assert (found != 1).mean() <= 0.02
    pair = np.concatenate([images[:50, :, 4:24], images[50:100, :, 4:24]], axis=2)
    found = count_things(pair, FORM)
    assert found is not None
    assert (found == 2).mean() >= 0.9


def test_photographs_are_not_counted_on() -> None:
    noise = np.random.default_rng(2).integers(0, 256, (5, 28, 28), dtype=np.uint8)
    assert count_things(noise, Form((28, 28), plain=False)) is None
