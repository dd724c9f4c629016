from pathlib import Path

import numpy as np
import pytest

from digitflow.tasks.data.idx import arrays as idx
from digitflow.tasks.data.pictures.form import (
    Form,
    broaden,
    centre,
    fit_box,
    fit_form,
    stroke_breadth,
)
from digitflow.tasks.data.pictures.ink import label_components
from tests.data.pictures.drawing import seven


def box(image: np.ndarray) -> tuple[int, int]:
    """Height and width of what is not black."""
    rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
    return int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1


def centre_of_mass(image: np.ndarray) -> tuple[float, float]:
    places = np.indices(image.shape)
    return tuple((places * image).sum(axis=(1, 2)) / image.sum())


def form(picture: np.ndarray, size: tuple[int, int] = (28, 28)) -> np.ndarray:
    image = Form(size).bring(picture)
    assert image.shape == size
    assert image.dtype == np.uint8
    return image


class TestForm:
    @pytest.mark.parametrize(("size", "side"), [(28, 20), (14, 10), (32, 23)])
    def test_box_aspect_ratio_centre_of_mass(self, size: int, side: int):
        image = form(seven(), (size, size))
        assert image.max() == 255
        assert box(image) == (side, pytest.approx(side * 24 / 40, abs=1))
        assert centre_of_mass(image) == pytest.approx((size / 2, size / 2), abs=0.5)

    @pytest.mark.parametrize(
        ("size", "inked"),
        [((28, 14), (17, 10)), ((14, 28), (10, 6)), ((56, 28), (33, 20)), ((1, 30), (1, 1))],
    )
    def test_fits_the_box_of_an_image_that_is_no_square(
        self, size: tuple[int, int], inked: tuple[int, int]
    ):
        image = form(seven(), size)  # 40 pixels high, 24 wide
        assert box(image) == pytest.approx(inked, abs=1)
        assert centre_of_mass(image) == pytest.approx((size[0] / 2, size[1] / 2), abs=0.5)

    def test_either_polarity_and_any_grey_give_the_same(self):
        dark_on_light = form(seven(ink=20, paper=220))
        for other in (seven(ink=220, paper=20), seven(ink=90, paper=150)):
            assert np.abs(form(other).astype(int) - dark_on_light).mean() < 1.5

    def test_place_on_the_page_does_not_matter(self):
        small, page = seven(), np.full((90, 130), 220, np.uint8)
        page[25:85, 45:125] = small
        assert np.array_equal(form(page), form(small))

    def test_wide_and_tiny_pictures(self):
        line = np.full((9, 60), 255, np.uint8)
        line[4, 5:55] = 0
        assert box(form(line)) == (pytest.approx(2, abs=1), 20)
        dot = np.zeros((3, 3), np.uint8)
        dot[1, 1] = 255
        assert box(form(dot)) == (20, 20)

    def test_nothing_is_cut_off(self):
        ink = np.zeros((20, 20))
        ink[:, 0] = 1.0  # all mass at the left edge
        ink[10, :] = 0.1
        image = centre(ink, (28, 28))
        assert np.count_nonzero(image) == np.count_nonzero(ink)

    def test_box_of_the_very_size_is_left_alone(self):
        ink = np.random.default_rng(0).random((20, 11))
        ink[0, 0] = 1.0
        assert np.array_equal(fit_box(ink, (20, 20)), ink)


