"""`digitflow new`: what it makes is tested, cached, gated and scheduled as it says."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import yaml  # type: ignore[import-untyped]

from digitflow.flows.cli import new
from digitflow.flows.cli.app import main
from digitflow.flows.server.deploy import find_project
from digitflow.flows.server.endpoint import ServiceError
from digitflow.storage.store import Store
from tests.environment import CLEAN
from tests.mnist import ROOT
from tests.patience import PATIENCE
from tests.servers.prefect_server import PrefectServer
from tests.servers.processes import typed_in
from tests.test_console import agrees
from tests.test_console import typed as commands_in

NAME = "pumps"
PAGE = ROOT / "docs" / "own-project.md"
NOT_TYPED = ("digitflow new", "cd ", "pip install", "digitflow up")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project as it is made."""
    folder = tmp_path_factory.mktemp("new")
    assert main(["new", NAME, "--in", str(folder)]) == 0
    return folder / NAME


def test_it_has_what_its_readme_names_and_little_to_understand(made: Path) -> None:
    readme = (made / "README.md").read_text(encoding="utf-8")
    for name in re.findall(r"`([\w/]+\.(?:py|yaml|csv))`", readme):
        assert (made / name).is_file(), name
    left = [
        path for path in made.rglob("*") if path.is_file() and "project_name" in path.read_text()
    ]
    assert left == []
    lines = [
        line
        for name in ("stages.py", "flow.py")
        for line in (made / NAME / name).read_text(encoding="utf-8").splitlines()
    ]
    assert len(lines) <= 100
    assert len(readme.splitlines()) <= 40  # a screen


def test_a_linter_has_nothing_to_say(made: Path) -> None:
    rules = ["--select", "B,D100,D103,E,F", "--line-length", "100"]
    layout = ["--check", "--line-length", "100"]
    for arguments in (["check", *rules, str(made / NAME)], ["format", *layout, str(made)]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *arguments, "--isolated"],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_file_is_one_of_the_project(made: Path) -> None:
    """None is left out, and none more lies beside the templates."""
    templates = {path.name for path in (Path(new.__file__).parent / "project").iterdir()}
    assert templates == {*new._FILES.values()}
    assert len([path for path in made.rglob("*") if path.is_file()]) == len(templates)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Pumps", "lower-case letters"),
        ("my-pumps", "lower-case letters"),
        ("2pumps", "a letter first"),
        ("../pumps", "lower-case letters"),
        ("class", "lower-case letters"),
        ("json", "a module of that name already"),
        ("numpy", "a module of that name already"),
        ("digitflow", "a module of that name already"),
        ("tests", "a module of that name already"),
    ],
)
def test_a_name_that_would_not_do_is_refused(
    name: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new", name, "--in", str(tmp_path)]) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert [*tmp_path.iterdir()] == []


def test_nothing_is_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / "README.md").write_text("mine")
    (tmp_path / "pumps_2").touch()
    (tmp_path / "pumps_3").symlink_to(tmp_path / "nowhere")
    for name in (NAME, "pumps_2", "pumps_3"):
        assert main(["new", name, "--in", str(tmp_path)]) == 2
        assert "nothing is replaced" in " ".join(capsys.readouterr().err.split())
    assert (tmp_path / NAME / "README.md").read_text() == "mine"
    assert [each.name for each in (tmp_path / NAME).iterdir()] == ["README.md"]
    (tmp_path / "pumps_4").mkdir()
    assert main(["new", "pumps_4", "--in", str(tmp_path)]) == 0


def test_its_deployment_is_scheduled_and_has_a_verdict_every_night(made: Path) -> None:
    project = find_project(made)
    assert (project.folder, project.nightly) == (made, f"{NAME}-nightly")
    (deployment,) = project.deployments
    assert deployment["entrypoint"] == f"{NAME}.flow.{NAME}"
    ours = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
    (nightly,) = [each for each in ours if each["name"] == "retrain-nightly"]
    for what in ("work_pool", "schedules", "concurrency_limit"):
        assert deployment[what] == nightly[what]
    assert find_project().nightly == "retrain-nightly"
    with pytest.raises(ServiceError, match="digitflow new NAME makes one"):
        find_project(made / NAME)


