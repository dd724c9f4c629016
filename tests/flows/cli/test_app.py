"""The command line, in this process and without starting Prefect."""

import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from digitflow.flows.cli.app import main
from digitflow.flows.pipeline import Selection
from digitflow.storage.cache import Cache
from digitflow.storage.runs import RunRecord
from digitflow.tasks.data.datasets.sources import DATASETS
from digitflow.tasks.parameters import PRESETS, Parameters
from tests.terminal import pretend_a_terminal
from tests.walk import LABELS, TINY, Walk, walk

ROOT = Path(__file__).resolve().parents[3]
SET_TINY = ["--set", *(f"{name}={value}" for name, value in TINY.items())]


@dataclass
class Answer:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Cli = Callable[..., Answer]


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder, a store and a home of the test's own."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DIGITFLOW_STORE", str(tmp_path / "store"))


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> str:
    """Leave MNIST with one mirror, on a port of this machine where nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    mirror = f"http://127.0.0.1:{port}/mnist/"
    known = {**DATASETS, "mnist": replace(DATASETS["mnist"], mirrors=(mirror,))}
    monkeypatch.setattr("digitflow.tasks.data.datasets.sources.DATASETS", MappingProxyType(known))
    return mirror


@pytest.fixture
def cli(
    capsys: pytest.CaptureFixture[str], unreachable: str, monkeypatch: pytest.MonkeyPatch
) -> Cli:
    def refuse(*args: Any, **kwargs: Any) -> None:
        pytest.fail("Prefect was started")

    monkeypatch.setattr("digitflow.flows.cli.session.EmbeddedServer", refuse)

    def run(*arguments: str) -> Answer:
        capsys.readouterr()
        code = main(list(arguments))
        return Answer(code, *capsys.readouterr())

    return run


@pytest.fixture
def _terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_a_terminal(monkeypatch)


@pytest.fixture
def run_tiny(cli: Cli, cache: Cache, tiny_directory: Path) -> Cli:
    """`digitflow run` on the tiny dataset, all of whose stages are cached."""
    return lambda *arguments: cli("run", "--dataset", str(tiny_directory), *SET_TINY, *arguments)


def no_line_is_too_wide(text: str) -> bool:
    """Paths may pass the edge: a broken one could not be copied."""
    return all(len(line) <= 80 or "/" in line for line in text.splitlines())


class TestBadUsage:
    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["--set", "epoch=5"], "error: epoch: no such parameter; did you mean 'epochs'?"),
            (["--set", "epochs=0"], "error: epochs: should be greater than or equal to 1, found"),
            (["--set", "epochs=many"], "epochs: should be a valid integer"),
            (["--set", "learning_rate=-1"], "learning_rate: should be greater than 0"),
            (["--set", "learning_rate=nan"], "learning_rate: should be a finite number"),
            (["--set", "epochs"], "expected key=value, such as epochs=5, found 'epochs'"),
            (["--set", "epochs=1", "epochs=2"], "epochs: set twice"),
            (["--set", "epoch=5", "dpi=1"], "dpi: should be greater than or equal to 40"),
            (["--preset", "tutrial"], "did you mean 'tutorial'?"),
            (["--preset", "nowhere.toml"], "preset nowhere.toml: expected a TOML file there"),
            (["--dataset", "mnits"], "unknown dataset 'mnits'"),
            (["--dataset", "mnits"], "did you mean 'mnist'?"),
            (["--dataset", "./nowhere"], "there is no such directory"),
            (["--refresh", "trian"], "--refresh"),
            (["--until", "plots"], "--until"),
            (["--from", "x"], "--from"),
            (["--refresh", "plot", "--until", "train"], "plot should run again, but the run ends"),
            (["--from", "evaluate", "--until", "train"], "evaluate should run again, but"),
            (["--bogus"], "--bogus"),
            (["extra"], "extra"),
        ],
    )
    @pytest.mark.parametrize("command", ["run", "plan"])
    def test_is_refused_before_any_work(
        self, cli: Cli, tmp_path: Path, command: str, arguments: list[str], says: str
    ):
        answer = cli(command, *arguments)
        assert answer.code == 2
        shown = " ".join((answer.out + answer.err).split())
        assert says in shown
        assert "Traceback" not in shown
        assert not (tmp_path / "store").exists()
        assert not list(Path.cwd().iterdir())

    def test_a_misspelt_stage_is_answered_with_the_real_ones(self, cli: Cli):
        answer = cli("run", "--refresh", "trian")
        for stage in ("download", "decode", "preprocess", "train", "evaluate", "plot"):
            assert stage in answer.err + answer.out

    @pytest.mark.parametrize(
        "arguments", [["runn"], ["diff"], ["show"], ["gc", "--keep-days", "x"]]
    )
    def test_of_other_commands(self, cli: Cli, arguments: list[str]):
        assert cli(*arguments).code == 2

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["show", "nothing-of-that-name"], "expected the name of a run"),
            (["diff", "a", "b"], "expected the name of a run, found 'a'"),
            (["show", "train"], "stage train has no record yet"),
        ],
    )
    def test_names_that_are_unknown(self, cli: Cli, arguments: list[str], says: str):
        answer = cli(*arguments)
        assert answer.code == 2
        assert says in answer.err

    def test_somebody_elses_folder_as_output(
        self, cli: Cli, run_tiny: Cli, monkeypatch: pytest.MonkeyPatch
    ):
        Path("mine").mkdir()
        Path("mine/thesis.tex").write_text("mine")
        monkeypatch.setattr(Cache, "look_up", lambda *_, **__: pytest.fail("work was begun"))
        for run in (run_tiny, lambda *arguments: cli("run", *arguments)):
            answer = run("--output", "mine")
            assert answer.code == 2
            assert "thesis.tex, which no run wrote there" in " ".join(answer.err.split())
            assert answer.out == ""
        assert Path("mine/thesis.tex").read_text() == "mine"

    def test_a_file_as_output(self, run_tiny: Cli):
        Path("file").write_text("mine")
        answer = run_tiny("--output", "file")
        assert answer.code == 2
        assert "expected a folder, found a file" in " ".join(answer.err.split())


class TestFailure:
    def test_a_file_where_the_store_should_be(self, cli: Cli, tmp_path: Path):
        (tmp_path / "store").write_text("not a store")
        for command in ("run", "plan", "runs", "verify", "gc"):
            answer = cli(command)
            assert answer.code == 1
            assert "expected a folder for the store, found a file" in " ".join(answer.err.split())
            assert "verbose" not in answer.err

    @pytest.mark.parametrize(
        ("error", "says"),
        [
            (ValueError("of the unexpected kind"), "error: of the unexpected kind"),
            (ValueError(), "error: ValueError"),
            (KeyboardInterrupt(), "stopped; the same command goes on from here"),
        ],
    )
    def test_an_error_in_the_pipeline(
        self, cli: Cli, monkeypatch: pytest.MonkeyPatch, error: BaseException, says: str
    ):
        def fail(*args: Any, **kwargs: Any) -> None:
            raise error

        monkeypatch.setattr("digitflow.flows.cli.run.run_flow", fail)
        answer = cli("run")
        assert answer.code == 1
        assert says in answer.err
        assert "Traceback" not in answer.err
        assert ("--verbose" in answer.err) == isinstance(error, ValueError)
        if isinstance(error, ValueError):
            with pytest.raises(ValueError) as raised:  # noqa: PT011 - the very same
                cli("run", "--verbose")
            assert raised.value is error

    def test_text_that_looks_like_markup_is_shown_as_it_is(self, cli: Cli):
        assert "found '[bold]x'" in cli("run", "--set", "[bold]x").err


class TestNothingToDo:
    def test_shows_every_stage_as_cached_and_the_result(
        self, run_tiny: Cli, first: Walk, cache: Cache
    ):
        answer = run_tiny()
        assert (answer.code, answer.err) == (0, "")
        assert no_line_is_too_wide(answer.out)
        lines = [line.split() for line in answer.out.splitlines()]
        assert [line[3] for line in lines if line and line[0] == "cached"] == list(LABELS)
        assert "nothing to do: every stage is cached" in answer.out
        assert "Stages: 0 ran, 12 cached" in answer.out
        accuracy = cache.read(first.output("evaluate", "metrics"))["test_accuracy"]
        assert f"tiny: test accuracy {accuracy * 100:.1f} % of 20 images" in answer.out
        assert answer.out.splitlines()[0] == "tiny · preset tutorial"

    def test_writes_the_results(self, run_tiny: Cli, first: Walk, cache: Cache):
        answer = run_tiny("--output", "out")
        assert f"Results: {Path.cwd() / 'out'}" in answer.out.replace("\n", "")
        found = {str(path.relative_to("out")) for path in Path("out").rglob("*") if path.is_file()}
        assert found == {
            "run.json",
            "report.html",
            "history.csv",
            "model.npz",
            "metrics.json",
            "confusion.csv",
            *(f"figures/{name}.png" for name in first.results["plot"].outputs),
        }
        run = json.loads(Path("out/run.json").read_text())
        assert [stage["name"] for stage in run["stages"]] == list(LABELS)
        assert all(stage["cached"] for stage in run["stages"])
        assert run["parameters"]["epochs"] == TINY["epochs"]
        assert Path("out/history.csv").read_text().splitlines()[0] == (
            "epoch,train_loss,train_accuracy,test_loss,test_accuracy"
        )
        again = Path("out/model.npz").read_bytes()
        assert run_tiny("--output", "out").code == 0
        assert Path("out/model.npz").read_bytes() == again

    def test_goes_into_the_folder_of_the_run_that_made_it(
        self, run_tiny: Cli, first: Walk, cache: Cache
    ):
        stages = tuple(
            {"name": label, "key": result.key, "cached": False}
            for label, result in first.results.items()
        )
        cache.runs.save(a_run("quiet-ant", stages=with_outputs(stages, first)))
        run_tiny()
        assert Path("results/quiet-ant/run.json").is_file()

    def test_quiet_says_nothing(self, run_tiny: Cli):
        answer = run_tiny("--quiet")
        assert (answer.code, answer.out, answer.err) == (0, "", "")
        assert len(list(Path("results").iterdir())) == 1

    def test_until_writes_what_there_is(self, run_tiny: Cli):
        answer = run_tiny("--until", "train", "--output", "out")
        assert answer.code == 0
        assert "Stages: 0 ran, 10 cached" in answer.out
        assert "accuracy" not in answer.out
        assert sorted(path.name for path in Path("out").iterdir()) == [
            "history.csv",
            "model.npz",
            "report.html",
            "run.json",
        ]

    def test_an_edited_result_is_put_right_again(self, run_tiny: Cli):
        run_tiny("--output", "out")
        Path("out/metrics.json").write_text("{}")
        run_tiny("--output", "out")
        assert json.loads(Path("out/metrics.json").read_text())["test_samples"] == 20

    def test_prefect_is_started_if_a_stage_has_to_run(self, run_tiny: Cli):
        with pytest.raises(pytest.fail.Exception, match="Prefect was started"):
            run_tiny("--refresh", "train")

    def test_a_configured_server_is_used_even_then(
        self, run_tiny: Cli, monkeypatch: pytest.MonkeyPatch
    ):
        """A run that others watch in the UI shows there, cached or not."""
        asked: list[str] = []

        def stop(*args: Any, **kwargs: Any) -> None:
            asked.append("prepared")
            raise KeyboardInterrupt

        monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
        monkeypatch.setattr("digitflow.flows.cli.session.prepare_environment", stop)
        assert run_tiny().code == 1
        assert asked == ["prepared"]


class TestOffline:
    @pytest.fixture
    def _sample_is_cached(self, empty: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(
            "digitflow.flows.pipeline.SAMPLE", {"training": 40, "test": 20, "seed": 1}
        )
        monkeypatch.setenv("DIGITFLOW_STORE", str(empty.root))
        walk(empty, DATASETS["sample"], selection=Selection(until="evaluate"))

    @pytest.mark.parametrize("quiet", [False, True])
    @pytest.mark.usefixtures("_sample_is_cached", "_terminal")
    def test_without_a_mirror_the_built_in_sample_is_taken_and_said(
        self, cli: Cli, unreachable: str, quiet: bool
    ):
        arguments = ["run", *SET_TINY, "--until", "evaluate", "--output", "out"]
        answer = cli(*arguments, *(["--quiet"] if quiet else []))
        assert answer.code == 0
        said = answer.err if quiet else answer.out
        assert "MNIST cannot be downloaded: no mirror can be reached" in said
        assert unreachable in said
        assert "connection refused" in said
        assert "Going on with the built-in dataset 'sample'" in said
        assert no_line_is_too_wide(said)
        if quiet:
            assert answer.out == ""
        else:
            assert "sample · preset tutorial" in answer.out
            assert "sample: test accuracy" in answer.out
        assert json.loads(Path("out/run.json").read_text())["dataset"] == "sample"

    @pytest.mark.usefixtures("_sample_is_cached")
    def test_a_dataset_that_was_named_is_never_replaced(self, cli: Cli):
        with pytest.raises(pytest.fail.Exception, match="Prefect was started"):
            cli("run", "--dataset", "mnist", *SET_TINY, "--until", "evaluate")

    @pytest.mark.usefixtures("_sample_is_cached")
    def test_a_mirror_that_was_named_is_asked(self, cli: Cli, tmp_path: Path):
        answer = cli("run", "--mirror", str(tmp_path), *SET_TINY, "--until", "evaluate")
        assert "no such file" in " ".join(answer.out.split())
        assert str(tmp_path) in answer.out.replace("\n", "")

    def test_a_plan_says_what_a_run_might_do(self, cli: Cli):
        answer = cli("plan")
        assert answer.code == 3
        assert "digitflow plan --dataset sample" in answer.out


class TestPlan:
    def plan(self, cli: Cli, directory: Path, *arguments: str) -> Answer:
        return cli("plan", "--dataset", str(directory), *SET_TINY, *arguments)

    def test_exit_code_tells_whether_anything_would_run(
        self, cli: Cli, cache: Cache, tiny_directory: Path
    ):
        answer = self.plan(cli, tiny_directory)
        assert answer.code == 0
        assert answer.out.count("cached") == len(LABELS)
        answer = self.plan(cli, tiny_directory, "epochs=3")
        assert answer.code == 2  # set twice
        answer = self.plan(cli, tiny_directory, "--refresh", "plot")
        assert answer.code == 3
        assert "refresh asked for" in answer.out
        assert no_line_is_too_wide(answer.out)

    def test_says_what_changed(self, cli: Cli, cache: Cache, tiny_directory: Path):
        tiny = [each for each in SET_TINY if not each.startswith("epochs=")]
        answer = cli("plan", "--dataset", str(tiny_directory), *tiny, "epochs=3")
        assert answer.code == 3
        lines = [" ".join(line.split()) for line in answer.out.splitlines()]
        assert "will run train parameter epochs 2 → 3" in lines
        assert "waits evaluate waits for train" in lines

    def test_as_json(self, cli: Cli, cache: Cache, tiny_directory: Path, first: Walk):
        answer = self.plan(cli, tiny_directory, "--json", "--from", "evaluate")
        stages = {stage["label"]: stage for stage in answer.json}
        assert list(stages) == list(LABELS)
        assert stages["train"]["status"] == "cached"
        assert stages["train"]["key"] == first.results["train"].key
        assert stages["evaluate"]["status"] == "will run"
        assert stages["evaluate"]["reasons"] == ["refresh asked for"]
        assert stages["plot"]["waits_for"] == ["evaluate"]

    def test_writes_nothing(self, cli: Cli, tmp_path: Path, tiny_directory: Path):
        assert self.plan(cli, tiny_directory).code == 3
        assert not (tmp_path / "store").exists()
        assert not list(Path.cwd().iterdir())


def a_run(name: str, **changes: Any) -> RunRecord:
    parameters = Parameters(**PRESETS["tutorial"]).model_dump(mode="json")
    run = RunRecord(
        name=name,
        created="2026-11-23T07:00:00.000+00:00",
        seconds=12.5,
        preset="tutorial",
        dataset="MNIST",
        parameters=parameters,
        stages=(),
        metrics={"test_accuracy": 0.784, "test_loss": 0.436},
        results=None,
    )
    return replace(run, **changes)


def with_outputs(stages: tuple[dict[str, Any], ...], done: Walk) -> tuple[dict[str, Any], ...]:
    return tuple(
        {
            **stage,
            "stage": done.results[stage["name"]].stage,
            "reasons": [],
            "seconds": 0.1,
            "outputs": {
                name: each.to_json() for name, each in done.results[stage["name"]].outputs.items()
            },
        }
        for stage in stages
    )


class TestOtherCommands:
    @pytest.fixture
    def _two_runs(self, cache: Cache) -> None:
        changed = {**a_run("x").parameters, "epochs": 30}
        cache.runs.save(a_run("quiet-ant"))
        cache.runs.save(
            a_run(
                "loud-bee",
                created="2026-11-24T07:00:00.000+00:00",
                parameters=changed,
                metrics={"test_accuracy": 0.8, "test_loss": 0.4},
            )
        )

    def test_runs_of_an_empty_store(self, cli: Cli, tmp_path: Path):
        answer = cli("runs")
        assert (answer.code, "no finished runs yet" in answer.out) == (0, True)
        assert cli("runs", "--json").json == []
        assert not (tmp_path / "store").exists()

    @pytest.mark.usefixtures("_two_runs")
    def test_runs(self, cli: Cli):
        answer = cli("runs")
        assert answer.code == 0
        assert answer.out.index("loud-bee") < answer.out.index("quiet-ant")
        assert "epochs=30" in answer.out
        assert no_line_is_too_wide(answer.out)
        assert [run["changed"] for run in cli("runs", "--json").json] == [{"epochs": 30}, {}]

    @pytest.mark.usefixtures("_two_runs")
    @pytest.mark.parametrize("names", [["quiet-ant", "loud-bee"], ["quiet"], ["q", "l"]])
    def test_diff(self, cli: Cli, names: list[str]):
        answer = cli("diff", *names)
        assert answer.code == 0
        assert re.search(r"epochs +20 +30", answer.out)
        assert re.search(r"test_accuracy +0\.7840 +0\.8000 +\+0\.016", answer.out)
        document = cli("diff", *names, "--json").json
        assert document["runs"] == ["quiet-ant", "loud-bee"]
        assert document["parameters"] == {"epochs": [20, 30]}

    @pytest.mark.usefixtures("_two_runs")
    def test_show_a_run_a_stage_and_an_object(self, cli: Cli, first: Walk):
        assert "quiet-ant" in cli("show", "quiet").out
        train = cli("show", "train", "--json").json
        assert train["record"] == first.results["train"].key
        sha256 = first.output("train", "predictions").sha256
        shown = cli("show", sha256[:8], "--json").json
        assert shown["object"] == sha256
        assert shown["stage"] == "train"
        assert sorted(each.partition(" ")[0] for each in shown["used_by"]) == ["evaluate", "plot"]

    def test_verify_finds_damage(self, cli: Cli, cache: Cache, first: Walk):
        assert cli("verify").code == 0
        sha256 = first.output("train", "model").sha256
        path = cache.objects.path(sha256)
        path.chmod(0o644)
        path.write_bytes(b"damaged")
        answer = cli("verify")
        assert answer.code == 1
        assert sha256[:12] in answer.out
        assert cli("verify", "--repair").code == 1
        assert not path.exists()
        assert "train" in cli("plan").out

    def test_gc_only_says_what_it_would_delete(self, cli: Cli, cache: Cache):
        before = len(list(cache.objects))
        assert "nothing to delete" in cli("gc").out
        assert cli("gc", "--keep-days", "0").code == 0
        assert len(list(cache.objects)) == before

    @pytest.mark.usefixtures("_terminal")
    def test_parameters(self, cli: Cli):
        answer = cli("parameters")
        assert answer.code == 0
        assert no_line_is_too_wide(answer.out)
        for name in Parameters.model_fields:
            assert name in answer.out
        assert cli("parameters", "--json").code == 0

    def test_version(self, cli: Cli):
        assert re.fullmatch(r"\d+\.\d+\.\d+\S*\n", cli("--version").out)

    def test_as_a_module(self):
        done = subprocess.run(
            [sys.executable, "-m", "digitflow", "--version"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        assert re.match(r"\d+\.\d+", done.stdout)
