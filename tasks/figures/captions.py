"""Titles and names that fit where they are put and hold no character the font cannot draw."""

from __future__ import annotations

from functools import cache

from digitflow.tasks.agg import FONT_FILES, Figure, get_font
from digitflow.tasks.figures.style import TITLE_SIZE

ELLIPSIS = "…"

_ABOVE_TITLE = 0.06  # inches


def drawable(text: object) -> str:
    """Return `text` with each character the font lacks written as its code point.

    Class names of a character dataset may be in any script. Matplotlib would draw the same empty
    box for each of them; ``U+304A`` is at least a name.
    """
    return "".join(c if _has_glyph(c) else f"U+{ord(c):04X}" for c in str(text))


def shorten(text: object, length: int) -> str:
    """Return `text` in at most `length` characters, with an ellipsis for the middle.

    The middle goes because names often differ in their first or last word alone
    ("sandal, left", "sandal, right").
    """
    shown = drawable(text)
    if len(shown) <= length:
        return shown
    kept = length - len(ELLIPSIS)
    head = (kept + 1) // 2
    return shown[:head].rstrip() + ELLIPSIS + shown[len(shown) - (kept - head) :].lstrip()


def fit(text: object, inches: float, points: float) -> str:
    """Return `text`, shortened as far as it takes to be at most so wide on one line."""
    shown = drawable(text)
    return next(
        (s for n in range(len(shown), 0, -1) if width(s := shorten(shown, n), points) <= inches),
        ELLIPSIS,
    )


def width(text: str, points: float, *, bold: bool = False) -> float:
    """Return how many inches wide one line of text is in our font, on the generous side."""
    font = get_font(_font_file(bold))
    # At 72 dots per inch a pixel is a point; FreeType counts in 64ths of a pixel. Measured large,
    # where rounding to whole pixels does not matter, with 10 % for that rounding when drawn small.
    font.set_size(100, 72)
    font.set_text(text, 0.0)
    return 1.1 * points * float(font.get_width_height()[0]) / 64 / 100 / 72


def set_title(figure: Figure, *parts: str) -> None:
    """Put the parts, dataset first, above the figure at its left edge, wrapped to its width."""
    lines = _title_lines(figure.get_figwidth(), parts)
    # A layout puts the title at its height, and leaves room for it, where it is given none.
    placed = not figure.get_constrained_layout()
    y = 1 - _ABOVE_TITLE / figure.get_figheight() if placed else None
    said = "\n".join(lines)
    figure.suptitle(said, x=0.01, y=y, ha="left", fontsize=TITLE_SIZE, fontweight="bold")


def title_height(inches: float, *parts: str) -> float:
    """Return how high the title of a figure that is so wide comes to be, in inches."""
    return _ABOVE_TITLE + len(_title_lines(inches, parts)) * 1.2 * TITLE_SIZE / 72


def _title_lines(inches: float, parts: tuple[str, ...]) -> list[str]:
    return _wrap(" · ".join(drawable(part) for part in parts), inches - 0.2)


def _wrap(text: str, inches: float) -> list[str]:
    """Break text into lines of at most that width: at spaces, or inside a word too long."""
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if width(longer, TITLE_SIZE, bold=True) <= inches:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        for character in word:
            if width(lines[-1] + character, TITLE_SIZE, bold=True) > inches:
                lines.append("")
            lines[-1] += character
    return lines


@cache
def _has_glyph(character: str) -> bool:
    return bool(get_font(_font_file(bold=False)).get_char_index(ord(character)))


def _font_file(bold: bool) -> str:
    return str(FONT_FILES["bold" if bold else "normal"])
