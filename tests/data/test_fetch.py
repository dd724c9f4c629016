"""Every way a mirror can fail ends in verified bytes or in an error that says what to do."""

import hashlib
import pickle
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, formatdate
from http import HTTPStatus
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from digitflow.tasks.data.download.fetch import FetchError, MirrorFailure, fetch
from digitflow.tasks.data.download.waiting import Limits
from tests.patience import PATIENCE, wait_for

NAME = "train-images-idx3-ubyte.gz"
DATA = np.random.default_rng(5).bytes(700_001)
WRONG = DATA[:350_000] + b"?" + DATA[350_001:]
SHA256 = hashlib.sha256(DATA).hexdigest()
PATIENT = (PATIENCE, PATIENCE)
QUICK = (PATIENCE, 2.0)  # for what stalls on purpose
PACE = 0.05  # seconds between two bytes of a mirror that drips
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "scratch"


def get(folder: Path, *mirrors: str, data: bytes = DATA, **more: Any) -> Path:
    """Fetch `data`, and see that its name is borne by the right bytes or by none."""
    digest = hashlib.sha256(data).hexdigest()
    try:
        path = fetch(
            NAME,
            sha256=digest,
            size=len(data),
            mirrors=mirrors,
            folder=folder,
            **{"timeout": PATIENT, **more},
        )
    except BaseException:
        assert not (folder / NAME).exists()
        part = folder / f"{NAME}.part"
        assert not part.exists() or part.stat().st_size <= len(data)
        raise
    assert path == folder / NAME
    assert path.read_bytes() == data
    assert [each.name for each in folder.iterdir()] == [NAME]
    return path


def failure_of(folder: Path, *mirrors: str, **more: Any) -> FetchError:
    with pytest.raises(FetchError) as caught:
        get(folder, *mirrors, **more)
    return caught.value


def leave_part(folder: Path, data: bytes) -> None:
    folder.mkdir()
    (folder / f"{NAME}.part").write_bytes(data)


# What goes well


def test_downloads_and_reports_progress(server, behaviours, folder):
    seen: list[tuple[int, int]] = []
    get(
        folder,
        server.script(behaviours.serve(DATA)),
        progress=lambda *numbers: seen.append(numbers),
    )
    assert seen[0] == (0, len(DATA))
    assert seen[-1] == (len(DATA), len(DATA))
    assert seen == sorted(seen)
    assert [path for path, _ in server.asked] == [f"/mnist/{NAME}"]
    assert server.asked[0][1]["Accept-Encoding"] == "identity"


def test_verified_file_is_not_asked_for_again(server, behaviours, folder):
    url = server.script(behaviours.serve(DATA))
    get(folder, url)
    get(folder, url)
    assert len(server.asked) == 1


def test_damaged_file_is_replaced(server, behaviours, folder):
    folder.mkdir()
    (folder / NAME).write_bytes(WRONG)
    get(folder, server.script(behaviours.serve(DATA)))


def test_damaged_file_does_not_stay_where_nobody_replaces_it(server, behaviours, folder):
    folder.mkdir()
    (folder / NAME).write_bytes(WRONG)
    failure_of(folder, server.script(behaviours.answer(404)))


def test_empty_file(server, behaviours, folder):
    get(folder, server.script(behaviours.serve(b"")), data=b"")


@pytest.mark.parametrize("form", ["{}", "{}/", "file://{}", "file://localhost{}/"])
def test_directory_is_a_mirror(tmp_path, folder, form):
    mirror = tmp_path / "my mirror"
    mirror.mkdir()
    (mirror / NAME).write_bytes(DATA)
    path = str(mirror).replace(" ", "%20") if form.startswith("file") else str(mirror)
    get(folder, form.format(path))


def test_mirror_with_query_keeps_it_behind_the_name(server, behaviours, folder):
    get(folder, server.script(behaviours.serve(DATA)) + "?signature=secret")
    assert server.asked[0][0] == f"/mnist/{NAME}?signature=secret"


def test_content_encoding_label_is_no_reason_to_decode(server, behaviours, folder):
    # Servers that label .gz files so send them as they are.
    get(folder, server.script(behaviours.answer(200, DATA, Content_Encoding="gzip")))


def test_answer_without_length(server, behaviours, folder):
    get(folder, server.script(behaviours.serve_without_length(DATA)))


