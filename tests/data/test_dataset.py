"""What a dataset has to say of itself."""

from dataclasses import replace

import pytest

from digitflow.tasks.data.datasets.dataset import (
    ROLES,
    Dataset,
    DatasetError,
    SourceFile,
    describe_labels,
)

FILES = tuple(SourceFile(role, f"{role}.gz", f"{n}" * 64, n) for n, role in enumerate(ROLES))
LETTERS = Dataset("letters", FILES, ("here",), ("a", "b", "c"), "Letters", labels=(1, 2, 3))


def test_file_by_role():
    assert LETTERS.file("test_labels").name == "test_labels.gz"
    with pytest.raises(DatasetError, match="no file for 'validation_images'"):
        LETTERS.file("validation_images")


def test_labels_count_from_0_where_nothing_is_said():
    assert replace(LETTERS, labels=()).labels == (0, 1, 2)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"role": "images"}, "expected a role out of training_images, "),
        ({"name": "../x"}, "expected a plain file name, found '../x'"),
        ({"sha256": "ABC"}, "expected a SHA-256 of 64 lower-case hex digits, found 'ABC'"),
        ({"size": -1}, "expected a size of 0 bytes or more, found -1"),
    ],
)
def test_wrong_files_are_refused(change, text):
    right = {"role": "test_labels", "name": "x", "sha256": "0" * 64, "size": 1}
    SourceFile(**right)
    with pytest.raises(DatasetError, match=text):
        SourceFile(**{**right, **change})


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"files": FILES[:2]}, "found training_images, training_labels$"),
        ({"files": (*FILES[:3], FILES[0])}, "expected files for training_images"),
        ({"class_names": ("a", "b")}, r"expected 3 class names, .* \(1 to 3\), found 2$"),
        ({"labels": (3, 2, 1)}, "expected ascending labels, found 3, 2, 1$"),
        ({"labels": (1, 1, 2)}, "expected ascending labels"),
        ({"labels": (1, 2, 2**31)}, "expected labels that IDX can hold, found 2147483648"),
        ({"class_names": ("a", "b", "a")}, "expected class names that differ, found 'a' twice"),
        ({"class_names": ("a", " ", "b")}, "expected class names to read, found ' '"),
        ({"class_names": ("a", "b\n", "c")}, r"expected class names to read, found 'b\\n'"),
        ({"labels": (), "class_names": ()}, "expected labels of 2 to 1,000 classes, found 0"),
        ({"labels": (7,), "class_names": ("7",)}, r"2 to 1,000 classes, found 1 \(7\)$"),
        (
            {"labels": tuple(range(1001)), "class_names": tuple(map(str, range(1001)))},
            r"found 1,001 \(0 to 1000\)$",
        ),
    ],
)
def test_wrong_datasets_are_refused(change, text):
    with pytest.raises(DatasetError, match=text):
        replace(LETTERS, **change)


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ([], "none"),
        ([5], "5"),
        ([0, 1], "0, 1"),
        (range(1, 27), "1 to 26"),
        ([-1, 4, 9], "-1, 4, 9"),
        (range(0, 40, 2), "0, 2, 4, 6, 8, … 38"),
    ],
)
def test_labels_in_a_few_words(labels, text):
    assert describe_labels(labels) == text
