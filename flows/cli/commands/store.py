"""`digitflow gc` and `digitflow verify`: a store, kept tidy and sound, here or behind its URL."""

from __future__ import annotations

import json as json_format

from rich.console import Console

from digitflow.flows.cli.commands.units import megabytes
from digitflow.storage.cache import Cache
from digitflow.storage.gc import find_garbage, sweep
from digitflow.storage.places import MIN_KEEP_DAYS
from digitflow.storage.verify import find_damage
from digitflow.storage.verify import repair as repair_damage
from digitflow.tasks.parameters import ParameterError

SOUND, DAMAGED = 0, 1

KINDS = {
    "record": "records of stages",
    "run": "records of runs",
    "batch": "records of predictions",
    "object": "objects that nothing refers to",
    "scratch": "interrupted downloads and trainings",
    "temporary": "temporary files",
}


def collect_garbage(
    console: Console, keep_days: float, *, shared: bool, apply: bool, json: bool
) -> None:
    """Say what can go and how many bytes; delete it if `apply`.

    Raises
    ------
    ParameterError
        If what is shared is asked for and the store is not, or `keep_days` is less than is safe.
    """
    if shared and keep_days < MIN_KEEP_DAYS:
        message = (
            f"--keep-days {keep_days:g}: expected at least {MIN_KEEP_DAYS:g} with --shared, for "
            "other machines may be using what is younger"
        )
        raise ParameterError(message)
    cache = Cache()
    place = _place(cache, shared)
    garbage = (sweep if apply else find_garbage)(cache, keep_days, shared=shared)
    if json:
        items = [
            {"kind": item.kind, **_where(cache, shared, item.name), "bytes": item.size}
            for item in garbage.items
        ]
        document = {"applied": apply, "bytes": garbage.size, "items": items}
        console.print_json(json_format.dumps({**_store(place, shared), **document}))
        return
    for kind, meaning in KINDS.items():
        items_of_it = [item for item in garbage.items if item.kind == kind]
        if items_of_it:
            size = megabytes(sum(item.size for item in items_of_it))
            console.print(f"  {len(items_of_it):6,}  {meaning:38} {size:>9}", highlight=False)
    if not garbage.items:
        said = f"nothing to delete in {place}"
    elif apply:
        said = f"deleted {megabytes(garbage.size)} from {place}"
    else:
        option = " --shared" if shared else ""
        said = (
            f"{megabytes(garbage.size)} can go from {place}\n"
            f"delete with: digitflow gc{option} --apply"
        )
    console.print(said, soft_wrap=True)
    if not shared:
        _say_whose(console, cache, "is left alone; sweep it with: digitflow gc --shared")


def verify_store(console: Console, *, shared: bool, repair: bool, json: bool) -> int:
    """Hash everything again and list damage.

    Returns
    -------
    int
        0 if all is sound, 1 if anything is damaged, repaired or not.

    Raises
    ------
    ParameterError
        If what is shared is asked for and the store is not.
    """
    cache = Cache()
    place = _place(cache, shared)
    report = find_damage(cache, shared=shared)
    if repair:
        repair_damage(cache, report, shared=shared)
    if json:
        damaged = [
            {"kind": each.kind, **_where(cache, shared, each.name), "problem": each.problem}
            for each in report.damaged
        ]
        document = {
            "objects": report.objects,
            "records": report.records,
            "bytes": report.size,
            "damaged": damaged,
            "repaired" if shared else "removed": repair,
        }
        console.print_json(json_format.dumps({**_store(place, shared), **document}))
        return DAMAGED if report.damaged else SOUND
    for each in report.damaged:
        console.print(f"  damaged {each.kind}: {each.problem}", soft_wrap=True, markup=False)
    done, whose, option = ", and removed: the next run builds them again", "", ""
    if shared:
        done = "; what this machine has was sent again, the rest removed and built by the next run"
        whose, option = f" of {place}", " --shared"
    console.print(
        f"{report.objects:,} objects ({megabytes(report.size)}) and {report.records:,} records"
        f"{whose} verified, {len(report.damaged)} damaged"
        + (done if repair and report.damaged else ""),
        soft_wrap=True,
    )
    if report.damaged and not repair:
        console.print(f"repair with: digitflow verify{option} --repair")
    if not shared:
        _say_whose(console, cache, "was not read; verify it with: digitflow verify --shared")
    return DAMAGED if report.damaged else SOUND


def _place(cache: Cache, shared: bool) -> str:
    """Return what is looked at, for people."""
    if not shared:
        return str(cache.root)
    if cache.shared is None:
        message = (
            f"--shared: expected DIGITFLOW_STORE to be a URL such as s3://bucket/prefix, found "
            f"the folder {cache.root}; leave --shared out"
        )
        raise ParameterError(message)
    return str(cache.shared.remote)


def _say_whose(console: Console, cache: Cache, what_of_it: str) -> None:
    """Say of a shared store that only this machine's part of it was looked at."""
    if cache.shared is not None:
        console.print(
            f"these are the copies of this machine; {cache.shared.remote} {what_of_it}",
            soft_wrap=True,
            style="dim",
        )


def _store(place: str, shared: bool) -> dict[str, str]:
    return {"store": place} if shared else {}


def _where(cache: Cache, shared: bool, name: str) -> dict[str, str]:
    return {"name": name} if shared else {"path": str(cache.root / name)}
