"""`digitflow monitor`: which runs it starts again, and when, with a server made of lists."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.responses import SetStateStatus
from prefect.server.events.actions import ChangeFlowRunState
from prefect.states import AwaitingRetry, Completed, Crashed, Pending, Running, Scheduled

from digitflow.flows.server.monitor import (
    HEARTBEAT,
    Heartbeats,
    Monitor,
    Observation,
    Phase,
    Timeouts,
)

SPEAKS = {"env": {HEARTBEAT: "30"}}


@dataclass
class Server:
    """What a monitor asks of Prefect's client, and nothing more."""

    job_variables: dict[str, Any] = field(default_factory=lambda: SPEAKS)
    runs: dict[UUID, FlowRun] = field(default_factory=dict)
    states: dict[UUID, list[State[Any]]] = field(default_factory=dict)
    heartbeats: dict[str, UUID] = field(default_factory=dict)
    away: bool = False

    def add(self, *states: State[Any]) -> UUID:
        run = FlowRun(flow_id=uuid4(), deployment_id=uuid4(), name="a-run", end_time=None)
        self.runs[run.id] = run
        self.states[run.id] = []
        for state in states:
            self.enter(run.id, state)
        return run.id

    def enter(self, run: UUID, state: State[Any]) -> None:
        self.states[run].append(state.fresh_copy())
        self.runs[run].state = self.states[run][-1]

    def beat(self, run: UUID) -> None:
        self.heartbeats[f"prefect.flow-run.{run}"] = uuid4()

    def history(self, run: UUID) -> list[str | None]:
        return [state.name for state in self.states[run]]

    def read_flow_runs(
        self, flow_run_filter: Any, work_pool_filter: Any, sort: Any, limit: int
    ) -> list[FlowRun]:
        if self.away:
            raise httpx.ConnectError("refused")
        assert work_pool_filter.name.any_ == ["digitflow"]
        asked = flow_run_filter.state.type.any_
        since = flow_run_filter.end_time and flow_run_filter.end_time.after_
        found = [run.model_copy() for run in self.runs.values() if run.state.type in asked]  # type: ignore[union-attr]
        return [run for run in found if not (since and run.end_time and run.end_time < since)]

    def read_flow_run(self, run: UUID) -> FlowRun:
        return self.runs[run]

    def read_events(self, wanted: Any, limit: int) -> SimpleNamespace:
        assert wanted.event.name == ["prefect.flow-run.heartbeat"]
        (resource,) = wanted.resource.id
        newest = self.heartbeats.get(resource)
        return SimpleNamespace(events=[SimpleNamespace(id=newest)] if newest else [])

    def read_deployment(self, _deployment: UUID) -> SimpleNamespace:
        return SimpleNamespace(job_variables=self.job_variables)

    def read_flow_run_states(self, run: UUID) -> list[State[Any]]:
        return self.states[run]

    def set_flow_run_state(self, run: UUID, state: State[Any]) -> SimpleNamespace:
        self.enter(run, state)
        return SimpleNamespace(status=SetStateStatus.ACCEPT)


