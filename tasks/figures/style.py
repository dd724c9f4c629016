"""The look that all figures share."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from digitflow.tasks.agg import FONT, matplotlib

# Okabe & Ito, "Color Universal Design" (2008): told apart with any common colour vision.
# One meaning each throughout: blue is right, vermillion is wrong.
RIGHT = "#0072B2"
WRONG = "#D55E00"
HIGHLIGHT = "#E69F00"
INK = "#222222"
MUTED = "#595959"
GRID = "#D9D9D9"

# Inches, and dots in each unless a run asks for others: 990 pixels are what a report in the
# Prefect UI shows without scaling it down.
FULL_WIDTH = 9.0
DOTS = 110

# Points. At 110 dpi, 6.5 points are 10 pixels: smaller digits cannot be read at 100 %.
TITLE_SIZE = 12.0
SMALLEST_SIZE = 6.5

LOOK: dict[str, Any] = {
    # Only the font that Matplotlib brings: any other differs from machine to machine.
    "font.family": [FONT],
    "font.size": 9.5,
    # A class may be called "$" or "a_b"; names are text, not formulas.
    "text.parse_math": False,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.labelsize": 9.5,
    "axes.titlesize": 10.0,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": False,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "xtick.labelsize": 9.0,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
    "ytick.labelsize": 9.0,
    "figure.constrained_layout.use": True,
    "figure.facecolor": "white",
}

# Matplotlib's settings are global to the process, and Prefect runs tasks in threads: two that
# entered and left `look` interleaved would each restore the other's settings.
_settings_lock = threading.RLock()


@contextmanager
def look() -> Iterator[None]:
    """Apply the shared look to what is built or drawn inside, and not the user's own settings.

    A figure reads some settings when it is built and others when it is drawn, so both happen
    inside: ``@look()`` stands above every function that builds a figure, and `to_png` draws in it.
    One thread at a time; the settings found are put back.
    """
    # Starting from Matplotlib's defaults keeps a matplotlibrc file from changing our bytes.
    settings: dict[Any, Any] = {
        key: value
        for key, value in matplotlib.rcParamsDefault.items()
        if not key.startswith("backend")
    }
    settings.update(LOOK)
    with _settings_lock, matplotlib.rc_context(rc=settings):
        yield
