import gzip
import os
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image, ImageFile

from digitflow.tasks.data.idx import arrays as idx
from digitflow.tasks.data.pictures.batch import Batch, read_batch
from digitflow.tasks.data.pictures.files import reads_heic
from digitflow.tasks.data.pictures.form import Form
from tests.data.pictures.drawing import seven

IMAGE = Form((28, 28)).bring(seven())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(*names: str, size: tuple[int, int] = (28, 28), transposed: bool = False) -> Batch:
    return read_batch([Path(name) for name in names], Form(size), transposed=transposed)


def problem(name: str) -> str:
    batch = read(name)
    assert batch.names == ()
    assert batch.images.shape == (0, 28, 28)
    ((said, why),) = batch.unreadable
    assert said == name
    return why


class TestPictures:
    def test_photograph_and_image_of_the_very_form(self, folder: Path):
        Image.fromarray(seven()).save("photo.png")
        Image.fromarray(IMAGE).save("image.png")
        batch = read("photo.png", "image.png")
        assert batch.names == ("photo.png", "image.png")
        assert np.array_equal(batch.images, [IMAGE, IMAGE])
        assert batch.is_blank.tolist() == [False, False]

    def test_an_image_in_the_networks_form_is_taken_as_it_is_and_any_other_brought_to_it(
        self, folder: Path
    ):
        moved = np.roll(IMAGE, 3, axis=1)
        Image.fromarray(IMAGE).save("as-it-is.png")
        Image.fromarray(moved).save("not-centred.png")
        Image.fromarray(255 - IMAGE).save("on-white.png")
        first, *others = read("as-it-is.png", "not-centred.png", "on-white.png").images
        assert np.array_equal(first, IMAGE)
        for image in others:
            assert not np.array_equal(image, moved)
            assert np.corrcoef(image.ravel(), IMAGE.ravel())[0, 1] > 0.9

    def test_another_size_of_network(self, folder: Path):
        Image.fromarray(IMAGE).save("image.png")
        assert read("image.png", size=(14, 14)).images.shape == (1, 14, 14)

    def test_a_folder_in_order_without_what_is_no_picture(self, folder: Path):
        (folder / "in" / "deeper").mkdir(parents=True)
        for name in ("b.png", "a.JPG", ".hidden.png", "deeper/c.png"):
            Image.fromarray(seven()).save(f"in/{name}")
        (folder / "in" / "notes.txt").write_text("no picture")
        (folder / "in" / "c.heic").write_bytes(b"\0\0\0\x18ftypheic")
        (folder / "in" / "d.svg").write_text("<svg/>")
        batch = read("in", "in/c.heic")
        assert batch.names == ("in/a.JPG", "in/b.png")
        assert batch.passed_over == ("in/deeper", "in/notes.txt")
        assert [name for name, _ in batch.unreadable] == ["in/c.heic", "in/d.svg", "in/c.heic"]
        assert all("save it as PNG or JPEG" in problem for _, problem in batch.unreadable)

    def test_a_phone_s_pictures_where_their_decoder_is_installed(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ):
        """Its module is one of ours here: what counts is that it is asked, and only of these."""

        class Heif(ImageFile.ImageFile):
            format = "HEIF"

            def _open(self) -> None:
                self._mode, self._size = "L", (28, 28)
                self.tile = [("raw", (0, 0, 28, 28), 12, ("L", 0, 1))]

        def register_heif_opener(*, thumbnails: bool) -> None:
            assert not thumbnails
            Image.register_open("HEIF", Heif, lambda start: start[4:8] == b"ftyp")

        (folder / "in").mkdir()
        data = b"\0\0\0\x18ftypheic" + IMAGE.tobytes()
        for name in ("a.HEIC", "b.heif", "c.avif", "d.png"):
            (folder / "in" / name).write_bytes(data)
        assert read("in").names == ()
        module = ModuleType("pillow_heif")
        module.register_heif_opener = register_heif_opener  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "pillow_heif", module)
        monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
        monkeypatch.setattr(Image, "ID", list(Image.ID))
        reads_heic.cache_clear()
        try:
            batch = read("in")
        finally:
            reads_heic.cache_clear()
        assert batch.names == ("in/a.HEIC", "in/b.heif")
        assert np.array_equal(batch.images, [IMAGE, IMAGE])
        assert [name for name, _ in batch.unreadable] == ["in/c.avif", "in/d.png"]

    def test_blank(self, folder: Path):
        Image.fromarray(np.full((50, 40), 200, np.uint8)).save("paper.png")
        Image.fromarray(np.zeros((28, 28), np.uint8)).save("black.png")
        assert read("paper.png", "black.png").is_blank.tolist() == [True, True]

    def test_tells_how_far_it_is(self, folder: Path):
        told: list[tuple[int, int]] = []
        Image.fromarray(seven()).save("a.png")
        read_batch(
            [Path("a.png"), Path("missing.png")], Form((28, 28)), lambda *now: told.append(now)
        )
        assert told == [(1, 2), (2, 2)]


