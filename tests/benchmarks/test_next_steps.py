"""docs/next-steps.md: what it has its readers type works, and is what the benchmark measured."""

import re
import shlex
from collections.abc import Callable

import pytest

from benchmarks.next_steps import (
    DOCUMENT,
    MARK,
    SEEDS,
    START,
    STEPS,
    Result,
    Step,
    settings_of,
    wrapped,
    written,
)
from benchmarks.search import file_of
from benchmarks.trainings import Trained
from digitflow.flows.cli.app import app
from digitflow.flows.cli.arguments import RunArguments
from digitflow.tasks.parameters import DEFAULT_PRESET, resolve
from digitflow.tasks.sweeps.file import read_sweep
from tests.mnist import ROOT

TEXT = DOCUMENT.read_text(encoding="utf-8")
MADE = TEXT.partition(MARK)[2]
COMMANDS = re.findall(r"^digitflow (.*)$", MADE, re.MULTILINE)
NUMBERED = {START.title: START} | {f"{n}. {each.title}": each for n, each in enumerate(STEPS, 1)}


def test_every_step_has_a_row_a_section_and_a_command() -> None:
    assert len(STEPS) == 9
    assert re.findall(r"^## (.*)$", MADE, re.MULTILINE) == list(NUMBERED)
    own, tutorials = r"\*\*\d\d\.\d ± \d\.\d %\*\*", r"\d\d\.\d(?: ± \d\.\d %| % \(one seed\))"
    row = rf"^\| (.*?) \| {own} \| {tutorials} \| [\d,.]+ s \|$"
    assert re.findall(row, MADE, re.MULTILINE) == list(NUMBERED)
    assert len(COMMANDS) == len(NUMBERED)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_taken(command: str) -> None:
    function, bound, _ = app.parse_args(shlex.split(command), exit_on_error=False)
    assert function.__name__ == "run"
    arguments = bound.arguments["arguments"]
    assert isinstance(arguments, RunArguments)
    assert arguments.spec().parameters.test_sample == 0


@pytest.mark.parametrize(("step", "command"), list(zip(NUMBERED.values(), COMMANDS, strict=True)))
def test_every_command_is_the_steps_with_what_its_search_found(step: Step, command: str) -> None:
    best = {}
    if step.search is not None:
        sweep = read_sweep(file_of(step.search))
        names, first = file_of(step.search).with_suffix(".csv").read_text().splitlines()[:2]
        row = dict(zip(names.split(","), first.split(","), strict=True))
        best = {name: row[name].replace("-", ",") for name in sweep.grid if name != "seed"}
        assert not set(sweep.grid["seed"]) & set(SEEDS)  # the seeds that it is tested with
    typed = dict(word.split("=") for word in shlex.split(command)[2:])
    expected = resolve(DEFAULT_PRESET, settings_of(step, best))
    assert resolve(DEFAULT_PRESET, typed) == expected
    learnt_from_all = not expected.patience and step.title != "A validation set"
    assert not (learnt_from_all and expected.validation_size)


@pytest.mark.parametrize("step", [START, *STEPS], ids=lambda step: step.title)
def test_every_step_has_two_sentences(step: Step) -> None:
    assert len(re.findall(r"\.(?: |$)", step.why)) == 2
    assert wrapped(step.why).splitlines()[0] in MADE


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", TEXT)
    assert len(links) >= 2 * 7
    assert [each for each in links if not (DOCUMENT.parent / each).is_file()] == []


def test_the_readme_names_it() -> None:
    assert "docs/next-steps.md" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_a_row_has_mean_spread_and_the_least_time() -> None:
    def trained(accuracy: float, seconds: float) -> Trained:
        class Known(Trained):
            test_accuracy: Callable[[], float] = staticmethod(lambda: accuracy)

        return Known(None, seconds, None, None, None)  # type: ignore[arg-type]

    step = Step("Something", "One. Two.", {"network": "layers", "batch_size": 8})
    result = Result(
        step,
        settings_of(step, {}),
        [trained(0.80, 3.0), trained(0.82, 2.0)],
        [trained(0.7, 1.0)],
    )
    text = written([result, result])
    assert "| 1. Something | **81.0 ± 1.4 %** | 70.0 % (one seed) | 2.0 s |" in text
    assert "\ndigitflow run --set network=layers batch_size=8 test_sample=0\n" in text
