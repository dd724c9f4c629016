"""What looks wrong in a dataset before anything is trained on it: counted, and said in sentences.

Beside what `tasks.data.measures` counts. Each is cheap, and a reason to look rather than a proof.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from digitflow.tasks.data.measures import MOST_BLANK, MOST_REPEATED, MOST_SHARED, Measures
from digitflow.tasks.data.pictures.ink import LEAST_CONTRAST

Images = NDArray[np.uint8]
Labels = NDArray[np.integer[Any]]

# Of the images that labels are compared on, and that near-duplicates are looked for among.
_COMPARED, _HASHED = 2_000, 20_000
_NEIGHBOURS = 3
# Of 255: a smaller step between neighbours is none. In shares of an image's contrast: images that
# differ by less are nearly the same.
_STEP, _NEARLY = 8, 0.15
_HASH_SIDE = 8
# Shares from which on something is said.
_MISLABELLED, _NEAR, _CONSTANT, _MAJORITY = 0.04, 0.005, 0.75, 0.5
# How much better images fit when their rows and columns are exchanged, as a correlation.
_TURNED = 0.1


@dataclass(frozen=True)
class Suspicion:
    """One thing that looks wrong.

    Attributes
    ----------
    kind
        What kind of thing, in a word or two.
    count, of
        How many of how many.
    what
        A sentence for people.
    """

    kind: str
    count: int
    of: int
    what: str


@dataclass(frozen=True)
class Looks:
    """What was measured beside `Measures`.

    Attributes
    ----------
    near, near_of
        Test images that are nearly a training image without being the same, of how many.
    mislabelled, compared
        Training images whose three nearest others all carry one other label, of how many.
    constant, pixels
        Pixels that are the same in all training images, of how many.
    turned
        How much better the test images of a class fit the mean of its training images with rows and
        columns exchanged than as they are: a correlation less another, -2 to 2.
    """

    near: int
    near_of: int
    mislabelled: int
    compared: int
    constant: int
    pixels: int
    turned: float


def look(training: Images, classes: Labels, test: Images, test_classes: Labels) -> Looks:
    """Measure what `suspicions` judges.

    Parameters
    ----------
    training, test : NDArray[uint8], shape (n, height, width)
        May be memory maps.
    classes, test_classes : NDArray[int], shape (n,)
        Numbers of classes, from 0.
    """
    compared = _some(len(training), _COMPARED)
    return Looks(
        near_duplicates(training[_some(len(training), _HASHED)], test[_some(len(test), _HASHED)]),
        len(_some(len(test), _HASHED)),
        mislabelled(training[compared], classes[compared]),
        len(compared),
        int((np.max(training, axis=0) == np.min(training, axis=0)).sum()),
        int(np.prod(training.shape[1:])),
        _turned(training, classes, test, test_classes),
    )


def suspicions(
    measures: Measures, looks: Looks, class_names: Sequence[str]
) -> tuple[Suspicion, ...]:
    """Return what looks wrong in a dataset, most telling first; nothing where nothing does."""
    return tuple(_suspicions(measures, looks, class_names))


def _suspicions(
    measures: Measures, looks: Looks, class_names: Sequence[str]
) -> Iterator[Suspicion]:
    test, training = measures.test, measures.training
    if measures.shared > MOST_SHARED * test.images:
        what = "test images are training images, too: the test says nothing of new ones"
        yield _counted("shared", measures.shared, test.images, what)
    if looks.near > _NEAR * looks.near_of:
        what = "test images are nearly the same as a training image"
        yield _counted("near-duplicates", looks.near, looks.near_of, what)
    for which, part in (("training", training), ("test", test)):
        if part.repeated > MOST_REPEATED * part.images:
            what = f"{which} images repeat an earlier one"
            yield _counted(f"duplicates, {which}", part.repeated, part.images, what)
        if part.blank > MOST_BLANK * part.images:
            yield _counted(f"blank, {which}", part.blank, part.images, f"{which} images are blank")
        missing = [name for name, n in zip(class_names, part.classes, strict=True) if not n]
        if missing:
            what = f"classes have no {which} images: {', '.join(missing[:10])}"
            yield _counted(f"missing classes, {which}", len(missing), len(class_names), what)
        most = max(part.classes)
        if most > max(_MAJORITY, 1.5 / len(class_names)) * part.images:
            name = class_names[part.classes.index(most)]
            what = f"{which} images are of one class, {name}: who always says so is as right"
            yield _counted(f"majority, {which}", most, part.images, what)
        if part.images > part.blank and part.contrast.mean < LEAST_CONTRAST:
            what = (
                f"the {which} images hardly show anything: their pixels have a standard deviation "
                f"of {part.contrast.mean:.1f} of 255 on average"
            )
            yield Suspicion(f"contrast, {which}", part.images, part.images, what)
    if looks.mislabelled > _MISLABELLED * looks.compared:
        what = (
            f"training images may be labelled wrongly: their {_NEIGHBOURS} nearest neighbours all "
            "carry one other label"
        )
        yield _counted("labels", looks.mislabelled, looks.compared, what)
    if looks.turned > _TURNED:
        what = (
            "rows and columns are exchanged in either the training or the test images: the test "
            "images fit better when they are turned"
        )
        yield Suspicion("transposed", test.images, test.images, what)
    if looks.constant > _CONSTANT * looks.pixels:
        what = "pixels are the same in all training images"
        yield _counted("constant pixels", looks.constant, looks.pixels, what)


def near_duplicates(training: Images, test: Images) -> int:
    """Count test images that are nearly a training image, and not the same.

    Candidates have one difference hash: whether each of 8 × 8 averaged pixels is darker than its
    neighbour, along rows or along columns. They are counted if the root mean square by which their
    pixels differ is less than 15 % of the standard deviation of the test image's. Source: N.
    Krawetz, "Kind of like that", 2013,
    hackerfactor.com/blog/index.php?/archives/529-Kind-of-Like-That.html.
    """
    found = np.zeros(len(test), bool)
    for axis in (1, 2):
        buckets: dict[bytes, list[int]] = defaultdict(list)
        for row, key in enumerate(_hashes(training, axis)):
            buckets[key].append(row)
        for row, key in enumerate(_hashes(test, axis)):
            others = buckets.get(key)
            if others is None or found[row]:
                continue
            differences = training[others].astype(np.float32) - test[row]
            apart = np.sqrt((differences**2).mean(axis=(1, 2))) / max(float(test[row].std()), 1.0)
            found[row] = bool(((apart > 0) & (apart < _NEARLY)).any()) and not (apart == 0).any()
    return int(found.sum())


def mislabelled(images: Images, classes: Labels) -> int:
    """Count images whose three nearest others all carry one label, and another than theirs.

    By Euclidean distance of the pixels. Of random labels few neighbourhoods are of one mind, so
    this is a lower estimate. Source: D. L. Wilson, "Asymptotic properties of nearest neighbor rules
    using edited data", IEEE Transactions on Systems, Man, and Cybernetics 2 (1972).
    """
    if len(images) <= _NEIGHBOURS:
        return 0
    flat = images.reshape(len(images), -1).astype(np.float32) / 255
    squares = (flat**2).sum(axis=1)
    count = 0
    for start in range(0, len(flat), 500):
        rows = np.arange(start, min(start + 500, len(flat)))
        apart = squares - 2 * (flat[rows] @ flat.T)
        apart[np.arange(len(rows)), rows] = np.inf
        nearest = np.argpartition(apart, _NEIGHBOURS, axis=1)[:, :_NEIGHBOURS]
        theirs = classes[nearest]
        agree = (theirs == theirs[:, :1]).all(axis=1)
        count += int((agree & (theirs[:, 0] != classes[rows])).sum())
    return count


def _some(count: int, most: int) -> NDArray[np.intp]:
    """Return so many rows at most, evenly taken."""
    return np.arange(count)[:: max(1, -(-count // most))]


def _hashes(images: Images, axis: int) -> Iterator[bytes]:
    """Yield of each image which of its averaged pixels are darker than the next along an axis."""
    size = (_HASH_SIDE + (axis == 2), _HASH_SIDE + (axis == 1))
    for image in images:
        small = Image.fromarray(image).resize(size, Image.Resampling.BOX)
        steps = np.diff(np.asarray(small, np.int16), axis=axis - 1)
        yield np.packbits(steps > _STEP).tobytes() + np.packbits(steps < -_STEP).tobytes()


def _turned(training: Images, classes: Labels, test: Images, test_classes: Labels) -> float:
    if training.shape[1] != training.shape[2]:
        return 0.0
    gains = []
    for each in np.intersect1d(classes, test_classes):
        rows = np.flatnonzero(classes == each)[:500]
        others = np.flatnonzero(test_classes == each)[:500]
        one, other = training[rows].mean(axis=0), test[others].mean(axis=0)
        if one.std() and other.std():
            gains.append(_correlation(one, other.T) - _correlation(one, other))
    return float(np.mean(gains)) if gains else 0.0


def _correlation(one: NDArray[Any], other: NDArray[Any]) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def _counted(kind: str, count: int, of: int, what: str) -> Suspicion:
    return Suspicion(kind, count, of, f"{count:,} of {of:,} {what}")
