"""Start lost runs again: what dies with its worker stays *Running* for Prefect.

Prefect's own answer is an automation on missing heartbeats. Its action changes the state of a run
whatever that is by then, so an event that is evaluated late, or twice, starts a run again that has
long gone on (Prefect 3.9.1). So here the runs themselves are looked at, again and again: a look
that fails or comes twice changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun, State

HEARTBEAT = "PREFECT_FLOWS_HEARTBEAT_FREQUENCY"
SECONDS_BETWEEN_CHECKS = 5.0
_LONGEST_GAP = 20.0
STARTS = 3
# Prefect's own limit for one answer. Of more crashed runs, the newest are looked after.
_MOST_RUNS = 200
# Whoever wants an older one to go on says so (prefect flow-run retry).
_CRASHED_WITHIN = timedelta(days=1)


class Phase(Enum):
    """The types of state, by Prefect's names, of a run that needs somebody to look after it."""

    PENDING = "PENDING"  # taken by a worker, and not begun
    RUNNING = "RUNNING"
    CRASHED = "CRASHED"


_PHASES = {phase.value: phase for phase in Phase}


@dataclass(frozen=True)
class Observation:
    """What a server shows of a run. Two are equal if nothing was heard of it between them.

    Attributes
    ----------
    run, name
        Which run.
    phase
        Where it is.
    state
        The identifier of its state: entering the same one again gives another.
    heartbeat
        The identifier of its newest heartbeat; None without one.
    """

    run: UUID
    name: str
    phase: Phase
    state: UUID
    heartbeat: UUID | None = None


@dataclass(frozen=True)
class Timeouts:
    """Seconds without news of a run after which something is done about it.

    Attributes
    ----------
    running
        Three heartbeats: it has lost its process.
    taken
        Its worker died before the run had begun.
    crashed
        Before it starts again. Not at once: a worker reports the same crash a second time some ten
        seconds later, and that would hit the new start.
    """

    running: float = 90.0
    taken: float = 300.0
    crashed: float = 20.0

    def of(self, phase: Phase) -> float:
        """Return the seconds for a phase."""
        by_phase = {Phase.PENDING: self.taken, Phase.RUNNING: self.running}
        return by_phase.get(phase, self.crashed)


class Heartbeats:
    """For how many seconds nothing has been heard of each run.

    Only the monotonic clock of this process counts, so the clocks of server, workers and this
    machine may differ. Nothing counts as heard or as silent while the server did not answer.


    Parameters
    ----------
    longest_gap
        Seconds between two observations. After a longer gap (the machine slept, the server was
        away) all counting begins anew: what happened meanwhile is still on its way.
    """

    def __init__(self, longest_gap: float) -> None:
        self._longest_gap = longest_gap
        self._since: dict[Observation, float] = {}
        self._last: float | None = None

    def observe(self, now: float, observations: Iterable[Observation]) -> dict[Observation, float]:
        """Return for how many seconds each of these observations has been the same.

        Parameters
        ----------
        now
            Of a monotonic clock, in seconds, taken before the server was asked.
        observations
            One of each run that needs looking after.
        """
        if self._last is not None and now - self._last > self._longest_gap:
            self.forget()
        self._last = now
        self._since = {each: self._since.get(each, now) for each in observations}
        return {each: now - since for each, since in self._since.items()}

    def forget(self) -> None:
        """Begin all counting anew."""
        self._since.clear()


