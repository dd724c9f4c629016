"""Calling stages: one call, whatever it means where it is made.

``power.submit(counted["numbers"], exponent=3)`` is a Prefect task inside a flow, is computed or
served at once in a script or a notebook, and is only looked up under `plan`. What it means is the
`Executor` of the present `Context`; the run's name, and what is to run again, come from there too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from digitflow.storage.errors import ObjectDamagedError, ObjectMissingError
from digitflow.storage.formats.artifacts import Artifact
from digitflow.storage.store import Store

if TYPE_CHECKING:
    from digitflow.tasks.engine.stage import Stage


class Recipe:
    """How a call's outputs are obtained once more, should they be damaged when they are needed.

    No dataclass: Prefect looks through dataclasses for futures, and this one leads to all that the
    call ever needed.

    Parameters
    ----------
    stage, label, inputs, parameters
        The call, as `Stage.run` takes it.
    recipes
        How its inputs are obtained once more, by their digests.
    """

    def __init__(
        self,
        stage: Stage,
        label: str,
        inputs: Inputs,
        parameters: Mapping[str, Any],
        recipes: Mapping[str, Recipe],
    ) -> None:
        self.stage = stage
        self.label = label
        self.inputs = inputs
        self.parameters = parameters
        self.recipes = recipes

    def follow(self, store: Store, run: str) -> StageResult:
        """Obtain the outputs: computed, unless somebody has healed them meanwhile."""
        return self.stage.run(
            store, self.label, self.inputs, self.parameters, run=run, recipes=self.recipes
        )


def read_or_heal(
    store: Store,
    artifact: Artifact,
    recipe: Recipe | None,
    run: str,
    say: Callable[[str], None] = lambda text: None,
    read: Callable[[Store, Artifact], Any] = Store.read,
) -> Any:
    """Open a stored value; one that is damaged or missing is obtained from its stage again, once.

    Parameters
    ----------
    store
        Where it lies.
    artifact
        The value.
    recipe
        How it is obtained again, where that is known.
    run
        Name of the run that needs it.
    say
        Told in a sentence what is damaged, and what is done about it.
    read
        How it is opened.

    Raises
    ------
    ObjectMissingError, ObjectDamagedError
        If it is damaged and cannot be obtained again.
    """
    try:
        return read(store, artifact)
    except (ObjectMissingError, ObjectDamagedError) as error:
        if recipe is None:
            raise
        say(f"{error}; {recipe.label} makes it again")
        made = recipe.follow(store, run)
        if artifact.sha256 not in {each.sha256 for each in made.outputs.values()}:
            message = (
                f"{error}; {recipe.label} ran again and made other bytes. Run once more: what "
                "follows from them is computed then"
            )
            raise type(error)(message) from error
        return read(store, artifact)


@dataclass(frozen=True)
class StageResult:
    """What a stage hands on: references, and how they were obtained.

    Attributes
    ----------
    stage, label
        Name of the stage, and of this call of it.
    key
        SHA-256 of the cache key.
    outputs
        References to the outputs' bytes, by name.
    cached
        Whether nothing was computed.
    reasons
        Why it was computed, where it was.
    seconds
        How long the call took.
    recipe
        How its outputs are obtained once more, where that is known.
    """

    stage: str
    label: str
    key: str
    outputs: Mapping[str, Artifact]
    cached: bool
    reasons: tuple[str, ...]
    seconds: float
    recipe: Recipe | None = field(default=None, compare=False, repr=False)

    def read(self, output: str) -> Any:
        """Return the value of an output from the store, its bytes verified; healed if need be.

        Raises
        ------
        KeyError
            If the stage has no such output.
        """
        if output not in self.outputs:
            raise KeyError(_no_such_output(self.stage, self.outputs, output))
        context = current()
        return read_or_heal(context.store, self.outputs[output], self.recipe, context.run)


@dataclass(frozen=True)
class Ref:
    """One output of an earlier stage, which may not have run yet.

    `source` is what the executor returned for it: a plan, a Prefect future, or a `StageResult`.
    Being a dataclass, Prefect finds the future inside and resolves it.
    """

    source: Any
    output: str


# What a call is given for an input: one reference, or several for a function that takes a tuple.
Refs = Mapping[str, Ref | tuple[Ref, ...]]
Inputs = Mapping[str, Artifact | tuple[Artifact, ...]]


def sources(refs: Refs) -> list[Any]:
    """Return what references refer to, in order."""
    each = (given if isinstance(given, tuple) else (given,) for given in refs.values())
    return [ref.source for given in each for ref in given]


def resolved(refs: Refs) -> dict[str, Artifact | tuple[Artifact, ...]]:
    """Return the artifacts behind references whose sources have run."""

    def artifact(ref: Ref) -> Artifact:
        found: Artifact = ref.source.outputs[ref.output]
        return found

    return {
        name: tuple(artifact(ref) for ref in given) if isinstance(given, tuple) else artifact(given)
        for name, given in refs.items()
    }


def recipes(refs: Refs) -> dict[str, Recipe]:
    """Return how the artifacts behind references are obtained once more, by their digests."""
    each = (given if isinstance(given, tuple) else (given,) for given in refs.values())
    return {
        ref.source.outputs[ref.output].sha256: ref.source.recipe
        for given in each
        for ref in given
        if ref.source.recipe is not None
    }


@dataclass(frozen=True)
class Call:
    """One call of a stage.

    Attributes
    ----------
    stage
        What is called.
    label
        Name of the call in its run, such as ``decode-test-images``.
    inputs
        References, by the names of the function's positional parameters.
    parameters
        Values, by the names of its keyword-only parameters.
    """

    stage: Stage
    label: str
    inputs: Refs
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Handle:
    """What a call returned: ``handle["model"]`` refers to its output `model`."""

    stage: Stage = field(repr=False)
    source: Any

    def __getitem__(self, output: str) -> Ref:
        if output not in self.stage.outputs:
            raise KeyError(_no_such_output(self.stage.name, self.stage.outputs, output))
        return Ref(self.source, output)

    def result(self) -> StageResult:
        """Wait for the call, and return what the stage hands on.

        Raises
        ------
        Exception
            Whatever the stage raised.
        digitflow.tasks.engine.plan.NotCachedError
            Under `plan`, if the call is not cached.
        """
        if isinstance(self.source, StageResult):
            return self.source
        result: StageResult = self.source.result()
        return result


class Executor(Protocol):
    """What calling a stage means."""

    def __call__(self, call: Call, context: Context) -> Any:
        """Return the source of the call's outputs: at best, a `StageResult`."""
        ...


