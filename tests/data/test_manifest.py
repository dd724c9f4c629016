"""Manifests: every mistake named, and read back as they were written."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from digitflow.tasks.data.datasets.dataset import Datasheet
from digitflow.tasks.data.datasets.manifest import (
    check_name,
    read_manifest,
    to_toml,
    write_manifest,
)
from digitflow.tasks.data.datasets.sources import DATASETS, DatasetError

MNIST = DATASETS["mnist"]


def changed(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new, 1)


@pytest.mark.parametrize("name", DATASETS)
def test_read_back(tmp_path, name):
    dataset = replace(DATASETS[name], transposed=True)
    write_manifest(tmp_path / "it.toml", dataset)
    assert read_manifest(tmp_path / "it.toml") == dataset
    assert [path.name for path in tmp_path.iterdir()] == ["it.toml"]


names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(
    lambda text: text.isprintable() and text.strip()
)


@given(
    title=names,
    class_names=st.lists(names, min_size=2, max_size=40, unique=True),
    first=st.integers(-(2**31), 2**31 - 100),
)
def test_any_text_is_read_back(tmp_path_factory, title, class_names, first):
    dataset = replace(
        MNIST,
        title=title,
        citation=f"{title}\n{title}",
        datasheet=Datasheet(motivation=title, uses=f"{title}\n{title}"),
        class_names=tuple(class_names),
        labels=tuple(first + 2 * place for place in range(len(class_names))),
    )
    path = tmp_path_factory.mktemp("manifest") / "it.toml"
    write_manifest(path, dataset)
    assert read_manifest(path) == dataset


def test_names_default_to_labels_and_labels_to_places(tmp_path):
    path = tmp_path / "it.toml"
    lines = to_toml(replace(MNIST, labels=(3, 4), class_names=("c", "d"))).splitlines()
    path.write_text("\n".join(line for line in lines if not line.startswith("class_names")))
    assert read_manifest(path).class_names == ("3", "4")
    path.write_text("\n".join(line for line in lines if not line.startswith("labels")))
    assert read_manifest(path).labels == (0, 1)
    said = ("class_names", "labels")
    path.write_text("\n".join(line for line in lines if not line.startswith(said)))
    with pytest.raises(DatasetError, match="expected class_names, or the labels that there are"):
        read_manifest(path)


def test_mirrors_start_from_the_manifest(tmp_path):
    mirrors = (".", "files/idx", "/elsewhere", "~/data", "https://x.org/y/")
    (tmp_path / "it.toml").write_text(to_toml(replace(MNIST, mirrors=mirrors)))
    assert read_manifest(tmp_path / "it.toml").mirrors == (
        str(tmp_path),
        str(tmp_path / "files" / "idx"),
        "/elsewhere",
        "~/data",
        "https://x.org/y/",
    )


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ('name = "mnist"', 'nam = "mnist"', "name: missing; nam: no such key"),
        ('name = "mnist"', 'name = "My MNIST"', "digits, dots, dashes .* found 'My MNIST'"),
        ('name = "mnist"', 'name = "m.toml"', "does not end in .toml, found 'm.toml'"),
        ("size = 4542", 'size = "4542"', r"files\.test_labels\.size: should be a valid integer"),
        ("size = 4542", "size = -1", "expected a size of 0 bytes or more, found -1"),
        ("sha256", "md5", r"files\.training_images\.sha256: missing; .*md5: no such key"),
        ("f7ae60f9", "F7AE60F9", "expected a SHA-256 of 64 lower-case hex digits"),
        ('name = "t10k-labels', 'name = "../labels', "expected a plain file name"),
        ("labels = [0, 1", "labels = [1, 0", "expected ascending labels"),
        ("labels = [0, ", "labels = [", "expected 9 class names, one for each label"),
        ("training = 60000", "training = 0", r"images\.training: should be greater than or equal"),
        ("[files.test_labels]", "[files.test_label]", r"files\.test_labels: missing"),
        ("mirrors = [", "mirrors = []\nothers = [", "others: no such key"),
        ("class_names", "class names", "expected a dataset's manifest in TOML"),
        ("[datasheet]\n", '[datasheet]\nmotive = "fun"\n', r"datasheet\.motive: no such key"),
        ('people = "', 'people = "\\u001b[31m', r"expected text to read, found '\\x1b\[31m"),
        ('title = "MNIST"', 'title = "\\u001b[31m"', r"expected text to read, found '\\x1b\[31m'"),
        ('"https://', '"\\u0000https://', r"expected text to read, found '\\x00"),
    ],
)
def test_mistakes_are_named(tmp_path, old, new, text):
    path = tmp_path / "it.toml"
    path.write_text(changed(to_toml(MNIST), old, new))
    with pytest.raises(DatasetError, match=text) as caught:
        read_manifest(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_files_without_a_mirror(tmp_path):
    (tmp_path / "it.toml").write_text(to_toml(replace(MNIST, mirrors=())))
    with pytest.raises(DatasetError, match="expected at least one mirror"):
        read_manifest(tmp_path / "it.toml")


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe",
        b"[" * 100_000,
        b"= 1",
        b"a = " + b"[" * 100_000,
        b"a = " + b"9" * 5_000,
    ],
)
def test_what_is_no_manifest(tmp_path, content):
    path: Path = tmp_path / "it.toml"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match="expected a dataset's manifest in TOML"):
        read_manifest(path)


def test_neither_is_a_folder_a_pipe_or_a_link_to_nothing(tmp_path):
    with pytest.raises(DatasetError, match="found no such file, but a directory"):
        read_manifest(tmp_path)
    os.mkfifo(tmp_path / "pipe.toml")
    with pytest.raises(DatasetError, match="found no such file, but not a regular file"):
        read_manifest(tmp_path / "pipe.toml")
    (tmp_path / "link.toml").symlink_to("gone")
    with pytest.raises(DatasetError, match="but a link to gone, which is not there"):
        read_manifest(tmp_path / "link.toml")
    with pytest.raises(DatasetError, match="found no such file$"):
        read_manifest(tmp_path / "none.toml")


def test_what_utf_8_cannot_hold(tmp_path):
    with pytest.raises(DatasetError, match="text that UTF-8 can hold"):
        write_manifest(tmp_path / "it.toml", replace(MNIST, title="\udcff"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "A", "-x", "a/b", "..", "x" * 65, "a b", "é"])
def test_names_that_are_refused(name):
    with pytest.raises(DatasetError, match="expected a name of at most 64 lower-case letters"):
        check_name(name)