def test_chunked_answer(server, behaviours, folder):
    url = server.script(
        behaviours.serve_chunked(DATA, stop_after=200_000), behaviours.serve_chunked(DATA)
    )
    get(folder, url)
    assert server.ranges == [None, "bytes=200000-"]


def test_connection_that_stays_open_is_not_waited_for(server, behaviours, folder):
    get(folder, server.script(behaviours.serve_and_keep_alive(DATA)))
    assert not server.waited_out


def test_stall_after_the_last_byte_does_no_harm(server, behaviours, folder):
    get(folder, server.script(behaviours.serve_without_length(DATA, then="stall")), timeout=QUICK)
    assert len(server.asked) == 1


def test_redirect_is_followed_with_the_range(server, behaviours, folder):
    leave_part(folder, DATA[:1000])
    url = server.script(behaviours.answer(302, Location="/else/where"), behaviours.serve(DATA))
    get(folder, url)
    assert [path for path, _ in server.asked] == [f"/mnist/{NAME}", "/else/where"]
    assert server.ranges == ["bytes=1000-"] * 2


def test_https(tls_server, behaviours, folder):
    get(folder, tls_server.script(behaviours.serve(DATA)))


# Resuming


def test_part_of_a_killed_process_is_resumed(server, behaviours, folder):
    leave_part(folder, DATA[:300_000])
    seen: list[tuple[int, int]] = []
    get(
        folder,
        server.script(behaviours.serve(DATA)),
        progress=lambda *numbers: seen.append(numbers),
    )
    assert server.ranges == ["bytes=300000-"]
    assert seen[0] == (300_000, len(DATA))


def test_interrupted_call_leaves_its_part_for_the_next(server, behaviours, folder):
    def stop(done: int, total: int) -> None:
        if done > 100_000:
            raise KeyboardInterrupt

    url = server.script(behaviours.serve(DATA))
    with pytest.raises(KeyboardInterrupt):
        get(folder, url, progress=stop)
    arrived = (folder / f"{NAME}.part").stat().st_size
    assert arrived > 100_000
    get(folder, url)
    assert server.ranges == [None, f"bytes={arrived}-"]


def test_process_killed_in_mid_transfer_is_taken_up(server, behaviours, folder):
    url = server.script(
        behaviours.serve(DATA, stop_after=400_000, then="stall"), behaviours.serve(DATA)
    )
    code = (
        "import sys, pathlib; from digitflow.tasks.data.download.fetch import fetch; "
        "name, sha256, size, url, folder = sys.argv[1:]; "
        "fetch(name, sha256=sha256, size=int(size), mirrors=[url], folder=pathlib.Path(folder))"
    )
    arguments = [NAME, SHA256, str(len(DATA)), url, str(folder)]
    child = subprocess.Popen([sys.executable, "-c", code, *arguments], cwd=ROOT)
    part = folder / f"{NAME}.part"
    try:
        wait_for(lambda: part.exists() and part.stat().st_size > 300_000, "300 kB of the file")
    finally:
        child.kill()
        child.wait()
    assert not (folder / NAME).exists()
    left = part.stat().st_size
    get(folder, url)
    assert server.ranges == [None, f"bytes={left}-"]


def test_complete_part_needs_no_mirror(server, behaviours, folder):
    leave_part(folder, DATA)
    get(folder, server.script(behaviours.serve(DATA)))
    assert server.asked == []


@pytest.mark.parametrize("left", [WRONG, DATA + b"!", b"?" * 2_000_000])
def test_wrong_complete_or_overlong_part_is_dropped(server, behaviours, folder, left):
    leave_part(folder, left)
    get(folder, server.script(behaviours.serve(DATA)))
    assert server.ranges == [None]


def test_wrong_part_is_downloaded_once_more_from_zero(server, behaviours, folder):
    leave_part(folder, b"other bytes")
    get(folder, server.script(behaviours.serve(DATA)))
    assert server.ranges == ["bytes=11-", None]


def test_directory_resumes_too(tmp_path, folder):
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    (mirror / NAME).write_bytes(DATA)
    leave_part(folder, DATA[:300_000])
    seen: list[int] = []
    get(folder, str(mirror), progress=lambda done, total: seen.append(done))
    assert seen[0] == 300_000
    assert seen == sorted(seen)  # it did not start over


