"""`digitflow dataset list`, `show` and `add`, and what a run makes of an added dataset."""

import gzip
import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from digitflow.flows.cli.app import main
from digitflow.flows.cli.arguments import RunArguments
from digitflow.flows.pipeline import SAMPLE
from digitflow.flows.selection import Selection
from digitflow.storage.store import Store
from digitflow.tasks.data.datasets.dataset import DatasetError, Images
from digitflow.tasks.data.datasets.manifest import write_manifest
from digitflow.tasks.data.datasets.sources import DATASETS, datasets_folder, find
from digitflow.tasks.data.download.fetch import FetchError
from digitflow.tasks.data.idx import arrays as idx
from digitflow.tasks.data.sample import SIDE
from digitflow.tasks.parameters import resolve
from tests.servers.scripted import Behaviours, Handler, ScriptedServer, serving
from tests.terminal import pretend_a_terminal
from tests.walk import walk, write_dataset

Call = Callable[..., tuple[int, str]]

NO_SAMPLE = ["training_sample=0", "test_sample=0"]
LETTERS = {"labels": range(1, 4), "training": 30, "test": 12}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where manifests are kept; the store is elsewhere."""
    monkeypatch.setenv("DIGITFLOW_DATASETS", str(tmp_path / "added"))
    monkeypatch.setenv("DIGITFLOW_STORE", str(tmp_path / "store"))
    return tmp_path / "added"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "files", **LETTERS)


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    def run(*arguments: object) -> tuple[int, str]:
        code = main(["dataset", *map(str, arguments)])
        shown = capsys.readouterr()
        return code, shown.out + shown.err

    return run


@pytest.fixture
def served(files: Path) -> Iterator[str]:
    """A URL below which the files are, and nothing else."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(files))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture
def scripted() -> Iterator[ScriptedServer]:
    with serving() as server:
        yield server