class Monitor:
    """Looks after the runs of some work pools.

    Parameters
    ----------
    client
        Of the server.
    pools
        Names of the work pools.
    timeouts
        When to act.
    say
        Told of each act.
    """

    def __init__(
        self,
        client: SyncPrefectClient,
        pools: Sequence[str],
        timeouts: Timeouts,
        say: Callable[[str], None],
    ) -> None:
        self._client = client
        self._pools = list(pools)
        self._timeouts = timeouts
        self._say = say
        self._heartbeats = Heartbeats(_LONGEST_GAP)
        self._left_alone: set[UUID] = set()

    def check(self) -> None:
        """Look at all runs once, and act where a timeout has passed.

        Raises
        ------
        httpx.HTTPError
            If the server does not answer. All counting begins anew then: what runs say meanwhile
            comes late or is lost.
        """
        try:
            self._check(time.monotonic())
        except Exception:
            self._heartbeats.forget()
            raise

    def _check(self, now: float) -> None:
        from prefect.exceptions import ObjectNotFound

        runs = {run.id: run for run in self._read_runs()}
        observed = [seen for run in runs.values() if (seen := self._observe(run)) is not None]
        for seen, seconds in self._heartbeats.observe(now, observed).items():
            if seconds < self._timeouts.of(seen.phase) or seen.state in self._left_alone:
                continue
            with suppress(ObjectNotFound):  # somebody has deleted it
                if seen.phase is Phase.CRASHED:
                    self._start_again(seen)
                else:
                    self._mark_as_crashed(runs[seen.run], seen)

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

    def _observe(self, run: FlowRun) -> Observation | None:
        if run.state is None or run.deployment_id is None:
            return None
        phase = _PHASES.get(run.state.type.value)
        if phase is None:  # it went on between two answers
            return None
        heartbeat = self._newest_heartbeat(run.id) if phase is Phase.RUNNING else None
        return Observation(run.id, run.name, phase, run.state.id, heartbeat)

    def _newest_heartbeat(self, run: UUID) -> UUID | None:
        from prefect.events.filters import EventFilter, EventNameFilter, EventResourceFilter

        wanted = EventFilter(
            event=EventNameFilter(name=["prefect.flow-run.heartbeat"]),
            resource=EventResourceFilter(id=[f"prefect.flow-run.{run}"]),
        )
        events = self._client.read_events(wanted, limit=1).events
        return events[0].id if events else None

    def _mark_as_crashed(self, run: FlowRun, seen: Observation) -> None:
        from prefect.states import Crashed

        waited = self._timeouts.of(seen.phase)
        if seen.phase is Phase.PENDING:
            message = f"Lost: taken by a worker and not begun for {waited:g} seconds."
        elif self._sends_heartbeats(run):
            message = f"Lost: no sign of life for {waited:g} seconds, so its process has died."
        else:
            self._left_alone.add(seen.state)
            self._say(f"{seen.name}: its deployment sends no heartbeats ({HEARTBEAT}); left alone")
            return
        if self._change(seen, Crashed(message=message)):
            self._say(f"{seen.name}: {message}")

    def _sends_heartbeats(self, run: FlowRun) -> bool:
        """Silence means nothing where a run was never asked to speak."""
        if run.deployment_id is None:
            return False
        deployment = self._client.read_deployment(run.deployment_id)
        variables: dict[str, Any] = {**deployment.job_variables, **(run.job_variables or {})}
        return HEARTBEAT in (variables.get("env") or {})

    def _start_again(self, seen: Observation) -> None:
        from prefect.states import AwaitingRetry

        crashes = sum(state.is_crashed() for state in self._client.read_flow_run_states(seen.run))
        if crashes >= STARTS:
            self._left_alone.add(seen.state)
            self._say(f"{seen.name}: crashed {crashes} times, and stays so; see why, then retry it")
            return
        message = "It crashed, and starts again from what is cached."
        if self._change(seen, AwaitingRetry(message=message)):
            self._say(f"{seen.name}: crashed; starts again ({crashes + 1} of {STARTS})")

    def _change(self, seen: Observation, state: State[Any]) -> bool:
        """Bring a run from the state in which it was seen to another; False if it has gone on."""
        from prefect.client.schemas.responses import SetStateStatus

        # Prefect has no compare-and-set. Between these two requests a second monitor can do the
        # same; then a run may start twice, which the store makes harmless.
        current = self._client.read_flow_run(seen.run).state
        if current is None or current.id != seen.state:
            return False
        return self._client.set_flow_run_state(seen.run, state).status is SetStateStatus.ACCEPT
