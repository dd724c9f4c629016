"""Start lost runs again: what dies with its worker stays *Running* for Prefect.

Prefect's own answer is an automation on missing heartbeats. On SQLite its triggers can lose an
event or act on one several times when other writers are busy (Prefect 3.8.8 reads and then writes
in a deferred transaction, and evaluates the whole event again after "database is locked"). So here
the runs themselves are looked at, again and again: a look that fails or comes twice changes
nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx

from digitflow.flows.server.heartbeat import Look, Patience, Phase, Silences

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun, State

HEARTBEAT = "PREFECT_FLOWS_HEARTBEAT_FREQUENCY"
SECONDS_BETWEEN_LOOKS = 5.0
_LONGEST_GAP = 20.0
STARTS = 3
# Prefect's own limit for one answer. Of more crashed runs, the newest are looked after.
_MOST_RUNS = 200
# Whoever wants an older one to go on says so (prefect flow-run retry).
_CRASHED_WITHIN = timedelta(days=1)
_SHOWN = {"PENDING": Phase.TAKEN, "RUNNING": Phase.RUNNING, "CRASHED": Phase.CRASHED}


class Monitor:
    """Looks after the runs of some work pools.

    Parameters
    ----------
    client
        Of the server.
    pools
        Names of the work pools.
    patience
        When to act.
    say
        Told of each act.
    """

    def __init__(
        self,
        client: SyncPrefectClient,
        pools: Sequence[str],
        patience: Patience,
        say: Callable[[str], None],
    ) -> None:
        self._client = client
        self._pools = list(pools)
        self._patience = patience
        self._say = say
        self._silences = Silences(_LONGEST_GAP)
        self._left_alone: set[UUID] = set()

    def look(self) -> None:
        """Look at all runs once, and act where patience has ended.

        Raises
        ------
        httpx.HTTPError
            If the server does not answer. Every silence begins anew then: what runs say meanwhile
            comes late or is lost.
        """
        try:
            self._look(time.monotonic())
        except httpx.HTTPError:
            self._silences.forget()
            raise

    def _look(self, now: float) -> None:
        from prefect.exceptions import ObjectNotFound

        runs = {run.id: run for run in self._read_runs()}
        looks = [look for run in runs.values() if (look := self._look_at(run)) is not None]
        for look, seconds in self._silences.observe(now, looks).items():
            if seconds < self._patience.of(look.phase) or look.state in self._left_alone:
                continue
            with suppress(ObjectNotFound):  # somebody has deleted it
                if look.phase is Phase.CRASHED:
                    self._start_again(look)
                else:
                    self._mark_as_crashed(runs[look.run], look)

    def _read_runs(self) -> list[FlowRun]:
        from prefect.client.schemas import filters
        from prefect.client.schemas.objects import StateType
        from prefect.client.schemas.sorting import FlowRunSort

        def in_states(*kinds: StateType) -> filters.FlowRunFilterState:
            return filters.FlowRunFilterState(type=filters.FlowRunFilterStateType(any_=list(kinds)))

        recently = datetime.now(UTC) - _CRASHED_WITHIN
        wanted = (
            filters.FlowRunFilter(state=in_states(StateType.PENDING, StateType.RUNNING)),
            filters.FlowRunFilter(
                state=in_states(StateType.CRASHED),
                end_time=filters.FlowRunFilterEndTime.model_validate({"after_": recently}),
            ),
        )
        pools = filters.WorkPoolFilter(name=filters.WorkPoolFilterName(any_=self._pools))
        found: list[FlowRun] = []
        for each in wanted:
            found += self._client.read_flow_runs(
                flow_run_filter=each,
                work_pool_filter=pools,
                sort=FlowRunSort.END_TIME_DESC,
                limit=_MOST_RUNS,
            )
        return found

    def _look_at(self, run: FlowRun) -> Look | None:
        if run.state is None or run.deployment_id is None:
            return None
        phase = _SHOWN.get(run.state.type.value)
        if phase is None:  # it went on between two answers
            return None
        heartbeat = self._newest_heartbeat(run.id) if phase is Phase.RUNNING else None
        return Look(run.id, run.name, phase, run.state.id, heartbeat)

    def _newest_heartbeat(self, run: UUID) -> UUID | None:
        from prefect.events.filters import EventFilter, EventNameFilter, EventResourceFilter

        wanted = EventFilter(
            event=EventNameFilter(name=["prefect.flow-run.heartbeat"]),
            resource=EventResourceFilter(id=[f"prefect.flow-run.{run}"]),
        )
        events = self._client.read_events(wanted, limit=1).events
        return events[0].id if events else None

    def _mark_as_crashed(self, run: FlowRun, look: Look) -> None:
        from prefect.states import Crashed

        waited = self._patience.of(look.phase)
        if look.phase is Phase.TAKEN:
            message = f"Lost: taken by a worker and not begun for {waited:g} seconds."
        elif self._sends_heartbeats(run):
            message = f"Lost: no sign of life for {waited:g} seconds, so its process has died."
        else:
            self._left_alone.add(look.state)
            self._say(f"{look.name}: its deployment sends no heartbeats ({HEARTBEAT}); left alone")
            return
        if self._change(look, Crashed(message=message)):
            self._say(f"{look.name}: {message}")

    def _sends_heartbeats(self, run: FlowRun) -> bool:
        """Silence means nothing where a run was never asked to speak."""
        if run.deployment_id is None:
            return False
        deployment = self._client.read_deployment(run.deployment_id)
        variables: dict[str, Any] = {**deployment.job_variables, **(run.job_variables or {})}
        return HEARTBEAT in (variables.get("env") or {})

    def _start_again(self, look: Look) -> None:
        from prefect.states import AwaitingRetry

        crashes = sum(state.is_crashed() for state in self._client.read_flow_run_states(look.run))
        if crashes >= STARTS:
            self._left_alone.add(look.state)
            self._say(f"{look.name}: crashed {crashes} times, and stays so; see why, then retry it")
            return
        message = "It crashed, and starts again from what is cached."
        if self._change(look, AwaitingRetry(message=message)):
            self._say(f"{look.name}: crashed; starts again ({crashes + 1} of {STARTS})")

    def _change(self, look: Look, state: State[Any]) -> bool:
        """Bring a run from the state in which it was seen to another; False if it has gone on."""
        from prefect.client.schemas.responses import SetStateStatus

        # Prefect has no compare-and-set. Between these two requests a second monitor can do the
        # same; then a run may start twice, which the store makes harmless.
        current = self._client.read_flow_run(look.run).state
        if current is None or current.id != look.state:
            return False
        return self._client.set_flow_run_state(look.run, state).status is SetStateStatus.ACCEPT
