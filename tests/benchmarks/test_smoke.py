"""Every benchmark script runs: small and once, and what it measures is not looked at."""

import json
import re
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from benchmarks.peers.dvc import WIRING, DvcProject, find_dvc
from digitflow.flows.selection import STAGE_NAMES
from digitflow.tasks.nn.presets import PRESETS
from tests.environment import CLEAN
from tests.mnist import ROOT
from tests.servers.processes import python
from tests.walk import TINY, write_dataset

SCRIPTS = ROOT / "benchmarks"
TINY_SETTINGS = [f"{name}={value}" for name, value in TINY.items()]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four small IDX files of 28 by 28 pixels, as the networks' presets expect."""
    return write_dataset(
        tmp_path_factory.mktemp("data") / "digits", shape=(28, 28), training=80, test=20
    )


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {**CLEAN, "HOME": str(tmp_path), "DIGITFLOW_STORE": str(tmp_path / "store")}


def output_of(
    script: str, arguments: Sequence[str | Path], environment: dict[str, str], *, bars: bool = False
) -> str:
    """Run a script to its end; with `bars` it may also say that it missed some."""
    done = python(SCRIPTS / script, *arguments, folder=ROOT, environment=environment)
    assert done.returncode in ((0, 1) if bars else (0,)), done.stdout + done.stderr
    if done.returncode:
        assert "MISSED" in done.stdout, done.stdout + done.stderr
    return done.stdout


def test_every_script_is_run_here():
    scripts = {each.name for each in SCRIPTS.glob("*.py") if "__main__" in each.read_text()}
    named = {name for name in scripts if f'"{name}"' in Path(__file__).read_text()}
    # The edits of one are made in test_staleness.py, one a test; the tour is run in test_tour.py.
    assert scripts == named | {"staleness.py", "tour.py", "wild_digits.py"}


def test_train(environment: dict[str, str]):
    assert "|" in output_of("train.py", ["--smoke"], environment)


def test_tutorial(environment: dict[str, str]):
    said = output_of("tutorial.py", ["--epochs", "1", "--repeats", "1"], environment)
    assert "weights identical to the last bit" in said


def test_predict(environment: dict[str, str]):
    assert "| mlp | 2000 |" in output_of("predict.py", ["--case", "mlp", "2000"], environment)


def test_gate(environment: dict[str, str], dataset: Path):
    small = ["--years", "1", "--seeds", "2", "--sizes", "2", "--test-images", "15"]
    said = output_of("gate.py", ["--data", dataset, *small], environment, bars=True)
    assert said.count("| now |") == 4


def test_big_store(environment: dict[str, str]):
    said = output_of("big_store.py", ["--records", "40", "50", "--points", "4"], environment)
    assert "| | 40 records | 50 records |" in said
    cost = r"\d+\.\d\d s, [1-9]\d* files"
    assert len(re.findall(rf"^\| `[a-z]+`[^|]* \| {cost} \| {cost} \|$", said, re.MULTILINE)) == 13
    assert re.search(r"^\| 4 \| \d", said, re.MULTILINE)


def test_reproduce(environment: dict[str, str]):
    said = output_of("reproduce.py", ["--versions", "1", "--changes", "4"], environment)
    assert "3 of 3 the same: met" in said
    assert "4 of 4 caught: met" in said


def test_serve_load(environment: dict[str, str]):
    small = ["--requests", "4", "--connections", "2", "--long", "20"]
    said = output_of("serve_load.py", small, environment, bars=True)
    if "ApacheBench: skipped" not in said:
        row = r"^\| 2 \| [^|]+ \| \d+ \| (?:\d+ ms \| ){3}0 \| \d+ ms \| \d+ MB \|$"
        assert len(re.findall(row, said, re.MULTILINE)) == 3
        assert re.search(r"^\| 20 \| 0 \| \d+\.\d MB \|$", said, re.MULTILINE)


def test_races(environment: dict[str, str]):
    said = output_of("races.py", ["--processes", "2", "--moves", "3", "--kills", "1"], environment)
    assert re.search(r"^\| disk \| 2 × 3 \| [01] \| \d+ \| 12 \| 0 \|", said, re.MULTILINE)


def test_busy(environment: dict[str, str]):
    said = output_of("busy.py", ["--images", "1000", "--rounds", "1"], environment, bars=True)
    assert len(re.findall(r"^\| [12] \| \d+ busy processes \|", said, re.MULTILINE)) == 4


def test_scaling(environment: dict[str, str]):
    assert json.loads(output_of("scaling.py", ["6000"], environment))["peak"] > 0


@pytest.mark.slow
def test_scale(environment: dict[str, str]):
    said = output_of("scale.py", ["--smoke"], environment, bars=True)
    assert "| stage | 300 images | 600 images | exponent |" in said
    for stage in ("draw", "download", "decode", "preprocess", "train", "evaluate", "plot"):
        assert re.search(rf"^\| {stage} \| \d", said, re.MULTILINE)
    assert re.search(r"^- decoding \d.* ratio: \d", said, re.MULTILINE)


def test_accuracy(environment: dict[str, str], dataset: Path):
    tiny = ["epochs=1", "validation_size=20", "batch_size=20"]
    said = output_of(
        "accuracy.py", ["mlp", "--seeds", "0", "--data", dataset, "--set", *tiny], environment
    )
    assert "mlp: mean test accuracy" in said


