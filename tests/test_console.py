"""What README and docs have their readers type is typed, in order, on a fresh home.

It ends as a reader expects, and prints what they show. In what is shown, `…` stands for whatever
varies: a name, a time, a path, and on a line of its own for lines that are left out.
"""

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from digitflow.tasks.data.datasets.manifest import write_manifest
from digitflow.tasks.data.datasets.sources import from_directory
from digitflow.tasks.data.idx import arrays as idx
from tests.environment import CLEAN, OFFLINE
from tests.mnist import ROOT
from tests.servers.processes import typed_in
from tests.walk import write_dataset

pytestmark = [pytest.mark.data, pytest.mark.prefect]

README = ROOT / "README.md"
PAGES = [
    path
    for path in sorted((ROOT / "docs").glob("*.md"))
    if "```console\n" in path.read_text(encoding="utf-8")
    and path.name != "own-project.md"  # typed in a project's folder: tests/flows/cli/test_new.py
]

# What is not typed here: how its line begins, why, and which test does it instead.
NOT_TYPED: Mapping[str, str] = {
    "make test": "these are the tests",
    "make up": "installs, and stays up: tests/deploy/test_up.py",
    "make install": "installs: tests/deploy/test_wheel.py",
    "digitflow up": "stays up: tests/deploy/test_up.py",
    "digitflow server": "stays up: tests/flows/server/test_server.py",
    "digitflow monitor": "stays up: tests/flows/server/test_monitor.py",
    "digitflow serve": "stays up: tests/flows/test_serve.py",
    "digitflow deploy": "needs that server: tests/deploy/test_deployments.py",
    "curl ": "needs that server: tests/flows/test_serve.py",
    "export ": "names that server",
    "prefect ": "needs that server: tests/deploy/test_deployments.py",
    "dask ": "stays up on machines of their own: tests/flows/test_workers.py",
    "sudo": "changes the machine: tests/deploy/test_documents.py",
    "docker ": "needs an image: tests/deploy/test_image.py",
    "git pull": "changes this repository",
    "pip install": "installs: tests/deploy/test_wheel.py",
    "python ": "takes minutes: tests/benchmarks/test_smoke.py, tests/fuzz/test_fuzz.py",
    "digitflow reproduce": "checks a commit out of this repository: tests/engine/test_reproduce.py",
    "digitflow sweep": "trains several networks: tests/flows/cli/test_sweep.py",
    "digitflow retrain": "trains again: tests/flows/cli/test_retrain.py",
    "digitflow rehearse": "trains for a fortnight: tests/flows/test_rehearsal.py",
    "digitflow models approve": "needs a model that waits for it: tests/gate/test_approval.py",
    "digitflow models reject": "needs a model that waits for it: tests/gate/test_approval.py",
    "cp arrived": "brings images for that: tests/flows/test_retrain_data.py",
    "digitflow drift": "needs several days' pictures: tests/flows/cli/test_predict.py",
    "digitflow dataset check kmnist": "downloads: tests/flows/cli/test_datasets.py",
    "digitflow dataset sample": "draws for minutes: tests/flows/cli/test_sample.py",
}
# All else would do what nobody has looked at, on the machine of whoever runs the tests.
TYPED = ("digitflow", "make run", ". .venv/bin/activate")
# The runs that are run. The others train for longer, or on what is to be downloaded: planned, they
# say all the same whether the dataset, the preset and each parameter are acceptable.
RUN = (
    "digitflow run",
    "digitflow run --set epochs=5 learning_rate=0.01",
    "digitflow run --refresh train",
)
# A plan of which something would run.
SOMETHING_TO_DO = 3


@dataclass(frozen=True)
class Typed:
    """A command of a document, the line it is on, and what is shown below it, if anything is."""

    line: int
    command: str
    shown: str | None

    @property
    def bare(self) -> str:
        """The command without variables before it, folder and explanation behind it."""
        words = re.sub(r"^(?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?", "", self.command)
        return re.sub(r"\s+#.*", "", words)

    @property
    def left_out(self) -> bool:
        return any(self.bare.startswith(begin) for begin in NOT_TYPED)


def typed(document: Path) -> Iterator[Typed]:
    """Yield the commands of a document's console blocks: after a dollar, or each line of one."""
    text = document.read_text(encoding="utf-8")
    for block in re.finditer(r"```console\n(.*?)```", text, re.DOTALL):
        first = text.count("\n", 0, block.start()) + 2
        lines = block[1].replace("\\\n", "  ").splitlines()
        prompted = any(line.startswith("$ ") for line in lines)
        starts = [n for n, line in enumerate(lines) if line.startswith("$ ") or not prompted]
        for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
            shown = "\n".join(lines[start + 1 : end])
            yield Typed(first + start, lines[start].removeprefix("$ "), shown or None)


def as_pattern(shown: str) -> str:
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    return "".join(
        r"(?:.*\n)*" if line == "…" else re.escape(line).replace("…", ".*") + r"\n"
        for line in lines
    )


def agrees(shown: str, printed: str) -> bool:
    lines = "".join(" ".join(line.split()) + "\n" for line in printed.splitlines())
    return re.fullmatch(as_pattern(shown), lines) is not None