class Watch:
    """A monitor and its clock."""

    def __init__(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        self.server = server
        self.now = 1e6
        self.said: list[str] = []
        monkeypatch.setattr("digitflow.flows.server.monitor.time.monotonic", lambda: self.now)
        self.monitor = Monitor(server, ["digitflow"], Timeouts(), self.said.append)  # type: ignore[arg-type]

    def look_for(self, seconds: float, *, every: float = 5.0) -> None:
        """Look again and again while so much time passes."""
        end = self.now + seconds
        while self.now < end:
            self.now += every
            self.monitor.check()


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def watch(server: Server, monkeypatch: pytest.MonkeyPatch) -> Watch:
    watch = Watch(server, monkeypatch)
    watch.monitor.check()
    return watch


class TestHeartbeats:
    RUN = Observation(uuid4(), "a-run", Phase.RUNNING, uuid4(), uuid4())

    def test_a_run_that_looks_the_same_is_silent(self) -> None:
        heartbeats = Heartbeats(20.0)
        heard = [heartbeats.observe(now, [self.RUN])[self.RUN] for now in (100.0, 105.0, 117.0)]
        assert heard == [0.0, 5.0, 17.0]

    def test_a_heartbeat_ends_the_silence(self) -> None:
        heartbeats = Heartbeats(20.0)
        heartbeats.observe(100.0, [self.RUN])
        spoke = Observation(self.RUN.run, "a-run", Phase.RUNNING, self.RUN.state, uuid4())
        assert heartbeats.observe(110.0, [spoke]) == {spoke: 0.0}
        assert heartbeats.observe(115.0, [spoke]) == {spoke: 5.0}

    def test_time_in_which_nobody_looked_is_no_silence(self) -> None:
        heartbeats = Heartbeats(20.0)
        heartbeats.observe(100.0, [self.RUN])
        assert heartbeats.observe(121.0, [self.RUN]) == {self.RUN: 0.0}

    def test_what_is_gone_is_forgotten(self) -> None:
        heartbeats = Heartbeats(20.0)
        heartbeats.observe(100.0, [self.RUN])
        heartbeats.observe(110.0, [])
        assert heartbeats.observe(115.0, [self.RUN]) == {self.RUN: 0.0}


class TestLostRuns:
    def test_a_run_without_a_process_crashes_and_starts_again(
        self, server: Server, watch: Watch
    ) -> None:
        run = server.add(Scheduled(), Pending(), Running())
        server.beat(run)
        watch.look_for(90)
        assert server.history(run)[-1] == "Running"
        watch.look_for(5)
        assert server.history(run)[-1] == "Crashed"
        assert server.states[run][-1].message == (
            "Lost: no sign of life for 90 seconds, so its process has died."
        )
        watch.look_for(20)
        assert server.history(run)[-1] == "Crashed"
        watch.look_for(5)
        assert server.history(run) == [
            *("Scheduled", "Pending", "Running", "Crashed", "AwaitingRetry")
        ]
        # It waits for a worker as long as that takes.
        watch.look_for(3_600)
        assert server.history(run)[-1] == "AwaitingRetry"
        assert watch.said == [
            "a-run: Lost: no sign of life for 90 seconds, so its process has died.",
            "a-run: crashed; starts again (2 of 3)",
        ]

    def test_one_that_speaks_is_left_in_peace(self, server: Server, watch: Watch) -> None:
        run = server.add(Running())
        for _ in range(100):
            server.beat(run)
            watch.look_for(85)
        assert server.history(run) == ["Running"]

    def test_one_that_its_worker_never_began(self, server: Server, watch: Watch) -> None:
        run = server.add(Pending())
        watch.look_for(300)
        assert server.history(run) == ["Pending"]
        watch.look_for(30)
        assert server.history(run) == ["Pending", "Crashed", "AwaitingRetry"]

    def test_three_starts_at_most(self, server: Server, watch: Watch) -> None:
        """Also for what crashes before it runs, which Prefect does not count."""
        run = server.add(Pending(), Crashed())
        for _ in range(5):
            watch.look_for(30)
            if server.history(run)[-1] == "AwaitingRetry":
                server.enter(run, Pending())
                server.enter(run, Crashed())
        assert server.history(run).count("AwaitingRetry") == 2
        watch.look_for(600)
        assert server.history(run)[-1] == "Crashed"
        assert watch.said[-1] == "a-run: crashed 3 times, and stays so; see why, then retry it"
        assert len(watch.said) == 3

    def test_one_that_sends_no_heartbeats_is_left_alone(self, server: Server, watch: Watch) -> None:
        server.job_variables = {}
        run = server.add(Running())
        watch.look_for(1_000)
        assert server.history(run) == ["Running"]
        assert watch.said == [
            f"a-run: its deployment sends no heartbeats ({HEARTBEAT}); left alone"
        ]

    def test_old_crashes_and_other_ends_stay(self, server: Server, watch: Watch) -> None:
        old = server.add(Running(), Crashed())
        server.runs[old].end_time = datetime(2026, 1, 1, tzinfo=UTC)  # type: ignore[assignment]
        ended = server.add(Running(), Completed())
        waiting = server.add(Scheduled())
        again = server.add(Running(), Crashed(), AwaitingRetry())
        watch.look_for(1_000)
        assert server.history(old)[-1] == "Crashed"
        assert server.history(ended)[-1] == "Completed"
        assert server.history(waiting)[-1] == "Scheduled"
        assert server.history(again)[-1] == "AwaitingRetry"
        assert watch.said == []

    def test_a_second_report_of_a_crash_does_not_hit_the_new_start(
        self, server: Server, watch: Watch
    ) -> None:
        run = server.add(Running(), Crashed())
        watch.look_for(10)
        server.enter(run, Crashed())
        watch.look_for(20)
        assert server.history(run)[-1] == "Crashed"
        watch.look_for(10)
        assert server.history(run)[-1] == "AwaitingRetry"

    def test_one_that_went_on_between_the_look_and_the_act(
        self, server: Server, watch: Watch, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = server.add(Running())
        watch.look_for(85)

        def gone_on(run: UUID) -> FlowRun:
            server.enter(run, Completed())
            return server.runs[run]

        monkeypatch.setattr(server, "read_flow_run", gone_on)
        watch.look_for(30)
        assert server.history(run) == ["Running", "Completed"]
        assert watch.said == []


class TestServerAway:
    def test_its_absence_is_nobodys_silence(self, server: Server, watch: Watch) -> None:
        """However short: it may have missed what was said."""
        run = server.add(Running())
        watch.look_for(80)
        server.away = True
        watch.now += 5
        with pytest.raises(httpx.ConnectError):
            watch.monitor.check()
        server.away = False
        watch.look_for(90)
        assert server.history(run) == ["Running"]
        watch.look_for(10)
        assert server.history(run)[-1] == "Crashed"


def test_automations_cannot_compare() -> None:
    """Should this fail one day, Prefect may be able to do what the monitor does: docs/design.md.

    Its action changes the state of a run whatever that is by then.
    """
    known = {"type", "name", "state", "message", "force"}
    assert set(ChangeFlowRunState.model_fields) <= known
