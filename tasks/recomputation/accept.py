"""A person's word that an edit of a stage's code changes nothing: old outputs under today's key."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from digitflow.storage.code.commit import COMMIT
from digitflow.storage.code.observed import changes
from digitflow.storage.digests import short
from digitflow.storage.errors import ObjectDamagedError, ObjectMissingError, UnknownNameError
from digitflow.storage.keys import differences, differences_beside_code
from digitflow.storage.records import Acceptance, Record, now
from digitflow.storage.store import Store
from digitflow.tasks.engine.call import Call, Context, resolved, using
from digitflow.tasks.engine.plan import NotCachedError, PlannedStage, look_up


class NotEquivalentError(Exception):
    """What is to be accepted differs in more than its code, or cannot be told yet."""


@dataclass(frozen=True)
class Accepted:
    """One call that is served without having been computed.

    Attributes
    ----------
    record
        The new record, under today's key.
    old
        The record whose outputs it names.
    """

    record: Record
    old: Record

    @property
    def edits(self) -> list[str]:
        """What was edited, definition by definition."""
        return differences(self.old.document, self.record.document)


def accept(
    stage: str,
    function: Callable[..., Any],
    *args: Any,
    store: Store,
    by: str,
    reason: str,
    **kwargs: Any,
) -> list[Accepted]:
    """Serve, for each call of a stage that would run, the outputs of the code before an edit.

    Parameters
    ----------
    stage
        Name of the stage.
    function
        What calls it: a flow, or any function.
    *args, **kwargs
        For the function.
    store
        The store.
    by, reason
        Who says that the edit changes nothing, and why.

    Returns
    -------
    list of Accepted
        The calls; none if all were cached.

    Raises
    ------
    UnknownNameError
        If the function does not call the stage.
    NotEquivalentError
        If no record differs in its code alone, naming what else does; or if a call waits for
        others. Then none is accepted.
    """
    accepting = _Accepting(stage, by, reason)
    context = Context(store, "accept", accepting)
    with store.in_use():
        with using(context), suppress(NotCachedError):
            getattr(function, "fn", function)(*args, **kwargs)
        called = dict.fromkeys(handle.stage.name for handle in context.called)
        if stage not in called:
            message = f"expected a stage that is called ({', '.join(called)}), found {stage!r}"
            raise UnknownNameError(message)
        for each in accepting.found:
            store.records.save(each.record)
            store.cache.serve(each.record)
    return accepting.found


@dataclass
class _Accepting:
    """The executor: looks calls up, and takes old outputs for those of one stage."""

    stage: str
    by: str
    reason: str
    found: list[Accepted] = field(default_factory=list)

    def __call__(self, call: Call, context: Context) -> PlannedStage:
        planned = look_up(call, context)
        if call.stage.name != self.stage or planned.cached:
            return planned
        if planned.waits_for:
            first = ", ".join(planned.waits_for)
            message = f"{call.label} waits for {first}; run or accept that first"
            raise NotEquivalentError(message)
        accepted = self._accepted(call, context.store, planned.reasons)
        self.found.append(accepted)
        return PlannedStage(call.stage.name, call.label, accepted.record)

    def _accepted(self, call: Call, store: Store, reasons: tuple[str, ...]) -> Accepted:
        key = call.stage.key(resolved(call.inputs), call.parameters)
        digest, document = key.digest(), key.document()
        newest_first = sorted(
            store.records.of_stage(self.stage), key=lambda record: record.created, reverse=True
        )
        nearest: list[str] = []
        for old in newest_first:
            others = differences_beside_code(old.document, document)
            others += changes(old.observed, call.stage.definition.root)
            if old.key == digest:
                others = list(reasons)
            if not others:
                _check_outputs(old, call, store)
                said = Acceptance(old.key, self.by, self.reason, now())
                record = Record(
                    digest,
                    call.label,
                    document,
                    old.outputs,
                    old.run,
                    now(),
                    old.seconds,
                    observed=old.observed,
                    made_with=_without_commit(old),
                    accepted=said,
                )
                return Accepted(record, old)
            if not nearest or len(others) < len(nearest):
                nearest = others
        what = "; ".join(nearest) or "it was never run"
        message = f"{call.label} cannot be accepted: more than its code differs: {what}"
        raise NotEquivalentError(message)


def _without_commit(old: Record) -> dict[str, str]:
    """Return what a record was made with: its commit is not that of the edited code."""
    return {name: text for name, text in old.made_with.items() if name != COMMIT}


def _check_outputs(old: Record, call: Call, store: Store) -> None:
    """Refuse a record whose outputs are not there, or are not those that the stage has now."""
    problem = None
    if {name: each.format for name, each in old.outputs.items()} != call.stage.outputs:
        problem = "the stage has other outputs now"
    try:
        for artifact in old.outputs.values():
            store.objects.verify(artifact.sha256, artifact.size)
    except (ObjectMissingError, ObjectDamagedError) as error:
        problem = str(error).partition(": ")[0]
    if problem is not None:
        message = f"{call.label} cannot be accepted: record {short(old.key)}…: {problem}; run it"
        raise NotEquivalentError(message)
