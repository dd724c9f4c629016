"""What is installed: one package of real files, the same stages, commands that work elsewhere."""

import ast
import json
import re
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.mnist import ROOT
from tests.servers.processes import free_port
from tests.servers.up import DIGITFLOW, running_up
from tests.servers.wheel import PROJECT, built, run

SOURCES = sorted(
    path
    for folder in ("digitflow", "flows", "tasks", "storage")
    for path in (ROOT / folder).rglob("*.py")
)
# Adds a folder to the path as site-packages is one, with what its .pth files say, and before what
# this environment has installed.
STAGES = """
import importlib, json, pkgutil, site, sys
for finder in [each for each in sys.modules if each.startswith("__editable__")]:
    sys.modules.pop(finder)
    sys.meta_path[:] = [each for each in sys.meta_path if each.__module__ != finder]
sys.path.insert(0, sys.argv[1])
site.addsitedir(sys.argv[1])
import digitflow.tasks.stages as room
from digitflow.tasks.engine.stage import Stage
modules = [importlib.import_module(f"{room.__name__}.{each.name}")
           for each in pkgutil.iter_modules(room.__path__)]
stages = {value.name: value for module in modules for value in vars(module).values()
          if isinstance(value, Stage)}
code = {name: stage.code for name, stage in stages.items()}
print(json.dumps({"from": room.__file__, "code": code}))
"""


def test_the_wheel_has_every_source_and_what_they_read(installed: Path) -> None:
    package = installed / "digitflow"
    assert not [path for path in package.rglob("*") if path.is_symlink()]

    def files(root: Path, folder: Path) -> set[str]:
        # Whoever has run from either has left compiled modules there.
        found = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
        return {path.relative_to(root).as_posix() for path in found}

    ours = set().union(*(files(ROOT, ROOT / each) for each in ("flows", "tasks", "storage")))
    found = files(package, package)
    assert found == ours | {"__init__.py", "__main__.py", "py.typed", "prefect.yaml"}
    declared = (package / "prefect.yaml").read_bytes()
    assert declared == (ROOT / "prefect.yaml").read_bytes()


def test_stages_have_the_same_code_however_they_are_installed(
    buildable: Path, installed: Path, tmp_path: Path
) -> None:
    (tmp_path / "editable").mkdir()
    editable = built(buildable, "build_editable", tmp_path / "editable")
    answers = [
        json.loads(run("-P", "-c", STAGES, str(place), folder=tmp_path))
        for place in (ROOT, editable, installed)
    ]
    assert [Path(answer["from"]) for answer in answers] == [
        root / "digitflow/tasks/stages/__init__.py" for root in (ROOT, buildable, installed)
    ]
    in_checkout, in_editable, in_wheel = (answer["code"] for answer in answers)
    assert len(in_checkout["train"]) > 10
    assert all(path.startswith("digitflow/") for path in in_wheel["train"])
    assert in_checkout == in_editable == in_wheel


def test_plan_works_in_another_folder(installed: Path, tmp_path: Path) -> None:
    arguments = ["plan", "--dataset", "sample", "--preset", "quick"]
    shown = run(*DIGITFLOW[1:], *arguments, folder=tmp_path, path=installed, code=3)
    assert "will run  draw-sample" in shown


def imports() -> Iterator[tuple[str, Path]]:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from ((each.name, path) for each in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                yield node.module, path


def test_every_library_that_is_imported_is_declared() -> None:
    extras = PROJECT["optional-dependencies"]
    requirements = [*PROJECT["dependencies"], *extras["onnx"], *extras["heic"]]
    declared = {
        re.match(r"[\w.-]+", each)[0].lower().replace("_", "-")  # type: ignore[index]
        for each in requirements
    }
    distributions = packages_distributions()
    undeclared = set()
    for module, path in imports():
        top = module.partition(".")[0]
        if top in sys.stdlib_module_names or top == "digitflow":
            continue
        owners = {each.lower().replace("_", "-") for each in distributions.get(top, [top])}
        if not owners & declared:
            undeclared.add(f"{path.relative_to(ROOT)}: {top} of {', '.join(sorted(owners))}")
    assert not undeclared


@pytest.mark.slow
@pytest.mark.prefect
def test_run_works_in_another_folder(installed: Path, tmp_path: Path) -> None:
    arguments = ["run", "--dataset", "sample", "--preset", "quick", "--set", "epochs=1"]
    run(*DIGITFLOW[1:], *arguments, folder=tmp_path, path=installed)
    assert (tmp_path / "results").is_dir()


@pytest.mark.slow
@pytest.mark.prefect
def test_up_leaves_results_where_it_was_called(
    installed: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with running_up(tmp_path_factory.mktemp("home"), installed, free_port()) as up:
        assert up.deployed.read("train")["version"] == PROJECT["version"]
        parameters = {"dataset": "sample", "preset": "quick", "epochs": 1}
        run = up.deployed.start("train", parameters=parameters)
        ended = up.deployed.server.finished(run["id"])
        assert ended["state_type"] == "COMPLETED", ended["state"]["message"]
        assert (up.folder / "results").is_dir()
