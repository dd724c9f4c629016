from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from digitflow.storage.digests import digest_json
from digitflow.storage.keys import FORMAT_VERSION, StageKey, differences

OLD, NEW = "440fca2b31c0" + "0" * 52, "91b2c08a55de" + "0" * 52
CODE = {
    "tasks/stages/train.py": {"train": "1", "<module>": "2"},
    "tasks/nn/layers/base.py": {"relu": "3"},
}
KEY = StageKey(
    "train",
    CODE,
    {"epochs": 20, "names": ["a"]},
    {"images": OLD, "labels": NEW},
    "tasks.stages.train:train",
    {"Python": "3.11", "numpy": "2.4.6"},
    "Haswell",
)


def with_parts(**parts: Any) -> StageKey:
    return StageKey(**{**vars(KEY), **parts})


def test_the_document_holds_every_part():
    assert KEY.document() == {
        "format": FORMAT_VERSION,
        "stage": "train",
        "definition": "tasks.stages.train:train",
        "code": CODE,
        "libraries": {"Python": "3.11", "numpy": "2.4.6"},
        "processor": "Haswell",
        "parameters": {"epochs": 20, "names": ["a"]},
        "inputs": {"images": OLD, "labels": NEW},
    }
    assert KEY.digest() == digest_json(KEY.document())


def test_the_order_in_which_parts_are_given_does_not_matter():
    turned = StageKey(
        "train",
        {path: dict(reversed(each.items())) for path, each in reversed(CODE.items())},
        dict(reversed(KEY.parameters.items())),
        dict(reversed(KEY.inputs.items())),
        KEY.definition,
        dict(reversed(KEY.libraries.items())),
        KEY.processor,
    )
    assert turned.digest() == KEY.digest()


@pytest.mark.parametrize(
    "parts",
    [
        {"stage": "trained"},
        {"code": {}},
        {"code": {**CODE, "tasks/nn/layers/base.py": {"relu": "4"}}},
        {"code": {**CODE, "tasks/nn/layers/base.py": {"relu6": "3"}}},
        {"code": {**CODE, "tasks/nn/other.py": {"relu": "3"}}},
        {"parameters": {"epochs": 21, "names": ["a"]}},
        {"parameters": {"epochs": 20.0, "names": ["a"]}},
        {"parameters": {"epochs": "20", "names": ["a"]}},
        {"parameters": {"epochs": 20, "names": ["a", "b"]}},
        {"parameters": {"epochs": 20}},
        {"parameters": {"epochs": 20, "names": ["a"], "more": None}},
        {"inputs": {"images": NEW, "labels": NEW}},
        {"inputs": {"images": NEW, "labels": OLD}},
        {"inputs": {"images": OLD}},
        {"definition": "tasks.stages.train:another"},
        {"libraries": {"Python": "3.11", "numpy": "2.5.5"}},
        {"libraries": {"Python": "3.11"}},
        {"processor": "Sandybridge"},
    ],
)
def test_every_part_matters(parts: dict[str, Any]):
    assert with_parts(**parts).digest() != KEY.digest()


def test_the_format_version_matters(monkeypatch: pytest.MonkeyPatch):
    before = KEY.digest()
    monkeypatch.setattr("digitflow.storage.keys.FORMAT_VERSION", FORMAT_VERSION + 1)
    assert KEY.digest() != before


@pytest.mark.parametrize("value", [float("nan"), object(), {1: 2}])
def test_a_parameter_without_json_form_has_no_key(value: Any):
    with pytest.raises((TypeError, ValueError)):
        with_parts(parameters={"x": value}).digest()


