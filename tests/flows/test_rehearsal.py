"""`digitflow rehearse`: what becomes of every fault, with a weakened gate too; and what is left."""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from prefect.exceptions import TerminationSignal
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_HOME,
    PREFECT_LOGGING_TO_API_ENABLED,
    temporary_settings,
)

import digitflow
from digitflow.flows.cli.app import main
from digitflow.flows.cli.rehearse import _show, _summarise
from digitflow.flows.cli.render import Terminal, plain_console
from digitflow.flows.rehearsal import NIGHTS, Night, Played, Rehearsal
from digitflow.flows.retrain import retrain
from digitflow.storage.history.registry import ModelStore
from digitflow.storage.store import Store
from digitflow.tasks.agg import Figure
from digitflow.tasks.figures.png import to_png
from digitflow.tasks.stages.plot import plot
from tests.patience import PATIENCE, wait_for
from tests.servers.prefect_server import PrefectServer
from tests.servers.processes import running
from tests.terminal import pretend_a_terminal
from tests.textures import write_textures

pytestmark = pytest.mark.prefect

SETTINGS = {
    "hidden_sizes": [64],
    "epochs": 15,
    "dropout": 0.0,
    "validation_size": 0,
    "batch_size": 16,
}
DOT = to_png(Figure(figsize=(1, 1)), dpi=10)
HONEST = {"Promoted", "Rejected"}

Document = dict[str, Any]
Rehearse = Callable[..., tuple[int, Document]]


def of_kind(kind: str) -> Night:
    return next(night for night in NIGHTS if night.kind == kind)


def titled(title: str) -> Night:
    return next(night for night in NIGHTS if title in night.title)


