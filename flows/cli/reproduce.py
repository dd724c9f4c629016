"""`digitflow reproduce`: a registered model, trained once more from its records."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from digitflow.flows.cli.arguments import Json, Version
from digitflow.flows.cli.audit import EQUAL, UNEQUAL, print_recomputed
from digitflow.flows.cli.render import Terminal, plain_console
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
        0 if every stage gives the same bytes, 1 if one does not.

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
        lost = lost_of(store, chosen)
        found = reproduce_version(store, chosen, venv=venv, restore=restore, say=say)
    is_same = all(each.verdict == SAME for each in found)
    if json:
        stages = [{**each.to_json(), "with": code[each.record.key]} for each in found]
        console.print_json(data={"version": chosen.version, "same": is_same, "stages": stages})
    if is_same:
        terminal.say("same: every stage gives the same bytes", "green")
        if lost:
            terminal.say(_of_lost(len(lost), chosen.version, restore))
    else:
        terminal.say(f"{found[-1].record.label} is the first stage that differs", "red")
    return EQUAL if is_same else UNEQUAL


def _of_lost(count: int, version: int, restored: bool) -> str:
    what = f"{count} object{'s' if count > 1 else ''} that the store had lost"
    if restored:
        return f"{what}: put back"
    return f"{what}: put back by digitflow reproduce v{version} --restore"