@pytest.mark.parametrize("then", ["close", "reset", "stall"])
def test_broken_transfer_is_resumed_at_once(server, behaviours, folder, then):
    url = server.script(
        behaviours.serve(DATA, stop_after=200_000, then=then),
        behaviours.serve(DATA, stop_after=200_000, then=then),
        behaviours.serve(DATA),
    )
    get(folder, url, timeout=QUICK if then == "stall" else PATIENT)
    first, *later = server.ranges
    assert first is None
    begins = [int(each.removeprefix("bytes=").rstrip("-")) for each in later]
    assert begins[-1] > 100_000
    assert begins == sorted(set(begins))


def test_truncation_without_progress_goes_to_the_next_mirror(start_server, behaviours, folder):
    bad, good = start_server(), start_server()
    bad.script(behaviours.serve(DATA, stop_after=0))
    get(folder, bad.url, good.script(behaviours.serve(DATA)))
    assert len(bad.asked) == 1


def test_next_mirror_goes_on_from_what_the_last_one_sent(start_server, behaviours, folder):
    first, second = start_server(), start_server()
    first.script(behaviours.serve(DATA, stop_after=200_000), behaviours.answer(503))
    second.script(behaviours.serve(DATA))
    get(folder, first.url, second.url)
    assert second.ranges == ["bytes=200000-"]


def test_answer_that_ignores_the_range_starts_over(server, behaviours, folder):
    leave_part(folder, DATA[:1000])
    get(folder, server.script(behaviours.serve_without_range(DATA)))
    assert server.ranges == ["bytes=1000-"]


def test_server_without_ranges_that_truncates_is_not_asked_for_ever(server, behaviours, folder):
    error = failure_of(folder, server.script(behaviours.serve_without_range(DATA, stop_after=99)))
    assert server.ranges == [None, "bytes=99-"]
    assert "connection closed early (99 of 700,001 bytes have arrived)" in str(error)
    assert not error.permanent


@pytest.mark.parametrize(
    "content_range",
    ["bytes 0-700000/700001", "bytes 1001-700000/700001", "items 1000-700000/700001", ""],
)
def test_wrong_content_range_starts_over(server, behaviours, folder, content_range):
    leave_part(folder, DATA[:1000])
    answer = behaviours.answer(206, DATA[1000:], Content_Range=content_range)
    get(folder, server.script(answer, behaviours.serve(DATA)))
    assert server.ranges == ["bytes=1000-", None]


def test_content_range_of_another_file(server, behaviours, folder):
    leave_part(folder, DATA[:1000])
    answer = behaviours.answer(206, DATA[1000:], Content_Range="bytes 1000-700000/999999")
    error = failure_of(folder, server.script(answer))
    assert "wrong bytes: expected a file of 700,001 bytes, it offers 999,999" in str(error)
    assert error.permanent


def test_refused_range_starts_over(server, behaviours, folder):
    leave_part(folder, DATA[:1000])
    get(folder, server.script(behaviours.answer(416), behaviours.serve(DATA)))
    assert server.ranges == ["bytes=1000-", None]


def test_starting_over_happens_once(server, behaviours, folder):
    leave_part(folder, DATA[:1000])
    short = behaviours.serve(DATA, stop_after=500)
    error = failure_of(folder, server.script(behaviours.answer(416), short, behaviours.answer(416)))
    assert server.ranges == ["bytes=1000-", None, "bytes=500-"]
    assert "416 Requested Range Not Satisfiable" in str(error)


# What goes wrong


@pytest.mark.parametrize(
    ("status", "text", "permanent"),
    [
        (404, "404 Not Found", True),
        (403, "403 Forbidden", True),
        (410, "410 Gone", True),
        (408, "408 Request Timeout", False),
        (425, "425 Too Early", False),
        (429, "429 Too Many Requests", False),
        (500, "500 Internal Server Error", False),
        (503, "503 Service Unavailable", False),
        (599, "status 599", False),
        (204, "204 No Content", False),
        (206, "206 Partial Content", False),
        (304, "304 Not Modified", False),
    ],
)
def test_refusals(server, behaviours, folder, status, text, permanent):
    error = failure_of(folder, server.script(behaviours.answer(status)))
    assert f"  {server.url}: {text}\n" in str(error)
    assert error.permanent is permanent
    assert ("Check the network and run again" in str(error)) is not permanent
    assert "--mirror URL or DIR" in str(error)
    assert len(server.asked) == 1


