"""How good a classifier is: confusion matrix, per-class scores and a summary of a test run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

_BINS = 15


def confusion_matrix(
    labels: NDArray[np.integer[Any]],
    predicted: NDArray[np.integer[Any]],
    class_names: Sequence[str],
) -> pd.DataFrame:
    """Count how often each true class was predicted as each class.

    Parameters
    ----------
    labels, predicted : integer arrays, shape (n,)
        True and predicted class ids, each in ``0 … len(class_names) - 1``.
    class_names : sequence of str
        Name of class 0, 1, …; all different.

    Returns
    -------
    DataFrame of int64, shape (classes, classes)
        Rows are the true classes (index name ``true``), columns the predicted ones (columns name
        ``predicted``). Every class is present, counted or not.

    Raises
    ------
    ValueError
        If the arrays are not integer, not one-dimensional or of different lengths, if an id names
        no class, or if the class names are missing or not unique.
    """
    names = _checked_names(class_names)
    true_ids = _class_ids(labels, "labels", names)
    predicted_ids = _class_ids(predicted, "predicted", names)
    if true_ids.shape != predicted_ids.shape:
        message = (
            f"labels and predicted must have the same length: found {true_ids.size:,} labels and "
            f"{predicted_ids.size:,} predictions. Pass one prediction for each label."
        )
        raise ValueError(message)
    classes = len(names)
    counts = np.bincount(true_ids * classes + predicted_ids, minlength=classes * classes)
    return pd.DataFrame(
        counts.reshape(classes, classes).astype(np.int64, copy=False),
        index=pd.Index(names, name="true"),
        columns=pd.Index(names, name="predicted"),
    )


def per_class_report(confusion: pd.DataFrame) -> pd.DataFrame:
    """Precision, recall, F1 and support of each class.

    With *tp* the diagonal entry of a class: precision = tp / (times predicted), recall =
    tp / (times true), F1 = 2 tp / (times predicted + times true), their harmonic mean. A ratio
    whose denominator is zero is undefined and reported as 0.0: precision of a class that was never
    predicted, recall of one that never occurred, F1 of one that did neither.

    Parameters
    ----------
    confusion : DataFrame, shape (classes, classes)
        As `confusion_matrix` gives it.

    Returns
    -------
    DataFrame, one row a class (index name ``class``)
        Columns ``precision``, ``recall``, ``f1`` (float64, 0 to 1) and ``support`` (int64, number
        of samples whose true class it is).

    Raises
    ------
    ValueError
        If the matrix is not square or its rows and columns name different classes.
    """
    if list(confusion.index) != list(confusion.columns):
        message = (
            "a confusion matrix must name the same classes, in the same order, in its rows and "
            f"columns: found rows {list(confusion.index)} and columns {list(confusion.columns)}."
        )
        raise ValueError(message)
    counts = confusion.to_numpy(dtype=np.int64)
    correct = counts.diagonal()
    times_true = counts.sum(axis=1)
    times_predicted = counts.sum(axis=0)
    return pd.DataFrame(
        {
            "precision": _ratio(correct, times_predicted),
            "recall": _ratio(correct, times_true),
            "f1": _ratio(2 * correct, times_true + times_predicted),
            "support": times_true,
        },
        index=pd.Index(confusion.index, name="class"),
    )


def classification_metrics(
    outputs: NDArray[np.floating[Any]],
    losses: NDArray[np.floating[Any]],
    labels: NDArray[np.integer[Any]],
    class_names: Sequence[str],
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Score a network's outputs on a test set.

    The predicted class is the one with the largest output; among equal outputs, the first.

    Parameters
    ----------
    outputs : float array, shape (n, classes)
        Network outputs; only their order within a row matters.
    losses : float array, shape (n,)
        Loss of each sample.
    labels : integer array, shape (n,)
        True class ids, each in ``0 … classes - 1``.
    class_names : sequence of str, length classes

    Returns
    -------
    metrics : dict
        Plain Python numbers, ready for JSON: ``test_accuracy`` (0 to 1), ``test_loss`` (mean loss
        of a sample), ``test_samples``, ``errors`` (samples predicted wrongly), ``macro_f1`` and
        ``per_class`` (one mapping a class, in the classes' order: ``class``, ``precision``,
        ``recall``, ``f1``, ``support``).
        ``macro_f1`` is the unweighted mean F1 over the classes that occur as a label or as a
        prediction: a class that does neither has no F1, and its 0.0 would only dilute the mean.
    confusion : DataFrame
        As `confusion_matrix` gives it.

    Raises
    ------
    ValueError
        If the test set is empty, a shape or dtype does not fit, a label names no class, or an
        output or a loss is not finite.
    """
    names = _checked_names(class_names)
    samples = _check_shapes(outputs, losses, labels, len(names))
    _check_finite(outputs, "outputs")
    _check_finite(losses, "losses")

    predicted = outputs.argmax(axis=1)
    confusion = confusion_matrix(labels, predicted, names)
    report = per_class_report(confusion)
    counts = confusion.to_numpy()
    correct = int(counts.trace())
    occurs = (counts.sum(axis=0) + counts.sum(axis=1)) > 0
    metrics = {
        "test_accuracy": correct / samples,
        "test_loss": float(losses.mean(dtype=np.float64)),
        "test_samples": samples,
        "errors": samples - correct,
        "macro_f1": float(report["f1"].to_numpy()[occurs].mean()),
        "per_class": [
            {
                "class": name,
                "precision": float(precision),
                "recall": float(recall),
                "f1": float(f1),
                "support": int(support),
            }
            for name, precision, recall, f1, support in report.itertuples(name=None)
        ],
    }
    return metrics, confusion


