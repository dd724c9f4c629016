"""A step of a flow that is no stage: always run, never cached, and shown in the UI as a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event
from prefect.runtime import flow_run

from digitflow.storage.visible import visible, visible_values
from digitflow.tasks.engine.log_text import make_harmless

make_harmless()

P = ParamSpec("P")
R = TypeVar("R")


def step(name: str, description: str, **options: Any) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Make a function a Prefect task whose result is neither cached nor written anywhere.

    Parameters
    ----------
    name
        Of the task and of each of its runs.
    description
        A sentence for the UI.
    **options
        What else `prefect.task` takes, such as retries.
    """
    make: Callable[[Callable[P, R]], Task[P, R]] = task(
        name=name,
        task_run_name=name,
        description=description,
        cache_policy=NO_CACHE,
        persist_result=False,
        **options,
    )
    return make


def announce(event: str, resource: str, title: str, payload: Mapping[str, Any]) -> None:
    """Tell Prefect's automations, so that they can notify people or start something.

    Parameters
    ----------
    event
        Such as ``digitflow.model.promoted``.
    resource, title
        Id and name of what it happened to.
    payload
        JSON values.
    """
    emit_event(
        event=event,
        resource={
            "prefect.resource.id": visible(resource),
            "prefect.resource.name": visible(title),
        },
        related=[
            {
                "prefect.resource.id": f"prefect.flow-run.{flow_run.id}",
                "prefect.resource.role": "flow-run",
            }
        ],
        payload=visible_values(payload),
    )
