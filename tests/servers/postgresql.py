"""A PostgreSQL server of a test's own: Debian's package, an empty folder, an unprivileged user."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.environment import CLEAN
from tests.patience import PATIENCE, wait_for
from tests.servers.processes import free_port

# PostgreSQL refuses root. The first of these that exists is used instead.
_USERS = ("postgres", "nobody")


@contextmanager
def running_postgresql() -> Iterator[str]:
    """Run a server while the context lasts; yields the URL of an empty database, for Prefect."""
    programs = _programs()
    user = _unprivileged()
    # Not below pytest's folder: only its owner may enter that.
    with tempfile.TemporaryDirectory(prefix="postgresql-") as name:
        folder, port = Path(name), free_port()
        if user is not None:
            os.chown(folder, user.pw_uid, user.pw_gid)
        data, log = folder / "data", folder / "log"

        def run(program: str, *arguments: str) -> None:
            done = subprocess.run(
                [programs / program, *arguments],
                cwd=folder,
                env={**CLEAN, "HOME": str(folder)},
                user=None if user is None else user.pw_uid,
                group=None if user is None else user.pw_gid,
                extra_groups=None if user is None else [],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
            )
            assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}"

        run("initdb", "--no-sync", "--auth=trust", "--username=prefect", "-D", str(data))
        settings = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        # pg_ctl's log is a file: a pipe would stay open for as long as the server runs.
        start = ("-D", str(data), "-o", settings, "-l", str(log), "-w", "-t", f"{PATIENCE:g}")
        run("pg_ctl", *start, "start")
        try:
            run("createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "prefect", "prefect")
            yield f"postgresql+asyncpg://prefect@127.0.0.1:{port}/prefect"
        finally:
            run("pg_ctl", "-D", str(data), "-m", "immediate", "-w", "-t", f"{PATIENCE:g}", "stop")
            wait_for(lambda: not (data / "postmaster.pid").exists(), "PostgreSQL's end")


def _programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    on_path = shutil.which("pg_ctl")
    if found:
        return found[-1].parent
    if on_path is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    return Path(on_path).parent


def _unprivileged() -> pwd.struct_passwd | None:
    """Whom to run it as; None for oneself."""
    if os.getuid() != 0:
        return None
    for name in _USERS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    pytest.skip(f"this is root, which PostgreSQL refuses, and there is no user {_USERS}")