class TestArrays:
    @pytest.mark.parametrize("name", ["a-idx3-ubyte", "a-idx3-ubyte.gz"])
    def test_idx(self, folder: Path, name: str):
        images = np.stack([IMAGE, 255 - IMAGE])  # the second is no image on black, but of the form
        data = idx.encode(images)
        Path(name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
        batch = read(name)
        assert batch.names == (f"{name}[0]", f"{name}[1]")
        assert np.array_equal(batch.images, images)

    @pytest.mark.parametrize("shape", [(3, 28, 28), (3, 784)])
    def test_npy_of_several(self, folder: Path, shape: tuple[int, ...]):
        images = np.stack([IMAGE] * 3)
        np.save("a.npy", images.reshape(shape))
        np.save("b.npy", images.reshape(shape) / 255)
        batch = read("a.npy", "b.npy")
        assert batch.names[3:] == ("b.npy[0]", "b.npy[1]", "b.npy[2]")
        assert np.array_equal(batch.images, [*images, *images])

    @pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, bool])
    def test_npy_of_one(self, folder: Path, dtype: type):
        picture = seven() if np.dtype(dtype).kind in "iu" else seven() / 255 > 0.5
        np.save("a.npy", picture.astype(dtype))
        batch = read("a.npy")
        assert batch.names == ("a.npy",)
        assert np.abs(batch.images[0].astype(int) - IMAGE).mean() < 3

    def test_blank(self, folder: Path):
        np.save("a.npy", np.stack([IMAGE, np.zeros_like(IMAGE)]))
        assert read("a.npy").is_blank.tolist() == [False, True]


class TestNoSquare:
    SIZE = (9, 7)

    @pytest.fixture
    def images(self) -> np.ndarray:
        return np.random.default_rng(0).integers(0, 256, (3, *self.SIZE)).astype(np.uint8)

    def test_of_the_very_size_is_taken_as_it_is(self, folder: Path, images: np.ndarray):
        images[0, [0, -1]] = images[0, :, [0, -1]] = 0
        idx.write(Path("a.gz"), images)
        np.save("b.npy", images)
        np.save("c.npy", images.reshape(3, -1))
        Image.fromarray(images[0]).save("d.png")
        batch = read("a.gz", "b.npy", "c.npy", "d.png", size=self.SIZE)
        assert np.array_equal(batch.images, [*images, *images, *images, images[0]])

    def test_anything_else_is_brought_to_it(self, folder: Path, images: np.ndarray):
        Image.fromarray(seven()).save("photo.png")
        np.save("on-its-side.npy", images.swapaxes(1, 2))
        batch = read("photo.png", "on-its-side.npy", size=self.SIZE)
        assert batch.images.shape == (4, 9, 7)
        assert np.array_equal(batch.images[0], Form(self.SIZE).bring(seven()))

    def test_nothing_could_be_read(self, folder: Path):
        assert read("missing.png", size=self.SIZE).images.shape == (0, 9, 7)


