"""`digitflow parameters`: what --set takes."""

from __future__ import annotations

import json as json_format
from typing import Any

from rich.console import Console
from rich.table import Table

from tasks.config import Parameters


def list_parameters(console: Console, *, json: bool) -> None:
    """Print every parameter with its default, its bounds and what it means."""
    rows = [_row(name) for name in Parameters.model_fields]
    if json:
        console.print_json(json_format.dumps(rows))
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("parameter", no_wrap=True)
    table.add_column("default", no_wrap=True)
    table.add_column("bounds", no_wrap=True)
    table.add_column("meaning")
    for row in rows:
        table.add_row(row["name"], str(row["default"]), row["bounds"], row["meaning"])
    console.print(table)


def _row(name: str) -> dict[str, Any]:
    described = Parameters.model_fields[name]
    signs = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
    bounds = [
        f"{sign} {getattr(rule, attribute):,}"
        for rule in described.metadata
        for attribute, sign in signs.items()
        if hasattr(rule, attribute) and getattr(rule, attribute) < 2**63
    ]
    return {
        "name": name,
        "default": described.default,
        "bounds": " ".join(bounds),
        "meaning": described.description,
    }
