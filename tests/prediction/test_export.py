"""Models as files: what is in them, what is refused, and the document's examples."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from digitflow.storage.formats.artifacts import Artifact
from digitflow.storage.history.models import ModelVersion
from digitflow.tasks.nn.inference.model_file import to_arrays
from digitflow.tasks.nn.inference.predict import predict, probabilities
from digitflow.tasks.nn.layers.base import Dense, Dropout, Flatten, Layer, ReLU
from digitflow.tasks.nn.layers.convolution import Conv
from digitflow.tasks.nn.network import Network
from digitflow.tasks.nn.randomness import Randomness
from digitflow.tasks.prediction.export import ExportError, export

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("one", "zwei <2>", "три")


def dense() -> list[Layer]:
    return [Dense(20), ReLU(), Dropout(0.5), Dense(9, bias=False), ReLU(), Dense(3)]


def weights_of(layers: list[Layer], shape: tuple[int, ...]) -> dict[str, Any]:
    return to_arrays(Network(layers, shape, randomness=Randomness.from_seed(3)))


def tutorial() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {"weights_1": rng.normal(size=(35, 8)), "weights_2": rng.normal(size=(8, 3))}


def model(**changes: Any) -> ModelVersion:
    fields: dict[str, Any] = {
        "version": 3,
        "created": "2026-01-01T00:00:00+00:00",
        "run": "calm-owl",
        "preset": "mlp",
        "dataset": "MNIST",
        "parameters": {"loss": "cross_entropy"},
        "metrics": {"test_accuracy": 0.75},
        "training": "cd" * 32,
        "data": {"test_inputs": "ef" * 32},
        "class_names": NAMES,
        "weights": Artifact("ab" * 32, 10, "npz"),
        "predictions": Artifact("12" * 32, 20, "npz"),
    }
    return ModelVersion(**{**fields, **changes})


def images(n: int = 30) -> Any:
    return np.random.default_rng(5).integers(0, 256, (n, 5, 7), dtype=np.uint8)


def test_npz_has_every_array_and_needs_no_pickle(tmp_path: Path) -> None:
    weights = weights_of(dense(), (35,))
    export(weights, model(), tmp_path / "model.npz")
    with np.load(tmp_path / "model.npz", allow_pickle=False) as file:
        assert set(file) == set(weights)
        assert all((file[name] == array).all() for name, array in weights.items())


def test_onnx_says_what_it_is(tmp_path: Path) -> None:
    weights = weights_of([Conv(4), ReLU(), Flatten(), Dense(3)], (1, 5, 7))
    export(weights, model(image_size=(5, 7)), tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    logits, shares = session.run(None, {"images": images()})
    assert np.abs(logits - predict(weights, images())).max() <= 1e-5
    assert np.abs(shares.sum(axis=1) - 1).max() <= 1e-6
    about = session.get_modelmeta().custom_metadata_map
    assert tuple(json.loads(about["class_names"])) == NAMES
    assert json.loads(about["metrics"]) == {"test_accuracy": 0.75}
    assert json.loads(about["image_size"]) == [5, 7]
    assert about["weights_sha256"] == "ab" * 32
    assert about["test_inputs_sha256"] == "ef" * 32
    assert about["model_version"] == "3"
    assert onnx.load(tmp_path / "model.onnx").producer_name == "digitflow"


def test_probabilities_are_what_the_loss_of_the_training_makes_them(tmp_path: Path) -> None:
    export(tutorial(), model(parameters={"loss": "squared_error"}), tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (found,) = session.run(["probabilities"], {"images": images()})
    expected = probabilities(predict(tutorial(), images()), "squared_error")
    assert np.abs(found - expected).max() <= 1e-5


@pytest.mark.parametrize("ending", ["npz", "onnx"])
def test_the_same_model_gives_the_same_bytes_and_nothing_beside_them(
    tmp_path: Path, ending: str
) -> None:
    for name in ("first", "second"):
        export(weights_of(dense(), (35,)), model(), tmp_path / f"{name}.{ending}")
    first, second = sorted(tmp_path.iterdir())
    assert first.read_bytes() == second.read_bytes()


class TestRefusal:
    @pytest.mark.parametrize("name", ["model", "model.h5", "model.npz.gz", "model.NPZ"])
    def test_of_other_endings(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(ExportError, match=r"expected a file that ends in \.npz or \.onnx"):
            export({}, model(), tmp_path / name)

    @pytest.mark.parametrize("name", ["model.npz", "model.onnx"])
    def test_of_a_file_that_exists(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_text("mine")
        with pytest.raises(ExportError, match="exists already"):
            export(weights_of(dense(), (35,)), model(), tmp_path / name)
        assert (tmp_path / name).read_text() == "mine"

    def test_of_a_folder_that_does_not(self, tmp_path: Path) -> None:
        with pytest.raises(ExportError, match="there is no folder"):
            export({}, model(), tmp_path / "nowhere" / "model.npz")

    def test_without_the_package_onnx(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "onnx", None)
        with pytest.raises(ExportError, match=r"pip install 'digitflow\[onnx\]'"):
            export(weights_of(dense(), (35,)), model(), tmp_path / "model.onnx")
        assert list(tmp_path.iterdir()) == []


def test_a_crash_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("digitflow.storage.backends.atomic.os.fsync", crash)
    for ending in ("npz", "onnx"):
        with pytest.raises(OSError, match="No space left"):
            export(weights_of(dense(), (35,)), model(), tmp_path / f"model.{ending}")
    assert list(tmp_path.iterdir()) == []


class TestDocument:
    """The examples of docs/export.md, exactly as they stand there, in a process of their own."""

    def answers(self, folder: Path, script: str) -> str:
        text = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
        block = text.partition(f"```python\n# {script}\n")[2].partition("```")[0]
        assert block, f"docs/export.md has no block {script}"
        np.save(folder / "images.npy", images(), allow_pickle=False)
        done = subprocess.run(
            [sys.executable, "-c", block],
            cwd=folder,
            env={"PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    def test_numpy(self, tmp_path: Path) -> None:
        weights = weights_of(dense(), (35,))
        export(weights, model(), tmp_path / "model.npz")
        expected = predict(weights, images()).argmax(axis=1)
        assert len(set(expected)) > 1
        assert self.answers(tmp_path, "predict_with_numpy.py") == str(expected)

    def test_numpy_with_the_tutorials_network(self, tmp_path: Path) -> None:
        export(tutorial(), model(), tmp_path / "model.npz")
        expected = predict(tutorial(), images()).argmax(axis=1)
        assert self.answers(tmp_path, "predict_as_the_tutorial.py") == str(expected)

    def test_onnx(self, tmp_path: Path) -> None:
        weights = weights_of([Conv(4), ReLU(), Flatten(), Dense(3)], (1, 5, 7))
        export(weights, model(), tmp_path / "model.onnx")
        expected = [NAMES[each] for each in predict(weights, images()).argmax(axis=1)]
        assert self.answers(tmp_path, "predict_with_onnx.py") == str(expected)