@pytest.fixture
def typed(
    made: Path, prefect_server: PrefectServer, tmp_path: Path
) -> Callable[[str], tuple[int, str]]:
    """Type a command in a copy of the project, with a store of its own, beside a server."""
    pytest.importorskip("sklearn", reason="scikit-learn is not installed: make install")
    environment = {
        **CLEAN,
        "HOME": str(tmp_path / "home"),
        "DIGITFLOW_STORE": str(tmp_path / "store"),
        "PREFECT_API_URL": f"{prefect_server.url}/api",
        "PYTHONDONTWRITEBYTECODE": "1",
        "COLUMNS": "100",
    }
    (tmp_path / "home").mkdir()
    subprocess.run(["cp", "-r", str(made), str(tmp_path / NAME)], check=True)

    def run(command: str) -> tuple[int, str]:
        words = shlex.split(command)
        programs = {"digitflow": ["-m", "digitflow"], "prefect": ["-m", "prefect"], "python": []}
        if words[0] in programs:
            words = [sys.executable, *programs[words[0]], *words[1:]]
        return typed_in(words, folder=tmp_path / NAME, environment=environment)

    return run


def commands_of(document: Path) -> list[str]:
    return [re.sub(r"\s+#.*", "", each.command) for each in commands_in(document)]


def test_the_page_and_the_readme_of_the_project_say_the_same(made: Path) -> None:
    page = commands_of(PAGE)
    assert len(page) <= 15
    assert page[:2] == [f"digitflow new {NAME}", f"cd {NAME}"]
    assert page[2:] == commands_of(made / "README.md")


@pytest.mark.prefect
def test_a_newcomer_types_what_the_page_says(
    typed: Callable[[str], tuple[int, str]], tmp_path: Path
) -> None:
    # What installs is not typed, nor what stays up: tests/deploy/test_up.py.
    steps = [each for each in commands_in(PAGE) if not each.command.startswith(NOT_TYPED)]
    assert len(steps) == 9
    wrong = []
    for each in steps:
        code, printed = typed(each.command)
        # Something would run, or a model was rejected.
        expected = 3 if "will run" in str(each.shown) or "rejected" in str(each.shown) else 0
        if code != expected or (each.shown is not None and not agrees(each.shown, printed)):
            wrong.append(
                f"{each.command}: exit code {code}\nexpected\n{each.shown}\nfound\n{printed}"
            )
    assert wrong == [], "\n".join(wrong)
    code, shown = typed("digitflow runs")
    assert code == 0
    assert "flows of your own came to: digitflow status" in shown

    # Labels that are wrong teach what is wrong.
    table = tmp_path / NAME / "data.csv"
    head, *rows = table.read_text().splitlines()
    wrong = [row[:-1] + str(1 - int(row[-1])) for row in rows]
    table.write_text("\n".join([head, *wrong]) + "\n")
    code, shown = typed(f"digitflow run {NAME}.flow:{NAME}")
    assert code == 3, shown
    assert re.search(r"ran +[\d.]+ s +read +file data.csv changed", shown), shown
    assert "the champion's own test rows" in " ".join(shown.split())
    champion = Store(tmp_path / "store").models.champion(NAME)
    assert champion is not None
    assert champion.version == 1


@pytest.mark.prefect
def test_it_is_deployed_and_told_of(
    made: Path, typed: Callable[[str], tuple[int, str]], prefect_server: PrefectServer
) -> None:
    code, shown = typed("digitflow deploy . --notify json://127.0.0.1:9/")
    assert code == 0, shown
    assert re.search(rf"{NAME}-nightly +\w{{3}} \d\d \w{{3}} 04:15 Europe/London", shown), shown
    assert "Somebody is told if a model was rejected or held" in " ".join(shown.split())
    assert f"no verdict for 26 hours: {NAME}-nightly" in " ".join(shown.split())
    # The server is one of the whole session.
    api = f"{prefect_server.url}/api"
    for each in prefect_server.ask("/automations/filter", {}):
        httpx.delete(f"{api}/automations/{each['id']}").raise_for_status()
    for each in prefect_server.ask("/deployments/filter", {}):
        if each["name"] == f"{NAME}-nightly":
            httpx.delete(f"{api}/deployments/{each['id']}").raise_for_status()
