"""How many digits a model reads that are written in other ways than those it learnt from.

    python benchmarks/wild_digits.py t10k-images-idx3-ubyte.gz t10k-labels-idx1-ubyte.gz --model 3

takes MNIST's test images for the hands that wrote them: thins each to its line, and writes that
again with another pen, on another paper. A row a kind says how many are read rightly, beside the
images themselves. ``--people FOLDER`` adds a folder of pictures and answers in `labels.json`.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

Ink = NDArray[np.bool_]
# Draws one line, thinned, as somebody would hand it in.
Kind = Callable[[Ink, np.random.Generator], Image.Image]

PICTURES = 300
SEED = 20_261_127
# Pixels along a side that a test image is enlarged to before it is thinned.
ENLARGED = 168


def thinned(image: NDArray[np.uint8]) -> Ink:
    """Return the line of a digit, one pixel wide, on a square of `ENLARGED` pixels.

    T. Y. Zhang and C. Y. Suen, "A fast parallel algorithm for thinning digital patterns",
    Communications of the ACM 27 (1984).
    """
    large = Image.fromarray(image).resize((ENLARGED, ENLARGED), Image.Resampling.BICUBIC)
    mask = np.asarray(large.filter(ImageFilter.GaussianBlur(2))) > 110
    changed = True
    while changed:
        changed = False
        for odd in (False, True):
            framed = np.pad(mask, 1)
            # The eight neighbours, clockwise from the one above.
            places = ((0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0), (0, 0))
            around = np.stack(
                [framed[y : y + ENLARGED, x : x + ENLARGED] for y, x in places]
            ).astype(np.int8)
            inked = around.sum(axis=0)
            rises = (np.diff(np.concatenate([around, around[:1]]), axis=0) == 1).sum(axis=0)
            north, east, south, west = (around[place] for place in (0, 2, 4, 6))
            dropped = mask & (inked >= 2) & (inked <= 6) & (rises == 1)
            if odd:
                dropped &= (north & west & (east | south)) == 0
            else:
                dropped &= (east & south & (north | west)) == 0
            mask = mask & ~dropped
            changed |= bool(dropped.any())
    return mask


def written(line: Ink, side: int, breadth: float, turn: float = 0.0) -> NDArray[np.float64]:
    """Return the line drawn with a round pen: ink from 0 to 1, on a square of `side` pixels.

    The breadth is in shares of the side.
    """
    nib = max(1, 2 * round(breadth * ENLARGED / 2) - 1)
    drawn = Image.fromarray(line.astype(np.uint8) * 255)
    if nib > 1:
        drawn = drawn.filter(ImageFilter.MaxFilter(nib)).filter(ImageFilter.GaussianBlur(nib / 6))
    if turn:
        drawn = drawn.rotate(turn, Image.Resampling.BICUBIC)
    return np.asarray(drawn.resize((side, side), Image.Resampling.BOX), np.float64) / 255


def on_paper(
    ink: NDArray[np.float64], rng: np.random.Generator, paper: float = 245, pen: float = 40
) -> Image.Image:
    grey = paper + (pen - paper) * ink + rng.normal(0, 2, ink.shape)
    return Image.fromarray(grey.clip(0, 255).astype(np.uint8))


def fine_pen(line: Ink, rng: np.random.Generator) -> Image.Image:
    """A drawing program's pen of one pixel, black on white, on 64 × 64."""
    where = np.argwhere(line) * 64 // ENLARGED
    page = np.full((64, 64), 255, np.uint8)
    page[where[:, 0], where[:, 1]] = 0
    return Image.fromarray(page)


def ballpoint(line: Ink, rng: np.random.Generator) -> Image.Image:
    return on_paper(written(line, int(rng.integers(300, 500)), 0.02), rng, pen=90)


def marker(line: Ink, rng: np.random.Generator) -> Image.Image:
    return on_paper(written(line, int(rng.integers(100, 300)), 0.13), rng)


