"""`digitflow reproduce`: a registered model, trained once more from its records."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from digitflow.flows.cli.arguments import Json, Version
from digitflow.flows.cli.audit import EQUAL, UNEQUAL, print_recomputed
from digitflow.flows.cli.render import Terminal, plain_console
from digitflow.storage.history.models import ModelVersion
from digitflow.storage.store import Store
from digitflow.tasks.recomputation.recompute import SAME, Recomputed
from digitflow.tasks.recomputation.reproduce import lost_of
from digitflow.tasks.recomputation.reproduce import reproduce as reproduce_version


def reproduce(
    version: Version,
    /,
    *,
    venv: Annotated[
        bool, Parameter(help="Install the packages of the commit's requirements.txt first.")
    ] = False,
    restore: Annotated[
        bool,
        Parameter(
            help="Put back what the store has lost of the model, if every stage is the same."
        ),
    ] = False,
    json: Json = False,
) -> int:
    """Train a model once more in a clean environment and print what differs first.

    Returns
    -------
    int
        0 if every stage gives the same bytes, 1 if one does not, or if the store has lost what they
        are and it is not put back.

    Raises
    ------
    UnknownNameError
        If there is no such version.
    NotReproducibleError, CodeBaseError
        If a record, the data, the code or its packages are not to be had.
    """
    store = Store()
    store.connect()
    chosen = store.models.find(version)
    console = plain_console()
    terminal = Terminal(console, quiet=json)
    code: dict[str, str] = {}

    def say(found: Recomputed, with_what: str) -> None:
        code[found.record.key] = with_what
        print_recomputed(terminal, found, with_what)

    terminal.say(f"version {chosen.version}, trained by run {chosen.run}", "bold")
    if venv:
        terminal.say("the packages of each commit are installed first, which takes minutes", "dim")
    with terminal.showing():
        lost = _names_of_lost(store, chosen)
        found = reproduce_version(store, chosen, venv=venv, restore=restore, say=say)
    is_same = all(each.verdict == SAME for each in found)
    is_whole = is_same and (restore or not lost)
    if json:
        stages = [{**each.to_json(), "with": code[each.record.key]} for each in found]
        data = {"version": chosen.version, "same": is_whole, "lost": lost, "stages": stages}
        console.print_json(data=data)
    if not is_same:
        terminal.say(f"{found[-1].record.label} is the first stage that differs", "red")
        return UNEQUAL
    same = "every stage gives the same bytes"
    gone = f"lost or damaged in the store: {', '.join(lost)}; put back"
    if is_whole:
        terminal.say(f"same: {same}", "green")
        if lost:
            terminal.say(gone)
    else:
        again = f"by digitflow reproduce v{chosen.version} --restore"
        terminal.say(f"{same}, but {gone} {again}", "red")
    return EQUAL if is_whole else UNEQUAL


def _names_of_lost(store: Store, version: ModelVersion) -> list[str]:
    lost = lost_of(store, version)
    names = ("weights", "predictions", "calibration")
    return [name for name in names if getattr(version, name) in lost]
