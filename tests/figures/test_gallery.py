import gzip
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from digitflow.tasks.figures.gallery import choose_gallery, gallery_figure
from digitflow.tasks.figures.png import to_png

TUTORIAL_SEED = 147197952744
TUTORIAL_IMAGES = [43428, 57133, 6514, 37231, 41521]


def test_the_indices_of_the_tutorial():
    # Only the length counts: a view of one byte stands for the 60,000 images.
    stand_in = np.broadcast_to(np.uint8(0), (60_000, 784))
    chosen = choose_gallery(stand_in, size=5, seed=TUTORIAL_SEED)
    assert chosen.tolist() == TUTORIAL_IMAGES
    assert chosen.dtype == np.int64


@pytest.mark.parametrize("seed", [0, 1, TUTORIAL_SEED])
def test_the_same_images_as_drawing_from_the_images_themselves(seed):
    flat = np.random.default_rng(3).integers(0, 256, (300, 9), dtype=np.uint8)
    drawn = np.random.default_rng(seed).choice(flat, size=5, replace=False)
    assert (flat[choose_gallery(flat, size=5, seed=seed)] == drawn).all()


@pytest.mark.data
def test_the_images_and_labels_of_the_tutorial(mnist_directory):
    def read(name, header):
        data = gzip.decompress((mnist_directory / name).read_bytes())
        return np.frombuffer(data, np.uint8, offset=header)

    flat = read("train-images-idx3-ubyte.gz", 16).reshape(60_000, 784)
    labels = read("train-labels-idx1-ubyte.gz", 8)
    chosen = choose_gallery(flat, size=5, seed=TUTORIAL_SEED)
    assert labels[chosen].tolist() == [3, 8, 9, 6, 5]
    drawn = np.random.default_rng(TUTORIAL_SEED).choice(flat, size=5, replace=False)
    assert (flat[chosen] == drawn).all()


@pytest.mark.parametrize("size", [-1, 6])
def test_no_more_images_than_there_are(size):
    with pytest.raises(ValueError, match=f"0 … 5, the number of images.*found {size}"):
        choose_gallery(np.zeros((5, 4)), size=size, seed=0)


def test_each_image_has_its_label_and_index(built, texts, tiles, inside, images):
    figure = built(gallery_figure, images(5), [3, 8, 9, 6, 5], TUTORIAL_IMAGES, dataset="MNIST")
    said = texts(figure)
    assert "MNIST · 5 random training images" in said
    for tile, label, index in zip(tiles(figure), [3, 8, 9, 6, 5], TUTORIAL_IMAGES, strict=True):
        assert tile.above == f"labelled {label}"
        assert tile.below == f"index {index:,}"
    inside(figure)


def test_a_compact_png_of_the_same_bytes(png_size, images):
    labels, numbers = np.array([3, 8, 9, 6, 5]), np.array(TUTORIAL_IMAGES)
    png = to_png(gallery_figure(images(5), labels, numbers, dataset="MNIST"), dpi=110)
    assert png_size(png)[0] == 990
    assert len(png) < 80_000
    assert png == to_png(gallery_figure(images(5), labels, numbers, dataset="MNIST"), dpi=110)


@pytest.mark.parametrize(("count", "shape"), [(1, (28, 28)), (3, (16, 64)), (12, (64, 16))])
def test_any_number_shape_and_length_of_names(count, shape, built, texts, tiles, inside, images):
    names = [f"Ankle boot of the left foot, kind {i}" for i in range(count)]
    figure = built(gallery_figure, images(count, *shape), names, range(count), dataset="sample")
    inside(figure)
    assert len(tiles(figure)) == count
    assert any(text.startswith(f"sample · {count} random") for text in texts(figure))


def test_refuses_lengths_that_differ(images):
    with pytest.raises(ValueError, match="found 3 images, 2 labels, 3 indices"):
        to_png(gallery_figure(images(3), [1, 2], [0, 1, 2], dataset="sample"), dpi=110)
    with pytest.raises(ValueError, match="at least one image"):
        to_png(gallery_figure(images(0), [], [], dataset="sample"), dpi=110)


@pytest.mark.parametrize(("count", "shape"), [(1, (28, 28)), (100, (28, 28)), (7, (9, 50))])
def test_nothing_lies_over_another(count, shape, built, tiles, images):
    figure = built(gallery_figure, images(count, *shape), range(count), range(count), dataset="s")
    # The axes span the figure, so that a dot of theirs is one of the picture's.
    boxes = [tile.frame.get_window_extent() for tile in tiles(figure)]
    boxes += [text.get_window_extent() for text in figure.axes[0].texts]
    boxes += [title.get_window_extent() for title in figure.texts]
    width, height = figure.bbox.size
    for place, one in enumerate(boxes):
        assert -1 <= one.x0 < one.x1 <= width + 1
        assert -1 <= one.y0 < one.y1 <= height + 1
        for other in boxes[:place]:
            across = min(one.x1, other.x1) - max(one.x0, other.x0)
            assert across <= 1 or min(one.y1, other.y1) - max(one.y0, other.y0) <= 3


def test_a_pixel_of_an_image_is_a_square_of_dots(images):
    image = np.zeros((1, 4, 4), dtype=np.uint8)
    image[0, ::2, ::2] = image[0, 1::2, 1::2] = 255
    png = to_png(gallery_figure(image, ["a"], [0], dataset="s"))
    with Image.open(BytesIO(png)) as opened:
        dots = np.asarray(opened.convert("L")).astype(int)
    # In the middle of the tile: where squares meet, black stands beside white.
    row = dots[150, 20:180]
    assert set(np.unique(row)) <= {0, 255}
    assert (np.diff(row) != 0).sum() == 3
