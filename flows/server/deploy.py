"""Bring the pool and the deployments of this project to a Prefect server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from digitflow.flows.server.errors import ServiceError
from digitflow.flows.server.pool import POOL
from digitflow.flows.server.processes import end, last_lines, start

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

ON_DEMAND, TO_BE_SCHEDULED = "on demand", "to be scheduled"
_SECONDS_TO_DEPLOY = 300.0
_SECONDS_TO_DIE = 10.0


def project_folder() -> Path:
    """Return the folder with ``prefect.yaml``: what is deployed, and where runs leave results.

    Raises
    ------
    ServiceError
        If digitflow is installed without it.
    """
    folder = Path(__file__).resolve().parents[2]
    if not (folder / "prefect.yaml").is_file():
        message = (
            f"expected prefect.yaml beside the package flows, found none in {folder}: this "
            "digitflow is installed without its deployments. Clone the repository, install from "
            "there (make install), and use that digitflow"
        )
        raise ServiceError(message)
    return folder


def service_environment(api_url: str, project: Path) -> dict[str, str]:
    """Return the environment for Prefect's commands: this one, and what digitflow needs of it."""
    path = os.pathsep.join(filter(None, (str(project), os.environ.get("PYTHONPATH"))))
    defaults = {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        # Seconds between two looks for runs that are due; Prefect's own value is 10.
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        # On a busy machine SQLite's writers wait for each other longer than 10 s.
        "PREFECT_SERVER_DATABASE_TIMEOUT": "60",
        "PREFECT_SERVER_DATABASE_CONNECTION_TIMEOUT": "60",
    }
    ours = {"PREFECT_API_URL": api_url, "PYTHONPATH": path}
    return {**defaults, **os.environ, **ours}


def deploy_all(project: Path, environment: Mapping[str, str], log: Path) -> None:
    """Make the work pool and the deployments of ``prefect.yaml``, or update them.

    Parameters
    ----------
    project
        The folder with ``prefect.yaml``.
    environment
        Names the server: ``PREFECT_API_URL``.
    log
        File that the output of ``prefect deploy`` is added to.

    Raises
    ------
    ServiceError
        If ``prefect deploy`` fails; ends with what it said.
    """
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        _make_pool(client)
        command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
        deploying = start(command, folder=project, environment=environment, log=log)
        try:
            code: int | None = deploying.wait(_SECONDS_TO_DEPLOY)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            if deploying.poll() is None:
                end([deploying.pid], signal.SIGKILL, _SECONDS_TO_DIE)
    if code != 0:
        ended = (
            f"took longer than {_SECONDS_TO_DEPLOY:g} s" if code is None else f"ended with {code}"
        )
        message = f"`prefect deploy --all` {ended} in {project}; from {log}:\n{last_lines(log)}"
        raise ServiceError(message)


def next_runs(project: Path) -> dict[str, str]:
    """Return each deployment's name, and when it runs next of itself: a text for people.

    `ON_DEMAND` is one without a schedule, `TO_BE_SCHEDULED` one whose runs the server has not
    made yet.
    """
    import yaml  # type: ignore[import-untyped]
    from prefect.client.orchestration import get_client

    declared = yaml.safe_load((project / "prefect.yaml").read_text(encoding="utf-8"))
    names = [deployment["name"] for deployment in declared["deployments"]]
    with get_client(sync_client=True) as client:
        found = {each.name: each for each in client.read_deployments(limit=200)}
        return {name: _next_run(client, found[name]) for name in names if name in found}


def _next_run(client: SyncPrefectClient, deployment: Any) -> str:
    from prefect.client.schemas.filters import (
        FlowRunFilter,
        FlowRunFilterDeploymentId,
        FlowRunFilterState,
        FlowRunFilterStateType,
    )
    from prefect.client.schemas.objects import StateType
    from prefect.client.schemas.sorting import FlowRunSort

    schedules = [each.schedule for each in deployment.schedules if each.active]
    if not schedules or deployment.paused:
        return ON_DEMAND
    asked = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=[deployment.id]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
    )
    order = FlowRunSort.EXPECTED_START_TIME_ASC
    runs = client.read_flow_runs(flow_run_filter=asked, sort=order, limit=1)
    if not runs or runs[0].expected_start_time is None:
        return TO_BE_SCHEDULED
    return _in_words(runs[0].expected_start_time, getattr(schedules[0], "timezone", None))


def _in_words(time: datetime, zone: str | None) -> str:
    from zoneinfo import ZoneInfo

    local = time.astimezone(ZoneInfo(zone)) if zone else time.astimezone()
    return f"{local:%a %d %b %H:%M} {zone or local.tzname()}"


def _make_pool(client: SyncPrefectClient) -> None:
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
    from prefect.workers.process import ProcessWorker

    try:
        pool = client.read_work_pool(POOL)
    except ObjectNotFound:
        template = ProcessWorker.get_default_base_job_template()
        wanted = WorkPoolCreate(name=POOL, type="process", base_job_template=template)
        try:
            client.create_work_pool(wanted)
        except ObjectAlreadyExists:
            return  # somebody made it just now
        return
    if pool.type != "process":
        message = (
            f"expected {POOL!r} to be a work pool of type process, found one of type {pool.type}. "
            f"Delete it (prefect work-pool delete {POOL}) or name another server in PREFECT_API_URL"
        )
        raise ServiceError(message)
