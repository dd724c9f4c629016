"""`digitflow predict`, in this process: no Prefect is started."""

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from digitflow.flows.cli.app import main
from digitflow.storage.store import Store
from digitflow.tasks.data.idx import arrays as idx
from digitflow.tasks.nn.inference.predict import predict
from tests.mnist import ROOT
from tests.registered import HALVES, SIDE, register
from tests.terminal import pretend_a_terminal

Answer = tuple[int, str, str]
Cli = Callable[..., Answer]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store whose champion tells heavy heads from heavy feet; the test's folder is another."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("DIGITFLOW_STORE", str(tmp_path / "store"))
    cache = Store()
    register(cache, weights=HALVES, class_names=("head", "foot"))
    cache.models.promote(1, "test")
    return cache


@pytest.fixture
def cli(store: Store, capsys: pytest.CaptureFixture[str]) -> Cli:
    def run(*arguments: str) -> Answer:
        capsys.readouterr()
        code = main(["predict", *arguments])
        return code, *capsys.readouterr()

    return run


def image(head: int, foot: int) -> np.ndarray:
    """Return an image on black with so many white pixels above and below."""
    drawn = np.zeros((SIDE, SIDE), np.uint8)
    drawn[4, 2 : 2 + head] = drawn[20, 2 : 2 + foot] = 255
    return drawn


def save(name: str, array: np.ndarray) -> str:
    Image.fromarray(array).save(name)
    return name


def test_table(cli: Cli):
    save("a.png", image(20, 5))
    save("b.png", image(0, 8))
    save("blank.png", image(0, 0))
    code, out, err = cli("a.png", "b.png", "blank.png")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "picture    class  probability  runner-up",
        "a.png      head        64.7 %  foot    35.3 %",
        "b.png      foot        59.6 %  head    40.4 %",
        "blank.png  blank",
    ]


def test_a_long_path_is_cut_at_its_start_only_in_a_terminal(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
):
    folder = Path("a" * 40, "b" * 40)
    folder.mkdir(parents=True)
    save(str(folder / "seven.png"), image(9, 1))
    assert f"{folder}/seven.png  head" in cli(str(folder))[1]
    pretend_a_terminal(monkeypatch)
    code, out, _ = cli(str(folder))
    assert code == 0
    assert all(len(line) <= 80 for line in out.splitlines())
    assert "bbb/seven.png  head" in out


def test_json(cli: Cli):
    save("a.png", image(20, 5))
    code, out, _ = cli("a.png", "missing.png", "--json")
    document = json.loads(out)
    assert code == 1
    assert document["model"] == 1
    assert document["predictions"][0]["class"] == "head"
    assert document["unreadable"] == [
        {"file": "missing.png", "problem": "No such file or directory"}
    ]


def test_csv_to_stdout_and_to_a_file(cli: Cli):
    save("a.png", image(20, 5))
    code, out, _ = cli("a.png", "--csv", "-")
    assert code == 0
    ((row),) = csv.DictReader(io.StringIO(out))
    assert (row["picture"], row["class"], row["probability"]) == ("a.png", "head", "0.647235")
    code, said, _ = cli("a.png", "--csv", "out.csv")
    assert (code, said) == (0, "1 prediction is in out.csv\n")
    assert Path("out.csv").read_text() == out


def test_what_cannot_be_read_is_named_and_the_others_go_on(cli: Cli):
    save("good.png", image(20, 5))
    Path("notes.txt").write_text("no picture")
    code, out, err = cli("notes.txt", "good.png")
    assert code == 1
    assert "good.png" in out
    assert "notes.txt: expected a picture (PNG, JPEG" in err


def test_idx_gives_a_line_an_image_and_the_very_predictions(cli: Cli, store: Store):
    images = np.random.default_rng(0).integers(0, 256, (5, SIDE, SIDE)).astype(np.uint8)
    idx.write(Path("images.gz"), images)
    save("third.png", images[3] * (np.pad(np.ones((26, 26), np.uint8), 1)))
    code, out, _ = cli("images.gz", "--json")
    assert code == 0
    found = [each["class"] for each in json.loads(out)["predictions"]]
    answers = predict(HALVES, images).argmax(axis=1)
    assert found == [("head", "foot")[answer] for answer in answers]


