"""Every option of every command mistyped, without its value, and with a value of another kind.

One style of error, before any work, that names what was typed.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from cyclopts import App

from digitflow.flows.cli.app import app
from tests.answers import Cli

# Words of the command, the option, its type; and what the command cannot do without.
Option = tuple[tuple[str, ...], str, Any, tuple[str, ...]]


def commands(of: App, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], App]]:
    for name in of:
        if not name.startswith("-"):
            command = of[name]
            yield from commands(command, (*path, name))
            if command.default_command is not None:
                yield (*path, name), command


def options() -> Iterator[Option]:
    for path, command in commands(app):
        arguments = command.assemble_argument_collection(default_parameter=app.default_parameter)
        for argument in arguments:
            others = [each.name for each in arguments if each.required and each is not argument]
            needed = tuple(
                part for name in others for part in ((name, "1") if name[0] == "-" else ("1",))
            )
            for name in argument.names:
                if name.startswith("--"):
                    yield path, name, argument.hint, needed


OPTIONS = list(options())


def kinds(hint: Any) -> tuple[Any, ...]:
    """Return the types that a value may have, of each of several where it takes several."""
    if get_origin(hint) is Literal:
        return (Literal,)
    inside = [kind for each in get_args(hint) for kind in kinds(each)]
    return tuple(inside) or (hint,)


def is_flag(hint: Any) -> bool:
    return bool in kinds(hint)


def refused(cli: Cli, *arguments: str) -> str:
    answer = cli(*arguments)
    assert answer.code == 2, answer
    assert answer.out == ""
    assert answer.err.startswith("error: ")
    assert not answer.err.rstrip().endswith("?.")
    assert "Traceback" not in answer.err
    assert not list(Path.cwd().iterdir())
    return answer.err


def test_every_command_is_tried():
    paths = {path for path, *_ in OPTIONS}
    assert {("run",), ("sweep",), ("models", "export"), ("dataset", "add")} <= paths
    assert len(OPTIONS) > 60


@pytest.mark.parametrize("option", OPTIONS, ids=lambda each: " ".join((*each[0], each[1])))
def test_a_mistyped_option_is_refused_by_name(cli: Cli, option: Option):
    path, name, hint, needed = option
    mistyped = f"{name}{name[-1]}"
    assert mistyped in refused(cli, *path, *needed, mistyped, *([] if is_flag(hint) else ["1"]))


@pytest.mark.parametrize(
    "option",
    [each for each in OPTIONS if not is_flag(each[2])],
    ids=lambda each: " ".join((*each[0], each[1])),
)
def test_an_option_without_its_value_is_refused_by_name(cli: Cli, option: Option):
    path, name, _, needed = option
    assert name in refused(cli, *path, *needed, name)


@pytest.mark.parametrize(
    "option",
    [each for each in OPTIONS if {int, float, Literal} & set(kinds(each[2]))],
    ids=lambda each: " ".join((*each[0], each[1])),
)
def test_a_value_of_another_kind_is_refused_by_name(cli: Cli, option: Option):
    path, name, _, needed = option
    said = refused(cli, *path, *needed, name, "zzz")
    assert name in said
    assert "zzz" in said
