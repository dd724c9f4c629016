"""Pictures of what is no digit, by kind, drawn as people would save them: dark on light or not.

    python benchmarks/non_digits.py t10k-images-idx3-ubyte.gz --model 3

says of each kind how many a model of the store calls unsure, or blank (bar: at least 90 % of all),
and how many of true digits it does (bar: at most 1 %). Left out is what has a digit's very shape:
O, o, I, l and their like in other scripts, the Cyrillic З, rings and upright lines.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

Picture = NDArray[np.uint8]
Draw = Callable[[np.random.Generator], Image.Image]

PICTURES = 1_000
SEED = 20_261_127

LATIN = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnpqrstuvwxyz"
# What DejaVu Sans has: Greek, Cyrillic, Hebrew, Arabic, Armenian, Georgian.
OTHER_SCRIPTS = (
    "ΓΔΘΛΞΠΣΦΨΩαβγδεζηθκλμνξπρστυφχψω"
    "БГДЖИЙЛПУФЦЧШЩЪЫЬЭЮЯбвгдежийклмптуфцчшщъыьэюя"
    "אבגדהזחטכלמנעפצקרשת"
    "ابتجحدرسصطعفقكلمنهوي"
    "ԱԲԳԴԵԶԷԸԹԺԻԼԽԾԿՀՁՂՃՄ"
    "აბგდევზთიკლმნპჟრსტუფ"
)
FONTS = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSerif", "DejaVuSerif-Italic")
FONTS_OF_SCRIPTS = ("DejaVuSans", "DejaVuSans-Bold")


def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return ImageFont.truetype(folder / f"{name}.ttf", size)


def _text(text: str, font: str, rng: np.random.Generator) -> Image.Image:
    """Write a text in the middle, a little turned."""
    side = 60 * (1 + len(text))
    image = Image.new("L", (side, 120))
    middle = (side / 2, 60)
    size = int(rng.integers(50, 80))
    ImageDraw.Draw(image).text(middle, text, 255, _font(font, size), anchor="mm")
    turned = image.rotate(float(rng.uniform(-10, 10)), Image.Resampling.BILINEAR)
    return turned.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 1.2))))


def letters(rng: np.random.Generator) -> Image.Image:
    return _text(str(rng.choice([*LATIN])), str(rng.choice(FONTS)), rng)


def other_scripts(rng: np.random.Generator) -> Image.Image:
    return _text(str(rng.choice([*OTHER_SCRIPTS])), str(rng.choice(FONTS_OF_SCRIPTS)), rng)


def two_digits(rng: np.random.Generator) -> Image.Image:
    return _text(str(rng.integers(10, 100)), str(rng.choice(FONTS)), rng)


def shapes(rng: np.random.Generator) -> Image.Image:
    """Draw a polygon, star, cross, arrow, filled ellipse, zigzag, spiral, square or grid."""
    image = Image.new("L", (120, 120))
    pen = ImageDraw.Draw(image)
    kind = rng.integers(10)
    width = int(rng.integers(4, 12))
    angles = np.linspace(0, 2 * np.pi, int(rng.integers(3, 9)), endpoint=False) - np.pi / 2
    around = [(60 + 45 * np.cos(a), 60 + 45 * np.sin(a)) for a in angles]
    if kind == 0:
        pen.polygon(around, fill=255)
    elif kind == 1:
        pen.line([*around, around[0], around[1]], 255, width, joint="curve")
    elif kind == 2:
        star = np.arange(10) * np.pi / 5 - np.pi / 2
        far = np.where(np.arange(10) % 2, 20, 48)
        points = list(zip(60 + far * np.cos(star), 60 + far * np.sin(star), strict=True))
        pen.polygon(points, fill=255)
    elif kind == 3:
        pen.line((15, 60, 105, 60), 255, width)
        pen.line((60, 15, 60, 105), 255, width)
    elif kind == 4:
        pen.line((15, 60, 105, 60), 255, width)
        pen.line((75, 30, 105, 60, 75, 90), 255, width, joint="curve")
    elif kind == 5:
        pen.ellipse((15, int(rng.integers(15, 45)), 105, 90), fill=255)
    elif kind == 6:
        xs = np.linspace(12, 108, int(rng.integers(5, 9)))
        ys = np.where(np.arange(len(xs)) % 2, 35, 85)
        pen.line(list(zip(xs, ys, strict=True)), 255, width, joint="curve")
    elif kind == 7:
        turn = np.linspace(0, 6 * np.pi, 200)
        points = list(
            zip(60 + turn * 2.4 * np.cos(turn), 60 + turn * 2.4 * np.sin(turn), strict=True)
        )
        pen.line(points, 255, width // 2 + 1, joint="curve")
    elif kind == 8:
        pen.rectangle((20, 20, 100, 100), outline=255, width=width)
    else:
        for place in (30, 60, 90):
            pen.line((15, place, 105, place), 255, width // 2)
            pen.line((place, 15, place, 105), 255, width // 2)
    turned = image.rotate(float(rng.uniform(-20, 20)), Image.Resampling.BILINEAR)
    return turned.filter(ImageFilter.GaussianBlur(0.7))


def textures(rng: np.random.Generator) -> Image.Image:
    """Draw a grating, a checkerboard, clouds, dots or a slope."""
    kind = rng.integers(5)
    side = int(rng.integers(60, 160))
    y, x = np.mgrid[:side, :side] / side
    turn = rng.uniform(0, np.pi)
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    often = rng.uniform(2, 8)
    if kind == 0:
        grey = np.sin(2 * np.pi * often * along)
    elif kind == 1:
        grey = np.sign(np.sin(2 * np.pi * often * along) * np.sin(2 * np.pi * often * across))
    elif kind == 2:
        coarse = int(rng.integers(3, 12))
        cells = Image.fromarray(rng.random((coarse, coarse)).astype(np.float32))
        grey = np.asarray(cells.resize((side, side), Image.Resampling.BICUBIC))
    elif kind == 3:
        grey = np.sin(2 * np.pi * often * x) * np.sin(2 * np.pi * often * y) > 0.5
    else:
        grey = along + rng.normal(0, 0.05, (side, side))
    levels = np.asarray(grey, np.float64)
    levels = 255 * (levels - levels.min()) / np.ptp(levels)
    return Image.fromarray(levels.astype(np.uint8))


def noise(rng: np.random.Generator) -> Image.Image:
    """Draw uniform, normal, or salt and pepper noise, some of it coarse or of the image's size."""
    side = int(rng.choice([28, 28, 56, 112]))
    kind = rng.integers(3)
    if kind == 0:
        grey = rng.random((side, side))
    elif kind == 1:
        grey = rng.normal(0.5, 0.2, (side, side)).clip(0, 1)
    else:
        grey = (rng.random((side, side)) < rng.uniform(0.02, 0.5)).astype(float)
    image = Image.fromarray((255 * grey).astype(np.uint8))
    return image.filter(ImageFilter.GaussianBlur(float(rng.choice([0, 0, 1]))))


