"""`digitflow rehearse`: faults that are played, and what the gate would have done."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from digitflow.flows.cli.arguments import Json, RehearseArguments
from digitflow.flows.cli.render import Terminal, plain_console
from digitflow.flows.cli.session import prefect
from digitflow.flows.rehearsal import (
    NIGHTS,
    Played,
    Rehearsal,
    champions_data,
    copy_champion,
    prepared_data,
)
from digitflow.flows.spec import RunOptions
from digitflow.storage.errors import UnknownNameError
from digitflow.storage.history.models import State, model_name
from digitflow.storage.history.registry import ModelStore
from digitflow.storage.store import Store
from digitflow.tasks.data.datasets.sources import FALLBACK_DATASET, find
from digitflow.tasks.engine.cancellation import INTERRUPTED, StoppedError
from digitflow.tasks.parameters import resolve

WRONGLY_PROMOTED = 3
_STYLES = {"right": "green", "odd": "yellow", "wrong": "red"}


def rehearse(arguments: RehearseArguments | None = None, *, json: Json = False) -> int:
    """Rehearse a fortnight of faults, and show it; return the exit code.

    Raises
    ------
    ParameterError, DatasetError, UnknownNameError
        If anything that was typed is not acceptable; before any work.
    RehearsalError
        If there is no champion, or nothing to make one from.
    """
    arguments = arguments or RehearseArguments()
    terminal = Terminal(plain_console(stderr=json))
    real = Store()
    state = State.after(real.models.ledger.read())
    real.models.check_certain(state)
    arguments, model = _settled(arguments, state)
    with _ending_as_by_ctrl_c() as mind, _alone() as folder:
        try:
            nights, about = _prepared(real, folder, arguments, model)
            terminal.say(about)
            terminal.say(
                f"{len(NIGHTS)} nights, {nights.trainings} trainings, in {folder}, which is "
                "removed afterwards",
                "dim",
            )
            played = []
            at_once = partial(shutil.rmtree, folder, ignore_errors=True)
            flow = "digitflow.flows.retrain:retrain"
            with prefect(flow, terminal, embedded=True, at_once=at_once) as function:
                from prefect.exceptions import TerminationSignal  # loaded by now

                retrain: Any = function
                try:
                    for each in nights.play(retrain.with_options(on_running=[mind])):
                        played.append(each)
                        _show(terminal, each)
                except TerminationSignal:  # SIGTERM while a run begins: Prefect takes it then
                    raise KeyboardInterrupt from None
        except (KeyboardInterrupt, StoppedError):
            terminal.warn("stopped; nothing of the rehearsal is kept")
            return INTERRUPTED
    wrong = [each for each in played if each.outcome == "wrong"]
    if json:
        plain_console().print_json(data=_document(model, played, wrong))
    else:
        _summarise(terminal, played, wrong)
    return WRONGLY_PROMOTED if wrong else 0


def _settled(arguments: RehearseArguments, state: State) -> tuple[RehearseArguments, str]:
    """Settle which model is meant, and find its champion."""
    champions = state.with_champions()
    if arguments.model is not None:
        model = ModelStore.named(arguments.model)
    elif arguments.dataset is not None:
        model = model_name(find(arguments.dataset).name)
    elif len(champions) > 1:
        message = f"several models have a champion: {', '.join(champions)}; name one: --model NAME"
        raise UnknownNameError(message)
    else:
        model = champions[0] if champions else FALLBACK_DATASET
    champion = state.champion(model)
    if champion is None and arguments.model is not None and arguments.dataset is None:
        message = (
            f"expected a model with a champion, of {', '.join(champions) or 'none yet'}; found "
            f"{model!r}. To begin with the first one: --dataset NAME"
        )
        raise UnknownNameError(message)
    return replace(arguments, champion=champion), model


@contextmanager
def _ending_as_by_ctrl_c() -> Iterator[Callable[..., None]]:
    """Do on SIGTERM and SIGHUP what is done on Ctrl-C; a signal that is ignored stays ignored.

    Yields a hook for a flow that has begun to run: Prefect takes SIGTERM for itself there, and
    would wait for the training under way.
    """
    numbers = [
        number
        for number in (signal.SIGTERM, signal.SIGHUP)
        if threading.current_thread() is threading.main_thread()  # signals are the main thread's
        and signal.getsignal(number) is signal.SIG_DFL
    ]

    def end(_signal: int, frame: FrameType | None) -> None:
        ctrl_c = signal.getsignal(signal.SIGINT)
        # A shell's job in the background ignores Ctrl-C, and has to end all the same.
        (ctrl_c if callable(ctrl_c) else signal.default_int_handler)(signal.SIGINT, frame)

    def mind(*_: object) -> None:
        for number in numbers:
            signal.signal(number, end)

    mind()
    try:
        yield mind
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def _alone() -> Iterator[Path]:
    """Yield a folder; what is done meanwhile has its store and its Prefect there, and no other."""
    before, room = dict(os.environ), tempfile.tempdir
    with tempfile.TemporaryDirectory(
        prefix="digitflow-rehearse-", ignore_cleanup_errors=True
    ) as name:
        folder = Path(name)
        for variable in [each for each in before if each.startswith("PREFECT_")]:
            del os.environ[variable]
        # What is temporary meanwhile, also of processes that are started, goes with the folder.
        tempfile.tempdir = os.environ["TMPDIR"] = name
        home = folder / "prefect"
        os.environ["DIGITFLOW_STORE"] = str(folder / "store")
        os.environ["PREFECT_HOME"] = str(home)
        # Said where no file of the user's can say otherwise.
        os.environ["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = (
            f"sqlite+aiosqlite:///{home / 'prefect.db'}"
        )
        try:
            yield folder
        finally:
            tempfile.tempdir = room
            os.environ.clear()
            os.environ.update(before)


def _prepared(
    real: Store, folder: Path, arguments: RehearseArguments, model: str
) -> tuple[Rehearsal, str]:
    """Copy what is needed into the folder; return the nights, and what they are about."""
    scratch, champion = Store(), arguments.champion
    preset, overrides = arguments.settings()
    parameters = resolve(preset, overrides)
    if champion is not None:
        copy_champion(real, scratch, champion, model)
    if champion is not None and arguments.dataset is None:
        title, class_names = champion.dataset, champion.class_names
        data = champions_data(scratch, champion)
    else:
        dataset = arguments.dataset or FALLBACK_DATASET
        spec = replace(arguments, dataset=dataset).spec()
        title, class_names = spec.dataset.title, spec.dataset.class_names
        data = prepared_data(real, scratch, spec)
    options = RunOptions(
        preset=preset,
        workers=arguments.workers,
        overrides=parameters.model_dump(mode="json", include=set(overrides)),
    )
    nights = Rehearsal(folder, model, title, class_names, data, options, arguments.gate())
    whom = (
        f"version {champion.version}, the champion of {model}"
        if champion is not None
        else "a first champion, trained in the first night"
    )
    sizes = f"{len(data['training_targets']):,} training and {len(data['test_targets']):,} test"
    return nights, f"Rehearsing with {whom}: {title}, preset {preset}, {sizes} images"


def _show(terminal: Terminal, night: Played) -> None:
    *others, last = night.ought
    ought = f"{', '.join(others)} or {last}" if others else last
    terminal.line(
        night.outcome,
        _STYLES[night.outcome],
        f"night {night.number}",
        [night.title, f"ought to be {ought}, was {night.verdict}", night.said],
        seconds=f"{night.seconds:.1f} s",
    )


def _summarise(terminal: Terminal, played: Sequence[Played], wrong: Sequence[Played]) -> None:
    count = sum(night.is_fault for night in played)
    faults = f"{count} fault{'' if count == 1 else 's'}"
    terminal.say("")
    if not wrong:
        terminal.say(f"None of {faults} changed the champion wrongly.", "green")
    else:
        terminal.warn(f"{len(wrong)} of {faults} changed the champion wrongly:", "red")
    for night in wrong:
        caught = ", or ".join(night.caught_by) or "none of the parameters"
        terminal.warn(f"  night {night.number}, {night.title}; caught by {caught}", "red")
    odd = [night for night in played if night.outcome == "odd"]
    for night in odd:
        terminal.warn(
            f"night {night.number}, {night.title}, was {night.verdict}: not as it ought to be, "
            "though no fault became the champion"
        )
    terminal.say("Nothing of it is kept: no model, no entry, no event.", "dim")


def _document(model: str, played: Sequence[Played], wrong: Sequence[Played]) -> dict[str, Any]:
    return {
        "model": model,
        "faults": sum(night.is_fault for night in played),
        "promoted_wrongly": len(wrong),
        "nights": [asdict(night) for night in played],
    }
