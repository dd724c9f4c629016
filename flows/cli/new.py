"""`digitflow new`: a small project of one's own, from the files in `project/`."""

from __future__ import annotations

import keyword
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from digitflow.flows.cli.render import plain_console, print_text
from digitflow.storage.backends.atomic import write_bytes
from digitflow.tasks.parameters import ParameterError

_TEMPLATES = Path(__file__).parent / "project"
# What stands for the name in the templates, and in the names of their files.
_NAME = "project_name"
_FILES = {
    "README.md": "README.md.template",
    "pyproject.toml": "pyproject.toml.template",
    "prefect.yaml": "prefect.yaml.template",
    "data.csv": "data.csv",
    f"{_NAME}/__init__.py": "init.py.template",
    f"{_NAME}/stages.py": "stages.py.template",
    f"{_NAME}/flow.py": "flow.py.template",
    f"tests/test_{_NAME}.py": "test.py.template",
}


def new(
    name: Annotated[
        str, Parameter(help="Name of the project, its module and its model: my_project, say.")
    ],
    /,
    *,
    folder: Annotated[
        Path, Parameter(name="--in", help="Folder to make it in.", show_default=False)
    ] = Path(),
) -> None:
    """Write a project: stages, a metric, a flow with a gate, tests, deployments, a table.

    Raises
    ------
    ParameterError
        If it cannot be called so, or there is something in its place.
    """
    _check_name(name)
    project = folder.expanduser() / name
    _check_free(project)
    for file, template in _FILES.items():
        text = (_TEMPLATES / template).read_text(encoding="utf-8").replace(_NAME, name)
        target = project / file.replace(_NAME, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(target, text.encode())
    console = plain_console()
    print_text(console, f"{project} has {len(_FILES)} files; its README.md says what to type")
    print_text(console, f"Next: cd {project} && pip install -e '.[dev]'")


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,49}(?<!_)", name) or keyword.iskeyword(name):
        message = (
            f"{name!r}: expected a name that a module, a package and a model can have: at most 50 "
            "lower-case letters, digits and underscores, a letter first and no underscore last"
        )
        raise ParameterError(message)
    if name == "tests" or name in sys.stdlib_module_names or name in packages_distributions():
        message = f"{name}: there is a module of that name already; choose another"
        raise ParameterError(message)


def _check_free(project: Path) -> None:
    if project.is_dir() and not any(project.iterdir()):
        return
    if project.exists() or project.is_symlink():
        message = (
            f"{project}: expected no such folder, or an empty one, found "
            f"{'one with files in it' if project.is_dir() else 'a file'}; nothing is replaced: "
            "choose another name, or --in another folder"
        )
        raise ParameterError(message)
