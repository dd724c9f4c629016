"""Bring the pool and the deployments of this project to a Prefect server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from digitflow.flows.server.endpoint import ServiceError
from digitflow.flows.server.prefect_setup import SERVER_SETTINGS
from digitflow.flows.server.process import end, last_lines, start

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

POOL = "digitflow"
NIGHTLY = "retrain-nightly"
ON_DEMAND, TO_BE_SCHEDULED = "on demand", "to be scheduled"
_SECONDS_TO_DEPLOY = 300.0
_SECONDS_TO_DIE = 10.0
# At the top of a checkout, and in an installed package.
_DECLARED = Path(__file__).resolve().parents[2] / "prefect.yaml"


@dataclass(frozen=True)
class Project:
    """What is deployed.

    Attributes
    ----------
    folder
        The folder to deploy from, and for the workers of `digitflow up` to work in.
    declared
        Its ``prefect.yaml``.
    """

    folder: Path
    declared: Path

    @property
    def deployments(self) -> list[dict[str, Any]]:
        """The deployments as they are declared."""
        import yaml  # type: ignore[import-untyped]

        document = yaml.safe_load(self.declared.read_text(encoding="utf-8"))
        found: list[dict[str, Any]] = document["deployments"]
        return found

    @property
    def nightly(self) -> str:
        """The first deployment with a schedule, of which a verdict is expected."""
        scheduled = [each["name"] for each in self.deployments if each.get("schedules")]
        return str(scheduled[0]) if scheduled else NIGHTLY

    @property
    def example(self) -> str:
        """What a person may have Prefect do with it first, in another terminal."""
        ours = "deployment run digitflow/train --param epochs=5 --watch"
        return ours if self.declared == _DECLARED else "deployment ls"


def find_project(own: Path | None = None) -> Project:
    """Return what is deployed.

    A folder of one's own if one is named, or the checkout; for an installed digitflow, which brings
    a ``prefect.yaml`` of its own, the working directory with that.

    Raises
    ------
    ServiceError
        If there is no ``prefect.yaml``.
    """
    if own is not None:
        folder = own.expanduser().absolute()
        if not (folder / _DECLARED.name).is_file():
            message = (
                f"expected a project with a {_DECLARED.name} in {folder}, found none: digitflow "
                "new NAME makes one"
            )
            raise ServiceError(message)
        return Project(folder, folder / _DECLARED.name)
    if not _DECLARED.is_file():
        message = (
            f"expected the deployments of digitflow in {_DECLARED}, found no such file; restore it "
            "from the repository, or install digitflow again"
        )
        raise ServiceError(message)
    return Project(_DECLARED.parent if _is_checkout() else Path.cwd(), _DECLARED)


def service_environment(api_url: str, project: Project) -> dict[str, str]:
    """Return the environment for Prefect's commands: this one, and what digitflow needs of it."""
    defaults = {
        **SERVER_SETTINGS,
        # Seconds between two looks for runs that are due; Prefect's own value is 10.
        "PREFECT_WORKER_QUERY_SECONDS": "2",
    }
    ours = {"PREFECT_API_URL": api_url}
    if _is_checkout():
        places = (str(project.folder), str(_DECLARED.parent), os.environ.get("PYTHONPATH"))
        ours["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(filter(None, places)))
    else:
        ours["DIGITFLOW_VERSION"] = version("digitflow")
    return {**defaults, **os.environ, **ours}


def deploy_all(project: Project, environment: Mapping[str, str], log: Path) -> None:
    """Make the work pool and the deployments of ``prefect.yaml``, or update them.

    Parameters
    ----------
    project
        What to deploy.
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
        command = [sys.executable, "-m", "prefect", "--no-prompt"]
        command += ["deploy", "--all", "--prefect-file", str(project.declared)]
        deploying = start(command, folder=project.folder, environment=environment, log=log)
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
        message = (
            f"`prefect deploy --all` {ended} in {project.folder}; from {log}:\n{last_lines(log)}"
        )
        raise ServiceError(message)


def next_runs(project: Project) -> dict[str, str]:
    """Return each deployment's name, and when it runs next of itself: a text for people.

    `ON_DEMAND` is one without a schedule, `TO_BE_SCHEDULED` one whose runs the server has not
    made yet.
    """
    from prefect.client.orchestration import get_client

    names = [deployment["name"] for deployment in project.deployments]
    with get_client(sync_client=True) as client:
        found = {each.name: each for each in client.read_deployments(limit=200)}
        return {name: _next_run(client, found[name]) for name in names if name in found}


def _is_checkout() -> bool:
    return (_DECLARED.parent / "digitflow").is_dir()


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
        client.read_work_pool(POOL)  # of whatever type: its own workers know how to serve it
    except ObjectNotFound:
        template = ProcessWorker.get_default_base_job_template()
        wanted = WorkPoolCreate(name=POOL, type="process", base_job_template=template)
        with suppress(ObjectAlreadyExists):  # somebody made it just now
            client.create_work_pool(wanted)
