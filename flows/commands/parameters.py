"""`digitflow parameters`: what --set takes."""

from __future__ import annotations

import json as json_format
from typing import Any, Literal, get_args, get_origin

from rich.console import Console
from rich.table import Table

from tasks.config import PARAMETER_NAMES, Parameters, read_preset, resolve


def list_parameters(console: Console, preset: str, *, json: bool) -> None:
    """Print every parameter with its value in a preset, what it means and its bounds.

    Raises
    ------
    ParameterError
        If there is no such preset.
    """
    values = resolve(*read_preset(preset))
    rows = [_row(name, getattr(values, name)) for name in PARAMETER_NAMES]
    if json:
        console.print_json(json_format.dumps(rows))
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("parameter", no_wrap=True)
    table.add_column(preset, no_wrap=True, justify="right")
    table.add_column("meaning")
    for row in rows:
        rule = f" [dim]({row['rule']})[/]" if row["rule"] else ""
        table.add_row(row["name"], _text(row["value"]), row["meaning"] + rule)
    console.print(table)


def _row(name: str, value: Any) -> dict[str, Any]:
    described = Parameters.model_fields[name]
    return {
        "name": name,
        "value": value,
        "meaning": described.description,
        "rule": _rule(described.annotation, described.metadata),
    }


def _rule(annotation: Any, metadata: list[Any]) -> str:
    """Return choices or bounds, such as ``sgd, adam, adamw`` or ``> 0, ≤ 10``."""
    if get_origin(annotation) is Literal:
        return ", ".join(get_args(annotation))
    signs = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
    bounds = [
        (sign, getattr(rule, attribute))
        for rule in metadata
        for attribute, sign in signs.items()
        if hasattr(rule, attribute)
    ]
    return ", ".join(f"{sign} {bound:,}" for sign, bound in bounds if bound < 2**63)


def _text(value: Any) -> str:
    return ",".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)
