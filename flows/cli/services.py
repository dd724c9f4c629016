"""`digitflow up`, `down`, `deploy`, `monitor`, `server`: Prefect's server and what it needs."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import httpx
from cyclopts import Parameter, validators
from rich.console import Console

from digitflow.flows.cli.render import plain_console, print_table, print_text, table, word
from digitflow.flows.server.alerts import check_address, make_alerts
from digitflow.flows.server.deploy import (
    POOL,
    TO_BE_SCHEDULED,
    Project,
    deploy_all,
    find_project,
    next_runs,
    service_environment,
)
from digitflow.flows.server.endpoint import (
    Endpoint,
    ServiceError,
    answers,
    choose_endpoint,
    exposure,
    server_url,
)
from digitflow.flows.server.monitor import SECONDS_BETWEEN_CHECKS, Monitor, Timeouts
from digitflow.flows.server.pidfile import Pidfile, UpRecord
from digitflow.flows.server.prefect_setup import SERVER_SETTINGS, prepare_environment
from digitflow.flows.server.process import MARK, start_time
from digitflow.flows.server.supervisor import Supervisor, kill_all, shut_down
from digitflow.storage.visible import redacted, shown_url

_SECONDS_BETWEEN_CHECKS = 0.5
_SECONDS_TO_GO_DOWN = 120.0
_SECONDS_TO_SCHEDULE = 30.0
# Clocks are put right now and then, and with them the time at which a process has started.
_CLOCK_SKEW = 2.0


_Notify = Annotated[
    str | None,
    Parameter(
        env_var="DIGITFLOW_NOTIFY",
        help="Where to tell people when one should look: an Apprise URL (mail, Slack, Teams, …) "
        "or a webhook's address. Makes automations on the server, or brings them up to date. "
        "Default: DIGITFLOW_NOTIFY, which no list of processes shows.",
    ),
]


_Own = Annotated[
    Path | None,
    Parameter(
        help="Folder of a project of your own, as digitflow new makes one, whose prefect.yaml is "
        "deployed. Default: digitflow's own deployments."
    ),
]


class _Stop(BaseException):
    """Somebody wants it to end: Ctrl-C, `digitflow down`, a closed terminal."""


def up(
    folder: _Own = None,
    /,
    *,
    port: Annotated[
        int | None,
        Parameter(
            validator=validators.Number(gte=1, lte=65535),
            help="Port of the Prefect server and its UI. Default: 4200.",
        ),
    ] = None,
    workers: Annotated[
        int,
        Parameter(
            validator=validators.Number(gte=1, lte=64),
            help="Number of workers to start; each executes one run at a time.",
        ),
    ] = 2,
    notify: _Notify = None,
) -> None:
    """Start what is needed, show it, and keep it running until it is told to stop.

    Raises
    ------
    ServiceError
        If something cannot be started. What had been started has ended then.
    """
    if notify:
        check_address(notify)
    console = plain_console()
    project = find_project(folder)
    pidfile = Pidfile()
    if not pidfile.take():
        _say_where(console, pidfile)
        return
    left_over = pidfile.load()
    if left_over is not None:
        console.print("an earlier digitflow up was killed; ending what it left", style="yellow")
        _clear_away(console, pidfile, left_over)
    endpoint = choose_endpoint(port)
    record = UpRecord(
        mark=uuid.uuid4().hex,
        api_url=endpoint.api_url,
        port=endpoint.port,
        pid=os.getpid(),
        started=start_time(os.getpid()) or 0.0,
    )
    environment = service_environment(endpoint.api_url, project)
    os.environ.update(environment)
    prepare_environment(verbose=False)
    pidfile.save(record)
    try:
        _stop_on_signals(record)
        _run(console, record, pidfile.folder, project, environment, workers, notify)
    except _Stop:
        console.print("\ntaking everything down; press Ctrl-C again to kill it", style="yellow")
    finally:
        _clear_away(console, pidfile, record)


def down() -> None:
    """End what a `digitflow up` of this user has started, whether it still runs or was killed.

    Raises
    ------
    ServiceError
        If it does not end.
    """
    console = plain_console()
    pidfile = Pidfile()
    record = pidfile.load()
    if not pidfile.take():
        if record is not None and _is_alive(record):
            os.kill(record.pid, signal.SIGTERM)
        if not pidfile.take(_SECONDS_TO_GO_DOWN):
            message = (
                f"digitflow up (process {record.pid if record else 'unknown'}) has not ended "
                f"within {_SECONDS_TO_GO_DOWN:g} s; its logs are in {pidfile.folder}"
            )
            raise ServiceError(message)
        console.print("digitflow up has ended, and everything that it had started")
        return
    if record is None:
        console.print("nothing to do: no digitflow up is running, and none has left anything")
        return
    prepare_environment(verbose=False)
    _clear_away(console, pidfile, record)


def deploy(folder: _Own = None, /, *, notify: _Notify = None) -> None:
    """Bring pool and deployments to the server that ``PREFECT_API_URL`` names.

    Raises
    ------
    ServiceError
        If no server is named, or it does not answer, or `prefect deploy` fails.
    """
    if notify:
        check_address(notify)
    project = find_project(folder)
    api_url = _named_server(
        "Name one, or bring everything up on this machine with: digitflow up"
    ).rstrip("/")
    if not answers(api_url):
        message = f"PREFECT_API_URL names the server {shown_url(api_url)}, which does not answer"
        raise ServiceError(message)
    environment = service_environment(api_url, project)
    os.environ.update(environment)
    prepare_environment(verbose=False)
    console = plain_console()
    with console.status("deploying"):
        deploy_all(project, environment, Pidfile().folder / "deploy.log")
        alerts = make_alerts(notify, POOL, project.nightly) if notify else []
        scheduled = _wait_for_schedule(project)
    _print_schedule(console, scheduled)
    _say_what_is_told(console, alerts)
    print_text(console, f"on {shown_url(api_url)}, from {project.folder}", "dim")


def monitor(
    *,
    pool: Annotated[
        tuple[str, ...],
        Parameter(show_default=" ".join, help="Work pool to watch; can be given several times."),
    ] = (POOL,),
    silence: Annotated[
        int,
        Parameter(
            validator=validators.Number(gte=35),
            help="Seconds without a heartbeat (one every 30 s) after which a run counts as dead.",
        ),
    ] = int(Timeouts.running),
) -> None:
    """Look after the runs of some work pools for as long as this process lives.

    A server that is away is waited for.

    Raises
    ------
    ServiceError
        If no server is named.
    """
    named = _named_server(
        "Name the one whose runs are to be looked after; digitflow up does it by itself"
    )
    prepare_environment(verbose=False)
    # Ended by systemd or `up` in the same way as by Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    say = partial(_print_with_time, plain_console())
    say(f"looking after the runs of {', '.join(pool)} on {shown_url(named)}")
    try:
        _look_for_ever(pool, Timeouts(running=silence), say)
    except KeyboardInterrupt:
        say("stopped")


def server() -> None:
    """Run `prefect server start` above an SQLite whose writers wait for each other."""
    for name, value in SERVER_SETTINGS.items():
        os.environ.setdefault(name, value)
    from digitflow.flows.server.server import serve  # what it imports takes a second

    serve()


def _run(
    console: Console,
    record: UpRecord,
    folder: Path,
    project: Project,
    environment: dict[str, str],
    workers: int,
    notify: str | None,
) -> None:
    endpoint = Endpoint(record.api_url, record.port)
    supervisor = Supervisor(endpoint, environment, record.mark, folder)
    with console.status("starting the Prefect server") as status:
        if record.port is not None:
            supervisor.start_server()
            import prefect  # noqa: F401 - a second of work, while the server starts

            supervisor.wait_for_server()
        status.update("deploying")
        deploying = {**environment, MARK: f"{record.mark} deploy"}
        deploy_all(project, deploying, folder / "deploy.log")
        alerts = make_alerts(notify, POOL, project.nightly) if notify else []
        status.update("starting workers")
        for number in range(1, workers + 1):
            supervisor.start_worker(number, project.folder)
        supervisor.start_monitor()
        scheduled = _wait_for_schedule(project)
    _show(console, record, project, scheduled, supervisor.logs)
    _say_what_is_told(console, alerts)

    say = partial(_print_with_time, console)
    while True:
        supervisor.watch(say)
        time.sleep(_SECONDS_BETWEEN_CHECKS)


def _show(
    console: Console,
    record: UpRecord,
    project: Project,
    scheduled: dict[str, str],
    logs: list[Path],
) -> None:
    console.print(f"digitflow is up: {record.ui_url}\n", style="bold")
    _print_schedule(console, scheduled)
    first = project.deployments[0]["name"]
    console.print(
        f"\nIn the UI: Deployments, {first}, Run. Or in another terminal:\n\n"
        f"  export PREFECT_API_URL={shown_url(record.api_url)}\n"
        f"  {_prefect()} {project.example}\n",
        soft_wrap=True,
    )
    warning = exposure(
        os.environ.get("PREFECT_SERVER_API_HOST", "127.0.0.1"),
        os.environ.get("PREFECT_SERVER_API_AUTH_STRING"),
    )
    if record.port is None:
        console.print("The server ran before, and is left alone.", style="dim")
    elif warning is not None:
        print_text(console, f"warning: {warning}", "yellow")
    for number, log in enumerate(logs):
        title = "Logs: " if number == 0 else "      "
        print_text(console, f"{title}{log}", "dim")
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


def _say_where(console: Console, pidfile: Pidfile) -> None:
    record = pidfile.load()
    if record is None:
        console.print("digitflow up is starting in another terminal")
        return
    print_text(
        console,
        f"digitflow is up already: {record.ui_url} (process {record.pid}). "
        "To take it down: digitflow down",
    )


def _clear_away(console: Console, pidfile: Pidfile, record: UpRecord) -> None:
    """End everything of an `up`, forget it, and say what became of its runs."""
    count = shut_down(record)
    pidfile.remove()
    console.print("down: everything that digitflow up had started has ended")
    if count:
        runs = "1 run goes on" if count == 1 else f"{count} runs go on"
        console.print(f"{runs} from the last epoch with the next digitflow up")


def _is_alive(record: UpRecord) -> bool:
    started = start_time(record.pid)
    return started is not None and abs(started - record.started) < _CLOCK_SKEW


def _named_server(otherwise: str) -> str:
    """Return the URL of the configured server; raise with what to do if there is none."""
    named = server_url()
    if named is None:
        message = (
            f"expected the URL of a Prefect server in PREFECT_API_URL, found none. {otherwise}"
        )
        raise ServiceError(message)
    return named


def _look_for_ever(pools: Sequence[str], timeouts: Timeouts, say: Callable[[str], None]) -> None:
    from prefect.client.orchestration import get_client

    away = False
    with get_client(sync_client=True) as client:
        monitor = Monitor(client, pools, timeouts, say)
        while True:
            try:
                monitor.check()
            except httpx.HTTPError as error:
                if not away:
                    said = redacted(str(error)) or type(error).__name__
                    say(f"the server does not answer: {said}; waiting")
                away = True
            else:
                if away:
                    say("the server answers again")
                away = False
            time.sleep(SECONDS_BETWEEN_CHECKS)


def _wait_for_schedule(project: Project) -> dict[str, str]:
    """Return each deployment's name and next run, once the server has scheduled all of them.

    It does so some seconds after they were deployed; after half a minute nobody waits longer.
    """
    deadline = time.monotonic() + _SECONDS_TO_SCHEDULE
    while True:
        scheduled = next_runs(project)
        if TO_BE_SCHEDULED not in scheduled.values() or time.monotonic() > deadline:
            return scheduled
        time.sleep(1.0)


def _print_schedule(console: Console, scheduled: dict[str, str]) -> None:
    shown = table(word("deployment"), word("next run"))
    for name, when in scheduled.items():
        shown.add_row(name, when)
    print_table(console, shown)


def _say_what_is_told(console: Console, alerts: Sequence[str]) -> None:
    if alerts:
        print_text(console, f"Somebody is told if {', '.join(alerts)}.", "dim")


def _print_with_time(console: Console, text: str) -> None:
    """Print a line of what lasts, after the time of day."""
    print_text(console, f"{time.strftime('%H:%M:%S')}  {text}")