class TestStoredTransposed:
    def test_idx_is_turned_and_nothing_else(self, folder: Path):
        images = np.stack([IMAGE, np.roll(IMAGE, 2, axis=0)])
        idx.write(Path("a.gz"), images.swapaxes(1, 2))
        np.save("b.npy", images)
        Image.fromarray(IMAGE).save("c.png")
        batch = read("a.gz", "b.npy", "c.png", transposed=True)
        assert np.array_equal(batch.images, [*images, *images, IMAGE])

    def test_of_no_square(self, folder: Path):
        images = np.random.default_rng(0).integers(0, 256, (3, 9, 7)).astype(np.uint8)
        idx.write(Path("a.gz"), images.swapaxes(1, 2))
        assert np.array_equal(read("a.gz", size=(9, 7), transposed=True).images, images)

    def test_upright_ones_are_refused_where_that_can_be_told(self, folder: Path):
        idx.write(Path("a.gz"), np.ones((3, 9, 7), np.uint8))
        batch = read("a.gz", size=(9, 7), transposed=True)
        assert batch.unreadable == (
            (
                "a.gz",
                "expected images of 7 x 9 pixels, stored transposed as in the dataset that the "
                "model was trained on, found 9 x 7; if they are upright already, save them as "
                ".npy, which is never turned",
            ),
        )

    def test_labels_are_still_no_images(self, folder: Path):
        idx.write(Path("labels"), np.arange(10, dtype=np.uint8))
        assert "are these labels?" in read("labels", transposed=True).unreadable[0][1]


class TestUnreadable:
    def test_is_named_and_the_others_go_on(self, folder: Path):
        Image.fromarray(seven()).save("good.png")
        Path("bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
        batch = read("bad.png", "good.png", "missing.png")
        assert batch.names == ("good.png",)
        assert [name for name, _ in batch.unreadable] == ["bad.png", "missing.png"]
        assert batch.unreadable[1][1] == "No such file or directory"

    def test_labels(self, folder: Path):
        idx.write(Path("labels"), np.arange(10, dtype=np.uint8))
        assert problem("labels") == (
            "expected grey pictures of shape (height, width) or (n, height, width), found shape "
            "(10,); are these labels?"
        )

    def test_colours(self, folder: Path):
        np.save("a.npy", np.zeros((28, 28, 3, 1), np.uint8))
        assert "found shape (28, 28, 3, 1)" in problem("a.npy")

    @pytest.mark.parametrize(
        ("array", "found"),
        [
            (np.full((28, 28), 1.5), "found float64 from 1.5 to 1.5"),
            (np.full((28, 28), -1), "found int64 from -1 to -1"),
            (np.full((28, 28), np.nan), "found float64 from nan to nan"),
            (np.full((28, 28), 1j), "expected numbers, found complex128"),
            (np.full((28, 28), "x"), "expected numbers, found <U1"),
        ],
    )
    def test_values(self, folder: Path, array: np.ndarray, found: str):
        np.save("a.npy", array)
        assert found in problem("a.npy")

    def test_pickled_objects_are_never_loaded(self, folder: Path):
        np.save("a.npy", np.array([print, len]), allow_pickle=True)
        assert "expected a sound .npy file of numbers" in problem("a.npy")

    def test_header_that_declares_more_than_there_is(self, folder: Path):
        np.save("a.npy", np.zeros((2, 28, 28), np.uint8))
        data = Path("a.npy").read_bytes().replace(b"(2, 28, 28)", b"(9999999999999, 28, 28)")
        Path("a.npy").write_bytes(data)
        assert "expected a sound .npy file of numbers" in problem("a.npy")

    @pytest.mark.parametrize("damage", [b"(((((", b"{{{{{", b"'\n' \\", b"\0\0\0\0\0", b"1L + "])
    @pytest.mark.parametrize("place", [10, 40, 60])
    def test_header_that_is_no_python(self, folder: Path, damage: bytes, place: int):
        np.save("a.npy", np.zeros((2, 28, 28), np.uint8))
        data = bytearray(Path("a.npy").read_bytes())
        data[place : place + 5] = damage[:5]
        Path("a.npy").write_bytes(data)
        assert "expected a sound .npy file of numbers" in problem("a.npy")

    def test_damaged_idx(self, folder: Path):
        Path("a.gz").write_bytes(gzip.compress(idx.encode(np.stack([IMAGE])))[:-30])
        assert problem("a.gz")

    def test_a_pipe_is_not_waited_for(self, folder: Path):
        os.mkfifo("pipe.png")
        assert problem("pipe.png") == "expected a file, found a device or a pipe"

    def test_empty_folder(self, folder: Path):
        (folder / "empty").mkdir()
        assert problem("empty").startswith("no pictures in this folder (.png, .jpg")
