"""The form of a dataset's images: fitted on them, and what a picture is brought to for a network.

MNIST's, as its authors describe it: "The original black and white (bilevel) images from NIST were
size normalized to fit in a 20×20 pixel box while preserving their aspect ratio. […] the images were
centered in a 28×28 image by computing the center of mass of the pixels, and translating the image
so as to position this point at the center of the 28×28 field." Source:
http://yann.lecun.com/exdb/mnist/. Other datasets are dark on light, fill their images, or show no
ink at all; a network knows the form that it was trained on and no other.

A photograph is not bilevel; `tasks.data.pictures.ink` finds what is ink on it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from digitflow.tasks.data.pictures.ink import LEAST_CONTRAST, extent, find_ink, grown

Floats = NDArray[np.float64]

# Of the longer side of a digit. By the measure below 9 in 10 of MNIST's test images lie between
# 0.06 and 0.15; a ballpoint's stroke on a digit of some centimetres is 0.02.
LEAST_BREADTH = 0.08
BOX_SHARE = 20 / 28

# Pixels of the shorter side that a picture is enlarged to: a pen of one pixel has no breadth that
# could be measured, and no middle that is full ink.
_ENLARGED_TO = 112

# Pixels that a form is fitted on, of groups of images evenly taken: quantiles of more are the same.
# The images may be more than fit into memory, and each place that is read of a memory map counts as
# several pages of it. Of large images there are some all the same.
_FITTED_PIXELS, _FITTED_AT_LEAST, _GROUPS = 400_000, 16, 32
# Of full ink. What is less is the edge of a stroke, or what JPEG makes of the background.
_INKED = 0.2
# Grey values by which a border may differ from the background and still be it.
_SAME_GREY = 24.0
# Shares of images whose border is the background, and of its pixels; and of what stands out from
# it, how much may do so to the other side.
_PLAIN_IMAGES, _PLAIN_BORDER, _OTHER_SIDE = 0.8, 0.6, 0.25
# Of the images that a form is fitted on, this share lies outside of each of its bounds; what JPEG,
# rounding and images that it was not fitted on may add, in shares of a side and in pixels.
_OUTSIDE, _SLACK, _SLACK_PIXELS = 0.005, 0.04, 1.0
# Where the centre of mass strays as far as this, in shares of a side, images are not centred by it.
_CENTRED = 0.1


@dataclass(frozen=True)
class Form:
    """How a dataset's images show what is on them.

    Attributes
    ----------
    size
        Height and width, in pixels.
    plain
        Whether they show ink on a background of one grey. If not, as in photographs, nothing else
        is known, and pictures are taken whole.
    background, ink
        Grey values, 0 to 255, of the background and of full ink.
    box
        Of what is inked, the longer side in shares of the image's: least, usual, most.
    centring
        What lies in the middle of an image: the centre of mass, or that of the box.
    offset
        How far that is from the middle at most, in shares of the image's sides.
    breadth
        Of strokes that are thin for the dataset, in shares of the longer side of what is inked.
    """

    size: tuple[int, int]
    plain: bool = True
    background: float = 0.0
    ink: float = 255.0
    box: tuple[float, float, float] = (0.0, BOX_SHARE, BOX_SHARE)
    centring: Literal["mass", "box"] = "mass"
    offset: float = 0.5 / 28
    breadth: float = LEAST_BREADTH

    @property
    def is_dark_on_light(self) -> bool:
        """Whether ink is darker than its background."""
        return self.plain and self.ink < self.background

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values, for `from_json`."""
        fields = asdict(self)
        return {name: list(v) if isinstance(v, tuple) else v for name, v in fields.items()}

    @staticmethod
    def from_json(document: Any) -> Form:
        """Return the form that `to_json` described.

        Raises
        ------
        ValueError
            If it is none.
        """
        try:
            return _forms().validate_python(document)
        except ValidationError as error:
            message = f"expected the form of a dataset's images, found {document!r}: {error}"
            raise ValueError(message) from None

    def has(self, image: NDArray[Any]) -> bool:
        """Tell whether an image, of this size, is in this form already: or blank.

        Parameters
        ----------
        image : NDArray, shape `size`
            Grey values from 0 to 255.
        """
        if not self.plain:
            return True
        borders = _borders(image[None])
        if abs(float(np.median(borders)) - self.background) > _SAME_GREY:
            return False
        amount = self._amount(np.asarray(image, np.float64)[None])
        if float(amount.min()) < -0.5:
            return False
        if float(amount.max()) < _INKED:
            return True
        shares, mass, middle = _places(amount.clip(0, 1))
        slack = max(_SLACK, _SLACK_PIXELS / min(self.size))
        least, _, most = self.box
        offset = mass if self.centring == "mass" else middle
        return bool(least - slack <= shares[0] <= most + slack and offset[0] <= self.offset + slack)

    def bring(self, picture: NDArray[Any]) -> NDArray[np.uint8]:
        """Bring a picture of one digit, letter or thing to this form.

        Parameters
        ----------
        picture : NDArray, shape (height, width)
            Grey values from 0 to 255, dark on light or light on dark.

        Returns
        -------
        NDArray[uint8], shape `size`
            All background where nothing stands out from the picture's own.
        """
        if not self.plain:
            return _whole(picture, self.size)
        image = np.zeros(self.size)
        ink = find_ink(_enlarged(np.asarray(picture, np.float64)))
        if ink is not None:
            height, width = self.size
            box = (max(1, round(height * self.box[1])), max(1, round(width * self.box[1])))
            image = centre(fit_box(broaden(ink, self.breadth), box), self.size, self.centring)
        grey = self.background + image * (self.ink - self.background)
        levels: NDArray[np.uint8] = np.rint(grey.clip(0, 255)).astype(np.uint8)
        return levels

    def _amount(self, images: NDArray[np.floating[Any]]) -> NDArray[Any]:
        """Return how much ink there is at each pixel, 0 to 1; less than 0 on the other side."""
        amount: NDArray[Any] = (images - self.background) / (self.ink - self.background)
        return amount


