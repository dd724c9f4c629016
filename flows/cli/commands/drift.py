"""`digitflow drift`: are the pictures still like those of the test set?"""

from __future__ import annotations

import json as json_format

from rich.console import Console
from rich.table import Table

from digitflow.flows.cli.commands.units import local_time
from digitflow.storage.cache import Cache
from digitflow.tasks.monitoring.drift import Drift
from digitflow.tasks.monitoring.report import DriftReport, report_drift
from digitflow.tasks.monitoring.text import as_json, by_class, headline
from digitflow.tasks.prediction.predictions import model_to_use

LIKE_THE_TEST_SET, DRIFTED = 0, 3


def show_drift(console: Console, version: int | None, last: int, *, json: bool) -> int:
    """Print the newest recorded batches beside a model's test set.

    Returns
    -------
    int
        3 if the newest batch or all together have drifted, else 0.

    Raises
    ------
    UnknownNameError
        If there is no such model, or no champion.
    """
    cache = Cache()
    report = report_drift(cache, model_to_use(cache, version), last)
    if json:
        console.print_json(json_format.dumps(None if report is None else as_json(report)))
    elif report is None:
        console.print("no predictions recorded yet; record some: digitflow predict FILE… --record")
    else:
        console.print(_batches(report))
        console.print()
        console.print(_classes(report))
        console.print()
        console.print(headline(report))
    has_drifted = report is not None and report.state == "drifted"
    return DRIFTED if has_drifted else LIKE_THE_TEST_SET


def _batches(report: DriftReport) -> Table:
    table = _table("batch", "model", "pictures", "confidence", "PSI", "by chance")
    table.add_column("", no_wrap=True)
    model = str(report.model.version)
    table.add_row("test set", model, str(report.then.images), f"{report.then.confidence:.3f}")
    for batch, drift in report.batches:
        table.add_row(
            local_time(batch.created),
            str(batch.model),
            str(sum(batch.counts)),
            f"{batch.confidence:.3f}",
            *_numbers(drift),
        )
    together = report.now
    table.add_row(
        *("all of them", "", str(together.images), f"{together.confidence:.3f}"),
        *_numbers(report.drift),
    )
    return table


def _classes(report: DriftReport) -> Table:
    table = _table("class", "test set", "now", "part of PSI")
    for name, then, now, term in by_class(report):
        table.add_row(name, f"{then * 100:.1f} %", f"{now * 100:.1f} %", f"{term:.3f}")
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _numbers(drift: Drift) -> tuple[str, str, str]:
    return f"{drift.psi:.3f}", f"{drift.chance:.3f}", drift.state
