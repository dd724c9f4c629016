from io import BytesIO

import numpy as np
import pytest
from matplotlib.colors import Normalize
from PIL import Image

from digitflow.tasks.figures.gallery import image_figure
from digitflow.tasks.figures.png import to_png
from digitflow.tasks.figures.tiles import brightness


def test_the_title_says_what_it_is(built, texts, inside, images):
    figure = built(image_figure, images(1)[0], 8, number=60_000, dataset="MNIST")
    assert texts(figure) == ["MNIST · training image 60,000 · labelled 8"]
    inside(figure)


def test_a_compact_png_of_the_same_bytes(png_size, images):
    image = images(1)[0]
    png = to_png(image_figure(image, 8, number=60_000, dataset="MNIST"), dpi=110)
    width, _ = png_size(png)
    assert width == 550
    assert len(png) < 80_000
    assert png == to_png(image_figure(image.copy(), 8, number=60_000, dataset="MNIST"), dpi=110)
    assert png != to_png(image_figure(image, 8, number=60_000, dataset="sample"), dpi=110)


@pytest.mark.parametrize("shape", [(28, 28), (20, 90), (90, 20), (1, 1), (300, 200)])
def test_any_height_and_width(shape, built, tiles, inside, images):
    figure = built(image_figure, images(1, *shape)[0], 0, number=1, dataset="sample")
    inside(figure)
    box = tiles(figure)[0].image.get_window_extent()
    assert box.height / box.width == pytest.approx(shape[0] / shape[1], rel=0.02)
    assert min(box.width, box.height) > 50
    assert 100 < figure.bbox.height < 1000


def test_light_on_black(images):
    image = np.zeros((4, 4), dtype=np.uint8)
    image[0, 0] = 255
    with Image.open(
        BytesIO(to_png(image_figure(image, 1, number=1, dataset="s"), dpi=50))
    ) as drawn:
        pixels = np.asarray(drawn.convert("RGB"))
    height, width = pixels.shape[:2]
    assert (pixels[int(0.6 * height), int(0.5 * width)] == 0).all()
    # The one white pixel fills the tile's first square.
    assert (pixels[int(0.25 * height), int(0.15 * width)] == 255).all()


@pytest.mark.parametrize(("pixels", "limits"), [
    (np.array([[0, 200]], dtype=np.uint8), (0, 255)),
    (np.array([[0, 1]], dtype=np.uint8), (0, 1)),
    (np.array([[0.0, 0.3]]), (0, 1)),
    (np.array([[-1.0, 0.3]]), (-1, 1)),
    (np.array([[0, 4000]], dtype=np.int32), (0, 4000)),
    (np.array([[0, 0]], dtype=np.uint8), (0, 1)),
])  # fmt: skip
def test_brightness_follows_the_scale_not_the_brightest_pixel(pixels, limits):
    assert brightness(pixels) == limits
    assert Normalize(*limits)(limits[1]) == 1


@pytest.mark.parametrize(("image", "message"), [
    (np.zeros(784), r"\(height, width\): found shape \(784,\).*Reshape"),
    (np.zeros((0, 28)), r"found shape \(0, 28\)"),
    (np.array([[0.0, np.nan]]), "pixels must be finite"),
])  # fmt: skip
def test_refuses_what_is_no_image(image, message):
    with pytest.raises(ValueError, match=message):
        to_png(image_figure(image, 0, number=1, dataset="sample"), dpi=110)
