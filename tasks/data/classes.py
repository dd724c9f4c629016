"""Labels, whatever values a dataset gives them, as classes 0, 1, …"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digitflow.tasks.data.datasets.dataset import describe_labels


class SampleError(ValueError):
    """The data does not hold what was asked for."""


def class_ids(what: str, values: NDArray[Any], labels: Sequence[int]) -> NDArray[Any]:
    """Turn labels into the places that their values have among the dataset's.

    Parameters
    ----------
    what : str
        ``training`` or ``test``, for messages.
    values : NDArray of integers, shape (n,)
        The labels, as the dataset has them.
    labels : sequence of int
        The values that there are, ascending.

    Returns
    -------
    NDArray, shape (n,)
        Classes 0, 1, …, uint8 where that is enough, else uint16. Labels that are such already are
        not copied.

    Raises
    ------
    SampleError
        If a label is none of `labels`; names the first such label and its index.
    """
    known = np.asarray(labels, dtype=np.int64)
    places = np.searchsorted(known, values.astype(np.int64))
    foreign = known[np.minimum(places, len(known) - 1)] != values
    if foreign.any():
        index = int(np.argmax(foreign))
        message = (
            f"the {what} labels should be {describe_labels(labels)}, found {values[index]} at "
            f"index {index}; check the labels in the dataset's manifest, and that images and "
            "labels are not exchanged"
        )
        raise SampleError(message)
    dtype = np.uint8 if len(known) <= 256 else np.uint16
    if values.dtype == dtype and np.array_equal(known, np.arange(len(known))):
        return values
    return places.astype(dtype)