def photograph(line: Ink, rng: np.random.Generator) -> Image.Image:
    """A page under a lamp, with the shadow of a hand across it."""
    side = int(rng.integers(300, 500))
    page = np.asarray(on_paper(written(line, side, 0.05), rng, paper=205, pen=60), np.float64)
    y, x = np.mgrid[:side, :side] / side
    turn, edge = rng.uniform(0, 2 * np.pi), rng.uniform(-0.2, 0.2)
    across = (x - 0.5) * np.cos(turn) + (y - 0.5) * np.sin(turn) - edge
    shadow = 1 - 0.35 / (1 + np.exp(-across * rng.uniform(10, 40)))
    lamp = 1 + rng.uniform(-0.2, 0.2) * (x - 0.5) + rng.uniform(-0.2, 0.2) * (y - 0.5)
    grey = page * shadow * lamp + rng.normal(0, 5, page.shape)
    return Image.fromarray(grey.clip(0, 255).astype(np.uint8))


def squared_paper(line: Ink, rng: np.random.Generator) -> Image.Image:
    """A digit over some squares of a page whose lines are fainter than the pen."""
    side = int(rng.integers(250, 400))
    page = on_paper(written(line, side, 0.04), rng)
    ruled = Image.new("L", page.size, 255)
    pen = ImageDraw.Draw(ruled)
    for place in range(int(rng.integers(0, 30)), side, side // 7):
        pen.line((place, 0, place, side), 190)
        pen.line((0, place, side, place), 190)
    return Image.fromarray(np.minimum(np.asarray(page), np.asarray(ruled)))


def tight_crop(line: Ink, rng: np.random.Generator) -> Image.Image:
    """What is inked and not a pixel more, blue on beige."""
    ink = written(line, 120, 0.06)
    rows, columns = (np.flatnonzero(ink.max(axis=axis) > 0.3) for axis in (1, 0))
    cropped = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return on_paper(cropped, rng, paper=225, pen=70)


def inverse(line: Ink, rng: np.random.Generator) -> Image.Image:
    return on_paper(written(line, int(rng.integers(100, 300)), 0.06), rng, paper=20, pen=235)


def rotated(line: Ink, rng: np.random.Generator) -> Image.Image:
    turn = float(rng.uniform(10, 20) * rng.choice([-1, 1]))
    return on_paper(written(line, int(rng.integers(100, 300)), 0.06, turn), rng)


KINDS: dict[str, Kind] = {
    "pen of one pixel": fine_pen,
    "ballpoint": ballpoint,
    "marker": marker,
    "photograph with a shadow": photograph,
    "squared paper": squared_paper,
    "tight crop": tight_crop,
    "light on dark": inverse,
    "turned by 10° to 20°": rotated,
}


def main() -> None:
    from digitflow.tasks.data.idx import arrays as idx
    from digitflow.tasks.prediction.model import Model

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", type=Path)
    parser.add_argument("labels", type=Path)
    parser.add_argument("--model", help="version; default: the champion")
    parser.add_argument("--pictures", type=int, default=PICTURES, help="of each kind")
    parser.add_argument("--people", type=Path, help="a folder with labels.json")
    parser.add_argument("--to", type=Path, help="keep the pictures in this folder")
    arguments = parser.parse_args()
    model = Model.load(arguments.model)
    images = idx.decode(arguments.images)[: arguments.pictures]
    labels = [str(each) for each in idx.decode(arguments.labels)[: arguments.pictures]]

    def row(kind: str, files: list[Path], answers: list[str]) -> None:
        found = model.predict_batch(model.read(files))
        right = sum(each.label == true for each, true in zip(found, answers, strict=True))
        unsure = sum(bool(each.unsure) or each.label is None for each in found)
        share = right / len(answers)
        print(
            f"| {kind} | {len(answers)} | {share:.1%} | {unsure / len(answers):.1%} |", flush=True
        )

    print("| written as | pictures | right | unsure |")
    print("|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.to or Path(temporary)
        lines = [thinned(each) for each in images]
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "as-they-are.npy", images)
        row("test images as they are", [folder / "as-they-are.npy"], labels)
        for kind, draw in KINDS.items():
            rng = np.random.default_rng(SEED)
            name = kind.split(" by ")[0].replace(" ", "-")
            files = [folder / f"{name}-{number:04}.jpg" for number in range(len(lines))]
            for line, file in zip(lines, files, strict=True):
                draw(line, rng).save(file, quality=90)
            row(kind, files, labels)
    if arguments.people is not None:
        truth = json.loads((arguments.people / "labels.json").read_text())
        row(
            "other people", [arguments.people / name for name in truth], [*map(str, truth.values())]
        )


if __name__ == "__main__":
    main()
