"""`@stage`: an ordinary function from values to values, made cacheable.

A stage's positional parameters are its inputs: values that earlier stages made, or tuples of
such values. Its keyword-only parameters are plain values that decide the result. Three of those are
special: `scratch` is given a folder that survives a killed attempt, `progress` a function to
report with, `say` one that tells people in a sentence what is going on. What `ignored` lists,
parameter or input, says how to work and not what comes out, so it is no part of the key. Called
directly, a stage is its function and nothing else.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from digitflow.storage.backends.locks import SECONDS_BETWEEN_SENTENCES
from digitflow.storage.cache import Lookup, Notes
from digitflow.storage.code.commit import COMMIT, commit_of
from digitflow.storage.code.digest import Closure
from digitflow.storage.code.memo import memo_in
from digitflow.storage.code.observed import observing, paused
from digitflow.storage.fields import OUTPUT_NAME, is_output_name
from digitflow.storage.formats.artifacts import FORMATS, Artifact
from digitflow.storage.keys import StageKey
from digitflow.storage.parameters import canonical
from digitflow.storage.records import STAGE_NAME, is_stage_name
from digitflow.storage.store import Store
from digitflow.tasks.engine import cancellation
from digitflow.tasks.engine.call import (
    Call,
    Handle,
    Inputs,
    Recipe,
    Ref,
    StageResult,
    current,
    read_or_heal,
)
from digitflow.tasks.engine.definition import Definition, claim
from digitflow.tasks.engine.events import (
    StageFailed,
    StageFinished,
    StageNoted,
    StageProgressed,
    StageStarted,
    StageWaiting,
    emit,
)
from digitflow.tasks.engine.stage_code import StageCode

_GIVEN = ("scratch", "progress", "say")


class Progress(Protocol):
    """How a stage reports: done, of how much, in what unit, and numbers to show beside it."""

    def __call__(
        self, done: float, total: float | None, unit: str = "", **numbers: Any
    ) -> None: ...


@dataclass(frozen=True)
class Retries:
    """When and how often a failed stage is tried again.

    Attributes
    ----------
    count
        Tries after the first.
    first_delay
        Seconds before the second try; each later delay doubles, with jitter.
    worthwhile
        Tells from the error whether another try can help.
    """

    count: int
    first_delay: float = 1.0
    worthwhile: Callable[[BaseException], bool] = lambda error: True


class _Waiting:
    """Says at once, and every minute, for whom a stage waits; to be called all the while."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._since: float | None = None
        self._next = 0.0

    def __call__(self, holder: str) -> None:
        cancellation.check()
        moment = time.monotonic()
        if self._since is None:
            self._since = self._next = moment
        if moment < self._next:
            return
        self._next += SECONDS_BETWEEN_SENTENCES
        minutes = int(moment - self._since) // 60
        so_far = f", for {minutes} min so far" if minutes else ""
        emit(StageWaiting(self._label, f"{holder or 'another run'} is computing it{so_far}"))


