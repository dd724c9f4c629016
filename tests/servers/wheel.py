"""Fixtures of the session: the wheel, built from a copy, and its files as they are installed."""

import os
import shutil
import tomllib
import zipfile
from pathlib import Path

import pytest
import threadpoolctl

from tests.mnist import ROOT
from tests.servers.fixtures import copy_project
from tests.servers.processes import python

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# What is built needs beside the packages.
BUILT_WITH = ("pyproject.toml", "README.md")
BUILD = """
import sys
from setuptools import build_meta
getattr(build_meta, sys.argv[1])(sys.argv[2])
"""


def run(*command: str, folder: Path, path: Path | None = None, code: int = 0) -> str:
    """Run a command of this Python in a folder, with `path` as its PYTHONPATH."""
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    done = python(*command, folder=folder, environment=environment)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def built(project: Path, how: str, folder: Path) -> Path:
    """Build a wheel without isolation, and unpack it in `folder`."""
    run("-c", BUILD, how, str(folder), folder=project)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    wheel.unlink()
    return folder


@pytest.fixture(scope="session")
def buildable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy: building leaves a folder behind that the next build would take files from."""
    folder = copy_project(tmp_path_factory.mktemp("project"))
    for name in BUILT_WITH:
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture(scope="session")
def installed(buildable: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's files, beside a library and another package called `tasks`, as installed."""
    folder = built(buildable, "build_wheel", tmp_path_factory.mktemp("installed"))
    names = {path.name for path in folder.iterdir()}
    assert names == {"digitflow", f"digitflow-{PROJECT['version']}.dist-info"}
    shutil.copy(threadpoolctl.__file__, folder)
    # With its RECORD: what no distribution lists counts as the project's own code.
    (about,) = Path(threadpoolctl.__file__).parent.glob("threadpoolctl-*.dist-info")
    shutil.copytree(about, folder / about.name)
    (folder / "tasks").mkdir()
    (folder / "tasks" / "__init__.py").write_text("raise ImportError('this is not ours')\n")
    return folder
