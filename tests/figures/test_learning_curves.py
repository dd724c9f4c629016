import numpy as np
import pandas as pd
import pytest

from digitflow.tasks.figures.learning_curves import learning_curves_figure
from digitflow.tasks.figures.png import to_png


def history(epochs=20, *, part="test", start=0.4, end=0.78, loss=0.9):
    rise = 1 - np.exp(-np.arange(epochs) / 4)
    accuracy = start + (end - start) * rise
    return pd.DataFrame(
        {
            "epoch": np.arange(epochs),
            "train_loss": loss * (1 - 0.5 * rise),
            "train_accuracy": accuracy,
            f"{part}_loss": 0.9 * loss * (1 - 0.4 * rise),
            f"{part}_accuracy": 0.98 * accuracy,
        }
    )


def lines(axes):
    return {line.get_label(): line for line in axes.lines}


def build(built, table, dataset="MNIST"):
    return built(learning_curves_figure, table, dataset=dataset)


def test_the_tutorials_two_panels(built, texts, inside):
    table = history()
    figure = build(built, table)
    training, test = figure.axes
    for axes, part in ((training, "train"), (test, "test")):
        for name, column in (("accuracy", "accuracy"), ("error", "loss")):
            line = lines(axes)[name]
            assert line.get_xdata().tolist() == list(range(1, 21))  # epochs 1 … 20
            np.testing.assert_array_equal(line.get_ydata(), table[f"{part}_{column}"])
        assert axes.get_xlabel() == "epoch"
    assert training.get_ylim() == test.get_ylim() == (0.0, 1.0)
    said = texts(figure)
    assert "MNIST · learning curves" in said
    assert "Training set" in said
    assert any(text.startswith("Test set") for text in said)
    assert {"accuracy 0.777", "error 0.454", "accuracy 0.761"} <= set(said)
    assert "share of images" in training.get_ylabel()
    assert "mean loss per image" in training.get_ylabel()
    inside(figure)


def test_lines_differ_in_more_than_colour(built):
    drawn = lines(build(built, history()).axes[0])
    accuracy, error = drawn["accuracy"], drawn["error"]
    assert accuracy.get_linestyle() != error.get_linestyle()
    assert accuracy.get_marker() != error.get_marker()
    assert accuracy.get_color() != error.get_color()


def test_a_star_on_the_best_epoch_the_first_of_equals(built):
    table = history()
    table.loc[[7, 11], "test_accuracy"] = 0.9
    test = build(built, table).axes[1]
    star = lines(test)["best epoch"]
    assert star.get_xdata().tolist() == [8]
    assert star.get_ydata().tolist() == [0.9]
    assert test.get_title("left") == "Test set (★ best accuracy 0.9, epoch 8)"


def test_a_validation_set_in_place_of_the_test_set(built, texts):
    said = texts(build(built, history(part="validation")))
    assert any(text.startswith("Validation set") for text in said)
    both = history().assign(validation_loss=0.5, validation_accuracy=0.5)
    assert any(text.startswith("Test set") for text in texts(build(built, both)))


@pytest.mark.parametrize("table", [
    history(40, start=0.93, end=0.995, loss=0.3),
    history(loss=2.4),
    history(loss=4000.0),
    history().assign(train_loss=np.geomspace(2, 5e6, 20)),
    history().assign(train_loss=-1.0, test_loss=-2.0, train_accuracy=0.95, test_accuracy=0.95),
], ids=["accurate", "large", "huge", "exploding", "negative"])  # fmt: skip
def test_a_row_each_where_one_axis_would_not_show_both(table, built, inside):
    figure = build(built, table)
    assert len(figure.axes) == 4
    for left, right in (figure.axes[:2], figure.axes[2:]):
        assert left.get_ylim() == right.get_ylim()
        low, high = left.get_ylim()
        for axes in (left, right):
            for line in axes.lines:
                assert low <= np.nanmin(line.get_ydata())
                assert np.nanmax(line.get_ydata()) <= high
    assert list(lines(figure.axes[0])) == ["accuracy"]
    assert list(lines(figure.axes[2])) == ["error"]
    inside(figure)


def test_one_epoch(built, inside):
    figure = build(built, history(1))
    assert figure.axes[0].get_xticks().tolist() == [1]
    assert lines(figure.axes[0])["accuracy"].get_marker() == "o"  # a line of one point is not seen
    inside(figure)


@pytest.mark.parametrize("epochs", [2, 3, 7, 20, 33, 100, 999])
def test_epoch_ticks_are_whole_few_and_reach_both_ends(epochs, built, inside):
    figure = build(built, history(epochs))
    ticks = figure.axes[0].get_xticks()
    assert ticks[0] == 1
    assert ticks[-1] == epochs
    assert len(ticks) <= 10
    assert (ticks == np.round(ticks)).all()
    inside(figure)


def test_what_is_not_finite_is_left_out_and_said(built, texts, inside):
    table = history()
    table.loc[12:, "train_loss"] = np.nan
    table.loc[12:, "test_loss"] = np.inf
    table.loc[5, "test_accuracy"] = np.nan
    figure = build(built, table)
    said = texts(figure)
    assert "Not drawn: 17 values NaN or infinite." in said
    assert np.isnan(lines(figure.axes[1])["error"].get_ydata()[12:]).all()
    # The label names the last value there is.
    assert f"error {table['train_loss'][11]:.3f}" in said
    inside(figure)


def test_nothing_finite_at_all(built, texts, inside):
    table = history()
    table[["test_loss", "test_accuracy"]] = np.nan
    figure = build(built, table)
    assert "no finite value" in texts(figure)
    assert "best epoch" not in lines(figure.axes[1])
    inside(figure)
    table[["train_loss", "train_accuracy"]] = np.nan
    inside(build(built, table))


@pytest.mark.parametrize("gap", [0.0, 0.01, -0.01])
@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_labels_of_lines_that_end_together_are_kept_apart(gap, level, built, inside):
    table = history()
    table.loc[:, ["train_loss", "test_loss"]] = np.clip(level + gap, 0, None)
    table.loc[19, ["train_accuracy", "test_accuracy"]] = level
    inside(build(built, table))


def test_a_compact_png_of_the_same_bytes(png_size):
    table = history()
    png = to_png(learning_curves_figure(table, dataset="MNIST"), dpi=110)
    assert png_size(png)[0] == 990
    assert len(png) < 80_000
    assert png == to_png(
        learning_curves_figure(table.assign(learning_rate=0.1), dataset="MNIST"), dpi=110
    )
    assert png != to_png(learning_curves_figure(table, dataset="sample"), dpi=110)


@pytest.mark.parametrize(("table", "message"), [
    (history().drop(columns="test_loss"), "test_loss, test_accuracy .*found epoch, train_loss, "),
    (history().drop(columns="epoch"), "needs the columns epoch"),
    (history(0), "no rows"),
    (pd.DataFrame(), "found none"),
])  # fmt: skip
def test_refuses_a_history_without_what_it_draws(table, message):
    with pytest.raises(ValueError, match=message):
        to_png(learning_curves_figure(table, dataset="MNIST"), dpi=110)
