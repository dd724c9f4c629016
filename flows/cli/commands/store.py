"""`digitflow gc` and `digitflow verify`: the store, kept tidy and sound."""

from __future__ import annotations

import json as json_format

from rich.console import Console

from digitflow.flows.cli.commands.units import megabytes
from digitflow.storage.cache import Cache
from digitflow.storage.gc import Garbage, find_garbage, sweep
from digitflow.storage.verify import find_damage, remove_damage

SOUND, DAMAGED = 0, 1

KINDS = {
    "record": "records of stages",
    "run": "records of runs",
    "batch": "records of predictions",
    "object": "objects that nothing refers to",
    "scratch": "interrupted downloads and trainings",
    "temporary": "temporary files",
}


def collect_garbage(console: Console, keep_days: float, *, apply: bool, json: bool) -> None:
    """Say what can go and how many bytes; delete it if `apply`."""
    cache = Cache()
    garbage = sweep(cache, keep_days) if apply else find_garbage(cache, keep_days)
    if json:
        console.print_json(json_format.dumps(_document(garbage, applied=apply)))
        return
    for kind, meaning in KINDS.items():
        items = [item for item in garbage.items if item.kind == kind]
        if items:
            size = megabytes(sum(item.size for item in items))
            console.print(f"  {len(items):6,}  {meaning:38} {size:>9}", highlight=False)
    if not garbage.items:
        console.print(f"nothing to delete in {cache.root}", soft_wrap=True)
    elif apply:
        console.print(f"deleted {megabytes(garbage.size)} from {cache.root}", soft_wrap=True)
    else:
        console.print(
            f"{megabytes(garbage.size)} can go from {cache.root}\n"
            "delete with: digitflow gc --apply",
            soft_wrap=True,
        )
    _say_whose(console, cache, "is left alone; sweep it with: digitflow gc --shared")


def verify_store(console: Console, *, repair: bool, json: bool) -> int:
    """Hash everything again and list damage.

    Returns
    -------
    int
        0 if all is sound, 1 if anything is damaged, repaired or not.
    """
    cache = Cache()
    report = find_damage(cache)
    if repair:
        remove_damage(cache, report)
    if json:
        document = {
            "objects": report.objects,
            "records": report.records,
            "bytes": report.size,
            "damaged": [
                {"kind": each.kind, "path": str(each.path), "problem": each.problem}
                for each in report.damaged
            ],
            "removed": repair,
        }
        console.print_json(json_format.dumps(document))
    else:
        for each in report.damaged:
            console.print(f"  damaged {each.kind}: {each.problem}", soft_wrap=True, markup=False)
        console.print(
            f"{report.objects:,} objects ({megabytes(report.size)}) and {report.records:,} records "
            f"verified, {len(report.damaged)} damaged"
            + (
                ", and removed: the next run builds them again" if repair and report.damaged else ""
            ),
            soft_wrap=True,
        )
        if report.damaged and not repair:
            console.print("remove them with: digitflow verify --repair")
        _say_whose(console, cache, "was not read; verify it with: digitflow verify --shared")
    return DAMAGED if report.damaged else SOUND


def _say_whose(console: Console, cache: Cache, what_of_it: str) -> None:
    """Say of a shared store that only this machine's part of it was looked at."""
    if cache.shared is not None:
        console.print(
            f"these are the copies of this machine; {cache.shared.remote} {what_of_it}",
            soft_wrap=True,
            style="dim",
        )


def _document(garbage: Garbage, *, applied: bool) -> dict[str, object]:
    return {
        "applied": applied,
        "bytes": garbage.size,
        "items": [
            {"kind": item.kind, "path": str(item.path), "bytes": item.size}
            for item in garbage.items
        ],
    }
