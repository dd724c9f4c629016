"""A run's model card and its dataset's datasheet: what they ask, answered by what the run knows.

The questions are those of M. Mitchell et al., "Model cards for model reporting", FAT* 2019,
arXiv:1810.03993, and of T. Gebru et al., "Datasheets for datasets", arXiv:1803.09010. Of what only
people know it is said where they write it. Light: it opens no array and needs no Prefect.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from digitflow.storage.code.commit import COMMIT
from digitflow.tasks.data.datasets.dataset import Dataset, describe_labels
from digitflow.tasks.data.datasets.places import display
from digitflow.tasks.nn.proportions import wilson
from digitflow.tasks.parameters import as_typed
from digitflow.tasks.reporting.report import warnings
from digitflow.tasks.reporting.run_summary import RunSummary

# Class names in a sentence, classes and confusions that are named.
_LISTED, _WEAKEST, _CONFUSIONS = 26, 3, 5


@dataclass(frozen=True)
class Answer:
    """One question of a card.

    Attributes
    ----------
    question
        A few words.
    said
        What is known, a paragraph each.
    missing
        Where in the dataset's manifest a person writes what only people know; empty if somebody
        has.
    """

    question: str
    said: tuple[str, ...]
    missing: str = ""


@dataclass(frozen=True)
class Training:
    """What the records of the stage `train` say of a run's model, whichever run computed it.

    Attributes
    ----------
    run, created
        Name of the run that trained, and when that was done.
    seconds
        How long it took, all members of an ensemble together.
    made_with
        Versions of what it was computed with, and the commit where there was one.
    """

    run: str
    created: str
    seconds: float
    made_with: Mapping[str, str]


def model_card(
    summary: RunSummary,
    dataset: Dataset,
    confusion: Sequence[Sequence[str]],
    training: Training | None,
    changed: Mapping[str, Any],
) -> list[Answer]:
    """Return the model card of a run that trained a model.

    Parameters
    ----------
    summary, dataset
        The run, and what it was trained and tested on.
    confusion
        Rows of the confusion matrix as CSV, its header first; none if nothing was tested.
    training
        What is on record of the training; None if that is lost.
    changed
        Parameters that differ from the preset's.
    """
    metrics, sheet = summary.metrics, dataset.datasheet
    return [
        Answer("Model", tuple(_model(summary, dataset))),
        Answer("Trained", tuple(_trained(summary, training))),
        _told("Terms and contact", sheet.contact, "datasheet.contact"),
        _told("Intended use", sheet.uses, "datasheet.uses", _task(dataset)),
        Answer("Limits", tuple(_limits(summary, dataset))),
        Answer("Factors", (_FACTORS,)),
        Answer("Accuracy", tuple(_accuracy(metrics))),
        Answer("Weakest classes", tuple(_weakest(metrics))),
        Answer("Most frequent confusions", tuple(_confusions(confusion))),
        Answer("Calibration and unsure answers", tuple(_sureness(metrics))),
        Answer("Evaluation data", (*_part(dataset, metrics, "test"), _SHEET)),
        Answer("Training data", (*_part(dataset, metrics, "training"), _SHEET)),
        _told("People", sheet.people, "datasheet.people"),
        Answer("Cost", tuple(_cost(summary, training))),
        Answer("How to run it again", tuple(_again(summary, changed))),
    ]


def datasheet(summary: RunSummary, dataset: Dataset) -> list[Answer]:
    """Return the datasheet of what a run was trained and tested on."""
    sheet, metrics = dataset.datasheet, summary.metrics
    mirrors = tuple(display(mirror) for mirror in dataset.mirrors)
    drawn = ("Drawn by digitflow itself, from a seed; nothing is fetched.",)
    return [
        _told("Motivation", sheet.motivation, "datasheet.motivation"),
        Answer("Composition", tuple(_composition(dataset, metrics))),
        _told("Collection", sheet.collection, "datasheet.collection"),
        _told("People", sheet.people, "datasheet.people"),
        _told("Labelling and cleaning", sheet.labelling, "datasheet.labelling"),
        Answer("Prepared by the run", tuple(_prepared(dataset))),
        Answer("What was checked", tuple(_checked(summary, dataset))),
        _told("Uses", sheet.uses, "datasheet.uses"),
        Answer("Where it is to be had", drawn if dataset.generated else mirrors),
        _told("Licence", dataset.licence, "licence"),
        _told("Citation", dataset.citation, "citation"),
        _told("Maintenance", sheet.maintenance, "datasheet.maintenance"),
        _told("Contact", sheet.contact, "datasheet.contact"),
    ]


def class_counts(dataset: Dataset, metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each class: its label, and how many images of it the run used."""
    return [
        {
            "label": label,
            "class": row["class"],
            "training images": row["training_images"],
            "test images": row["support"],
        }
        for label, row in zip(dataset.labels, metrics["per_class"], strict=True)
    ]


