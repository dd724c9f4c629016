"""What an array would lose is refused, and what a failing system says is a sentence."""

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from digitflow.storage.backends.os_errors import explaining
from digitflow.storage.errors import ArtifactError, StoreUnusableError
from digitflow.storage.formats.artifacts import write_artifact


@pytest.mark.parametrize(
    ("value", "lost"),
    [
        (np.ma.MaskedArray([1, 2], [True, False]), "its mask would be lost"),
        (pd.Series([1, 2], index=[5, 6]), "its index and its name would be lost"),
    ],
)
@pytest.mark.parametrize("format_name", ["npy", "npz"])
def test_what_an_array_would_lose_is_refused(
    tmp_path: Path, value: Any, lost: str, format_name: str
) -> None:
    given = value if format_name == "npy" else {"x": value}
    with pytest.raises(ArtifactError, match=lost):
        write_artifact(format_name, tmp_path / "array", given)


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.EIO, "medium is failing"),
        (errno.EINVAL, "file system cannot do that"),
        (errno.EOPNOTSUPP, "knows no locks"),
        (errno.ENOLCK, "gives no locks"),
        (errno.EMFILE, "ulimit -n"),
        (errno.ELOOP, "leads to itself"),
    ],
)
def test_what_a_failing_system_says_is_a_sentence(tmp_path: Path, number: int, advice: str) -> None:
    with pytest.raises(StoreUnusableError, match=advice), explaining("a record", tmp_path):
        raise OSError(number, os.strerror(number), str(tmp_path))
