"""The pipeline: what runs after what.

Written once, and called in every way in which stages can be called: see
`digitflow.tasks.engine.call`.
"""

from __future__ import annotations

from digitflow.flows.spec import RunSpec
from digitflow.tasks.data.datasets.dataset import ROLES
from digitflow.tasks.engine.call import Handle, Ref
from digitflow.tasks.engine.stage import Stage
from digitflow.tasks.parameters import Parameters
from digitflow.tasks.stages.calibrate import calibrate
from digitflow.tasks.stages.combine import combine
from digitflow.tasks.stages.decode import decode
from digitflow.tasks.stages.download import download
from digitflow.tasks.stages.draw import draw
from digitflow.tasks.stages.evaluate import evaluate
from digitflow.tasks.stages.plot import plot
from digitflow.tasks.stages.preprocess import preprocess
from digitflow.tasks.stages.train import train

STAGES: tuple[Stage, ...] = (
    draw,
    download,
    decode,
    preprocess,
    train,
    combine,
    calibrate,
    evaluate,
    plot,
)

# Seed and sizes of the built-in dataset: six times what the tutorial trains on.
SAMPLE = {"training": 6_000, "test": 1_000, "seed": 20_260_101}


def pipeline(spec: RunSpec) -> None:
    """Call every selected stage in order.

    Parameters
    ----------
    spec
        What to run, on what.
    """
    dataset, parameters, selection = spec.dataset, spec.parameters, spec.selection
    archives = _draw() if dataset.generated else _download(spec)
    if not selection.includes("decode"):
        return
    arrays = {role: _decode(spec, role, archives[role]) for role in ROLES}
    if not selection.includes("preprocess"):
        return
    prepared = preprocess.submit(
        **arrays,
        training_sample=parameters.training_sample,
        test_sample=parameters.test_sample,
        labels=list(dataset.labels),
    )
    if not selection.includes("train"):
        return
    trained = _train(prepared, parameters, len(dataset.labels))
    if not selection.includes("calibrate"):
        return
    calibrated = calibrate.submit(
        trained["model"],
        arrays["training_images"],
        arrays["training_labels"],
        prepared["test_inputs"],
        prepared["form"],
        training_sample=parameters.training_sample,
        labels=list(dataset.labels),
        validation_size=parameters.validation_size,
        seeds=[parameters.training(member)["seed"] for member in range(parameters.members)],
    )
    if not selection.includes("evaluate"):
        return
    evaluated = evaluate.submit(
        trained["predictions"],
        calibrated["tested"],
        prepared["training_targets"],
        prepared["test_targets"],
        class_names=list(dataset.class_names),
    )
    if not selection.includes("plot"):
        return
    plot.submit(
        history=trained["history"],
        confusion=evaluated["confusion"],
        model=trained["model"],
        predictions=trained["predictions"],
        **arrays,
        dataset=dataset.title,
        class_names=list(dataset.class_names),
        labels=list(dataset.labels),
        gallery_size=parameters.gallery_size,
        gallery_seed=parameters.gallery_seed,
        mistakes=parameters.mistakes,
        dpi=parameters.dpi,
    )


def train_network(
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
    label
        Name of this call.
    prepared
        What `preprocess` made.
    parameters, classes
        Of the run, and of the dataset.
    member
        Which one of an ensemble.
    checkpoint
        To go on from: changes nothing but the time that it takes.
    """
    return train.with_label(label).submit(
        *(prepared[name] for name in prepared.stage.outputs),
        **({} if checkpoint is None else {"checkpoint": checkpoint}),
        network=parameters.network,
        settings=parameters.training(member),
        classes=classes,
    )


def _draw() -> dict[str, Ref]:
    drawn = draw.with_label("draw-sample").submit(**SAMPLE)
    return {role: drawn[role] for role in ROLES}


def _download(spec: RunSpec) -> dict[str, Ref]:
    return {
        file.role: download.with_label(f"download-{_dashed(file.role)}").submit(
            name=file.name, sha256=file.sha256, size=file.size, mirrors=list(spec.mirrors)
        )["archive"]
        for file in spec.dataset.files
    }


def _decode(spec: RunSpec, role: str, archive: Ref) -> Ref:
    dataset = spec.dataset
    return decode.with_label(f"decode-{_dashed(role)}").submit(
        archive,
        name=role if dataset.generated else dataset.file(role).name,
        transposed=dataset.transposed and role.endswith("_images"),
    )["array"]


def _train(prepared: Handle, parameters: Parameters, classes: int) -> Handle:
    """Train one network, or the members of an ensemble and make one model of them."""
    if parameters.members == 1:
        return train_network("train", prepared, parameters, classes)
    members = [
        train_network(f"train-member-{n + 1}", prepared, parameters, classes, member=n)
        for n in range(parameters.members)
    ]
    return combine.submit(
        models=tuple(each["model"] for each in members),
        histories=tuple(each["history"] for each in members),
        predictions=tuple(each["predictions"] for each in members),
        test_targets=prepared["test_targets"],
        loss=parameters.loss,
        label_smoothing=parameters.label_smoothing,
    )


def _dashed(role: str) -> str:
    return role.replace("_", "-")
