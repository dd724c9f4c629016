"""What is ink on a picture: paper is grey, light is uneven, sensors are noisy."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Mask = NDArray[np.bool_]

# A part smaller than this share of the largest is a speck.
_SPECK = 0.04
# A part on more than this share of the border lies along it.
_ALONG = 0.1

Floats = NDArray[np.float64]

# Of 255. A pencil on paper differs from it by 60 and more; JPEG and paper by a few.
LEAST_CONTRAST = 20.0
# Standard deviations of the paper's noise: so much stands out from it, and so much is ink.
_OUTSTANDING, _LEAST_SIGNAL = 4.0, 5.0
# More than this share of a picture is no stroke, and less is none either.
_MOST_INK, _LEAST_INK = 0.6, 5e-5
# Pixels, the longer side, of a picture in which a digit is looked for.
_FROM_AFAR = 400
# Pixels of a side from which on a picture is so much larger than an image that smoothing is free.
_SMOOTHED_FROM = 112
_ROUNDS = 4
# A stroke is narrower than this share of the picture's longer side.
_BROADEST = 0.2
# So many times more does ink stand out from a shaded page than from a surface fitted to it.
_SHADED = 1.15
# A ruled line is seen in these shares of a row or column, alone and with the strokes that cross it,
# is that thin, and fainter than this share of ink.
_RULED, _WHOLE, _THIN, _FAINT = 0.6, 0.95, 0.04, 0.75
# Pixels between neighbours that share no enlarged pixel, and how many times what they differ by a
# page may be uneven, folded or shaded beyond the fitted surface.
_NEAR, _MOST_NOISE = 4, 3.0


def are_blank(images: NDArray[np.uint8]) -> Mask:
    """Tell of each image whether nothing is to be seen on it.

    Parameters
    ----------
    images : NDArray[uint8], shape (n, height, width)
    """
    blank: Mask = images.max(axis=(1, 2)).astype(int) - images.min(axis=(1, 2)) < LEAST_CONTRAST
    return blank


def label_components(mask: NDArray[np.bool_]) -> tuple[NDArray[np.intp], int]:
    """Number the connected parts of a mask; pixels that touch at a corner are connected.

    Parameters
    ----------
    mask : NDArray[bool], shape (height, width)

    Returns
    -------
    labels : NDArray[int], shape (height, width)
        0 where the mask is False, else the number of the part, counted from 1.
    count : int
        How many parts there are.
    """
    height, width = mask.shape
    # A frame spares the neighbours any special case. Each pixel begins as a part of its own,
    # named by its place; a part's name is the largest place in it.
    places = np.zeros((height + 2, width + 2), np.intp)
    places[1:-1, 1:-1] = np.where(mask, np.arange(1, mask.size + 1).reshape(mask.shape), 0)
    inner = places[1:-1, 1:-1]
    while True:
        largest = inner.copy()
        for down in (0, 1, 2):
            for right in (0, 1, 2):
                np.maximum(
                    largest, places[down : down + height, right : right + width], out=largest
                )
        largest[~mask] = 0
        # A name is a place, so it can be followed to the name there: parts of any shape are
        # one after a few rounds instead of one round a pixel.
        names = np.concatenate([[0], largest.ravel()])
        for _ in range(4):
            names = names[names]
        merged = names[1:].reshape(mask.shape)
        if np.array_equal(merged, inner):
            break
        inner[...] = merged
    found, labels = np.unique(inner, return_inverse=True)
    without_background = 0 if found[0] == 0 else 1
    return labels.reshape(mask.shape) + without_background, len(found) - 1 + without_background


def strokes_of(mask: Mask) -> Mask:
    """Leave out the edge of a sheet, ruled lines and specks."""
    labels, count = label_components(mask)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    foreign = _reaching_through(labels, count)
    inner = np.where(foreign, 0, sizes)
    if inner.max(initial=0) < _SPECK * sizes.max(initial=0):
        inner = sizes  # a digit that fills its picture touches the border, too
    kept = inner >= max(1.0, _SPECK * inner.max())
    strokes: Mask = kept[labels]
    return strokes


def _reaching_through(labels: NDArray[np.intp], count: int) -> Mask:
    """Tell of each part whether it goes from side to side or lies along the border."""
    sides = (labels[0], labels[-1], labels[:, 0], labels[:, -1])
    on = np.stack([np.bincount(side, minlength=count + 1) for side in sides])
    across = ((on[0] > 0) & (on[1] > 0)) | ((on[2] > 0) & (on[3] > 0))
    along = on.sum(axis=0) > _ALONG * sum(len(side) for side in sides)
    through: Mask = across | along
    through[0] = False
    return through


def grown(mask: Mask) -> Mask:
    """Return a mask and the pixels that touch it."""
    framed = np.pad(mask, 1)
    height, width = mask.shape
    larger = np.zeros_like(mask)
    for down in (0, 1, 2):
        for right in (0, 1, 2):
            larger |= framed[down : down + height, right : right + width]
    return larger


def find_ink(picture: Floats) -> Floats | None:
    """Return how much ink there is at each pixel, 0 to 1, cut to what is inked; None if blank.

    A large picture is looked at twice: from afar for the place, and then closely there. From afar
    a small digit has too few pixels to be read by.
    """
    factor = -(-max(picture.shape) // _FROM_AFAR)
    if factor > 1:
        afar = _ink_of(_reduced(picture, factor))
        if afar is None:
            return None
        rows, columns = (_widened(place, factor) for place in extent(afar))
        picture = picture[rows, columns]
        picture = _reduced(picture, -(-max(picture.shape) // _FROM_AFAR))
    ink = _ink_of(picture)
    return None if ink is None else ink[extent(ink)]


def _reduced(picture: Floats, factor: int) -> Floats:
    """Average a picture down by a whole factor."""
    if factor <= 1:
        return picture
    return np.asarray(Image.fromarray(picture.astype(np.float32)).reduce(factor), np.float64)


def extent(ink: NDArray[Any]) -> tuple[slice, slice]:
    """Return the rows and columns from the first to the last that hold ink."""
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _widened(place: slice, factor: int) -> slice:
    """Return a place found from afar in pixels of the picture, with paper on both sides."""
    margin = max(4, (place.stop - place.start) // 2)
    return slice(max(0, place.start - margin) * factor, (place.stop + margin) * factor)


def _ink_of(picture: Floats) -> Floats | None:
    """Return how much ink there is at each pixel, 0 to 1, or None if the picture is blank."""
    if min(picture.shape) >= _SMOOTHED_FROM:
        picture = _smoothed(picture)
    difference, noise, towards_ink = _from_background(picture)
    difference = _without_rules(_unshaded(difference, towards_ink * picture, noise), noise)
    # An edge lies where ink is half, however little of the picture it takes.
    level = _full(difference, noise)
    if level < max(LEAST_CONTRAST, _LEAST_SIGNAL * noise):
        return None
    mask = _without_corners(strokes_of(difference > max(level / 2, _least(noise))), difference)
    if not _LEAST_INK <= mask.mean() <= _MOST_INK:
        return None
    # Half-inked pixels around a stroke belong to it.
    values = np.where(grown(mask), difference, 0)
    # Below what paper's noise reaches is paper; full ink is full.
    lowest = min(3 * noise, level / 2)
    return np.clip((values - lowest) / (level - lowest), 0, 1)


def _without_corners(mask: Mask, difference: Floats) -> Mask:
    """Leave out what touches the border and has full ink nowhere: the rest of a shadow."""
    if not mask.any():
        return mask
    labels, count = label_components(mask)
    darkest = np.zeros(count + 1)
    np.maximum.at(darkest, labels.ravel(), difference.ravel())
    border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    full = float(np.percentile(difference[mask], 75))
    is_corner = (darkest < _FAINT * full) & (np.bincount(border, minlength=count + 1) > 0)
    kept: Mask = mask & ~is_corner[labels]
    return kept


def _full(difference: Floats, noise: float) -> float:
    """Return by how much full ink stands out; 0 if nothing does.

    The edges of strokes stand out, too, but less: three quarters up is full ink.
    """
    outstanding = difference[difference > _least(noise)]
    return float(np.percentile(outstanding, 75)) if len(outstanding) else 0.0


def _unshaded(difference: Floats, towards_ink: Floats, noise: float) -> Floats:
    """Return by how much each pixel stands out where a shadow has an edge that no surface follows.

    That is what rises above the opening of the picture by a square that no stroke fills, its top
    hat: J. Serra, "Image analysis and mathematical morphology", Academic Press 1982. Ink stands out
    more from it than from the surface then; a solid shape does not.
    """
    side = int(_BROADEST * max(difference.shape))
    hat = towards_ink - _highest(-_highest(-towards_ink, side), side)
    hat -= np.median(hat)
    return hat if _full(hat, noise) > _SHADED * _full(difference, noise) else difference


def _highest(values: Floats, side: int) -> Floats:
    """Return the highest value in the square around each pixel, `side` pixels or one more wide."""
    before = side // 2
    for axis in (0, 1):
        values = np.moveaxis(values, axis, 0)
        framed = np.pad(values, ((before, before), (0, 0)), constant_values=-np.inf)
        # Windows of 1, 2, 4, … pixels, and two of the largest that overlap.
        width, whole = 1, 2 * before + 1
        while 2 * width <= whole:
            framed = np.maximum(framed[: len(framed) - width], framed[width:])
            width *= 2
        rest = whole - width
        framed = np.maximum(framed[: len(framed) - rest], framed[rest:])
        values = np.moveaxis(framed, 0, axis)
    return values


def _without_rules(difference: Floats, noise: float) -> Floats:
    """Take out the lines of ruled or squared paper: thin, straight, fainter than ink, several."""
    outstanding = difference > _least(noise)
    if not outstanding.any():
        return difference
    # Where a stroke lies over a line the line is not seen.
    faint = outstanding & (difference < _FAINT * np.percentile(difference[outstanding], 90))
    ruled = [
        _ruled((faint.mean(axis=axis) > _RULED) & (outstanding.mean(axis=axis) > _WHOLE))
        for axis in (1, 0)
    ]
    if sum(count for _, count in ruled) < 2:
        return difference
    for axis, (lines, _) in enumerate(ruled):
        places = np.flatnonzero(~grown(lines[None])[0])
        if not len(places):  # a strip of a few rows
            continue
        across = np.moveaxis(difference, axis, 0)
        filled = [np.interp(np.arange(len(lines)), places, each[places]) for each in across.T]
        difference = np.moveaxis(np.stack(filled, axis=1), 0, axis)
    return difference


def _ruled(lines: Mask) -> tuple[Mask, int]:
    """Tell which of these rows are of a thin line, and how many such lines there are."""
    edges = np.flatnonzero(np.diff(lines.astype(int), prepend=0, append=0))
    thin = max(1.0, _THIN * len(lines))
    for start, stop in edges.reshape(-1, 2):
        lines[start:stop] = stop - start <= thin
    return lines, int(np.diff(lines.astype(int), prepend=0).clip(0).sum())


def _least(noise: float) -> float:
    """Return by how much a pixel must differ from paper so as to be none."""
    return max(_OUTSTANDING * noise, LEAST_CONTRAST / 2)


def _smoothed(picture: Floats) -> Floats:
    """Average each pixel with its neighbours, weights 1, 2, 1: noise falls to a third."""
    for axis in (0, 1):
        width = [(1, 1) if each == axis else (0, 0) for each in (0, 1)]
        framed = np.pad(picture, width, mode="edge")
        length = picture.shape[axis]
        before, middle, after = (
            np.take(framed, range(start, start + length), axis=axis) for start in (0, 1, 2)
        )
        picture = (before + 2 * middle + after) / 4
    return picture


def _from_background(picture: Floats) -> tuple[Floats, float, float]:
    """Return by how much each pixel stands out from its background, the noise, and where ink is.

    The last is 1 where ink is lighter than its background, and -1 where it is darker.

    The border is background. Ink is what lies on the side of it where the picture reaches
    farther. Uneven light makes the background a curved surface: one of second degree is fitted
    to what is not ink, a few times over, as ink becomes known.
    """
    border = np.concatenate([picture[0], picture[-1], picture[1:-1, 0], picture[1:-1, -1]])
    level = float(np.median(border))
    darkest, lightest = np.percentile(picture, [0.05, 99.95])
    towards_ink = -1.0 if level - darkest > lightest - level else 1.0
    surfaces = _surfaces(picture.shape)
    difference = towards_ink * (picture - level)
    halfway = max(level - darkest, lightest - level) / 2
    paper = difference <= halfway
    noise, most_noise = 0.0, _MOST_NOISE * _roughness(picture) + 1.0
    for _ in range(_ROUNDS):
        difference = towards_ink * (picture - _fit(surfaces, picture, paper))
        # Of normally distributed noise, the median deviation in standard deviations; on the side
        # where no ink is, since the edges of strokes are no noise.
        away = -difference[paper & (difference <= 0)]
        noise = min(1.4826 * float(np.median(away)), most_noise) if len(away) else 0.0
        paper = difference <= min(_least(noise), halfway)
    return difference, noise, towards_ink


def _roughness(picture: Floats) -> float:
    """Return the noise of a picture as its near neighbours tell it: strokes have few edges.

    The median difference of pixels a few apart, in standard deviations of normally distributed
    noise. Where ink bends the background's surface, what is left over from it is no noise.
    """
    steps = [
        np.abs(picture[_NEAR:] - picture[:-_NEAR]),
        np.abs(picture[:, _NEAR:] - picture[:, :-_NEAR]),
    ]
    differences = np.concatenate([step.ravel() for step in steps])
    return 1.4826 * float(np.median(differences)) / 2**0.5 if len(differences) else 0.0


def _surfaces(shape: tuple[int, ...]) -> Floats:
    """Return 1, x, y, x², xy, y² over a picture, shape (6, height, width)."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    return np.stack([np.ones(shape), x, y, x * x, x * y, y * y])


def _fit(surfaces: Floats, picture: Floats, where: Mask) -> Floats:
    """Fit the sum of surfaces to a picture where told, least absolute deviations.

    By least squares over and over, each pixel weighing less the farther off it is: the soft
    edges of strokes that `where` leaves in then do not count.
    """
    rows, columns = np.nonzero(where)
    every = max(1, len(rows) // 4000)
    rows, columns = rows[::every], columns[::every]
    known, values = surfaces[:, rows, columns].T, picture[rows, columns]
    weights = np.ones(len(values))
    coefficients: NDArray[Any] = np.zeros(len(surfaces))
    for _ in range(8):
        weighted = known.T * weights
        # In a picture of one row or column x or y is constant: no plain solve has an answer.
        coefficients = np.linalg.lstsq(weighted @ known, weighted @ values, rcond=None)[0]
        weights = 1 / np.maximum(np.abs(values - known @ coefficients), 0.5)
    fitted: Floats = np.tensordot(coefficients, surfaces, axes=1)
    return fitted
