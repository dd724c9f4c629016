import json
import random

import pytest

from tests.fuzz.mutations import changed, mutate

DOCUMENT = {"a": [1, {"b": None}], "c": "text", "d": 0.5, "e": {}}


def test_a_mutation_is_mostly_json_and_another_document():
    text = json.dumps(DOCUMENT).encode()
    different = 0
    for seed in range(300):
        try:
            different += json.loads(mutate(text, 4096, seed)) != DOCUMENT
        except ValueError:
            continue
    assert different > 200


def test_every_place_of_a_document_is_reached():
    seen = {json.dumps(changed(DOCUMENT, random.Random(seed))) for seed in range(3_000)}
    for place in DOCUMENT:
        assert any(
            json.loads(text).get(place) != DOCUMENT[place] for text in seen if text[0] == "{"
        )
    assert '{"a": [1, {"b": true}], "c": "text", "d": 0.5, "e": {}}' in seen
    assert json.dumps(DOCUMENT) == '{"a": [1, {"b": null}], "c": "text", "d": 0.5, "e": {}}'


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[" * 5000, b'"' + b"a" * 4094 + b'"'])
def test_any_bytes_can_be_mutated_within_their_bound(data: bytes):
    for seed in range(50):
        assert len(mutate(data, 4096, seed)) <= 4096
        assert mutate(data, 4096, seed) == mutate(data, 4096, seed)
