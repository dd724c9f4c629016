"""Matplotlib, for pictures in files: imported here alone, whatever ``MPLBACKEND`` says.

Its import fails where that names a backend that is not installed, as a notebook's
``module://matplotlib_inline.backend_inline`` is not in another environment's Python. Figures here
are drawn by Agg and nothing else.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = [
    "Axes",
    "Figure",
    "FigureCanvasAgg",
    "FontProperties",
    "FuncFormatter",
    "LinearSegmentedColormap",
    "MaxNLocator",
    "PercentFormatter",
    "Rectangle",
    "TextPath",
    "FONT",
    "FONT_FILES",
    "colormaps",
    "get_font",
    "matplotlib",
]


@contextmanager
def _without(variable: str) -> Iterator[str]:
    """Hide a variable of the environment for a while; yields what it says."""
    value = os.environ.pop(variable, None)
    try:
        yield value or ""
    finally:
        if value is not None:
            os.environ[variable] = value


_is_first = "matplotlib" not in sys.modules
with _without("MPLBACKEND") as _wanted:
    import matplotlib
    from matplotlib import colormaps
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontEntry, FontProperties, fontManager, get_font
    from matplotlib.patches import Rectangle
    from matplotlib.textpath import TextPath
    from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

if _is_first and _wanted:
    # A notebook that calls a flow and then draws itself finds the backend that it asked for.
    with suppress(ValueError):
        matplotlib.rcParams["backend"] = _wanted

# The font that Matplotlib brings, under a name of its own: a system may have another DejaVu Sans,
# and pictures would differ from machine to machine.
FONT = "DejaVu Sans of Matplotlib"
FONT_FILES = {
    weight: Path(matplotlib.get_data_path(), "fonts", "ttf", name)
    for weight, name in (("normal", "DejaVuSans.ttf"), ("bold", "DejaVuSans-Bold.ttf"))
}
fontManager.ttflist += [
    FontEntry(
        fname=str(file),
        name=FONT,
        style="normal",
        variant="normal",
        weight=weight,
        stretch="normal",
        size="scalable",
    )
    for weight, file in FONT_FILES.items()
]
