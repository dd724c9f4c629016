"""`digitflow run` without Prefect: nothing to do, or offline; and its parameters."""

import json
from pathlib import Path
from typing import Any

import pytest

from digitflow.flows.selection import Selection
from digitflow.storage.store import Store
from digitflow.tasks.data.datasets.sources import DATASETS
from digitflow.tasks.parameters import Parameters
from tests.answers import SET_TINY, Cli, no_line_is_too_wide
from tests.finished_runs import a_run, with_outputs
from tests.walk import LABELS, TINY, Walk, walk


class TestNothingToDo:
    @pytest.mark.usefixtures("terminal")
    def test_shows_every_stage_as_cached_and_the_result(
        self, run_tiny: Cli, first: Walk, cache: Store
    ):
        answer = run_tiny()
        assert (answer.code, answer.err) == (0, "")
        assert no_line_is_too_wide(answer.out)
        lines = [line.split() for line in answer.out.splitlines()]
        assert [line[3] for line in lines if line and line[0] == "cached"] == list(LABELS)
        assert "nothing to do: every stage is cached" in answer.out
        assert "Stages: 0 ran, 13 cached" in answer.out
        accuracy = cache.read(first.output("evaluate", "metrics"))["test_accuracy"]
        assert f"tiny: test accuracy {accuracy * 100:.1f} % of 20 images" in answer.out
        assert answer.out.splitlines()[0] == "tiny · preset tutorial"

    def test_writes_the_results(self, run_tiny: Cli, first: Walk, cache: Store):
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
        self, run_tiny: Cli, first: Walk, cache: Store
    ):
        stages = tuple(
            {"name": label, "key": result.key, "cached": False}
            for label, result in first.results.items()
        )
        cache.runs.save(a_run("quiet-ant", stages=with_outputs(stages, first)))
        run_tiny()
        run = json.loads(Path("results/quiet-ant/run.json").read_text())
        assert run["seconds"] == 12.5
        assert not any(stage["cached"] for stage in run["stages"])

    def test_the_results_of_an_earlier_run_stay_its_own(
        self, run_tiny: Cli, first: Walk, cache: Store
    ):
        """What it took, and why each stage ran, is not what a cached rerun took."""
        run_tiny("--until", "train")
        (folder,) = Path("results").iterdir()
        assert folder.name != "cached"
        (folder / "report.html").write_text("as the run left it")
        before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
        run_tiny("--until", "train")
        assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
        assert [run.name for run in cache.runs.newest_first()] == [folder.name]

    def test_what_people_have_said_is_shown_wherever_the_model_is(
        self, run_tiny: Cli, cli: Cli, cache: Store, tiny_directory: Path
    ):
        run_tiny()
        (version,) = cache.models.oldest_first()
        name = cache.models.state().named(version)
        cache.models.promote(version.version, "the first")
        cache.models.hold("exam week", name)
        answers = {
            command: cli(*command.split()) for command in ("models", "models show", "status")
        }
        answers["run"] = run_tiny("--output", "out")
        for command, answer in answers.items():
            assert answer.code == 0, command
            assert "exam week" in answer.out + answer.err, command
        assert "exam week" in Path("out/report.html").read_text(encoding="utf-8")

        # Another model's hold is not this one's.
        cache.models.release(name)
        cache.models.promote(version.version, "of another name", "another")
        cache.models.hold("its own exam", "another")
        assert "its own exam" not in run_tiny().err

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
        assert run_tiny().code == 130
        assert asked == ["prepared"]


class TestOffline:
    @pytest.fixture
    def _sample_is_cached(self, alone: None, empty: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(
            "digitflow.flows.pipeline.SAMPLE", {"training": 40, "test": 20, "seed": 1}
        )
        monkeypatch.setenv("DIGITFLOW_STORE", str(empty.root))
        walk(empty, DATASETS["sample"], selection=Selection(until="evaluate"))

    @pytest.mark.parametrize("quiet", [False, True])
    @pytest.mark.usefixtures("_sample_is_cached", "terminal")
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


@pytest.mark.usefixtures("terminal")
def test_parameters(cli: Cli):
    answer = cli("parameters")
    assert answer.code == 0
    assert no_line_is_too_wide(answer.out)
    for name in Parameters.model_fields:
        assert name in answer.out
    assert cli("parameters", "--json").code == 0
