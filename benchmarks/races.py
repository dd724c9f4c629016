"""Processes that move champions at once, and are killed: no move is lost, none is doubled.

    python benchmarks/races.py --on disk
    python benchmarks/races.py --on s3

Each process makes its moves one after the other: it promotes, rolls back, holds, quarantines,
releases, rejects. It notes in a log of its own what it is about to do, and afterwards that it has
been told of success. Processes are ended by SIGKILL at random moments and started again; one that
starts again looks in the ledger for the move that it was about to make. In the end the ledger is
played back from its entries alone: each move that was told is in it once and no other, one entry
follows the other, and none was made on a champion, a hold or a quarantine that was not so.

S3 is moto's server in this process, which takes one request at a time.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.measure import MOST_SECONDS  # noqa: E402 - found by now
from digitflow.storage.backends.local import LocalBackend  # noqa: E402
from digitflow.storage.backends.remote import remote  # noqa: E402
from digitflow.storage.errors import SharedStoreError, StorageError  # noqa: E402
from digitflow.storage.formats.artifacts import Artifact  # noqa: E402
from digitflow.storage.history.models import LedgerEntry  # noqa: E402
from digitflow.storage.history.registry import ModelStore  # noqa: E402

MODEL = "mnist"
VERSIONS = 6
BYTES_OF_A_MOVE = 60  # of two lines in a log
SECONDS_BETWEEN_LOOKS = 0.01


@dataclass(frozen=True)
class Race:
    """What came of a race.

    Attributes
    ----------
    chain
        The ledger, as somebody who was not there reads it.
    begun, done
        Moves that were begun, and those of which a process was told that they are made.
    refused
        How many attempts found that somebody else had been faster.
    kills
        How many processes were killed.
    seconds
        Wall time.
    """

    chain: list[LedgerEntry]
    begun: set[str]
    done: list[str]
    refused: int
    kills: int
    seconds: float


def main() -> None:
    """Run the race that the command line asks for, and print its row of the table."""
    if sys.argv[1:2] == ["move"]:
        move(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--on", choices=("disk", "s3"), default="disk")
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--moves", type=int, default=1_000, help="of each process")
    parser.add_argument("--kills", type=int, default=200)
    given = parser.parse_args()
    size = {"processes": given.processes, "moves": given.moves, "kills": given.kills}
    requests: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as temporary:
        if given.on == "disk":
            found = race(Path(temporary), **size)
            costs = f"{found.seconds / len(found.chain) * 1_000:.0f} ms"
        else:
            found = race_on_s3(Path(temporary), requests, **size)
            costs = f"{requests.total() / len(found.chain):.1f} requests"
        problems = problems_of(found)
    for problem in problems:
        print(problem)
    print("| on | moves | kills | refused | entries | wrong | an entry costs | wall time |")
    print("|---|---|---|---|---|---|---|---|")
    print(
        f"| {given.on} | {given.processes} × {given.moves:,} | {found.kills} | "
        f"{found.refused:,} | {len(found.chain):,} | {len(problems)} | {costs} | "
        f"{found.seconds / 60:.0f} min |"
    )
    sys.exit(1 if problems else 0)


def race_on_s3(folder: Path, requests: Counter[str], **size: int) -> Race:
    """Hold a race on moto's server, and count the requests by their method."""
    from tests.share.s3_server import Request, running_s3

    with running_s3() as s3:

        def count(request: Request) -> None:
            requests[request.method] += 1
            s3.requests.clear()  # they would fill the memory

        s3.after = count
        s3.client().create_bucket(Bucket="races")
        os.environ.update(s3.environment)
        return race(folder, **size, url="s3://races/store")


def race(
    folder: Path,
    *,
    processes: int,
    moves: int,
    kills: int,
    url: str = "",
    environment: Mapping[str, str] = os.environ,
) -> Race:
    """Let processes move one champion, kill them at random, and return what came of it."""
    models = opened(folder / ("outside" if url else "store"), url)
    for number in range(VERSIONS):
        models.register(**trained(number))
    rng = random.Random(1)
    logs = [folder / f"log-{number}" for number in range(processes)]
    began = time.monotonic()

    def start(number: int) -> subprocess.Popen[bytes]:
        here = folder / (f"machine-{number}" if url else "store")
        logs[number].touch()
        what = [str(here), url, str(logs[number]), f"process-{number}", str(moves)]
        return subprocess.Popen([sys.executable, __file__, "move", *what], env=dict(environment))

    running = {number: start(number) for number in range(processes)}
    try:
        most = processes * moves * BYTES_OF_A_MOVE
        killed = 0
        for moment in sorted(rng.randrange(most) for _ in range(kills)):
            wait_until(
                lambda moment=moment: (  # type: ignore[misc]
                    sum(log.stat().st_size for log in logs) >= moment
                    or all(each.poll() is not None for each in running.values())
                )
            )
            alive = [number for number, each in running.items() if each.poll() is None]
            if not alive:
                break
            number = rng.choice(alive)
            with suppress(ProcessLookupError):
                os.kill(running[number].pid, signal.SIGKILL)
            running[number].wait(MOST_SECONDS)
            running[number] = start(number)
            killed += 1
        for number, process in running.items():
            wait_until(lambda process=process: process.poll() is not None)  # type: ignore[misc]
            if process.returncode != 0:
                message = f"process {number} ended with {process.returncode}, expected 0"
                raise RuntimeError(message)
    finally:
        for process in running.values():
            process.kill()
            process.wait(MOST_SECONDS)
    seconds = time.monotonic() - began
    said = [json.loads(line) for log in logs for line in log.read_text().splitlines()]
    return Race(
        # As a machine that has seen nothing of it finds it.
        chain=opened(folder / ("afterwards" if url else "store"), url).ledger.read(),
        begun={why for what, why, _ in said if what == "about to"},
        done=[why for what, why, _ in said if what == "done"],
        refused=sum(refused for what, _, refused in said if what == "done"),
        kills=killed,
        seconds=seconds,
    )