class TestPaper:
    def test_uneven_light(self):
        picture = seven().astype(float)
        light = np.linspace(0.5, 1.1, picture.shape[1]) * np.linspace(1, 0.8, len(picture))[:, None]
        difference = np.abs(form(picture * light).astype(int) - form(seven()))
        assert difference.mean() < 4

    def test_noise_and_specks(self):
        rng = np.random.default_rng(2)
        picture = seven(200, 200).astype(float) + rng.normal(0, 10, (200, 200))
        picture[150, 150] = picture[180, 20] = 0
        image = form(picture)
        assert np.abs(image.astype(int) - form(seven(200, 200))).mean() < 6

    def test_edge_of_the_sheet_and_ruled_lines(self):
        picture = seven(120, 120)
        picture[:, 110:] = 30  # the table beside the sheet
        picture[80:82] = 100  # a ruled line
        assert np.abs(form(picture).astype(int) - form(seven(120, 120))).mean() < 1

    @pytest.mark.parametrize("side", ["left", "right", "above", "below", "corner"])
    def test_the_shadow_of_a_hand(self, side: str):
        page = seven(240, 200).astype(float)
        y, x = np.mgrid[:240, :200]
        inside = {
            "left": 90 - x,
            "right": x - 60,
            "above": 70 - y,
            "below": y - 40,
            "corner": x + y - 330,
        }[side]
        shadow = 1 - 0.4 / (1 + np.exp(-inside / 4.0))
        noise = np.random.default_rng(4).normal(0, 3, page.shape)
        image = form(page * shadow + noise)
        assert np.abs(image.astype(int) - form(seven(240, 200))).mean() < 10

    @pytest.mark.parametrize(("broad", "ink"), [(6, 20), (14, 20), (40, 20), (6, 95), (14, 95)])
    def test_a_dark_edge_does_not_outdo_the_digit(self, broad: int, ink: int):
        page = np.pad(seven(160, 160, ink=ink), ((0, 0), (broad, 0)), constant_values=15)
        assert np.abs(form(page).astype(int) - form(seven(160, 160))).mean() < 6

    def test_a_fainter_part_of_a_digit_is_kept(self):
        page = seven(120, 120, ink=60)
        page[14:18] = 220  # the pen was lifted
        page[18:][page[18:] < 100] = 120
        image = form(page)
        assert box(image)[0] == 20
        assert box(image)[1] > 10

    @pytest.mark.parametrize("shape", [(12, 840), (6, 420), (420, 6)])
    def test_a_strip_with_rules(self, shape: tuple[int, int]):
        picture = np.full(shape, 240.0)
        across = picture if shape[0] < shape[1] else picture.T
        across[1::3] = 190
        across[:, 100:180] = 20
        assert form(picture).shape == (28, 28)

    @pytest.mark.parametrize("first", [3, 14])
    def test_squared_paper(self, first: int):
        """Its lines go through the digit."""
        page = seven(200, 160).astype(float)
        ruled = np.full(page.shape, 255.0)
        ruled[first::23] = ruled[:, first::23] = 170
        noise = np.random.default_rng(4).normal(0, 2, page.shape)
        image = form(np.minimum(page, ruled) + noise)
        assert np.abs(image.astype(int) - form(seven(200, 160))).mean() < 6

    def test_a_box_is_no_squared_paper(self):
        """Straight strokes from side to side, which are as dark as any."""
        picture = np.full((64, 64), 255, np.uint8)
        picture[[6, 57], 5:59] = picture[5:59, [6, 57]] = 0
        assert box(form(picture)) == (20, 20)

    def test_digit_that_fills_its_picture(self):
        picture = seven()[10:50, 8:32]
        assert np.abs(form(picture).astype(int) - form(seven())).mean() < 4

    def test_a_small_digit_in_noise(self):
        """Ink that takes a hundredth of the page: a threshold that splits the page in two fails."""
        rng = np.random.default_rng(3)
        page = np.full((390, 390), 170.0)
        page[200:260, 300:305] = 110
        image = form(page + rng.normal(0, 8, page.shape))
        assert box(image) == (20, pytest.approx(3, abs=1))

    @pytest.mark.parametrize(
        "picture",
        [
            np.zeros((28, 28), np.uint8),
            np.full((50, 40), 200, np.uint8),
            np.full((1, 1), 7, np.uint8),
            np.linspace(100, 200, 64 * 48).reshape(64, 48),  # light alone
            np.random.default_rng(0).normal(180, 9, (300, 300)).clip(0, 255),  # noise alone
            seven(ink=210, paper=220),  # fainter than JPEG's own traces
        ],
    )
    def test_blank(self, picture: np.ndarray):
        assert not Form((28, 28)).bring(picture).any()


class TestPen:
    def stroke(self, breadth: int, side: int = 200) -> np.ndarray:
        ink = np.zeros((side, side // 2))
        ink[:, 40 : 40 + breadth] = 1.0
        return ink

    def test_breadth(self):
        assert stroke_breadth(self.stroke(10)) == pytest.approx(10, rel=0.1)

    def test_thin_strokes_become_as_broad_as_mnists(self):
        broader = broaden(self.stroke(4))
        assert stroke_breadth(broader) == pytest.approx(16, abs=2)
        assert broader.max() == 1.0

    @pytest.mark.parametrize(("breadth", "side"), [(20, 200), (40, 200)])
    def test_others_are_left_alone(self, breadth: int, side: int):
        ink = self.stroke(breadth, side)
        assert broaden(ink) is ink

    def test_a_ballpoint_gives_what_a_broad_pen_gives(self):
        page = np.full((390, 390), 200, np.uint8)
        broad, thin = page.copy(), page.copy()
        for picture, breadth in ((broad, 30), (thin, 4)):
            picture[60:330, 195 - breadth // 2 : 195 + breadth // 2] = 40
            picture[60 : 60 + breadth, 90:300] = 40
        kept = np.corrcoef(form(broad).ravel(), form(thin).ravel())[0, 1]
        assert kept > 0.9


class TestComponents:
    def test_corners_connect_and_a_gap_does_not(self):
        mask = np.array([[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]], bool)
        labels, count = label_components(mask)
        assert count == 3
        assert labels.tolist() == [[1, 0, 0, 2], [0, 1, 0, 2], [0, 0, 0, 0], [3, 0, 0, 0]]

    def test_a_spiral_is_one_part(self):
        spiral = np.zeros((41, 41), bool)
        for ring in range(0, 20, 2):
            spiral[ring, ring : 41 - ring] = True
            spiral[ring : 41 - ring, 40 - ring] = True
            spiral[40 - ring, ring : 41 - ring] = True
            spiral[ring + 2 : 41 - ring, ring] = True
            spiral[ring + 2, ring : ring + 2] = True
        assert label_components(spiral)[1] == 1

    @pytest.mark.parametrize("fill", [False, True])
    def test_all_and_nothing(self, fill: bool):
        labels, count = label_components(np.full((3, 4), fill))
        assert count == int(fill)
        assert (labels == int(fill)).all()


@pytest.mark.data
def test_mnist_is_in_its_own_form_already(mnist_directory: Path):
    """And its images, brought to it all the same, are much what they were, in the same place."""
    images = idx.decode(mnist_directory / "t10k-images-idx3-ubyte.gz")[:500]
    fitted = fit_form(images)
    assert (fitted.background, fitted.ink, fitted.centring) == (0, 255, "mass")
    assert fitted.box[1:] == pytest.approx((20 / 28, 20 / 28))
    assert all(fitted.has(image) for image in images)
    again = np.stack([form(image) for image in images]).astype(int)
    kept = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(again, images, strict=True)]
    assert np.mean(kept) > 0.9  # strokes are as broad within a pixel, and places within one