def blanks(rng: np.random.Generator) -> Image.Image:
    """Draw an empty sheet: plain, unevenly lit, or with the sensor's noise."""
    side = int(rng.integers(28, 200))
    y, x = np.mgrid[:side, :side] / side
    light = rng.uniform(0, 235) + rng.uniform(0, 20) * (rng.choice([x, y]) if side else x)
    grain = rng.normal(0, rng.uniform(0, 3), (side, side))
    return Image.fromarray((light + grain).clip(0, 255).astype(np.uint8))


KINDS: dict[str, Draw] = {
    "letters": letters,
    "other scripts": other_scripts,
    "shapes": shapes,
    "textures": textures,
    "noise": noise,
    "two digits": two_digits,
    "blanks": blanks,
}


def save(folder: Path, count: int) -> list[str]:
    """Write so many pictures to a folder, and return the kind of each in the order of names."""
    kinds = []
    for number, (kind, picture) in enumerate(pictures(count)):
        kinds.append(kind)
        name = f"{number:06}-{kind.replace(' ', '-')}.png"
        Image.fromarray(picture).save(folder / name)
    return kinds


def measure(version: str | None, digits: list[Path], count: int) -> None:
    """Print a row a kind, and one of true digits."""
    from digitflow.tasks.prediction.model import Model

    model = Model.load(version)
    if model.calibration is None:
        message = f"model {model.version.version} cannot tell what is no digit"
        raise SystemExit(message)
    print("| kind | pictures | unsure or blank |")
    print("|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        kinds = save(folder, count)
        flagged = [
            each.label is None or bool(each.unsure)
            for each in model.predict_batch(model.read([folder]))
        ]
    for kind in KINDS:
        found = [each for each, of in zip(flagged, kinds, strict=True) if of == kind]
        print(f"| {kind} | {len(found)} | {sum(found) / max(1, len(found)):.1%} |")
    print(f"| all (bar: 90 %) | {len(flagged)} | {sum(flagged) / len(flagged):.1%} |")
    if digits:
        true = [each.unsure for each in model.predict_batch(model.read(digits))]
        print(f"| digits (bar: 1 %) | {len(true)} | {sum(map(bool, true)) / len(true):.2%} |")


def pictures(count: int = PICTURES, seed: int = SEED) -> Iterator[tuple[str, Picture]]:
    """Yield so many pictures, as many of each kind, half of them dark on light."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        kind = [*KINDS][number % len(KINDS)]
        picture = np.asarray(KINDS[kind](rng))
        yield kind, 255 - picture if rng.random() < 0.5 else picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("digits", nargs="*", type=Path, help="true digits: pictures or IDX files")
    parser.add_argument("--model", help="version; default: the champion")
    parser.add_argument("--pictures", type=int, default=PICTURES)
    parser.add_argument("--to", type=Path, help="write the pictures to this new folder, and end")
    arguments = parser.parse_args()
    if arguments.to is not None:
        arguments.to.mkdir(parents=True)
        print(f"{len(save(arguments.to, arguments.pictures))} pictures: {arguments.to}")
        return
    measure(arguments.model, arguments.digits, arguments.pictures)


if __name__ == "__main__":
    main()
