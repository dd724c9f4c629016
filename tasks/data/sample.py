"""The built-in dataset: digits that the project draws itself, for where there is no network.

Glyphs of Matplotlib's bundled fonts, each bent, turned, slanted, thickened, blurred and speckled
at random, in MNIST's form: 28 x 28 pixels of uint8, light on black, the digit in a box of about
20 x 20 at the middle.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from digitflow.tasks.agg import FontProperties, TextPath, matplotlib
from digitflow.tasks.data.idx.arrays import write, write_blocks

DIGITS = "0123456789"
FACES = (
    "DejaVuSans",
    "DejaVuSans-Oblique",
    "DejaVuSans-Bold",
    "DejaVuSans-BoldOblique",
    "DejaVuSansMono",
    "DejaVuSansMono-Oblique",
    "DejaVuSerif",
    "DejaVuSerif-Italic",
    "DejaVuSerif-Bold",
    "DejaVuSerif-BoldItalic",
)

GRID = 72  # samples of a field along each axis
REACH = 0.8  # a field covers -REACH … REACH; the glyph itself -0.5 … 0.5 along its longer side
HULL_POINTS = 48

_DRAWING_SIZE = 40  # points: curves become chords of about a hundredth of the digit

SIDE = 28  # pixels
BOX = 20  # pixels of the digit's longer side, before it is scaled at random

TURN = 8.0  # degrees, standard deviation
SHEAR = 0.15  # standard deviation, as x per y
STRETCH = 0.1  # standard deviation of the logarithm of width over height
SCALE = (0.9, 1.05)  # range of sizes, times BOX
SHIFT = 0.5  # pixels, standard deviation in x and in y
WARP = 0.03  # standard deviation of each bending wave, in units of BOX
STROKE = (0.8, 1.8)  # pixels, range of half the stroke's width
EDGE = (1.0, 2.2)  # pixels from black to full light at a stroke's edge: the blur
INK = (0.8, 1.0)  # range of brightness
SPECKLE = 0.04  # standard deviation of the noise, of full brightness

_BLOCK = 500  # images drawn at once: few enough for the processor's cache
_WAVES = 3  # bending waves along each axis, the constant one included

# MNIST's own file names.
_NAMES = {
    "training_images": "train-images-idx3-ubyte.gz",
    "training_labels": "train-labels-idx1-ubyte.gz",
    "test_images": "t10k-images-idx3-ubyte.gz",
    "test_labels": "t10k-labels-idx1-ubyte.gz",
}


@dataclass(frozen=True)
class Glyphs:
    """All digits in all faces; in units of each glyph's longer side, its box centred on 0.

    Attributes
    ----------
    fields : NDArray[float32], shape (digits, faces, GRID, GRID)
        Distance to the outline, positive inside; rows run from top to bottom.
    hulls : NDArray[float32], shape (digits, faces, HULL_POINTS, 2)
        The outermost points as (x, y), y downwards; enough to know the box of a turned glyph.
    half_widths : NDArray[float32], shape (digits, faces)
        Half the mean width of the stroke: area over length of the outline.
    """

    fields: NDArray[np.float32]
    hulls: NDArray[np.float32]
    half_widths: NDArray[np.float32]


@cache
def load_glyphs() -> Glyphs:
    """Measure the digits of all faces; about half a second, once per process."""
    shape = (len(DIGITS), len(FACES))
    fields = np.empty((*shape, GRID, GRID), np.float32)
    hulls = np.empty((*shape, HULL_POINTS, 2), np.float32)
    half_widths = np.empty(shape, np.float32)
    for column, face in enumerate(FACES):
        for row, digit in enumerate(DIGITS):
            starts, ends = _edges(face, digit)
            fields[row, column] = _distance_field(starts, ends)
            hulls[row, column] = _hull(starts)
            # Counters run the other way round, so the shoelace formula takes them off.
            area = abs((starts[:, 0] * ends[:, 1] - starts[:, 1] * ends[:, 0]).sum()) / 2
            half_widths[row, column] = area / np.hypot(*(ends - starts).T).sum()
    return Glyphs(fields, hulls, half_widths)


def _edges(face: str, digit: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return starts and ends of a digit's outline, both of shape (edges, 2)."""
    file = Path(matplotlib.get_data_path(), "fonts", "ttf", f"{face}.ttf")
    path = TextPath((0, 0), digit, size=_DRAWING_SIZE, prop=FontProperties(fname=file))
    polygons = [np.asarray(polygon) * (1, -1) for polygon in path.to_polygons()]
    low = np.min([polygon.min(axis=0) for polygon in polygons], axis=0)
    high = np.max([polygon.max(axis=0) for polygon in polygons], axis=0)
    polygons = [(polygon - (low + high) / 2) / (high - low).max() for polygon in polygons]
    edges = [edge for polygon in polygons for edge in pairwise(polygon)]
    starts, ends = np.array(edges).swapaxes(0, 1)
    return starts, ends


