"""Stage `compare`: what the points of a sweep reached → a table and a picture."""

from __future__ import annotations

from typing import Any

from digitflow.tasks.engine.stage import stage


@stage(outputs={"points": "text", "sweep": "png"})
def compare(
    *, points: list[dict[str, Any]], names: list[str], metric: str, dataset: str, dpi: int
) -> dict[str, Any]:
    """Lay out the points of a sweep, best first, as CSV and as parallel coordinates.

    Each of `points` is a row of `tasks.sweeps.ranking.rows`.
    """
    import pandas as pd

    from digitflow.tasks.figures.png import to_png
    from digitflow.tasks.figures.sweep import Line, sweep_figure

    lines = [
        Line(
            tuple(_number_or_text(point[name]) for name in names),
            point[metric],
            point["status"] != "stopped",
        )
        for point in points
    ]
    return {
        "points": pd.DataFrame(points).to_csv(index=False, lineterminator="\n"),
        "sweep": to_png(sweep_figure(names, lines, metric=metric, dataset=dataset), dpi=dpi),
    }


def _number_or_text(text: str) -> float | int | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
