"""Random shifts, rotations, scalings and elastic deformations of training images.

A batch is divided into groups, and each group is transformed in a random way of its own. That
the few images of a group share a transformation costs nothing measurable in accuracy, since the
next epoch groups and transforms them anew; and it makes the transformation cheap, since where
each pixel comes from is worked out once for a group.

All work on bytes and give bytes, so that an augmented batch goes the way of any other. Places
outside an image count as 0, the background.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]
Floats = NDArray[np.float32]

# Images that share one transformation.
GROUP = 32

# Width of the Gaussian that smooths elastic deformations, in pixels. Source: Simard, Steinkraus
# & Platt 2003, section 2, for 28 x 28 digits.
ELASTIC_SIGMA = 4.0


@dataclass
class Augment:
    """Transforms each group of images in its own random way.

    Parameters
    ----------
    rng : Generator
        Where the transformations are drawn from.
    shift : int
        Largest shift in pixels, in each direction.
    rotation : float
        Largest angle in degrees, either way.
    scale : float
        Largest relative change of size, 0.1 for 90 % to 110 %.
    elastic : float
        Standard deviation of the elastic displacement in pixels.
    """

    rng: np.random.Generator
    shift: int = 0
    rotation: float = 0.0
    scale: float = 0.0
    elastic: float = 0.0

    def __call__(self, images: Images) -> Images:
        """Return transformed copies of `images`, uint8 (n, height, width)."""
        warps = self.rotation or self.scale or self.elastic
        if not (warps or self.shift):
            return images
        moved = np.empty_like(images)
        groups = range(0, len(images), GROUP)
        if warps:
            rows, columns = self._sources((len(groups), *images.shape[1:]))
            for index, start in enumerate(groups):
                group = slice(start, start + GROUP)
                moved[group] = sample_bilinear(images[group], rows[index], columns[index])
            return moved
        # Whole pixels: each image is a window of itself with a border around.
        _, height, width = images.shape
        framed = _framed(images, self.shift)
        offsets = self.rng.integers(0, 2 * self.shift + 1, (len(groups), 2)).tolist()
        for start, (down, right) in zip(groups, offsets, strict=True):
            group = slice(start, start + GROUP)
            moved[group] = framed[group, down : down + height, right : right + width]
        return moved

    def _sources(self, shape: tuple[int, ...]) -> tuple[Floats, Floats]:
        """Draw from where each pixel comes: rows and columns, (groups, height, width) both."""
        n, height, width = shape

        def draw(largest: float) -> Floats:
            return self.rng.uniform(-largest, largest, (n, 1, 1)).astype(np.float32)

        angle, zoom = np.deg2rad(draw(self.rotation)), 1 + draw(self.scale)
        cosine, sine = np.cos(angle) / zoom, np.sin(angle) / zoom
        y, x = np.mgrid[:height, :width].astype(np.float32)
        y, x = y - (height - 1) / 2, x - (width - 1) / 2
        rows = cosine * y - sine * x + draw(self.shift) + (height - 1) / 2
        columns = sine * y + cosine * x + draw(self.shift) + (width - 1) / 2
        if self.elastic:
            for coordinates in (rows, columns):
                noise = self.rng.standard_normal(shape, dtype=np.float32)
                smooth = _smoothing(height) @ noise @ _smoothing(width).T
                coordinates += np.float32(self.elastic) * smooth
        return rows, columns


def sample_bilinear(images: Images, rows: Floats, columns: Floats) -> Images:
    """Read each of `images` (n, height, width) at the fractional places `rows`, `columns`.

    The places have shape (height, width) and hold for all n images. The value is the mean of
    the four pixels around, weighted by nearness.
    """
    n, height, width = images.shape
    # Beyond a border of zeros everything is 0, so places further out are pulled onto it.
    rows = np.clip(rows + 1, 0, height + 0.999).ravel()
    columns = np.clip(columns + 1, 0, width + 0.999).ravel()
    top, left = rows.astype(np.intp), columns.astype(np.intp)
    down, right = rows - top, columns - left
    stride = width + 2
    corner = top * stride + left
    # Pixels first, images innermost: what is read for one place lies in one run.
    pixels = np.ascontiguousarray(_framed(images, 1).reshape(n, -1).T, np.float32)
    values = pixels.take(corner, axis=0) * ((1 - down) * (1 - right))[:, None]
    values += pixels.take(corner + 1, axis=0) * ((1 - down) * right)[:, None]
    values += pixels.take(corner + stride, axis=0) * (down * (1 - right))[:, None]
    values += pixels.take(corner + stride + 1, axis=0) * (down * right)[:, None]
    values += 0.5
    rounded: Images = values.T.astype(np.uint8).reshape(images.shape)
    return rounded


def _framed(images: Images, border: int) -> Images:
    n, height, width = images.shape
    framed = np.zeros((n, height + 2 * border, width + 2 * border), np.uint8)
    framed[:, border : border + height, border : border + width] = images
    return framed


def _smoothing(length: int) -> Floats:
    """Return the (length, length) matrix that smooths white noise and keeps its variance at 1."""
    places = np.arange(length, dtype=np.float32)
    distance = places[:, None] - places
    matrix: Floats = np.exp(-(distance**2) / np.float32(2 * ELASTIC_SIGMA**2))
    matrix /= np.sqrt((matrix**2).sum(axis=1, keepdims=True))
    return matrix
