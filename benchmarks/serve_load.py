"""`digitflow serve` under load: requests a second, how long they take, and what goes wrong.

    python benchmarks/serve_load.py

A store with two networks of 784-100-10, `digitflow serve` on loopback, and ApacheBench as the
client (Debian and Ubuntu: `apt-get install apache2-utils`; elsewhere it comes with Apache httpd):
at each number of connections a PNG, ten PNGs in a row, and garbage. In the middle of each round of
PNGs another version becomes the champion, and none of its requests may fail. Meanwhile /health is
asked again and again. Then PNGs for long, with another champion in each tenth of them. How much
memory the server has is said after each round; it may not grow in the second half of the long one.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.measure import MOST_SECONDS  # noqa: E402 - found by now
from digitflow.storage.store import Store  # noqa: E402
from tests.registered import SIDE, register  # noqa: E402

# Of several in one body the first is answered.
EXPECTED = {"a PNG": 200, "ten PNGs in a row": 200, "garbage": 422}
SECONDS_BETWEEN_LOOKS = 0.05
# What the second half of the long round may add to the server's memory, in MB: pages come and go.
MOST_GROWTH = 5


@dataclass(frozen=True)
class Round:
    """What ApacheBench, and whoever asked /health meanwhile, have found.

    Attributes
    ----------
    rate
        Requests a second.
    within
        Milliseconds in which 50, 95 and 99 % were answered.
    failed
        Requests without an answer, or with another status than expected.
    health
        Milliseconds that the slowest answer of /health took.
    """

    rate: float
    within: tuple[int, int, int]
    failed: int
    health: float


def main() -> None:
    """Measure what the command line asks for, and print it as a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=2_000, help="of each kind and number")
    parser.add_argument("--long", type=int, default=20_000, help="PNGs of the long round")
    parser.add_argument("--connections", type=int, nargs="+", default=(1, 8, 64))
    given = parser.parse_args()
    ab = shutil.which("ab")
    if ab is None:
        print("ApacheBench: skipped. Install it: apt-get install apache2-utils")
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ["DIGITFLOW_STORE"] = str(folder / "store")
        bodies = write_bodies(folder)
        store = Store()
        first, second = registered(store)
        store.models.promote(first, "the first")
        failed = 0
        with serving(folder) as (url, process):
            print(f"memory at the start: {memory(process.pid):.0f} MB\n")
            header = "connections | body | requests/s | p50 | p95 | p99 | failed | slowest /health"
            print(f"| {header} | memory |\n|{'---|' * 9}")
            for connections in given.connections:
                for kind, body in bodies.items():
                    moves = (first, second) if kind == "a PNG" else ()
                    found = load(ab, url, body, kind, connections, given.requests, store, moves)
                    failed += found.failed
                    within = " | ".join(f"{each} ms" for each in found.within)
                    print(
                        f"| {connections} | {kind} | {found.rate:,.0f} | {within} | "
                        f"{found.failed} | {found.health:.0f} ms | {memory(process.pid):.0f} MB |",
                        flush=True,
                    )
            print("\n| PNGs | failed | memory |\n|---|---|---|", flush=True)
            sizes = []
            for tenth in range(1, 11):
                moves = ((first, second)[tenth % 2],)
                found = load(ab, url, bodies["a PNG"], "a PNG", 8, given.long // 10, store, moves)
                failed += found.failed
                sizes.append(memory(process.pid))
                sent = tenth * (given.long // 10)
                print(f"| {sent:,} | {found.failed} | {sizes[-1]:.1f} MB |", flush=True)
    growth = sizes[-1] - sizes[len(sizes) // 2 - 1]
    met = failed == 0 and growth <= MOST_GROWTH
    told = f"{failed} requests failed, and the second half added {growth:+.1f} MB"
    print(f"\n{told}, at most {MOST_GROWTH}: {'met' if met else 'MISSED'}")
    sys.exit(0 if met else 1)


def load(
    ab: str,
    url: str,
    body: Path,
    kind: str,
    connections: int,
    requests: int,
    store: Store,
    moves: tuple[int, ...],
) -> Round:
    """Send a body again and again, and let versions become the champion in the meantime."""
    count = max(requests, connections)
    command = [ab, "-l", "-q", "-n", str(count), "-c", str(connections), "-p", str(body)]
    before = statuses(url)
    slowest = [0.0]
    done = threading.Event()

    def watch() -> None:
        with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
            while not done.wait(SECONDS_BETWEEN_LOOKS):
                began = time.perf_counter()
                client.get("/health").raise_for_status()
                slowest[0] = max(slowest[0], time.perf_counter() - began)

    watcher = threading.Thread(target=watch)
    process = subprocess.Popen(
        [*command, "-T", "image/png", f"{url}/predict"], stdout=subprocess.PIPE, text=True
    )
    watcher.start()
    for version in reversed(moves):
        goal = sum(before.values()) + count // 4
        while process.poll() is None and sum(statuses(url).values()) < goal:
            time.sleep(SECONDS_BETWEEN_LOOKS)
        store.models.promote(version, "in the middle")
    said, _ = process.communicate(timeout=MOST_SECONDS)
    done.set()
    watcher.join(MOST_SECONDS)
    after = statuses(url)
    right = after.get(EXPECTED[kind], 0) - before.get(EXPECTED[kind], 0)
    p50, p95, p99 = (int(number(rf"^ +{share}% +(\d+)", said)) for share in (50, 95, 99))
    rate = number(r"^Requests per second: +([\d.]+)", said)
    return Round(rate, (p50, p95, p99), count - right, slowest[0] * 1_000)


def statuses(url: str) -> dict[int, int]:
    """Return how many requests to /predict had which status, as the server counts them."""
    text = httpx.get(f"{url}/metrics", trust_env=False, timeout=60).text
    found = re.findall(
        r'^digitflow_requests_total\{status="(\d+)"\} ([\d.e+]+)', text, re.MULTILINE
    )
    return {int(status): int(float(count)) for status, count in found}


def number(pattern: str, text: str) -> float:
    """Return the number that a line of ApacheBench's report holds."""
    found = re.search(pattern, text, re.MULTILINE)
    if found is None:
        message = f"expected ApacheBench's report, with {pattern}, found: {text}"
        raise ValueError(message)
    return float(found[1])


def write_bodies(folder: Path) -> dict[str, Path]:
    """Write what is sent, by its name."""
    from PIL import Image, ImageDraw

    image = Image.new("L", (120, 120))
    ImageDraw.Draw(image).line([(60, 15), (60, 105)], fill=255, width=12)
    png = folder / "one.png"
    image.save(png)
    contents = (png.read_bytes(), png.read_bytes() * 10, bytes(range(256)) * 8)
    bodies = {kind: folder / f"body-{n}" for n, kind in enumerate(EXPECTED)}
    for file, content in zip(bodies.values(), contents, strict=True):
        file.write_bytes(content)
    return bodies


def registered(store: Store) -> list[int]:
    """Register two networks of 784-100-10 that have learnt nothing; return their numbers."""
    names = tuple("0123456789")
    found = []
    for seed in (0, 1):
        rng = np.random.default_rng(seed)
        weights = {
            "weights_1": rng.normal(0, 0.05, (SIDE * SIDE, 100)),
            "weights_2": rng.normal(0, 0.1, (100, 10)),
        }
        version = register(store, weights=weights, class_names=names, image_size=(SIDE, SIDE))
        found.append(version.version)
    return found


@contextmanager
def serving(folder: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Serve the champion until the block is left; yield where."""
    command = [sys.executable, "-u", "-m", "digitflow", "serve", "--port", "0"]
    with (folder / "serve.log").open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=ROOT)
    assert process.stdout is not None
    try:
        said = process.stdout.readline()
        yield said.split()[-1], process
    finally:
        process.terminate()
        process.communicate(timeout=60)


def memory(pid: int) -> float:
    """Return the resident memory of a process in MB (Linux)."""
    found = re.search(r"^VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found[1]) / 1_000 if found else 0.0


if __name__ == "__main__":
    main()
