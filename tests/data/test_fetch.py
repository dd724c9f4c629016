"""Every way a mirror can fail ends in verified bytes or in an error that says what to do."""

import hashlib
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.data.fetch import FetchError, MirrorFailure, fetch
from tests.patience import PATIENCE, wait_for

NAME = "train-images-idx3-ubyte.gz"
DATA = np.random.default_rng(5).bytes(700_001)
WRONG = DATA[:350_000] + b"?" + DATA[350_001:]
SHA256 = hashlib.sha256(DATA).hexdigest()
PATIENT = (PATIENCE, PATIENCE)
QUICK = (PATIENCE, 2.0)  # for what stalls on purpose
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
        "import sys, pathlib; from tasks.data.fetch import fetch; "
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


def test_redirect_loop(server, behaviours, folder):
    url = server.script(behaviours.answer(302, Location="/round"))
    error = failure_of(folder, url)
    assert "redirects more than 10 times, last to http://127.0.0.1" in str(error)
    assert len(server.asked) == 11


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