def files(summary: RunSummary, dataset: Dataset) -> list[dict[str, Any]]:
    """Return a row for each file of the data, with its digest."""
    named = [(file.name, file.size, file.sha256) for file in dataset.files]
    drawn = [
        (name, each.size, each.sha256)
        for stage in summary.stages
        if stage.stage == "draw"
        for name, each in stage.outputs.items()
    ]
    return [
        {"file": name, "bytes": f"{size:,}", "SHA-256": sha256}
        for name, size, sha256 in [*named, *drawn]
    ]


def share(hits: int, images: int) -> str:
    """Return a share of images with its 95 % interval: ``78.40 % (75.74 to 80.84 %) of 1,000``."""
    middle, margin = wilson(hits, images)
    low, high = 100 * (middle - margin), 100 * (middle + margin)
    return f"{100 * hits / images:.2f} % ({low:.2f} to {high:.2f} %) of {images:,}"


_FACTORS = (
    "Measured by class, above under By class. The files say nothing else of an image, such as who "
    "wrote it or what took it, so nothing is known of differences between those."
)
_SHEET = "What they are, and what of them was checked, is in the datasheet below."


def _told(question: str, text: str, key: str, *known: str) -> Answer:
    """Answer with what is known, and with what people have written; without that, say where."""
    lines = tuple(text.splitlines())
    return Answer(question, (*known, *lines), "" if lines else key)


def _model(summary: RunSummary, dataset: Dataset) -> Iterator[str]:
    settings = summary.parameters
    version = "" if summary.model is None else f", version {summary.model} in its store"
    yield f"Preset {summary.preset}, trained on {dataset.title} by run {summary.name}{version}."
    sizes = [
        f"{name} {', '.join(map(str, values)) or 'none'}"
        for name, values in (
            ("Convolution channels", settings["convolution_channels"]),
            ("hidden units", settings["hidden_sizes"]),
        )
    ]
    if settings["members"] > 1:
        yield f"{settings['members']} networks whose probabilities are averaged."
    yield (
        f"{'; '.join(sizes)}; loss {settings['loss']}; optimizer {settings['optimizer']}; seed "
        f"{settings['seed']}. All settings are below under Parameters."
    )


def _trained(summary: RunSummary, training: Training | None) -> Iterator[str]:
    if training is None:
        return
    yield f"{training.created}, by run {training.run}."
    made_with = dict(training.made_with)
    yield f"Commit {made_with.pop(COMMIT, 'not on record')}."
    if made_with:
        yield f"With {', '.join(f'{k} {v}' for k, v in made_with.items())}."
    yield "Digests of each stage's code are below under Stages, packages under Versions."


def _task(dataset: Dataset) -> str:
    names = ", ".join(dataset.class_names[:_LISTED])
    more = "" if len(dataset.class_names) <= _LISTED else ", …"
    return (
        f"Telling the {len(dataset.class_names)} classes of {dataset.title} apart ({names}{more}), "
        "in images that are made as its own are."
    )


def _limits(summary: RunSummary, dataset: Dataset) -> Iterator[str]:
    metrics = summary.metrics
    yield (
        f"Whatever it is shown, its answer is one of {len(dataset.class_names)} classes. Of images "
        "from elsewhere, such as photographs or other writers' digits, this run measured nothing."
    )
    if metrics and "unsure" not in metrics:
        yield (
            "It cannot tell when it is unsure: fewer than 100 training images were left that it "
            "did not learn from."
        )
    yield from warnings(metrics, summary.notices)


def _accuracy(metrics: Mapping[str, Any]) -> Iterator[str]:
    if not metrics:
        return
    images = metrics["test_samples"]
    right = share(images - metrics["errors"], images)
    yield f"{right} test images; in brackets, the 95 % interval."
    yield (
        f"Macro F1 {metrics['macro_f1']:.4f}, mean loss {metrics['test_loss']:.4f}. The answer is "
        "the class with the largest output."
    )


