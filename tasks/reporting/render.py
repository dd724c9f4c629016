"""Templates, filled in: HTML and Markdown in which every value stays text.

The templates lie beside this module. A value is escaped for the kind of document it stands in,
unless a filter below made it; a name that a template misspells is an error. Jinja is imported
when something is first rendered, so that importing this costs nothing.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from digitflow.storage.visible import visible

if TYPE_CHECKING:
    from jinja2 import Environment

_TEMPLATES = Path(__file__).parent / "templates"
# Underscores inside a word mean nothing in Markdown, and parameters are full of them. What looks
# like a URL becomes a link to just that in Prefect's UIs, and may.
_MEANS_SOMETHING = re.compile(
    r"[\\`*\[\]<>&|~]|(?<![^\W_])_|_(?![^\W_])|^[#+=-](?=[#+=-]*(?:\s|$))"
)


def render(template: str, **values: Any) -> str:
    """Return a template with values in the places of their names.

    Parameters
    ----------
    template
        Name of a file in ``templates``; its ending, ``.html`` or ``.md``, decides how values are
        escaped.
    **values
        What it names.
    """
    kind = Path(template).suffix
    return _environment(kind).get_template(template).render(**values)


def picture(png: bytes, title: str, width: int = 900) -> Markup:
    """Return a PNG as an HTML tag that carries its own bytes.

    The Prefect UI shows such a picture inside Markdown; a path or a bare data URI it does not.
    """
    tag = Markup('<img width="{}" alt="{}" src="{}">')
    return tag.format(width, _one_line(title), _data_uri(png))


@cache
def _environment(kind: str) -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        undefined=StrictUndefined,
        # Jinja escapes for HTML only; for Markdown that is done where a value is put in.
        autoescape=kind == ".html",  # noqa: S701
        finalize=as_markdown if kind == ".md" else _as_text,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "code": _code,
        "data_uri": _data_uri,
        "indented": _indented,
        "markdown": _markdown_to_html,
        "number": format,
        "numeric_columns": _numeric_columns,
        "picture": picture,
        "shown": _shown,
    }
    return environment


def as_markdown(value: Any) -> str:
    """Escape whatever would be more than text in a line or a table cell of Markdown."""
    if isinstance(value, Markup):
        return value
    return _MEANS_SOMETHING.sub(r"\\\g<0>", _one_line(value))


def _as_text(value: Any) -> Any:
    """Leave to Jinja what means something in HTML; what cannot be seen it would let through."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _one_line(value: Any) -> str:
    return visible(" ".join(str(value).splitlines()))


def _code(value: Any) -> Markup:
    """Return text as inline code of Markdown, whatever backticks it holds; not for tables."""
    text = _one_line(value)
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    gap = " " if text[:1] == "`" or text[-1:] == "`" else ""
    return Markup(f"{fence}{gap}{text}{gap}{fence}")  # noqa: S704 - nothing in code is markup


def _indented(text: str) -> Markup:
    """Return lines as a code block of Markdown."""
    lines = (f"    {visible(line)}" for line in text.splitlines())
    return Markup("\n".join(lines))  # noqa: S704 - likewise


def _markdown_to_html(text: str) -> Markup:
    """Render Markdown, in which names come from outside: no HTML of theirs, no links, no images."""
    from markdown_it import MarkdownIt

    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    reader.disable(["link", "image", "autolink"])
    return Markup(reader.render(visible(text)))  # noqa: S704


def _data_uri(png: bytes) -> Markup:
    data = base64.b64encode(png).decode()
    return Markup(f"data:image/png;base64,{data}")  # noqa: S704 - its alphabet needs no escaping


def _numeric_columns(rows: Sequence[Mapping[str, Any]]) -> set[str]:
    """Return the columns that hold nothing but numbers."""
    return {
        name
        for name in rows[0]
        if all(isinstance(row[name], int | float) and row[name] is not True for row in rows)
    }


def _shown(value: Any) -> str:
    """Return a JSON value as a table shows it."""
    if value is None or value == []:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(str(each) for each in value)
    return str(value)
