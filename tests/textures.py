"""Ten classes of woven cloth, in the manner of Fashion-MNIST: small and quickly learnt."""

from pathlib import Path

import numpy as np

from digitflow.tasks.data.idx import arrays as idx

SIDE = 12


def write_textures(folder: Path, *, training: int, test: int, seed: int = 0) -> Path:
    """Write the four IDX files of a dataset; no two of its images are alike.

    A class is a direction and a width of stripes on a dark ground; where they begin, how strong
    they are and what is spilt on them differs from image to image.
    """
    rng = np.random.default_rng(seed)
    down, across = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    ground = np.hypot(down, across) < SIDE / 2
    folder.mkdir(parents=True, exist_ok=True)
    for name, count in (("train", training), ("t10k", test)):
        classes = rng.integers(0, 10, count).astype(np.uint8)
        turn = (classes % 5 * np.pi / 5)[:, None, None]
        width = np.where(classes < 5, 3.0, 5.0)[:, None, None]
        along = across * np.cos(turn) + down * np.sin(turn)
        begin = rng.uniform(-1.5, 1.5, (count, 1, 1))
        stripes = 0.5 + 0.5 * np.cos(2 * np.pi * along / width + begin)
        light = stripes * rng.uniform(0.5, 1, (count, 1, 1)) * ground
        light += rng.normal(0, 0.3, (count, SIDE, SIDE))
        idx.write(
            folder / f"{name}-images-idx3-ubyte.gz",
            (255 * np.clip(light, 0, 1)).astype(np.uint8),
        )
        idx.write(folder / f"{name}-labels-idx1-ubyte.gz", classes)
    return folder
