from io import BytesIO

import numpy as np
from PIL import Image

from digitflow.tasks.figures.png import COMPACT, encode_png


def decode(png):
    with Image.open(BytesIO(png)) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_256_colours_are_kept_exactly(png_size):
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    png = encode_png(grey, dpi=110)
    assert png_size(png) == (16, 16)
    assert (decode(png) == grey).all()


def test_of_more_colours_areas_are_exact_and_shades_near():
    # Two plain areas that hardly differ, and thousands of colours of a single pixel each.
    pixels = np.full((200, 4000, 3), (255, 255, 255), dtype=np.uint8)
    pixels[100:] = (254, 252, 249)
    pixels[0] = np.random.default_rng(0).integers(0, 256, (4000, 3))
    seen = decode(encode_png(pixels, dpi=110))
    assert (seen[1:] == pixels[1:]).all()
    # 192 shades spread over the whole cube of colours lie some 40 apart.
    assert np.abs(seen[0] - pixels[0].astype(int)).max() <= 64


def test_noise_is_drawn_in_fewer_shades_until_compact():
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 1), dtype=np.uint8).repeat(3, 2)
    png = encode_png(noise, dpi=110)
    assert len(png) <= COMPACT
    seen = decode(png)
    assert 16 < len(np.unique(seen)) <= 64
    assert np.abs(seen - noise.astype(int)).max() <= 8


def test_incompressible_pictures_end_at_the_smallest_palette():
    noise = np.random.default_rng(0).integers(0, 256, (500, 500, 1), dtype=np.uint8).repeat(3, 2)
    png = encode_png(noise, dpi=110)
    assert len(png) > COMPACT
    assert 16 < len(np.unique(decode(png))) <= 32
