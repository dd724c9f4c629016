import string

import matplotlib
import numpy as np
import pandas as pd
import pytest

from digitflow.tasks.figures.confusion import confusion_figure
from digitflow.tasks.figures.png import to_png
from digitflow.tasks.nn.metrics import confusion_matrix


def matrix(classes, per_class, names=None, accuracy=0.85):
    """A classifier that errs mostly to the next classes."""
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(classes), per_class)
    off = (labels + rng.geometric(0.3, labels.size)) % classes
    predicted = np.where(rng.random(labels.size) < accuracy, labels, off)
    return confusion_matrix(labels, predicted, names or [f"c{i}" for i in range(classes)])


def share(confusion):
    counts = confusion.to_numpy()
    return np.trace(counts) / counts.sum()


def build(built, confusion, dataset="MNIST"):
    return built(confusion_figure, confusion, dataset=dataset, accuracy=share(confusion))


def cell_texts(figure):
    return {tuple(int(v) for v in t.get_position()[::-1]): t for t in figure.axes[0].texts}


def test_every_count_but_zero_stands_in_its_cell(built, texts, inside):
    names = ["ant", "bee", "cat"]
    counts = [[3000, 1, 0], [0, 2, 0], [10, 0, 20]]
    confusion = pd.DataFrame(counts, index=names, columns=names)
    figure = build(built, confusion)
    written = {place: text.get_text() for place, text in cell_texts(figure).items()}
    assert written == {
        (0, 0): "3,000", (0, 1): "1", (1, 1): "2", (2, 0): "10", (2, 2): "20",
    }  # fmt: skip
    said = texts(figure)
    assert "MNIST · confusion matrix · accuracy 99.64 % of 3,033 test images" in said
    assert {"true class", "predicted class"} <= set(said)
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == names
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == names
    inside(figure)


def test_colour_is_the_share_of_the_row_and_the_diagonal_has_none(built):
    names = ["a", "b"]
    figure = build(built, pd.DataFrame([[90, 10], [1, 3]], index=names, columns=names))
    rates = figure.axes[0].images[0]
    assert rates.get_array().mask.tolist() == [[True, False], [False, True]]
    assert rates.get_array()[0, 1] == pytest.approx(0.1)
    assert rates.get_array()[1, 0] == pytest.approx(0.25)
    assert rates.get_clim() == (0.0, 0.25)


def luminance(colour):
    rgb = np.array(matplotlib.colors.to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_counts_contrast_with_their_cells(built):
    # Rates of every size: the text must be readable on each colour of the scale.
    confusion = pd.DataFrame(np.diag(np.full(12, 800)) + np.arange(144).reshape(12, 12))
    figure = build(built, confusion)
    rates = figure.axes[0].images[0]
    for (row, column), text in cell_texts(figure).items():
        fill = "#DFECF5" if row == column else rates.to_rgba(rates.get_array()[row, column])
        light, dark = sorted((luminance(fill), luminance(text.get_color())), reverse=True)
        # The least that WCAG 2.1 asks of text.
        assert (light + 0.05) / (dark + 0.05) > 4.5, (row, column)


def test_error_colours_darken_steadily(built):
    figure = build(built, matrix(3, 20))
    shades = [luminance(figure.axes[0].images[0].get_cmap()(i / 31)) for i in range(32)]
    assert all(a > b for a, b in zip(shades, shades[1:], strict=False))


LONG = "a class with quite a long name, number"


@pytest.mark.parametrize(("classes", "per_class", "names"), [
    (1, 5, None),
    (2, 50_000, [f"{LONG} 1", f"{LONG} 2"]),
    (3, 7, None),
    (10, 1000, None),
    (10, 1000, [f"{LONG} {i}" for i in range(10)]),
    (26, 800, list(string.ascii_lowercase)),
    (47, 400, None),
    (62, 400, list(string.digits + string.ascii_letters)),
    (62, 1800, [f"{LONG} {i}" for i in range(62)]),
    (100, 50, None),
])  # fmt: skip
def test_legible_from_few_classes_to_many(classes, per_class, names, built, inside):
    figure = build(built, matrix(classes, per_class, names))
    inside(figure)
    axes = figure.axes[0]
    box = axes.get_window_extent()
    assert box.width == pytest.approx(box.height)
    assert figure.bbox.width <= 990
    for text in [*axes.texts, *figure.texts, *axes.get_xticklabels(), *axes.get_yticklabels()]:
        assert text.get_fontsize() >= 6.5
    cell = box.width / classes
    for (row, column), text in cell_texts(figure).items():
        extent = text.get_window_extent()
        assert extent.width < cell, (row, column)


def test_cells_too_small_for_numbers_give_way_to_a_list(built, texts):
    confusion = matrix(62, 400, list(string.digits + string.ascii_letters))
    confusion.loc["O", "0"] = 1500
    confusion.loc["0", "O"] = 1499
    figure = build(built, confusion)
    assert not figure.axes[0].texts
    said = texts(figure)
    listed = [text for text in said if "→" in text and "%" in text]
    of_row = 100 * 1500 / confusion.loc["O"].sum()
    assert listed[0] == f"O → 0: 1,500 ({of_row:.1f} %)"
    assert listed[1].startswith("0 → O: 1,499 (")
    assert len(listed) == 12


@pytest.mark.parametrize("errors", [0, 1])
def test_hardly_an_error_or_none(errors, built, inside):
    confusion = matrix(10, 100, accuracy=1.1)
    confusion.iloc[3, 5] = errors
    figure = build(built, confusion)
    inside(figure)
    assert len(cell_texts(figure)) == 10 + errors


def test_a_class_without_test_images(built, inside):
    confusion = matrix(5, 20)
    confusion.iloc[2] = 0
    inside(build(built, confusion))


@pytest.mark.parametrize(("classes", "per_class"), [(10, 1000), (62, 1800)])
def test_a_compact_png(classes, per_class, png_size):
    confusion = matrix(classes, per_class)
    png = to_png(confusion_figure(confusion, dataset="MNIST", accuracy=share(confusion)), dpi=110)
    assert png_size(png)[0] <= 990
    assert len(png) < 80_000


def test_same_counts_same_bytes():
    confusion = matrix(3, 50)
    arguments = {"dataset": "MNIST", "accuracy": share(confusion)}
    png = to_png(confusion_figure(confusion, **arguments))
    assert png == to_png(confusion_figure(confusion.copy(), **arguments))
    assert png != to_png(confusion_figure(confusion.T, **arguments))


@pytest.mark.parametrize(("confusion", "accuracy", "message"), [
    (pd.DataFrame([[1, 2]]), 0.5, r"square confusion matrix.*found \(1, 2\)"),
    (pd.DataFrame(), 0.5, "square confusion matrix"),
    (matrix(2, 5), 98.2, "accuracy must be a share, 0 to 1: found 98.2"),
])  # fmt: skip
def test_refuses_what_does_not_fit(confusion, accuracy, message):
    with pytest.raises(ValueError, match=message):
        to_png(confusion_figure(confusion, dataset="MNIST", accuracy=accuracy), dpi=110)
