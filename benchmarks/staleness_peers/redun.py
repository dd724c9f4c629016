"""redun: tasks that are cached by arguments and source, with `File` for data.

A task's hash is that of its own source; plain functions and values that it uses are added with
`hash_includes` (https://insitro.github.io/redun/tasks.html). All that each task uses directly is.
"""

from benchmarks.staleness_peers.peer import Peer, functions

_RUN = """
import json
import os
from pathlib import Path

import steps
from redun import File, Scheduler, task
from redun.config import Config


@task(namespace="pipeline")
def main(file, mode):
    loaded = steps.load(file)["numbers"]
    cleaned = steps.clean(loaded)["numbers"]
    return {"load": loaded, "clean": cleaned, "total": steps.total(cleaned, mode)["total"]}


scheduler = Scheduler(config=Config({"backend": {"db_uri": "sqlite:///redun.db"}}))
scheduler.load()
values = scheduler.run(main(File("numbers.txt"), os.environ.get("MODE")))
for name, value in values.items():
    Path(f"{name}.json").write_text(json.dumps(value))
"""

_IMPORTS = """import late
from redun import task

redun_namespace = "steps"
"""

_FILES = functions(
    _IMPORTS,
    "@task(hash_includes={name}_uses)",
    {"load": "def load(file, *, skip: int = 0):", "total": "def total(numbers, mode_now):"},
    _RUN,
)
_FILES["steps.py"] = _FILES["steps.py"].replace(
    "FACTOR = 3  # times\n",
    """FACTOR = 3  # times
load_uses = []
clean_uses = [scale, late.clip, FACTOR]
total_uses = [*STEPS, OFFSET, helpers.Shape.area, helpers.Shape.side, library.name]
unused_stage_uses = []
""",
)

PEERS = [
    Peer(
        "redun",
        "redun",
        "`File`; `hash_includes`: each function and constant that a task uses directly",
        _FILES,
    )
]