class Stage:
    """A function with declared outputs and a policy. Made by `stage`."""

    def __init__(
        self,
        function: Callable[..., Mapping[str, Any]],
        outputs: Mapping[str, str],
        *,
        ignored: tuple[str, ...] = (),
        pinned: Mapping[str, str] | None = None,
        retries: Retries | None = None,
        shows_progress: bool = False,
        tags: tuple[str, ...] = (),
    ) -> None:
        if not inspect.isfunction(function) or inspect.iscoroutinefunction(function):
            message = f"expected a function to make a stage of, found {function!r}"
            raise TypeError(message)
        self.function: Callable[..., Mapping[str, Any]] = function
        self.name = function.__name__
        self.outputs = dict(outputs)
        self.ignored = ignored
        self.pinned = dict(pinned or {})
        self.retries = retries
        self.shows_progress = shows_progress
        self.tags = tags
        self.__doc__ = function.__doc__
        self.__name__ = function.__name__
        self.__module__ = function.__module__
        self.__wrapped__ = function
        self.definition = Definition(function)
        self._signature = inspect.signature(function)
        kinds = {name: each.kind for name, each in self._signature.parameters.items()}
        self.inputs = tuple(
            name for name, kind in kinds.items() if kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        )
        self.parameters = tuple(
            name
            for name, kind in kinds.items()
            if kind is inspect.Parameter.KEYWORD_ONLY and name not in _GIVEN
        )
        self._given = tuple(name for name in _GIVEN if name in kinds)
        self._check_declaration()
        # The outputs of a stage whose outputs are pinned are what they are, whatever the code.
        needs_code = set(self.pinned) != set(self.outputs)
        self._code = StageCode(self.definition) if needs_code else None
        claim(self)

    def __reduce__(self) -> str:
        # By its name in its module, not by value: another process runs the code that it has.
        return self.__name__

    def __call__(self, *args: Any, **kwargs: Any) -> Mapping[str, Any]:
        """Call the plain function."""
        return self.function(*args, **kwargs)

    def submit(self, *inputs: Ref | tuple[Ref, ...], **given: Any) -> Handle:
        """Call the stage as the present context does: see `digitflow.tasks.engine.call`.

        Parameters
        ----------
        *inputs
            Outputs of earlier calls, such as ``counted["numbers"]``, in the order of the function's
            positional parameters; a tuple of them for an input that takes several.
        **given
            Further inputs, and parameters, by name.

        Returns
        -------
        Handle
            ``handle["powers"]`` refers to an output, ``handle.result()`` waits for the call.

        Raises
        ------
        TypeError
            If an input or a parameter is missing or unknown, or an input is no reference.
        """
        return Caller(self, self.name.replace("_", "-")).submit(*inputs, **given)

    def with_label(self, label: str) -> Caller:
        """Return the stage under the name of one call, such as ``decode-test-images``."""
        return Caller(self, label)

    def call(self, label: str, inputs: tuple[Any, ...], given: Mapping[str, Any]) -> Call:
        """Return a call of the stage, checked. Parameters as for `submit`."""
        if len(inputs) > len(self.inputs):
            message = (
                f"stage {self.name} takes {len(self.inputs)} inputs ({', '.join(self.inputs)}); "
                f"found {len(inputs)}"
            )
            raise TypeError(message)
        named = dict(zip(self.inputs, inputs, strict=False))
        twice = [name for name in named if name in given]
        refs = named | {name: each for name, each in given.items() if name in self.inputs}
        parameters = {name: each for name, each in given.items() if name not in self.inputs}
        self._bind(refs, parameters, twice)
        for name, each in refs.items():
            several = each if isinstance(each, tuple) else (each,)
            if not all(isinstance(ref, Ref) for ref in several):
                message = (
                    f"stage {self.name}, input {name}: expected an output of an earlier call, such "
                    f'as handle["output"], found {type(each).__name__}'
                )
                raise TypeError(message)
        return Call(self, label, refs, parameters)

    def __repr__(self) -> str:
        return f"<stage {self.name}>"

    @property
    def code(self) -> dict[str, Mapping[str, str]]:
        """Digests of the definitions that the stage is made of.

        A stage whose outputs are pinned by their digests needs none: no code can change them.
        """
        return {} if self._code is None else dict(self._code.closure().code)

    def digest_code(self, store: Store) -> None:
        """Digest the code now, so that threads that run stages need not parse it."""
        memo = memo_in(store.root)
        if self._code is not None:
            self._code.closure(memo)
        memo.save()

    def key(
        self, inputs: Inputs, parameters: Mapping[str, Any], closure: Closure | None = None
    ) -> StageKey:
        """Return the key of a call.

        Parameters
        ----------
        inputs, parameters
            As for `run`.
        closure
            What the code reaches, where the caller has looked already.

        Raises
        ------
        TypeError
            If an input or a parameter is missing or unknown, or a parameter's value is none that
            can be told from others.
        """
        bound = self._bind(inputs, parameters)
        counted = {name: bound[name] for name in self.parameters if name not in self.ignored}
        code: Mapping[str, Mapping[str, str]] = {}
        libraries: dict[str, str] = {}
        processor = ""
        if self._code is not None:
            closure = closure or self._code.closure()
            code = self._code.of_key(closure)
            libraries = self._code.libraries(closure)
            processor = self._code.processor(closure)
        return StageKey(
            self.name,
            code,
            {
                name: canonical(
                    value,
                    f"stage {self.name}, parameter {name}",
                    lambda kind: closure is None or self._reaches(kind, closure),
                )
                for name, value in counted.items()
            },
            _digests({name: inputs[name] for name in self.inputs if name not in self.ignored}),
            str(self.definition),
            libraries,
            processor,
        )

    def look_up(
        self,
        store: Store,
        label: str,
        inputs: Inputs,
        parameters: Mapping[str, Any],
        *,
        refresh: bool = False,
    ) -> Lookup:
        """Ask the cache for a call's outputs without computing anything."""
        closure = None if self._code is None else self._code.closure(memo_in(store.root))
        key = self.key(inputs, parameters, closure)
        return store.cache.look_up(
            key,
            label,
            refresh=refresh,
            pinned=self._pins(inputs, parameters),
            formats=self.outputs,
            changes=None if self._code is None else self._code.changes,
        )

    def run(
        self,
        store: Store,
        label: str,
        inputs: Inputs,
        parameters: Mapping[str, Any],
        *,
        run: str,
        refresh: bool = False,
        tries_left: int = 0,
        progress: Progress | None = None,
        recipes: Mapping[str, Recipe] | None = None,
    ) -> StageResult:
        """Serve a call from the cache, or compute it.

        Parameters
        ----------
        store
            Where outputs are looked up and kept.
        label
            Name of this call among the calls of the run, such as ``decode-test-images``.
        inputs
            Artifacts by the names of the function's positional parameters.
        parameters
            Values by the names of its keyword-only parameters: see `storage.parameters`.
        run
            Name of the run, for the record.
        refresh
            Compute even if the cache has the outputs.
        tries_left
            How often the caller would try again; only said in the event of a failure.
        progress
            Called with what the stage reports, beside the events.
        recipes
            How inputs that prove damaged when they are opened are obtained again, by digest.
        """
        started = time.perf_counter()
        known = recipes or {}

        def report(done: float, total: float | None, unit: str = "", **numbers: Any) -> None:
            with paused():  # what shows it reads for itself
                cancellation.check()
                emit(StageProgressed(label, done, total, unit, numbers))
                if progress is not None:
                    progress(done, total, unit, **numbers)

        def note(text: str) -> None:
            with paused():
                cancellation.check()
                emit(StageNoted(label, text))

        def read(given: Artifact | tuple[Artifact, ...]) -> Any:
            if isinstance(given, tuple):
                return tuple(read(artifact) for artifact in given)
            return read_or_heal(store, given, known.get(given.sha256), run, note)

        memo = memo_in(store.root)

        notes = Notes()

        def compute(scratch: Path) -> Mapping[str, Any]:
            nonlocal notes
            from digitflow.tasks.nn.blas import (  # loads NumPy, which planning does without
                blas_in_use,
                blas_threads,
            )

            extra = {"scratch": scratch, "progress": report, "say": note}
            values: dict[str, Any] = {name: read(given) for name, given in inputs.items()}
            values = {**values, **parameters, **{name: extra[name] for name in self._given}}
            # The number of BLAS threads changes bytes, and is no part of the key.
            with blas_threads(1):
                if self._code is None or closure is None:
                    return self.function(**values)
                with observing(self._code.observation(store.root)) as observation:
                    outputs = self.function(**values)
                made_with = {**closure.libraries, "BLAS": blas_in_use()}
            self._code.check(closure, label, memo, observation.changed())
            self._code.add_loaded(observation, self._code.closure(memo))
            commit = commit_of(Path(self.definition.function.__code__.co_filename))
            notes = Notes(observation.found(), made_with | ({COMMIT: commit} if commit else {}))
            return outputs

        try:
            cancellation.check()
            closure = None if self._code is None else self._code.closure(memo)
            outcome = store.cache.obtain(
                self.key(inputs, parameters, closure),
                label,
                compute,
                self.outputs,
                run=run,
                refresh=refresh,
                pinned=self._pins(inputs, parameters),
                on_miss=lambda reasons: emit(StageStarted(label, reasons)),
                on_wait=_Waiting(label),
                changes=None if self._code is None else self._code.changes,
                notes=lambda: notes,
            )
        except BaseException as error:
            worthwhile = self.retries is not None and self.retries.worthwhile(error)
            emit(StageFailed(label, error, tries_left if worthwhile else 0))
            raise
        memo.save()
        seconds = time.perf_counter() - started
        emit(StageFinished(label, outcome.cached, seconds, outcome.reasons))
        return StageResult(
            self.name,
            label,
            outcome.record.key,
            outcome.record.outputs,
            outcome.cached,
            outcome.reasons,
            round(seconds, 3),
            Recipe(self, label, inputs, parameters, known),
        )

    def _reaches(self, kind: type, closure: Closure) -> bool:
        """Tell whether the code of a class is part of the key, because the stage names it."""
        module = kind.__module__
        if module == "__main__":
            module = str(self.definition).partition(":")[0]
        reached = closure.reached.get(module)
        name = kind.__qualname__.partition(".")[0]
        return reached is not None and any(unit.label == name for unit in reached.units)

    def _pins(self, inputs: Inputs, parameters: Mapping[str, Any]) -> dict[str, str]:
        bound = self._bind(inputs, parameters)
        return {output: bound[name] for output, name in self.pinned.items()}

    def _bind(
        self, inputs: Mapping[str, Any], parameters: Mapping[str, Any], twice: Sequence[str] = ()
    ) -> dict[str, Any]:
        given = {name: None for name in self._given}
        try:
            if twice:
                message = f"multiple values for {', '.join(twice)}"
                raise TypeError(message)
            bound = self._signature.bind(**inputs, **parameters, **given)
            if not set(self.inputs) - set(self.ignored) <= set(inputs) <= set(self.inputs):
                message = f"found the inputs ({', '.join(inputs)})"
                raise TypeError(message)
        except TypeError as error:
            message = (
                f"stage {self.name} takes the inputs ({', '.join(self.inputs)}) and the "
                f"parameters ({', '.join(self.parameters)}): {error}"
            )
            raise TypeError(message) from None
        bound.apply_defaults()
        return bound.arguments

    def _check_declaration(self) -> None:
        problem = self._problem()
        if problem is not None:
            message = f"stage {self.name}: {problem}"
            raise TypeError(message)

    def _problem(self) -> str | None:
        """Say what is wrong with the declaration: what the key would not notice, above all."""
        if not is_stage_name(self.name):
            return f"expected a name like {STAGE_NAME}, of a function defined with `def`"
        for name, each in self._signature.parameters.items():
            if name not in (*self.inputs, *self.parameters, *self._given):
                return f"{each} is neither an input nor a keyword-only parameter"
            if name in _GIVEN and name in self.inputs:
                return f"{name} is given by name; put it behind the * of the signature"
            if name in self.inputs and name not in self.ignored and each.default is not each.empty:
                return f"the input {name} has a default; put parameters behind the *"
            if name in self.inputs and name in self.ignored and each.default is not None:
                return f"the ignored input {name} may be missing; give it the default None"
        problem = self.definition.problem()
        if problem is not None:
            return problem
        unknown = ({*self.ignored} - {*self.inputs} | {*self.pinned.values()}) - {*self.parameters}
        if unknown:
            return f"{', '.join(sorted(unknown))} is no parameter of it"
        if not self.outputs:
            return "it declares no outputs, so there is nothing to cache"
        for output, format_name in self.outputs.items():
            if not is_output_name(output):
                return f"output {output!r}: expected a name like {OUTPUT_NAME}"
            if format_name not in FORMATS:
                return (
                    f"output {output} has the format {format_name!r}; "
                    f"expected one of {', '.join(FORMATS)}"
                )
        if self.pinned and set(self.outputs.items()) != {(name, "file") for name in self.pinned}:
            return "all of its outputs or none can be pinned, and only files"
        if {*self.pinned.values()} & {*self.ignored}:
            return "what promises a digest cannot be ignored"
        return self.definition.missing()


