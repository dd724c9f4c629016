"""The tutorial's nine next steps, each with its command and what it brings: `docs/next-steps.md`.

    python benchmarks/next_steps.py    # half an hour on one core; again, from the store: seconds

Each step's settings are searched on validation images (`benchmarks/searches/`), and the best are
trained with five other seeds and tried on the 10,000 test images. One process, one BLAS thread.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
if str(PROJECT) not in sys.path:
    sys.path.insert(0, str(PROJECT))

from benchmarks.kernels import use_own_kernels  # noqa: E402
from benchmarks.search import SMOKE, file_of, run_search, spread  # noqa: E402
from benchmarks.trainings import Trained, Trainings  # noqa: E402
from digitflow.storage.store import Store  # noqa: E402
from digitflow.tasks.data.datasets.sources import DEFAULT_DATASET  # noqa: E402
from digitflow.tasks.parameters import DEFAULT_PRESET, as_typed, resolve  # noqa: E402
from digitflow.tasks.sweeps.file import read_sweep  # noqa: E402
from digitflow.tasks.sweeps.ranking import scores_of  # noqa: E402

DOCUMENT = PROJECT / "docs" / "next-steps.md"
MARK = "<!-- From here on made by benchmarks/next_steps.py -->\n"
# None of them was searched with.
SEEDS = (1, 2, 3, 4, 5)
ALL_TEST_IMAGES = {"test_sample": 0}


@dataclass(frozen=True)
class Step:
    """One of the tutorial's suggestions.

    Attributes
    ----------
    title
        What is done.
    why
        Two sentences on what it brings.
    settings
        That make the step; with a search, its file has them.
    search
        Name of the search for the other settings, if there is one.
    data
        What the tutorial's own network is given to learn from, beside it.
    """

    title: str
    why: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    search: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


START = Step(
    "The start: layers",
    "The tutorial's settings in a network of layers, which has ReLU's correct derivative. Every "
    "step below with `network=layers` changes this one.",
    {"network": "layers"},
)
STEPS = (
    Step(
        "More samples",
        "Sixty times as many images leave no room to learn them by heart. The tutorial's network "
        "needs ReLU's correct derivative for it, and gains nothing without.",
        {"training_sample": 0, "relu_derivative": "correct"},
        data={"training_sample": 0},
    ),
    Step(
        "Mini-batches",
        "One product of matrices is faster than many of a vector, and the gradient is less noisy. "
        "It is the mean over the batch, so the rate is larger than the tutorial's for a step "
        "and smaller for an image.",
        search="mini-batches",
    ),
    Step(
        "More hidden layers",
        "A second layer builds on what the first has found. 1,000 images give it little to find.",
        search="hidden-layers",
    ),
    Step(
        "Softmax and cross-entropy",
        "Cross-entropy punishes a confident mistake, which the squared error hardly does. Softmax "
        "makes probabilities of the outputs.",
        search="cross-entropy",
    ),
    Step(
        "Convolutional layers",
        "A small kernel learns a stroke from wherever it is in an image. That is worth most "
        "where images are few.",
        search="convolution",
    ),
    Step(
        "Longer training, early stopping, regularisation",
        "Training ends when the validation loss has not improved for 10 epochs, and the best "
        "epoch's weights are kept. Beside dropout, images that are shifted by up to a pixel, "
        "another way in every epoch, regularise.",
        search="early-stopping",
    ),
    Step(
        "A validation set",
        "It is no gain by itself, since 200 images fewer are learnt from. It buys an estimate "
        "that costs no test image; by it every other step here was tuned.",
        {
            "network": "layers",
            "batch_size": 16,
            "learning_rate": 0.1,
            "dropout": 0.2,
            "validation_size": 200,
        },
    ),
    Step(
        "Batch normalisation",
        "Units keep their scale while the layers below them change, so that larger rates work. "
        "It wants a loss and a schedule that suit it: with the squared error and a constant rate "
        "it fell below the start.",
        search="batch-normalization",
    ),
    Step(
        "Learning rate and hidden size",
        "Each is a row of a grid, and the validation set chooses. `digitflow sweep` does that for "
        "any parameter.",
        search="rate-and-size",
    ),
)


@dataclass(frozen=True)
class Result:
    """What a step came to: its settings, trainings of it, and of the tutorial's network."""

    step: Step
    settings: Mapping[str, Any]
    own: Sequence[Trained]
    tutorials: Sequence[Trained]

    def command(self) -> str:
        """Return what a reader types."""
        words = [f"{name}={as_typed(value)}" for name, value in self.settings.items()]
        return " ".join(["digitflow run --set", *words])

    def row(self, name: str) -> str:
        """Return the row of the table. The least of the times: what else runs only ever adds."""
        own, tutorials = (
            percent([each.test_accuracy() for each in trained])
            for trained in (self.own, self.tutorials)
        )
        seconds = min(each.seconds for each in self.own)
        return f"| {name} | **{own}** | {tutorials} | {seconds:,.1f} s |"

    def section(self, name: str) -> str:
        """Return what is said about the step."""
        why = self.step.why
        if self.settings.get("validation_size"):
            patience = self.settings.get("patience", 0)
            said = [scores_of(each.history, patience)["validation_accuracy"] for each in self.own]
            why += f" The validation images say {percent(said)}."
        paragraphs = [f"## {name}", f"```console\n{self.command()}\n```", wrapped(why)]
        if self.step.search is not None:
            trainings = len(read_sweep(file_of(self.step.search)).points())
            place = f"../benchmarks/searches/{self.step.search}"
            paragraphs.append(
                f"Chosen from [{trainings} trainings]({place}.toml): [what they "
                f"reached]({place}.csv)."
            )
        return "\n\n".join(paragraphs)


