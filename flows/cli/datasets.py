"""`digitflow dataset …`: which datasets there are, adding one, and drawing one."""

from __future__ import annotations

import shutil
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter, validators

from digitflow.flows.cli.arguments import AT_LEAST_ONE, Json
from digitflow.flows.cli.render import (
    Terminal,
    megabytes,
    number,
    plain_console,
    print_fields,
    print_table,
    print_text,
    table,
    word,
)
from digitflow.flows.pipeline import SAMPLE
from digitflow.storage.backends.atomic import sync_folder
from digitflow.storage.backends.os_errors import explaining_full_disk
from digitflow.storage.store import Store
from digitflow.tasks.data.datasets.dataset import describe_labels
from digitflow.tasks.data.datasets.places import display, is_http
from digitflow.tasks.data.datasets.sources import (
    DATASETS,
    DEFAULT_DATASET,
    Dataset,
    DatasetError,
    datasets_folder,
    find,
    known,
)
from digitflow.tasks.engine.events import StageFinished, StageProgressed, StageStarted, emit

_DRAWING = "draw-sample"

dataset = App(name="dataset")


@dataset.command(name="list")
def list_datasets(*, json: Json = False) -> None:
    """List the known datasets, built in and added."""
    datasets = known()
    console = plain_console()
    if json:
        console.print_json(data=[_entry(name, each) for name, each in datasets])
        return
    numbers = map(number, ("training", "test", "pixels", "classes"))
    shown = table(word("dataset"), "title", *numbers, word("kind"))
    problems = []
    for name, found in datasets:
        if isinstance(found, DatasetError):
            problems.append(f"{name} cannot be used: {found}")
            continue
        images = found.images
        size = ("–", "–", "–")
        if images is not None:
            pixels = f"{images.height} x {images.width}"
            size = (f"{images.training:,}", f"{images.test:,}", pixels)
        shown.add_row(name, found.title, *size, str(len(found.labels)), _kind(name, found))
    print_table(console, shown)
    for problem in problems:
        print_text(console, problem, "yellow")
    console.print(f"\nWithout --dataset a run uses {DEFAULT_DATASET}.", style="dim")


@dataset.command(name="show")
def show_dataset(
    name: Annotated[
        str,
        Parameter(
            help="Name of a dataset, manifest (FILE.toml), or directory with the four IDX files."
        ),
    ],
    /,
    *,
    json: Json = False,
) -> None:
    """Show everything that is known about a dataset."""
    found = find(name)
    console = plain_console()
    if json:
        console.print_json(data=_entry(found.name, found))
        return
    objects = Store().objects
    files = []
    for file in found.files:
        here = "in the store" if objects.holds_here(file.sha256) else "not in the store"
        files += [f"{file.name}, {megabytes(file.size)}, {here}", file.sha256]
    fields: dict[str, Any] = {"dataset": found.name, "title": found.title}
    if found.images is not None:
        turned = ", stored transposed" if found.transposed else ""
        fields["training"] = f"{found.images.training:,} images"
        fields["test"] = f"{found.images.test:,} images"
        fields["pixels"] = f"{found.images.height} x {found.images.width}{turned}"
    fields["labels"] = describe_labels(found.labels)
    fields["classes"] = f"{len(found.class_names)}: {', '.join(found.class_names)}"
    fields["files"] = "drawn when they are needed" if found.generated else files
    optional = {
        "mirrors": [display(mirror) for mirror in found.mirrors],
        "licence": found.licence,
        "citation": found.citation,
        **asdict(found.datasheet),
    }
    print_fields(console, fields | {what: value for what, value in optional.items() if value})


