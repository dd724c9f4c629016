"""Digits of Matplotlib's bundled fonts as distance fields, which can be bent and thickened."""

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from digitflow.tasks.agg import FontProperties, TextPath, matplotlib

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
