"""`digitflow up`: server, deployments and workers on one machine, until it is told to stop."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
import uuid
from functools import partial
from pathlib import Path

from rich.console import Console

from digitflow.flows.cli.commands.down import clear_away
from digitflow.flows.cli.commands.flags import print_with_time
from digitflow.flows.cli.commands.scheduled import as_table, wait_for_schedule
from digitflow.flows.server.endpoint import choose_endpoint
from digitflow.flows.server.pidfile import Pidfile, UpRecord
from digitflow.flows.server.prefect_setup import prepare_environment
from digitflow.flows.server.process import start_time
from digitflow.flows.server.supervisor import kill_all

_SECONDS_BETWEEN_LOOKS = 0.5


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
    from digitflow.flows.server.deploy import project_folder, service_environment

    project = project_folder()
    records = Pidfile()
    if not records.take():
        _say_where(console, records)
        return
    left_over = records.load()
    if left_over is not None:
        console.print("an earlier digitflow up was killed; ending what it left", style="yellow")
        clear_away(console, records, left_over)
    place = choose_endpoint(port)
    record = UpRecord(
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
        clear_away(console, records, record)


def _run(
    console: Console,
    record: UpRecord,
    folder: Path,
    project: Path,
    environment: dict[str, str],
    workers: int,
) -> None:
    from digitflow.flows.server.deploy import deploy_all
    from digitflow.flows.server.endpoint import Endpoint
    from digitflow.flows.server.process import MARK
    from digitflow.flows.server.supervisor import Supervisor

    place = Endpoint(record.api_url, record.port)
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
        supervisor.start_monitor()
        scheduled = wait_for_schedule()
    _show(console, record, scheduled, supervisor.logs)

    say = partial(print_with_time, console)
    while True:
        supervisor.watch(say)
        time.sleep(_SECONDS_BETWEEN_LOOKS)


def _show(console: Console, record: UpRecord, scheduled: dict[str, str], logs: list[Path]) -> None:
    console.print(f"[bold]digitflow is up: {record.ui_url}[/]\n")
    console.print(as_table(scheduled))
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


def _stop_on_signals(record: UpRecord) -> None:
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


def _say_where(console: Console, records: Pidfile) -> None:
    record = records.load()
    if record is None:
        console.print("digitflow up is starting in another terminal")
        return
    console.print(
        f"digitflow is up already: {record.ui_url} (process {record.pid}). "
        "To take it down: digitflow down",
        soft_wrap=True,
    )
