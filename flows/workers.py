"""Trainings on several processes: a local Dask cluster, or one that is there already.

One training is one Prefect task on Prefect's Dask task runner. What comes in and goes out are
references; the bytes lie in the store, which every worker must see.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from importlib.metadata import version
from typing import Any, NoReturn

import dask.system
from distributed import LocalCluster
from prefect.exceptions import CancelledRun
from prefect.futures import PrefectFuture
from prefect_dask.task_runners import DaskTaskRunner, PrefectDaskFuture

from digitflow.flows.server.endpoint import bypass_proxies
from digitflow.flows.server.prefect_setup import flush_to_server
from digitflow.storage.backends.within import NoAnswerError, within
from digitflow.storage.digests import digest_json, short
from digitflow.storage.store import Store
from digitflow.tasks.engine import cancellation, relay
from digitflow.tasks.engine.call import Call, Context, Executor, Ref, StageResult, resolved
from digitflow.tasks.engine.cancellation import StoppedError
from digitflow.tasks.engine.events import StageFailed, StageFinished, StageNoted, emit
from digitflow.tasks.engine.prefect_task import submit
from digitflow.tasks.engine.relay import Relay
from digitflow.tasks.stages.train import train

_SECONDS_TO_CONNECT = 20
_SECONDS_BETWEEN_LOOKS = 0.2
# For a question to every worker; the first one imports NumPy and Prefect there.
_SECONDS_TO_ANSWER = 120.0
# So long trainings wait for a worker where none is left; a nanny or a person may start one.
_SECONDS_WITHOUT_WORKERS = 120.0
_SECONDS_BETWEEN_COUNTS = 10.0

_log = logging.getLogger(__name__)

OnDone = Callable[[str, StageResult | BaseException], None]


class WorkersError(Exception):
    """The workers cannot be used."""


class Workers:
    """A pool of processes that train, for the time of a flow run.

    What is cached is served here. A cluster of this machine is started for the first stage that
    is not, so a run with nothing to train starts none.

    Parameters
    ----------
    cache
        The store.
    run
        Name of the flow run.
    at_most
        So many trainings there are to be done.
    count
        Processes of a cluster of this machine; by default one for each core.
    scheduler
        Address of a scheduler that is there already, such as ``tcp://10.0.0.1:8786``.

    Attributes
    ----------
    count
        Workers that there are.

    Raises
    ------
    WorkersError
        On entering, if there is no such scheduler, it has no workers, or they see another store
        or run other code than this process.
    """

    def __init__(
        self,
        cache: Store,
        run: str,
        *,
        at_most: int,
        count: int | None = None,
        scheduler: str | None = None,
    ) -> None:
        self._cache, self._run, self._scheduler = cache, run, scheduler
        self.count = count or max(1, min(at_most, dask.system.CPU_COUNT))
        self._stack = ExitStack()
        self._runner: DaskTaskRunner | None = None
        self._pending: dict[PrefectDaskFuture[Any], str] = {}
        self._served: list[tuple[str, PrefectFuture[Any]]] = []
        self._done: queue.SimpleQueue[PrefectDaskFuture[Any]] = queue.SimpleQueue()
        self._finished: set[str] = set()
        self._next_count = 0.0
        self._alone_since: float | None = None

    def describe(self) -> dict[str, Any]:
        """Return what the record of a run says of them."""
        place = self._scheduler or "of this machine"
        return {"workers": self.count, "scheduler": place}

    def __enter__(self) -> Workers:
        if self._scheduler is not None:
            self._start()
        return self

    def __exit__(self, *exception: object) -> None:
        with self._stack:
            self.wait(stop=True)

    def executor(self, *stages: str) -> Executor:
        """Return an executor that sends these stages to the workers, and keeps the others here."""

        def execute(call: Call, context: Context) -> Any:
            return (self.submit if call.stage.name in stages else submit)(call, context)

        return execute

    def submit(self, call: Call, context: Context) -> PrefectFuture[Any]:
        """Submit a call: the executor of what trains. What its inputs refer to is waited for.

        Raises
        ------
        StoppedError
            If a stop was asked for.
        """
        call = replace(call, inputs={name: _settled(given) for name, given in call.inputs.items()})
        cancellation.check()
        place: dict[str, Any] = {}
        found = call.stage.look_up(
            self._cache,
            call.label,
            resolved(call.inputs),
            call.parameters,
            refresh=context.refreshes(call.stage.name),
        )
        if found.record is None:
            place = {"runner": self._start(), "relay": Relay(self._run, call.label)}
        future = submit(call, context, **place)
        if isinstance(future, PrefectDaskFuture):
            self._pending[future] = call.label
            future.wrapped_future.add_done_callback(  # type: ignore[no-untyped-call]
                lambda _: self._done.put(future)
            )
        else:
            self._served.append((call.label, future))
        return future

    def wait(self, on_done: OnDone | None = None, *, stop: bool = False) -> None:
        """Wait until everything that was submitted is done, and tell of each as it is.

        If a stop is asked for meanwhile, whatever is at work ends at its next report of progress,
        and what waits does not begin.

        Parameters
        ----------
        on_done
            Called with the label and the result, or with what was raised instead of one.
        stop
            As if a stop were asked for.

        Raises
        ------
        WorkersError
            If there have been no workers for minutes, or one of them does not answer.
        """
        while self._served:
            label, future = self._served.pop(0)
            outcome = _outcome(future)
            if on_done is not None:
                on_done(label, outcome)
        asked = False
        while self._pending:
            if (stop or cancellation.requested()) and not asked:
                asked = True
                self._everywhere(relay.stop, self._run)
            try:
                self._tell(self._done.get(timeout=_SECONDS_BETWEEN_LOOKS), on_done)
            except queue.Empty:
                self._look_for_workers()

    def _tell(self, future: PrefectDaskFuture[Any], on_done: OnDone | None) -> None:
        label = self._pending.pop(future)
        self._finished.add(label)
        outcome = _outcome(future)
        if isinstance(outcome, StageResult):
            emit(StageFinished(label, outcome.cached, outcome.seconds, outcome.reasons))
        else:
            emit(StageFailed(label, outcome, 0))
        if on_done is not None:
            on_done(label, outcome)

    def _look_for_workers(self) -> None:
        """Give up once there have been no workers for minutes: nobody would ever train then."""
        now = time.monotonic()
        if now < self._next_count:
            return
        self._next_count = now + _SECONDS_BETWEEN_COUNTS
        found = self._ask(lambda: self._client.scheduler_info()["workers"])
        if found:
            self._alone_since = None
            return
        place = f"scheduler {self._scheduler}" if self._scheduler else "the cluster of this machine"
        if self._alone_since is None:
            self._alone_since = now
            label = next(iter(self._pending.values()))
            emit(StageNoted(label, f"{place} has no workers any more; waiting for one"))
        elif now - self._alone_since >= _SECONDS_WITHOUT_WORKERS:
            start = f" Start one with: dask worker {self._scheduler} --nthreads 1"
            message = (
                f"{place}: expected workers, found none for {_SECONDS_WITHOUT_WORKERS:g} s; "
                f"{len(self._pending)} trainings wait, finished ones are cached."
                f"{start if self._scheduler else ' Run again'}"
            )
            self._give_up(message)

    def _everywhere(self, function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
        """Call a function on every worker; return what each returns, by its address."""
        found: dict[str, Any] = self._ask(lambda: self._client.run(function, *arguments))
        return found

    def _ask(self, question: Callable[[], Any]) -> Any:
        """Ask scheduler or workers, none of which has a time-out of its own."""
        try:
            return within(_SECONDS_TO_ANSWER, question)
        except NoAnswerError as error:
            place = self._scheduler or "the cluster of this machine"
            message = f"{place}: a worker, or the scheduler: {error}. See their logs"
            self._give_up(message, error)

    def _give_up(self, message: str, cause: Exception | None = None) -> NoReturn:
        """Wait for nothing any more. What trains somewhere ends with its worker, or is cached."""
        self._pending.clear()
        raise WorkersError(message) from cause

    def _show(self, event: tuple[float, Mapping[str, Any]]) -> None:
        # In a thread of the client: the news of a stage may come after its result.
        news = relay.event_of(event[1])
        if news.label not in self._finished:
            emit(news)

    def _start(self) -> DaskTaskRunner:
        """Start or connect to the cluster, once."""
        if self._runner is not None:
            return self._runner
        # Distributed logs to the terminal what it has told us already by exceptions.
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        runner = self._local() if self._scheduler is None else self._remote(self._scheduler)
        self._stack.enter_context(runner)
        try:
            self._client = runner.client
        except (OSError, TimeoutError) as error:
            message = (
                f"scheduler {self._scheduler}: expected a Dask scheduler there, found none within "
                f"{_SECONDS_TO_CONNECT} s. Start one with: dask scheduler"
            )
            raise WorkersError(message) from error
        self._client.subscribe_topic(self._run, self._show)  # type: ignore[no-untyped-call]
        self._stack.callback(self._client.unsubscribe_topic, self._run)
        if self._scheduler is None:
            self._everywhere(_ignore_interrupts)
        else:
            self._check(self._scheduler)
            # They were not started by us, with our environment.
            self._everywhere(bypass_proxies)
        self._stack.callback(self._flush)
        self._runner = runner
        return runner

    def _flush(self) -> None:
        """Have the workers send states of tasks that they hold back, and would take with them."""
        try:
            self._everywhere(_flush)
        except (WorkersError, OSError, TimeoutError) as error:  # what matters is in the store
            _log.warning("the last states of tasks may be missing in Prefect: %s", error)

    def _local(self) -> DaskTaskRunner:
        # Dask's pages show logs and call stacks to every user of this machine, and ask for no key.
        pages = ("distributed.scheduler.http.routes", "distributed.worker.http.routes")
        self._stack.enter_context(dask.config.set({name: [] for name in pages}))
        return DaskTaskRunner(
            cluster_class=LocalCluster,
            cluster_kwargs={
                "n_workers": self.count,
                "threads_per_worker": 1,
                # Whoever can connect can run code: nobody but this machine can, and of its users
                # none but the one who has the key that is drawn here.
                "host": "127.0.0.1",
                "protocol": "tls://",
                "security": True,
                "dashboard_address": "127.0.0.1:0",
                "worker_dashboard_address": "127.0.0.1:0",
                "scheduler_kwargs": {"dashboard": False},
                # Memory maps would count, and what they hold can be given back at any time.
                "memory_limit": None,
                # Seconds that a worker may take to start.
                "death_timeout": _SECONDS_TO_ANSWER,
                "silence_logs": logging.CRITICAL,
            },
        )

    def _remote(self, scheduler: str) -> DaskTaskRunner:
        return DaskTaskRunner(address=scheduler, client_kwargs={"timeout": _SECONDS_TO_CONNECT})

    def _check(self, scheduler: str) -> None:
        """Compare the workers of a cluster that is there already with this process."""
        try:
            found = self._everywhere(describe_process)
        except ImportError as error:
            message = (
                f"workers at {scheduler}: expected digitflow to be installed there, found "
                f"{error}. Install it, or start them in its folder"
            )
            raise WorkersError(message) from error
        if not found:
            message = (
                f"scheduler {scheduler}: expected workers, found none. "
                f"Start one with: dask worker {scheduler} --nthreads 1"
            )
            raise WorkersError(message)
        self.count = len(found)
        expected = describe_process()
        for address, theirs in found.items():
            for what, value in expected.items():
                if theirs[what] != value:
                    message = (
                        f"worker {address}: expected the {what} {value} as here, found "
                        f"{theirs[what]}. {_REMEDIES[what]}"
                    )
                    raise WorkersError(message)


_REMEDIES = {
    "store": "Start it with DIGITFLOW_STORE set as here, to a place that both can see",
    "code": "Start it again on this version of digitflow",
    "NumPy version": "Results would differ; install the pinned packages there",
}


def describe_process() -> dict[str, str]:
    """Return what must be the same in every process that trains for a run."""
    cache = Store()
    return {
        "store": str(cache.root) if cache.shared is None else str(cache.shared.remote),
        "code": short(digest_json(train.code)),
        "NumPy version": version("numpy"),
    }


def _ignore_interrupts() -> None:
    """Leave Ctrl-C to the process of the flow: a terminal sends it to all of them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


async def _flush() -> None:
    """Send what Prefect holds back in a worker: not in its event loop, where nothing waits."""
    await asyncio.to_thread(flush_to_server)


def _outcome(future: PrefectFuture[Any]) -> StageResult | BaseException:
    try:
        result: StageResult = future.result()
    except (CancelledRun, StoppedError):
        return StoppedError("stopped on request")
    except Exception as error:  # noqa: BLE001 (handed on)
        return error
    return result


def _settled(given: Ref | tuple[Ref, ...]) -> Ref | tuple[Ref, ...]:
    if isinstance(given, tuple):
        return tuple(Ref(_result(ref.source), ref.output) for ref in given)
    return Ref(_result(given.source), given.output)


def _result(source: Any) -> Any:
    return source.result() if isinstance(source, PrefectFuture) else source