def files(root: Path) -> dict[str, tuple[int, bytes]]:
    """Return all that is below a folder: when each was written, and the bytes of files."""
    return {
        str(path.relative_to(root)): (
            path.stat().st_mtime_ns,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in sorted(root.rglob("*"))
        # Of the folder for what is temporary alone it is known that something has come and gone.
        if path.name != "temporary"
    }


@pytest.fixture(scope="module")
def user(prefect_server: PrefectServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A user's folder, with a store whose champion knows cloth; flows run on a real server."""
    folder = tmp_path_factory.mktemp("user")
    settings = {
        PREFECT_API_URL: f"{prefect_server.url}/api",
        PREFECT_HOME: Path(prefect_server.environment["PREFECT_HOME"]),
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
        PREFECT_LOGGING_TO_API_ENABLED: False,
    }

    @contextmanager
    def prefect(flow: str, *args: Any, embedded: bool, **options: Any) -> Iterator[Any]:
        assert (flow, embedded) == ("digitflow.flows.retrain:retrain", True)
        yield retrain

    cloth = write_textures(folder / "cloth", training=800, test=400)
    (folder / "temporary").mkdir()
    with pytest.MonkeyPatch.context() as monkeypatch, temporary_settings(settings):
        monkeypatch.chdir(folder)
        monkeypatch.setenv("DIGITFLOW_STORE", str(folder / "store"))
        monkeypatch.setattr("tempfile.tempdir", str(folder / "temporary"))
        monkeypatch.setattr("digitflow.flows.cli.rehearse.prefect", prefect)
        # A night's figures take longer than all the rest of it, and nobody looks at them here.
        monkeypatch.setattr(plot, "function", lambda **given: dict.fromkeys(plot.outputs, DOT))
        done = digitflow.run(str(cloth), "quick", name="first", **SETTINGS)
        assert done.model is not None
        Store().models.promote(done.model, "for a rehearsal")
        Store().models.hold("exam week")
        yield folder


@pytest.fixture(scope="module")
def rehearse(user: Path) -> Rehearse:
    def rehearse(*options: str) -> tuple[int, Document]:
        """Rehearse beside the user's folder, which stays as it is; return code and document."""
        before, environment, shown = files(user), dict(os.environ), StringIO()
        with redirect_stdout(shown):
            code = main(["rehearse", "--json", *options])
        assert files(user) == before
        assert dict(os.environ) == environment
        return code, json.loads(shown.getvalue())

    return rehearse


@pytest.fixture(scope="module")
def fortnight(rehearse: Rehearse) -> tuple[int, Document]:
    return rehearse()


def test_a_fortnight(fortnight: tuple[int, Document]) -> None:
    code, document = fortnight
    assert code == 0
    assert (document["model"], document["faults"], document["promoted_wrongly"]) == ("cloth", 11, 0)
    nights = document["nights"]
    assert [night["number"] for night in nights] == list(range(1, 15))
    assert [night["title"] for night in nights if night["outcome"] != "right"] == []
    assert {night["verdict"] for night in nights if not night["is_fault"]} <= HONEST


@pytest.mark.parametrize(
    ("title", "verdict", "said"),
    [
        ("light and dark", "Held", "the brightness in test images has moved from"),
        ("the test images among", "Held", "400 of 400 test images are training images, too"),
        (
            "each other's labels",
            "Held",
            "test images of the champion's data are labelled",
        ),
        ("training labels wrong", "Held", "training images of the champion's data are labelled"),
        ("learns nothing", "Rejected", "hardly more accurate than always answering"),
        ("images blank", "Held", "test images are blank (at most 4)"),
        ("source that is gone", "Failed", "could not be had from any mirror"),
        ("a quarter of", "Held", "test images are too few to judge by (at least 200, half of the"),
        ("a class without", "Held", "the test data has no images of"),
    ],
)
def test_what_the_gate_says_of_a_fault(
    title: str, verdict: str, said: str, fortnight: tuple[int, Document]
) -> None:
    night = next(each for each in fortnight[1]["nights"] if title in each["title"])
    assert night["verdict"] == verdict
    assert said in night["said"]


def test_what_honest_nights_come_to_with_a_machine_at_fault(
    fortnight: tuple[int, Document],
) -> None:
    """The lost champion was whole again, and nobody was judged against the one rolled back."""
    for kind in ("lost", "late"):
        night = next(
            each for each in fortnight[1]["nights"] if each["title"] == of_kind(kind).title
        )
        assert night["verdict"] in HONEST, night
        idle = next(each for each in fortnight[1]["nights"] if "learns nothing" in each["title"])
        number = idle["said"].split()[1]
        assert f"version {number} " not in night["said"]


def test_a_gate_that_was_weakened(rehearse: Rehearse, monkeypatch: pytest.MonkeyPatch) -> None:
    leak, late = titled("the test images among"), of_kind("late")
    nights = (of_kind("training"), leak, late)
    monkeypatch.setattr("digitflow.flows.rehearsal.NIGHTS", nights)
    # No gate for data, and nobody looks whether the champion has moved.
    for name in ("_judge_data", "_champion_on_new", "_level"):
        monkeypatch.setattr(f"digitflow.tasks.gate.compare.{name}", lambda *given: ())
    monkeypatch.setattr(
        ModelStore,
        "_check_still",
        staticmethod(lambda state, model, judged_against: state.champion(model).version),
    )
    code, document = rehearse()
    outcomes = {night["title"]: night for night in document["nights"]}
    assert (code, document["promoted_wrongly"]) == (3, 2)
    assert {title for title, night in outcomes.items() if night["outcome"] == "wrong"} == {
        leak.title,
        late.title,
    }
    caught = outcomes[leak.title]["caught_by"]
    assert caught[0].startswith("--min-improvement 0.0")
    assert caught[-1] == "--approval always"
    # Whoever asks for as much is told that the gate holds.
    monkeypatch.setattr("digitflow.flows.rehearsal.NIGHTS", (leak,))
    assert rehearse(*caught[0].split())[1]["promoted_wrongly"] == 0


def test_nobody_is_asked_about_a_champion_that_is_gone(
    rehearse: Rehearse, monkeypatch: pytest.MonkeyPatch
) -> None:
    nights = (of_kind("training"), of_kind("late"))
    monkeypatch.setattr("digitflow.flows.rehearsal.NIGHTS", nights)
    code, document = rehearse("--approval", "always", "--floor", "0.3")
    assert code == 0
    assert [night["outcome"] for night in document["nights"]] == ["right", "right"]


def test_a_first_champion_that_does_not_pass(
    user: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("digitflow.flows.rehearsal.NIGHTS", NIGHTS[:1])
    cloth = str(user / "cloth")
    small = ["--preset", "quick", "--set", "epochs=1", "hidden_sizes=8", "validation_size=0"]
    command = ["rehearse", "--dataset", cloth, "--model", "other", *small]
    assert main([*command, "--floor", "1"]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "a rehearsal needs a champion, and the first model is none" in said
    assert "is below the floor" in said
    assert main(["rehearse", "--model", "other"]) == 2
    assert "expected a model with a champion, of cloth; found 'other'" in capsys.readouterr().err


def test_a_champion_that_cannot_be_mended_and_an_idle_one_without_a_verdict(
    rehearse: Rehearse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The nights after are played all the same."""
    calm, lost, late = of_kind("none"), of_kind("lost"), of_kind("late")
    nights = (of_kind("training"), lost, late)
    monkeypatch.setattr("digitflow.flows.rehearsal.NIGHTS", nights)
    monkeypatch.setattr("digitflow.flows.rehearsal._records", lambda *given: [])
    code, document = rehearse()
    assert code == 0
    assert [night["outcome"] for night in document["nights"]] == ["right", "odd", "right"]
    monkeypatch.setattr("digitflow.flows.rehearsal.NIGHTS", (late, calm))
    code, document = rehearse()
    assert code == 0
    assert document["nights"][0]["verdict"] == "Skipped"
    assert [night["outcome"] for night in document["nights"]] == ["odd", "right"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_leaves_nothing(
    number: signal.Signals, user: Path, prefect_server: PrefectServer, tmp_path: Path
) -> None:
    """Neither in the store nor on the user's server, nor a folder, nor a process."""
    before, runs = files(user / "store"), prefect_server.ask("/flow_runs/count", {})
    temporary, log = tmp_path / "temporary", tmp_path / "log"
    temporary.mkdir()
    environment = {
        **prefect_server.environment,
        "DIGITFLOW_STORE": str(user / "store"),
        "TMPDIR": str(temporary),
    }
    command = [sys.executable, "-m", "digitflow", "rehearse"]
    with running(command, folder=tmp_path, environment=environment, log=log) as process:

        def a_night_is_over() -> bool:
            if process.poll() is not None:
                raise RuntimeError(f"the rehearsal has ended:\n{log.read_text()}")
            return "night 1\n" in log.read_text()

        wait_for(a_night_is_over, "the first night")
        assert len(list(temporary.iterdir())) == 1
        os.kill(process.pid, number)
        assert process.wait(PATIENCE) == 130, log.read_text()
    assert "stopped; nothing of the rehearsal is kept" in log.read_text()
    assert list(temporary.iterdir()) == []
    wait_for(lambda: not mentioning(str(temporary)), "the end of its processes")
    assert files(user / "store") == before
    assert prefect_server.ask("/flow_runs/count", {}) == runs


def test_sigterm_while_a_run_begins_ends_it_well(
    user: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prefect takes the signal for itself then, and raises what is no exception of Python's own."""

    def begin(*_: object, **__: object) -> None:
        raise TerminationSignal(signal.SIGTERM)

    before = files(user / "store")
    monkeypatch.setattr(Rehearsal, "play", begin)
    assert main(["rehearse"]) == 130
    assert "stopped; nothing of the rehearsal is kept" in "".join(capsys.readouterr())
    assert files(user / "store") == before


def mentioning(text: str) -> list[str]:
    """Return the processes of this machine in whose environment a text stands."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            environment = path.read_bytes()
        except OSError:
            continue
        if text.encode() in environment:
            found.append(path.parent.name)
    return found


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_the_report_fits_a_terminal(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend_a_terminal(monkeypatch, columns)
    out = shown(capsys, "Version 2 is the champion")
    assert all(len(line) <= columns for line in out.splitlines()), out
    assert f"night 2 {NIGHTS[2].title} ought to be Held, was Promoted" in " ".join(out.split())


def test_the_report_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(capsys, "Version 2\x1b[31m is the champion")
    assert f"night 2\n{' ' * 19}{NIGHTS[2].title}\n" in out
    assert "Version 2\\u001b[31m is" in out
    assert "1 of 1 fault changed the champion wrongly:" in out
    assert "caught by --floor 0.97, or --approval always" in out


def shown(capsys: pytest.CaptureFixture[str], said: str) -> str:
    terminal = Terminal(plain_console())
    nights = [
        Played(1, "calm", ("Promoted", "Rejected"), False, "Held", "Held: why. " * 9, "odd", (), 1),
        Played(
            2,
            NIGHTS[2].title,
            ("Held",),
            True,
            "Promoted",
            said,
            "wrong",
            ("--floor 0.97", "--approval always"),
            234.5,
        ),
    ]
    for night in nights:
        _show(terminal, night)
    _summarise(terminal, nights, nights[1:])
    return capsys.readouterr().out
