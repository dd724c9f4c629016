"""A dataset as a TOML file: read with every mistake named, written so that it reads back alike."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from digitflow.tasks.data.datasets.dataset import (
    ROLES,
    Dataset,
    DatasetError,
    Datasheet,
    Images,
    SourceFile,
)
from digitflow.tasks.data.datasets.places import anchored, display, what_it_is
from digitflow.tasks.data.toml_file import read_toml_file
from digitflow.tasks.durable import unfinished_file

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_LINE = 100  # characters; a longer list has an item a line
_Count = Annotated[int, Field(ge=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _File(_Strict):
    name: str
    size: int
    sha256: str


class _Files(_Strict):
    training_images: _File
    training_labels: _File
    test_images: _File
    test_labels: _File


class _Images(_Strict):
    training: _Count
    test: _Count
    height: _Count
    width: _Count


class _Datasheet(_Strict):
    motivation: str = ""
    collection: str = ""
    people: str = ""
    labelling: str = ""
    uses: str = ""
    maintenance: str = ""
    contact: str = ""


class _Manifest(_Strict):
    name: str
    title: str | None = None
    class_names: list[str] | None = None
    labels: list[int] | None = None
    transposed: bool = False
    moving: bool = False
    generated: bool = False
    mirrors: list[str] = []
    licence: str = ""
    citation: str = ""
    images: _Images | None = None
    datasheet: _Datasheet = _Datasheet()
    files: _Files | None = None


def check_name(name: str) -> str:
    """Return `name` if a dataset may be called so: it becomes a file name and a word to type.

    Raises
    ------
    DatasetError
        If it may not.
    """
    if not _NAME.fullmatch(name) or name.endswith(".toml"):
        message = (
            "expected a name of at most 64 lower-case letters, digits, dots, dashes and "
            f"underscores that does not end in .toml, found {name!r}"
        )
        raise DatasetError(message)
    return name


def read_manifest(path: Path) -> Dataset:
    """Read a manifest.

    Mirrors that are relative paths start from the manifest's folder, so that a manifest can lie
    beside its files.

    Raises
    ------
    DatasetError
        If there is none, or something in it is missing, unknown or wrong; names the file and
        each mistake.
    """
    try:
        # A pipe or a device would not end.
        values = read_toml_file(path) if path.is_file() else None
    except (OSError, ValueError) as error:
        message = f"{path}: expected a dataset's manifest in TOML: {error}"
        raise DatasetError(message) from error
    if values is None:
        other = what_it_is(path)
        but = "" if other is None else f", but {other}"
        message = f"{path}: expected a dataset's manifest there, found no such file{but}"
        raise DatasetError(message)
    try:
        manifest = _Manifest.model_validate(values)
        return _dataset(manifest, path.parent)
    except ValidationError as error:
        mistakes = "; ".join(_describe(each) for each in error.errors())
        message = f"{path}: {mistakes}"
        raise DatasetError(message) from None
    except DatasetError as error:
        message = f"{path}: {error}"
        raise DatasetError(message) from error


def write_manifest(path: Path, dataset: Dataset) -> None:
    """Write a dataset's manifest, whole or not at all; with a mirror's password, for its owner.

    Raises
    ------
    DatasetError
        If it cannot be written as UTF-8.
    OSError
        If it cannot be written there.
    """
    try:
        data = to_toml(dataset).encode()
    except UnicodeEncodeError as error:
        message = f"dataset {dataset.name}: expected text that UTF-8 can hold: {error}"
        raise DatasetError(message) from error
    with unfinished_file(path) as unfinished:
        unfinished.touch(0o666 if all(display(each) == each for each in dataset.mirrors) else 0o600)
        unfinished.write_bytes(data)


def to_toml(dataset: Dataset) -> str:
    """Return a dataset as the text of a manifest."""
    values: dict[str, Any] = {
        "name": dataset.name,
        "title": dataset.title,
        "class_names": list(dataset.class_names),
        "labels": list(dataset.labels),
    }
    if dataset.transposed:
        values["transposed"] = True
    if dataset.moving:
        values["moving"] = True
    if dataset.generated:
        values["generated"] = True
    values["mirrors"] = list(dataset.mirrors)
    values |= {
        name: text
        for name, text in (("licence", dataset.licence), ("citation", dataset.citation))
        if text
    }
    lines = [f"{name} = {_value(value)}" for name, value in values.items()]
    if dataset.images is not None:
        lines += ["", "[images]"]
        lines += [f"{name} = {number}" for name, number in vars(dataset.images).items()]
    if dataset.datasheet != Datasheet():
        lines += ["", "[datasheet]"]
        lines += [f"{k} = {_value(text)}" for k, text in vars(dataset.datasheet).items() if text]
    for file in dataset.files:
        lines += ["", f"[files.{file.role}]", f"name = {_value(file.name)}"]
        lines += [f"size = {file.size}", f"sha256 = {_value(file.sha256)}"]
    return "\n".join(lines) + "\n"


def _dataset(manifest: _Manifest, folder: Path) -> Dataset:
    check_name(manifest.name)
    labels, names = manifest.labels, manifest.class_names
    if names is None:
        if labels is None:
            message = "expected class_names, or the labels that there are, or both; found neither"
            raise DatasetError(message)
        names = [str(label) for label in labels]
    if manifest.files is not None and not manifest.mirrors:
        message = "expected at least one mirror (URL prefix or directory), found none"
        raise DatasetError(message)
    said = dict(manifest.datasheet)
    paragraphs = (manifest.licence, manifest.citation, *said.values())
    lines = [text.replace("\n", "") for text in paragraphs]
    for text in (manifest.title or "", *manifest.mirrors, *lines):
        # A terminal obeys control characters, and no path or URL has any.
        if not text.isprintable():
            message = f"expected text to read, found {text!r}"
            raise DatasetError(message)
    if manifest.moving and manifest.files is not None and len(manifest.mirrors) != 1:
        message = (
            "moving: expected one mirror, since two would not change at the same moment; found "
            f"{len(manifest.mirrors)}"
        )
        raise DatasetError(message)
    files = {} if manifest.files is None else dict(manifest.files)
    return Dataset(
        name=manifest.name,
        files=tuple(SourceFile(role, **dict(files[role])) for role in ROLES if role in files),
        mirrors=tuple(anchored(mirror, folder) for mirror in manifest.mirrors),
        class_names=tuple(names),
        title=manifest.title or manifest.name,
        generated=manifest.generated,
        labels=tuple(labels or ()),
        transposed=manifest.transposed,
        moving=manifest.moving,
        licence=manifest.licence,
        citation=manifest.citation,
        images=None if manifest.images is None else Images(**dict(manifest.images)),
        datasheet=Datasheet(**said),
    )


def _describe(problem: Any) -> str:
    key = ".".join(map(str, problem["loc"]))
    if problem["type"] == "extra_forbidden":
        return f"{key}: no such key"
    if problem["type"] == "missing":
        return f"{key}: missing"
    rule = problem["msg"].removeprefix("Input should be ")
    return f"{key}: should be {rule}, found {problem['input']!r}"


def _value(value: Any) -> str:
    """Write a value as TOML, whose strings take JSON's escapes and want one more."""
    if isinstance(value, list):
        items = [_value(item) for item in value]
        line = f"[{', '.join(items)}]"
        return line if len(line) <= _LINE else "[\n    " + ",\n    ".join(items) + ",\n]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