def test_next_mirror_after_a_refusal(start_server, behaviours, folder):
    bad, good = start_server(), start_server()
    get(folder, bad.script(behaviours.answer(404)), good.script(behaviours.serve(DATA)))


def test_next_mirror_after_wrong_bytes(start_server, behaviours, folder):
    bad, good = start_server(), start_server()
    get(folder, bad.script(behaviours.serve(WRONG)), good.script(behaviours.serve(DATA)))
    assert bad.ranges == [None]
    assert good.ranges == [None]


def test_wrong_bytes_name_both_digests(server, behaviours, folder):
    error = failure_of(folder, server.script(behaviours.serve(WRONG)))
    found = hashlib.sha256(WRONG).hexdigest()
    assert f"wrong bytes: expected SHA-256 {SHA256}, found {found}" in str(error)
    assert error.permanent
    assert list(folder.iterdir()) == []


def test_wrong_bytes_after_resuming_are_asked_for_once_more_only(server, behaviours, folder):
    leave_part(folder, DATA[:1000])
    error = failure_of(folder, server.script(behaviours.serve(WRONG)))
    assert server.ranges == ["bytes=1000-", None]
    assert error.permanent


@pytest.mark.parametrize("other", [DATA[:-1], DATA + b"!", b"<html>log in</html>"])
def test_announced_length_of_another_file(server, behaviours, folder, other):
    error = failure_of(folder, server.script(behaviours.serve(other)))
    offers = f"wrong bytes: expected a file of 700,001 bytes, it offers {len(other):,}"
    assert offers in str(error)
    assert error.permanent


def test_too_many_bytes_are_not_taken(server, behaviours, folder):
    sizes: list[int] = []

    def watch(done: int, total: int) -> None:
        sizes.append((folder / f"{NAME}.part").stat().st_size)

    endless = behaviours.serve_without_length(DATA + DATA)
    with pytest.raises(FetchError, match="wrong bytes: expected 700,001 bytes, it sends more"):
        get(folder, server.script(endless), progress=watch)
    assert max(sizes) <= len(DATA)


@pytest.mark.parametrize(
    ("then", "text"), [("stall", "no data for 2 s"), ("reset", "connection closed early")]
)
def test_no_answer(server, behaviours, folder, then, text):
    error = failure_of(folder, server.script(getattr(behaviours, then)()), timeout=QUICK)
    assert f"  {server.url}: {text} (0 of 700,001 bytes have arrived)" in str(error)
    assert not error.permanent


def test_stall_within_the_body(server, behaviours, folder):
    url = server.script(behaviours.serve(DATA, stop_after=70_001, then="stall"), behaviours.stall())
    error = failure_of(folder, url, timeout=QUICK)
    assert "no data for 2 s (70,001 of 700,001 bytes have arrived)" in str(error)
    assert "Check the network and run again; the 70,001 bytes that have arrived" in str(error)


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 700001\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
# A byte each twentieth of a second is far below, the good server on any machine far above.
FLOOR = Limits(slowest=5_000.0, window=3.0)


@pytest.mark.parametrize(
    "start",
    [
        OK + b"\r\n",  # the file itself
        OK + b"X-Slow: ",  # headers
        b"HTTP/1.",  # the status
        CHUNKED,  # the length of a chunk
        b"HTTP/1.1 302 Found\r\nLocation: /else\r\nContent-Length: 9999\r\n\r\n",
    ],
    ids=["body", "headers", "status", "chunk", "redirect"],
)
def test_a_mirror_that_drips_is_left_for_the_next(start_server, behaviours, folder, start):
    bad, good = start_server(), start_server()
    said: list[str] = []
    bad.script(behaviours.drip(start))
    good.script(behaviours.serve(DATA))
    get(folder, bad.url, good.url, limits=FLOOR, say=said.append)
    assert len(bad.asked) == 1
    (text,) = said
    assert text.startswith(f"{bad.url}: too slow: ")
    assert text.endswith(
        f" s, where at least 5,000 a second are expected; going on with {good.url}"
    )


