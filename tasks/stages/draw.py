"""Stage `draw`: the built-in dataset `sample`, for where no mirror can be reached."""

from __future__ import annotations

from pathlib import Path

from digitflow.tasks.data.datasets.dataset import ROLES
from digitflow.tasks.engine.stage import stage


@stage(outputs=dict.fromkeys(ROLES, "file"))
def draw(*, training: int, test: int, seed: int, scratch: Path) -> dict[str, Path]:
    """Draw digits and write them as the four gzipped IDX files of a dataset."""
    from digitflow.tasks.data.sample import write_sample

    return write_sample(scratch, training=training, test=test, seed=seed)
