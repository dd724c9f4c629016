"""The searches that settings were chosen by can be run again, as they are."""

import csv
import math
from pathlib import Path

import pytest

from benchmarks.search import SEARCHES, Setting, file_of, search
from benchmarks.trainings import Trainings
from digitflow.flows.cli.app import main
from digitflow.flows.cli.arguments import SweepArguments
from digitflow.storage.store import Store
from digitflow.tasks.nn.presets import PRESETS
from digitflow.tasks.nn.training.reports import TrainingDivergedError
from digitflow.tasks.parameters import ParameterError
from digitflow.tasks.sweeps.file import SweepFile, read_sweep
from digitflow.tasks.sweeps.grid import plan_points, shown
from tests.mnist import ROOT

FILES = sorted(SEARCHES.glob("*.toml"))


def test_there_is_one_for_every_preset() -> None:
    assert {each.stem for each in FILES} >= set(PRESETS)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_command_takes_it(file: Path) -> None:
    arguments = SweepArguments().with_file(file)
    options = arguments.spec().options
    points = plan_points(options.preset, options.overrides, list(arguments.grid or ()))
    assert [each.parameters for each in points] == [
        each.parameters for each in read_sweep(file).points()
    ]
    assert {each.parameters.validation_size for each in points} != {0}
    assert len({each.parameters.seed for each in points}) > 1


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_its_table_has_a_row_a_setting(file: Path) -> None:
    sweep = read_sweep(file)
    names = [name for name in sweep.grid if name != "seed"]
    with file.with_suffix(".csv").open(encoding="utf-8") as table:
        rows = list(csv.DictReader(table))
    found = [tuple(row[name] for name in names) for row in rows]
    points = sweep.points()
    assert set(found) == {tuple(shown(each.values[name]) for name in names) for each in points}
    assert len(found) == len(set(found)) == len(points) / len(sweep.grid["seed"])
    assert {int(row["seeds"]) for row in rows} == {len(sweep.grid["seed"])}
    reached = [float(row["validation_accuracy"]) for row in rows]
    assert reached == sorted(reached, reverse=True)


@pytest.mark.parametrize("name", PRESETS)
def test_a_presets_search_tries_what_the_preset_has(name: str) -> None:
    grid = read_sweep(file_of(name)).grid
    for parameter, tried in grid.items():
        if parameter != "seed":
            present = PRESETS[name][parameter]
            assert shown(present) in [shown(value) for value in tried], parameter


def test_the_mean_over_the_seeds_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reached = {(0.1, 0): 0.9, (0.1, 1): 0.5, (0.2, 0): 0.8, (0.2, 1): 0.8, (0.3, 0): 1.0}

    def scores(point: tuple[float, int], patience: int) -> dict[str, float]:
        return {"validation_accuracy": reached[point], "validation_loss": 1.0}

    class Fake:
        def train(self, parameters: object) -> object:
            point = (parameters.learning_rate, parameters.seed)  # type: ignore[attr-defined]
            if point == (0.3, 1):
                raise TrainingDivergedError(
                    epoch=0, batch=1, loss=math.nan, gradient_norm=math.nan, learning_rate=0.3
                )
            return type("Trained", (), {"history": point})

    monkeypatch.setattr("benchmarks.search.scores_of", scores)
    points = plan_points("quick", {}, ["learning_rate=0.1,0.2,0.3", "seed=0,1"])
    first, second, diverged = search(Fake(), points)  # type: ignore[arg-type]
    assert (first.values, second.values) == ({"learning_rate": 0.2}, {"learning_rate": 0.1})
    assert diverged == Setting({"learning_rate": 0.3}, [1.0, 0.0], [1.0, math.inf])
    assert second == Setting({"learning_rate": 0.1}, [0.9, 0.5], [1.0, 1.0])
    assert second.row()["spread"] == "0.2828"


