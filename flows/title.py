"""What a run is called in the UI: its own name, then what tells it from others.

``cinnamon-cat · mnist · tutorial · 78.4 %``: a run's own name comes first and is what its folder,
its record and `digitflow runs` call it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import httpx
from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectException
from prefect.runtime import flow_run

from digitflow.storage.history.runs import run_name

_BETWEEN = " · "


def own_name(shown: str, dataset: str, preset: str) -> str:
    """Return the name that a run had before it was given a title, fit for the store.

    A run that is started again, after its worker was lost, bears its title already.
    """
    added = re.escape(_BETWEEN.join(["", dataset, preset]))
    return run_name(re.sub(rf"{added}({_BETWEEN}\d+\.\d %)?$", "", shown))


def title(name: str, dataset: str, preset: str, metrics: Mapping[str, Any]) -> str:
    """Return the title of a run; without accuracy where it has none yet."""
    accuracy = [f"{metrics['test_accuracy'] * 100:.1f} %"] if "test_accuracy" in metrics else []
    return _BETWEEN.join([name, dataset, preset, *accuracy])


def show(
    name: str, dataset: str, preset: str, metrics: Mapping[str, Any], tags: Iterable[str] = ()
) -> None:
    """Give the flow run its title, and tags by which the UI can filter.

    What a run computes does not depend on what it is called, so if the server does not take it
    that is a warning.
    """
    try:
        with get_client(sync_client=True) as client:
            client.update_flow_run(
                flow_run.id,
                name=title(name, dataset, preset, metrics),
                tags=sorted({*flow_run.tags, dataset, preset, *tags}),
            )
    except (httpx.HTTPError, PrefectException) as error:
        get_run_logger().warning("The run keeps its name, %s: %s", flow_run.name, error)