def test_search(environment: dict[str, str], dataset: Path):
    tables = [each.read_bytes() for each in sorted(SCRIPTS.glob("searches/*.csv"))]
    said = output_of("search.py", ["--smoke", dataset], environment)
    assert re.findall(r"^(\w+): \{'learning_rate': ", said, re.MULTILINE) == list(PRESETS)
    # The tables are of real searches.
    assert [each.read_bytes() for each in sorted(SCRIPTS.glob("searches/*.csv"))] == tables


def test_next_steps(environment: dict[str, str], dataset: Path):
    document = (ROOT / "docs" / "next-steps.md").read_bytes()
    said = output_of("next_steps.py", ["--smoke", dataset], environment)
    assert len(re.findall(r"^\| .* \| \*\*\d+\.\d % \(one seed\)\*\* \|", said, re.MULTILINE)) == 10
    assert "\ndigitflow run --set training_sample=0 relu_derivative=correct " in said
    assert (ROOT / "docs" / "next-steps.md").read_bytes() == document


def test_counted_run(environment: dict[str, str], dataset: Path, tmp_path: Path):
    store = environment["DIGITFLOW_STORE"]
    subprocess.run(
        [sys.executable, "-m", "tests.walk", store, dataset, *TINY_SETTINGS],
        cwd=ROOT,
        env=environment,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    changes = [part for setting in TINY_SETTINGS for part in ("--set", setting)]
    arguments = ["run", "--dataset", dataset, *changes, "--output", tmp_path / "results"]
    said = output_of("counted_run.py", arguments, environment)
    assert "nothing to do" in said
    counts = json.loads(said.splitlines()[-1])
    objects = sum(each.stat().st_size for each in Path(store, "objects").glob("??/*"))
    folders = (ROOT / name for name in ("flows", "storage", "tasks"))
    sources = sum(each.stat().st_size for folder in folders for each in folder.rglob("*.py"))
    # Every object is hashed, and those that are copied into the results a second time; and sources,
    # as files and definition by definition.
    assert objects <= counts["hashed"] < 3 * objects + 2 * sources
    assert counts["read"] > counts["hashed"] - 2 * sources


@pytest.mark.slow
@pytest.mark.prefect
def test_overhead(environment: dict[str, str], dataset: Path):
    arguments = ["--rounds", "1", "--dataset", dataset, "--set", *TINY_SETTINGS]
    said = output_of("overhead.py", arguments, environment, bars=True)
    assert "13 stages, all cached, 1 rounds" in said
    assert re.search(r"digitflow run / bare Prefect: \d", said)


@pytest.mark.slow
@pytest.mark.prefect
@pytest.mark.parametrize("part", [[], ["--halving"]])
def test_sweep(environment: dict[str, str], dataset: Path, part: list[str]):
    said = output_of("sweep.py", ["--smoke", "--data", dataset, *part], environment, bars=True)
    assert "identical to the last bit" in said


@pytest.mark.slow
@pytest.mark.prefect
def test_cache(environment: dict[str, str], dataset: Path):
    said = output_of(
        "cache.py",
        [
            "--dataset",
            dataset,
            "--preset",
            "tutorial",
            "--rounds",
            "1",
            "--runs",
            "2",
            "--set",
            *TINY_SETTINGS,
        ],
        environment,
        bars=True,
    )
    assert re.search(r"digitflow run / bare Prefect: \d", said)
    assert "DVC: skipped. Name a folder for its environment with --dvc-venv." in said
    assert re.search(r"bytes hashed +\d", said)
    assert re.search(r"after +2 runs +\d", said)


def test_non_digits(environment: dict[str, str], tmp_path: Path):
    arguments = ["--pictures", "14", "--to", tmp_path / "drawn"]
    assert "14 pictures" in output_of("non_digits.py", arguments, environment)
    assert len(list((tmp_path / "drawn").glob("*-two-digits.png"))) == 2


def test_wild_digits():
    """It needs a model of whole digits: what it draws is looked at, and the rest by hand."""
    import benchmarks.wild_digits as script

    image = np.zeros((28, 28), np.uint8)
    image[4:24, 12:16] = 255
    line = script.thinned(image)
    assert line.any(axis=1).sum() > 80  # 120, but for its ends
    assert np.median(line.sum(axis=1)[line.any(axis=1)]) == 1
    rng = np.random.default_rng(0)
    for kind, draw in script.KINDS.items():
        picture = np.asarray(draw(line, rng))
        assert np.ptp(picture) > 100, kind


def test_the_project_for_dvc(tmp_path: Path):
    assert find_dvc(None) is None
    dvc = tmp_path / "venv" / "bin" / "dvc"
    dvc.parent.mkdir(parents=True)
    dvc.write_text('#!/bin/sh\necho "$@" >> calls\n')
    dvc.chmod(dvc.stat().st_mode | stat.S_IXUSR)
    assert find_dvc(tmp_path / "venv") == dvc
    stages = [
        {"stage": name, "name": f"{name}-x", "outputs": {"made": {"sha256": letter * 64}}}
        for name, letter in zip(WIRING, "abcdefg", strict=True)
    ]
    project = DvcProject(dvc, tmp_path / "project", tmp_path / "store", stages)
    assert (tmp_path / "project" / "calls").read_text().splitlines()[-1] == "repro --quiet"
    document = json.loads((tmp_path / "project" / "dvc.yaml").read_text())["stages"]
    assert document["train"]["deps"] == ["make.py", "data/preprocess/preprocess-x-made"]
    assert document["train"]["outs"] == ["data/train/train-x-made"]
    assert set(document) == set(STAGE_NAMES) - {"draw", "combine"}
    state = tmp_path / "project" / "state"
    state.mkdir()
    project.side("status").prepare()
    assert state.is_dir()
    project.side("status", hashing=True).prepare()
    assert not state.exists()
