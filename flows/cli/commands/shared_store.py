"""`digitflow gc --shared` and `digitflow verify --shared`: what lies behind the store's URL."""

from __future__ import annotations

import json as json_format

from rich.console import Console

from digitflow.flows.cli.commands.store import DAMAGED, KINDS, SOUND
from digitflow.flows.cli.commands.units import megabytes
from digitflow.storage.cache import Cache
from digitflow.storage.remote.gc import MIN_KEEP_DAYS, find_shared_garbage, sweep_shared
from digitflow.storage.remote.store import SharedStore
from digitflow.storage.remote.verify import find_shared_damage, repair_shared
from digitflow.tasks.parameters import ParameterError


def collect_shared_garbage(console: Console, keep_days: float, *, apply: bool, json: bool) -> None:
    """Say what can go from the shared store and how many bytes; delete it if `apply`.

    Raises
    ------
    ParameterError
        If the store is not shared, or `keep_days` is less than is safe.
    """
    if keep_days < MIN_KEEP_DAYS:
        message = (
            f"--keep-days {keep_days:g}: expected at least {MIN_KEEP_DAYS:g} with --shared, for "
            "other machines may be using what is younger"
        )
        raise ParameterError(message)
    cache = Cache()
    remote = _shared(cache).remote
    in_use = set(cache.models.references())
    items = (sweep_shared if apply else find_shared_garbage)(remote, keep_days, in_use)
    size = sum(item.size for item in items)
    if json:
        document = {
            "store": str(remote),
            "applied": apply,
            "bytes": size,
            "items": [{"kind": item.kind, "name": item.name, "bytes": item.size} for item in items],
        }
        console.print_json(json_format.dumps(document))
        return
    for kind, meaning in KINDS.items():
        sizes = [item.size for item in items if item.kind == kind]
        if sizes:
            line = f"  {len(sizes):6,}  {meaning:38} {megabytes(sum(sizes)):>9}"
            console.print(line, highlight=False)
    if not items:
        console.print(f"nothing to delete in {remote}", soft_wrap=True)
    elif apply:
        console.print(f"deleted {megabytes(size)} from {remote}", soft_wrap=True)
    else:
        console.print(
            f"{megabytes(size)} can go from {remote}\ndelete with: digitflow gc --shared --apply",
            soft_wrap=True,
        )


def verify_shared_store(console: Console, *, repair: bool, json: bool) -> int:
    """Download and hash everything in the shared store and list damage.

    Returns
    -------
    int
        0 if all is sound, 1 if anything is damaged, repaired or not.

    Raises
    ------
    ParameterError
        If the store is not shared.
    """
    shared = _shared(Cache())
    report = find_shared_damage(shared)
    if repair:
        repair_shared(shared, report)
    if json:
        document = {
            "store": str(shared.remote),
            "objects": report.objects,
            "records": report.records,
            "bytes": report.size,
            "damaged": [
                {"kind": each.kind, "name": each.name, "problem": each.problem}
                for each in report.damaged
            ],
            "repaired": repair,
        }
        console.print_json(json_format.dumps(document))
        return DAMAGED if report.damaged else SOUND
    for each in report.damaged:
        console.print(f"  damaged {each.kind}: {each.problem}", soft_wrap=True, markup=False)
    done = ""
    if repair and report.damaged:
        done = "; what this machine has was sent again, the rest removed and built by the next run"
    console.print(
        f"{report.objects:,} objects ({megabytes(report.size)}) and {report.records:,} records "
        f"of {shared.remote} verified, {len(report.damaged)} damaged{done}",
        soft_wrap=True,
    )
    if report.damaged and not repair:
        console.print("repair with: digitflow verify --shared --repair")
    return DAMAGED if report.damaged else SOUND


def _shared(cache: Cache) -> SharedStore:
    if cache.shared is None:
        message = (
            f"--shared: expected DIGITFLOW_STORE to be a URL such as s3://bucket/prefix, found "
            f"the folder {cache.root}; leave --shared out"
        )
        raise ParameterError(message)
    cache.connect()
    return cache.shared