def test_what_has_dripped_is_kept_for_the_next(start_server, behaviours, folder):
    bad, good = start_server(), start_server()

    def drip(handler):
        handler.wfile.write(OK + b"\r\n" + DATA[:1000])
        for position in range(1000, len(DATA)):
            if handler.server.stopped.wait(PACE):
                return
            handler.wfile.write(DATA[position : position + 1])

    get(folder, bad.script(drip), good.script(behaviours.serve(DATA)), limits=FLOOR)
    assert int(good.ranges[0].removeprefix("bytes=").rstrip("-")) > 1000


def test_a_mirror_that_drips_alone_is_given_up(server, behaviours, folder):
    error = failure_of(folder, server.script(behaviours.drip(OK + b"\r\n")), limits=FLOOR)
    assert f"  {server.url}: too slow: " in str(error)
    assert "Check the network and run again; the " in str(error)
    assert not error.permanent


def test_a_byte_with_each_connection_is_a_drip(start_server, behaviours, folder):
    bad, good = start_server(), start_server()

    def one_byte(handler):
        handler.server.stopped.wait(PACE)
        begin = handler.begin()
        range_ = f"bytes {begin}-{len(DATA) - 1}/{len(DATA)}"
        headers = {"Content-Length": len(DATA) - begin, "Content-Range": range_}
        handler.reply(206 if begin else 200, headers, DATA[begin : begin + 1])

    get(folder, bad.script(one_byte), good.script(behaviours.serve(DATA)), limits=FLOOR)
    assert 1 < len(bad.asked) < 60


def test_a_directory_that_hangs_is_left(start_server, behaviours, tmp_path, folder, monkeypatch):
    """A network drive that is away: looking at a file of it does not return."""
    server, stat = start_server(), Path.stat

    def hang(self: Path, **options: Any) -> Any:
        if self == tmp_path / NAME:
            server.stopped.wait(PATIENCE)
        return stat(self, **options)

    monkeypatch.setattr(Path, "stat", hang)
    get(folder, str(tmp_path), server.script(behaviours.serve(DATA)), limits=FLOOR)


def test_a_download_ends_when_its_time_is_over(start_server, behaviours, folder):
    first, second = start_server(), start_server()
    first.script(behaviours.drip(OK + b"\r\n"))
    second.script(behaviours.serve(DATA))
    limits = Limits(slowest=0.0, total=1.0, steady=1e9)
    error = failure_of(folder, first.url, second.url, limits=limits)
    assert [failure.reason for failure in error.failures] == [
        "the 1 s that it may take have passed"
    ] * 2
    assert second.asked == []
    assert error.permanent  # trying again in a second would be more of the same
    assert "Run again later; the " in str(error)


def test_a_large_file_gets_longer():
    assert Limits().deadline(10**6).seconds == 3600
    assert Limits().deadline(10**9).seconds == 20_000
    assert Limits().deadline().seconds == 3600


def test_a_stop_ends_the_wait_for_a_silent_mirror(server, behaviours, folder):
    """It is asked for while nothing arrives, so nobody waits for the time-out."""
    asked: list[int] = []

    def stop(done: int, total: int) -> None:
        asked.append(done)
        if len(asked) > 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get(folder, server.script(behaviours.stall()), progress=stop, timeout=PATIENT)


# Mirrors that ask to be left alone


@pytest.fixture
def still(monkeypatch):
    """Let no time pass while mirrors are waited for, but what is slept."""
    monkeypatch.setattr(
        "digitflow.tasks.data.download.waiting.time", SimpleNamespace(monotonic=lambda: 0.0)
    )


def in_seconds(seconds: float) -> str:
    return formatdate(1_700_000_000 + seconds, usegmt=True)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "25"}, 25),
        ({"Retry-After": "0"}, 1),
        ({"Retry-After": in_seconds(25), "Date": in_seconds(0)}, 25),  # whatever our clock says
        ({"Retry-After": in_seconds(-5), "Date": in_seconds(0)}, 1),
        ({"Retry-After": "Tue, 14 Nov 2023 23:13:45 +0100", "Date": in_seconds(0)}, 25),
        ({"Retry-After": in_seconds(0), "Date": "now"}, 1),  # it shows no clock: ours counts
    ],
)
def test_a_mirror_is_asked_again_when_it_said(
    server, behaviours, folder, still, status, headers, seconds
):
    slept: list[float] = []
    said: list[str] = []
    busy = behaviours.answer(status, **{"Retry-After": "", **headers})
    url = server.script(busy, behaviours.serve(DATA))
    get(folder, url, say=said.append, sleep=slept.append)
    assert len(server.asked) == 2
    assert sum(slept) == seconds
    (text,) = said
    reason = f"{status} {HTTPStatus(status).phrase}, and asks to be left alone for {seconds} s"
    assert text.startswith(f"{url}: {reason}; asked again in ")


