"""What several commands take on the command line, and how it becomes the options of a run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter, validators

from digitflow.flows.selection import StageName
from digitflow.flows.spec import GATE, MEANINGS, RunOptions, RunSpec
from digitflow.storage.history.models import ModelVersion
from digitflow.tasks.data.datasets.places import anchored
from digitflow.tasks.data.datasets.sources import (
    DATASETS,
    DEFAULT_DATASET,
    FALLBACK_DATASET,
    added,
    is_path,
)
from digitflow.tasks.gate.approval import When
from digitflow.tasks.parameters import (
    DEFAULT_PRESET,
    PRESETS,
    ParameterError,
    parse_assignments,
    read_preset,
)
from digitflow.tasks.sweeps.file import read_sweep
from digitflow.tasks.sweeps.halving import EarlyStop
from digitflow.tasks.sweeps.ranking import METRICS, Metric

Json = Annotated[bool, Parameter(name="--json", help="Print JSON, for scripts.")]
Quiet = Annotated[bool, Parameter(name="--quiet", help="Show errors only.")]
Verbose = Annotated[bool, Parameter(name="--verbose", help="Show Prefect's log too.")]
Version = Annotated[str, Parameter(help="Model version, such as 12, v12, or its digest's start.")]
VersionOrChampion = Annotated[
    str | None,
    Parameter(
        help="Model version (12, v12, the start of its digest), or a named model for its champion. "
        "Default: the champion, if only one model has any."
    ),
]
AT_LEAST_ONE = validators.Number(gte=1)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class DataArguments:
    """Data, parameters and processes, as typed."""

    preset: Annotated[
        str,
        Parameter(help=f"Preset to start from: {', '.join(PRESETS)}, or a TOML file of your own."),
    ] = DEFAULT_PRESET
    dataset: Annotated[
        str | None,
        Parameter(
            help=f"{MEANINGS['dataset']} Default: {DEFAULT_DATASET}, or {FALLBACK_DATASET} if no "
            "mirror can be reached."
        ),
    ] = None
    mirror: Annotated[
        str | None, Parameter(help=f"{MEANINGS['mirror']} Default: DIGITFLOW_MIRROR.")
    ] = None
    assignments: Annotated[
        list[str] | None,
        Parameter(
            name="--set",
            metavar="KEY=VALUE",
            consume_multiple=(1, None),
            help="Override parameters of the preset, one or more; `digitflow parameters` lists "
            "them.",
        ),
    ] = None
    workers: Annotated[int | None, Parameter(help=MEANINGS["workers"])] = None
    scheduler: Annotated[
        str | None, Parameter(metavar="tcp://HOST:PORT", help=MEANINGS["scheduler"])
    ] = None
    output: Annotated[str | None, Parameter(help=MEANINGS["output"])] = None

    def spec(self) -> RunSpec:
        """Return what is to be run; whatever is wrong with it is said before any work.

        Raises
        ------
        DatasetError, ParameterError, SelectionError
            If the dataset, the preset, a parameter's name or value, or the choice of stages is
            not acceptable.
        """
        preset, overrides = self.settings()
        options = RunOptions(
            dataset=_absolute_dataset(self.dataset or DEFAULT_DATASET),
            preset=preset,
            mirror=anchored(self.mirror, Path()) if self.mirror else None,
            workers=self.workers,
            scheduler=self.scheduler,
            output=self.output,
            overrides=overrides,
            **self._stages(),
        )
        spec = options.spec()
        # As JSON values, which a deployment or the flow takes.
        typed = spec.parameters.model_dump(mode="json", include=set(options.overrides))
        return replace(spec, options=replace(options, overrides=typed))

    def settings(self) -> tuple[str, dict[str, Any]]:
        """Return the preset's name, and the parameters that differ from it.

        Raises
        ------
        ParameterError
            If a file cannot be read, or what was typed is no assignment.
        """
        preset, values = self._start()
        return preset, {**values, **parse_assignments(self._assignments())}

    def _start(self) -> tuple[str, dict[str, Any]]:
        return read_preset(self.preset)

    def _assignments(self) -> list[str]:
        return list(self.assignments or [])

    def _stages(self) -> dict[str, Any]:
        """Return the options that choose stages."""
        return {}


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RunArguments(DataArguments):
    """The options of a run, as typed."""

    members: Annotated[
        int | None,
        Parameter(help="Train this many networks and average their probabilities: an ensemble."),
    ] = None
    refresh: Annotated[
        list[StageName] | None, Parameter(consume_multiple=(1, None), help=MEANINGS["refresh"])
    ] = None
    from_stage: Annotated[
        StageName | None, Parameter(name="--from", help=MEANINGS["from_stage"])
    ] = None
    until: Annotated[StageName | None, Parameter(help=MEANINGS["until"])] = None

    def _assignments(self) -> list[str]:
        members = [] if self.members is None else [f"members={self.members}"]
        return [*super()._assignments(), *members]

    def _stages(self) -> dict[str, Any]:
        return {
            "refresh": tuple(self.refresh or ()),
            "from_stage": self.from_stage,
            "until": self.until,
        }


_GATE_DEFAULTS = {each.name: each.default for each in GATE}
_GATE_HELP = {each.name: Parameter(help=each.meaning) for each in GATE}
_SHARE = Parameter(validator=validators.Number(gte=0, lte=1))


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RetrainArguments(DataArguments):
    """The options of a retraining, as typed."""

    model: Annotated[str | None, _GATE_HELP["model"]] = _GATE_DEFAULTS["model"]
    min_improvement: Annotated[float, _GATE_HELP["min_improvement"], _SHARE] = _GATE_DEFAULTS[
        "min_improvement"
    ]
    max_class_drop: Annotated[float, _GATE_HELP["max_class_drop"], _SHARE] = _GATE_DEFAULTS[
        "max_class_drop"
    ]
    floor: Annotated[float, _GATE_HELP["floor"], _SHARE] = _GATE_DEFAULTS["floor"]
    approval: Annotated[When, _GATE_HELP["approval"]] = _GATE_DEFAULTS["approval"]
    approval_hours: Annotated[
        float, _GATE_HELP["approval_hours"], Parameter(validator=validators.Number(gt=0, lte=720))
    ] = _GATE_DEFAULTS["approval_hours"]

    def gate(self) -> dict[str, Any]:
        """Return what the gate is told, as the flow takes it."""
        return {name: getattr(self, name) for name in _GATE_DEFAULTS}


_HIDDEN = Parameter(parse=False)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RehearseArguments(RetrainArguments):
    """The options of a rehearsal, as typed: those of a retraining that leaves nothing."""

    preset: Annotated[
        str,
        Parameter(
            help=f"Preset to start from: {', '.join(PRESETS)}, or a TOML file of your own. "
            f"Default: the champion's parameters, or {DEFAULT_PRESET} if there is none."
        ),
    ] = ""
    dataset: Annotated[
        str | None,
        Parameter(
            help=f"{MEANINGS['dataset']} Default: what the champion was trained on, or "
            f"{FALLBACK_DATASET} if there is none."
        ),
    ] = None
    model: Annotated[
        str | None,
        Parameter(
            help="Named model whose champion is challenged. Default: the dataset's name, or the "
            "only one with a champion."
        ),
    ] = None
    # The results lie in the scratch store, which no other machine's workers see.
    scheduler: Annotated[str | None, _HIDDEN] = None
    output: Annotated[str | None, _HIDDEN] = None
    champion: Annotated[ModelVersion | None, _HIDDEN] = None

    def _start(self) -> tuple[str, dict[str, Any]]:
        if self.champion is not None and not self.preset:
            return self.champion.preset, dict(self.champion.parameters)
        return read_preset(self.preset or DEFAULT_PRESET)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class SweepArguments(DataArguments):
    """The options of a sweep, as typed."""

    preset: Annotated[
        str,
        Parameter(help="Preset to start from: mlp, cnn, quick, or a TOML file of your own."),
    ] = "quick"
    grid: Annotated[
        list[str] | None,
        Parameter(
            metavar="NAME=VALUE,VALUE",
            consume_multiple=(1, None),
            help="A parameter and the values to try, one or more; join the layers of a network "
            "with a dash: hidden_sizes=128,512-256. With --random also a range: "
            "learning_rate=0.0001..0.01.",
        ),
    ] = None
    random: Annotated[
        int | None,
        Parameter(help="Number of points to draw at random, instead of the whole grid."),
    ] = None
    seed: Annotated[int, Parameter(help="Seed of --random.")] = 0
    metric: Annotated[Metric, Parameter(help="Metric to rank the points by.")] = METRICS[0]
    early_stop: Annotated[
        EarlyStop | None,
        Parameter(
            name="--early-stop",
            help="Stop poor points early: after each rung the best third goes on.",
        ),
    ] = None

    def with_file(self, file: Path) -> SweepArguments:
        """Return the sweep of a file with what was typed beside it.

        What is typed for a parameter or for the dataset takes the place of the file's.

        Raises
        ------
        ParameterError
            If it is not the file of a sweep, or a preset was typed as well.
        """
        sweep = read_sweep(file)
        if self.preset not in (SweepArguments().preset, sweep.preset):
            message = (
                f"preset: the sweep {file} has its own, {sweep.preset}; change it "
                "there, or leave --preset out"
            )
            raise ParameterError(message)
        typed = {row.partition("=")[0].strip() for row in self.grid or ()}
        rows = [row for row in sweep.rows() if row.partition("=")[0] not in typed]
        changed = parse_assignments(self._assignments())
        kept = [text for text in sweep.assignments() if text.partition("=")[0] not in changed]
        return replace(
            self,
            preset=sweep.preset,
            dataset=self.dataset or sweep.dataset,
            assignments=[*kept, *(self.assignments or ())],
            grid=[*rows, *(self.grid or ())],
        )


def _absolute_dataset(dataset: str) -> str:
    """Make a path of a dataset absolute: the flow may run somewhere else."""
    if dataset in DATASETS or (dataset in added() and not is_path(dataset)):
        return dataset
    is_manifest = is_path(dataset) and Path(dataset).expanduser().is_file()
    path = Path(dataset).expanduser()
    return str(path.absolute()) if is_manifest or path.is_dir() else dataset
