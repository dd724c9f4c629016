import io
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from digitflow.tasks.data.pictures.files import (
    MAX_PIXELS,
    WORKING_SIZE,
    PictureError,
    decode_picture,
)
from tests.data.pictures.drawing import seven

Save = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def save(image: Image.Image, name: str = "a.png", **options: object) -> Path:
        image.save(tmp_path / name, **options)
        return tmp_path / name

    return save


def decode(file: Path) -> np.ndarray:
    return decode_picture(file, file.name)


GREY = Image.fromarray(seven())


class TestKinds:
    @pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.gif", "misnamed.txt"])
    def test_without_loss(self, save: Save, name: str):
        options = {"format": "PNG"} if name.endswith(".txt") else {}
        assert np.array_equal(decode(save(GREY, name, **options)), seven())

    @pytest.mark.parametrize("name", ["a.jpg", "a.webp"])
    def test_with_loss(self, save: Save, name: str):
        assert np.abs(decode(save(GREY, name, quality=95)) - seven()).mean() < 3

    @pytest.mark.parametrize("mode", ["RGB", "P", "LA", "RGBA", "1"])
    def test_modes_of_png(self, save: Save, mode: str):
        expected = np.where(seven() > 128, 255, 0) if mode == "1" else seven()
        image = GREY.point(lambda value: 255 * (value > 128)) if mode == "1" else GREY
        assert np.abs(decode(save(image.convert(mode))) - expected).max() <= 1

    def test_cmyk(self, save: Save):
        file = save(GREY.convert("CMYK"), "a.jpg", quality=95)
        with Image.open(file) as image:
            assert image.mode == "CMYK"
        assert np.abs(decode(file) - seven()).mean() < 4

    def test_16_bits_keep_their_range(self, save: Save):
        picture = (seven().astype(np.uint16) * 257) // 2  # nothing above half
        file = save(Image.fromarray(picture))
        with Image.open(file) as image:
            assert image.mode.startswith("I")
        np.testing.assert_allclose(decode(file), seven() / 2, atol=0.01)

    def test_black_ink_on_nothing_and_white_ink_on_nothing(self, save: Save):
        ink = (seven() < 128).astype(np.uint8) * 255
        for value, paper in ((0, 255), (255, 0)):
            grey = np.full_like(ink, value)
            image = Image.merge("LA", [Image.fromarray(grey), Image.fromarray(ink)])
            found = decode(save(image))
            assert (found[ink > 0] == value).all()
            assert (found[ink == 0] == paper).all()

    def test_transparent_colour_of_a_palette(self, save: Save):
        image = GREY.quantize(2)
        values = np.array(image)
        found = decode(save(image, transparency=int(values[0, 0])))
        assert found[0, 0] == 255
        assert found[12, 12] < 40

    def test_is_turned_as_the_camera_says(self, save: Save):
        exif = Image.Exif()
        exif[0x0112] = 6  # turn by a quarter to the right
        found = decode(save(GREY, "a.jpg", quality=95, exif=exif))
        assert np.abs(found - np.rot90(seven(), -1)).mean() < 3

    def test_a_large_one_is_averaged_down(self, save: Save):
        image = GREY.resize((80 * 30, 60 * 30), Image.Resampling.NEAREST)
        found = decode(save(image))
        assert max(found.shape) <= WORKING_SIZE
        assert found.mean() == pytest.approx(seven().mean(), abs=1)

    def test_the_first_of_a_phones_several(self, save: Save):
        other = Image.fromarray(255 - seven())
        file = save(GREY, "a.jpg", format="MPO", save_all=True, append_images=[other], quality=95)
        assert np.abs(decode(file) - seven()).mean() < 3


def chunk(kind: bytes, data: bytes) -> bytes:
    """Return a chunk of a PNG file."""
    checksum = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + checksum


class TestRefused:
    def test_what_moves(self, save: Save):
        frames = [Image.fromarray(255 - seven())]
        file = save(GREY, "a.gif", save_all=True, append_images=frames)
        with pytest.raises(PictureError, match=r"a\.gif: expected one picture, found 2 that move"):
            decode(file)

    @pytest.mark.parametrize(
        "content", [b"", b"hello", b"%PDF-1.7", b"II*\0\x08\0\0\0", b"\0\0\1\0"]
    )
    def test_another_kind(self, tmp_path: Path, content: bytes):
        file = tmp_path / "notes.png"
        file.write_bytes(content)
        with pytest.raises(PictureError, match=r"notes\.png: expected a picture \(PNG, JPEG, BMP"):
            decode(file)

    @pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.gif", "a.webp"])
    def test_cut_short_anywhere(self, tmp_path: Path, name: str):
        stream = io.BytesIO()
        Image.fromarray(seven()).save(stream, format=Image.registered_extensions()[f".{name[2:]}"])
        whole = stream.getvalue()
        file = tmp_path / name
        refused = 0
        for length in range(0, len(whole) - 1, max(1, len(whole) // 60)):
            file.write_bytes(whole[:length])
            with suppress(PictureError):
                decode(file)
                refused -= 1
            refused += 1
        assert refused > 40  # some formats do not miss their last bytes

    @pytest.mark.parametrize("side", [8_500, 10_000, 60_000])
    def test_a_bomb_takes_no_memory(self, tmp_path: Path, side: int):
        header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
        parts = ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b""))
        file = tmp_path / "bomb.png"
        file.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts))
        with pytest.raises(PictureError, match=rf"bomb\.png: expected at most {MAX_PIXELS:,} pixe"):
            decode(file)
