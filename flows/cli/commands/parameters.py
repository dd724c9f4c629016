"""`digitflow parameters`: what --set takes."""

from __future__ import annotations

import json as json_format
from typing import Any

from rich.console import Console
from rich.table import Table

from digitflow.tasks.parameters import (
    PARAMETER_NAMES,
    Parameters,
    allowed,
    as_typed,
    read_preset,
    resolve,
)


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
        table.add_row(row["name"], as_typed(row["value"]), row["meaning"] + rule)
    console.print(table)


def _row(name: str, value: Any) -> dict[str, Any]:
    described = Parameters.model_fields[name]
    return {
        "name": name,
        "value": value,
        "meaning": described.description,
        "rule": allowed(name),
    }
