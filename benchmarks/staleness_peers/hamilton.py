"""Hamilton: functions are nodes, cached by their own source and the data that they are given.

`Builder().with_cache()` takes the place of its older adapters
(https://hamilton.apache.org/concepts/caching/). What a node reads besides is an input of the
dataflow, which spares `load` the behaviour "recompute" that is advised for loaders.
"""

from benchmarks.staleness_peers.peer import Peer, functions

_RUN = """
import hashlib
import json
import os
from pathlib import Path

import steps
from hamilton import driver

dataflow = driver.Builder().with_modules(steps).with_cache().build()
sha256 = hashlib.sha256(Path("numbers.txt").read_bytes()).hexdigest()
inputs = {"sha256": sha256, "mode_now": os.environ.get("MODE", "")}
values = dataflow.execute(["load", "clean", "total"], inputs=inputs)
for name, value in values.items():
    Path(f"{name}.json").write_text(json.dumps(next(iter(value.values()))))
"""

_FILES = functions(
    "",
    "",
    {
        "load": "def load(sha256: str, *, skip: int = 0) -> dict:",
        "clean": "def clean(load: dict, *, limit: int = 100) -> dict:",
        "total": "def total(clean: dict, mode_now: str) -> dict:",
        "unused_stage": "def unused_stage(*, n: int = 1) -> dict:",
    },
    _RUN,
)
for _stage, _input in (("clean", "load"), ("total", "clean")):
    _FILES["steps.py"] = _FILES["steps.py"].replace(
        f'    ran("{_stage}")\n', f'    ran("{_stage}")\n    numbers = {_input}["numbers"]\n'
    )

PEERS = [
    Peer(
        "Hamilton",
        "sf-hamilton",
        "`with_cache()`; the data's digest and the variable are inputs",
        _FILES,
    )
]
