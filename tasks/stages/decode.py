"""Stage `decode`: a gzipped IDX file → an array."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from digitflow.tasks.engine.stage import stage

if TYPE_CHECKING:
    from numpy.typing import NDArray


@stage(outputs={"array": "npy"}, ignored=("name",))
def decode(archive: Path, *, name: str, transposed: bool, scratch: Path) -> dict[str, NDArray[Any]]:
    """Decode one IDX file strictly: every byte of it must be accounted for.

    Images that are stored `transposed` are turned upright, so that nothing later need know.
    """
    from digitflow.tasks.data.idx.arrays import decode as decode_idx

    # Into a file, which the store takes over: the array may be larger than the memory.
    target = scratch / "array.npy"
    return {"array": decode_idx(archive, name=name, transposed=transposed, to=target)}
