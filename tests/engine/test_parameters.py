import inspect
import math
import os
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import pytest
from annotated_types import Ge, Gt, Le, Lt
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from digitflow.flows.selection import STAGE_NAMES
from digitflow.flows.spec import DEFAULT_DATASET, PresetName, RunOptions, RunSpec, with_run_options
from digitflow.tasks.data.datasets.sources import DATASETS
from digitflow.tasks.parameters import (
    DEFAULT_PRESET,
    MOST_USED,
    PARAMETER_NAMES,
    PRESETS,
    ParameterError,
    Parameters,
    allowed,
    as_typed,
    parse_assignments,
    read_preset,
    resolve,
)

FIELDS = Parameters.model_fields
NAMES = tuple(FIELDS)


NUMBERS = [each for each in NAMES if FIELDS[each].annotation in (int, float)]


def shown(edge: float) -> str:
    return str(int(edge)) if edge == int(edge) else str(edge)


def bounds(name: str) -> list[tuple[Any, Any, str]]:
    """Each bound of a parameter: the last value inside, the first outside, and the rule."""
    field = FIELDS[name]
    step = 1 if field.annotation is int else None
    found = []
    for rule in field.metadata:
        match rule:
            case Ge(ge=edge):
                outside = edge - step if step else math.nextafter(edge, -math.inf)
                found.append((edge, outside, f"greater than or equal to {shown(edge)}"))
            case Gt(gt=edge):
                inside = edge + step if step else math.nextafter(edge, math.inf)
                found.append((inside, edge, f"greater than {shown(edge)}"))
            case Le(le=edge):
                outside = edge + step if step else math.nextafter(edge, math.inf)
                found.append((edge, outside, f"less than or equal to {shown(edge)}"))
            case Lt(lt=edge):
                inside = edge - step if step else math.nextafter(edge, -math.inf)
                found.append((inside, edge, f"less than {shown(edge)}"))
    return found


