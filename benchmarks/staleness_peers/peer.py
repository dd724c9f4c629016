"""A peer: a tool that caches, and the pipeline of `benchmarks/staleness.py` written for it."""

from __future__ import annotations

import re
from typing import NamedTuple

from benchmarks.staleness import FILES


class Peer(NamedTuple):
    """A tool and how it is set up.

    Attributes
    ----------
    name
        What the tables call it.
    package
        What pip installs.
    setup
        How the pipeline is written for it.
    files
        The pipeline's files. A run leaves `load.json`, `clean.json` and `total.json`.
    command
        What runs the pipeline.
    prepare
        What is run once, in a project that is new.
    served
        Whether it needs a Prefect server.
    """

    name: str
    package: str
    setup: str
    files: dict[str, str]
    command: tuple[str, ...] = ("python", "run.py")
    prepare: tuple[str, ...] = ()
    served: bool = False


# Each stage says that it runs, since not all tools do.
RAN = """
from pathlib import Path


def ran(stage):
    with Path("ran.txt").open("a") as file:
        file.write(stage + "\\n")
"""

# What stages read besides their inputs is handed to them, so that it is part of the key: the digest
# of the data file, and the environment variable.
CALLS = """
import hashlib
import json
import os
from pathlib import Path

import steps


def pipeline():
    sha256 = hashlib.sha256(Path("numbers.txt").read_bytes()).hexdigest()
    loaded = steps.load(sha256)["numbers"]
    cleaned = steps.clean(loaded)["numbers"]
    added = steps.total(cleaned, os.environ.get("MODE"))["total"]
    for name, value in (("load", loaded), ("clean", cleaned), ("total", added)):
        Path(f"{name}.json").write_text(json.dumps(value))
"""


def functions(imports: str, decorator: str, signatures: dict[str, str], run: str) -> dict[str, str]:
    """Return the pipeline's files for a tool that caches what decorated functions return.

    Parameters
    ----------
    imports
        What takes the place of the import of `stage`.
    decorator
        What takes the place of `@stage(…)`; `{name}` is the stage.
    signatures
        For each stage what takes the place of its `def` line and docstring.
    run
        The script that runs the pipeline.
    """
    text = FILES["steps.py"].replace(
        "from digitflow import stage\n", f"from ran import ran\n{imports}\n"
    )
    text = re.sub(
        r"@stage\(.*\)\ndef (\w+)",
        lambda match: f"{decorator.format(name=match[1])}\ndef {match[1]}",
        text,
    )
    for stage, signature in signatures.items():
        text = re.sub(rf"def {stage}\(.*\):\n", f"{signature}\n", text)
    text = re.sub(r"(def (load|clean|total)\(.*\n    \"\"\".*\n)", r'\1    ran("\2")\n', text)
    return {**FILES, "steps.py": text, "ran.py": RAN, "run.py": run}
