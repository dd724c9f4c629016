"""Whether a dataset has as many images as the parameters ask for, found out before any work."""

from __future__ import annotations

from digitflow.tasks.data.datasets.dataset import Dataset
from digitflow.tasks.parameters import ParameterError, Parameters


def check_sample_sizes(parameters: Parameters, dataset: Dataset) -> None:
    """Refuse parameters that ask for more images than the dataset is known to have.

    Where their number is not known, the stages find out.

    Raises
    ------
    ParameterError
        Naming each parameter, what there is, and what to set.
    """
    images = dataset.images
    if images is None:
        return
    problems = []
    remedies = []
    for name, asked, there in (
        ("training_sample", parameters.training_sample, images.training),
        ("test_sample", parameters.test_sample, images.test),
    ):
        if asked > there:
            problems.append(
                f"{name}: expected at most {there:,}, the images that {dataset.title} has, or 0 "
                f"for all, found {asked:,}"
            )
            remedies.append(f"{name}=0")
    training = min(parameters.training_sample or images.training, images.training)
    # Every class keeps an image to be learnt from, and there are at least two classes.
    if parameters.network != "tutorial" and (parameters.validation_size or 0) > training - 2:
        problems.append(
            f"validation_size: expected at most {max(training - 2, 0):,} of the {training:,} "
            f"training images, found {parameters.validation_size:,}"
        )
        remedies.append(f"validation_size={training // 10}")
    if problems:
        message = "; ".join(problems) + f"; set {' '.join(remedies)}"
        raise ParameterError(message)
