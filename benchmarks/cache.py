"""What the cache costs and saves, beside bare Prefect and DVC.

    python benchmarks/cache.py --dataset DIRECTORY_OF_MNIST --dvc-venv FOLDER

In one run, whole processes, in turn (A B A B …), medians:

- a fully cached `digitflow run` against a bare Prefect flow of as many cached tasks, on one
  server: at most 1.25 times its time, and less than 200 MB;
- `digitflow plan` against `dvc status`, and a fully cached `digitflow run` without a server
  against `dvc repro`, on the same artifacts: at most 1.0 times, where both hash all of them. DVC
  as it is, which hashes none, is shown beside it;
- bytes hashed and read by a fully cached run;
- what the store holds after runs that differ in one training parameter.

DVC needs an environment of its own; FOLDER is made if it is not there, and may be named by
DIGITFLOW_BENCH_DVC as well. Without one that part is skipped. Exit code 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
if str(PROJECT) not in sys.path:
    sys.path.insert(0, str(PROJECT))

from benchmarks import overhead  # noqa: E402
from benchmarks.measure import (  # noqa: E402
    MOST_SECONDS,
    Side,
    in_turn,
    print_costs,
    print_ratio,
    timed,
)
from benchmarks.peers.dvc import DvcProject, find_dvc  # noqa: E402
from benchmarks.prefect_server import running_server  # noqa: E402

DVC_BAR = 1.0
DIGITFLOW = [sys.executable, "-m", "digitflow"]


def main() -> int:
    """Print every part; exit 1 if a bar is missed."""
    options = _options()
    choice = ["--dataset", options.dataset, "--preset", options.preset]
    choice += [part for assignment in options.set for part in ("--set", assignment)]
    met = []
    with tempfile.TemporaryDirectory(prefix="digitflow-cache-") as folder:
        home = Path(folder)
        run = [*DIGITFLOW, "run", *choice]
        with running_server(home) as environment:
            met.append(overhead.compare(home, environment, run, options.rounds))
            first = _stored(home / "store")
            for number in range(1, options.runs):
                rate = f"learning_rate={0.001 * (1 + number / 100)}"
                other = [*run, "--set", rate, "--output", str(home / "other")]
                timed(Side(other, PROJECT, environment))
        # An empty URL in the environment is none; one in a file would still be found.
        alone = {**environment, "PREFECT_API_URL": ""}
        output = ["--output", str(home / "results")]
        dvc = find_dvc(options.dvc_venv)
        if dvc is None:
            print("DVC: skipped. Name a folder for its environment with --dvc-venv.")
        else:
            met += _against_dvc(home, alone, dvc, choice, options.rounds)
        _print_counts(home, alone, [*choice, *output])
        _print_store(home, first, options.runs)
    return int(not all(met))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    named = os.environ.get("DIGITFLOW_BENCH_DVC")
    parser.add_argument("--dataset", default="mnist", help="a name, or a directory of IDX files")
    parser.add_argument("--preset", default="mlp")
    parser.add_argument(
        "--set", nargs="+", metavar="KEY=VALUE", default=["epochs=1"], help="default: epochs=1"
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--runs", type=int, default=10, help="for the size of the store")
    parser.add_argument("--dvc-venv", type=Path, default=Path(named) if named else None)
    return parser.parse_args()


def _against_dvc(
    home: Path, environment: Mapping[str, str], dvc: Path, choice: list[str], rounds: int
) -> list[bool]:
    stages = json.loads((home / "results" / "run.json").read_text())["stages"]
    project = DvcProject(dvc, home / "dvc", home / "store", stages)
    run = [*DIGITFLOW, "run", *choice, "--output", str(home / "results")]
    sides = {
        "digitflow plan": Side([*DIGITFLOW, "plan", *choice], PROJECT, environment),
        "dvc status, hashing": project.side("status", hashing=True),
        "dvc status": project.side("status"),
        "digitflow run": Side(run, PROJECT, environment),
        "dvc repro, hashing": project.side("repro", hashing=True),
        "dvc repro": project.side("repro"),
    }
    costs = in_turn(sides, rounds)
    print(f"Without a server, beside DVC: everything up to date, {rounds} rounds, medians")
    print("  digitflow hashes every artifact; DVC does if marked, and else trusts times of change")
    print_costs(costs)
    met = []
    for ours, theirs in (("digitflow plan", "dvc status"), ("digitflow run", "dvc repro")):
        met.append(print_ratio(costs, ours, f"{theirs}, hashing", DVC_BAR))
        print_ratio(costs, ours, theirs, None)
    return met


def _print_counts(home: Path, environment: Mapping[str, str], arguments: list[str]) -> None:
    script = Path(__file__).with_name("counted_run.py")
    done = subprocess.run(
        [sys.executable, str(script), "run", "--quiet", *arguments],
        cwd=PROJECT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=MOST_SECONDS,
    )
    counts = json.loads(done.stdout.splitlines()[-1])
    run = json.loads((home / "results" / "run.json").read_text())
    objects = {
        artifact["sha256"]: artifact["size"]
        for stage in run["stages"]
        for artifact in stage["outputs"].values()
    }
    size = sum(objects.values())
    print("A fully cached run without a server")
    print(f"  artifacts      {size / 1e6:9.1f} MB in {len(objects)} objects")
    print(f"  bytes hashed   {counts['hashed'] / 1e6:9.1f} MB, {counts['hashed'] / size:.2f} times")
    print(
        f"  bytes read     {counts['read'] / 1e6:9.1f} MB with the interpreter's own "
        f"{counts['read_before'] / 1e6:.1f} MB"
    )


def _stored(store: Path) -> dict[str, int]:
    return {
        str(file.relative_to(store)): file.stat().st_size
        for file in (store / "objects").rglob("*")
        if file.is_file()
    }


def _print_store(home: Path, first: Mapping[str, int], runs: int) -> None:
    after = _stored(home / "store")
    one, all_of_them = sum(first.values()), sum(after.values())
    more = (all_of_them - one) / max(runs - 1, 1)
    print(f"The store after {runs} runs that differ in the learning rate")
    print(f"  after one run  {one / 1e6:9.1f} MB in {len(first)} objects")
    print(f"  after {runs:3} runs {all_of_them / 1e6:9.1f} MB in {len(after)} objects")
    print(f"  a further run  {more / 1e6:9.1f} MB: what the stages before it made is stored once")
    print(f"  one store each {runs * one / 1e6:9.1f} MB")


if __name__ == "__main__":
    sys.exit(main())
