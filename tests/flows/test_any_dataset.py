"""The whole pipeline on datasets of every kind, which the tests make themselves."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from digitflow.flows.selection import Selection
from digitflow.storage.store import Store
from digitflow.tasks.data.classes import SampleError
from digitflow.tasks.data.datasets.sources import Dataset, from_directory
from digitflow.tasks.data.idx import arrays as idx
from digitflow.tasks.parameters import Parameters, resolve
from digitflow.tasks.reporting.report import warnings
from tests.walk import Walk, walk, write_dataset

ALL: dict[str, Any] = {"training_sample": 0, "test_sample": 0, "epochs": 1, "dpi": 40}
NETWORKS = {
    "tutorial": resolve("tutorial", {**ALL, "hidden_sizes": "8"}),
    "layers": resolve("mlp", {**ALL, "hidden_sizes": "8"}),
    "cnn": resolve("cnn", {**ALL, "convolution_channels": "2,3", "hidden_sizes": "8"}),
}
UNTIL_EVALUATE = Selection(until="evaluate")


@pytest.fixture
def cache(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def write(folder: Path, part: str, images: np.ndarray, labels: np.ndarray) -> None:
    """Write one half of a dataset."""
    folder.mkdir(exist_ok=True)
    idx.write(folder / f"{part}-images-idx3-ubyte.gz", images)
    idx.write(folder / f"{part}-labels-idx1-ubyte.gz", labels)


def walk_all(cache: Store, dataset: Dataset) -> dict[str, Walk]:
    """Walk with each network; with layers up to the figures, which need no more than one."""
    walks = {}
    for name, parameters in NETWORKS.items():
        selection = Selection() if name == "layers" else UNTIL_EVALUATE
        walks[name] = walk(cache, dataset, parameters, selection)
        outputs = cache.read(walks[name].output("train", "predictions"))["outputs"]
        assert outputs.shape[1] == len(dataset.labels)
        assert np.isfinite(outputs).all()
    return walks


def metrics(cache: Store, done: Walk) -> dict[str, Any]:
    found: dict[str, Any] = cache.read(done.output("evaluate", "metrics"))
    return found


def names(scores: dict[str, Any]) -> list[str]:
    return [row["class"] for row in scores["per_class"]]


KINDS: dict[str, dict[str, Any]] = {
    "letters, counted from 1": {"labels": range(1, 27), "training": 60, "test": 30},
    "gaps": {"labels": [2, 3, 5, 7, 11]},
    "negative": {"labels": [-1, 1], "dtype": np.int8},
    "large": {"labels": [-(2**31), 0, 100_000, 2**31 - 1], "dtype": np.int32},
    "int16 from 0": {"labels": range(3), "dtype": np.int16},
    "47 classes": {"labels": range(47), "training": 200, "test": 94},
    "300 classes": {"labels": range(300), "training": 600, "test": 300, "dtype": np.int32},
    "two classes": {"labels": [0, 1]},
    "one row of pixels": {"shape": (1, 30)},
    "one column of pixels": {"shape": (60, 1)},
    "one pixel": {"shape": (1, 1), "labels": [0, 1]},
    "64 x 64": {"shape": (64, 64)},
    "wide": {"shape": (5, 40)},
    "less to learn from than to test on": {"training": 12, "test": 50},
    "five images": {"training": 5, "test": 5, "labels": range(5)},
    "two images": {"training": 2, "test": 1, "labels": [0, 1], "test_labels": [1]},
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_learnt_tested_and_drawn(cache: Store, tmp_path: Path, kind: str) -> None:
    dataset = from_directory(write_dataset(tmp_path / "data", **KINDS[kind]))
    values = sorted(KINDS[kind].get("labels", range(10)))
    assert dataset.labels == tuple(values)
    for done in walk_all(cache, dataset).values():
        scores = metrics(cache, done)
        assert names(scores) == [str(value) for value in values]
        assert not [each for each in warnings(scores) if "training images" in each]
        confusion = cache.read(done.output("evaluate", "confusion"))
        assert list(confusion.columns) == ["true", *map(str, values)]


@pytest.mark.parametrize("network", NETWORKS)
def test_odd_labels_change_names_and_nothing_else(
    cache: Store, tmp_path: Path, network: str
) -> None:
    odd: Sequence[int] = [-7, 0, 3, 500]
    plain = from_directory(write_dataset(tmp_path / "plain", labels=range(4)))
    other = from_directory(write_dataset(tmp_path / "odd", labels=odd, dtype=np.int32))
    first = walk(cache, plain, NETWORKS[network], UNTIL_EVALUATE)
    second = walk(cache, other, NETWORKS[network], UNTIL_EVALUATE)
    assert "train" not in second.ran  # the same classes, so the same bytes
    one, two = metrics(cache, first), metrics(cache, second)
    assert names(two) == ["-7", "0", "3", "500"]
    for row, other_row in zip(one["per_class"], two["per_class"], strict=True):
        assert {**row, "class": ""} == {**other_row, "class": ""}


@pytest.mark.parametrize("network", NETWORKS)
def test_what_can_be_learnt_is_learnt(cache: Store, tmp_path: Path, network: str) -> None:
    """So labels reach the images that they belong to."""
    files = write_dataset(tmp_path / "data", labels=[3, 40, 41], training=300, test=60)
    rate = 0.01 if network == "tutorial" else 0.02
    changes = {**ALL, "epochs": 12, "learning_rate": rate, "hidden_sizes": "16"}
    preset = {"layers": "quick"}.get(network, network)
    if network == "cnn":
        changes |= {"convolution_channels": "4", "dropout": 0, "batch_size": 16, "elastic": 0}
    done = walk(cache, from_directory(files), resolve(preset, changes), UNTIL_EVALUATE)
    assert metrics(cache, done)["test_accuracy"] > 0.9


@pytest.mark.parametrize("network", NETWORKS)
def test_a_class_that_only_the_test_set_has(cache: Store, tmp_path: Path, network: str) -> None:
    files = write_dataset(
        tmp_path / "data", labels=range(4), test_labels=range(1, 6), training=200, test=50
    )
    done = walk(cache, from_directory(files), NETWORKS[network], UNTIL_EVALUATE)
    scores = metrics(cache, done)
    assert names(scores) == list("012345")
    assert scores["per_class"][5]["training_images"] == 0
    assert scores["per_class"][5]["support"] == 10
    assert scores["per_class"][0]["support"] == 0
    assert warnings(scores)[:1] == [
        "2 classes have test images but no training images: 4, 5. "
        "20 of 50 test images are unlikely to be classified correctly."
    ]


def test_a_class_that_the_sample_of_the_training_set_lacks(cache: Store, tmp_path: Path) -> None:
    dataset = from_directory(write_dataset(tmp_path / "data"))
    parameters = resolve("tutorial", {**ALL, "training_sample": 9, "hidden_sizes": "8"})
    scores = metrics(cache, walk(cache, dataset, parameters, UNTIL_EVALUATE))
    assert warnings(scores)[0].startswith("1 class has test images but no training images: 9. 2 of")


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("values", [(0, 0), (255, 255), (0, 1), (0, 255)])
def test_constant_and_two_valued_pixels(
    cache: Store, tmp_path: Path, network: str, values: tuple[int, int]
) -> None:
    rng = np.random.default_rng(0)
    for part in ("train", "t10k"):
        images = rng.choice(np.array(values, np.uint8), (20, 6, 5))
        write(tmp_path / "data", part, images, (np.arange(20) % 2).astype(np.uint8))
    selection = Selection() if values == (0, 0) else UNTIL_EVALUATE
    done = walk(cache, from_directory(tmp_path / "data"), NETWORKS[network], selection)
    assert np.isfinite(metrics(cache, done)["test_loss"])


@pytest.mark.parametrize("network", NETWORKS)
def test_images_that_are_stored_transposed(cache: Store, tmp_path: Path, network: str) -> None:
    upright = from_directory(write_dataset(tmp_path / "upright", shape=(9, 7)))
    for part in ("train", "t10k"):
        images = idx.decode(tmp_path / "upright" / f"{part}-images-idx3-ubyte.gz")
        labels = idx.decode(tmp_path / "upright" / f"{part}-labels-idx1-ubyte.gz")
        write(tmp_path / "turned", part, np.ascontiguousarray(images.swapaxes(1, 2)), labels)
    turned = from_directory(tmp_path / "turned", transposed=True)
    assert turned.images == upright.images
    walk(cache, upright, NETWORKS[network])
    done = walk(cache, replace(turned, title="upright"), NETWORKS[network])
    # Once turned the bytes are the same, and all that follows is served, figures included.
    assert [label for label in done.ran if not label.startswith("download")] == [
        "decode-training-images",
        "decode-test-images",
    ]


@pytest.mark.parametrize("network", NETWORKS)
def test_names_of_classes_change_no_training(cache: Store, tmp_path: Path, network: str) -> None:
    dataset = from_directory(write_dataset(tmp_path / "data", labels=[1, 2, 3]))
    odd = ("a very long name of a class, longer than any figure is wide" * 2, "お", "$x_1^2$ [b]")
    walk(cache, dataset, NETWORKS[network])
    done = walk(cache, replace(dataset, class_names=odd), NETWORKS[network])
    assert done.ran == ["evaluate", "plot"]
    assert names(metrics(cache, done)) == list(odd)
    done = walk(cache, replace(dataset, class_names=odd, title="another"), NETWORKS[network])
    assert done.ran == ["plot"]


def test_a_batch_and_a_gallery_larger_than_the_data(cache: Store, tmp_path: Path) -> None:
    dataset = from_directory(write_dataset(tmp_path / "data", training=7, labels=range(3)))
    changes = {**ALL, "batch_size": 4096, "gallery_size": 50, "mistakes": 100, "hidden_sizes": "4"}
    walk(cache, dataset, resolve("mlp", changes))


def test_five_images_and_a_validation_set(cache: Store, tmp_path: Path) -> None:
    dataset = from_directory(write_dataset(tmp_path / "data", training=5, labels=[0, 1]))

    def train(**changes: Any) -> Walk:
        return walk(cache, dataset, resolve("mlp", {**ALL, **changes}), UNTIL_EVALUATE)

    history = cache.read(train().output("train", "history"))
    assert history["validation_loss"].isna().all()  # a tenth of 5 is none
    history = cache.read(train(validation_size=3).output("train", "history"))
    assert history["validation_loss"].notna().all()
    with pytest.raises(ValueError, match="0 to 3 can be held back; asked for 4"):
        train(validation_size=4)
    with pytest.raises(ValueError, match="5 training images of 2 classes are too few"):
        train(patience=2)


def parameters_of(network: str, **changes: Any) -> Parameters:
    return NETWORKS[network].model_copy(update=changes)


@pytest.mark.parametrize("network", NETWORKS)
def test_fewer_images_than_asked_for(cache: Store, tmp_path: Path, network: str) -> None:
    dataset = from_directory(write_dataset(tmp_path / "data"))
    with pytest.raises(SampleError, match="expected at most 20, the test images that the data"):
        walk(cache, dataset, parameters_of(network, test_sample=21), UNTIL_EVALUATE)


@pytest.mark.parametrize("network", NETWORKS)
def test_a_label_that_the_manifest_does_not_name(
    cache: Store, tmp_path: Path, network: str
) -> None:
    dataset = from_directory(write_dataset(tmp_path / "data", labels=range(1, 4)))
    short = replace(dataset, labels=(1, 3), class_names=("1", "3"))
    with pytest.raises(SampleError, match="training labels should be 1, 3, found 2 at index 1"):
        walk(cache, short, NETWORKS[network], UNTIL_EVALUATE)


def test_a_manifest_whose_files_do_not_fit_together(cache: Store, tmp_path: Path) -> None:
    """A directory is looked into beforehand; a manifest's files are seen when they have come."""
    dataset = from_directory(write_dataset(tmp_path / "data"))
    other = from_directory(write_dataset(tmp_path / "other", shape=(7, 9)))
    mixed = replace(
        dataset,
        mirrors=(*dataset.mirrors, *other.mirrors),
        files=(*dataset.files[:2], *other.files[2:]),
    )
    with pytest.raises(SampleError, match="of one size, found 9 x 7 and 7 x 9 pixels"):
        walk(cache, mixed, NETWORKS["layers"], UNTIL_EVALUATE)
