"""The pipeline's wiring: what runs after what. Written once, walked by runs and by plans.

The wiring neither computes nor looks at values. It is given a `call` that says what calling a
stage means: a run submits it to Prefect, a plan looks its key up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

from digitflow.tasks.data.datasets.sources import ROLES, Dataset
from digitflow.tasks.engine.stage import Handle, Ref, Refs, Stage
from digitflow.tasks.parameters import Parameters
from digitflow.tasks.stages.combine import combine
from digitflow.tasks.stages.decode import decode
from digitflow.tasks.stages.download import download
from digitflow.tasks.stages.draw import draw
from digitflow.tasks.stages.evaluate import evaluate
from digitflow.tasks.stages.plot import plot
from digitflow.tasks.stages.preprocess import preprocess
from digitflow.tasks.stages.train import train

StageName = Literal[
    "draw", "download", "decode", "preprocess", "train", "combine", "evaluate", "plot"
]
STAGE_NAMES: tuple[str, ...] = get_args(StageName)
STAGES: tuple[Stage, ...] = (
    draw,
    download,
    decode,
    preprocess,
    train,
    combine,
    evaluate,
    plot,
)

# Seed and sizes of the built-in dataset: six times what the tutorial trains on.
SAMPLE = {"training": 6_000, "test": 1_000, "seed": 20_260_101}


class Call(Protocol):
    """What calling a stage means: submit it, or look it up."""

    def __call__(
        self, stage: Stage, label: str, inputs: Refs, parameters: Mapping[str, Any]
    ) -> Handle: ...


class SelectionError(ValueError):
    """The stages asked for do not fit together."""


@dataclass(frozen=True)
class Selection:
    """Which stages run, and which run although the cache has their outputs.

    Attributes
    ----------
    refresh
        Stages that run again.
    start
        A stage that runs again with everything after it, or None.
    until
        Last stage to run, or None for all.

    Raises
    ------
    SelectionError
        If a stage is to run again that comes after the last one to run.
    """

    refresh: tuple[str, ...] = ()
    start: str | None = None
    until: str | None = None

    def __post_init__(self) -> None:
        again = [*self.refresh, *([self.start] if self.start is not None else [])]
        late = [stage for stage in again if not self.includes(stage)]
        if late:
            message = (
                f"{', '.join(late)} should run again, but the run ends with {self.until}: "
                "name a later stage as the last one, or none"
            )
            raise SelectionError(message)

    def includes(self, stage: str) -> bool:
        """Tell whether a stage belongs to the run."""
        return self.until is None or _place(stage) <= _place(self.until)

    def refreshes(self, stage: str) -> bool:
        """Tell whether a stage is to run even if cached."""
        follows = self.start is not None and _place(stage) >= _place(self.start)
        return follows or _place(stage) in {_place(each) for each in self.refresh}


def pipeline(
    call: Call,
    dataset: Dataset,
    mirrors: tuple[str, ...],
    parameters: Parameters,
    selection: Selection,
) -> None:
    """Call every selected stage in order.

    Parameters
    ----------
    call
        What calling a stage means.
    dataset
        Where the data comes from.
    mirrors
        Where to ask for its files, in order.
    parameters
        Of the run.
    selection
        Which stages are selected.
    """
    if dataset.generated:
        drawn = call(draw, "draw-sample", {}, SAMPLE)
        archives = {role: drawn[role] for role in ROLES}
    else:
        archives = {
            file.role: call(
                download,
                f"download-{_dashed(file.role)}",
                {},
                {
                    "name": file.name,
                    "sha256": file.sha256,
                    "size": file.size,
                    "mirrors": list(mirrors),
                },
            )["archive"]
            for file in dataset.files
        }
    if not selection.includes("decode"):
        return
    arrays = {
        role: call(
            decode,
            f"decode-{_dashed(role)}",
            {"archive": archives[role]},
            {
                "name": role if dataset.generated else dataset.file(role).name,
                "transposed": dataset.transposed and role.endswith("_images"),
            },
        )["array"]
        for role in ROLES
    }
    if not selection.includes("preprocess"):
        return
    prepared = call(
        preprocess,
        "preprocess",
        arrays,
        {
            "training_sample": parameters.training_sample,
            "test_sample": parameters.test_sample,
            "labels": list(dataset.labels),
            "scaled": parameters.network == "tutorial",
        },
    )
    if not selection.includes("train"):
        return
    trained = _train(call, prepared, parameters, len(dataset.labels))
    if not selection.includes("evaluate"):
        return
    evaluated = call(
        evaluate,
        "evaluate",
        {
            "predictions": trained["predictions"],
            "training_targets": prepared["training_targets"],
            "test_targets": prepared["test_targets"],
        },
        {"class_names": list(dataset.class_names)},
    )
    if not selection.includes("plot"):
        return
    call(
        plot,
        "plot",
        {
            "history": trained["history"],
            "confusion": evaluated["confusion"],
            "model": trained["model"],
            "predictions": trained["predictions"],
            **arrays,
        },
        {
            "dataset": dataset.title,
            "class_names": list(dataset.class_names),
            "labels": list(dataset.labels),
            "gallery_size": parameters.gallery_size,
            "gallery_seed": parameters.gallery_seed,
            "mistakes": parameters.mistakes,
            "dpi": parameters.dpi,
        },
    )


def train_network(
    call: Call,
    label: str,
    prepared: Handle,
    parameters: Parameters,
    classes: int,
    *,
    member: int = 0,
    checkpoint: Ref | None = None,
) -> Handle:
    """Train one network on what `preprocess` made.

    Parameters
    ----------
    call, label
        What calling the stage means, and the name of this call.
    prepared
        What `preprocess` made.
    parameters, classes
        Of the run, and of the dataset.
    member
        Which one of an ensemble.
    checkpoint
        To go on from: changes nothing but the time that it takes.
    """
    inputs = {name: prepared[name] for name in prepared.stage.outputs}
    if checkpoint is not None:
        inputs["checkpoint"] = checkpoint
    settings = parameters.training(member)
    return call(
        train,
        label,
        inputs,
        {"network": parameters.network, "settings": settings, "classes": classes},
    )


def _train(call: Call, prepared: Handle, parameters: Parameters, classes: int) -> Handle:
    """Train one network, or the members of an ensemble and make one model of them."""
    if parameters.members == 1:
        return train_network(call, "train", prepared, parameters, classes)
    members = [
        train_network(call, f"train-member-{n + 1}", prepared, parameters, classes, member=n)
        for n in range(parameters.members)
    ]
    return call(
        combine,
        "combine",
        {
            "models": tuple(each["model"] for each in members),
            "histories": tuple(each["history"] for each in members),
            "predictions": tuple(each["predictions"] for each in members),
            "test_targets": prepared["test_targets"],
        },
        {"loss": parameters.loss, "label_smoothing": parameters.label_smoothing},
    )


def _place(stage: str) -> int:
    # `draw` takes the place of `download` where the project makes the data itself, and what
    # trains an ensemble is `train` and `combine` together.
    return STAGE_NAMES.index({"draw": "download", "combine": "train"}.get(stage, stage))


def _dashed(role: str) -> str:
    return role.replace("_", "-")
