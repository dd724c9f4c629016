"""What real models answer on MNIST's 10,000 test images: what the gate is tried on.

Four kinds of `quick` models, some 270 in all and minutes of training, each a stage: cached in the
store, so that a simulation is repeated without any. A model is what it answers, a class for each
test image; nothing else of it is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from digitflow.flows.pipeline import pipeline
from digitflow.flows.spec import RunOptions
from digitflow.storage.store import Store
from digitflow.tasks.engine.call import Context, compute, current, using
from digitflow.tasks.engine.stage import stage
from digitflow.tasks.parameters import resolve

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from digitflow.tasks.engine.call import Handle

# How many training images the models have that are all equally good.
EQUAL_IMAGES = 3_000
# By how many pixels images are shifted where a feed has gone wrong.
SHIFT = 5
NOISE = tuple(round(0.01 * step, 2) for step in range(11))


@dataclass(frozen=True)
class Pool:
    """Answers of real models on the test images; each of shape (models, test images), int8.

    Attributes
    ----------
    labels
        True classes of the test images.
    equal
        Of models that differ in their seed alone.
    equal_shifted
        What these answer where the test images are shifted.
    growing
        By number of training images: of models that were trained on as many.
    noisy
        By share of wrong labels in training: of models that were trained on those.
    shifted
        Of models that were trained on shifted images, where the test images are shifted too.
    shifted_straight
        What these answer on the test images as they are.
    """

    labels: NDArray[Any]
    equal: NDArray[Any]
    equal_shifted: NDArray[Any]
    growing: dict[int, NDArray[Any]]
    noisy: dict[float, NDArray[Any]]
    shifted: NDArray[Any]
    shifted_straight: NDArray[Any]


@stage(outputs={"answers": "npz"})
def answer(
    training_inputs: NDArray[Any],
    training_targets: NDArray[Any],
    test_inputs: NDArray[Any],
    test_targets: NDArray[Any],
    *,
    settings: dict[str, Any],
    images: int,
    noise: float,
    shift: int,
) -> dict[str, Any]:
    """Train on the first images, some of them mislabelled, and answer on the test images.

    Training images are shifted to the right by `shift` pixels, and `noise` of them have another
    label than theirs. The answers are for the test images as they are, and shifted by `SHIFT`.
    """
    from digitflow.tasks.nn.inference.predict import predict
    from digitflow.tasks.nn.settings import TrainingSettings
    from digitflow.tasks.nn.training.train import train_network

    inputs, targets = np.roll(training_inputs[:images], shift, axis=2), training_targets[:images]
    rng = np.random.default_rng(settings["seed"])
    wrong = rng.random(len(targets)) < noise
    targets = np.where(wrong, (targets + rng.integers(1, 10, len(targets))) % 10, targets)
    trained = train_network(
        inputs,
        targets,
        test_inputs,
        test_targets,
        settings=TrainingSettings.model_validate(settings),
        classes=10,
    )
    shown = {"straight": test_inputs, "shifted": np.roll(test_inputs, SHIFT, axis=2)}
    return {
        "answers": {
            name: predict(trained.weights, each).argmax(axis=1).astype(np.int8)
            for name, each in shown.items()
        }
    }


def load_pool(data: Path, *, seeds: int, growing: int) -> Pool:
    """Train what is not cached, and return what all models answer.

    Parameters
    ----------
    data
        Folder with the four files of a dataset of ten classes.
    seeds
        How many equal models; of each other kind there are fewer.
    growing
        At how many sizes of the training set.
    """
    store = Store()
    few = max(2, seeds // 32)
    with store.in_use(), using(Context(store, "gate-models", compute)):
        pipeline(RunOptions(str(data), "quick", until="preprocess").spec())
        prepared: Handle = current().called[-1]
        targets = prepared.result().read("test_targets")
        sizes = np.geomspace(1_600, len(prepared.result().read("training_targets")), growing)

        def of(
            seeds: Sequence[int], images: int = EQUAL_IMAGES, noise: float = 0.0, shift: int = 0
        ) -> dict[str, NDArray[Any]]:
            answers = []
            for seed in seeds:
                given = {"seed": seed, "validation_size": 0}
                done = answer.with_label(f"answer-{images}-{noise:g}-{shift}-{seed}").submit(
                    *(prepared[name] for name in answer.inputs),
                    settings=resolve("quick", given).training(),
                    images=images,
                    noise=noise,
                    shift=shift,
                )
                answers.append(done.result().read("answers"))
            return {name: np.stack([each[name] for each in answers]) for name in answers[0]}

        equal = of(range(seeds))
        shifted = of(range(1_000, 1_000 + few), shift=SHIFT)
        return Pool(
            labels=np.asarray(targets),
            equal=equal["straight"],
            equal_shifted=equal["shifted"],
            growing={
                int(size): of(range(2_000, 2_000 + few), images=int(size))["straight"]
                for size in sizes.round()
            },
            noisy={noise: of(range(3_000, 3_002), noise=noise)["straight"] for noise in NOISE},
            shifted=shifted["shifted"],
            shifted_straight=shifted["straight"],
        )
