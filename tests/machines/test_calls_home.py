"""Nothing looks up a name of another machine unasked: a run alone in a network that notes them."""

import json
import os
import shutil
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.patience import PATIENCE

# The first process of a network of its own: puts up its loopback, answers for the name servers
# that it has and notes what they are asked, then runs commands one after another.
ALONE = """
    import fcntl, json, socket, struct, subprocess, sys, threading

    resolver, noted, commands = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        up = struct.pack("16sh14x", b"lo", 1 | 64)  # IFF_UP | IFF_RUNNING
        fcntl.ioctl(any_socket, 0x8914, up)  # SIOCSIFFLAGS
    subprocess.run(["mount", "--bind", resolver, "/etc/resolv.conf"], check=True)
    names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    names.bind(("127.0.0.1", 53))

    def answer():
        while True:
            asked, by = names.recvfrom(4096)
            place, labels = 12, []
            while length := asked[place]:
                labels.append(asked[place + 1 : place + 1 + length].decode())
                place += 1 + length
            with open(noted, "a") as file:
                print(".".join(labels), file=file)
            # There is no such name.
            names.sendto(asked[:2] + bytes([0x81, 0x83]) + asked[4:6] + bytes(6) + asked[12:], by)

    threading.Thread(target=answer, daemon=True).start()
    sys.exit(max(subprocess.run(each).returncode for each in commands))
"""
UNSHARE = ("unshare", "--map-root-user", "--net", "--mount")


def may_unshare() -> bool:
    if shutil.which("unshare") is None or not Path("/etc/resolv.conf").exists():
        return False
    return subprocess.run([*UNSHARE, "true"], capture_output=True, timeout=PATIENCE).returncode == 0


@pytest.mark.skipif(not may_unshare(), reason="needs a network namespace of its own: unshare")
def test_a_run_looks_no_name_up(tmp_path: Path) -> None:
    resolver, noted = tmp_path / "resolv.conf", tmp_path / "names"
    resolver.write_text("nameserver 127.0.0.1\n")
    run = (
        *(sys.executable, "-m", "digitflow", "run", "--set"),
        *("epochs=1", "training_sample=40", "test_sample=20", "dpi=40"),
    )
    look_up = "import socket; socket.has_ipv6 = False; socket.gethostbyname('canary.example')"

    def asked(*commands: tuple[str, ...]) -> set[str]:
        noted.write_text("")
        subprocess.run(
            [
                *(*UNSHARE, sys.executable, "-c", textwrap.dedent(ALONE)),
                *(str(resolver), str(noted), json.dumps(commands)),
            ],
            cwd=tmp_path,
            env={**os.environ, "DIGITFLOW_STORE": str(tmp_path / "store")},
            capture_output=True,
            timeout=PATIENCE,
        )
        return {name.lower() for name in noted.read_text().split()}

    here = {socket.gethostname().lower()}
    assert asked((sys.executable, "-c", look_up)) == {"canary.example"}
    assert asked((*run, "--dataset", "sample")) - here == set()
    assert (tmp_path / "results").is_dir()
