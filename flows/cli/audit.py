"""`digitflow audit`: whether what the cache serves is what its stages compute."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from digitflow.flows.cli.arguments import Json
from digitflow.flows.cli.render import Terminal, plain_console
from digitflow.storage.digests import short
from digitflow.storage.store import Store
from digitflow.tasks.parameters import ParameterError
from digitflow.tasks.recomputation.audit import SAMPLE, SampleError, headline, is_red, share_of
from digitflow.tasks.recomputation.audit import audit as audit_records
from digitflow.tasks.recomputation.recompute import CANNOT, DIFFERENT, SAME, Recomputed

EQUAL, UNEQUAL = 0, 1

STYLES = {SAME: "green", DIFFERENT: "red", CANNOT: "yellow"}


def audit(
    *,
    sample: Annotated[
        str, Parameter(help="Share of the records; accepted ones are always among them.")
    ] = SAMPLE,
    stage: Annotated[str | None, Parameter(help="Only records of this stage.")] = None,
    seed: Annotated[int, Parameter(help="Another seed chooses other records.")] = 0,
    json: Json = False,
) -> int:
    """Compute a sample of the cached stages once more and print what differs.

    Returns
    -------
    int
        0 if no output differs, 1 if one does.

    Raises
    ------
    ParameterError, UnknownNameError
        If the sample is no percentage, or the stage has no records.
    """
    try:
        share = share_of(sample)
    except SampleError as error:
        raise ParameterError(str(error)) from error
    console = plain_console()
    terminal = Terminal(console, quiet=json)

    def say(found: Recomputed | None, done: int, total: int) -> None:
        if found is not None:
            print_recomputed(terminal, found)
        if done < total:
            terminal.show_bar("audit", done / total, f"{done}/{total}")
        else:
            terminal.remove_bar("audit")

    with terminal.showing():
        found = audit_records(Store(), share=share, seed=seed, stage=stage, say=say)
    if json:
        data = [each.to_json() for each in found]
        console.print_json(data={"share": share, "seed": seed, "records": data})
    terminal.say(headline(found), "red" if is_red(found) else "")
    return UNEQUAL if is_red(found) else EQUAL


def print_recomputed(terminal: Terminal, found: Recomputed, note: str = "") -> None:
    """Print what came of one record: the verdict, the stage, and the key where it is not same."""
    record = found.record
    notes = ["accepted"] if record.accepted is not None else []
    notes += [note] if note else []
    if found.verdict != SAME:
        notes.insert(0, f"key {short(record.key)}… of run {record.run}")
    notes += [*filter(None, [found.why]), *found.details]
    terminal.line(found.verdict, STYLES[found.verdict], record.label, notes)