def change_a_byte(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[9] ^= 255  # of the gzip header: which system wrote it
    file.write_bytes(data)


def test_the_sample_is_as_large_as_it_says() -> None:
    expected = Images(SAMPLE["training"], SAMPLE["test"], SIDE, SIDE)
    assert DATASETS["sample"].images == expected


def test_list(call: Call, files: Path, place: Path) -> None:
    code, text = call("list")
    assert code == 0
    assert [line.split()[0] for line in text.splitlines()[1:5]] == list(DATASETS)
    assert "added" not in text
    call("add", files, "--name", "letters")
    (place / "broken.toml").write_text("name = 1")
    code, text = call("list")
    assert re.search(r"letters +letters +30 +12 +9 x 7 +3 +added", text)
    assert f"broken cannot be used: {place / 'broken.toml'}: name: should be a valid string" in text
    assert max(map(len, text.splitlines()[:6])) <= 80
    _, text = call("list", "--json")
    found = {each["name"]: each for each in json.loads(text)}
    assert found["letters"]["labels"] == [1, 2, 3]
    assert found["letters"]["manifest"] == str(place / "letters.toml")
    assert "error" in found["broken"]


@pytest.mark.parametrize("name", DATASETS)
def test_show(call: Call, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_a_terminal(monkeypatch)
    code, text = call("show", name)
    assert code == 0
    assert all(len(line) <= 80 or "://" in line for line in text.splitlines())
    assert DATASETS[name].title in text
    for file in DATASETS[name].files:
        assert file.sha256 in text
    assert json.loads(call("show", name, "--json")[1])["title"] == DATASETS[name].title


def test_show_a_directory(call: Call, files: Path) -> None:
    code, text = call("show", files)
    assert code == 0
    assert "9 x 7" in text
    assert "3: 1, 2, 3" in text
    code, text = call("show", "letter")
    assert code == 2
    assert "unknown dataset 'letter'" in text


def test_add_a_directory_and_train_on_it(
    call: Call, files: Path, place: Path, tmp_path: Path
) -> None:
    code, text = call(
        "add", files, "--name", "letters", "--class-names", "a, b,c", "--title", "Three letters"
    )
    assert code == 0
    assert "These digests are what was found today" in text
    assert "digitflow run --dataset letters" in text
    dataset = find("letters")
    assert all(file.sha256 in text for file in dataset.files)
    assert (dataset.title, dataset.class_names) == ("Three letters", ("a", "b", "c"))
    assert dataset.labels == (1, 2, 3)
    parameters = resolve("quick", {"hidden_sizes": "4", "epochs": 1})
    cache = Store(tmp_path / "store")
    done = walk(cache, dataset, parameters, Selection(until="evaluate"))
    scores = cache.read(done.output("evaluate", "metrics"))
    assert [row["class"] for row in scores["per_class"]] == ["a", "b", "c"]
    # The same bytes have the same keys, whatever they are called and wherever they lie.
    moved = files.rename(tmp_path / "moved")
    again = walk(cache, find(moved), parameters, Selection(until="evaluate"))
    assert again.ran == ["evaluate"]  # for the names


def test_a_manifest_is_found_from_where_it_is_typed(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The flow may run in another folder."""
    write_manifest(tmp_path / "own.toml", replace(find(files), name="own", mirrors=("files",)))
    monkeypatch.chdir(tmp_path)
    options = RunArguments(dataset="own.toml", assignments=NO_SAMPLE).spec().options
    assert options.dataset == str(tmp_path / "own.toml")
    monkeypatch.chdir(tmp_path / "files")
    spec = options.spec()
    assert spec.dataset.files == find(files).files
    assert spec.dataset.mirrors == (str(tmp_path / "files"),)


def test_a_name_stays_a_name(
    call: Call, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call("add", files, "--name", "letters")
    (tmp_path / "letters").mkdir()
    monkeypatch.chdir(tmp_path)
    spec = RunArguments(dataset="letters", assignments=NO_SAMPLE).spec()
    assert spec.options.dataset == "letters"


def test_too_large_a_sample_is_bad_usage(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--dataset", str(files)]) == 2
    text = " ".join(capsys.readouterr().err.split())
    assert "training_sample: expected at most 30, the images that files has, or 0 for all" in text
    assert "set training_sample=0 test_sample=0" in text
    assert main(["plan", "--dataset", str(files), "--until", "decode"]) == 3


def test_adding_twice(call: Call, files: Path) -> None:
    call("add", files, "--name", "letters")
    code, text = call("add", files, "--name", "letters")
    assert code == 0
    assert "is there already, with these very files" in text
    code, text = call("add", files, "--name", "letters", "--class-names", "a,b,c", "--transposed")
    assert code == 2
    assert "class names: 1, 2, 3 then, a, b, c now" in text
    assert "transposed: False then, True now" in text
    assert find("letters").class_names == ("1", "2", "3")
    code, _ = call("add", files, "--name", "letters", "--class-names", "a,b,c", "--replace")
    assert code == 0
    assert find("letters").class_names == ("a", "b", "c")


def test_what_people_wrote_into_the_manifest_stays(call: Call, files: Path) -> None:
    call("add", files, "--name", "letters")
    manifest = datasets_folder() / "letters.toml"
    said = 'licence = "MIT"\n' + manifest.read_text() + '\n[datasheet]\nuses = "Reading post."\n'
    manifest.write_text(said)
    code, text = call("add", files, "--name", "letters")
    assert (code, "is there already" in text) == (0, True)
    code, _ = call("add", files, "--name", "letters", "--class-names", "a,b,c", "--replace")
    assert code == 0
    assert (find("letters").licence, find("letters").datasheet.uses) == ("MIT", "Reading post.")
    assert "Reading post." in call("show", "letters")[1]


def test_what_they_wrote_is_not_said_of_other_data(call: Call, files: Path, tmp_path: Path) -> None:
    call("add", files, "--name", "letters")
    manifest = datasets_folder() / "letters.toml"
    manifest.write_text('licence = "MIT"\n' + manifest.read_text())
    other = shutil.copytree(files, tmp_path / "elsewhere")
    assert call("add", other, "--name", "letters", "--replace")[0] == 0
    assert find("letters").licence == ""

    manifest.write_text("no manifest [")
    assert call("add", other, "--name", "letters")[0] == 2
    assert call("add", other, "--name", "letters", "--replace")[0] == 0
    assert find("letters").licence == ""


def test_changed_bytes_are_refused_with_both_digests(
    call: Call, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call("add", files, "--name", "letters")
    before = find("letters").file("test_labels")
    change_a_byte(files / before.name)
    now = find(files).file("test_labels")
    assert now.sha256 != before.sha256
    for arguments in (["run", "--dataset", "letters"], ["plan", "--dataset", "letters"]):
        assert main(arguments) == 2
        text = capsys.readouterr().err
        assert "letters has changed since it was added" in text
        assert before.sha256 in text
        assert now.sha256 in text
        assert "--name letters --replace" in " ".join(text.split())
    code, text = call("add", files, "--name", "letters")
    assert code == 2
    assert f"test_labels: SHA-256 {before.sha256} then, {now.sha256} now" in " ".join(text.split())
    code, _ = call("add", files, "--name", "letters", "--replace")
    assert code == 0
    assert find("letters").file("test_labels") == now


def test_a_moving_dataset_is_taken_as_it_is(call: Call, files: Path) -> None:
    code, text = call("add", files, "--name", "letters", "--class-names", "a,b,c", "--moving")
    assert code == 0
    assert "each run takes the files as they are then" in text
    assert "trusted" not in text
    write_dataset(files, **{**LETTERS, "training": 33, "seed": 5})
    assert RunArguments(dataset="letters", assignments=NO_SAMPLE).spec().dataset == find("letters")
    assert find("letters").files == find(files).files
    assert re.search(r"letters +letters +33 +12 +9 x 7 +3 +moving", call("list")[1])
    code, text = call("add", files, "--name", "letters", "--class-names", "a,b,c", "--moving")
    assert (code, "is there already, and moving" in text) == (0, True)
    code, text = call("add", files, "--name", "letters", "--class-names", "a,b,c")
    assert code == 2
    assert "moving: True then, False now" in text
    code, text = call("add", "http://127.0.0.1/", "--name", "more", "--moving")
    assert code == 2
    assert "--moving: expected a directory, found http://127.0.0.1/" in text


def test_add_a_url(call: Call, files: Path, served: str, tmp_path: Path) -> None:
    code, text = call("add", served, "--name", "letters")
    assert code == 0, text
    dataset = find("letters")
    assert dataset.mirrors == (served,)
    cache = Store(tmp_path / "store")
    assert all(cache.objects.holds(file.sha256) for file in dataset.files)
    # What a server sends another time must be the same.
    change_a_byte(files / dataset.files[0].name)
    cache.objects.path(dataset.files[0].sha256).unlink()
    with pytest.raises(FetchError, match="add the dataset again with --replace") as caught:
        walk(cache, dataset, selection=Selection(until="decode"))
    assert f"expected SHA-256 {dataset.files[0].sha256}, found" in str(caught.value)
    code, text = call("add", served, "--name", "letters")
    assert code == 2
    assert f"SHA-256 {dataset.files[0].sha256} then" in " ".join(text.split())


@pytest.mark.parametrize(
    "spelling",
    [
        "{0}/../files",
        "{0}/./",
        "{0}//",
        "{0}/../link",
        "file://{0}/../files/",
        "../files",
    ],
)
def test_a_directory_is_written_down_plainly(
    call: Call, files: Path, monkeypatch: pytest.MonkeyPatch, spelling: str
) -> None:
    link = files.with_name("link")
    link.symlink_to(files)
    (files / "inner").mkdir()
    monkeypatch.chdir(files)
    code, text = call("add", spelling.format(files), "--name", "letters")
    assert code == 0, text
    # A link that was named stays, since what it leads to may be exchanged.
    assert find("letters").mirrors == (str(link if "link" in spelling else files),)


def test_dots_behind_a_link_lead_where_the_system_says(
    call: Call, files: Path, tmp_path: Path
) -> None:
    """`link/..` is the folder above what the link leads to, and not the folder of the link."""
    (files / "inner").mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "link").symlink_to(files / "inner")
    code, text = call("add", elsewhere / "link" / "..", "--name", "letters")
    assert code == 0, text
    assert find("letters").mirrors == (str(files),)


UNKNOWN = [
    ("ftp://user:secret@host/mnist?key=secret", "this mirror: expected http(s)://"),
    ("ftp://host/mnist?key=secret", "ftp://host/mnist: expected http(s)://, file:// or a dir"),
    ("s3://bucket/mnist", "found s3://"),
    ("htps://host/mnist", "found htps://"),
    ("http:/host/mnist", "expected a URL such as http://host/path, found one without //"),
    ("http://[bad/", "not a valid URL"),
    ("http://host:port/", "not a valid URL"),
    ("https://", "expected the name of a host"),
    ("file://host/share", "expected file:///path, found a file URL with the host 'host'"),
]


@pytest.mark.parametrize(("place", "text"), UNKNOWN)
def test_a_place_of_an_unknown_kind_is_refused_before_any_work(
    call: Call,
    files: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    text: str,
) -> None:
    code, shown = call("add", place, "--name", "letters")
    shown = " ".join(shown.split())
    assert code == 2
    assert text in shown
    settings = ["--set", *NO_SAMPLE]
    assert main(["plan", "--dataset", str(files), "--mirror", place, *settings]) == 2
    shown += capsys.readouterr().err
    monkeypatch.setenv("DIGITFLOW_MIRROR", place)
    assert main(["plan", "--dataset", str(files), *settings]) == 2
    shown += capsys.readouterr().err
    assert "InvalidSchema" not in shown
    assert "secret" not in shown


def test_a_manifest_with_such_a_mirror_is_refused(files: Path, tmp_path: Path) -> None:
    own = replace(find(files), name="own", mirrors=("ftp://host/mnist",))
    write_manifest(tmp_path / "own.toml", own)
    with pytest.raises(DatasetError, match=r"own.toml: ftp://host/mnist: expected http"):
        find(tmp_path / "own.toml")


def test_a_server_that_asks_to_be_left_alone_while_a_dataset_is_added(
    call: Call, files: Path, scripted: ScriptedServer
) -> None:
    busy = Behaviours.answer(429, Retry_After=1)

    def serve(handler: Handler) -> None:
        file = files / handler.path.removeprefix("/mnist/")
        answer = Behaviours.serve(file.read_bytes()) if file.exists() else Behaviours.answer(404)
        answer(handler)

    code, text = call("add", scripted.script(busy, serve), "--name", "letters")
    assert code == 0, text
    shown = " ".join(text.split())
    assert (
        f"{scripted.url}: 429 Too Many Requests, and asks to be left alone for 1 s; asked" in shown
    )
    scripted.asked.clear()
    code, text = call(
        "add", scripted.script(Behaviours.answer(429, Retry_After=999)), "--name", "b"
    )
    assert code == 1
    assert "that is more than the 300 s for which a mirror is waited for" in " ".join(text.split())
    assert len(scripted.asked) == 1


def test_add_a_url_with_a_prefix(call: Call, files: Path, served: str) -> None:
    for file in list(files.iterdir()):
        file.rename(files / f"emnist-{file.name.replace('t10k', 'test')}")
    code, text = call("add", served, "--name", "letters", "--prefix", "emnist")
    assert code == 0, text
    assert [file.name for file in find("letters").files] == [
        "emnist-train-images-idx3-ubyte.gz",
        "emnist-train-labels-idx1-ubyte.gz",
        "emnist-test-images-idx3-ubyte.gz",
        "emnist-test-labels-idx1-ubyte.gz",
    ]


def test_a_url_without_the_files(call: Call, place: Path, served: str) -> None:
    code, text = call("add", f"{served}nowhere/", "--name", "letters")
    assert code == 1
    text = " ".join(text.split())
    assert f"{served}nowhere/: expected one of train-images-idx3-ubyte.gz, " in text
    assert "404" in text
    code, text = call("add", "http://127.0.0.1:1/", "--name", "letters")
    assert code == 1
    assert "train-images-idx3-ubyte.gz could not be downloaded: " in " ".join(text.split())
    assert not place.exists()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("mnist", "--name mnist: a dataset of that name is built in"),
        ("My letters", "expected a name of at most 64 lower-case letters"),
        ("../letters", "expected a name of at most 64 lower-case letters"),
    ],
)
def test_names_that_cannot_be_given(
    call: Call, files: Path, place: Path, name: str, text: str
) -> None:
    code, shown = call("add", files, "--name", name)
    assert code == 2
    assert text in " ".join(shown.split())
    assert not place.exists()


def test_what_is_damaged_is_not_trusted(call: Call, files: Path, place: Path) -> None:
    images = idx.encode(np.zeros((12, 9, 7), np.uint8))
    file = files / "t10k-images-idx3-ubyte.gz"
    for data, text in (
        (images[:-5], "expected 756 bytes of data, found 751"),
        (images + b"x", "expected 756 bytes of data, found more"),
    ):
        file.write_bytes(gzip.compress(data))
        code, shown = call("add", files, "--name", "letters")
        assert code == 2
        assert text in " ".join(shown.split())
    file.write_bytes(gzip.compress(images)[:-4])
    code, shown = call("add", files, "--name", "letters")
    assert code == 2
    assert "the file is not complete" in " ".join(shown.split())
    assert not place.exists()


def test_check_says_what_looks_wrong(call: Call, tmp_path: Path):
    folder = write_dataset(tmp_path / "leak", training=60, test=60)
    images = idx.decode(folder / "train-images-idx3-ubyte.gz")
    idx.write(folder / "t10k-images-idx3-ubyte.gz", images)
    code, said = call("check", folder)
    assert code == 1
    assert "60 of 60 test images are training images, too" in said
    code, said = call("check", folder, "--json")
    document = json.loads(said)
    assert code == 1
    assert document["suspicions"][0]["kind"] == "shared"
    assert (document["measures"]["shared"], document["suspicions"][0]["count"]) == (60, 60)
    code, said = call("add", folder, "--name", "leaking")
    assert code == 0
    assert "60 of 60 test images are training images, too" in said