def wrapped(text: str) -> str:
    """Return a paragraph in lines of the documents' length."""
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)


def percent(values: Sequence[float]) -> str:
    """Return mean and spread of shares, such as ``81.4 ± 0.5 %``; of one, itself."""
    own = f" ± {100 * spread(values):.1f} %" if len(values) > 1 else " % (one seed)"
    return f"{100 * statistics.mean(values):.1f}{own}"


def settings_of(step: Step, best: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the step's command sets.

    After a search all images are learnt from, as nothing is chosen any more; unless early
    stopping needs some for itself.
    """
    if step.search is None:
        return {**step.settings, **ALL_TEST_IMAGES}
    settings = {**read_sweep(file_of(step.search)).settings, **best}
    if not settings.get("patience"):
        settings.pop("validation_size", None)
    return {**settings, **ALL_TEST_IMAGES}


def measure(cache: Store, step: Step, *, smoke_on: str | None = None) -> Result:
    """Search for a step's settings, and train them and the tutorial's network.

    Parameters
    ----------
    cache
        The store, in use.
    step
        Which one.
    smoke_on
        Do it tiny, with one seed, on this dataset.
    """
    best: Mapping[str, Any] = {}
    if step.search is not None:
        best = run_search(cache, file_of(step.search), smoke_on=smoke_on).values
    settings = settings_of(step, best)
    trainings = Trainings(cache, smoke_on or DEFAULT_DATASET)

    def train(values: Mapping[str, Any]) -> list[Trained]:
        if smoke_on is None:
            every = [{**values, "seed": seed} for seed in SEEDS]
        else:
            tiny = {name: size for name, size in SMOKE.items() if name != "validation_size"}
            tiny |= {name: SMOKE[name] for name in ("validation_size",) if name in values}
            every = [{**values, **tiny}]
        return [trainings.train(resolve(DEFAULT_PRESET, each)) for each in every]

    rivals = train({**step.data, **ALL_TEST_IMAGES})
    return Result(step, settings, train(settings), rivals)


def written(results: Sequence[Result]) -> str:
    """Return the part of the document that is made here: the table, and a section a step."""
    table = [
        "| next step | test accuracy | the tutorial's on the same data | training |",
        "|---|---|---|---:|",
    ]
    names = [f"{n}. {each.step.title}" if n else each.step.title for n, each in enumerate(results)]
    table += [each.row(name) for name, each in zip(names, results, strict=True)]
    sections = [each.section(name) for name, each in zip(names, results, strict=True)]
    return "\n\n".join(["\n".join(table), *sections]) + "\n"


def main() -> None:
    """Measure every step and write the document's table and sections."""
    use_own_kernels(1)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", metavar="DATASET", help="tiny, printed instead of written")
    smoke_on = parser.parse_args().smoke
    cache = Store()
    cache.connect()
    with cache.in_use():
        text = written([measure(cache, step, smoke_on=smoke_on) for step in (START, *STEPS)])
    if smoke_on is not None:
        print(text)
        return
    before = DOCUMENT.read_text(encoding="utf-8").partition(MARK)[0]
    DOCUMENT.write_text(before + MARK + "\n" + text, encoding="utf-8")


if __name__ == "__main__":
    main()
