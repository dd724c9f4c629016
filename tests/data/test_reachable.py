"""Whether any mirror answers, asked quickly."""

import hashlib
import pickle

import pytest

from digitflow.tasks.data.datasets.sources import SourceFile
from digitflow.tasks.data.download.fetch import NoMirrorReachable, reachable
from tests.patience import PATIENCE

NAME = "train-images-idx3-ubyte.gz"
DATA = b"some bytes" * 1000
FILE = SourceFile("training_images", NAME, hashlib.sha256(DATA).hexdigest(), len(DATA))


def test_one_mirror_is_enough_and_slow_ones_are_not_waited_for(start_server, behaviours):
    slow, refusing, good = start_server(), start_server(), start_server()
    slow.script(behaviours.stall())
    refusing.script(behaviours.answer(404))
    good.script(behaviours.serve(DATA))
    reachable([FILE], [slow.url, refusing.url, good.url], timeout=PATIENCE)
    assert not slow.waited_out


@pytest.mark.parametrize("file", [FILE, NAME])
def test_first_file_is_asked_for(server, behaviours, file):
    reachable([file, "other"], [server.script(behaviours.serve(DATA))])
    assert [path for path, _ in server.asked] == [f"/mnist/{NAME}"]


def test_directory_is_a_mirror(tmp_path):
    (tmp_path / NAME).write_bytes(DATA)
    reachable([FILE], [str(tmp_path)])


def test_reasons_one_line_each(start_server, behaviours, tmp_path):
    missing, portal, closed = (start_server() for _ in range(3))
    missing.script(behaviours.answer(404))
    portal.script(behaviours.serve(b"<html>log in</html>"))
    closed.shutdown()
    closed.server_close()
    mirrors = [missing.url, portal.url, closed.url]
    mirrors += ["https://user:secret@mirror.invalid/", str(tmp_path)]
    with pytest.raises(NoMirrorReachable) as caught:
        reachable([FILE], mirrors, timeout=PATIENCE)
    assert str(caught.value).splitlines() == [
        f"no mirror has {NAME} to give:",
        f"  {missing.url}: 404 Not Found",
        f"  {portal.url}: wrong bytes: expected a file of 10,000 bytes, it offers 19",
        f"  {closed.url}: connection refused",
        "  https://mirror.invalid/: no network: name not resolved",
        f"  {tmp_path}: no such file or directory",
    ]
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


# Whichever of the two clocks is first.
SILENT = "no answer within 1 s|no data for 1 s"


def test_silence_counts_as_no(server, behaviours):
    url = server.script(behaviours.stall())
    with pytest.raises(NoMirrorReachable, match=SILENT):
        reachable([FILE], [url], timeout=1.0)
    assert not server.waited_out


def test_slow_redirects_do_not_add_up(server, behaviours):
    """Each comes in time, and all that are followed would not."""
    url = server.script(behaviours.pause(0.6, behaviours.answer(302, Location="/round")))
    with pytest.raises(NoMirrorReachable, match=SILENT):
        reachable([FILE], [url], timeout=1.0)


@pytest.mark.parametrize(("seconds", "waited_for"), [(300, True), (301, False)])
def test_a_busy_mirror_counts_if_a_download_would_wait_for_it(
    server, behaviours, seconds, waited_for
):
    url = server.script(behaviours.answer(503, Retry_After=seconds))
    if waited_for:
        reachable([FILE], [url])
    else:
        with pytest.raises(NoMirrorReachable, match="asks to be left alone for 301 s"):
            reachable([FILE], [url])
    assert len(server.asked) == 1


def test_no_mirrors():
    with pytest.raises(NoMirrorReachable):
        reachable([FILE], [])


def test_no_files(tmp_path):
    with pytest.raises(ValueError, match="expected at least one file"):
        reachable([], [str(tmp_path)])
