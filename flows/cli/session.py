"""A flow run that a person started in a terminal: store, dataset, server, display, Ctrl-C."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pkgutil import resolve_name
from typing import Any

from digitflow.flows.cli.render import Terminal
from digitflow.flows.server.embedded import EmbeddedServer
from digitflow.flows.server.endpoint import server_url
from digitflow.flows.server.prefect_setup import (
    ask_for_a_password,
    flush_to_server,
    prepare_environment,
    run_settings,
    without_collection,
)
from digitflow.flows.spec import RunSpec, handing_on
from digitflow.storage.store import Store
from digitflow.tasks.data.datasets.sources import FALLBACK_DATASET
from digitflow.tasks.engine import cancellation
from digitflow.tasks.engine.cancellation import StoppedError
from digitflow.tasks.reporting.results import check_results_folder


def settle(spec: RunSpec, terminal: Terminal, *, dataset_named: bool) -> tuple[Store, RunSpec]:
    """Open the store, and settle which dataset is taken.

    Parameters
    ----------
    spec
        What was asked for.
    terminal
        Where to say what is taken instead.
    dataset_named
        Whether the user named the dataset. One that was named is never replaced by another.

    Raises
    ------
    ResultsFolderError
        If the folder for the results holds something else.
    """
    if spec.options.output is not None:  # where the run's name decides, nothing is there yet
        check_results_folder(spec.results_folder("unnamed"))
    cache = Store()
    cache.connect()
    if cache.shared is not None:
        terminal.say(f"store {cache.shared.remote}", "dim")
    return cache, spec if dataset_named else _available(cache, spec, terminal)


def run_flow(
    flow: str, spec: RunSpec, terminal: Terminal, *, verbose: bool, **parameters: Any
) -> Any:
    """Run a flow and show it; return what it returns.

    Parameters
    ----------
    flow
        The flow, as ``module:name``; importing it imports Prefect.
    spec
        What it is to do.
    terminal
        Where to show it.
    verbose
        Show Prefect's own log as well.
    **parameters
        What the flow takes beside the options of the spec.

    Raises
    ------
    StoppedError
        If Ctrl-C stopped it.
    """
    with (
        prefect(flow, terminal, embedded=server_url() is None, verbose=verbose) as function,
        terminal.showing(),
        handing_on(spec),
    ):
        return function(**spec.options.flow_parameters(), **parameters)


@contextmanager
def prefect(
    flow: str | Callable[[], Callable[..., Any]],
    terminal: Terminal,
    *,
    embedded: bool,
    verbose: bool = False,
    at_once: Callable[[], object] = lambda: None,
) -> Iterator[Callable[..., Any]]:
    """Yield a flow's function, to be called in the context: with a server, and minding Ctrl-C.

    Parameters
    ----------
    flow
        The flow, as for `run_flow`, or what imports it and returns it.
    terminal, verbose
        As for `run_flow`.
    embedded
        Whether the server is one of our own.
    at_once
        What is still done when a second Ctrl-C ends the process.

    Raises
    ------
    StoppedError
        If the flow was stopped.
    """
    if embedded:
        terminal.say(
            "starting Prefect (PREFECT_API_URL names no server, so one is embedded)", "dim"
        )
    prepare_environment(verbose=verbose)
    if embedded:
        ask_for_a_password()
    with ExitStack() as stack:
        server = None
        if embedded:
            say = partial(terminal.say, style="yellow")
            server = stack.enter_context(
                EmbeddedServer(verbose=verbose, say=say, on_loss=cancellation.request_stop)
            )
        # A second of imports, while the server starts.
        with without_collection():
            from prefect.exceptions import CancelledRun

            function = resolve_name(flow) if isinstance(flow, str) else flow()

        if server is not None:
            server.wait()
        stack.enter_context(run_settings(server.url if server is not None else None))
        stack.callback(flush_to_server)
        stack.enter_context(_stopping_on_interrupt(terminal, at_once))
        try:
            yield function
        except Exception as error:
            if server is not None:
                server.check()
            if isinstance(error, CancelledRun):
                raise StoppedError(str(error)) from error
            raise


def _available(cache: Store, spec: RunSpec, terminal: Terminal) -> RunSpec:
    """Take the default dataset if it is in the store or can be had, and the sample if not."""
    from digitflow.tasks.data.download.source_check import NoMirrorReachable, reachable

    dataset = spec.dataset
    missing = [file for file in dataset.files if not cache.objects.holds(file.sha256)]
    if not missing:
        return spec
    try:
        reachable(missing, spec.mirrors)
    except NoMirrorReachable as error:
        terminal.warn(f"{dataset.title} cannot be downloaded: no mirror can be reached")
        terminal.warn(str(error))
        terminal.warn(
            f"Going on with the built-in dataset {FALLBACK_DATASET!r}: digits that this project "
            "draws itself."
        )
        return replace(spec.options, dataset=FALLBACK_DATASET).spec()
    return spec


@contextmanager
def _stopping_on_interrupt(terminal: Terminal, at_once: Callable[[], object]) -> Iterator[None]:
    """Let Ctrl-C stop the stages in good order, and a second one stop everything at once."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return

    def stop(_signal: int, _frame: object) -> None:
        cancellation.request_stop()
        terminal.say("stopping in good order; press Ctrl-C again to stop at once", "yellow")
        signal.signal(signal.SIGINT, stop_at_once)

    def stop_at_once(_signal: int, _frame: object) -> None:
        at_once()
        # Threads cannot be interrupted. Dying is safe: nothing in the store is ever half written.
        os._exit(cancellation.INTERRUPTED)

    cancellation.clear()
    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
