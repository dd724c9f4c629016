import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from digitflow.tasks.figures.mistakes import mistakes_figure, worst_mistakes
from digitflow.tasks.figures.png import to_png

DIGITS = [str(i) for i in range(10)]
LABELS = np.array([4, 1, 7, 2, 0, 9], dtype=np.uint8)
PREDICTED = np.array([9, 1, 1, 3, 0, 4])
LOSSES = np.array([0.5, 9.0, 2.25, 0.5, 0.0, 1.0], dtype=np.float32)


def test_the_largest_loss_first_and_right_predictions_left_out():
    # 1 has the largest loss of all but is right; 0 and 3 are equally wrong.
    assert worst_mistakes(LABELS, PREDICTED, LOSSES).tolist() == [2, 5, 0, 3]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 5)), max_size=30))
def test_the_order_agrees_with_a_plain_sort(samples):
    labels, predicted, losses = np.array(samples, dtype=np.int64).reshape(-1, 3).T
    expected = sorted(
        (i for i, (t, p, _) in enumerate(samples) if t != p), key=lambda i: (-samples[i][2], i)
    )
    assert worst_mistakes(labels, predicted, losses.astype(float)).tolist() == expected


def build(built, images, *, count=15, names=DIGITS, n=6, shape=(28, 28)):
    return built(
        mistakes_figure, images(n, *shape), LABELS[:n], PREDICTED[:n], LOSSES[:n], names,
        count=count, dataset="MNIST",
    )  # fmt: skip


def test_each_says_true_predicted_index_and_loss(built, texts, tiles, inside, images):
    figure = build(built, images)
    assert [tile.above for tile in tiles(figure)] == [
        "true 7 → predicted 1",
        "true 9 → predicted 4",
        "true 4 → predicted 9",
        "true 2 → predicted 3",
    ]
    assert tiles(figure)[0].below == "index 2 · loss 2.25"
    shown = [tile.image.get_array() for tile in tiles(figure)]
    for image, index in zip(shown, [2, 5, 0, 3], strict=True):
        assert (np.asarray(image) == images(6)[index]).all()
    assert "MNIST · 4 mistakes among 6 test images, worst first" in texts(figure)
    inside(figure)


@pytest.mark.parametrize(("count", "title"), [
    (2, "MNIST · the 2 worst of 4 mistakes among 6 test images"),
    (1, "MNIST · the worst of 4 mistakes among 6 test images"),
    (4, "MNIST · 4 mistakes among 6 test images, worst first"),
])  # fmt: skip
def test_the_title_tells_how_many_are_shown(count, title, built, texts, tiles, inside, images):
    figure = build(built, images, count=count)
    assert title in texts(figure)
    assert len(tiles(figure)) == count
    inside(figure)


def test_one_mistake(built, texts, inside, images):
    figure = build(built, images, n=2)
    assert "MNIST · 1 mistake among 2 test images" in texts(figure)
    inside(figure)


def test_no_mistake(built, texts, inside, images, png_size):
    right = np.zeros(1234, dtype=np.uint8)
    arguments = (images(1234), right, right, np.zeros(1234), DIGITS)
    figure = built(mistakes_figure, *arguments, count=15, dataset="MNIST")
    said = texts(figure)
    assert "no mistakes among 1,234 images" in said
    assert any("MNIST" in text for text in said)
    inside(figure)
    assert png_size(to_png(figure, dpi=110))[0] == 990


@pytest.mark.parametrize("shape", [(12, 60), (60, 12), (28, 28)])
@pytest.mark.parametrize("name", ["boot", "Ankle boot", "a dollar$ name_ much longer than a tile"])
def test_long_names_and_other_shapes_stay_legible(shape, name, built, tiles, inside, images):
    figure = build(built, images, names=[f"{name} {i}" for i in range(10)], shape=shape)
    inside(figure)
    assert len(tiles(figure)) == 4
    for tile in tiles(figure):
        assert "true" in tile.above
        assert "→" in tile.above


def test_a_compact_png_of_the_same_bytes(png_size, images):
    rng = np.random.default_rng(5)
    labels, predicted = rng.integers(0, 10, (2, 300))
    arguments = (images(300), labels, predicted, rng.random(300), DIGITS)
    png = to_png(mistakes_figure(*arguments, count=15, dataset="MNIST"), dpi=110)
    assert png_size(png)[0] == 990
    assert len(png) < 80_000
    assert png == to_png(mistakes_figure(*arguments, count=15, dataset="MNIST"), dpi=110)


@pytest.mark.parametrize(("change", "message"), [
    ({"count": 0}, "count must be at least 1"),
    ({"labels": LABELS[:5]}, r"labels must have shape \(6,\).*found \(5,\)"),
    ({"predicted": PREDICTED[:5]}, r"predicted must have shape \(6,\)"),
    ({"losses": LOSSES[:, None]}, r"losses must have shape \(6,\).*found \(6, 1\)"),
    ({"losses": np.array([0, 0, np.nan, 0, 0, 0])}, "losses must be finite"),
])  # fmt: skip
def test_refuses_what_does_not_fit(change, message, images):
    arguments = {
        "images": images(6), "labels": LABELS, "predicted": PREDICTED, "losses": LOSSES,
        "class_names": DIGITS, "count": 15, "dataset": "MNIST",
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        mistakes_figure(**(arguments | change))
