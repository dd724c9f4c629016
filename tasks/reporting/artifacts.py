"""Prefect artifacts, in which every name stays text.

Prefect's first UI shows descriptions and cells of tables as Markdown, links and pictures of other
places included; its second one the descriptions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from digitflow.tasks.reporting.render import as_markdown


def markdown_artifact(text: str, *, key: str, description: str) -> None:
    """Leave Markdown in the UI, as `render` or `picture` made it.

    Parameters
    ----------
    text
        The Markdown.
    key
        Of lower-case letters, digits and dashes; artifacts of one key have a page together.
    description
        A line of text. The UI cuts it off after some 45 characters.
    """
    create_markdown_artifact(text, key=key, description=as_markdown(description))


def table_artifact(rows: Sequence[Mapping[str, Any]], *, key: str, description: str) -> None:
    """Leave a table in the UI, a mapping a row; for the rest see `markdown_artifact`."""
    shown = [
        {
            as_markdown(name): as_markdown(value) if isinstance(value, str) else value
            for name, value in row.items()
        }
        for row in rows
    ]
    create_table_artifact(shown, key=key, description=as_markdown(description))