@dataset.command
def check(
    name: Annotated[
        str,
        Parameter(
            help="Name of a dataset, manifest (FILE.toml), or directory with the four IDX files."
        ),
    ],
    /,
    *,
    json: Json = False,
) -> int:
    """Look for what is wrong with a dataset: leaks, duplicates, labels, classes, contrast.

    Returns
    -------
    int
        1 if anything looks wrong, else 0.
    """
    from digitflow.flows.check import check_dataset

    found = check_dataset(name)
    console = plain_console()
    if json:
        told = {
            "dataset": found.dataset.name,
            "suspicions": [asdict(each) for each in found.suspicions],
            "measures": asdict(found.measures),
            "looks": asdict(found.looks),
        }
        console.print_json(data=told)
        return int(bool(found.suspicions))
    measures, looks = found.measures, found.looks
    training, test = measures.training, measures.test
    fields = {
        "dataset": found.dataset.name,
        "images": f"{training.images:,} training, {test.images:,} test",
        "shared": f"{measures.shared:,} test images are training images, too",
        "near-duplicates": f"{looks.near:,} of {looks.near_of:,} test images",
        "duplicates": f"{training.repeated:,} training, {test.repeated:,} test",
        "blank": f"{training.blank:,} training, {test.blank:,} test",
        "majority": f"{max(training.classes) / training.images:.1%} training, "
        f"{max(test.classes) / test.images:.1%} test",
        "contrast": f"{training.contrast.mean:.1f} training, {test.contrast.mean:.1f} test, of 255",
        "doubtful labels": f"{looks.mislabelled:,} of {looks.compared:,} training images",
        "constant pixels": f"{looks.constant:,} of {looks.pixels:,}",
    }
    print_fields(console, fields)
    for each in found.suspicions:
        print_text(console, each.what, "yellow")
    if not found.suspicions:
        console.print("Nothing looks wrong.")
    return int(bool(found.suspicions))


@dataset.command
def add(
    place: Annotated[
        str, Parameter(help="Directory with the four IDX files, or the URL prefix they are at.")
    ],
    /,
    *,
    name: Annotated[str, Parameter(help="Name for --dataset.")],
    class_names: Annotated[
        str | None,
        Parameter(
            help="Names of the classes in ascending order of the labels, separated by commas. "
            "Default: the labels."
        ),
    ] = None,
    transposed: Annotated[
        bool, Parameter(help="The files hold the images with rows and columns exchanged.")
    ] = False,
    moving: Annotated[
        bool,
        Parameter(help="The files change by design: each run takes them as they are then."),
    ] = False,
    prefix: Annotated[
        str, Parameter(help="Start of the files' names, if the place holds several datasets.")
    ] = "",
    title: Annotated[
        str | None, Parameter(help="Name in figures and reports. Default: NAME.")
    ] = None,
    replace: Annotated[bool, Parameter(help="Replace an added dataset of that name.")] = False,
) -> None:
    """Name a dataset: write a manifest with the digests of its files as they are now."""
    from digitflow.tasks.data.download.adding import describe, keep

    names = None if class_names is None else [each.strip() for each in class_names.split(",")]
    terminal = Terminal(plain_console())
    with tempfile.TemporaryDirectory(prefix="digitflow-add-") as temporary, terminal.showing():
        folder = Path(temporary)
        downloads = _Downloads()
        described = describe(
            place,
            name,
            folder=folder,
            title=title,
            class_names=names,
            transposed=transposed,
            moving=moving,
            prefix=prefix,
            progress=downloads.progressed,
            say=terminal.say,
        )
        downloads.finish()
        path, written = keep(described, instead=replace)
        if is_http(place):
            _store([folder / file.name for file in described.files])
    if not written:
        what = "and moving" if moving else "with these very files"
        terminal.say(f"{name} is there already, {what}: {path}")
        return
    terminal.say(f"{name}: {path}")
    for file in described.files:
        terminal.say(f"  {file.name}  {megabytes(file.size)}\n    SHA-256 {file.sha256}")
    if moving:
        terminal.say("It is moving: each run takes the files as they are then.")
    else:
        terminal.say(
            "These digests are what was found today: nobody has published others, so they are "
            "trusted. From now on only these very bytes are taken under this name."
        )
    from digitflow.flows.check import check_dataset

    for each in check_dataset(name).suspicions:
        terminal.warn(each.what)
    terminal.say(f"Train on it: digitflow run --dataset {name}", "dim")


