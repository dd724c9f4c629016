"""The pipeline as DVC would have it: the same stages, data files and artifacts.

Each of its six stages copies what our stages made, so that both handle the same bytes, and depends
on what ours depend on. DVC notes the MD5 of a file beside its time of change, size and inode, and
then takes a file that has these unchanged for unchanged, and a cached one with mode 0444 for
sound; only with its notes removed does it hash, as digitflow always does.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.measure import MOST_SECONDS, Side

# Stage → the stages from whose outputs it is made.
WIRING = {
    "download": (),
    "decode": ("download",),
    "preprocess": ("decode",),
    "train": ("preprocess",),
    "calibrate": ("train", "preprocess", "decode"),
    "evaluate": ("train", "preprocess"),
    "plot": ("train", "evaluate", "decode"),
}

_MAKE = """
import json, shutil, sys
from pathlib import Path

for target, source in json.loads(Path("objects.json").read_text())[sys.argv[1]].items():
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
"""


def find_dvc(folder: Path | None) -> Path | None:
    """Return DVC's command in a virtual environment, which is made if the folder is not there.

    Returns
    -------
    Path or None
        None if no folder is given.

    Raises
    ------
    RuntimeError
        If it cannot be installed there.
    """
    if folder is None:
        return None
    command = folder.absolute() / "bin" / "dvc"
    if not command.exists():
        print(f"installing DVC into {folder}", flush=True)
        try:
            venv = [sys.executable, "-m", "venv", folder]
            subprocess.run(venv, check=True, timeout=MOST_SECONDS)
            pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "dvc"]
            subprocess.run(pip, check=True, timeout=MOST_SECONDS)
        except subprocess.SubprocessError as error:
            raise RuntimeError(f"DVC cannot be installed into {folder}: {error}") from error
    return command


class DvcProject:
    """A DVC project that makes the artifacts of a run of ours, once.

    Parameters
    ----------
    dvc
        DVC's command.
    folder
        For the project; created.
    store
        Our store.
    stages
        The run's stages, as `run.json` lists them.
    """

    def __init__(self, dvc: Path, folder: Path, store: Path, stages: list[dict[str, Any]]) -> None:
        self._dvc = dvc
        self._folder = folder
        self._state = folder / "state"
        self._environment = {
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(self._state),
            "DVC_GLOBAL_CONFIG_DIR": str(folder / "config"),
            # Its stages' commands need no more than a Python.
            "PATH": f"{dvc.parent}:{os.environ['PATH']}",
        }
        folder.mkdir()
        files = _files(store, stages)
        (folder / "objects.json").write_text(json.dumps(files))
        (folder / "make.py").write_text(_MAKE)
        (folder / "params.yaml").write_text("epochs: 1\n")
        # YAML takes JSON.
        (folder / "dvc.yaml").write_text(json.dumps({"stages": _stages(files)}, indent=1))
        for arguments in (
            ("init", "--no-scm", "--quiet"),
            ("config", "core.check_update", "false"),
            ("repro", "--quiet"),
        ):
            subprocess.run(
                [dvc, *arguments],
                cwd=folder,
                env={**os.environ, **self._environment},
                check=True,
                timeout=MOST_SECONDS,
            )

    def side(self, *arguments: str, hashing: bool = False) -> Side:
        """Return a command of DVC to measure; `hashing` removes its notes before each run."""
        prepare = self._forget if hashing else lambda: None
        return Side([str(self._dvc), *arguments], self._folder, self._environment, prepare)

    def _forget(self) -> None:
        shutil.rmtree(self._state, ignore_errors=True)


def _files(store: Path, stages: list[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """Return for each of the six stages its files, and the object that each is a copy of."""
    files: dict[str, dict[str, str]] = {name: {} for name in WIRING}
    for stage in stages:
        name = "download" if stage["stage"] == "draw" else stage["stage"]
        for output, artifact in stage["outputs"].items():
            sha256 = artifact["sha256"]
            place = f"data/{name}/{stage['name']}-{output}"
            files[name][place] = str(store / "objects" / sha256[:2] / sha256[2:])
    return files


def _stages(files: dict[str, dict[str, str]]) -> dict[str, Any]:
    stages: dict[str, Any] = {}
    for name, sources in WIRING.items():
        stages[name] = {
            "cmd": f"python make.py {name}",
            "deps": ["make.py", *(place for source in sources for place in files[source])],
            "outs": list(files[name]),
        }
        if name == "train":
            stages[name]["params"] = ["epochs"]
    return stages