class TestParameters:
    def test_the_tutorials_preset_is_the_tutorial(self):
        expected = {
            "network": "tutorial",
            "training_sample": 1000,
            "test_sample": 1000,
            "hidden_sizes": (100,),
            "learning_rate": 0.005,
            "epochs": 20,
            "seed": 884736743,
            "gallery_size": 5,
            "gallery_seed": 147197952744,
        }
        parameters = resolve("tutorial", {})
        assert {name: getattr(parameters, name) for name in expected} == expected
        assert DEFAULT_PRESET == "tutorial"
        assert parameters.training() == {
            "hidden_sizes": [100],
            "learning_rate": 0.005,
            "epochs": 20,
            "seed": 884736743,
            "relu_derivative": "published",
        }

    @pytest.mark.parametrize("name", NAMES)
    def test_every_parameter_says_what_it_means(self, name: str):
        description = FIELDS[name].description
        assert description is not None
        assert description.endswith(".")
        assert len(description) > 15

    @pytest.mark.parametrize("name", NUMBERS)
    def test_every_number_has_a_lower_and_an_upper_bound_and_both_hold(self, name: str):
        of_name = bounds(name)
        assert len(of_name) == 2
        # What has to be otherwise for the bound itself to be possible.
        others = {"warm_up_epochs": {"epochs": 10_000}}.get(name, {})
        for inside, outside, rule in of_name:
            assert getattr(resolve("mlp", {**others, name: inside}), name) == inside
            with pytest.raises(ParameterError) as raised:
                resolve("mlp", {**others, name: outside})
            message = str(raised.value)
            assert message.startswith(f"{name}: should be {rule}")
            assert f"found {outside!r}" in message
            assert str(FIELDS[name].description) in message

    @pytest.mark.parametrize("name", ["hidden_sizes", "convolution_channels"])
    @pytest.mark.parametrize("value", ["0", "-5", "x", "5,", "5;6", [0], "100000", "1," * 50 + "1"])
    def test_what_is_no_list_of_sizes(self, name: str, value: Any):
        with pytest.raises(ParameterError, match=f"^{name}: should "):
            resolve("mlp", {name: value})

    @pytest.mark.parametrize(
        ("value", "sizes"), [("512,256", (512, 256)), ("64", (64,)), ([3], (3,)), ("", ())]
    )
    def test_lists_of_sizes(self, value: Any, sizes: tuple[int, ...]):
        assert resolve("mlp", {"hidden_sizes": value}).hidden_sizes == sizes

    @pytest.mark.parametrize(
        ("overrides", "says"),
        [
            ({"patience": 3, "validation_size": 0}, "patience needs a validation set"),
            ({"nesterov": True}, "nesterov needs optimizer='sgd'"),
            ({"global_average_pooling": True}, "needs convolution_channels"),
            ({"warm_up_epochs": 30}, "warm_up_epochs must be smaller than epochs"),
            ({"kernel_size": 4}, "kernel_size must be odd"),
            ({"batch_normalization": True, "batch_size": 1}, "set batch_size=2 or more"),
        ],
    )
    def test_parameters_that_do_not_fit_together(self, overrides: dict[str, Any], says: str):
        with pytest.raises(ParameterError, match=says):
            resolve("mlp", overrides)

    @pytest.mark.parametrize("name", ["dropout", "batch_size", "optimizer", "bias"])
    def test_what_the_tutorials_network_has_fixed(self, name: str):
        value = {"dropout": "0.1", "batch_size": "2", "optimizer": "adam", "bias": "true"}[name]
        says = f"network has {name} fixed.* --set network=layers {name}={value}"
        with pytest.raises(ParameterError, match=says):
            resolve("tutorial", {name: value})

    def test_what_to_add_for_another_network_is_said_and_works(self):
        with pytest.raises(ParameterError) as caught:
            resolve("tutorial", {"hidden_sizes": "100,50", "batch_size": "32"})
        command = str(caught.value).partition("--set ")[2]
        assert command == "network=layers hidden_sizes=100,50 batch_size=32"
        parameters = resolve("tutorial", parse_assignments(command.split()))
        assert (parameters.hidden_sizes, parameters.batch_size) == ((100, 50), 32)

    @pytest.mark.parametrize(
        ("typed", "added"),
        [
            ("batch_size=32", ""),
            ("hidden_sizes=100,50", ""),
            ("loss=cross_entropy", ""),
            ("convolution_channels=8", ""),
            ("kernel_size=5", ""),
            ("convolution_channels=8 global_average_pooling=true", ""),
            ("global_average_pooling=true", " convolution_channels=8"),
            ("patience=5", " validation_size=200"),
            ("patience=5 validation_size=100", ""),
            ("weight_decay=0.001", ""),
            ("label_smoothing=0.1", ""),
            ("shift=1", ""),
            ("validation_size=200", ""),
            ("batch_normalization=true", " batch_size=32"),
            ("batch_normalization=true batch_size=8", ""),
            ("optimizer=adam", ""),
            ("momentum=0.9", ""),
            ("nesterov=true", " momentum=0.9"),
            ("schedule=cosine", ""),
            ("training_sample=0 test_sample=0 batch_size=8", ""),
        ],
    )
    def test_every_next_step_of_the_tutorial_says_all_that_it_needs(self, typed: str, added: str):
        with pytest.raises(ParameterError, match="the tutorial's network has ") as caught:
            resolve("tutorial", parse_assignments(typed.split()))
        said = str(caught.value).partition("--set ")[2].split()
        assert set(said) == {"network=layers", *typed.split(), *added.split()}
        assert resolve("tutorial", parse_assignments(said)).network == "layers"

    def test_a_derivative_that_layers_have_anyway_is_left_out_of_what_to_add(self):
        with pytest.raises(ParameterError, match=r"--set network=layers batch_size=8$"):
            resolve("tutorial", {"batch_size": 8, "relu_derivative": "correct"})

    @pytest.mark.parametrize("sizes", ["none", "100,100"])
    def test_the_tutorials_network_has_one_hidden_layer(self, sizes: str):
        with pytest.raises(ParameterError, match=f"network=layers hidden_sizes={sizes}"):
            resolve("tutorial", {"hidden_sizes": "" if sizes == "none" else sizes})

    @pytest.mark.parametrize("value", ["nan", "inf", "-inf", "", "five", "1e400", None, [1]])
    def test_what_is_no_learning_rate(self, value: Any):
        with pytest.raises(ParameterError, match="^learning_rate: should be "):
            resolve("tutorial", {"learning_rate": value})

    @pytest.mark.parametrize("value", ["5.5", "five", "", "1e3", 5.5, "nan", None, "9" * 5000])
    def test_what_is_no_number_of_epochs(self, value: Any):
        with pytest.raises(ParameterError, match="^epochs: should be "):
            resolve("tutorial", {"epochs": value})

    @pytest.mark.parametrize(
        ("name", "text", "value"),
        [
            ("epochs", "5", 5),
            ("epochs", " 5 ", 5),
            ("learning_rate", "1e-3", 0.001),
            ("learning_rate", "1", 1.0),
            ("seed", "0", 0),
            ("seed", "9223372036854775807", 2**63 - 1),
        ],
    )
    def test_text_is_read_as_the_parameters_type(self, name: str, text: str, value: Any):
        found = getattr(resolve("tutorial", {name: text}), name)
        assert found == value
        assert type(found) is type(value)

    @pytest.mark.parametrize(
        ("name", "nearest"),
        [
            ("epoch", "epochs"),
            ("learning-rate", "learning_rate"),
            ("lerning_rate", "learning_rate"),
            ("hidden_size", "hidden_sizes"),
            ("tests_sample", "test_sample"),
            ("batchnorm", "batch_normalization"),
            ("early_stopping", "patience"),
            ("layers", "hidden_sizes"),
            ("lr", "learning_rate"),
            ("filters", "convolution_channels"),
        ],
    )
    def test_an_unknown_name_is_refused_with_the_nearest(self, name: str, nearest: str):
        with pytest.raises(ParameterError) as raised:
            resolve("tutorial", {name: 5})
        message = str(raised.value)
        assert message == f"{name}: no such parameter; did you mean {nearest!r}?"

    def test_an_unknown_name_like_no_other(self):
        said = "^xyzzy: no such parameter; list them with: digitflow parameters$"
        with pytest.raises(ParameterError, match=said):
            resolve("tutorial", {"xyzzy": 1})

    def test_everything_that_is_wrong_is_said_at_once(self):
        with pytest.raises(ParameterError) as raised:
            resolve("tutorial", {"epochs": 0, "dpi": "high", "epoch": 1})
        lines = str(raised.value).splitlines()
        assert sorted(line.partition(":")[0] for line in lines) == ["dpi", "epoch", "epochs"]

    @pytest.mark.parametrize(("name", "hint"), [("tutrial", "did you mean 'tutorial'"), ("x", "")])
    def test_an_unknown_preset(self, name: str, hint: str):
        with pytest.raises(ParameterError, match=f"^preset '{name}': expected one of .*{hint}"):
            resolve(name, {})

    def test_parameters_cannot_be_changed(self):
        with pytest.raises(ValidationError):
            resolve("tutorial", {}).epochs = 5  # type: ignore[misc]

    @pytest.mark.parametrize("preset", PRESETS)
    def test_every_preset_is_valid_and_names_its_values_rightly(self, preset: str):
        parameters = resolve(preset, {})
        for name, value in PRESETS[preset].items():
            assert getattr(parameters, name) == value

    @pytest.mark.parametrize("preset", [each for each in PRESETS if each != "tutorial"])
    def test_a_preset_says_only_what_differs_from_the_defaults(self, preset: str):
        default = Parameters()
        assert [
            name for name, value in PRESETS[preset].items() if getattr(default, name) == value
        ] == []

    def test_an_override_wins_over_the_preset(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(
            "digitflow.tasks.parameters.PRESETS", {"quick": {"epochs": 2, "dpi": 50}}
        )
        parameters = resolve("quick", {"epochs": "3"})
        assert (parameters.epochs, parameters.dpi) == (3, 50)


class TestPresetFiles:
    def test_a_file_starts_from_a_preset_and_says_what_differs(self, tmp_path: Path):
        file = tmp_path / "mine.toml"
        file.write_text('preset = "cnn"\nepochs = 3\nhidden_sizes = [64, 32]\n')
        preset, values = read_preset(str(file))
        assert preset == "cnn"
        parameters = resolve(preset, values)
        assert (parameters.epochs, parameters.hidden_sizes) == (3, (64, 32))
        assert parameters.convolution_channels == PRESETS["cnn"]["convolution_channels"]

    def test_a_name_stays_a_name(self):
        assert read_preset("tutorial") == ("tutorial", {})

    @pytest.mark.parametrize("content", [None, b"epochs", b"\xff", b"epochs = 1\nepochs = 2"])
    def test_a_file_that_cannot_be_read(self, tmp_path: Path, content: bytes | None):
        file = tmp_path / "mine.toml"
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(ParameterError, match=r"mine\.toml: expected a TOML file"):
            read_preset(str(file))

    def test_nobody_waits_on_a_pipe(self, tmp_path: Path):
        os.mkfifo(tmp_path / "mine.toml")
        with pytest.raises(ParameterError, match="expected a TOML file there, found no regular"):
            read_preset(str(tmp_path / "mine.toml"))

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("epoch = 5", "epoch: no such parameter; did you mean 'epochs'"),
            ("epochs = 0", "epochs: should be greater than"),
            ("[table]\nx = 1", "table: no such parameter"),
            ("preset = 5", "preset '5': expected one of"),
        ],
    )
    def test_what_is_in_it_is_judged_like_everything_else(
        self, tmp_path: Path, text: str, says: str
    ):
        file = tmp_path / "mine.toml"
        file.write_text(text)
        with pytest.raises(ParameterError, match=says):
            resolve(*read_preset(str(file)))


