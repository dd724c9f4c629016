"""The image of `Dockerfile`, as far as can be told without building it, and pools of containers."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import prefect
import pytest
import yaml  # type: ignore[import-untyped]

from tests.mnist import ROOT
from tests.patience import PATIENCE

TEMPLATES = Path(prefect.__file__).parent / "server/api/collections_data/views"
HADOLINT = shutil.which(
    "hadolint", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
)


@pytest.fixture(scope="module")
def stages() -> list[list[tuple[str, str]]]:
    """The instructions of each stage of the Dockerfile, with what they say."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    found: list[list[tuple[str, str]]] = [[]]
    for line in lines:
        name, _, rest = line.partition(" ")
        if name == "FROM":
            found.append([])
        found[-1].append((name, rest.strip()))
    return found[1:]


def said(stage: list[tuple[str, str]], instruction: str) -> list[str]:
    return [rest for name, rest in stage if name == instruction]


def test_what_is_installed_is_pinned_by_hashes(stages: list[list[tuple[str, str]]]) -> None:
    installs = [each for stage in stages for each in said(stage, "RUN") if "pip install" in each]
    locked, ours = installs
    assert "--require-hashes --requirement requirements.txt" in locked
    # With neither, what it is built with would be fetched without a hash.
    assert {"--no-deps", "--no-build-isolation", "."} <= set(ours.split())
    pinned = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    assert re.search(r"^setuptools==\S+ \\$", pinned, re.MULTILINE)


def test_the_wheel_is_built_from_what_it_needs(
    stages: list[list[tuple[str, str]]], buildable: Path
) -> None:
    copied = [each.split() for each in said(stages[0], "COPY")]
    names = {name for *sources, _ in copied for name in sources}
    left_by_building = {"build", "digitflow.egg-info"}
    enough = {path.name for path in buildable.iterdir()} - left_by_building
    assert names == {*enough, "requirements.txt"}
    for *sources, target in copied:
        assert target in ("./", *sources)  # a folder's files would land in the one above


def test_the_image_has_no_checkout_and_is_not_root(stages: list[list[tuple[str, str]]]) -> None:
    assert len(stages) == 2
    last = stages[-1]
    assert said(last, "COPY") == ["--from=build /opt/digitflow /opt/digitflow"]
    assert not any("pip" in each for each in said(last, "RUN"))
    assert last[-3][0] == "USER"
    assert int(last[-3][1]) > 0
    assert last[-1] == ("CMD", '["prefect", "worker", "start", "--pool", "digitflow"]')


def test_it_names_no_host() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert "://" not in text
    bases = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    assert bases == ["python:${PYTHON}-slim"] * 2


@pytest.mark.skipif(HADOLINT is None, reason="hadolint is not installed")
def test_a_linter_finds_nothing_in_it() -> None:
    done = subprocess.run(
        [str(HADOLINT), "--no-color", "Dockerfile"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("kind", ["process", "docker", "kubernetes"])
def test_deployments_suit_pools_of_every_type(kind: str) -> None:
    every = json.loads((TEMPLATES / "aggregate-worker-metadata.json").read_text(encoding="utf-8"))
    (worker,) = [found[kind] for found in every.values() if kind in found]
    variables: dict[str, Any] = worker["default_base_job_configuration"]["variables"]
    # As docs/deploy.md says.
    assert {"env"} | ({"image"} if kind != "process" else set()) <= set(variables["properties"])
    declared = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
    for each in declared:
        jsonschema.validate(each["work_pool"]["job_variables"], variables)
