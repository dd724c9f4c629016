"""Which datasets there are: built in, added by the user, or in files that somebody names.

Only this module and the manifests beside it know MNIST. It is imported to plan a run, so it
loads no arrays.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from digitflow.tasks.data.datasets.dataset import (
    ROLES,
    Dataset,
    DatasetError,
    SourceFile,
    check_file_name,
)
from digitflow.tasks.data.datasets.directory import as_it_is_today, check_unchanged, from_directory
from digitflow.tasks.data.datasets.manifest import read_manifest

__all__ = [
    "DATASETS",
    "DEFAULT_DATASET",
    "FALLBACK_DATASET",
    "ROLES",
    "Dataset",
    "DatasetError",
    "SourceFile",
    "added",
    "check_file_name",
    "datasets_folder",
    "find",
    "from_directory",
    "is_path",
    "known",
]

# The dataset of a run that names none, and the one that needs no network.
DEFAULT_DATASET = "mnist"
FALLBACK_DATASET = "sample"


def _built_in() -> dict[str, Dataset]:
    folder = Path(__file__).with_name("manifests")
    return {path.stem: read_manifest(path) for path in sorted(folder.glob("*.toml"))}


DATASETS: Mapping[str, Dataset] = MappingProxyType(_built_in())


def datasets_folder() -> Path:
    """Return the folder with the manifests of added datasets.

    ``DIGITFLOW_DATASETS``, or ``~/.digitflow/datasets``.
    """
    return Path(os.environ.get("DIGITFLOW_DATASETS") or "~/.digitflow/datasets").expanduser()


def added() -> dict[str, Path]:
    """Return the manifests of added datasets by name; whether they can be read is not asked."""
    folder = datasets_folder()
    return {path.stem: path for path in sorted(folder.glob("[!.]*.toml"))}


def is_path(text: str) -> bool:
    """Tell whether a text that names a dataset is meant as a path: of a manifest, or of files."""
    has_separator = "/" in text or os.sep in text
    return has_separator or text.startswith(("~", ".")) or text.endswith(".toml")


def known() -> list[tuple[str, Dataset | DatasetError]]:
    """Return every dataset that has a name, with what is wrong where one cannot be read.

    Whether files have changed is not looked at.
    """
    found: list[tuple[str, Dataset | DatasetError]] = list(DATASETS.items())
    for name, path in added().items():
        try:
            found.append((name, _from_manifest(path, name=name)))
        except DatasetError as error:
            found.append((name, error))
    return found


def find(dataset: str | os.PathLike[str]) -> Dataset:
    """Return the dataset of this name, of this manifest, or in this directory.

    A built-in name wins over one that the user has added, and a known name over a directory of
    the same name; write ``./mnist`` for the directory.

    Raises
    ------
    DatasetError
        If it is none of these; names the known datasets and the nearest of them.
    """
    wanted = os.fspath(dataset)
    if wanted in DATASETS:
        return DATASETS[wanted]
    if "://" in wanted:
        message = (
            f"{wanted}: expected the name of a dataset, a manifest or a directory, found a URL; "
            "give it a name first: digitflow dataset add URL --name NAME"
        )
        raise DatasetError(message)
    if is_path(wanted):
        manifest = Path(wanted).expanduser()
        is_manifest = manifest.suffix == ".toml" and not manifest.is_dir()
        return _from_manifest(manifest) if is_manifest else from_directory(wanted)
    own = added()
    if wanted in own:
        mine = _from_manifest(own[wanted], name=wanted)
        if mine.moving:
            return mine
        check_unchanged(
            mine,
            "Put the old files back, or trust the new ones: digitflow dataset add DIR "
            f"--name {wanted} --replace",
        )
        return mine
    # A bare word that names no directory is a misspelt name.
    if wanted and Path(wanted).exists():
        return from_directory(wanted)
    names = [*DATASETS, *own]
    nearest = difflib.get_close_matches(wanted.lower(), names, n=1, cutoff=0.5)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    message = (
        f"unknown dataset {wanted!r}: expected one of {', '.join(names)}, "
        f"a manifest (FILE.toml), or a directory with the four IDX files{hint}"
    )
    raise DatasetError(message)


def _from_manifest(path: Path, name: str | None = None) -> Dataset:
    dataset = read_manifest(path)
    if dataset.generated:
        message = f"{path}: expected the files of the dataset; only the built-in one is generated"
        raise DatasetError(message)
    if name is not None and dataset.name != name:
        message = f"{path}: expected name = {name!r}, as the file is called, found {dataset.name!r}"
        raise DatasetError(message)
    return as_it_is_today(dataset) if dataset.moving else dataset
