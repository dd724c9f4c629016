"""Files and folders → one batch of images as a network takes them, and what could not be read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from digitflow.tasks.data.pictures.count import count_things
from digitflow.tasks.data.pictures.files import (
    OTHER_PICTURES,
    SUFFIXES,
    PictureError,
    decode_picture,
    is_array_file,
    is_readable_heic,
    read_arrays,
)
from digitflow.tasks.data.pictures.form import Form
from digitflow.tasks.data.pictures.ink import are_blank


@dataclass(frozen=True)
class Batch:
    """Images of one size, and what they are of.

    Attributes
    ----------
    names
        Of each picture: its file, with its place in a file of several.
    images
        uint8, shape (n, height, width), in the form that the network was trained on.
    is_blank
        Whether nothing is on the picture, shape (n,).
    unreadable
        Name of each file that cannot be read, and why.
    passed_over
        Files in the folders that are no pictures, by their names.
    found
        How many things each shows side by side, shape (n,); None where that cannot be told.
    """

    names: tuple[str, ...]
    images: NDArray[np.uint8]
    is_blank: NDArray[np.bool_]
    unreadable: tuple[tuple[str, str], ...]
    passed_over: tuple[str, ...] = ()
    found: NDArray[np.intp] | None = None


def read_batch(
    paths: Sequence[Path],
    form: Form,
    progress: Callable[[int, int], None] | None = None,
    *,
    transposed: bool = False,
) -> Batch:
    """Read pictures, arrays of pictures and folders of pictures.

    A picture that is of the network's size and in its form is taken as it is; so is an array of
    that size. Everything else is brought to that form.

    Parameters
    ----------
    paths : sequence of Path
        Of a folder, the pictures that lie in it are taken, in the order of their names.
    form : Form
        Of the images that the network was trained on.
    progress : callable, optional
        Called with the number of files read, and of all.
    transposed : bool
        IDX files hold their images with rows and columns exchanged: turn them upright. Pictures and
        `.npy` files are upright always.
    """
    unreadable: list[tuple[str, str]] = []
    passed_over: list[str] = []
    files = _expand(paths, unreadable, passed_over)
    names: list[str] = []
    images: list[NDArray[np.uint8]] = []
    for done, file in enumerate(files, start=1):
        try:
            read, pictures = _read(file, form, transposed)
        except PictureError as error:
            unreadable.append((str(file), str(error).removeprefix(f"{file}: ")))
        except OSError as error:
            unreadable.append((str(file), error.strerror or str(error)))
        else:
            names += read
            images += pictures
        if progress is not None:
            progress(done, len(files))
    stacked = np.stack(images) if images else np.zeros((0, *form.size), np.uint8)
    found = count_things(stacked, form)
    blank = are_blank(stacked)
    return Batch(tuple(names), stacked, blank, tuple(unreadable), tuple(passed_over), found)


def _expand(
    paths: Sequence[Path], unreadable: list[tuple[str, str]], passed_over: list[str]
) -> list[Path]:
    """Return the files to read; every other one in a folder is unreadable or passed over."""
    files: list[Path] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        inside = sorted(each for each in path.iterdir() if not each.name.startswith("."))
        found = []
        for each in inside:
            kind = each.suffix.lower()
            if kind in (*SUFFIXES, ".npy") or is_readable_heic(each):
                found.append(each)
            elif kind in OTHER_PICTURES:
                unreadable.append((str(each), OTHER_PICTURES[kind]))
            else:
                passed_over.append(str(each))
        if not found:
            unreadable.append((str(path), f"no pictures in this folder ({', '.join(SUFFIXES)})"))
        files += found
    return files


def _read(file: Path, form: Form, transposed: bool) -> tuple[list[str], list[NDArray[np.uint8]]]:
    name = str(file)
    if file.exists() and not file.is_file():
        message = f"{name}: expected a file, found a device or a pipe"
        raise PictureError(message)
    with file.open("rb") as stream:
        start = stream.read(16)
    if is_array_file(start):
        names, arrays = read_arrays(file, name, form.size, transposed=transposed)
        if arrays.shape[1:] == form.size:
            return names, list(arrays)
        return names, [form.bring(array) for array in arrays]
    picture = decode_picture(file, name)
    if picture.shape == form.size and form.has(picture):
        return [name], [np.rint(picture).astype(np.uint8)]
    return [name], [form.bring(picture)]
