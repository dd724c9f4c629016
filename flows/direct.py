"""The pipeline in a script or a notebook: computed or served at once, without Prefect."""

from __future__ import annotations

import time
from typing import Any

from digitflow.flows.pipeline import pipeline
from digitflow.flows.spec import RunOptions
from digitflow.flows.summary import summarise
from digitflow.storage.history.runs import run_name
from digitflow.storage.store import Store
from digitflow.tasks.data.datasets.sources import DEFAULT_DATASET
from digitflow.tasks.engine.call import Context, compute, using
from digitflow.tasks.parameters import DEFAULT_PRESET
from digitflow.tasks.reporting.results import check_results_folder, write_results
from digitflow.tasks.reporting.run_summary import RunSummary


def run(
    dataset: str = DEFAULT_DATASET,
    preset: str = DEFAULT_PRESET,
    *,
    name: str = "script",
    mirror: str | None = None,
    output: str | None = None,
    **parameters: Any,
) -> RunSummary:
    """Run the pipeline, and return what it did.

    What is cached is served; the model is registered, and the results are written, as
    ``digitflow run`` does it.

    Parameters
    ----------
    dataset
        Name of a dataset, path of a manifest in TOML, or of a folder with four IDX files.
    preset
        Named set of parameters to start from.
    name
        Of the run, for records and the results folder.
    mirror
        URL prefix or folder that is asked first for the dataset's files.
    output
        Folder for the results; by default ``results/NAME``.
    **parameters
        Those that differ from the preset's.

    Returns
    -------
    RunSummary
        With `metrics`, the `model`'s version, the results' `folder` and every stage's result.

    Raises
    ------
    DatasetError, ParameterError
        If there is no such dataset, or a parameter is not acceptable; before any work.

    Examples
    --------
    >>> import digitflow
    >>> done = digitflow.run("sample", epochs=1, training_sample=100, test_sample=50)
    >>> 0 <= done.metrics["test_accuracy"] <= 1
    True
    >>> done.stages[-1].stage
    'plot'
    """
    started = time.perf_counter()
    options = RunOptions(dataset, preset, mirror=mirror, output=output, overrides=parameters)
    spec = options.spec()
    run = run_name(name)
    check_results_folder(spec.results_folder(run))
    cache = Store()
    cache.connect()
    with cache.in_use(), using(Context(cache, run, compute)) as context:
        pipeline(spec)
        stages = tuple(handle.result() for handle in context.called)
        summary = summarise(cache, spec, run, stages, started)
        write_results(cache, summary)
    return summary
