"""Has the data changed? Asked of several mirrors, some of which are silent or wrong."""

import hashlib
from pathlib import Path

import pytest

from digitflow.tasks.data.datasets.sources import ROLES, SourceFile
from digitflow.tasks.data.download.source_check import (
    CHANGED,
    FIRST,
    OTHER,
    UNCHANGED,
    UNKNOWN,
    SourceAnswer,
    check,
)
from digitflow.tasks.data.download.waiting import Limits

CONTENTS = {f"{role}.gz": role.encode() * 50 for role in ROLES}
NOWHERE = "http://127.0.0.1:9/mnist/"  # the discard port: nobody listens


def files(contents: dict[str, bytes] = CONTENTS) -> list[SourceFile]:
    return [
        SourceFile(name.removesuffix(".gz"), name, hashlib.sha256(data).hexdigest(), len(data))
        for name, data in contents.items()
    ]


def digests(contents: dict[str, bytes] = CONTENTS) -> dict[str, str]:
    return {file.name: file.sha256 for file in files(contents)}


def fill(folder: Path, contents: dict[str, bytes] = CONTENTS) -> str:
    folder.mkdir(exist_ok=True)
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    return str(folder)


def verdicts(answer: SourceAnswer) -> set[str]:
    return {file.verdict for file in answer.files}


def test_first_then_unchanged_then_changed(tmp_path: Path) -> None:
    mirror = fill(tmp_path / "a")
    first = check(files(), [mirror], {}, {})
    assert verdicts(first) == {FIRST}
    again = check(files(), [mirror], digests(), first.seen)
    assert verdicts(again) == {UNCHANGED}
    assert {file.how for file in again.files} == {"same size and time"}
    new = {**CONTENTS, "training_labels.gz": b"new"}
    fill(tmp_path / "a", new)
    changed = check(files(new), [mirror], digests(), again.seen)
    assert changed.changed == ("training_labels.gz",)
    assert verdicts(changed) == {CHANGED, UNCHANGED}
    assert not changed.unconfirmed


def test_a_file_that_the_dataset_did_not_have_is_a_change(tmp_path: Path) -> None:
    before = {name: sha256 for name, sha256 in digests().items() if "labels" not in name}
    answer = check(files(), [fill(tmp_path)], before, {})
    assert answer.changed == ("training_labels.gz", "test_labels.gz")


def test_a_silent_mirror_is_no_unchanged(tmp_path: Path) -> None:
    seen = check(files(), [fill(tmp_path / "a")], {}, {}).seen
    answer = check(files(), [NOWHERE], digests(), seen)
    assert verdicts(answer) == {UNKNOWN}
    assert len(answer.unconfirmed) == 4
    assert answer.files[0].how == f"{NOWHERE}: connection refused"
    assert not answer.files[0].permanent  # asking again may help
    assert not answer.changed


def test_another_mirror_answers_for_a_silent_one(tmp_path: Path) -> None:
    answer = check(files(), [NOWHERE, fill(tmp_path)], digests(), {})
    assert verdicts(answer) == {UNCHANGED}  # whoever said so last time
    assert answer.files[0].mirror == str(tmp_path)


def test_a_silent_mirror_is_asked_once(server, behaviours, tmp_path: Path) -> None:
    mirror = server.script(behaviours.reset())
    check(files(), [mirror, fill(tmp_path)], {}, {})
    assert len(server.asked) == 1


def test_a_mirror_that_drips_is_left_once_for_all_files(server, behaviours, tmp_path: Path) -> None:
    mirror = server.script(behaviours.drip(b"HTTP/1.1 200 OK\r\nX-Slow: "))
    floor = Limits(slowest=5_000.0, window=3.0)
    answer = check(files(), [mirror, fill(tmp_path)], {}, {}, limits=floor)
    assert verdicts(answer) == {FIRST}
    assert len(server.asked) == 1


@pytest.mark.parametrize("wrong", ["Date", "Last-Modified"])
@pytest.mark.parametrize("year", ["soon", "9" * 20])
def test_a_time_that_is_none_proves_nothing(server, behaviours, wrong: str, year: str) -> None:
    times = dict.fromkeys(("Date", "Last-Modified"), "Fri, 31 Dec 2021 23:59:59 GMT")
    times[wrong] = times[wrong].replace("2021", year)
    mirror = server.script(*(behaviours.answer(200, data, **times) for data in CONTENTS.values()))
    answer = check(files(), [mirror], {}, {})
    assert verdicts(answer) == {FIRST}
    assert {seen.last_modified for seen in answer.seen[mirror].values()} == {None}


def test_a_busy_mirror_is_asked_again_when_it_said(server, behaviours) -> None:
    busy = behaviours.answer(429, Retry_After=25)
    right = [behaviours.answer(200, data) for data in CONTENTS.values()]
    slept: list[float] = []
    said: list[str] = []
    mirror = server.script(busy, *right)
    answer = check(files(), [mirror], {}, {}, say=said.append, sleep=slept.append)
    assert verdicts(answer) == {FIRST}
    assert len(server.asked) == 5
    assert 0 < sum(slept) <= 25
    (text,) = said
    assert "and asks to be left alone for 25 s; asked again in " in text


def test_a_mirror_that_wants_too_long_is_asked_once_for_all_files(server, behaviours) -> None:
    mirror = server.script(behaviours.answer(503, Retry_After=3600))
    answer = check(files(), [mirror], {}, {}, sleep=pytest.fail)
    assert verdicts(answer) == {UNKNOWN}
    assert len(server.asked) == 1
    assert all("asks to be left alone for 3,600 s" in file.how for file in answer.files)
    assert all(file.permanent for file in answer.files)  # not before an hour has passed


def test_all_files_together_have_a_deadline(server, behaviours, tmp_path: Path) -> None:
    mirror = server.script(behaviours.drip(b"HTTP/1.1 200 OK\r\nX-Slow: "))
    limits = Limits(slowest=0.0, total=1.0, steady=1e9)
    answer = check(files(), [mirror, fill(tmp_path)], {}, {}, limits=limits)
    assert verdicts(answer) == {UNKNOWN}
    over = "the 1 s that it may take have passed"
    assert {file.how for file in answer.files} == {f"{mirror}: {over}; {tmp_path}: {over}"}
    assert len(server.asked) == 1


def test_other_bytes_are_said_and_are_no_change_of_the_dataset(tmp_path: Path) -> None:
    wrong = fill(tmp_path / "a", {**CONTENTS, "test_labels.gz": b"<html>Log in"})
    answer = check(files(), [wrong], digests(), {})
    [file] = answer.unconfirmed
    assert (file.name, file.verdict) == ("test_labels.gz", OTHER)
    assert file.how == f"{wrong}: 12 bytes where the dataset has 550"
    assert not answer.changed
    same_size = fill(tmp_path / "b", {**CONTENTS, "test_labels.gz": bytes(550)})
    [file] = check(files(), [same_size], digests(), {}).unconfirmed
    assert "SHA-256" in file.how
    # One that serves the right ones puts that right.
    right = check(files(), [wrong, fill(tmp_path / "c")], digests(), {})
    assert verdicts(right) == {UNCHANGED}


def test_credentials_are_neither_shown_nor_remembered(server, behaviours) -> None:
    url = server.script(behaviours.answer(200, CONTENTS["training_images.gz"], ETag='"v1"'))
    secret = url.replace("http://", "http://me:secret@") + "?signature=secret"
    answer = check(files()[:1], [secret], {}, {})
    assert verdicts(answer) == {FIRST}
    assert "secret" not in repr(answer)
    assert list(answer.seen) == [url]
