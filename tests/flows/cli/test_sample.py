"""`digitflow dataset sample`: the bytes of the built-in dataset, whole or not at all."""

from pathlib import Path
from typing import Any

import pytest

from digitflow.flows.cli.app import main
from digitflow.tasks.data.datasets.sources import from_directory
from digitflow.tasks.data.idx.arrays import decode
from digitflow.tasks.data.sample import write_sample


def sample(folder: Path, *arguments: str) -> int:
    return main(["dataset", "sample", "--count", "60", "--to", str(folder), *arguments])


def contents(folder: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in folder.iterdir()}


def test_writes_the_bytes_that_the_numbers_and_the_seed_say(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    made = tmp_path / "new" / "digits"
    assert sample(made, "--test", "7", "--seed", "3") == 0
    said = capsys.readouterr().out
    assert "60 training and 7 test images" in said
    assert "digitflow run --dataset" in said
    write_sample(tmp_path / "direct", training=60, test=7, seed=3)
    assert contents(made) == contents(tmp_path / "direct")
    assert [each.name for each in made.parent.iterdir()] == ["digits"]


def test_a_sixth_is_for_testing_and_the_seed_is_the_built_in_datasets(tmp_path: Path):
    assert sample(tmp_path / "made") == 0
    write_sample(tmp_path / "direct", training=60, test=10, seed=20_260_101)
    assert contents(tmp_path / "made") == contents(tmp_path / "direct")
    dataset = from_directory(tmp_path / "made")
    assert decode(tmp_path / "made" / dataset.file("test_images").name).shape == (10, 28, 28)


def test_an_empty_folder_is_taken(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    assert sample(tmp_path / "empty") == 0
    assert len(contents(tmp_path / "empty")) == 4


@pytest.mark.parametrize("kind", ["one with files in it", "a file"])
def test_nothing_that_is_there_is_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
):
    place = tmp_path / "place"
    if kind == "a file":
        place.write_text("mine")
    else:
        place.mkdir()
        (place / "mine").write_text("mine")
    assert sample(place) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"expected a new or an empty folder, found {kind}; name another place" in said
    assert (place if kind == "a file" else place / "mine").read_text() == "mine"


@pytest.mark.parametrize("wrong", [["--test", "0"], ["--seed", "-1"], ["--count", "0"]])
def test_numbers_out_of_range(tmp_path: Path, wrong: list[str]):
    arguments = ["dataset", "sample", "--to", str(tmp_path / "made"), "--count", "5"]
    assert main([*arguments, *wrong]) == 2
    assert not (tmp_path / "made").exists()


def test_ctrl_c_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def interrupted(folder: Path, **options: Any) -> None:
        folder.mkdir()
        (folder / "half").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr("digitflow.tasks.data.sample.write_sample", interrupted)
    assert sample(tmp_path / "made") == 1
    assert "stopped; nothing was written to" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