@cache
def _forms() -> TypeAdapter[Form]:
    return TypeAdapter(Form)


def fit_form(images: NDArray[np.uint8]) -> Form:
    """Return the form of a dataset's images.

    Parameters
    ----------
    images : NDArray[uint8], shape (n, height, width)
        Its training images, at least one; may be a memory map.
    """
    count, height, width = images.shape
    fitted_on = min(count, max(_FITTED_AT_LEAST, _FITTED_PIXELS // (height * width)))
    group = -(-fitted_on // _GROUPS)
    starts = np.linspace(0, count - group, min(_GROUPS, fitted_on)).astype(int)
    greys = np.concatenate([images[start : start + group] for start in starts]).astype(np.float32)
    borders = _borders(greys)
    levels = np.median(borders, axis=1)
    background = float(np.median(levels))
    same_grey = (np.abs(borders - background) <= _SAME_GREY).mean(axis=1)
    plain_images = float((same_grey >= _PLAIN_BORDER).mean())
    light = (greys - background).clip(0, None)
    dark = (background - greys).clip(0, None)
    towards_light = float(light.sum()) >= float(dark.sum())
    standing_out, other = (light, dark) if towards_light else (dark, light)
    full = float(np.median(standing_out.max(axis=(1, 2))))
    is_plain = (
        plain_images >= _PLAIN_IMAGES
        and full >= LEAST_CONTRAST
        and float(other.sum()) <= _OTHER_SIDE * float(standing_out.sum())
    )
    form = Form((height, width), is_plain)
    if not is_plain:
        return form
    ink = background + full if towards_light else background - full
    form = replace(form, background=background, ink=ink)
    amount = form._amount(greys).clip(0, 1)
    amount = amount[amount.max(axis=(1, 2)) >= _INKED]
    shares, mass, middle = _places(amount)
    bounds = (_OUTSIDE, 0.5, 1 - _OUTSIDE)
    least, usual, most = (float(each) for each in np.quantile(shares, bounds))
    by_mass, by_box = (float(np.quantile(each, 1 - _OUTSIDE)) for each in (mass, middle))
    by = by_mass <= by_box or by_mass <= _CENTRED
    breadths = [stroke_breadth(each) / _longer_side(each) for each in amount[::4]]
    return replace(
        form,
        box=(least, usual, most),
        centring="mass" if by else "box",
        offset=by_mass if by else by_box,
        breadth=float(np.quantile(breadths, 0.1)),
    )


def _borders(images: NDArray[Any]) -> NDArray[Any]:
    """Return the pixels along the border of each image, shape (n, pixels)."""
    sides = (images[:, 0], images[:, -1], images[:, 1:-1, 0], images[:, 1:-1, -1])
    return np.concatenate(sides, axis=1)


def _places(amount: Floats) -> tuple[Floats, Floats, Floats]:
    """Return of each image the share of its box, and how far mass and box are from the middle."""
    count, height, width = amount.shape
    shares, mass, middle = np.zeros(count), np.zeros(count), np.zeros(count)
    inked = amount > _INKED
    for side, length in ((1, height), (2, width)):
        along: NDArray[np.bool_] = np.any(inked, axis=3 - side)
        first, last = along.argmax(axis=1), length - 1 - along[:, ::-1].argmax(axis=1)
        shares = np.maximum(shares, (last - first + 1) / length)
        weights = amount.sum(axis=3 - side)
        centres = weights @ np.arange(length) / weights.sum(axis=1)
        # Counted in pixels from 0, MNIST's middle is half its side.
        mass = np.maximum(mass, np.abs(centres - length / 2) / length)
        middle = np.maximum(middle, np.abs((first + last + 1) / 2 - length / 2) / length)
    return shares, mass, middle


def _longer_side(amount: Floats) -> int:
    """Return the longer side of what is inked, in pixels."""
    return max(int(side.stop - side.start) for side in extent(amount > _INKED))


def _whole(picture: NDArray[Any], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the middle of a picture that has the proportions of `size`, scaled to it."""
    height, width = picture.shape
    scale = min(height / size[0], width / size[1])
    rows, columns = (max(1, round(side * scale)) for side in size)
    top, left = (height - rows) // 2, (width - columns) // 2
    image = Image.fromarray(picture[top : top + rows, left : left + columns].astype(np.float32))
    scaled = np.asarray(image.resize((size[1], size[0]), Image.Resampling.BILINEAR))
    levels: NDArray[np.uint8] = np.rint(scaled.clip(0, 255)).astype(np.uint8)
    return levels


def _enlarged(picture: Floats) -> Floats:
    """Enlarge a small picture, so that a pen of one pixel has a breadth."""
    factor = -(-_ENLARGED_TO // min(picture.shape))
    if factor <= 1:
        return picture
    height, width = picture.shape
    image = Image.fromarray(picture.astype(np.float32))
    larger = image.resize((width * factor, height * factor), Image.Resampling.BICUBIC)
    return np.asarray(larger, np.float64).clip(0, 255)


def broaden(ink: Floats, least: float = LEAST_BREADTH) -> Floats:
    """Make thin strokes broader, and leave others as they are.

    Scaled to 20 pixels, a ballpoint's stroke would be half a pixel of grey.

    Parameters
    ----------
    ink : NDArray[float64], shape (height, width)
        How much ink there is at each pixel, 0 to 1.
    least : float
        Breadth that strokes are to have, in shares of the longer side.
    """
    side = max(ink.shape)
    missing = round((least * side - stroke_breadth(ink)) / 2)
    if missing < 1:
        return ink
    broader = np.pad(ink, missing)
    for step in range(missing):
        framed = np.pad(broader, 1)
        neighbours = [framed[1:-1, :-2], framed[1:-1, 2:], framed[:-2, 1:-1], framed[2:, 1:-1]]
        if step % 2:  # by turns a cross and a square: nearly a disc
            neighbours += [framed[:-2, :-2], framed[:-2, 2:], framed[2:, :-2], framed[2:, 2:]]
        broader = np.maximum.reduce([broader, *neighbours])
    return broader


def stroke_breadth(ink: Floats) -> float:
    """Return how broad strokes are on average, in pixels: their area over half their outline."""
    mask = np.pad(ink > 0.5, 1)
    outline = mask & grown(~mask)
    return 2 * float(mask.sum()) / max(1.0, float(outline.sum()))


def fit_box(ink: Floats, box: tuple[int, int]) -> Floats:
    """Scale ink, 0 to 1, to just fit a box (rows, columns); its aspect ratio stays."""
    height, width = ink.shape
    scale = min(box[0] / height, box[1] / width)
    new = (max(1, round(width * scale)), max(1, round(height * scale)))
    if new != (width, height):
        # Pillow widens the filter as it scales down, so that every pixel counts.
        image = Image.fromarray(ink.astype(np.float32))
        ink = np.asarray(image.resize(new, Image.Resampling.BILINEAR), np.float64)
    # Thin strokes come out grey; in MNIST the middle of a stroke is white.
    scaled: Floats = ink / ink.max()
    return scaled


def centre(ink: Floats, size: tuple[int, int], by: Literal["mass", "box"] = "mass") -> Floats:
    """Put ink, 0 to 1, on an empty image of `size` so that its centre is in the middle.

    The middle is the point `size` / 2 counting pixels from 0, and the move is by whole pixels: so
    it is in MNIST itself, where every centre of mass is within half a pixel of (14, 14).
    """
    image = np.zeros(size)
    height, width = ink.shape
    row, column = height / 2, width / 2
    if by == "mass":
        mass = ink.sum()
        row = float(ink.sum(axis=1) @ np.arange(height)) / mass
        column = float(ink.sum(axis=0) @ np.arange(width)) / mass
    # Nothing may be cut off, however uneven the ink.
    top = int(np.clip(round(size[0] / 2 - row), 0, size[0] - height))
    left = int(np.clip(round(size[1] / 2 - column), 0, size[1] - width))
    image[top : top + height, left : left + width] = ink
    return image
