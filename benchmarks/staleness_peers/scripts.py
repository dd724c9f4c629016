"""The pipeline as scripts, one a stage, for tools that run commands and compare files."""

from benchmarks.staleness import FILES
from benchmarks.staleness_peers.peer import RAN

_LOAD = '''
import json
from pathlib import Path

from ran import ran


def load(*, skip: int = 0):
    """Read the numbers."""
    text = Path("numbers.txt").read_text()
    return {"numbers": [int(each) for each in text.split()][skip:]}


ran("load")
Path("load.json").write_text(json.dumps(load()["numbers"]))
'''

_CLEAN = '''
import json
from pathlib import Path

from helpers import scale
from ran import ran

FACTOR = 3  # times


def clean(numbers, *, limit: int = 100):
    """Clean them."""
    from late import clip

    return {"numbers": [scale(clip(each, limit)) * FACTOR for each in numbers]}


ran("clean")
numbers = json.loads(Path("load.json").read_text())
Path("clean.json").write_text(json.dumps(clean(numbers)["numbers"]))
'''

_TOTAL = '''
import json
import os
from pathlib import Path

import library
import helpers
from helpers import OFFSET
from registry import STEPS
import plugins
from ran import ran


def total(numbers):
    """Add them up."""
    # in the order of the steps
    for step in STEPS:
        numbers = [step(each) for each in numbers]
    mode = os.environ.get("MODE", "plain")
    return {"total": [sum(numbers) + OFFSET, library.name(), mode, helpers.Shape().area()]}


ran("total")
numbers = json.loads(Path("clean.json").read_text())
Path("total.json").write_text(json.dumps(total(numbers)["total"]))
'''

_UNUSED = """
def unused_stage(*, n: int = 1):
    return {"x": n}


print(unused_stage())
"""

SCRIPTS = {
    **{name: text for name, text in FILES.items() if name != "steps.py"},
    "ran.py": RAN,
    "steps/load.py": _LOAD,
    "steps/clean.py": _CLEAN,
    "steps/total.py": _TOTAL,
    "steps/unused_stage.py": _UNUSED,
}

# Stage → what it reads: its script and its data.
READS = {
    "load": ["steps/load.py", "numbers.txt"],
    "clean": ["steps/clean.py", "load.json"],
    "total": ["steps/total.py", "clean.json"],
}
# What a user who forgets nothing writes down besides: each module that a stage uses, however
# indirectly, and the pinned versions of libraries.
MODULES = {
    "load": [],
    "clean": ["helpers.py", "late.py"],
    "total": ["helpers.py", "registry.py", "plugins.py", "requirements.txt"],
}
