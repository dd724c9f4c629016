"""Two users of one machine: a store's URL is for both, its path for whoever ran there first."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from digitflow.storage.errors import StoreUnusableError
from digitflow.storage.store import Store
from tests.mnist import ROOT
from tests.patience import PATIENCE

OWNER, OTHER, STRANGER = 7001, 7002, 7003
GROUPS = {OWNER: 7000, OTHER: 7000, STRANGER: 7003}
RUN = (
    "-c",
    "import digitflow, sys; done = digitflow.run('sample', epochs=1, training_sample=40, "
    "test_sample=20, dpi=40, seed=int(sys.argv[1])); print(*{each.cached for each in done.stages})",
)
BY_URL = "several share one by its URL"

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def may_be_others() -> bool:
    if not all(shutil.which(name) for name in ("unshare", "setpriv")) or os.geteuid() != 0:
        return False
    return subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode == 0


pytestmark = pytest.mark.skipif(not may_be_others(), reason="needs root, unshare and setpriv")


@pytest.fixture
def run_as(tmp_path: Path) -> Run:
    """Run Python as a user with a umask, by default `python -m digitflow`."""
    tmp_path.chmod(0o755)
    way = open_way(tmp_path / "mounts", (Path(sys.base_prefix), Path(sys.prefix), ROOT, tmp_path))

    def run(
        user: int, umask: int, store: Path | str, *arguments: str
    ) -> subprocess.CompletedProcess[str]:
        home = tmp_path / str(user)
        home.mkdir(exist_ok=True)
        os.chown(home, user, GROUPS[user])
        ids = ("--reuid", str(user), "--regid", str(GROUPS[user]), "--clear-groups")
        typed = arguments if arguments[0] == "-c" else ("-m", "digitflow", *arguments)
        command = shlex.join(["setpriv", *ids, sys.executable, *typed])
        script = f"{way}\ncd {shlex.quote(str(home))}\numask {umask:03o}\nexec {command}"
        return subprocess.run(
            ["unshare", "--mount", "sh", "-ec", script],
            env={**os.environ, "HOME": str(home), "DIGITFLOW_STORE": str(store), "COLUMNS": "999"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    return run


def open_way(aside: Path, places: tuple[Path, ...]) -> str:
    """Return commands that let any user reach places below folders that only root may enter.

    What else lies in such a folder is hidden: they are for a mount namespace of its own.
    """
    aside.mkdir()
    closed = {
        place.resolve(): shut[-1]
        for place in places
        if (shut := [each for each in place.resolve().parents if not each.stat().st_mode & 1])
    }
    stays = {place: aside / str(n) for n, place in enumerate(closed)}
    there = {place: shlex.quote(str(place)) for place in (*closed, *closed.values())}
    lines = [f"mount -t tmpfs -o mode=755 none {shlex.quote(str(aside))}"]
    lines += [f"mkdir {stay}; mount --bind {there[place]} {stay}" for place, stay in stays.items()]
    lines += [
        f"exec {n}<{stay}" for n, stay in enumerate(stays.values(), start=3)
    ]  # reached by what is open, wherever the way there has gone
    lines += [f"mount -t tmpfs -o mode=755 none {there[top]}" for top in {*closed.values()}]
    lines += [
        f"mkdir -p {there[place]}; mount --bind /proc/self/fd/{n} {there[place]}; exec {n}<&-"
        for n, place in enumerate(closed, start=3)
    ]
    return "\n".join(lines)


def folder_of_the_group(folder: Path, mode: int = 0o2770) -> Path:
    folder.mkdir()
    os.chown(folder, OWNER, GROUPS[OWNER])
    folder.chmod(mode)
    return folder


def test_by_its_url_a_store_is_both_of_theirs(run_as: Run, tmp_path: Path) -> None:
    """Whatever the umask: the group may do what it may in the folder that was made for it."""
    umask = 0o077
    url = f"file://{folder_of_the_group(tmp_path / 'team')}"
    for user, seed, states in ((OWNER, 1, "False"), (OTHER, 1, "True"), (OTHER, 2, None)):
        done = run_as(user, umask, url, *RUN, str(seed))
        assert done.returncode == 0, done.stderr
        assert states is None or done.stdout.split() == [states], done.stdout
    assert run_as(OWNER, umask, url, *RUN, "2").stdout.split() == ["True"]
    for command in (
        ["models", "promote", "1"],
        ["verify", "--shared", "--repair"],
        ["gc", "--shared", "--keep-days", "14", "--apply"],
    ):
        done = run_as(OTHER, umask, url, *command)
        assert done.returncode == 0, done.stderr
    assert "champion" in run_as(OWNER, umask, url, "models").stdout
    refused = run_as(STRANGER, umask, url, "runs")
    assert refused.returncode == 1
    assert "Permission denied" in refused.stderr


def test_by_its_path_a_store_is_one_users(run_as: Run, tmp_path: Path) -> None:
    """Another one may look, where the folder lets them, and is told before any work."""
    store = folder_of_the_group(tmp_path / "team") / "store"
    assert run_as(OWNER, 0o002, store, *RUN, "1").returncode == 0
    before = {path: path.lstat().st_mtime_ns for path in store.rglob("*") if path.is_file()}
    for command in (["runs"], ["status"], ["verify"], ["gc"]):
        done = run_as(OTHER, 0o002, store, *command)
        assert done.returncode == 0, done.stderr
    for command in (
        ["run", "--dataset", "sample"],
        ["verify", "--repair"],
        ["gc", "--apply", "--keep-days", "0"],
    ):
        done = run_as(OTHER, 0o002, store, *command)
        assert done.returncode == 1
        assert f"expected a store of user {OTHER}, found that of user {OWNER}" in done.stderr
        assert BY_URL in done.stderr
        assert not (tmp_path / str(OTHER) / ".prefect").exists()
    after = {path: path.lstat().st_mtime_ns for path in store.rglob("*") if path.is_file()}
    assert {path: after[path] for path in before} == before
    # What looking leaves, an index, is not in the owner's way.
    assert {path.name for path in after.keys() - before.keys()} <= {"index.sqlite3"}
    for arguments in (["runs"], [*RUN, "1"]):
        done = run_as(OWNER, 0o002, store, *arguments)
        assert done.returncode == 0, done.stderr
        assert "index" not in done.stderr


def test_a_store_that_is_closed_says_so(run_as: Run, tmp_path: Path) -> None:
    """A store in its owner's home, and one whose way there is closed."""
    store = tmp_path / "store"
    store.mkdir(0o700)
    os.chown(store, OWNER, GROUPS[OWNER])
    for command in (["runs"], ["run"]):
        for place in (store, store / "below"):
            done = run_as(OTHER, 0o022, place, *command)
            assert done.returncode == 1
            assert f"error: expected a store that you may read, found {place}" in done.stderr
            assert BY_URL in done.stderr


def test_root_leaves_nothing_in_a_users_store(run_as: Run, tmp_path: Path) -> None:
    store = folder_of_the_group(tmp_path / "team") / "store"
    live = store / "live"
    live.mkdir(parents=True)
    os.chown(live, OWNER, GROUPS[OWNER])
    with pytest.raises(StoreUnusableError, match=f"found that of user {OWNER}"):
        Store(store).connect()
    assert [*live.iterdir()] == []
