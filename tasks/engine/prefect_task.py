"""A stage as a Prefect task: names, retries, the `Cached` state, progress in the UI.

Prefect's own result cache is off: whether something is up to date is known in one place, our
store, and Prefect shows it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from contextlib import nullcontext
from functools import cache
from typing import Any
from uuid import UUID

import httpx
from prefect import get_run_logger, task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.exceptions import PrefectException
from prefect.futures import PrefectFuture
from prefect.runtime import flow_run, task_run
from prefect.settings import PREFECT_TASKS_REFRESH_CACHE
from prefect.states import Cancelled, Completed
from prefect.task_runners import TaskRunner
from prefect.tasks import Task, exponential_backoff

from digitflow.storage.history.runs import run_name
from digitflow.storage.store import Store
from digitflow.tasks.engine.call import Call, Context, Refs, StageResult, recipes, resolved
from digitflow.tasks.engine.cancellation import StoppedError
from digitflow.tasks.engine.events import Event, StageNoted, StageWaiting, observing
from digitflow.tasks.engine.log_text import make_harmless
from digitflow.tasks.engine.relay import Relay
from digitflow.tasks.engine.stage import Retries, Stage

make_harmless()

# An update costs 6 ms at best; a bar that moves twice a second looks alive.
_SECONDS_BETWEEN_UPDATES = 0.5
# Times as long as an update took that failed.
_PAUSE_AFTER_FAILURE = 10.0


def context_of_flow() -> Context:
    """Return the context of calls in a Prefect flow that set none: each is a task of it."""
    return Context(Store(), run_name(flow_run.name or "unnamed"), submit)


def submit(
    call: Call,
    context: Context,
    *,
    runner: TaskRunner[Any] | None = None,
    relay: Relay | None = None,
) -> PrefectFuture[Any]:
    """Submit a call to a task runner: the executor of flows.

    Parameters
    ----------
    call
        What to run; the sources of its inputs are futures of earlier calls, or results.
    context
        In what it is made.
    runner
        Where to; by default to that of the flow.
    relay
        Sends the stage's events, where that is another process.
    """
    given = {
        "label": call.label,
        "inputs": dict(call.inputs),
        "parameters": dict(call.parameters),
        "run": context.run,
        "refresh": context.refreshes(call.stage.name),
        "relay": relay,
    }
    task = _as_task(call.stage)
    return task.submit(**given) if runner is None else runner.submit(task, given)


@cache
def _as_task(stage: Stage) -> Task[..., Any]:
    retries = stage.retries or Retries(count=0)

    def run_stage(
        label: str,
        inputs: Refs,
        parameters: dict[str, Any],
        run: str,
        refresh: bool,
        relay: Relay | None,
    ) -> State[StageResult]:
        logger = get_run_logger()
        progress = _ProgressArtifact(label) if stage.shows_progress else None

        def log(event: Event) -> None:
            # Where nobody looks at a terminal.
            match event:
                case StageWaiting(of, text) | StageNoted(of, text) if of == label:
                    logger.warning("%s: %s", label, text)

        try:
            with observing(log), nullcontext() if relay is None else relay.relaying():
                result = stage.run(
                    Store(),
                    label,
                    resolved(inputs),
                    parameters,
                    run=run,
                    refresh=refresh or PREFECT_TASKS_REFRESH_CACHE.value() is True,
                    tries_left=retries.count + 1 - (task_run.run_count or 1),
                    progress=progress,
                    recipes=recipes(inputs),
                )
        except StoppedError as stop:
            return Cancelled(message=str(stop))
        if result.cached:
            logger.info("%s: served from the cache, %s", label, result.key[:12])
            return Completed(name="Cached", data=result)
        logger.info(
            "%s: ran in %.1f s because: %s", label, result.seconds, "; ".join(result.reasons)
        )
        return Completed(data=result)

    def worth_retrying(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
        error = state.data
        cause = getattr(error, "exception", error)
        return not isinstance(cause, BaseException) or retries.worthwhile(cause)

    return task(
        name=stage.name,
        description=(stage.__doc__ or "").strip().partition("\n")[0],
        task_run_name="{label}",
        tags=stage.tags,
        cache_policy=NO_CACHE,
        persist_result=False,
        retries=retries.count,
        retry_delay_seconds=exponential_backoff(retries.first_delay) if retries.count else None,
        retry_jitter_factor=0.5 if retries.count else None,
        retry_condition_fn=worth_retrying if retries.count else None,
    )(run_stage)


class _ProgressArtifact:
    """A progress artifact that moves while a stage reports, and ends at 100 %."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._id: UUID | None = None
        self._next = 0.0

    def __call__(self, done: float, total: float | None, unit: str = "", **numbers: Any) -> None:
        began = time.monotonic()
        if not total or (began < self._next and done != total):
            return
        self._next = began + _SECONDS_BETWEEN_UPDATES
        description = f"{self._label}: {done:g} of {total:g} {unit}{listed(numbers)}"
        try:
            self._show(100.0 * done / total, description)
        except (httpx.HTTPError, PrefectException) as error:
            # What is being computed does not depend on whether somebody can watch. Prefect's client
            # has asked again for minutes, and computing has waited for it: not so soon again.
            moment = time.monotonic()
            self._next = moment + _PAUSE_AFTER_FAILURE * (moment - began)
            get_run_logger().warning("%s: its progress cannot be shown: %s", self._label, error)

    def _show(self, percent: float, description: str) -> None:
        if self._id is None:
            key = re.sub(r"[^a-z0-9]+", "-", f"{self._label}-progress".lower())
            artifact = create_progress_artifact(percent, key=key, description=description)
            self._id = _created(artifact)
        else:
            update_progress_artifact(self._id, percent, description=description)


def _created(artifact_id: Any) -> UUID:
    if not isinstance(artifact_id, UUID):
        message = f"expected the id of a progress artifact, found {artifact_id!r}"
        raise TypeError(message)
    return artifact_id


def listed(numbers: Mapping[str, Any]) -> str:
    """Return what was measured as it stands in a description: ``, train loss 0.0803``."""
    return "".join(
        f", {name.replace('_', ' ')} {value:.4g}"
        for name, value in numbers.items()
        if isinstance(value, int | float)
    )
