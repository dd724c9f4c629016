"""A run's report as one HTML file: pictures inside, no scripts, nothing fetched.

For those without the Prefect UI. It opens offline, in light and in dark, on a phone and on paper.
Light: it opens no array and needs no Prefect.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from digitflow.tasks.parameters import ParameterError, resolve
from digitflow.tasks.reporting.html_style import STYLE
from digitflow.tasks.reporting.html_table import table
from digitflow.tasks.reporting.report import FIGURES, headline, per_class_table, warnings
from digitflow.tasks.reporting.run_summary import RunSummary

# A longer history is folded away.
_MOST_ROWS = 40
# Hexadecimal digits that tell one digest from another.
_SHORT = 12
# Pixels from which on a picture is not squeezed into a phone's width, but moved under the finger.
_WIDE = 620
# Nothing may be fetched and nothing run, whatever a name smuggles in.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


@dataclass(frozen=True)
class ReportContents:
    """What a report shows beside the summary.

    Attributes
    ----------
    figures
        Bytes of each PNG, by its name in `FIGURES`.
    history
        One row an epoch.
    code
        Digest of each stage's code, by the stage's label.
    versions
        Of Python and packages.
    """

    figures: Mapping[str, bytes] = field(default_factory=dict)
    history: Sequence[Mapping[str, Any]] = ()
    code: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str | None] = field(default_factory=dict)


def page(summary: RunSummary, contents: ReportContents) -> str:
    """Return the whole report.

    Parameters
    ----------
    summary
        The run.
    contents
        What else is to be shown; what is empty is left out.
    """
    sections = [
        *(_figure(name, png) for name, png in contents.figures.items() if name in FIGURES),
        _section("classes", "By class", table(per_class_table(summary.metrics)))
        if summary.metrics
        else "",
        _section("history", "By epoch", _history(contents.history)) if contents.history else "",
        _section("stages", "Stages", _stages(summary, contents.code)),
        _section("parameters", "Parameters", _parameters(summary)),
        _section("outputs", "Outputs", _outputs(summary)),
        _section("versions", "Versions", table(_rows("version", contents.versions)))
        if contents.versions
        else "",
    ]
    title = escape(headline(summary))
    body = "\n".join(
        [_header(summary), _numbers(summary), *_warnings(summary), _decision(summary), *sections]
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _header(summary: RunSummary) -> str:
    return (
        f"<header>\n<h1>{escape(headline(summary))}</h1>\n"
        f'<p class="muted">Run {escape(summary.name)}</p>\n</header>'
    )


def _numbers(summary: RunSummary) -> str:
    metrics = summary.metrics
    cells: list[tuple[str, str]] = []
    if metrics:
        cells += [
            ("test accuracy", f"{metrics['test_accuracy'] * 100:.2f} %"),
            (f"errors of {metrics['test_samples']:,}", f"{metrics['errors']:,}"),
            ("test loss", f"{metrics['test_loss']:.4f}"),
            ("macro F1", f"{metrics['macro_f1']:.4f}"),
        ]
    if summary.model is not None:
        cells.append(("model version", str(summary.model)))
    cells.append(("time", f"{summary.seconds:.1f} s"))
    found = [
        f"<div{' class=first' if metrics and not number else ''}>"
        f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
        for number, (name, value) in enumerate(cells)
    ]
    return f'<dl class="numbers">{"".join(found)}</dl>'


def _warnings(summary: RunSummary) -> list[str]:
    return [
        f'<section class="decision"><p><strong>Warning:</strong> {escape(text)}</p></section>'
        for text in warnings(summary.metrics)
    ]


def _decision(summary: RunSummary) -> str:
    if not summary.decision:
        return ""
    from markdown_it import MarkdownIt

    # What names hold is shown as text: no HTML of theirs, no links, no pictures.
    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    text = reader.disable(["link", "image", "autolink"]).render(summary.decision)
    return f'<section class="decision">{text}</section>'


def _section(anchor: str, title: str, inside: str) -> str:
    return f'<section id="{anchor}">\n<h2>{escape(title)}</h2>\n{inside}\n</section>'


def _figure(name: str, png: bytes) -> str:
    title = FIGURES[name]
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    wide = ' class="wide"' if _width(png) > _WIDE else ""
    picture = f'<figure><img{wide} alt="{escape(title)}" src="{source}"></figure>'
    return _section(name.replace("_", "-"), title, picture)


def _width(png: bytes) -> int:
    """Return the pixels in a row, from the header: PNG specification, 11.2.2."""
    return int.from_bytes(png[16:20])


def _history(history: Sequence[Mapping[str, Any]]) -> str:
    return table(history) if len(history) <= _MOST_ROWS else _folded("epochs", history)


def _stages(summary: RunSummary, code: Mapping[str, str]) -> str:
    rows = [
        {
            "stage": stage.label,
            "outcome": "cached" if stage.cached else "ran",
            "seconds": f"{stage.seconds:.2f}",
            "why it ran": "\n".join(stage.reasons),
            "code": code.get(stage.label, "")[:_SHORT],
            "key": stage.key[:_SHORT],
        }
        for stage in summary.stages
    ]
    note = (
        '<p class="note">The key is the digest of a stage\'s code, parameters and inputs. '
        "<code>digitflow show KEY</code> tells who made its outputs, and from what.</p>"
    )
    return note + table(rows, numeric={"seconds"}, coded={"code", "key"})


def _parameters(summary: RunSummary) -> str:
    """List what differs from the preset first."""
    try:
        usual = resolve(summary.preset, {}).model_dump(mode="json")
    except ParameterError:  # a preset of an earlier version
        usual = dict(summary.parameters)
    changed = [
        {"parameter": name, "value": value, f"in {summary.preset}": usual.get(name)}
        for name, value in summary.parameters.items()
        if value != usual.get(name)
    ]
    rest = {name: value for name, value in summary.parameters.items() if value == usual.get(name)}
    preset, as_usual = escape(summary.preset), _folded("parameters", _rows("value", rest))
    if not changed:
        return f"<p>All as preset {preset} has them.</p>\n{as_usual}"
    return (
        f"<h3>Other than in preset {preset}</h3>\n{table(changed)}\n"
        f"<h3>As in preset {preset}</h3>\n{as_usual}"
    )


def _folded(what: str, rows: Sequence[Mapping[str, Any]]) -> str:
    return f"<details><summary>{len(rows)} {what}</summary>{table(rows)}</details>"


def _outputs(summary: RunSummary) -> str:
    rows = [
        {
            "stage": stage.label if number == 0 else "",
            "output": name,
            "bytes": f"{artifact.size:,}",
            "SHA-256": artifact.sha256,
        }
        for stage in summary.stages
        for number, (name, artifact) in enumerate(stage.outputs.items())
    ]
    return table(rows, numeric={"bytes"}, coded={"SHA-256"})


def _rows(column: str, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"name": name, column: value} for name, value in values.items()]