class TestNoSquare:
    """A model of images 4 high and 6 wide, from files that hold them transposed."""

    WEIGHTS = {"weights_1": np.repeat(np.eye(2), 12, axis=0) / 100, "weights_2": np.eye(2)}

    @pytest.fixture(autouse=True)
    def _champion(self, store: Store) -> None:
        known = {"image_size": (4, 6), "transposed": True}
        register(store, weights=self.WEIGHTS, class_names=("head", "foot"), **known)
        store.models.promote(2, "test")

    def said(self, cli: Cli, *names: str) -> list[str]:
        code, out, err = cli(*names, "--json")
        assert (code, err) == (0, "")
        return [each["class"] for each in json.loads(out)["predictions"]]

    def test_the_datasets_own_files_upright_arrays_and_a_picture(self, cli: Cli):
        heads = np.zeros((3, 4, 6), np.uint8)
        heads[0, 0] = heads[1, 1] = heads[2, 3] = 200
        idx.write(Path("test-images.gz"), heads.swapaxes(1, 2))
        np.save("upright.npy", heads)
        assert self.said(cli, "test-images.gz", "upright.npy") == ["head", "head", "foot"] * 2
        photo = np.full((60, 40), 230, np.uint8)
        photo[10:16, 10:30] = photo[16:50, 18:21] = 20  # a heavy head
        save("photo.png", photo)
        assert self.said(cli, "photo.png") == ["head"]

    def test_a_version_of_an_older_digitflow(self, cli: Cli, store: Store):
        weights = {name: 2 * array for name, array in self.WEIGHTS.items()}
        register(store, weights=weights, class_names=("head", "foot"))
        save("a.png", image(20, 5))
        code, _, err = cli("a.png", "--model", "3")
        assert code == 2
        assert "24 pixels, not a square number. Repeat the run" in " ".join(err.split())


class TestRefused:
    def test_no_file(self, cli: Cli):
        code, _, err = cli()
        assert code == 2
        assert "expected pictures, found none; name files or folders" in " ".join(err.split())

    def test_no_such_model(self, cli: Cli):
        code, _, err = cli("a.png", "--model", "9")
        assert code == 2
        assert "expected the number of a model version, found 9; there are 1" in err

    def test_no_champion(self, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("DIGITFLOW_STORE", str(tmp_path / "another"))
        code, _, err = cli("a.png")
        assert code == 2
        assert "no champion to predict with" in err
        assert not (tmp_path / "another").exists()

    def test_csv_file_that_is_there(self, cli: Cli):
        Path("out.csv").write_text("mine")
        code, _, err = cli("a.png", "--csv", "out.csv")
        assert code == 2
        assert "expected a new file, found one that is there" in " ".join(err.split())
        assert Path("out.csv").read_text() == "mine"

    def test_two_outputs_on_one_terminal(self, cli: Cli):
        code, _, err = cli("a.png", "--csv", "-", "--json")
        assert code == 2
        assert "both print" in err


def test_starts_without_prefect_pandas_and_matplotlib(store: Store):
    save("a.png", image(20, 5))
    script = (
        "import sys; from digitflow.flows.cli.app import main; code = main(['predict', 'a.png']);"
        "heavy = {'prefect', 'pandas', 'matplotlib'} & set(sys.modules); sys.exit(str(heavy) if"
        " heavy or code else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": str(ROOT), "DIGITFLOW_STORE": str(store.root), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_records_only_if_asked(cli: Cli, store: Store):
    save("a.png", image(20, 5))
    cli("a.png")
    assert list(store.batches.newest_first()) == []
    cli("a.png", "--record")
    (batch,) = store.batches.newest_first()
    assert (batch.counts, batch.model) == ((1, 0), 1)