def move(here: str, url: str, log: str, name: str, moves: str) -> None:
    """Make the moves that a log says are still to be made."""
    models = opened(Path(here), url)
    rng = random.Random()
    said = [json.loads(line) for line in Path(log).read_text().splitlines()]
    done = sum(what == "done" for what, _, _ in said)
    in_doubt = said[-1][1] if said and said[-1][0] == "about to" else None
    with Path(log).open("a", buffering=1) as file:
        for number in range(done, int(moves)):
            why, refused = f"{name} {number}", 0
            is_made = why == in_doubt and why in {told(each) for each in models.ledger.read()}
            if why != in_doubt:
                file.write(json.dumps(["about to", why, 0]) + "\n")
            while not is_made:
                try:
                    rng.choice(possible(models, why, name))()
                    is_made = True
                except SharedStoreError:
                    raise
                except StorageError:  # somebody was faster: it is no longer possible
                    refused += 1
            file.write(json.dumps(["done", why, refused]) + "\n")


def possible(models: ModelStore, why: str, by: str) -> list[Callable[[], object]]:
    """Return the moves that are possible as everything stands."""
    state = models.state()
    champion, standing = state.champion(MODEL), state.standing(MODEL)
    number = None if champion is None else champion.version
    free = [each for each in state.versions.values() if state.quarantine(each) is None]
    others = [each for each in free if each != champion]
    taken = [each for each in state.versions.values() if each not in free]
    found: list[Callable[[], object]] = [
        lambda version=version: models.verdict(  # type: ignore[misc]
            "rejected", version, why, MODEL, by=by, details={"flow_run": why}
        )
        for version in others[:1]
    ]
    if len(others) > 1:
        found += [lambda: models.quarantine(others[-1].version, why)]
    found += [
        lambda version=version: models.release(f"v{version.version}", why)  # type: ignore[misc]
        for version in taken[:2]
    ]
    if standing.hold is not None:
        return [*found, lambda: models.release(MODEL, why)]
    found += [
        lambda version=version: models.promote(  # type: ignore[misc]
            version.version, why, MODEL, judged_against=number
        )
        for version in others
    ]
    if any(state.versions[each] in free for each in standing.back[:-1]):
        found += [lambda: models.rollback(why, MODEL)]
    return [*found, lambda: models.hold(why, MODEL)] if champion is not None else found


def problems_of(found: Race) -> list[str]:
    """Return, in a sentence each, what a ledger says that was not so, or does not say."""
    chain, begun = found.chain, found.begun
    moves = Counter(told(each) for each in chain if each.kind != "trained")
    problems = [f"{why} was told and is not in the ledger" for why in {*found.done} - {*moves}]
    problems += [f"{why} was told {n} times" for why, n in Counter(found.done).items() if n > 1]
    problems += [f"{why} is {n} times in the ledger" for why, n in moves.items() if n > 1]
    problems += [f"{why} is in the ledger, and nobody did it" for why in {*moves} - begun]
    numbers = {e.version: e.trained.version for e in chain if e.trained is not None}
    champion: str | None = None
    is_held, quarantined = False, set()
    previous = "0" * 64
    for order, entry in enumerate(chain, 1):
        before = None if champion is None else numbers.get(champion)
        match entry.kind:
            case "promoted":
                is_right = entry.details["champion"] == before and not is_held
                is_right &= entry.version not in quarantined
                champion = entry.version
            case "rolled-back":
                is_right = entry.details["left"] == champion and not is_held
                is_right &= entry.version not in quarantined
                quarantined.add(entry.details["left"])
                champion = entry.version
            case "quarantine":
                is_right = entry.version != champion
                quarantined.add(entry.version)
            case "hold":
                is_right = is_held = True
            case "release" if entry.version:
                is_right = entry.version in quarantined
                quarantined.discard(entry.version)
            case "release":
                is_right, is_held = is_held, False
            case _:
                is_right = entry.kind in ("trained", "rejected")
        if not is_right:
            problems.append(f"entry {order} is wrong where it stands: {entry.kind}, {entry.reason}")
        if (entry.order, entry.previous) != (order, previous):
            problems.append(f"entry {order} does not follow the one before")
        previous = entry.digest
    return problems


def told(entry: LedgerEntry) -> str:
    """Return the move that an entry is of: a rollback says in front of it what it left."""
    return entry.reason.rpartition(": ")[2]


def opened(here: Path, url: str) -> ModelStore:
    """Return the registry of a store in a folder, or of a machine's share of one behind a URL."""
    return ModelStore(LocalBackend(here), remote(url) if url else None)


def trained(number: int) -> dict[str, object]:
    """Return the fields of a version; nobody looks for its objects."""
    return {
        "run": "calm-owl",
        "preset": "quick",
        "dataset": MODEL,
        "parameters": {},
        "metrics": {},
        "training": "cd" * 32,
        "data": {},
        "class_names": ("0", "1"),
        "weights": Artifact(f"{number:064x}", 10, "npz"),
        "predictions": Artifact("12" * 32, 20, "npz"),
    }


def wait_until(holds: Callable[[], bool]) -> None:
    """Look again and again until something holds; `TimeoutError` if that takes hours."""
    deadline = time.monotonic() + MOST_SECONDS
    while not holds():
        if time.monotonic() > deadline:
            message = f"the race has not gone on for {MOST_SECONDS:,.0f} s"
            raise TimeoutError(message)
        time.sleep(SECONDS_BETWEEN_LOOKS)


if __name__ == "__main__":
    main()