@pytest.mark.parametrize(
    ("parts", "reasons"),
    [
        ({}, []),
        ({"parameters": {"epochs": 30, "names": ["a"]}}, ["parameter epochs 20 → 30"]),
        ({"parameters": {"epochs": 20}}, ["parameter names ['a'] → (none)"]),
        (
            {"parameters": {"epochs": 20, "names": ["a"], "seed": 1}},
            ["parameter seed (none) → 1"],
        ),
        (
            {"parameters": {"epochs": 20, "names": ["class number one"] * 9}},
            ["parameter names ['a'] → ['class number one', 'class number one'…"],
        ),
        (
            {"code": {**CODE, "tasks/nn/layers/base.py": {"relu": "4"}}},
            ["code changed: tasks/nn/layers/base.py (relu)"],
        ),
        (
            {"code": {**CODE, "tasks/nn/layers/base.py": {"relu": "4", "Dense.forward": "5"}}},
            ["code changed: tasks/nn/layers/base.py (Dense.forward, relu)"],
        ),
        (
            {"code": {**CODE, "tasks/stages/train.py": {"train": "1", "<module>": "9"}}},
            ["code changed: tasks/stages/train.py (module level)"],
        ),
        (
            {"code": {**CODE, "tasks/stages/train.py": {"<module>": "2"}}},
            ["code changed: tasks/stages/train.py (train)"],
        ),
        (
            {"code": {**CODE, "tasks/nn/conv.py": {"conv": "1"}}},
            ["code changed: tasks/nn/conv.py (new file)"],
        ),
        (
            {"code": {"tasks/stages/train.py": CODE["tasks/stages/train.py"]}},
            ["code changed: tasks/nn/layers/base.py (no longer used)"],
        ),
        (
            {"code": {**CODE, "tasks/nn/layers/base.py": {"relu": "4", "<order>": "5"}}},
            ["code changed: tasks/nn/layers/base.py (relu)"],
        ),
        (
            {"code": {**CODE, "tasks/nn/layers/base.py": {"relu": "3", "<order>": "5"}}},
            ["code changed: tasks/nn/layers/base.py (order)"],
        ),
        ({"libraries": {"Python": "3.11", "numpy": "2.5.5"}}, ["numpy 2.4.6 → 2.5.5"]),
        ({"libraries": {"Python": "3.11"}}, ["numpy 2.4.6 → (none)"]),
        (
            {
                "libraries": {"Python": "3.11"},
                "code": {**CODE, "tasks/nn/layers/base.py": {"relu": "4"}},
            },
            ["code changed: tasks/nn/layers/base.py (relu)"],
        ),
        ({"processor": "SkylakeX"}, ["processor Haswell → SkylakeX"]),
        ({"processor": ""}, ["processor Haswell → (any)"]),
        (
            {"definition": "tasks.train:train"},
            ["defined elsewhere: tasks.stages.train:train → tasks.train:train"],
        ),
        (
            {"inputs": {"images": NEW, "labels": NEW}},
            ["input changed: images 440fca2b31c0… → 91b2c08a55de…"],
        ),
        (
            {"inputs": {"images": OLD}},
            ["input changed: labels 91b2c08a55de… → (none)"],
        ),
        (
            {"inputs": {"images": OLD, "labels": NEW, "masks": NEW}},
            ["input changed: masks (none) → 91b2c08a55de…"],
        ),
        (
            {
                "inputs": {"images": NEW, "labels": OLD},
                "parameters": {"epochs": 20, "names": ["b"]},
                "code": {},
            },
            [
                "parameter names ['a'] → ['b']",
                "code changed: tasks/nn/layers/base.py (no longer used)",
                "code changed: tasks/stages/train.py (no longer used)",
                "input changed: images 440fca2b31c0… → 91b2c08a55de…",
                "input changed: labels 91b2c08a55de… → 440fca2b31c0…",
            ],
        ),
    ],
)
def test_what_is_said_of_two_keys(parts: dict[str, Any], reasons: list[str]):
    assert differences(KEY.document(), with_parts(**parts).document()) == reasons


def test_another_format_of_records_is_said_first():
    """Of what had none of today's parts, or other digests of code, only the rest is compared."""
    old = {**KEY.document(), "format": 0, "parameters": {}, "code": {"a.py": {}}}
    for name in ("definition", "libraries", "processor"):
        del old[name]
    reasons = differences(old, KEY.document())
    assert reasons[0] == f"record format 0 → {FORMAT_VERSION}"
    assert reasons[1:] == ["parameter epochs (none) → 20", "parameter names (none) → ['a']"]


VALUES = st.none() | st.booleans() | st.integers() | st.text("ab") | st.lists(st.integers())
PARTS = st.dictionaries(st.text("abc", min_size=1), VALUES, max_size=3)


@given(PARTS, PARTS)
def test_whatever_changes_the_key_is_said(old: dict[str, Any], new: dict[str, Any]):
    one, other = with_parts(parameters=old), with_parts(parameters=new)
    said = differences(one.document(), other.document())
    assert (one.digest() == other.digest()) == (said == [])


@pytest.mark.parametrize(("old", "new"), [(1, 1.0), (1, True), (0, False), ([1], [True])])
def test_values_that_python_calls_equal_are_said_to_differ(old: Any, new: Any):
    one, other = with_parts(parameters={"x": old}), with_parts(parameters={"x": new})
    assert one.digest() != other.digest()
    assert differences(one.document(), other.document()) == [f"parameter x {old} → {new}"]
