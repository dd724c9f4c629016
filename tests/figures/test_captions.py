import pytest
from matplotlib.figure import Figure

from digitflow.tasks.figures.captions import drawable, fit, set_title, shorten, title_height, width
from digitflow.tasks.figures.style import look


def test_what_the_font_lacks_is_named_by_its_code_point():
    assert drawable("Ångström → ≤ 9") == "Ångström → ≤ 9"
    assert drawable("お") == "U+304A"
    assert drawable("a\nb\t") == "aU+000AbU+0009"
    assert drawable(7) == "7"


def test_shorten_keeps_both_ends():
    assert shorten("sandal", 6) == "sandal"
    assert shorten("sandal, of the left foot", 11) == "sanda…foot"
    assert len(shorten("x" * 99, 20)) == 20
    assert shorten("sandal left", 8) != shorten("sandal right", 8)


def test_fit_shortens_no_more_than_it_must():
    assert fit("Ankle boot", 5.0, 9.5) == "Ankle boot"
    shown = fit("Ankle boot or sandal", 1.0, 9.5)
    assert width(shown, 9.5) <= 1.0 < width(shorten("Ankle boot or sandal", len(shown) + 2), 9.5)
    assert fit("anything", 0.0, 9.5) == "…"


@pytest.mark.parametrize("text", ["i", "0123456789", "Ankle boot", "→ predicted WWW"])
@pytest.mark.parametrize("points", [6.5, 9.5, 12.0])
def test_width_is_what_matplotlib_draws_or_a_little_more(text, points):
    with look():
        figure = Figure(dpi=110)
        drawn = figure.text(0, 0, text, fontsize=points)
        inches = drawn.get_window_extent().width / 110
    assert inches - 0.02 <= width(text, points) <= 1.2 * inches + 0.02


@pytest.mark.parametrize("dataset", [
    "a dataset whose name is much longer than the figure is wide and needs three lines",
    "/a/path/without/a/space/" + "that-goes-on-" * 12,
    "W" * 150,
])  # fmt: skip
def test_long_titles_wrap_inside_the_figure(dataset, built, texts, inside):
    def titled():
        figure = Figure(figsize=(5, 3))
        set_title(figure, dataset, "learning curves")
        assert title_height(5, dataset, "learning curves") > 0.3
        return figure

    figure = built(titled)
    inside(figure)
    assert "".join(texts(figure)[0].split()) == "".join((dataset + " · learning curves").split())


def test_dollars_are_text_not_formulas(built, texts):
    def titled():
        figure = Figure()
        set_title(figure, r"$\frac{broken$ · a_b")
        return figure

    assert texts(built(titled)) == [r"$\frac{broken$ · a_b"]
