"""What a call would do, found out without running anything and without Prefect or NumPy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from digitflow.storage.formats.artifacts import Artifact
from digitflow.storage.records import Record
from digitflow.storage.store import Store
from digitflow.tasks.engine.call import (
    Call,
    Context,
    StageResult,
    nothing,
    resolved,
    sources,
    using,
)


class NotCachedError(Exception):
    """A plan asks for the result of a call that is not cached."""


@dataclass(frozen=True)
class PlannedStage:
    """What a run would do with one call.

    Attributes
    ----------
    stage, label
        Name of the stage, and of this call of it.
    record
        The verified record that would be served, or None if the stage would run.
    reasons
        Why it would run, where that is known now.
    waits_for
        Labels of calls that run first; until then it is open whether this one must.
    """

    stage: str
    label: str
    record: Record | None
    reasons: tuple[str, ...] = ()
    waits_for: tuple[str, ...] = ()

    @property
    def cached(self) -> bool:
        """Whether nothing would be computed."""
        return self.record is not None

    @property
    def outputs(self) -> Mapping[str, Artifact] | None:
        """The outputs where they are known."""
        return None if self.record is None else self.record.outputs

    def result(self) -> StageResult:
        """Return a cached call as a run would report it.

        Raises
        ------
        NotCachedError
            If the call is not cached.
        """
        if self.record is None:
            message = f"{self.label} is not cached, so nothing is known of its result yet"
            raise NotCachedError(message)
        return StageResult(
            self.stage, self.label, self.record.key, self.record.outputs, True, (), 0.0
        )


def look_up(call: Call, context: Context) -> PlannedStage:
    """Find out what a run would do with a call: the executor of plans."""
    stage, label = call.stage, call.label
    waits_for = [source.label for source in sources(call.inputs) if source.outputs is None]
    if waits_for:
        return PlannedStage(stage.name, label, None, (), tuple(dict.fromkeys(waits_for)))
    found = stage.look_up(
        context.store,
        label,
        resolved(call.inputs),
        call.parameters,
        refresh=context.refreshes(stage.name),
    )
    return PlannedStage(stage.name, label, found.record, found.reasons)


class Plan(list[PlannedStage]):
    """What a run would do with each of its calls, in order."""

    def __str__(self) -> str:
        return "\n".join(
            f"{each.label}: {'cached' if each.cached else _why(each)}" for each in self
        )


def plan(
    function: Callable[..., Any],
    *args: Any,
    store: Store | None = None,
    refreshes: Callable[[str], bool] = nothing,
    **kwargs: Any,
) -> Plan:
    """Return what a function that calls stages would do, without computing anything.

    Parameters
    ----------
    function
        A Prefect flow, or any function that calls stages.
    *args, **kwargs
        For the function.
    store
        The store; by default the one that ``DIGITFLOW_STORE`` names.
    refreshes
        Tells by its name whether a stage would run although it is cached.

    Returns
    -------
    Plan
        The calls in order, up to the first result that the function itself asks for and that
        is not cached.
    """
    context = Context(store or Store(), "plan", look_up, refreshes)
    # Stages that hand on what they were given name the same objects. Where the function goes by a
    # result that there is not yet, the plan ends.
    with context.store.cache.one_look(), using(context), suppress(NotCachedError):
        getattr(function, "fn", function)(*args, **kwargs)
    return Plan(handle.source for handle in context.called)


def _why(planned: PlannedStage) -> str:
    if planned.waits_for:
        return f"waits for {', '.join(planned.waits_for)}"
    return f"will run: {'; '.join(planned.reasons)}"
