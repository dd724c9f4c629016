"""`digitflow up`, `down`, `deploy`: server, pool, deployments and workers on one machine."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
import uuid
from pathlib import Path

from rich.console import Console
from rich.table import Table

from flows.prefect_setup import prepare_environment, server_url
from flows.services.errors import ServiceError
from flows.services.place import answers, choose_place
from flows.services.processes import start_time
from flows.services.record import Record, Records
from flows.services.take_down import kill_all, take_down

_SECONDS_BETWEEN_LOOKS = 0.5
_SECONDS_TO_SCHEDULE = 30.0
_SECONDS_TO_GO_DOWN = 120.0


class _Stop(BaseException):
    """Somebody wants it to end: Ctrl-C, `digitflow down`, a closed terminal."""


def bring_up(console: Console, port: int | None, workers: int) -> None:
    """Start what is needed, show it, and keep it running until it is told to stop.

    Parameters
    ----------
    console
        Where to show it.
    port
        For the server; None for the usual one.
    workers
        How many to start; each executes one run at a time.

    Raises
    ------
    ServiceError
        If something cannot be started. What had been started has ended then.
    """
    from flows.services.deploying import project_folder, service_environment

    project = project_folder()
    records = Records()
    if not records.take():
        _say_where(console, records)
        return
    left_over = records.load()
    if left_over is not None:
        console.print("an earlier digitflow up was killed; ending what it left", style="yellow")
        _clear_away(console, records, left_over)
    place = choose_place(port)
    record = Record(
        mark=uuid.uuid4().hex,
        api_url=place.api_url,
        port=place.port,
        pid=os.getpid(),
        started=start_time(os.getpid()) or 0.0,
    )
    environment = service_environment(place.api_url, project)
    os.environ.update(environment)
    prepare_environment(verbose=False)
    records.save(record)
    try:
        _stop_on_signals(record)
        _run(console, record, records.folder, project, environment, workers)
    except _Stop:
        console.print("\ntaking everything down; press Ctrl-C again to kill it", style="yellow")
    finally:
        _clear_away(console, records, record)


def take_all_down(console: Console) -> None:
    """End what a `digitflow up` of this user has started, whether it still runs or was killed.

    Raises
    ------
    ServiceError
        If it does not end.
    """
    records = Records()
    record = records.load()
    if not records.take():
        if record is not None and start_time(record.pid) == record.started:
            os.kill(record.pid, signal.SIGTERM)
        if not records.take(_SECONDS_TO_GO_DOWN):
            message = (
                f"digitflow up (process {record.pid if record else 'unknown'}) has not ended "
                f"within {_SECONDS_TO_GO_DOWN:g} s; its logs are in {records.folder}"
            )
            raise ServiceError(message)
        console.print("digitflow up has ended, and everything that it had started")
        return
    if record is None:
        console.print("nothing to do: no digitflow up is running, and none has left anything")
        return
    prepare_environment(verbose=False)
    _clear_away(console, records, record)


def deploy(console: Console) -> None:
    """Bring pool, deployments and automations to the server that ``PREFECT_API_URL`` names.

    Raises
    ------
    ServiceError
        If no server is named, or it does not answer, or `prefect deploy` fails.
    """
    from flows.services.deploying import deploy_all, project_folder, service_environment

    project = project_folder()
    named = server_url()
    if named is None:
        message = (
            "expected the URL of a Prefect server in PREFECT_API_URL, found none. Name one, or "
            "bring everything up on this machine with: digitflow up"
        )
        raise ServiceError(message)
    api_url = named.rstrip("/")
    if not answers(api_url):
        message = f"PREFECT_API_URL names the server {api_url}, which does not answer"
        raise ServiceError(message)
    environment = service_environment(api_url, project)
    os.environ.update(environment)
    prepare_environment(verbose=False)
    with console.status("deploying"):
        deploy_all(project, environment, Records().folder / "deploy.log")
        scheduled = _wait_for_schedule(project)
    console.print(_table(scheduled))
    console.print(f"on {api_url}, from {project}", style="dim", soft_wrap=True, markup=False)


def _run(
    console: Console,
    record: Record,
    folder: Path,
    project: Path,
    environment: dict[str, str],
    workers: int,
) -> None:
    from flows.services.deploying import deploy_all
    from flows.services.place import Place
    from flows.services.processes import MARK
    from flows.services.supervisor import Supervisor

    place = Place(record.api_url, record.port)
    supervisor = Supervisor(place, environment, record.mark, folder)
    with console.status("starting the Prefect server") as status:
        if record.port is not None:
            supervisor.start_server()
            import prefect  # noqa: F401 - a second of work, while the server starts

            supervisor.wait_for_server()
        status.update("deploying")
        deploying = {**environment, MARK: f"{record.mark} deploy"}
        deploy_all(project, deploying, folder / "deploy.log")
        status.update("starting workers")
        for number in range(1, workers + 1):
            supervisor.start_worker(number)
        scheduled = _wait_for_schedule(project)
    _show(console, record, scheduled, supervisor.logs)

    def say(text: str) -> None:
        console.print(f"{time.strftime('%H:%M:%S')}  {text}", markup=False, soft_wrap=True)

    while True:
        supervisor.watch(say)
        time.sleep(_SECONDS_BETWEEN_LOOKS)


def _wait_for_schedule(project: Path) -> dict[str, str]:
    from flows.services.deploying import TO_BE_SCHEDULED, next_runs

    deadline = time.monotonic() + _SECONDS_TO_SCHEDULE
    while True:
        scheduled = next_runs(project)
        if TO_BE_SCHEDULED not in scheduled.values() or time.monotonic() > deadline:
            return scheduled
        time.sleep(1.0)


def _show(console: Console, record: Record, scheduled: dict[str, str], logs: list[Path]) -> None:
    console.print(f"[bold]digitflow is up: {record.ui_url}[/]\n")
    console.print(_table(scheduled))
    console.print(
        "\nIn the UI: Deployments, train, Run. Or in another terminal:\n\n"
        f"  export PREFECT_API_URL={record.api_url}\n"
        f"  {_prefect()} deployment run digitflow/train --param epochs=5 --watch\n",
        markup=False,
        soft_wrap=True,
    )
    if record.port is None:
        console.print("The server ran before, and is left alone.", style="dim")
    for number, log in enumerate(logs):
        title = "Logs: " if number == 0 else "      "
        console.print(f"{title}{log}", style="dim", markup=False, soft_wrap=True)
    console.print("Ctrl-C takes everything down. Runs under way go on with the next digitflow up.")


def _prefect() -> str:
    """Return what a person has to type for our Prefect, here, in another terminal."""
    ours = Path(sys.executable).with_name("prefect")
    found = shutil.which("prefect")
    if found is not None and Path(found).absolute() == ours:
        return "prefect"
    here = Path.cwd()
    return str(ours.relative_to(here) if ours.is_relative_to(here) else ours)


def _table(scheduled: dict[str, str]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column("deployment", no_wrap=True)
    table.add_column("next run", no_wrap=True)
    for name, when in scheduled.items():
        table.add_row(name, when)
    return table


def _stop_on_signals(record: Record) -> None:
    """Raise `_Stop` on the first signal that asks to end; kill everything on a second one."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def stop(_signal: int, _frame: object) -> None:
        for number in numbers:
            signal.signal(number, stop_at_once)
        raise _Stop

    def stop_at_once(_signal: int, _frame: object) -> None:
        kill_all(record)
        os._exit(1)

    for number in numbers:
        signal.signal(number, stop)


def _clear_away(console: Console, records: Records, record: Record) -> None:
    count = take_down(record)
    records.remove()
    console.print("down: everything that digitflow up had started has ended")
    if count:
        runs = "1 run goes on" if count == 1 else f"{count} runs go on"
        console.print(f"{runs} from the last epoch with the next digitflow up")


def _say_where(console: Console, records: Records) -> None:
    record = records.load()
    if record is None:
        console.print("digitflow up is starting in another terminal")
        return
    console.print(
        f"digitflow is up already: {record.ui_url} (process {record.pid}). "
        "To take it down: digitflow down",
        soft_wrap=True,
    )