def test_a_date_without_a_servers_clock_counts_from_ours(
    server, behaviours, folder, still, monkeypatch
):
    slept: list[float] = []
    ours = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    clock = SimpleNamespace(now=lambda zone: ours.astimezone(zone))
    monkeypatch.setattr("digitflow.tasks.data.download.mirrors.datetime", clock)
    moment = format_datetime(ours + timedelta(seconds=200), usegmt=True)

    def busy(handler):
        handler.wfile.write(f"HTTP/1.1 503 Busy\r\nRetry-After: {moment}\r\n\r\n".encode())

    get(folder, server.script(busy, behaviours.serve(DATA)), sleep=slept.append)
    assert sum(slept) == 200


TOO_LARGE = [f"Fri, 31 Dec {'9' * 20} 23:59:59 GMT", f"Fri, 31 Dec 2027 23:59:59 +{'9' * 20}"]


@pytest.mark.parametrize("value", ["", "soon", "-5", "1e3", "٥", "12 parsecs", *TOO_LARGE])
def test_what_is_no_retry_after_is_ignored(server, behaviours, folder, value):
    url = server.script(behaviours.answer(429, Retry_After=value.encode().decode("latin-1")))
    error = failure_of(folder, url, sleep=pytest.fail)
    assert f"{url}: 429 Too Many Requests\n" in str(error)


@pytest.mark.parametrize("date", TOO_LARGE)
def test_a_clock_that_shows_no_time_is_ignored(server, behaviours, folder, still, date):
    busy = behaviours.answer(503, **{"Retry-After": in_seconds(0), "Date": date})
    slept: list[float] = []
    get(folder, server.script(busy, behaviours.serve(DATA)), sleep=slept.append)
    assert sum(slept) == 1


