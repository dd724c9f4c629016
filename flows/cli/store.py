"""`digitflow gc` and `verify`: the store kept tidy and sound, here or behind its URL."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from digitflow.flows.cli.arguments import Json
from digitflow.flows.cli.render import megabytes, plain_console, print_text, showing_progress
from digitflow.storage.store import Store
from digitflow.storage.upkeep.gc import find_garbage, sweep
from digitflow.storage.upkeep.places import MIN_KEEP_DAYS
from digitflow.storage.upkeep.verify import find_damage
from digitflow.storage.upkeep.verify import repair as repair_damage
from digitflow.tasks.parameters import ParameterError

SOUND, DAMAGED = 0, 1

_KINDS = {
    "record": "records of stages",
    "run": "records of runs",
    "batch": "records of predictions",
    "object": "objects that nothing refers to",
    "scratch": "interrupted downloads and trainings",
    "temporary": "temporary files",
}

Shared = Annotated[
    bool,
    Parameter(
        name="--shared",
        help="Use the shared store at the URL in DIGITFLOW_STORE, not this machine's copies.",
    ),
]


def gc(
    *,
    keep_days: Annotated[
        float, Parameter(help="Keep records and runs that were used within this many days.")
    ] = 30.0,
    apply: Annotated[bool, Parameter(help="Delete, instead of only listing.")] = False,
    shared: Shared = False,
    json: Json = False,
) -> None:
    """Print what can go and how many bytes; delete it if `apply`.

    Raises
    ------
    ParameterError
        If the store is not shared but should be, or `keep_days` is less than is safe there.
    """
    cache = Store()
    if shared and keep_days < MIN_KEEP_DAYS:
        message = (
            f"--keep-days {keep_days:g}: expected at least {MIN_KEEP_DAYS:g} with --shared, "
            "because other machines may be using what is younger"
        )
        raise ParameterError(message)
    place, option = _place(cache, shared)
    with showing_progress() as tell:
        found = (sweep if apply else find_garbage)(cache, keep_days, shared=shared, tell=tell)
    items = found.items
    console = plain_console()
    size = sum(item.size for item in items)
    if json:
        listed = [
            {"kind": each.kind, **_where(cache, shared, each.name), "bytes": each.size}
            for each in items
        ]
        document = {"store": place, "applied": apply, "bytes": size, "items": listed}
        console.print_json(data=document)
        return
    for kind, meaning in _KINDS.items():
        sizes = [item.size for item in items if item.kind == kind]
        if sizes:
            console.print(f"  {len(sizes):6,}  {meaning:38} {megabytes(sum(sizes)):>9}")
    if not items:
        print_text(console, f"nothing to delete in {place}")
    elif apply:
        print_text(console, f"deleted {megabytes(size)} from {place}")
    else:
        can_go = f"{megabytes(size)} can be deleted from {place}"
        print_text(console, f"{can_go}\ndelete with: digitflow gc{option} --apply")
    if not shared:
        _say_whose(console, cache, "is left alone; sweep it with: digitflow gc --shared")


def verify(
    *,
    repair: Annotated[
        bool,
        Parameter(
            help="Heal what has a copy, and remove what stages can make again; say what was done."
        ),
    ] = False,
    shared: Shared = False,
    json: Json = False,
) -> int:
    """Hash everything again and print what is damaged.

    Returns
    -------
    int
        0 if all is sound, 1 if anything is damaged, repaired or not.

    Raises
    ------
    ParameterError
        If the store is not shared but should be.
    """
    cache = Store()
    place, option = _place(cache, shared)
    with showing_progress() as tell:
        report = find_damage(cache, shared=shared, tell=tell)
    repairs = repair_damage(cache, report, shared=shared) if repair else []
    left = sum(not each.is_healed for each in repairs)
    console = plain_console()
    if json:
        document = {
            "store": place,
            "objects": report.objects,
            "records": report.records,
            "bytes": report.size,
            "damaged": [
                {"kind": each.kind, **_where(cache, shared, each.name), "problem": each.problem}
                for each in report.damaged
            ],
            "repairs": [
                {
                    **_where(cache, shared, each.damage.name),
                    "done": each.done,
                    "left": not each.is_healed,
                }
                for each in repairs
            ],
        }
        console.print_json(data=document)
        return DAMAGED if report.damaged else SOUND
    for each in report.damaged:
        print_text(console, f"  damaged {each.kind}: {each.problem}", "red")
    print_text(
        console,
        f"{report.objects:,} objects ({megabytes(report.size)}) and {report.records:,} records "
        f"of {place} verified, {len(report.damaged)} damaged",
    )
    for repaired in repairs:
        name = f"{repaired.damage.kind} {repaired.damage.name}"
        print_text(console, f"  {name}: {repaired.done}", "yellow" if repaired.is_healed else "red")
    if left:
        print_text(console, f"{left} of {len(repairs)} could not be repaired", "red")
    if report.damaged and not repair:
        console.print(f"repair with: digitflow verify{option} --repair")
    if not shared:
        _say_whose(console, cache, "was not read; verify it with: digitflow verify --shared")
    return DAMAGED if report.damaged else SOUND


def _place(cache: Store, shared: bool) -> tuple[str, str]:
    """Return what is looked at, for people, and the option that asks for it."""
    if not shared:
        return str(cache.root), ""
    if cache.shared is None:
        message = (
            f"--shared: expected DIGITFLOW_STORE to be a URL such as s3://bucket/prefix, found "
            f"the folder {cache.root}; leave --shared out"
        )
        raise ParameterError(message)
    return str(cache.shared.remote), " --shared"


def _where(cache: Store, shared: bool, name: str) -> dict[str, str]:
    """Return where something in a store lies, for JSON."""
    return {"name": name} if shared else {"path": str(cache.root / name)}


def _say_whose(console: Console, cache: Store, what_of_it: str) -> None:
    """Say of a shared store that only this machine's part of it was looked at."""
    if cache.shared is not None:
        text = f"these are the copies of this machine; {cache.shared.remote} {what_of_it}"
        print_text(console, text, "dim")
