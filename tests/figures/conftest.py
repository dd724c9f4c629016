import struct
from typing import NamedTuple

import numpy as np
import pytest
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from digitflow.tasks.figures.style import look


@pytest.fixture
def built():
    """Build a figure inside the shared look and lay it out, so that texts can be measured."""

    def build(figure_function, *args, **kwargs):
        with look():
            figure = figure_function(*args, **kwargs)
            figure.set_dpi(110)
            figure.draw_without_rendering()
        return figure

    return build


class DrawnTile(NamedTuple):
    image: AxesImage
    above: str
    below: str
    frame: Rectangle


@pytest.fixture
def tiles():
    """Return what a figure shows, a picture each with its captions and frame."""

    def find(figure):
        (axes,) = figure.axes
        said = [text.get_text() for text in axes.texts]
        found = zip(axes.images, said[::2], said[1::2], axes.patches, strict=True)
        return [DrawnTile(*each) for each in found]

    return find


@pytest.fixture
def texts():
    """Return what a figure says: every text that is not empty."""

    def find(figure):
        found = [t for t in figure.findobj(Text) if t.get_text().strip() and t.get_visible()]
        return [t.get_text() for t in found]

    return find


@pytest.fixture
def inside():
    """Assert that every text lies within the figure, and none over another."""

    def check(figure):
        with look():
            figure.draw_without_rendering()
            boxes = {
                text: text.get_window_extent()
                for text in _drawn(figure)
                if text.get_visible() and text.get_text().strip()
            }
        width, height = figure.bbox.size
        for text, box in boxes.items():
            assert box.x0 >= -1, f"{text.get_text()!r} is cut off at the left"
            assert box.y0 >= -1, f"{text.get_text()!r} is cut off at the bottom"
            assert box.x1 <= width + 1, f"{text.get_text()!r} is cut off at the right"
            assert box.y1 <= height + 1, f"{text.get_text()!r} is cut off at the top"
        ordered = list(boxes.items())
        for i, (one, a) in enumerate(ordered):
            for other, b in ordered[i + 1 :]:
                across = min(a.x1, b.x1) - max(a.x0, b.x0)
                down = min(a.y1, b.y1) - max(a.y0, b.y0)
                # Bounding boxes leave room for accents and descenders: 3 pixels are not ink.
                overlap = across > 1 and down > 3
                assert not overlap, f"{one.get_text()!r} lies over {other.get_text()!r}"

    return check


def _drawn(figure):
    # Not findobj: Matplotlib keeps spare tick labels beyond the limits, which it never draws.
    for artist in figure.get_children():
        if isinstance(artist, Text):
            yield artist
    for axes in figure.axes:
        if not axes.get_visible():
            continue
        yield from axes.texts
        yield from (axes.title, axes._left_title, axes._right_title)
        if not axes.axison:
            continue
        for axis in (axes.xaxis, axes.yaxis):
            yield axis.label
            for tick in axis._update_ticks():
                yield from (tick.label1, tick.label2)


@pytest.fixture
def png_size():
    """Return (width, height) of PNG bytes, having checked that they are a whole PNG file."""

    def read(png):
        assert png[:8] == b"\x89PNG\r\n\x1a\n"
        assert png[12:16] == b"IHDR"
        assert png.endswith(b"IEND\xaeB`\x82")
        for chunk in (b"tEXt", b"iTXt", b"tIME"):
            assert chunk not in png[:2000], "a PNG with texts or a date differs between versions"
        return struct.unpack(">II", png[16:24])

    return read


@pytest.fixture
def images():
    """Return n made-up images: a bright blob on black, each elsewhere."""

    def make(n, height=28, width=28):
        rng = np.random.default_rng(7)
        y, x = np.mgrid[:height, :width]
        cy, cx = rng.uniform(0.2, 0.8, (2, n, 1, 1))
        distance = ((y - cy * height) / height) ** 2 + ((x - cx * width) / width) ** 2
        return np.clip(320 * np.exp(-40 * distance), 0, 255).astype(np.uint8)

    return make