def confidence_metrics(
    confidence: NDArray[np.float64], unsure: NDArray[np.bool_], right: NDArray[np.bool_]
) -> dict[str, Any]:
    """Say how well a classifier knows how sure it may be.

    The calibration error is the expected one: images are sorted by confidence into 15 bins of equal
    width, and the differences between mean confidence and share of right answers are averaged,
    each bin counting by its images. Source: Guo et al. 2017, arXiv:1706.04599, section 2.

    Parameters
    ----------
    confidence : float array, shape (n,)
        Probability of the answer for each test image, 0 to 1.
    unsure : bool array, shape (n,)
        Whether the classifier says that it does not know what the image shows.
    right : bool array, shape (n,)
        Whether the answer is right.

    Returns
    -------
    dict
        Plain Python numbers: ``mean_confidence`` and ``calibration_error`` (0 to 1), ``unsure``
        (images), and ``unsure_errors`` (those of them that are answered wrongly).
    """
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    surplus = np.bincount(bins, weights=confidence - right, minlength=_BINS)
    return {
        "mean_confidence": float(confidence.mean()),
        "calibration_error": float(np.abs(surplus).sum() / len(confidence)),
        "unsure": int(unsure.sum()),
        "unsure_errors": int((unsure & ~right).sum()),
    }


def _ratio(numerator: NDArray[np.int64], denominator: NDArray[np.int64]) -> NDArray[np.float64]:
    zeros = np.zeros(numerator.shape, dtype=np.float64)
    return np.divide(numerator, denominator, out=zeros, where=denominator > 0)


def _checked_names(class_names: Sequence[str]) -> list[str]:
    names = [str(name) for name in class_names]
    if not names:
        message = "class_names is empty: expected the name of every class, in order of class id."
        raise ValueError(message)
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        message = (
            f"class_names must be unique, or the scores of two classes would share one name: "
            f"found more than once: {', '.join(repeated)}."
        )
        raise ValueError(message)
    return names


def _class_ids(ids: NDArray[np.integer[Any]], what: str, names: list[str]) -> NDArray[np.int64]:
    if ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer):
        message = (
            f"{what} must be a one-dimensional integer array of class ids: "
            f"found shape {ids.shape}, dtype {ids.dtype}."
        )
        raise ValueError(message)
    outside = np.flatnonzero((ids < 0) | (ids >= len(names)))
    if outside.size:
        first = int(outside[0])
        message = (
            f"{what} must lie in 0 … {len(names) - 1}, one id for each of the {len(names)} class "
            f"names: found {ids[first]} at index {first}, {outside.size:,} outside in all. Check "
            "that the class names belong to this dataset."
        )
        raise ValueError(message)
    # Labels come as uint8, in which the arithmetic of a flat cell number would wrap around.
    return ids.astype(np.int64)


def _check_shapes(
    outputs: NDArray[np.floating[Any]],
    losses: NDArray[np.floating[Any]],
    labels: NDArray[np.integer[Any]],
    classes: int,
) -> int:
    """Return the number of samples if the three arrays agree on it and on the classes."""
    if outputs.ndim != 2 or outputs.shape[1] != classes:
        message = (
            f"outputs must have shape (samples, {classes}), a column for each class name: "
            f"found {outputs.shape}."
        )
        raise ValueError(message)
    samples = len(outputs)
    for array, what in ((losses, "losses"), (labels, "labels")):
        if array.shape != (samples,):
            message = (
                f"{what} must have shape ({samples},), one for each row of outputs: "
                f"found {array.shape}."
            )
            raise ValueError(message)
    if samples == 0:
        message = "the test set is empty: expected at least one sample to evaluate on, found 0."
        raise ValueError(message)
    return samples


def _check_finite(array: NDArray[np.floating[Any]], what: str) -> None:
    if not np.issubdtype(array.dtype, np.floating):
        message = f"{what} must be floating-point numbers: found dtype {array.dtype}."
        raise ValueError(message)
    finite = np.isfinite(array)
    if not finite.all():
        where = tuple(int(i) for i in np.argwhere(~finite)[0])
        message = (
            f"{what} must be finite: found {array[where]} for sample {where[0]}, "
            f"{array.size - int(finite.sum()):,} such values in all. Training has probably "
            "diverged: try a smaller learning rate."
        )
        raise ValueError(message)
