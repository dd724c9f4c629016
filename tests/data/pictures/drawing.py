"""Pictures for tests: a figure that is told from its mirror images, and photographs of digits."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Bytes = NDArray[np.uint8]


def seven(height: int = 60, width: int = 80, *, ink: int = 20, paper: int = 220) -> Bytes:
    """Return a 7, 40 high and 24 wide, top left at (10, 8), drawn with a broad pen."""
    picture = np.full((height, width), paper, np.uint8)
    picture[10:16, 8:32] = ink
    for row in range(16, 50):
        right = 32 - round((row - 16) * 14 / 34)
        picture[row, right - 6 : right] = ink
    return picture


def photograph(image: Bytes, file: Path, rng: np.random.Generator) -> None:
    """Save a digit as if written on grey paper and photographed under a lamp, as JPEG.

    Scaled up, inverted, anywhere on a page of any shape, with uneven light and noise.
    """
    height, width = (int(side) for side in rng.integers(240, 640, 2))
    rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
    digit = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = rng.uniform(0.35, 0.8) * min(height, width) / max(digit.shape)
    size = (max(1, int(digit.shape[1] * scale)), max(1, int(digit.shape[0] * scale)))
    scaled = np.asarray(Image.fromarray(digit).resize(size, Image.Resampling.BICUBIC)) / 255
    ink = np.zeros((height, width))
    top = rng.integers(2, height - size[1] - 2)
    left = rng.integers(2, width - size[0] - 2)
    ink[top : top + size[1], left : left + size[0]] = scaled
    page = rng.uniform(120, 220) * (1 - ink) + rng.uniform(20, 70) * ink
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    light = 1 + rng.uniform(-0.25, 0.25) * x + rng.uniform(-0.25, 0.25) * y
    noisy = page * light + rng.normal(0, 8, page.shape)
    Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(file, quality=75)