@dataset.command
def sample(
    *,
    count: Annotated[int, Parameter(help="Training images.", validator=AT_LEAST_ONE)],
    to: Annotated[Path, Parameter(help="New or empty folder.")],
    test: Annotated[
        int | None,
        Parameter(help="Test images. Default: a sixth of COUNT.", validator=AT_LEAST_ONE),
    ] = None,
    seed: Annotated[
        int,
        Parameter(
            help="Seed of everything random; the default is that of the built-in sample.",
            validator=validators.Number(gte=0),
        ),
    ] = SAMPLE["seed"],
) -> int:
    """Draw a dataset of any size, like the built-in sample, and write its four IDX files.

    The same numbers give the same bytes. The folder is complete at the end, or not there at all.
    """
    test = max(1, count // 6) if test is None else test
    terminal = Terminal(plain_console())
    folder = to.expanduser().absolute()
    _check_new(folder)
    started = time.perf_counter()
    try:
        with explaining_full_disk("the sample set", folder.parent), terminal.showing():
            emit(StageStarted(_DRAWING, ()))
            size = _draw(folder, count, test, seed)
            emit(StageFinished(_DRAWING, cached=False, seconds=time.perf_counter() - started))
    except KeyboardInterrupt:
        terminal.warn(f"stopped; nothing was written to {folder}")
        return 1
    terminal.say(
        f"{count:,} training and {test:,} test images, {megabytes(size)}, seed {seed}: {folder}"
    )
    terminal.say(f"Train on them: digitflow run --dataset {folder}", "dim")
    return 0


def _check_new(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists() or folder.is_symlink():
        found = "one with files in it" if folder.is_dir() else "a file"
        message = f"{folder}: expected a new or an empty folder, found {found}; name another place"
        raise DatasetError(message)


def _draw(folder: Path, training: int, test: int, seed: int) -> int:
    """Draw beside the folder and give the whole its name; return its size in bytes."""
    from digitflow.tasks.data.sample import write_sample

    def report(done: int, total: int) -> None:
        emit(StageProgressed(_DRAWING, done, total, "images"))

    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".drawing-") as temporary:
        new = Path(temporary) / folder.name
        files = write_sample(new, training=training, test=test, seed=seed, progress=report)
        size = sum(file.stat().st_size for file in files.values())
        _check_new(folder)  # once more: drawing may have taken long
        new.rename(folder)  # replaces an empty folder, and no other
    sync_folder(folder.parent)
    return size


class _Downloads:
    """Shows files that are downloaded one after the other."""

    def __init__(self) -> None:
        self._name: str | None = None
        self._since = 0.0

    def progressed(self, name: str, done: int) -> None:
        if name != self._name:
            self.finish()
            self._name, self._since = name, time.perf_counter()
            emit(StageStarted(name, ()))
        emit(StageProgressed(name, done, None, "bytes"))

    def finish(self) -> None:
        if self._name is not None:
            seconds = time.perf_counter() - self._since
            emit(StageFinished(self._name, cached=False, seconds=seconds))
            self._name = None


def _store(files: list[Path]) -> None:
    """Put what was downloaded into the store, so that a run need not download it again."""
    objects = Store().objects
    for file in files:
        with objects.temporary() as copy:
            shutil.copyfile(file, copy)
            objects.add(copy)


def _kind(name: str, dataset: Dataset) -> str:
    if dataset.generated:
        return "generated"
    if dataset.moving:
        return "moving"
    return "built in" if name in DATASETS else "added"


def _entry(name: str, found: Dataset | DatasetError) -> dict[str, Any]:
    if isinstance(found, DatasetError):
        return {"name": name, "kind": "added", "error": str(found)}
    entry = {**asdict(found), "kind": _kind(name, found)}
    entry["mirrors"] = [display(mirror) for mirror in found.mirrors]
    if entry["kind"] in ("added", "moving"):
        entry["manifest"] = str(datasets_folder() / f"{name}.toml")
    return entry
