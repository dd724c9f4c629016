"""Files and folders → one batch of images as a network takes them, and what could not be read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digitflow.tasks.data.pictures.files import (
    SUFFIXES,
    PictureError,
    decode_picture,
    is_array_file,
    read_arrays,
)
from digitflow.tasks.data.pictures.ink import LEAST_CONTRAST
from digitflow.tasks.data.pictures.mnist_form import to_mnist_form

# Of 255: what JPEG makes of black.
_BLACK = 12


@dataclass(frozen=True)
class Batch:
    """Images of one size, and what they are of.

    Attributes
    ----------
    names
        Of each picture: its file, with its place in a file of several.
    images
        uint8, shape (n, height, width), light on black.
    is_blank
        Whether nothing is on the picture, shape (n,).
    unreadable
        Name of each file that cannot be read, and why.
    """

    names: tuple[str, ...]
    images: NDArray[np.uint8]
    is_blank: NDArray[np.bool_]
    unreadable: tuple[tuple[str, str], ...]


def read_batch(
    paths: Sequence[Path],
    size: tuple[int, int],
    progress: Callable[[int, int], None] | None = None,
    *,
    transposed: bool = False,
) -> Batch:
    """Read pictures, arrays of pictures and folders of pictures.

    A picture that is of the network's size and on black is taken as it is; so is an array of that
    size. Everything else is brought to MNIST's form.

    Parameters
    ----------
    paths : sequence of Path
        Of a folder, the pictures that lie in it are taken, in the order of their names.
    size : tuple[int, int]
        Height and width of the images, in pixels.
    progress : callable, optional
        Called with the number of files read, and of all.
    transposed : bool
        IDX files hold their images with rows and columns exchanged: turn them upright. Pictures and
        `.npy` files are upright always.
    """
    unreadable: list[tuple[str, str]] = []
    files = list(_expand(paths, unreadable))
    names: list[str] = []
    images: list[NDArray[np.uint8]] = []
    blank: list[bool] = []
    for done, file in enumerate(files, start=1):
        try:
            found, pictures = _read(file, size, transposed)
        except PictureError as error:
            unreadable.append((str(file), str(error).removeprefix(f"{file}: ")))
        except OSError as error:
            unreadable.append((str(file), error.strerror or str(error)))
        else:
            names += found
            images += pictures
            blank += [_is_blank(image) for image in pictures]
        if progress is not None:
            progress(done, len(files))
    stacked = np.stack(images) if images else np.zeros((0, *size), np.uint8)
    return Batch(tuple(names), stacked, np.array(blank, bool), tuple(unreadable))


def _expand(paths: Sequence[Path], unreadable: list[tuple[str, str]]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        found = sorted(
            file
            for file in path.iterdir()
            if file.suffix.lower() in (*SUFFIXES, ".npy") and not file.name.startswith(".")
        )
        if not found:
            unreadable.append((str(path), f"no pictures in this folder ({', '.join(SUFFIXES)})"))
        files += found
    return files


def _read(
    file: Path, size: tuple[int, int], transposed: bool
) -> tuple[list[str], list[NDArray[np.uint8]]]:
    name = str(file)
    if file.exists() and not file.is_file():
        message = f"{name}: expected a file, found a device or a pipe"
        raise PictureError(message)
    with file.open("rb") as stream:
        start = stream.read(16)
    if is_array_file(start):
        names, arrays = read_arrays(file, name, size, transposed=transposed)
        if arrays.shape[1:] == size:
            return names, list(arrays)
        return names, [_brought_to_form(array, size) for array in arrays]
    picture = decode_picture(file, name)
    if picture.shape == size and _is_on_black(picture):
        return [name], [np.rint(picture).astype(np.uint8)]
    return [name], [_brought_to_form(picture, size)]


def _brought_to_form(picture: NDArray[Any], size: tuple[int, int]) -> NDArray[np.uint8]:
    image = to_mnist_form(picture, size)
    return np.zeros(size, np.uint8) if image is None else image


def _is_on_black(picture: NDArray[np.float32]) -> bool:
    border = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    return float(np.median(border)) <= _BLACK


def _is_blank(image: NDArray[np.uint8]) -> bool:
    return int(image.max()) - int(image.min()) < LEAST_CONTRAST
