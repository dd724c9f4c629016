"""From a figure to a PNG file with a palette, a third of what Matplotlib writes, or less."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from digitflow.tasks.agg import Figure, FigureCanvasAgg
from digitflow.tasks.figures.style import DOTS, look

# A report holds half a dozen figures, and Prefect stores and sends it whole.
COMPACT = 80_000  # bytes

# A PNG palette holds 256 colours at most. Fewer are tried where noisy images make a large file.
_PALETTE_SIZES = (256, 64, 32)


def to_png(figure: Figure, *, dpi: int = DOTS) -> bytes:
    """Draw a figure as a PNG file.

    The same figure gives the same bytes: no date, no software version, one look, bundled fonts.

    Parameters
    ----------
    figure : Figure
        A figure that was built inside `look`.
    dpi : int
        Dots per inch, at least 1. Figures are at most 9 inches wide: 990 pixels at 110 dpi.

    Raises
    ------
    ValueError
        If `dpi` is not positive.
    """
    if dpi < 1:
        message = f"dpi must be at least 1 dot per inch: found {dpi}. A good value is {DOTS}."
        raise ValueError(message)
    with look():
        figure.set_dpi(dpi)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()  # type: ignore[no-untyped-call]
        pixels = np.asarray(canvas.buffer_rgba())[..., :3]  # type: ignore[no-untyped-call]
    return encode_png(pixels, dpi)


def encode_png(pixels: NDArray[np.uint8], dpi: int) -> bytes:
    """Encode RGB pixels as a PNG file with a palette and no metadata but the resolution.

    A picture of up to 256 colours is kept exactly. Of one with more (antialiased text in several
    colours), the most frequent colours, those of areas, are kept exactly and the others move to
    the nearest in the palette. Where the file is larger than `COMPACT`, palettes of 64 and then 32
    colours are tried; the last one stands.

    Parameters
    ----------
    pixels : uint8 array, shape (height, width, 3)
    dpi : int
        Dots per inch to note in the file.
    """
    red, green, blue = (pixels[..., channel].ravel().astype(np.uint32) for channel in range(3))
    packed = red << 16 | green << 8 | blue
    # Most of a figure is paper: runs of one colour are few, and sorted in no time.
    starts = np.flatnonzero(np.concatenate([[True], packed[1:] != packed[:-1]]))
    lengths = np.diff(starts, append=packed.size)
    keys, places = np.unique(packed[starts], return_inverse=True)
    frequency = np.bincount(places, weights=lengths)
    colours = np.stack([keys >> 16, keys >> 8 & 255, keys & 255], axis=1).astype(np.uint8)
    by_frequency = np.argsort(-frequency, kind="stable")

    png = b""
    for size in _PALETTE_SIZES:
        palette = _choose_palette(colours[by_frequency], size)
        indices = np.repeat(_nearest(colours, palette)[places], lengths)
        image = Image.fromarray(indices.reshape(pixels.shape[:2]))
        image.putpalette(palette.tobytes())
        stream = BytesIO()
        image.save(stream, format="PNG", compress_level=6, dpi=(dpi, dpi))
        png = stream.getvalue()
        if len(png) <= COMPACT:
            break
    return png


def _choose_palette(colours: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Choose `size` colours for those given, most frequent first, shape (n, 3)."""
    if len(colours) <= size:
        return colours
    # Areas are few and large: a quarter of the palette takes them exactly. The rest is spread
    # over what remains so that no shade is far from it.
    exact = size // 4
    remaining = Image.fromarray(colours[None, exact:])
    spread = remaining.quantize(size - exact, method=Image.Quantize.MAXCOVERAGE).getpalette()
    chosen = np.array(spread, dtype=np.uint8).reshape(-1, 3)[: size - exact]
    return np.concatenate([colours[:exact], chosen])


def _nearest(colours: NDArray[np.uint8], palette: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return for each colour the index of the nearest one in the palette."""
    distance = np.zeros((len(colours), len(palette)), dtype=np.int32)
    for channel in range(3):
        difference = colours[:, None, channel].astype(np.int32) - palette[None, :, channel]
        distance += difference * difference
    indices: NDArray[np.intp] = distance.argmin(axis=1)
    return indices.astype(np.uint8)