def test_a_length_that_is_no_number_counts_as_none(server, behaviours, folder):
    def serve(handler):
        length = "9" * 5000
        handler.wfile.write(f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n".encode())
        handler.wfile.write(DATA)

    assert get(folder, server.script(serve)).read_bytes() == DATA


def test_a_range_that_is_no_number_is_asked_for_again_from_zero(server, behaviours, folder):
    def serve_a_wrong_range(handler):
        begin = f"bytes {'9' * 5000}-{'9' * 5000}/{'9' * 5000}"
        handler.wfile.write(f"HTTP/1.1 206 Part\r\nContent-Range: {begin}\r\n\r\n".encode())

    folder.mkdir()
    (folder / f"{NAME}.part").write_bytes(DATA[:100])
    url = server.script(serve_a_wrong_range, behaviours.serve(DATA))
    assert get(folder, url).read_bytes() == DATA


def test_others_are_asked_before_a_busy_mirror_is_waited_for(start_server, behaviours, folder):
    busy, good = start_server(), start_server()
    busy.script(behaviours.answer(429, Retry_After=25))
    get(folder, busy.url, good.script(behaviours.serve(DATA)), sleep=pytest.fail)
    assert len(busy.asked) == 1


def test_of_two_busy_mirrors_the_one_that_is_free_first_is_asked_first(
    start_server, behaviours, folder
):
    late, soon = start_server(), start_server()
    late.script(behaviours.answer(429, Retry_After=200))
    soon.script(behaviours.answer(429, Retry_After=25), behaviours.serve(DATA))
    slept: list[float] = []
    get(folder, late.url, soon.url, sleep=slept.append)
    assert sum(slept) <= 25
    assert len(late.asked) == 1


def test_a_busy_mirror_is_come_back_to_when_no_other_helps(start_server, behaviours, folder):
    busy, bad = start_server(), start_server()
    busy.script(behaviours.answer(503, Retry_After=25), behaviours.serve(DATA))
    bad.script(behaviours.answer(404))
    get(folder, busy.url, bad.url, sleep=lambda seconds: None)
    assert (len(busy.asked), len(bad.asked)) == (2, 1)


@pytest.mark.parametrize(("asked", "limit"), [("301", "300"), ("9" * 400, "300")])
def test_a_mirror_that_wants_too_long_is_left(start_server, behaviours, folder, asked, limit):
    busy, good = start_server(), start_server()
    busy.script(behaviours.answer(429, Retry_After=asked))
    good.script(behaviours.serve(DATA))
    said: list[str] = []
    get(folder, busy.url, good.url, say=said.append, sleep=pytest.fail)
    assert f"that is more than the {limit} s for which a mirror is waited for" in said[0]


def test_a_mirror_that_wants_longer_than_is_left_is_left(server, behaviours, folder):
    url = server.script(behaviours.answer(429, Retry_After=25))
    error = failure_of(folder, url, limits=Limits(total=20.0), sleep=pytest.fail)
    assert "that is more than is left of the 20 s that it may take" in str(error)
    assert "Run again later." in str(error)
    assert error.permanent


def test_a_mirror_that_is_always_busy_is_not_asked_for_ever(server, behaviours, folder):
    busy = [behaviours.answer(429, Retry_After=2)] * 9
    error = failure_of(
        folder, server.script(*busy, behaviours.serve(DATA)), sleep=lambda seconds: None
    )
    assert len(server.asked) == 4
    assert "it has been waited for 3 times already" in str(error)
    assert error.permanent


def test_a_stop_ends_a_pause(server, behaviours, folder):
    url = server.script(behaviours.answer(429, Retry_After=200))
    slept: list[float] = []

    def stop(done: int, total: int) -> None:
        if sum(slept) >= 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get(folder, url, progress=stop, sleep=slept.append)
    assert sum(slept) == 2


def test_redirect_loop(server, behaviours, folder):
    there, back = (behaviours.answer(302, Location=each) for each in ("/there", "/back"))
    url = server.script(there, back, there)
    error = failure_of(folder, url)
    root = url.removesuffix("mnist/")
    assert f"{url}: redirect loop: {root}there → {root}back → {root}there\n" in str(error)
    assert len(server.asked) == 4
    assert error.permanent


def test_redirect_loop_of_several(server, behaviours, folder):
    loop = [behaviours.answer(307, Location=f"/{each}") for each in "abcab"]
    url = server.script(*loop)
    root = url.removesuffix("mnist/")
    chain = " → ".join(f"{root}{each}" for each in "abca")
    assert f"{url}: redirect loop: {chain}\n" in str(failure_of(folder, url))
    assert len(server.asked) == 5


def test_redirect_that_sets_a_cookie_is_no_loop(server, behaviours, folder):
    here = f"/mnist/{NAME}"
    sets = behaviours.answer(302, Location=here, Set_Cookie="seen=1")
    get(folder, server.script(sets, behaviours.serve(DATA)))
    assert server.asked[1][1]["Cookie"] == "seen=1"


def test_redirects_without_end(server, folder):
    def onwards(handler):
        handler.reply(302, {"Location": f"/{len(server.asked)}"})

    url = server.script(onwards)
    assert f"{url}: redirects more than 10 times: {url}{NAME} → " in str(failure_of(folder, url))
    assert len(server.asked) == 11


def test_each_redirect_is_followed_on_a_connection_of_its_own(server, behaviours, folder):
    """One that still looks open, and that the server is about to close, ends a request early."""
    used = []

    def redirect(handler):
        used.append(handler.connection)
        head = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: /else\r\n\r\n"
        handler.wfile.write(head)
        handler.close_connection = False  # whatever it was asked

    def serve(handler):
        hang_up = behaviours.reset()
        (hang_up if handler.connection in used else behaviours.serve(DATA))(handler)

    get(folder, server.script(redirect, serve))
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    "target",
    ["file:///etc/passwd", "ftp://host/x", "gopher://host/x", "data:,x", "javascript:x"],
)
def test_redirect_that_leaves_http_is_refused(server, behaviours, folder, target):
    url = server.script(behaviours.answer(302, Location=target))
    error = failure_of(folder, url)
    assert f"{url}: redirects from http to {target}, refused" in str(error)
    assert "InvalidSchema" not in str(error)
    assert error.permanent


