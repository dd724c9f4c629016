"""Which commands and options there are, their help, and how little is loaded to find out."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cyclopts import App, Argument

from digitflow.flows.cli.app import app, main
from digitflow.storage.store import Store
from tests.answers import SET_TINY
from tests.patience import PATIENCE
from tests.terminal import pretend_a_terminal

ROOT = Path(__file__).resolve().parents[3]
HEAVY = {"prefect", "numpy", "pandas", "matplotlib", "obstore", "requests", "httpx"}

Options = list[tuple[Argument, str]]

# Scripts are written for these: none may vanish, and no default may change, by accident. What is
# required has an exclamation mark.
COMMANDS = """\
run FLOW --preset=tutorial --dataset --mirror --set --workers --scheduler --output --members \
--refresh --from --until --param --quiet --verbose
retrain --preset=tutorial --dataset --mirror --set --workers --scheduler --output --model \
--min-improvement=0.0 --max-class-drop=0.02 --floor=0.5 --approval=never --approval-hours=24.0 \
--quiet --verbose
rehearse --preset --dataset --mirror --set --workers --model --min-improvement=0.0 \
--max-class-drop=0.02 --floor=0.5 --approval=never --approval-hours=24.0 --json
plan FLOW --preset=tutorial --dataset --mirror --set --workers --scheduler --output --members \
--refresh --from --until --param --json
new NAME! --in=.
sweep FILE --preset=quick --dataset --mirror --set --workers --scheduler --output --grid --random \
--seed=0 --metric=validation_accuracy --early-stop --quiet --verbose
parameters --preset=tutorial --json
runs --last=20 --json
show NAME! --json
diff RUN! OTHER --json
models --json
models show VERSION --json
models promote VERSION! --why=promoted by hand --model
models rollback --why --model
models approve VERSION! --why! --model
models reject VERSION! --why! --model
models quarantine VERSION! --why!
models hold MODEL --why!
models release WHAT! --why
models export VERSION --to!
status --last=7 --html --json
why NAME! --html --json
reproduce VERSION! --venv --restore --json
predict FILES --model --json --csv --record
drift --model --last=10 --json
serve --model --host=127.0.0.1 --port=8000
dataset
dataset list --json
dataset show NAME! --json
dataset check NAME! --json
dataset add PLACE! --name! --class-names --transposed --moving --prefix --title --replace
dataset sample --count! --to! --test --seed=20260101
gc --keep-days=30.0 --apply --shared --json
verify --repair --shared --json
accept STAGE! --preset=tutorial --dataset --mirror --set --workers --scheduler --output --reason! \
--by --flow --param --json
audit --sample=5% --stage --seed=0 --json
up FOLDER --port --workers=2 --notify
down
deploy FOLDER --notify
monitor --pool=digitflow --silence=90
server
""".splitlines()


def commands(parents: tuple[App, ...] = (app,), path: str = "") -> Iterator[tuple[str, Options]]:
    """Yield every command with its arguments and options."""
    for name in parents[-1]:
        if name.startswith("-"):
            continue
        command = parents[-1][name]
        options = []
        if command.default_command is not None:
            with app.app_stack([*parents, command]):
                found = command.assemble_argument_collection()
                options = [(each, "|".join(each.names)) for each in found if each.show]
        yield f"{path}{name}", options
        yield from commands((*parents, command), f"{path}{name} ")


def shown(argument: Argument, names: str) -> str:
    default = argument.field_info.default
    if argument.required:
        return f"{names}!"
    if default in (None, "", argument.field_info.empty) or default is False:
        return names
    return f"{names}={' '.join(default) if isinstance(default, tuple) else default}"


def test_no_command_option_or_default_has_changed():
    found = [
        " ".join([command, *(shown(*each) for each in options)]) for command, options in commands()
    ]
    assert found == COMMANDS


def test_every_option_says_what_it_is():
    silent = [
        f"{command} {names}"
        for command, options in commands()
        for argument, names in options
        if not argument.parameter.help
    ]
    assert silent == []


@pytest.mark.parametrize("name", ["", *(command for command, _ in commands())])
def test_help(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    pretend_a_terminal(monkeypatch)
    assert main([*name.split(), "--help"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert f"Usage: digitflow {name}".rstrip() in shown.out
    assert all(len(line) <= 80 for line in shown.out.splitlines())
    assert "[default: False]" not in shown.out


@pytest.mark.parametrize(
    "arguments", [["--help"], ["plan"], ["run"], ["run", "--help"], ["parameters"]]
)
def test_little_is_loaded_before_there_is_work(
    arguments: list[str], cache: Store, tiny_directory: Path, tmp_path: Path
):
    if arguments in (["plan"], ["run"]):  # and everything is cached
        arguments = [*arguments, "--dataset", str(tiny_directory), *SET_TINY]
    script = (
        "import sys, json\n"
        "from digitflow.flows.cli.app import main\n"
        f"code = main({arguments!r})\n"
        f"print(json.dumps([code, sorted({HEAVY!r} & set(sys.modules))]), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={
            "PYTHONPATH": str(ROOT),
            "DIGITFLOW_STORE": str(cache.root),
            "HOME": str(tmp_path / "home"),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stderr) == [0, []]


@pytest.fixture
def clean(tmp_path: Path) -> dict[str, str]:
    return {"PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "DIGITFLOW_STORE": str(tmp_path / "s")}


def test_a_reader_that_goes_early_ends_it_as_sigpipe_would(clean: dict[str, str]):
    """As `digitflow parameters | head -1`: enough is written to fill the pipe and fail."""
    script = (
        "import sys; from digitflow.flows.cli.app import main\n"
        "sys.stdin.read()\n"
        "sys.exit(main(['parameters', '--json']))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        env=clean,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        process.stdin.close()
        assert process.stderr.read() == b""
        assert process.wait(PATIENCE) == 128 + signal.SIGPIPE


def test_an_encoding_without_our_signs(clean: dict[str, str]):
    done = subprocess.run(
        [sys.executable, "-m", "digitflow", "parameters"],
        env={**clean, "PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"(? 1, ? 10,000)" in done.stdout
