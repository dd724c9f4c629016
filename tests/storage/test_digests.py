import hashlib
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from digitflow.storage.digests import (
    canonical_json,
    digest_bytes,
    digest_file,
    digest_json,
    is_sha256,
    short,
)

DOCUMENTS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=20,
)


def test_the_published_digest_of_abc():
    # FIPS 180-4's own example.
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert digest_bytes(b"abc") == expected
    assert short(expected) == "ba7816bf8f01"


@pytest.mark.parametrize("size", [0, 1, 1 << 18, (1 << 18) + 1, 3_000_000])
def test_a_file_has_the_digest_of_its_bytes(tmp_path: Path, size: int):
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    file = tmp_path / "file"
    file.write_bytes(data)
    assert digest_file(file) == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    "text",
    ["", "a" * 63, "a" * 65, "A" * 64, "g" * 64, "a" * 64 + "\n", "../" + "a" * 61, None, 5, b"a"],
)
def test_names_that_are_no_digests(text: object):
    assert not is_sha256(text)
    assert is_sha256("0123456789abcdef" * 4)


def test_canonical_json_is_compact_sorted_and_utf8():
    assert (
        canonical_json({"b": [1, 2.5, None], "a": "ä→"}) == '{"a":"ä→","b":[1,2.5,null]}'.encode()
    )


@given(DOCUMENTS)
def test_what_is_read_back_has_the_same_digest(document: Any):
    data = canonical_json(document)
    assert canonical_json(json.loads(data)) == data


@given(st.dictionaries(st.text("abc"), st.integers(), min_size=2))
def test_the_order_of_keys_does_not_matter(document: dict[str, int]):
    turned = dict(reversed(document.items()))
    assert digest_json({"outer": document}) == digest_json({"outer": turned})


@given(DOCUMENTS, DOCUMENTS)
def test_other_documents_have_other_digests(one: Any, other: Any):
    same = repr(json.loads(canonical_json(one))) == repr(json.loads(canonical_json(other)))
    # repr tells 1, 1.0 and True apart, which == does not; the order of keys needs ==.
    if not same and one != other:
        assert digest_json(one) != digest_json(other)


@pytest.mark.parametrize(("one", "other"), [(1, 1.0), (1, True), (0, False), ("1", 1), ("", None)])
def test_values_that_python_calls_equal_differ_if_their_json_does(one: Any, other: Any):
    assert digest_json({"x": one}) != digest_json({"x": other})


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_does_not_have(number: float):
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"x": [number]})


@pytest.mark.parametrize("value", [{1, 2}, b"bytes", Path("x"), object()])
def test_values_that_json_does_not_have(value: Any):
    with pytest.raises(TypeError, match="not JSON serializable"):
        canonical_json({"x": value})


@pytest.mark.parametrize(
    "document", [{1: "x"}, {"a": [{"b": {None: 1}}]}, {"a": ({True: 1},)}, {1: "x", "1": "y"}]
)
def test_keys_that_json_would_turn_into_strings(document: Any):
    # 1 and "1" would be written alike, and two documents would share a digest.
    with pytest.raises(TypeError, match="expected strings as keys"):
        digest_json(document)
