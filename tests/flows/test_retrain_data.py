"""Nights on which the data, not the model, is wrong: held, with the reason, and never promoted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from digitflow.flows.retrain import retrain
from digitflow.storage.store import Store
from digitflow.tasks.agg import Figure
from digitflow.tasks.data.idx import arrays as idx
from digitflow.tasks.data.sample import write_sample
from digitflow.tasks.figures.png import to_png
from digitflow.tasks.stages.plot import plot
from tests.servers.prefect_server import PrefectServer

pytestmark = [pytest.mark.prefect, pytest.mark.usefixtures("on_the_server")]

FILES = {
    "training_images": "train-images-idx3-ubyte.gz",
    "training_labels": "train-labels-idx1-ubyte.gz",
    "test_images": "t10k-images-idx3-ubyte.gz",
    "test_labels": "t10k-labels-idx1-ubyte.gz",
}
SETTINGS = {
    "preset": "quick",
    "hidden_sizes": [32],
    "epochs": 8,
    "validation_size": 0,
    "batch_size": 32,
    "dpi": 40,
}
DOT = to_png(Figure(figsize=(1, 1)), dpi=10)
Data = dict[str, NDArray[Any]]


def drawn(folder: Path, seed: int, training: int = 1_500, test: int = 500) -> Data:
    """Draw a dataset; no two have an image in common."""
    files = write_sample(folder, training=training, test=test, seed=seed)
    return {role: np.asarray(idx.decode(file)) for role, file in files.items()}


def swapped(labels: NDArray[Any]) -> NDArray[Any]:
    """Return labels with 3 and 8 exchanged."""
    return np.where(labels == 3, 8, np.where(labels == 8, 3, labels)).astype(np.uint8)


class Nights:
    """One night after another in one store, each with data of its own."""

    def __init__(self, server: PrefectServer, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.seed = 0

    def night(self, data: Data) -> tuple[str, str]:
        """Retrain, with another seed than the nights before; return the state and the decision."""
        self.seed += 1
        self.folder.mkdir(exist_ok=True)
        for role, name in FILES.items():
            idx.write(self.folder / name, data[role])
        state = retrain(dataset=str(self.folder), **SETTINGS, seed=self.seed, return_state=True)
        asked = {"artifacts": {"flow_run_id": {"any_": [str(state.state_details.flow_run_id)]}}}
        kept = {each["key"]: each for each in self.server.ask("/artifacts/filter", asked)}
        return state.name, kept["digitflow-decision"]["data"]


@pytest.fixture
def nights(
    prefect_server: PrefectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Nights:
    # A night's figures take longer than all the rest of it, and nobody looks at them here.
    monkeypatch.setattr(plot, "function", lambda **given: dict.fromkeys(plot.outputs, DOT))
    return Nights(prefect_server, tmp_path / "digits")


def champion() -> int:
    model = Store().models.champion()
    assert model is not None
    return model.version


def test_what_the_same_feed_does_to_both_sides(nights: Nights, tmp_path: Path) -> None:
    data = drawn(tmp_path / "drawn", seed=1)
    assert nights.night(data)[0] == "Promoted"

    def held(changed: Data, *said: str) -> str:
        state, decision = nights.night({**data, **changed})
        assert (state, champion()) == ("Held", 1), decision
        assert decision.startswith("# Held: ")
        assert "waits for a person, version 1 stays the champion" in decision.splitlines()[0]
        for each in said:
            assert each in decision.lower()
        return decision

    images = {role: np.roll(data[role], 5, axis=2) for role in ("training_images", "test_images")}
    decision = held(images, "the ink's horizontal centre in test images has moved from")
    assert decision.startswith("# Held: test data changed; version 2")
    assert "The champion's accuracy falls from" in decision

    leak = {
        "training_images": np.concatenate([data["training_images"], data["test_images"]]),
        "training_labels": np.concatenate([data["training_labels"], data["test_labels"]]),
    }
    held(leak, "500 of 500 test images are training images, too (at most 2)")

    both = {role: swapped(data[role]) for role in ("training_labels", "test_labels")}
    held(both, "100 of 500 test images of the champion's data are labelled otherwise (at most 2)")

    ten = {role: data[role][:10] for role in ("test_images", "test_labels")}
    held(ten, "10 test images are too few to judge by (at least 250, half of the champion's 500)")

    # Fresh images, of which the labels are swapped: no image is known, and the champion tells.
    fresh = drawn(tmp_path / "fresh", seed=2)
    other = {**fresh, **{r: swapped(fresh[r]) for r in ("training_labels", "test_labels")}}
    decision = held(other, "the champion's accuracy falls from 0.", "on its own test images to 0.")
    assert decision.startswith("# Held: test data changed; ")
    assert "| the same on the champion's own test images |" in decision

    # What does not change test data or labels in a strange way is no reason to wait: fresh test
    # images and more to learn from.
    grown = {
        role: np.concatenate([data[role], fresh[role]]) for role in FILES if "training" in role
    }
    more = {**grown, **{role: fresh[role] for role in FILES if "test" in role}}
    state, decision = nights.night({**data, **more})
    assert (state, champion()) == ("Promoted", 7), decision
    assert "| the same on the champion's own test images |" in decision
    assert "expected on new ones (in 95 of 100 cases" in decision


def test_noise_that_grows_step_by_step_is_held(nights: Nights, tmp_path: Path) -> None:
    """Each night other images, and a few more of the labels wrong: no image shows it."""
    data = drawn(tmp_path / "0", seed=0)
    assert nights.night(data)[0] == "Promoted"
    rng = np.random.default_rng(0)
    states = []
    for step, share in enumerate((0.05, 0.1, 0.15), start=1):
        data = drawn(tmp_path / str(step), seed=step)
        for role in ("training_labels", "test_labels"):
            wrong = rng.random(len(data[role])) < share
            other = (data[role] + rng.integers(1, 10, len(wrong))) % 10
            data[role] = np.where(wrong, other, data[role]).astype(np.uint8)
        state, decision = nights.night(data)
        states.append(state)
        # Whatever is called chance: nothing that is worse by more was ever made the champion.
        if state == "Held":
            assert "accuracy falls from" in decision or "step by step" in decision
    assert states[-1] == "Held", states