def nothing(stage: str) -> bool:
    """Tell of no stage that it runs although it is cached."""
    return False


@dataclass(frozen=True)
class Context:
    """In what stages are called.

    Attributes
    ----------
    store
        Where outputs are looked up and kept.
    run
        Name of the run, for records.
    execute
        What calling a stage means.
    refreshes
        Tells by its name whether a stage runs although it is cached.
    called
        Handles of the calls that were made, in order.
    """

    store: Store
    run: str
    execute: Executor
    refreshes: Callable[[str], bool] = nothing
    called: list[Handle] = field(default_factory=list)

    def submit(self, call: Call) -> Handle:
        """Make a call."""
        handle = Handle(call.stage, self.execute(call, self))
        self.called.append(handle)
        return handle


_context: ContextVar[Context | None] = ContextVar("digitflow_context", default=None)


@contextmanager
def using(context: Context) -> Iterator[Context]:
    """Call stages in this context, in this thread, until the block ends."""
    token = _context.set(context)
    try:
        yield context
    finally:
        _context.reset(token)


def current() -> Context:
    """Return the context of calls that are made here and now.

    It is the one that `using` set; else, in a Prefect flow, one that makes each call a task of it;
    else one that computes at once, with the store that ``DIGITFLOW_STORE`` names.
    """
    context = _context.get()
    if context is not None:
        return context
    prefect = sys.modules.get("prefect.context")  # where it is not loaded, no flow runs
    if prefect is not None and prefect.FlowRunContext.get() is not None:
        from digitflow.tasks.engine.prefect_task import context_of_flow

        return context_of_flow()
    return Context(Store(), "script", compute)


def compute(call: Call, context: Context) -> StageResult:
    """Serve a call from the cache, or compute it, at once: the executor of scripts."""
    return call.stage.run(
        context.store,
        call.label,
        resolved(call.inputs),
        call.parameters,
        run=context.run,
        refresh=context.refreshes(call.stage.name),
        recipes=recipes(call.inputs),
    )


def _no_such_output(stage: str, outputs: Mapping[str, Any], found: str) -> str:
    return f"stage {stage} has the outputs {', '.join(outputs)}; found {found!r}"