def test_a_training_is_trained_once(tmp_path: Path) -> None:
    trainings = Trainings(Store(tmp_path / "store"), "sample")
    tiny = {"training_sample": 80, "test_sample": 20, "validation_size": 20, "epochs": 1}
    (point,) = SweepFile("quick", "sample", tiny, {"seed": [3]}).points()
    first, again = trainings.train(point.parameters), trainings.train(point.parameters)
    assert again.seconds == first.seconds > 0
    assert 0 <= first.test_accuracy() <= 1
    assert first.test_accuracy() == again.test_accuracy()


class TestFile:
    """What `digitflow sweep FILE` reads."""

    TEXT = """
        preset = "mlp"
        dataset = "sample"
        [set]
        epochs = 3
        convolution_channels = [8, 16]
        nesterov = false
        [grid]
        hidden_sizes = [[64], [64, 32], []]
        learning_rate = "0.001..0.1"
        bias = [true, false]
        """

    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        path = tmp_path / "sweep.toml"
        path.write_text(self.TEXT)
        return path

    def test_is_read_as_it_would_be_typed(self, file: Path) -> None:
        typed = SweepArguments().with_file(file)
        assert (typed.preset, typed.dataset) == ("mlp", "sample")
        assert typed.assignments == ["epochs=3", "convolution_channels=8,16", "nesterov=false"]
        rows = ["hidden_sizes=64,64-32,none", "learning_rate=0.001..0.1", "bias=true,false"]
        assert typed.grid == rows

    def test_what_is_typed_takes_its_place(self, file: Path) -> None:
        typed = SweepArguments(
            dataset="mnist",
            assignments=["epochs=9", "dropout=0.1"],
            grid=["learning_rate=0.1,0.2"],
            random=2,
        ).with_file(file)
        assert (typed.dataset, typed.random) == ("mnist", 2)
        changed = ["convolution_channels=8,16", "nesterov=false", "epochs=9", "dropout=0.1"]
        assert typed.assignments == changed
        rows = ["hidden_sizes=64,64-32,none", "bias=true,false", "learning_rate=0.1,0.2"]
        assert typed.grid == rows

    def test_a_preset_is_named_once(self, file: Path) -> None:
        with pytest.raises(ParameterError, match="has its own, mlp; change it there"):
            SweepArguments(preset="cnn").with_file(file)

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("x = ", "expected a TOML file with preset, dataset, and the tables set and grid: "),
            ("[grid]\nseed = [1]", "preset: expected the name of one, found None"),
            ("preset = 3", "preset: expected the name of one, found 3"),
            ("preset = 'mlp'\ndataset = 3", "dataset: expected the name of one, found 3"),
            ("preset = 'mlp'\ngrids = 3", "grids: no such key; expected preset, dataset, and"),
            ("preset = 'mlp'\nset = 3", r"set: expected a table, \[set\], found 3"),
            ("preset = 'mlp'\ngrid = 3", r"grid: expected a table, \[grid\], found 3"),
            ("preset = 'mlp'\n[grid]\nseed = 3", "grid: seed: expected a list of values, or a"),
        ],
    )
    def test_what_is_no_sweep(self, tmp_path: Path, text: str, says: str) -> None:
        path = tmp_path / "sweep.toml"
        path.write_text(text)
        with pytest.raises(ParameterError, match=f"^sweep {path}: {says}"):
            read_sweep(path)

    @pytest.mark.parametrize(
        ("typed", "says"),
        [
            (["nowhere.toml"], "sweep nowhere.toml: expected a TOML file there, found none"),
            (["quick.toml", "--set", "validation_size=0"], "set validation_size above 0"),
            (["quick.toml", "--set", "lr=1"], "did you mean 'learning_rate'?"),
        ],
    )
    def test_what_is_wrong_is_said_before_any_work(
        self,
        typed: list[str],
        says: str,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.chdir(ROOT / "benchmarks" / "searches")
        assert main(["sweep", *typed]) == 2
        assert says in " ".join(capsys.readouterr().err.split())