def _weakest(metrics: Mapping[str, Any]) -> Iterator[str]:
    tested = [row for row in metrics.get("per_class", []) if row["support"]]
    for row in sorted(tested, key=lambda row: float(row["recall"]))[:_WEAKEST]:
        hits = round(row["recall"] * row["support"])
        yield f"{row['class']}: recall {share(hits, row['support'])}"


def _confusions(confusion: Sequence[Sequence[str]]) -> Iterator[str]:
    found = [
        (int(count), true, name)
        for (true, *counts) in confusion[1:]
        for name, count in zip(confusion[0][1:], counts, strict=True)
        if true != name and int(count)
    ]
    for count, true, name in sorted(found, key=lambda each: -each[0])[:_CONFUSIONS]:
        yield f"{true} taken for {name}: {count:,}"
    if confusion and not found:
        yield "None."


def _sureness(metrics: Mapping[str, Any]) -> Iterator[str]:
    if "unsure" not in metrics:
        return
    unsure = share(metrics["unsure"], metrics["test_samples"])
    yield (
        f"Mean probability of the answers {100 * metrics['mean_confidence']:.2f} %, at an accuracy "
        f"of {100 * metrics['test_accuracy']:.2f} %; expected calibration error "
        f"{100 * metrics['calibration_error']:.2f} % in 15 bins."
    )
    yield f"Unsure: {unsure} test images, {metrics['unsure_errors']:,} of them wrong."


def _part(dataset: Dataset, metrics: Mapping[str, Any], part: str) -> Iterator[str]:
    name = {"test": "support", "training": "training_images"}[part]
    used = sum(row[name] for row in metrics.get("per_class", []))
    there = None if dataset.images is None else getattr(dataset.images, part)
    whole = "" if there is None or there <= used else f", the first of {there:,}"
    if used:
        yield f"{used:,} {part} images of {dataset.title}{whole}."


def _composition(dataset: Dataset, metrics: Mapping[str, Any]) -> Iterator[str]:
    images = dataset.images
    if images is not None:
        yield (
            f"By its manifest {images.training:,} training and {images.test:,} test images, grey, "
            f"{images.height} x {images.width} pixels of a byte, each with one label "
            f"({describe_labels(dataset.labels)})."
        )
    for part in ("training", "test"):
        yield from (f"Used by the run: {said}" for said in _part(dataset, metrics, part))


def _prepared(dataset: Dataset) -> Iterator[str]:
    if dataset.transposed:
        yield "The files hold rows and columns exchanged; the images were turned upright."
    yield (
        "Pixels as they are in the files, divided by 255 while training, and standardised if the "
        "parameter standardization says so; labels numbered from 0 in their order. Nothing was "
        "left out or mended."
    )


def _checked(summary: RunSummary, dataset: Dataset) -> Iterator[str]:
    if not dataset.generated:
        yield "The SHA-256 of each file, as below."
    yield (
        "Every byte of the files is accounted for, images and labels are equally many, and each "
        "label is one of the classes."
    )
    if summary.decision:
        yield "What the gate measured of the data is in its decision, at the top."
    check = shlex.join(["digitflow", "dataset", "check", summary.named])
    yield (
        "Not by the training itself: test images among the training images, duplicates, blank "
        f"images, doubtful labels. {check} looks for those."
    )
    if dataset.moving:
        yield "The files change by design: these are those of the run."


def _cost(summary: RunSummary, training: Training | None) -> Iterator[str]:
    yield f"This run: {summary.seconds:,.1f} s; the time of each stage is below under Stages."
    if training is not None:
        yield f"Training, when it was computed: {training.seconds:,.1f} s."
    if summary.workers:
        yield f"Trained by {', '.join(f'{k} {v}' for k, v in summary.workers.items())}."
    yield "Energy was not measured."


def _again(summary: RunSummary, changed: Mapping[str, Any]) -> Iterator[str]:
    words = ["digitflow", "run", "--dataset", summary.named, "--preset", summary.preset]
    settings = [f"{name}={as_typed(value)}" for name, value in changed.items()]
    yield shlex.join([*words, *(["--set", *settings] if settings else [])])
    if summary.model is not None:
        yield f"From the records of its store: digitflow reproduce v{summary.model}"