class Reader:
    """Somebody who types what a document says, in a folder and a home of their own."""

    def __init__(self, folder: Path, mnist: Path) -> None:
        self.folder = folder
        self.work = folder / "digitflow"
        self._environment = {
            **CLEAN,
            **OFFLINE,
            "HOME": str(folder / "home"),
            "DIGITFLOW_MIRROR": str(mnist),
            "PATH": f"{self.work / '.venv' / 'bin'}{os.pathsep}{CLEAN['PATH']}",
        }

    def begin(self, mnist: Path) -> None:
        """Lay out what a reader has: the program, and files of the kinds that pages speak of."""
        programs = self.work / ".venv" / "bin"
        programs.mkdir(parents=True)
        (programs / "activate").touch()
        program = programs / "digitflow"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m digitflow "$@"\n')
        program.chmod(0o755)
        images = idx.decode(mnist / "t10k-images-idx3-ubyte.gz")[:20]
        (self.work / "photos").mkdir()
        for name in ("digit.png", "scan.png", "photos/seven.png"):
            Image.fromarray(images[0]).save(self.work / name)
        np.save(self.work / "digits.npy", images[:5])
        idx.write(self.work / "t10k-images-idx3-ubyte.gz", images)
        size = {"training": 1_000, "test": 1_000}
        files = write_dataset(self.work / "path" / "to" / "files", labels=(1, 2, 3), **size)
        write_dataset(self.work / "inbox", labels=(1, 2, 3), **size)
        write_manifest(self.work / "my.toml", from_directory(files))
        for file in write_dataset(self.work / "gzip", labels=range(1, 27), **size).iterdir():
            name = file.name.replace("t10k", "test")
            file.rename(file.with_name(f"emnist-letters-{name}"))

    def type(self, command: str) -> tuple[int, str]:
        """Return the exit code and what is printed on either stream."""
        words = ["bash", "-c", command]
        return typed_in(words, folder=self.work, environment=self._environment)

    def read(self, document: Path) -> list[str]:
        """Type all that a document says; return what does not end or look as it should."""
        wrong = []
        for each in typed(document):
            if each.left_out:
                continue
            if not each.bare.startswith(TYPED):
                wrong.append(f"{document.name}:{each.line}: {each.bare}: add it to NOT_TYPED")
                continue
            command, expected = self._really(each, document)
            code, printed = self.type(command)
            place = f"{document.name}:{each.line}: {command}"
            if code != expected:
                wrong.append(f"{place}\nexit code {code}, expected {expected}:\n{printed}")
            elif each.shown is not None and not agrees(each.shown, printed):
                wrong.append(f"{place}\nexpected\n{each.shown}\nfound\n{printed}")
        return wrong

    def _really(self, each: Typed, document: Path) -> tuple[str, int]:
        """Return a command with this reader's names, and the exit code that it should have."""
        command = each.command
        # The recipe of the Makefile, without the installation.
        command = command.replace("make run", "digitflow run")
        if each.bare.startswith("digitflow run ") and each.bare not in RUN:
            command = command.replace("digitflow run", "digitflow plan", 1)
        if "NAME" in each.bare.split():
            code, listed = self.type("digitflow runs --json")
            assert code == 0, listed
            # Of the README's three runs the second: another model than the champion.
            command = command.replace("NAME", json.loads(listed)[1]["name"], 1)
        command = command.replace("FILE…", "digit.png").replace(" DIR ", " path/to/files ")
        planned = command.startswith("digitflow plan")
        return command, SOMETHING_TO_DO if planned else 0


@pytest.fixture(scope="module")
def after_readme(
    tmp_path_factory: pytest.TempPathFactory, mnist_directory: Path
) -> tuple[Reader, list[str]]:
    """A reader at the end of the README, and what was wrong with it."""
    reader = Reader(tmp_path_factory.mktemp("reader"), mnist_directory)
    reader.begin(mnist_directory)
    return reader, reader.read(README)


def test_the_readme(after_readme: tuple[Reader, list[str]]) -> None:
    assert after_readme[1] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_a_page_after_the_readme(
    after_readme: tuple[Reader, list[str]], page: Path, tmp_path: Path, mnist_directory: Path
) -> None:
    if all(each.left_out for each in typed(page)):
        pytest.skip("nothing of it is typed here: NOT_TYPED")
    reader = Reader(tmp_path / "reader", mnist_directory)
    shutil.copytree(after_readme[0].folder, reader.folder)
    assert reader.read(page) == []


def test_whatever_is_not_typed_is_somewhere() -> None:
    everything = [each for page in (README, *PAGES) for each in typed(page)]
    for begin, why in NOT_TYPED.items():
        assert any(each.bare.startswith(begin) for each in everything), begin
        for test in re.findall(r"tests/[\w/]+\.py", why):
            assert (ROOT / test).is_file(), test
    assert set(RUN) <= {each.bare.replace("make run", "digitflow run") for each in everything}
    assert "\t@$(RUN) -m digitflow run\n" in (ROOT / "Makefile").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("a  1.5 s", "a 1.5   s\n", True),
        ("a 1.5 s", "a 1.6 s\n", False),
        ("a … s", "a 1.6 s\n", True),
        ("a … s", "a 1.6 m\n", False),
        ("a\n…\nz", "a\nb\nc\nz\n", True),
        ("a\n…\nz", "a\nz\n", True),
        ("a\n…\nz", "a\nb\n", False),
        ("a", "a\nb\n", False),
        ("a.c", "abc\n", False),
    ],
)
def test_what_is_shown_is_compared(shown: str, printed: str, same: bool) -> None:
    assert agrees(shown, printed) == same
