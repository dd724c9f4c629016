"""What is refused, what fails, and with which exit codes."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from digitflow.storage.cache import Cache
from tests.answers import Cli

ROOT = Path(__file__).resolve().parents[3]


class TestBadUsage:
    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["--set", "epoch=5"], "error: epoch: no such parameter; did you mean 'epochs'?"),
            (["--set", "epochs=0"], "error: epochs: should be greater than or equal to 1, found"),
            (["--set", "epochs=many"], "epochs: should be a whole number, found 'many'"),
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
            (["show", "nothing-of-that-name"], "expected a run (digitflow runs), a stage (draw,"),
            (["diff", "a", "b"], "expected a run (digitflow runs), found 'a'"),
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
        assert answer.code == (130 if isinstance(error, KeyboardInterrupt) else 1)
        assert says in answer.err
        assert "Traceback" not in answer.err
        assert ("--verbose" in answer.err) == isinstance(error, ValueError)
        if isinstance(error, ValueError):
            with pytest.raises(ValueError) as raised:  # noqa: PT011 - the very same
                cli("run", "--verbose")
            assert raised.value is error

    def test_text_that_looks_like_markup_is_shown_as_it_is(self, cli: Cli):
        assert "found '[bold]x'" in cli("run", "--set", "[bold]x").err


def test_version(cli: Cli):
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*\n", cli("--version").out)


def test_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "digitflow", "--version"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.match(r"\d+\.\d+", done.stdout)
