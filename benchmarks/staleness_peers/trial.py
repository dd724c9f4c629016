"""The edits of `benchmarks/staleness.py`, tried on peers: what they leave stale, or run needlessly.

``python -m benchmarks.staleness_peers.trial FOLDER`` installs each tool into an environment of its
own in the folder, and tries them all (some twenty minutes). Names after the folder, such as dvc,
choose some. The judge is that of digitflow: what is served is compared with what the same tool
computes of the edited pipeline with an empty cache.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from benchmarks.measure import MOST_SECONDS
from benchmarks.prefect_server import running_server
from benchmarks.staleness import EDITS, Trial, judged, make, trials
from benchmarks.staleness_peers.peer import Peer

TOOLS = ("dvc", "joblib", "hamilton", "redun", "snakemake", "prefect")
STAGES = ("load", "clean", "total")


def environment(folder: Path, package: str) -> Path:
    """Return the folder of a virtual environment's commands, which is made if it is not there."""
    venv = folder / "venvs" / package
    if not (venv / "done").exists():
        print(f"installing {package}", file=sys.stderr, flush=True)
        for command in (
            [sys.executable, "-m", "venv", "--clear", str(venv)],
            [str(venv / "bin/python"), "-m", "pip", "install", "--quiet", package],
        ):
            subprocess.run(command, check=True, timeout=MOST_SECONDS)
        (venv / "done").touch()
    return venv / "bin"


def version(commands: Path, package: str) -> str:
    """Return the version of an installed package."""
    code = f"import importlib.metadata; print(importlib.metadata.version({package!r}))"
    command = [commands / "python", "-c", code]
    said = subprocess.check_output(command, text=True, timeout=MOST_SECONDS)
    return said.strip()


class Runs:
    """Runs of one peer, each in the same place, so that moving is an edit of its own.

    Parameters
    ----------
    peer
        The tool.
    commands
        Where its commands are.
    folder
        For its projects.
    variables
        Environment variables besides.
    """

    def __init__(self, peer: Peer, commands: Path, folder: Path, variables: dict[str, str]) -> None:
        self._peer, self._commands, self._variables = peer, commands, variables
        self._folder = folder
        shutil.rmtree(folder, ignore_errors=True)
        make(folder / "new", peer.files)
        if peer.prepare:
            self._run(folder / "new", peer.prepare)
        self.before = self._values("new", "project", lambda project: None)[0]
        (folder / "project").rename(folder / "kept")

    def tried(self, edit: Any, truth: dict[str, Any]) -> Trial | str:
        """Try an edit; `truth` is what the edited stages compute."""
        place = "moved" if edit.name == "moved to another folder" else "project"
        try:
            values, ran = self._values("kept", place, edit.apply)
        except LookupError:
            return "–"
        except subprocess.CalledProcessError as error:
            print(f"{self._peer.name}, {edit.name}:\n{error.stderr[-2000:]}", file=sys.stderr)
            return "fails"
        if values != truth:
            with suppress(subprocess.CalledProcessError):  # what is missing is missed only now
                truth = self._values("new", place, edit.apply)[0]
        after = {
            stage: {
                "cached": stage not in ran,
                "reasons": [],
                "value": values[stage],
                "truth": truth[stage],
            }
            for stage in STAGES
        }
        return judged(edit.name, self.before, after)

    def _values(self, source: str, place: str, apply: Any) -> tuple[dict[str, Any], list[str]]:
        project = self._folder / place
        shutil.rmtree(project, ignore_errors=True)
        shutil.copytree(self._folder / source, project, symlinks=True)
        (project / "ran.txt").write_text("")
        apply(project)
        self._run(project, self._peer.command)
        values = {stage: json.loads((project / f"{stage}.json").read_text()) for stage in STAGES}
        return values, (project / "ran.txt").read_text().split()

    def _run(self, project: Path, command: tuple[str, ...]) -> None:
        variables = project / "environment.json"
        subprocess.run(
            [self._commands / command[0], *command[1:]],
            cwd=project,
            env={
                **os.environ,
                "HOME": str(self._folder),
                "PATH": f"{self._commands}:{os.environ['PATH']}",
                "PYTHONPATH": os.pathsep.join(
                    str(project / each) for each in ("first", ".", "site")
                ),
                "PYTHONDONTWRITEBYTECODE": "1",
                "PYTHONSAFEPATH": "1",
                "DVC_NO_ANALYTICS": "1",
                "DVC_SITE_CACHE_DIR": str(project / "state"),
                "PREFECT_LOCAL_STORAGE_PATH": str(project / "results"),
                **self._variables,
                **(json.loads(variables.read_text()) if variables.exists() else {}),
            },
            capture_output=True,
            text=True,
            check=True,
            timeout=MOST_SECONDS,
        )


@contextmanager
def variables(peer: Peer, commands: Path, folder: Path) -> Iterator[dict[str, str]]:
    """Yield what a peer's environment needs, with a server if it has one."""
    if not peer.served:
        yield {}
        return
    home = folder / "server"
    home.mkdir(parents=True, exist_ok=True)
    with running_server(home, python=str(commands / "python")) as found:
        yield found


def cell(found: Trial | str) -> str:
    """Return what the table says of an edit."""
    if isinstance(found, str):
        return found
    if found.stale:
        return "**stale**"
    return "runs" if found.ran and not found.changes else ""


def main() -> None:
    folder, names = Path(sys.argv[1]).absolute(), sys.argv[2:] or list(TOOLS)
    shutil.rmtree(folder / "digitflow", ignore_errors=True)
    own = trials(folder / "digitflow")
    columns: dict[str, list[Trial | str]] = {"digitflow": list(own)}
    rows = []
    for name in names:
        for peer in importlib.import_module(f"benchmarks.staleness_peers.{name}").PEERS:
            print(peer.name, file=sys.stderr, flush=True)
            commands = environment(folder, peer.package)
            with variables(peer, commands, folder) as found:
                runs = Runs(peer, commands, folder / name, found)
                columns[peer.name] = [
                    runs.tried(edit, each.truth) for edit, each in zip(EDITS, own, strict=True)
                ]
            rows.append((peer.name, version(commands, peer.package), peer.setup))
    print("| tool | version | stale hits | needless runs | how it is set up |")
    print("|---|---|---|---|---|")
    for name, number, setup in [("digitflow", "", "`@stage`, nothing declared"), *rows]:
        found = [each for each in columns[name] if isinstance(each, Trial)]
        changing = [each for each in found if each.changes]
        stale = sum(bool(each.stale) for each in found)
        needless = sum(bool(each.ran) and not each.changes for each in found)
        print(f"| {name} | {number} | {stale} of {len(changing)} | "
              f"{needless} of {len(found) - len(changing)} | {setup} |")  # fmt: skip
    print("\n| edit | " + " | ".join(columns) + " |\n|---|" + "---|" * len(columns))
    for number, edit in enumerate(EDITS):
        print(
            f"| {edit.name} | " + " | ".join(cell(each[number]) for each in columns.values()) + " |"
        )


if __name__ == "__main__":
    main()
