"""Rows as an HTML table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from html import escape
from typing import Any


def table(
    rows: Iterable[Mapping[str, Any]],
    numeric: Set[str] = frozenset(),
    coded: Set[str] = frozenset(),
) -> str:
    """Return rows as a table, everything in it escaped; numbers stand to the right.

    Parameters
    ----------
    rows
        Values by column; each row has the same columns.
    numeric
        Columns of numbers that come as text.
    coded
        Columns that are shown in a typewriter's letters.
    """
    rows = list(rows)
    if not rows:
        return ""
    numeric = numeric | {
        name
        for name in rows[0]
        if all(isinstance(row[name], int | float) and row[name] is not True for row in rows)
    }

    def cell(tag: str, name: str, value: Any) -> str:
        text = escape(_text(value))
        kind = ' class="number"' if name in numeric else ""
        if tag == "td" and name in coded:
            text = f"<code>{text}</code>"
        return f"<{tag}{kind}>{text}</{tag}>"

    head = "".join(cell("th", name, name) for name in rows[0])
    body = "\n".join(
        f"<tr>{''.join(cell('td', name, value) for name, value in row.items())}</tr>"
        for row in rows
    )
    return (
        f'<div class="table"><table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def _text(value: Any) -> str:
    if value is None or value == []:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(str(each) for each in value)
    return str(value)