@dataclass(frozen=True)
class Caller:
    """A stage under the name of one call."""

    stage: Stage
    label: str

    def submit(self, *inputs: Ref | tuple[Ref, ...], **given: Any) -> Handle:
        """Call the stage: see `Stage.submit`."""
        return current().submit(self.stage.call(self.label, inputs, given))


def _digests(inputs: Inputs) -> dict[str, str]:
    """Return the digest of each artifact by the name of its input, numbered in a tuple."""
    digests: dict[str, str] = {}
    for name, given in inputs.items():
        if isinstance(given, tuple):
            digests |= {f"{name}[{place}]": each.sha256 for place, each in enumerate(given)}
        else:
            digests[name] = given.sha256
    return digests


def stage(
    outputs: Mapping[str, str],
    *,
    ignored: tuple[str, ...] = (),
    pinned: Mapping[str, str] | None = None,
    retries: Retries | None = None,
    shows_progress: bool = False,
    tags: tuple[str, ...] = (),
) -> Callable[[Callable[..., Mapping[str, Any]]], Stage]:
    """Make a function a stage.

    Parameters
    ----------
    outputs
        Name → format of each value that the function returns in a mapping. The formats are
        those of `storage.formats.artifacts.FORMATS`.
    ignored
        Parameters that do not change the result, such as a list of mirrors. An input among them,
        such as a checkpoint to go on from, may be missing and is None then.
    pinned
        Output → parameter that promises its SHA-256. Such an output is taken from the store
        if it is there, whatever made it.
    retries
        When to try again; by default never.
    shows_progress
        Keep a progress artifact in the Prefect UI.
    tags
        Prefect tags of the task.
    """

    def decorate(function: Callable[..., Mapping[str, Any]]) -> Stage:
        return Stage(
            function,
            outputs,
            ignored=ignored,
            pinned=pinned,
            retries=retries,
            shows_progress=shows_progress,
            tags=tags,
        )

    return decorate
