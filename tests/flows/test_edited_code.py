"""A copy of the project, edited: what reruns after an edit, in a process of its own each time."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.walk import Walk

ROOT = Path(__file__).resolve().parents[2]

Answer = dict[str, Any]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    for package in ("flows", "storage", "tasks"):
        shutil.copytree(
            ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copytree(ROOT / "digitflow", root / "digitflow", symlinks=True)
    (root / "tests").mkdir()
    shutil.copy(ROOT / "tests" / "walk.py", root / "tests")
    return root


@pytest.fixture
def walk(
    project: Path, finished: tuple[Path, Walk], tiny_directory: Path, tmp_path: Path
) -> Callable[..., Answer]:
    """Walk the copied project on a store in which ours has run."""
    store = tmp_path / "store"
    shutil.copytree(finished[0], store)

    def walk(*assignments: str) -> Answer:
        done = subprocess.run(
            [sys.executable, "-m", "tests.walk", store, tiny_directory, *assignments],
            cwd=project,
            env={**os.environ, "PYTHONPATH": str(project), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        answer: Answer = json.loads(done.stdout)
        assert Path(answer["code"]).is_relative_to(project)
        return answer

    return walk


def edit(file: Path, old: str, new: str) -> None:
    source = file.read_text(encoding="utf-8")
    assert source.count(old) == 1, f"{old!r} comes {source.count(old)} times in {file}"
    file.write_text(source.replace(old, new), encoding="utf-8")


def append(file: Path, text: str) -> None:
    file.write_text(file.read_text(encoding="utf-8") + text, encoding="utf-8")


def test_an_edited_comment_reruns_nothing_and_an_edited_function_only_what_it_changes(
    project: Path, walk: Callable[..., Answer], first: Walk
):
    tutorial = project / "tasks" / "nn" / "tutorial.py"
    # Comments, docstrings, blank lines, in the stage, its helpers and everything else.
    for path in (tutorial, project / "tasks/stages/train.py", project / "tasks/data/idx/arrays.py"):
        append(path, "\n\n\n# An afterthought.\n")
    edit(
        tutorial,
        '    """Return the outputs (n, classes) for `images`, without dropout.',
        '    """Give it',
    )
    edit(project / "tasks/stages/plot.py", '"""Draw learning curves', '"""Paint learning curves')
    assert walk()["ran"] == {}

    # What runs the stages is no part of them.
    append(project / "flows" / "pipeline.py", "\nUNUSED = 1\n")
    append(project / "storage" / "cache.py", "\nUNUSED = 1\n")
    append(project / "tasks/engine/stage.py", "\nUNUSED = 1\n")
    assert walk()["ran"] == {}

    changed = "code changed: digitflow/tasks/nn/tutorial.py (predict_tutorial)"
    # Other code, the same bytes: the stages that predict run, and nothing after them.
    edit(
        tutorial,
        "        outputs[part] = layer_1 @ weights_2\n",
        "        layer_2 = layer_1 @ weights_2\n        outputs[part] = layer_2\n",
    )
    answer = walk()
    assert answer["ran"] == {"train": [changed], "calibrate": [changed]}
    assert answer["digests"] == first.digests()
    assert walk()["ran"] == {}

    # Other code, other bytes: what follows runs too, and nothing before it.
    edit(tutorial, "outputs[part] = layer_2\n", "outputs[part] = -layer_2\n")
    answer = walk()
    assert list(answer["ran"]) == ["train", "calibrate", "evaluate", "plot"]
    assert answer["ran"]["train"] == [changed]


def test_an_edited_decoder_reruns_decoding_and_nothing_after_it(
    project: Path, walk: Callable[..., Answer]
):
    header = project / "tasks/data/idx/header.py"
    append(header, "\nUNUSED = 1\n\n\ndef unused() -> int:\n    return UNUSED\n")
    assert walk()["ran"] == {}
    edit(
        header,
        "        return TYPE_NAMES[self.code]\n",
        "        return TYPE_NAMES[int(self.code)]\n",
    )
    ran = walk()["ran"]
    assert set(ran) >= {f"decode-{each}" for each in ("training-images", "test-labels")}
    assert not set(ran) & {"train", "evaluate", "plot"}
    for reasons in ran.values():
        assert reasons == ["code changed: digitflow/tasks/data/idx/header.py (Header.type_name)"]
