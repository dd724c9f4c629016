"""A tiny dataset, an undisturbed walk of it, and a job that walks it."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from digitflow.tasks.data.datasets.sources import Dataset, from_directory
from tests import walk
from tests.faults.logged_walk import LoggedWalk
from tests.faults.processes import Job, from_function
from tests.faults.soundness import Outcomes, outcomes


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return from_directory(walk.write_dataset(tmp_path_factory.mktemp("dataset")))


@dataclass(frozen=True)
class Undisturbed:
    """A walk that nothing happened to.

    Attributes
    ----------
    walk
        What was walked.
    job
        Walks it again.
    store
        Where it left everything; to be copied, not to be changed.
    done
        Results and digests.
    outcomes
        What its records name.
    """

    walk: LoggedWalk
    job: Job
    store: Path
    done: walk.Walk
    outcomes: Outcomes


@pytest.fixture(scope="session")
def undisturbed(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("undisturbed")
    plain = LoggedWalk(dataset, {"epochs": 6})
    done = plain(folder / "store", folder / "log")
    return Undisturbed(
        plain, from_function(plain), folder / "store", done, outcomes(folder / "store")
    )
