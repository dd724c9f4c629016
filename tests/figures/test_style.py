import subprocess
import sys
import threading
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont

from tasks.figures.image import draw_image
from tasks.figures.style import HIGHLIGHT, RIGHT, WRONG, look, render

IMAGE = np.arange(100, dtype=np.uint8).reshape(10, 10)


def draw():
    return draw_image(IMAGE, 3, number=1, dataset="sample", dpi=60)


def test_only_the_font_that_matplotlib_brings():
    bundled = Path(matplotlib.get_data_path())
    for weight in ("normal", "bold"):
        font = Path(findfont(FontProperties(family=["DejaVu Sans"], weight=weight)))
        assert font.is_relative_to(bundled)
    with look():
        assert matplotlib.rcParams["font.family"] == ["DejaVu Sans"]


def test_the_settings_found_are_put_back():
    before = dict(matplotlib.rcParams)
    draw()
    assert dict(matplotlib.rcParams) == before
    with pytest.raises(ValueError, match="two"), look():
        raise ValueError("two")
    assert dict(matplotlib.rcParams) == before


def test_the_users_settings_do_not_change_the_bytes():
    expected = draw()
    with matplotlib.rc_context(
        {"font.size": 30, "image.cmap": "jet", "savefig.facecolor": "red", "savefig.dpi": 40}
    ):
        assert draw() == expected


def test_threads_do_not_leave_their_settings_behind():
    before = dict(matplotlib.rcParams)
    expected = draw()
    results = []
    threads = [threading.Thread(target=lambda: results.append(draw())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 8
    assert dict(matplotlib.rcParams) == before


def test_same_bytes_in_another_process():
    code = (
        "import sys, numpy as np\n"
        "from tasks.figures.image import draw_image\n"
        "image = np.arange(100, dtype=np.uint8).reshape(10, 10)\n"
        "png = draw_image(image, 3, number=1, dataset='sample', dpi=60)\n"
        "sys.stdout.buffer.write(png)\n"
        "sys.exit('matplotlib.pyplot' in sys.modules or 'prefect' in sys.modules)\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, check=True)
    assert done.stdout == draw()


@pytest.mark.parametrize("module", [
    "captions", "confusion", "gallery", "image", "learning_curves", "mistakes", "palette", "style",
    "tiles",
])  # fmt: skip
def test_sources_draw_without_pyplot_or_orchestration(module):
    source = (Path(__file__).parents[2] / "tasks" / "figures" / f"{module}.py").read_text()
    for forbidden in ("pyplot", "prefect", "storage", "rcParams["):
        assert forbidden not in source


@pytest.mark.parametrize("dpi", [0, -110])
def test_dpi_must_be_positive(dpi):
    with pytest.raises(ValueError, match=f"dpi must be at least 1.*found {dpi}"):
        render(Figure, dpi=dpi)


def test_dpi_sets_the_size(png_size):
    assert png_size(render(lambda: Figure(figsize=(9, 2)), dpi=110)) == (990, 220)
    assert png_size(render(lambda: Figure(figsize=(9, 2)), dpi=50)) == (450, 100)


# Viénot, Brettel & Mollon (1999): linear RGB as seen without the long- or the medium-wave cones.
PROTANOPIA = [[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]]
DEUTERANOPIA = [[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]]


@pytest.mark.parametrize("seen", [np.eye(3), PROTANOPIA, DEUTERANOPIA])
def test_colours_are_told_apart_with_and_without_red_green_vision(seen):
    rgb = np.array([matplotlib.colors.to_rgb(c) for c in (RIGHT, WRONG, HIGHLIGHT)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    perceived = linear @ np.asarray(seen).T
    for i in range(3):
        for j in range(i):
            assert np.abs(perceived[i] - perceived[j]).max() > 0.1
