"""The harness pointed at somebody else's stages, just as docs/reliability.md shows."""

import re
from pathlib import Path
from typing import Any

from tests.faults.soundness import outcomes
from tests.mnist import ROOT

MY_PIPELINE = """
import time

import numpy as np

from digitflow.storage.store import Store
from digitflow.tasks.engine.stage import stage


@stage(outputs={"numbers": "npy"})
def draw(*, seed):
    time.sleep(0.3)
    return {"numbers": np.random.default_rng(seed).random(1000)}


@stage(outputs={"mean": "json"})
def average(numbers):
    time.sleep(0.3)
    return {"mean": {"mean": float(numbers.mean())}}


cache = Store()
drawn = draw.run(cache, "draw", {}, {"seed": 1}, run="mine")
average.run(cache, "average", {"numbers": drawn.outputs["numbers"]}, {}, run="mine")
"""


def test_the_example_of_the_documentation(tmp_path: Path) -> None:
    document = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```", document, flags=re.DOTALL | re.MULTILINE)
    (tmp_path / "my_pipeline.py").write_text(MY_PIPELINE)
    names: dict[str, Any] = {}
    exec(example, names)
    names["test_my_stages_survive"](tmp_path)
    assert {stage for stage, _ in outcomes(tmp_path / "undisturbed")} == {"draw", "average"}
