"""What proves that a file has not changed, and what does not."""

import hashlib
import os
from email.utils import formatdate
from pathlib import Path

import pytest

from digitflow.tasks.data.datasets.sources import SourceFile
from digitflow.tasks.data.download.errors import InterruptedTransferError, RefusedError
from digitflow.tasks.data.download.source_check import Asked, Seen, ask
from tests.patience import PATIENCE

DATA = bytes(range(256)) * 8
SHA256 = hashlib.sha256(DATA).hexdigest()
FILE = SourceFile("training_images", "a.gz", SHA256, len(DATA))
LONG_AGO = formatdate(1_000_000_000, usegmt=True)
TIMEOUT = (PATIENCE, PATIENCE)


def test_a_server_is_asked_with_its_own_etag_and_sends_nothing(server, behaviours) -> None:
    mirror = server.script(
        behaviours.answer(200, DATA, ETag='"v1"', Last_Modified=LONG_AGO),
        behaviours.answer(304, ETag='"v1"'),
    )
    first = ask(mirror, FILE, None, TIMEOUT)
    assert first == Asked(Seen(len(DATA), SHA256, '"v1"', LONG_AGO), "read")
    again = ask(mirror, FILE, first.seen, TIMEOUT)
    assert again == Asked(first.seen, "304 Not Modified")
    assert [headers.get("If-None-Match") for _, headers in server.asked] == [None, '"v1"']


def test_a_time_is_asked_with_where_there_is_no_etag(server, behaviours) -> None:
    mirror = server.script(
        behaviours.answer(200, DATA, Last_Modified=LONG_AGO), behaviours.answer(304)
    )
    first = ask(mirror, FILE, None, TIMEOUT)
    assert ask(mirror, FILE, first.seen, TIMEOUT).how == "304 Not Modified"
    assert server.asked[1][1]["If-Modified-Since"] == LONG_AGO


def test_a_server_that_knows_no_conditions_is_believed_its_etag(server, behaviours) -> None:
    mirror = server.script(behaviours.answer(200, DATA, ETag='"v1"'))
    first = ask(mirror, FILE, None, TIMEOUT)
    assert ask(mirror, FILE, first.seen, TIMEOUT) == Asked(first.seen, "same ETag")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"ETag": 'W/"v1"'},  # the same meaning, not the same bytes
        {"ETag": "v1"},
        {"Last_Modified": formatdate(32_503_680_000, usegmt=True)},  # it may still change
        {"Last_Modified": "yesterday"},
    ],
    ids=["nothing", "weak", "unquoted", "just-now", "no-time"],
)
def test_what_proves_nothing_is_not_asked_with(server, behaviours, headers) -> None:
    mirror = server.script(behaviours.answer(200, DATA, **headers))
    first = ask(mirror, FILE, None, TIMEOUT)
    assert first.seen == Seen(len(DATA), SHA256)
    assert ask(mirror, FILE, first.seen, TIMEOUT).how == "read"
    assert not {"If-None-Match", "If-Modified-Since"} & set(server.asked[1][1])


def test_another_etag_is_read_and_may_be_the_same_bytes(server, behaviours) -> None:
    mirror = server.script(behaviours.answer(200, DATA, ETag='"v2"'))
    asked = ask(mirror, FILE, Seen(len(DATA), SHA256, '"v1"'), TIMEOUT)
    assert asked == Asked(Seen(len(DATA), SHA256, '"v2"'), "read")


def test_another_size_is_not_downloaded(server, behaviours) -> None:
    mirror = server.script(behaviours.answer(200, DATA + b"more", ETag='"v2"'))
    asked = ask(mirror, FILE, None, TIMEOUT)
    assert asked == Asked(Seen(len(DATA) + 4, None, '"v2"'), "another size")


def test_an_endless_answer_is_not_read_to_its_end(server, behaviours) -> None:
    mirror = server.script(behaviours.serve_without_length(DATA * 2000, then="stall"))
    asked = ask(mirror, FILE, None, TIMEOUT)
    assert asked.how == "another size"
    assert asked.seen.sha256 is None
    assert not server.waited_out


def test_304_that_was_not_asked_for_is_no_answer(server, behaviours) -> None:
    with pytest.raises(RefusedError, match="304"):
        ask(server.script(behaviours.answer(304)), FILE, None, TIMEOUT)


@pytest.mark.parametrize(("status", "permanent"), [(404, True), (503, False), (429, False)])
def test_a_refusal_is_no_unchanged(server, behaviours, status: int, permanent: bool) -> None:
    mirror = server.script(behaviours.answer(status))
    with pytest.raises(RefusedError, match=str(status)) as caught:
        ask(mirror, FILE, Seen(len(DATA), SHA256, '"v1"'), TIMEOUT)
    assert caught.value.permanent is permanent


def test_half_an_answer_is_no_answer(server, behaviours) -> None:
    mirror = server.script(behaviours.serve_without_range(DATA, stop_after=100))
    with pytest.raises(InterruptedTransferError, match="closed early"):
        ask(mirror, FILE, None, TIMEOUT)


def test_a_folder_is_read_only_where_size_or_time_have_changed(tmp_path: Path) -> None:
    path = tmp_path / FILE.name
    path.write_bytes(DATA)
    first = ask(str(tmp_path), FILE, None, TIMEOUT)
    assert first.how == "read"
    assert ask(tmp_path.as_uri(), FILE, first.seen, TIMEOUT).how == "same size and time"
    os.utime(path, (1, 1))
    touched = ask(str(tmp_path), FILE, first.seen, TIMEOUT)
    assert (touched.how, touched.seen.sha256) == ("read", SHA256)
    path.write_bytes(DATA[:-1])
    assert ask(str(tmp_path), FILE, touched.seen, TIMEOUT).how == "another size"


def test_time_and_size_are_not_believed_against_the_dataset(tmp_path: Path) -> None:
    """Clocks are coarse: a file can be replaced by one of the same size within a tick."""
    path = tmp_path / FILE.name
    path.write_bytes(DATA[::-1])
    old = Seen(len(DATA), "00" * 32, modified_ns=path.stat().st_mtime_ns)
    asked = ask(str(tmp_path), FILE, old, TIMEOUT)
    assert (asked.how, asked.seen.sha256) == ("read", hashlib.sha256(DATA[::-1]).hexdigest())


def test_a_folder_without_the_file(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="no such file"):
        ask(str(tmp_path), FILE, None, TIMEOUT)