class TestAssignments:
    def test_are_split_at_the_first_equals_sign(self):
        assert parse_assignments(["epochs=5", " dpi = 50 ", "x=a=b", "y="]) == {
            "epochs": "5",
            "dpi": "50",
            "x": "a=b",
            "y": "",
        }

    @pytest.mark.parametrize("text", ["epochs", "=5", " =5", ""])
    def test_without_key_or_equals_sign(self, text: str):
        with pytest.raises(ParameterError, match=f"expected key=value, such as .* found {text!r}"):
            parse_assignments([text])

    def test_twice_the_same_key(self):
        with pytest.raises(ParameterError, match="epochs: set twice, to '5' and '6'; keep one"):
            parse_assignments(["epochs=5", "epochs=6"])

    @given(st.dictionaries(st.sampled_from(NAMES), st.integers(-(10**20), 10**20)))
    def test_no_assignment_raises_anything_else(self, values: dict[str, int]):
        try:
            resolve(
                "tutorial", parse_assignments([f"{name}={each}" for name, each in values.items()])
            )
        except ParameterError as error:
            assert str(error)  # noqa: PT017


class TestFlowSignature:
    """The flat parameters from which Prefect makes its run form."""

    @pytest.fixture
    def received(self) -> list[RunOptions]:
        return []

    @pytest.fixture
    def flat(self, received: list[RunOptions]) -> Any:
        @with_run_options
        def train(options: RunOptions) -> str:
            """Train something.

            At length.
            """
            received.append(options)
            return "done"

        return train

    def test_has_every_option_and_every_parameter(self, flat: Any):
        options = set(RunOptions.__dataclass_fields__) - {"overrides"}
        assert set(inspect.signature(flat).parameters) == options | set(NAMES)
        assert flat.__name__ == "train"
        assert flat.__module__ == __name__

    @pytest.mark.parametrize("name", NAMES)
    def test_parameters_keep_their_type_and_bounds_and_have_no_default(self, flat: Any, name: str):
        parameter = inspect.signature(flat).parameters[name]
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
        assert parameter.default is None
        assert type(None) in get_args(parameter.annotation)
        if FIELDS[name].metadata:
            annotated = get_args(parameter.annotation)[0]
            assert get_origin(annotated) is Annotated
            kind, *rules = get_args(annotated)
            assert kind == FIELDS[name].annotation
            assert rules == FIELDS[name].metadata
        # What a run form, or Prefect's check of a deployment's parameters, makes of it.
        check = TypeAdapter(parameter.annotation)
        assert check.validate_python(None) is None
        if name in NUMBERS:
            for inside, outside, _ in bounds(name):
                assert check.validate_python(inside) == inside
                with pytest.raises(ValidationError):
                    check.validate_python(outside)

    def test_every_one_is_described(self, flat: Any):
        text, _, arguments = inspect.getdoc(flat).partition("\n\nArgs:\n")  # type: ignore[union-attr]
        assert text == "Train something.\n\nAt length."
        described = dict(line.strip().split(": ", 1) for line in arguments.splitlines())
        assert list(described) == list(inspect.signature(flat).parameters)
        for name in NAMES:
            assert str(FIELDS[name].description) in described[name]

    def test_defaults_are_those_of_the_command_line(self, flat: Any, received: list[RunOptions]):
        defaults = {name: each.default for name, each in inspect.signature(flat).parameters.items()}
        assert flat(**defaults) == "done"
        assert received == [RunOptions()]
        assert RunOptions().flow_parameters() == {
            "dataset": DEFAULT_DATASET,
            "preset": DEFAULT_PRESET,
        }

    def test_options_survive_the_way_through_the_flow(self, flat: Any, received: list[RunOptions]):
        options = RunOptions(
            dataset="sample",
            mirror="there",
            refresh=("train", "plot"),
            from_stage="decode",
            until="evaluate",
            workers=2,
            scheduler="tcp://there:8786",
            output="here",
            overrides={"epochs": 3, "seed": 0, "learning_rate": 0.1},
        )
        flat(**options.flow_parameters())
        assert received == [options]
        assert resolve(options.preset, options.overrides).seed == 0

    def test_choices_are_the_real_ones(self, flat: Any):
        parameters = inspect.signature(flat).parameters
        assert set(get_args(PresetName)) == set(PRESETS)
        assert get_args(parameters["preset"].annotation) == get_args(PresetName)
        assert get_args(get_args(parameters["refresh"].annotation)[0]) == STAGE_NAMES
        for name in ("from_stage", "until"):
            assert get_args(get_args(parameters[name].annotation)[0]) == STAGE_NAMES
        assert DEFAULT_DATASET in DATASETS


