import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont

from digitflow.tasks.agg import FONT, FONT_FILES
from digitflow.tasks.figures.gallery import image_figure
from digitflow.tasks.figures.png import to_png
from digitflow.tasks.figures.style import HIGHLIGHT, RIGHT, WRONG, look
from tests.walk import write_dataset

ROOT = Path(__file__).parents[2]
IMAGE = np.arange(100, dtype=np.uint8).reshape(10, 10)


def draw():
    return to_png(image_figure(IMAGE, 3, number=1, dataset="sample"), dpi=60)


def test_only_the_font_that_matplotlib_brings():
    bundled = Path(matplotlib.get_data_path())
    for weight in ("normal", "bold"):
        # Whatever the system has: another DejaVu Sans, often.
        font = Path(findfont(FontProperties(family=[FONT], weight=weight)))
        assert font.is_relative_to(bundled)
        assert font == FONT_FILES[weight]
    with look():
        assert matplotlib.rcParams["font.family"] == [FONT]


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


DRAW = """
import sys, numpy as np
from digitflow.tasks.figures.gallery import image_figure
from digitflow.tasks.figures.png import to_png
image = np.arange(100, dtype=np.uint8).reshape(10, 10)
sys.stdout.buffer.write(to_png(image_figure(image, 3, number=1, dataset='sample'), dpi=60))
sys.exit('matplotlib.pyplot' in sys.modules or 'prefect' in sys.modules)
"""


def python(code: str, **variables: str) -> bytes:
    """Run Python with these variables in its environment, and return what it writes."""
    environment = {**os.environ, **variables}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, check=True
    )
    return done.stdout


def test_same_bytes_in_another_process():
    assert python(DRAW) == draw()


@pytest.mark.parametrize(
    "backend", ["module://matplotlib_inline.backend_inline", "no-such-backend", "TkAgg", "pdf"]
)
def test_no_backend_in_the_environment_is_in_the_way(backend):
    assert python(DRAW, MPLBACKEND=backend) == draw()


@pytest.mark.parametrize("settings", ["backend: no-such-backend", "font.size: 30\nfigure.dpi: 7"])
def test_no_matplotlibrc_is_in_the_way(tmp_path, settings):
    (tmp_path / "matplotlibrc").write_text(settings)
    assert python(DRAW, MATPLOTLIBRC=str(tmp_path / "matplotlibrc")) == draw()


def test_a_notebook_that_draws_itself_finds_its_own_backend():
    code = (
        "import os, digitflow.tasks.figures.gallery, matplotlib.pyplot as plt\n"
        "print(plt.get_backend(), os.environ['MPLBACKEND'])"
    )
    assert python(code, MPLBACKEND="svg").split() == [b"svg", b"svg"]


def test_a_run_from_a_notebook_draws_its_figures(tmp_path):
    dataset = write_dataset(tmp_path / "tiny")
    arguments = ["-m", "tests.walk", str(tmp_path / "store"), str(dataset)]
    environment = {**os.environ, "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "plot.learning_curves" in json.loads(done.stdout)["digests"]


@pytest.mark.parametrize(
    "source", sorted((ROOT / "tasks" / "figures").glob("[!_]*.py")), ids=lambda path: path.stem
)
def test_sources_draw_without_pyplot_or_orchestration(source):
    source = source.read_text()
    for forbidden in ("pyplot", "prefect", "storage", "rcParams["):
        assert forbidden not in source


@pytest.mark.parametrize("dpi", [0, -110])
def test_dpi_must_be_positive(dpi):
    with pytest.raises(ValueError, match=f"dpi must be at least 1.*found {dpi}"):
        to_png(Figure(), dpi=dpi)


def test_dpi_sets_the_size(png_size):
    assert png_size(to_png(look()(Figure)(figsize=(9, 2)), dpi=110)) == (990, 220)
    assert png_size(to_png(look()(Figure)(figsize=(9, 2)), dpi=50)) == (450, 100)


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
