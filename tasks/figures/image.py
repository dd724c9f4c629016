"""One training image with its label."""

from __future__ import annotations

from functools import partial

from digitflow.tasks.agg import Figure
from digitflow.tasks.figures.captions import set_title
from digitflow.tasks.figures.style import render
from digitflow.tasks.figures.tiles import Pixels, brightness, check_images, show_tile


def draw_image(image: Pixels, label: object, *, number: int, dataset: str, dpi: int = 110) -> bytes:
    """Draw one training image, grey on black, as PNG bytes.

    Parameters
    ----------
    image : array, shape (height, width)
        Grey values, integer or float.
    label : int or str
        Its class.
    number : int
        Which training image it is, counted from 1: 60,000 is the image at index 59,999.
    dataset : str
        Name for the title.
    dpi : int
        Dots per inch; the figure is 5 inches wide.

    Raises
    ------
    ValueError
        If `image` is not two-dimensional, is empty or holds a value that is not finite.
    """
    return render(partial(image_figure, image, label, number=number, dataset=dataset), dpi=dpi)


def image_figure(image: Pixels, label: object, *, number: int, dataset: str) -> Figure:
    """Build the figure of `draw_image`."""
    check_images(image, dimensions=2)
    height, width = image.shape
    figure = Figure(figsize=(5.0, min(8.0, max(0.8, 4.8 * height / width)) + 0.4))
    set_title(figure, dataset, f"training image {number:,}", f"labelled {label}")
    show_tile(figure.add_subplot(), image, brightness(image))
    return figure
