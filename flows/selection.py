"""Which stages of the pipeline run, and which run again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

StageName = Literal[
    "draw",
    "download",
    "decode",
    "preprocess",
    "train",
    "combine",
    "calibrate",
    "evaluate",
    "plot",
]
STAGE_NAMES: tuple[str, ...] = get_args(StageName)


class SelectionError(ValueError):
    """The stages asked for do not fit together."""


@dataclass(frozen=True)
class Selection:
    """Which stages run, and which run although the cache has their outputs.

    Attributes
    ----------
    refresh
        Stages that run again.
    start
        A stage that runs again with everything after it, or None.
    until
        Last stage to run, or None for all.

    Raises
    ------
    SelectionError
        If a stage is to run again that comes after the last one to run.
    """

    refresh: tuple[str, ...] = ()
    start: str | None = None
    until: str | None = None

    def __post_init__(self) -> None:
        again = [*self.refresh, *([self.start] if self.start is not None else [])]
        late = [stage for stage in again if not self.includes(stage)]
        if late:
            message = (
                f"{', '.join(late)} should run again, but the run ends with {self.until}: "
                "name a later stage as the last one, or none"
            )
            raise SelectionError(message)

    def includes(self, stage: str) -> bool:
        """Tell whether a stage belongs to the run."""
        return self.until is None or _place(stage) <= _place(self.until)

    def refreshes(self, stage: str) -> bool:
        """Tell whether a stage is to run even if cached."""
        follows = self.start is not None and _place(stage) >= _place(self.start)
        return follows or _place(stage) in {_place(each) for each in self.refresh}


def _place(stage: str) -> int:
    # `draw` takes the place of `download` where the project makes the data itself, and what
    # trains an ensemble is `train` and `combine` together.
    return STAGE_NAMES.index({"draw": "download", "combine": "train"}.get(stage, stage))