def _hull(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the point that lies furthest out in each of `HULL_POINTS` directions."""
    angles = np.linspace(0, 2 * np.pi, HULL_POINTS, endpoint=False)
    directions = np.stack([np.cos(angles), np.sin(angles)])
    outermost: NDArray[np.float64] = points[np.argmax(points @ directions, axis=0)]
    return outermost


def _distance_field(starts: NDArray[np.float64], ends: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the distance from each grid point to the nearest edge, positive inside."""
    axis = np.linspace(-REACH, REACH, GRID, dtype=np.float32)
    x, y = axis[None, :, None], axis[:, None, None]  # edges along the third axis
    (ax, ay), (bx, by) = starts.T.astype(np.float32), ends.T.astype(np.float32)
    dx, dy = bx - ax, by - ay
    along = ((x - ax) * dx + (y - ay) * dy) / np.maximum(dx * dx + dy * dy, 1e-12)
    along = np.clip(along, 0, 1)
    squared = (ax + along * dx - x) ** 2 + (ay + along * dy - y) ** 2
    # Even-odd rule: a point is inside if a ray to the right crosses an odd number of edges.
    level = np.where(dy == 0, np.float32(1), dy)
    crosses = ((ay > y) != (by > y)) & (x < ax + (y - ay) * dx / level)
    inside = crosses.sum(axis=2) % 2 == 1
    distance: NDArray[np.float32] = np.sqrt(squared.min(axis=2))
    return np.where(inside, distance, -distance)


def write_sample(
    folder: Path,
    *,
    training: int = 6000,
    test: int = 1000,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Path]:
    """Draw a dataset and write it as the four gzipped IDX files.

    Same numbers and seed, same bytes, given the same versions of NumPy, Matplotlib and zlib.
    Memory does not grow with the number of images, but for their labels: two bytes an image.

    Parameters
    ----------
    folder : Path
        Made if it is missing.
    training, test : int
        Numbers of images, at least 1.
    seed : int
        Seed of everything random, at least 0.
    progress : callable, optional
        Called after every block with the number of images drawn, and of all that are to be.

    Returns
    -------
    dict of str to Path
        The files by role; images (n, 28, 28) uint8, labels (n,) uint8.

    Raises
    ------
    ValueError
        If a number is out of range.
    """
    counts = {"training": training, "test": test}
    for part, count in counts.items():
        if count < 1:
            message = f"expected at least 1 {part} image to draw, found {count}"
            raise ValueError(message)
    folder.mkdir(parents=True, exist_ok=True)
    files = {role: folder / name for role, name in _NAMES.items()}
    streams = np.random.SeedSequence(seed).spawn(2)
    drawn = 0

    def counted(blocks: Iterator[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
        nonlocal drawn
        for block in blocks:
            yield block
            drawn += len(block)
            if progress is not None:
                progress(drawn, training + test)

    for (part, count), stream in zip(counts.items(), streams, strict=True):
        for_labels, for_images = map(np.random.default_rng, stream.spawn(2))
        labels = balanced_labels(count, for_labels)
        write(files[f"{part}_labels"], labels)
        write_blocks(
            files[f"{part}_images"],
            (count, SIDE, SIDE),
            np.dtype(np.uint8),
            counted(draw_blocks(labels, for_images)),
        )
    return files


def balanced_labels(count: int, generator: np.random.Generator) -> NDArray[np.uint8]:
    """Return shuffled labels, shape (count,); no two digits differ by more than one in number."""
    return generator.permutation(np.resize(np.arange(len(DIGITS), dtype=np.uint8), count))


def draw_blocks(
    labels: NDArray[np.uint8], generator: np.random.Generator
) -> Iterator[NDArray[np.uint8]]:
    """Yield images of `labels`, shape (n,), block by block, shape (up to 500, 28, 28)."""
    glyphs = load_glyphs()
    for start in range(0, len(labels), _BLOCK):
        yield _draw(labels[start : start + _BLOCK], glyphs, generator)


def _draw(
    labels: NDArray[np.uint8], glyphs: Glyphs, generator: np.random.Generator
) -> NDArray[np.uint8]:
    n = len(labels)

    def uniform(bounds: tuple[float, float]) -> NDArray[np.float32]:
        return generator.uniform(*bounds, (n, 1, 1)).astype(np.float32)

    faces = generator.integers(len(FACES), size=n)
    affine = _random_affine(n, generator)
    size = BOX * uniform(SCALE)
    affine, shift = _fit_box(affine, glyphs.hulls[labels, faces], size[:, 0, 0])
    shift += generator.normal(0, SHIFT, (n, 2)).astype(np.float32)

    # Where each pixel lies on its glyph: bend, then undo shift and affine map.
    x, y = _bend(n, generator)
    x -= shift[:, 0, None, None]
    y -= shift[:, 1, None, None]
    inverse = np.linalg.inv(affine)[..., None, None]
    across = inverse[:, 0, 0] * x + inverse[:, 0, 1] * y
    down = inverse[:, 1, 0] * x + inverse[:, 1, 1] * y
    pixels = np.sqrt(np.abs(np.linalg.det(affine))).astype(np.float32)[:, None, None]
    distance = _interpolate(glyphs.fields, labels, faces, across, down) * pixels

    # The stroke's edge lies where the distance is 0; moving that level thickens or thins it.
    drawn = glyphs.half_widths[labels, faces][:, None, None] * pixels
    light = np.clip(0.5 + (distance + uniform(STROKE) - drawn) / uniform(EDGE), 0, 1)
    light *= uniform(INK)
    light += SPECKLE * generator.standard_normal((n, SIDE, SIDE), np.float32)
    images: NDArray[np.uint8] = (255 * np.clip(light, 0, 1)).round().astype(np.uint8)
    return images


def _random_affine(n: int, generator: np.random.Generator) -> NDArray[np.float32]:
    """Return maps that turn, slant and stretch, shape (n, 2, 2)."""
    turn = np.radians(generator.normal(0, TURN, n))
    shear = generator.normal(0, SHEAR, n)
    stretch = np.exp(generator.normal(0, STRETCH, n) / 2)
    cos, sin = np.cos(turn), np.sin(turn)
    zero, one = np.zeros(n), np.ones(n)
    rotation = np.array([[cos, -sin], [sin, cos]])
    slant = np.array([[one, shear], [zero, one]])
    widths = np.array([[stretch, zero], [zero, 1 / stretch]])
    maps: NDArray[np.float64] = np.einsum("ijn,jkn,kln->nil", rotation, slant, widths)
    return maps.astype(np.float32)


def _fit_box(
    affine: NDArray[np.float32], hulls: NDArray[np.float32], size: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Scale the maps so that each glyph's box has this longer side, in pixels.

    Returns the maps, shape (n, 2, 2), and what shifts the box onto the image's middle, (n, 2).
    """
    points = np.einsum("nij,npj->npi", affine, hulls)
    low, high = points.min(axis=1), points.max(axis=1)
    scale = size / (high - low).max(axis=1)
    return affine * scale[:, None, None], -(low + high) / 2 * scale[:, None]


def _bend(
    n: int, generator: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the pixels' x and y from the image's middle, gently bent; both (n, SIDE, SIDE)."""
    axis = np.arange(SIDE, dtype=np.float32) - np.float32((SIDE - 1) / 2)
    waves = np.cos(np.pi * np.outer(np.arange(_WAVES), np.arange(SIDE) + 0.5) / SIDE)
    strength = generator.normal(0, WARP * BOX, (2, n, _WAVES, _WAVES))
    strength[:, :, 0, 0] = 0  # that would be a shift
    bend = np.einsum("anij,jx->anix", strength, waves)
    bend = np.einsum("anix,iy->anyx", bend, waves).astype(np.float32)
    return axis[None, None, :] + bend[0], axis[None, :, None] + bend[1]


def _interpolate(
    fields: NDArray[np.float32],
    labels: NDArray[np.uint8],
    faces: NDArray[np.int64],
    across: NDArray[np.float32],
    down: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Return the fields' values at positions in glyph units, bilinearly; (n, SIDE, SIDE)."""
    per_unit = np.float32((GRID - 1) / (2 * REACH))
    column = np.clip((across + REACH) * per_unit, 0, GRID - 1.001)
    row = np.clip((down + REACH) * per_unit, 0, GRID - 1.001)
    left, top = column.astype(np.intp), row.astype(np.intp)
    column -= left
    row -= top
    first = ((labels.astype(np.intp) * len(FACES) + faces) * GRID * GRID)[:, None, None]
    corner = first + top * GRID + left
    flat = fields.reshape(-1)
    above = flat[corner] * (1 - column) + flat[corner + 1] * column
    below = flat[corner + GRID] * (1 - column) + flat[corner + GRID + 1] * column
    values: NDArray[np.float32] = above * (1 - row) + below * row
    return values
