"""Stage `download`: one file of a dataset, from a mirror, verified."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from digitflow.tasks.engine.stage import Progress, Retries, stage


def _may_pass(error: BaseException) -> bool:
    """A 404, wrong bytes, or "not before noon" from every mirror will be the same in a minute."""
    return not getattr(error, "permanent", False)


@stage(
    outputs={"archive": "file"},
    pinned={"archive": "sha256"},
    ignored=("name", "size", "mirrors"),
    retries=Retries(count=4, first_delay=1.0, worthwhile=_may_pass),
    tags=("network",),
)
def download(
    *,
    name: str,
    sha256: str,
    size: int,
    mirrors: list[str],
    scratch: Path,
    progress: Progress,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Path]:
    """Download one file of the dataset and check its SHA-256."""
    from digitflow.tasks.data.download.fetch import fetch

    file = fetch(
        name,
        sha256=sha256,
        size=size,
        mirrors=mirrors,
        folder=scratch,
        progress=lambda done, total: progress(done, total, "bytes"),
        say=say,
    )
    return {"archive": file}
