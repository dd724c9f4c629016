"""Can two models be judged on the same test images? Asked before either is shown one."""

from __future__ import annotations

import math

from digitflow.storage.cache import Cache
from digitflow.storage.models import ModelVersion


def check_comparable(cache: Cache, challenger: ModelVersion, champion: ModelVersion) -> None:
    """Refuse a challenger that answers another question than the champion.

    Parameters
    ----------
    cache
        The store.
    challenger
        The model of the run whose test images both would be judged on.
    champion
        What it would be judged against.

    Raises
    ------
    ValueError
        If they are for other classes, or for images of another size.
    """
    if challenger.class_names != champion.class_names:
        _refuse(
            f"the classes of the champion, version {champion.version} "
            f"({', '.join(champion.class_names)})",
            ", ".join(challenger.class_names),
            challenger,
        )
    theirs, ours = _images(cache, champion), _images(cache, challenger)
    # Only the number of pixels is known of some that an older digitflow registered.
    both_known = len(theirs) == len(ours) == 2
    if theirs != ours if both_known else math.prod(theirs) != math.prod(ours):
        _refuse(
            f"images of the champion's size, version {champion.version} ({_said(theirs)})",
            _said(ours),
            challenger,
        )


def _refuse(expected: str, found: str, challenger: ModelVersion) -> None:
    message = (
        f"expected {expected}, found {found}: keep models for another task in a store of their own "
        "(DIGITFLOW_STORE), or make this one the champion by hand: digitflow models promote "
        f"{challenger.version}"
    )
    raise ValueError(message)


def _images(cache: Cache, model: ModelVersion) -> tuple[int, ...]:
    """Return (height, width), or (pixels,) where nobody knows more."""
    if model.image_size is not None:
        return model.image_size
    from digitflow.tasks.nn.predict import input_shape

    return input_shape(dict(cache.read(model.weights)))[-2:]


def _said(size: tuple[int, ...]) -> str:
    return f"{' x '.join(str(side) for side in size)} pixels"
