"""Several networks as one model: the mean of their probabilities.

Members that differ only in their seeds err on different images, so their mean errs on fewer.
Source: Lakshminarayanan et al. 2017, arXiv:1612.01474, section 2.4.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digitflow.tasks.nn.probabilities import probabilities

KEY = "ensemble"
FORMAT = 1

Arrays = dict[str, NDArray[Any]]


def join(members: Sequence[Mapping[str, NDArray[Any]]], loss: str) -> Arrays:
    """Return the members' arrays as those of one model.

    Parameters
    ----------
    members : sequence of mappings
        The weights of each member, as `TrainingResult` has them.
    loss : str
        The setting `loss` that they were trained on: it says what their outputs mean.

    Returns
    -------
    dict[str, NDArray]
        ``member_0/…``, ``member_1/…`` and, under ``ensemble``, a description as JSON (uint8).
    """
    text = json.dumps({"format": FORMAT, "members": len(members), "loss": loss}, sort_keys=True)
    arrays: Arrays = {KEY: np.frombuffer(text.encode(), dtype=np.uint8)}
    for number, weights in enumerate(members):
        arrays |= {f"member_{number}/{name}": array for name, array in weights.items()}
    return arrays


def is_ensemble(weights: Mapping[str, NDArray[Any]]) -> bool:
    """Tell whether a model's arrays are those of several networks."""
    return KEY in weights


def split(weights: Mapping[str, NDArray[Any]]) -> tuple[list[Arrays], str]:
    """Return the weights of each member of an ensemble, and their loss.

    Raises
    ------
    ValueError
        If the description is unreadable or of another format, or a member is missing.
    """
    try:
        description = json.loads(weights[KEY].tobytes())
        found, count = description["format"], int(description["members"])
        loss = str(description["loss"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        message = f"An ensemble's file describes it as JSON under {KEY!r}; found none: {error}"
        raise ValueError(message) from error
    if found != FORMAT:
        message = f"This version reads ensemble format {FORMAT}; found {found!r}. Train it again."
        raise ValueError(message)
    members: list[Arrays] = [{} for _ in range(min(count, len(weights)))]
    for name, array in weights.items():
        member, slash, rest = name.partition("/")
        number = member.removeprefix("member_")
        if slash and number.isdecimal() and int(number) < len(members):
            members[int(number)][rest] = array
    if not members or len(members) < count or not all(members):
        message = f"The ensemble should have {count} members; not all of them are in the file."
        raise ValueError(message)
    return members, loss


def combine_outputs(outputs: Sequence[NDArray[Any]], loss: str) -> NDArray[Any]:
    """Return the outputs of an ensemble, given those of its members.

    They mean what a single network's do: `tasks.nn.probabilities` makes of them the mean of the
    members' probabilities, and the largest in a row is the answer.

    Parameters
    ----------
    outputs : sequence of NDArray, each of shape (n, classes)
    loss : str
        ``cross_entropy``: the result is the logarithm of the mean, which is a logit.
        ``squared_error``: it is the mean itself.
    """
    dtype = outputs[0].dtype
    if loss != "cross_entropy":
        mean = np.mean([probabilities(each, loss) for each in outputs], axis=0)
        return np.asarray(mean, dtype)
    # In logarithms throughout: a probability that underflows to 0 has none.
    logs = np.stack([_log_softmax(each) for each in outputs])
    return np.asarray(np.logaddexp.reduce(logs, axis=0) - np.log(len(logs)), dtype)


def _log_softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    logs: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return logs