def results_folder(options: RunOptions, run: str) -> Path:
    spec = RunSpec(DATASETS["mnist"], resolve("tutorial", {}), options=options)
    return spec.results_folder(run)


class TestOptions:
    @pytest.mark.parametrize(
        ("given", "environment", "first"),
        [
            (None, None, ()),
            ("a", None, ("a",)),
            (None, "b", ("b",)),
            ("a", "b", ("a",)),
            (None, "", ()),
        ],
    )
    def test_a_named_mirror_comes_before_the_built_in_ones(
        self,
        monkeypatch: pytest.MonkeyPatch,
        given: str | None,
        environment: str | None,
        first: tuple[str, ...],
    ):
        if environment is not None:
            monkeypatch.setenv("DIGITFLOW_MIRROR", environment)
        dataset = DATASETS["mnist"]
        assert RunOptions("mnist", mirror=given).spec().mirrors == (*first, *dataset.mirrors)

    def test_results_lie_in_a_folder_of_the_runs_name_or_where_they_were_asked_for(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.chdir(tmp_path)
        assert results_folder(RunOptions(), "quiet-ant") == tmp_path / "results" / "quiet-ant"
        assert results_folder(RunOptions(output="there"), "quiet-ant") == tmp_path / "there"
        assert results_folder(RunOptions(output="/there"), "x") == Path("/there")
        monkeypatch.setenv("HOME", "/home/me")
        assert results_folder(RunOptions(output="~/there"), "x") == Path("/home/me/there")

    @pytest.mark.parametrize(
        "name",
        [
            "../../escaped",
            "..",
            ".",
            "/etc/passwd",
            "a/b",
            "a\\b",
            "Run #1 (ä)",
            "x" * 300,
            "-x",
            "a\0b\n",
            "con",
        ],
    )
    def test_no_name_of_a_run_leaves_the_results_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
    ):
        monkeypatch.chdir(tmp_path)
        folder = results_folder(RunOptions(), name)
        assert folder.parent == tmp_path / "results"
        assert folder.resolve() == folder
        folder.mkdir(parents=True)  # it can be made
        assert results_folder(RunOptions(), name + "2") != folder


def test_bounds_and_choices_are_said_in_a_few_words():
    assert allowed("epochs") == "≥ 1, ≤ 10,000"
    assert allowed("network") == "layers, tutorial"
    assert allowed("bias") == ""
    assert as_typed((512, 256)) == "512,256"
    assert as_typed(()) == "none"
    assert as_typed(True) == "true"


def test_what_is_changed_most_comes_first():
    assert PARAMETER_NAMES[: len(MOST_USED)] == MOST_USED
    assert sorted(PARAMETER_NAMES) == sorted(Parameters.model_fields)