@pytest.mark.parametrize("target", ["http://[bad/", "http://host:99999/", "http://:80/"])
def test_redirect_to_what_is_no_url(server, behaviours, folder, target):
    error = failure_of(folder, server.script(behaviours.answer(302, Location=target)))
    assert "not a valid URL" in str(error)


def test_redirect_from_https_to_http_is_refused(tls_server, server, behaviours, folder):
    server.script(behaviours.serve(DATA))
    error = failure_of(folder, tls_server.script(behaviours.answer(301, Location=server.url)))
    assert f"redirects from https to {server.url}, refused" in str(error)
    assert server.asked == []


def test_redirect_without_a_place(server, behaviours, folder):
    assert "302 Found" in str(failure_of(folder, server.script(behaviours.answer(302))))


def test_untrusted_certificate(tls_server, behaviours, folder, monkeypatch):
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    error = failure_of(folder, tls_server.script(behaviours.serve(DATA)))
    assert "TLS failed: self" in str(error)


def test_nobody_listens(start_server, folder):
    closed = start_server()
    url = closed.url
    closed.shutdown()
    closed.server_close()
    assert f"{url}: connection refused" in str(failure_of(folder, url))


def test_unresolvable_name(folder):
    # RFC 2606 reserves .invalid.
    error = failure_of(folder, "https://mirror.invalid/")
    assert "https://mirror.invalid/: no network: name not resolved" in str(error)
    assert not error.permanent


def test_directories_that_do_not_help(tmp_path, folder):
    empty, wrong, pipe = tmp_path / "empty", tmp_path / "wrong", tmp_path / "odd"
    for directory in (empty, wrong, pipe):
        directory.mkdir()
    (wrong / NAME).write_bytes(WRONG)
    (pipe / NAME).mkdir()
    mirrors = [str(empty), str(tmp_path / "none"), str(wrong), str(pipe), "file://host/x"]
    error = failure_of(folder, *mirrors, "ftp://host/")
    assert [failure.reason.split(",")[0] for failure in error.failures] == [
        "no such file or directory",
        "no such directory",
        f"wrong bytes: expected SHA-256 {SHA256}",
        "not a regular file",
        "expected file:///path",
        "expected http(s)://",
    ]
    assert error.permanent


def test_all_mirrors_are_listed_in_order(start_server, behaviours, folder):
    first, second = start_server(), start_server()
    first.script(behaviours.answer(404))
    second.script(behaviours.answer(503))
    error = failure_of(folder, first.url, second.url)
    assert str(error).splitlines()[:3] == [
        f"{NAME} could not be had from any mirror:",
        f"  {first.url}: 404 Not Found",
        f"  {second.url}: 503 Service Unavailable",
    ]
    assert not error.permanent  # the second may get well


def test_credentials_are_not_shown(server, behaviours, folder):
    url = server.script(behaviours.answer(404)).replace("http://", "http://user:secret@")
    error = failure_of(folder, url + "?signature=secret")
    assert "secret" not in str(error) + repr(error)
    assert server.asked[0][1]["Authorization"].startswith("Basic ")


def test_errors_survive_pickling():
    error = FetchError(NAME, (MirrorFailure("http://a/", "404 Not Found", True),), 7)
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error)
    assert copy.permanent is True


@pytest.mark.parametrize("name", ["../x", "a/b", "", "..", "a\\b", "a\nb"])
def test_names_that_lead_elsewhere(tmp_path, folder, name):
    with pytest.raises(ValueError, match="expected a plain file name"):
        fetch(name, sha256=SHA256, size=1, mirrors=[str(tmp_path)], folder=folder)


def test_no_mirrors(folder):
    with pytest.raises(ValueError, match="expected at least one mirror"):
        fetch(NAME, sha256=SHA256, size=1, mirrors=[], folder=folder)


def test_folder_that_cannot_be_written_is_no_mirrors_fault(server, behaviours, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="file"):
        get(tmp_path / "file" / "folder", server.script(behaviours.serve(DATA)))
    assert server.asked == []


def test_no_thread_is_left_behind(server, behaviours, folder):
    before = threading.active_count()
    get(folder, server.script(behaviours.serve(DATA)))
    assert threading.active_count() <= before + 1  # the server's own
