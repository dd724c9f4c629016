"""Models trained once more by `digitflow reproduce`, and bytes changed underneath it.

Run with ``python benchmarks/reproduce.py``. A copy of this checkout becomes a project of one
commit, which trains versions of three presets on a small dataset that it draws: another seed and
another number of images each. First each version is reproduced; bar: all are the same. Then bytes
are changed, one at a time, in what a reproduction depends on or compares, until a hundred have been
that can matter; bar: of none it is said that the model is the same. Every answer is that of the
command, in a process of its own.

A byte may change nothing: one of a comment in the code, or of the digest of a package for another
platform in the lock. It counts apart, if the code means the same without comments and docstrings,
or the lock has led to the same packages.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.measure import MOST_SECONDS  # noqa: E402 - found by now
from digitflow.storage.digests import digest_json  # noqa: E402
from digitflow.storage.documents import checksummed, verified  # noqa: E402
from digitflow.storage.history.models import ModelVersion  # noqa: E402
from digitflow.storage.records import Record  # noqa: E402
from digitflow.storage.store import Store  # noqa: E402
from digitflow.tasks.recomputation.recompute import Records  # noqa: E402

PRESETS: dict[str, dict[str, Any]] = {
    "tutorial": {"epochs": 3},
    "quick": {"epochs": 2, "hidden_sizes": "64"},
    "cnn": {"epochs": 1, "convolution_channels": "4,8", "hidden_sizes": "32"},
}
IMAGES, TEST_IMAGES = 1_200, 200
LOCK = "requirements.txt"
SAME, DIFFERENT, REFUSED, HEALED, NOTHING, MISSED = (
    "same", "differs", "refused", "healed", "changes nothing", "MISSED",
)  # fmt: skip
_PER_ROUND = {"data": 3, "model": 3, "record": 4, "forged": 3, "ledger": 1, "code": 5}


def main() -> int:
    """Measure what the command line asks for, and print it as tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--versions", type=int, default=20, help="of each preset")
    parser.add_argument("--changes", type=int, default=100, help="that can matter")
    parser.add_argument("--locks", type=int, default=0, help="of them in the lock, minutes each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.train:
        train(given.train, given.versions)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        project = Project(Path(folder))
        project.train(given.versions)
        versions = [*Store(project.store).models.oldest_first()]
        is_met = print_versions(project, versions)
        if given.locks:
            said = project.reproduce(versions[0], "--venv").verdict
            print(f"v1 with the packages of its lock, installed anew: {said}\n", flush=True)
            is_met &= said == SAME
        drawn = draw_changes(project, versions, given.changes, given.locks, given.seed)
        is_met &= print_changes(drawn)
    own, children = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    seconds = sum(each.ru_utime + each.ru_stime for each in (own, children))
    print(f"\n{seconds / 60:.1f} CPU minutes")
    return 0 if is_met else 1


def train(folder: Path, versions: int) -> None:
    """Train so many versions of each preset, with the code of whatever project this is."""
    import digitflow
    from digitflow.tasks.data.sample import write_sample

    write_sample(folder / "digits", training=IMAGES, test=TEST_IMAGES, seed=0)
    for preset, settings in PRESETS.items():
        for number in range(versions):
            digitflow.run(
                str(folder / "digits"),
                preset,
                name=f"{preset}-{number}",
                output=str(folder / "results" / f"{preset}-{number}"),
                training_sample=IMAGES - 20 * number,
                test_sample=0,
                seed=number,
                dpi=40,
                **settings,
            )


@dataclass(frozen=True)
class Answer:
    """What the command said: exit code, its JSON if it gave any, and all of its words."""

    code: int
    document: dict[str, Any] | None
    text: str

    @property
    def verdict(self) -> str:
        """What it said of the model."""
        if "Traceback" in self.text:
            return MISSED
        if self.document is None:
            return REFUSED if self.code else MISSED
        said_same = self.document["same"]
        return (SAME if said_same else DIFFERENT) if said_same == (self.code == 0) else MISSED


class Project:
    """A copy of this checkout under git, with all in one commit, and a store.

    Parameters
    ----------
    folder
        Where they are made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.code, self.store = folder / "project", folder / "store"
        listed = ("ls-files", "-z", "--cached", "--others", "--exclude-standard")
        for name in filter(None, git(ROOT, *listed).split("\0")):
            if (ROOT / name).exists() or (ROOT / name).is_symlink():
                (self.code / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self.code / name, follow_symlinks=False)
        git(self.code, "init", "--quiet")
        git(self.code, "add", ".")
        git(self.code, "commit", "--quiet", "--message", "The code of the versions")
        self.commit = git(self.code, "rev-parse", "HEAD").strip()

    def train(self, versions: int) -> None:
        """Train so many versions of each preset."""
        command = ["benchmarks/reproduce.py", "--versions", str(versions), "--train", self.folder]
        subprocess.run(
            [sys.executable, *command],
            cwd=self.code,
            env=self._environment,
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=MOST_SECONDS,
        )

    def reproduce(self, version: ModelVersion, *options: str) -> Answer:
        """Ask the command for a version."""
        command = ["-m", "digitflow", "reproduce", f"v{version.version}", "--json", *options]
        done = subprocess.run(
            [sys.executable, *command],
            cwd=self.folder,
            env=self._environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=MOST_SECONDS,
        )
        document = json.loads(done.stdout) if done.stdout.strip() else None
        return Answer(done.returncode, document, done.stdout + done.stderr)

    @property
    def _environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(self.code), "DIGITFLOW_STORE": str(self.store)}

    @contextmanager
    def other_code(self, name: str, data: bytes) -> Iterator[None]:
        """Let a file be another, in the working tree and in what git gives for the commit."""
        file = self.code / name
        before = file.read_bytes()
        file.write_bytes(data)
        git(self.code, "add", name)
        tree = git(self.code, "write-tree").strip()
        other = git(self.code, "commit-tree", tree, "-m", "Changed").strip()
        git(self.code, "replace", self.commit, other)
        try:
            yield
        finally:
            git(self.code, "replace", "--delete", self.commit)
            file.write_bytes(before)
            git(self.code, "add", name)


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder; return what it prints."""
    identity = ("-c", "user.name=Benchmark", "-c", "user.email=benchmark@example.org")
    done = subprocess.run(
        ["git", "-C", folder, *identity, *arguments],
        check=True,
        capture_output=True,
        text=True,
        timeout=MOST_SECONDS,
    )
    return done.stdout


def print_versions(project: Project, versions: list[ModelVersion]) -> bool:
    """Reproduce every version; tell whether all are the same."""
    print("| preset | versions | same | differs | refused |\n|---|---|---|---|---|", flush=True)
    same = 0
    for preset in PRESETS:
        mine = [each for each in versions if each.preset == preset]
        counted = Counter(project.reproduce(each).verdict for each in mine)
        same += counted[SAME]
        cells = [counted[each] for each in (SAME, DIFFERENT, REFUSED)]
        print(f"| `{preset}` | {len(mine)} | {' | '.join(map(str, cells))} |", flush=True)
    is_met = same == len(versions)
    print(f"\n{same} of {len(versions)} the same: {'met' if is_met else 'MISSED'}\n", flush=True)
    return is_met


# Bytes


@dataclass(frozen=True)
class Change:
    """One changed byte, and what came of it.

    Attributes
    ----------
    kind
        Of what.
    what
        Where, for people.
    changed
        Changes it for as long as a context lasts.
    is_mended
        Tells whether the command has put it right by itself.
    changes_nothing
        Tells what an answer says of it that cannot change the model.
    options
        Of the command.
    verdict
        What the command said.
    """

    kind: str
    what: str
    changed: Callable[[], Any]
    is_mended: Callable[[], bool] = lambda: False
    changes_nothing: Callable[[Answer], bool] = lambda answer: False
    options: tuple[str, ...] = ()
    verdict: str = ""

    def tried(self, project: Project, version: ModelVersion) -> Change:
        """Return it with what the command says where it is made."""
        with self.changed():
            answer = project.reproduce(version, *self.options)
            verdict = answer.verdict
            if verdict == SAME:
                verdict = HEALED if self.is_mended() else MISSED
                verdict = NOTHING if self.changes_nothing(answer) else verdict
        if verdict == MISSED:
            print(f"MISSED: v{version.version}: {self.what}: {answer.text}", file=sys.stderr)
        return replace(self, verdict=verdict)


def draw_changes(
    project: Project, versions: list[ModelVersion], wanted: int, locks: int, seed: int
) -> list[Change]:
    """Change bytes, one at a time, until so many have been that can matter."""
    rng = random.Random(seed)  # noqa: S311 - no secret
    store = Store(project.store)
    records = Records(store)
    kinds = [kind for kind, times in _PER_ROUND.items() for _ in range(times)]
    drawn: list[Change] = []
    while (mattered := sum(each.verdict != NOTHING for each in drawn)) < wanted:
        kind = "lock" if wanted - mattered <= locks else kinds[len(drawn) % len(kinds)]
        version = rng.choice(versions)
        lineage = _lineage(version, records)
        change = _DRAW[kind](rng, project, version, store, lineage)
        drawn.append(change.tried(project, version))
    return drawn


def _lineage(version: ModelVersion, records: Records) -> list[Record]:
    """Return the records that a version was made by, the training first."""
    found = {version.training: records.by_key[version.training]}
    pending = [*found.values()]
    while pending:
        for sha256 in pending.pop().document["inputs"].values():
            for maker in records.makers(sha256)[-1:]:
                if maker.key not in found:
                    found[maker.key] = maker
                    pending.append(maker)
    return [*found.values()]


def _in_file(rng: random.Random, kind: str, path: Path) -> Change:
    """Draw a byte of a file of the store."""
    before = path.read_bytes()
    place = rng.randrange(len(before))
    other = rng.choice([each for each in range(256) if each != before[place]])
    after = before[:place] + bytes([other]) + before[place + 1 :]
    what = f"byte {place} of {path.parent.name}/{path.name}: {before[place]} → {other}"
    changed = partial(_replaced, path, after)
    return Change(kind, what, changed, is_mended=lambda: path.read_bytes() == before)


@contextmanager
def _replaced(path: Path, data: bytes) -> Iterator[None]:
    before, mode = path.read_bytes(), path.stat().st_mode
    path.chmod(0o644)
    path.write_bytes(data)
    try:
        yield
    finally:
        path.chmod(0o644)
        path.write_bytes(before)
        path.chmod(mode)


def _of_data(
    rng: random.Random, _: Project, version: ModelVersion, store: Store, lineage: list[Record]
) -> Change:
    record = rng.choice([each for each in lineage if not each.document["code"]])
    (artifact,) = record.outputs.values()
    return _in_file(rng, "data, by its digest", store.objects.path(artifact.sha256))


def _of_model(
    rng: random.Random, _: Project, version: ModelVersion, store: Store, lineage: list[Record]
) -> Change:
    path = store.objects.path(rng.choice(version.artifacts).sha256)
    return _in_file(rng, "weights, predictions, calibration", path)


def _of_record(
    rng: random.Random, _: Project, version: ModelVersion, store: Store, lineage: list[Record]
) -> Change:
    record = rng.choice(lineage)
    return _in_file(rng, "a record", store.records.path(record.stage, record.key))


def _of_ledger(
    rng: random.Random, _: Project, version: ModelVersion, store: Store, lineage: list[Record]
) -> Change:
    entries = store.root / "ledger"
    path = next(
        each for each in entries.iterdir() if f'"{version.training}"' in each.read_text("utf-8")
    )
    return _in_file(rng, "the ledger", path)


def _forged(
    rng: random.Random, _: Project, version: ModelVersion, store: Store, lineage: list[Record]
) -> Change:
    """Draw a character of what a record says was computed, and sign the record anew."""
    record = rng.choice(lineage)
    path = store.records.path(record.stage, record.key)
    body = verified(path.read_bytes())
    places = [*_leaves(body["document"], "document"), *_leaves(body["outputs"], "outputs")]
    holder, name, where = rng.choice(places)
    holder[name], how = _other_character(rng, holder[name])
    body["key"] = digest_json(body["document"])
    other = path.with_name(f"{body['key']}.json")
    return Change(
        "a record, signed anew",
        f"{record.label}, {where}: {how}",
        partial(_moved, path, other, checksummed(body)),
        changes_nothing=_names_what_else_differs,  # another library, and still the same bytes
    )


def _names_what_else_differs(answer: Answer) -> bool:
    return any(each["details"] for each in (answer.document or {})["stages"])


@contextmanager
def _moved(path: Path, other: Path, data: bytes) -> Iterator[None]:
    before = path.read_bytes()
    path.unlink()
    other.write_bytes(data)
    try:
        yield
    finally:
        other.unlink()
        path.write_bytes(before)


def _leaves(value: Any, where: str) -> Iterator[tuple[Any, Any, str]]:
    """Yield where texts and numbers lie that decide something: holder, name, and in words."""
    parts = value.items() if isinstance(value, dict) else enumerate(value)
    for name, each in parts:
        if name in ("details", "format", "size"):
            continue
        if isinstance(each, dict | list):
            yield from _leaves(each, f"{where}.{name}")
        elif isinstance(each, str | int | float) and not isinstance(each, bool) and each != "":
            yield value, name, f"{where}.{name}"


def _other_character(rng: random.Random, value: Any) -> tuple[Any, str]:
    """Return a value of which one character is another of its kind."""
    text = value if isinstance(value, str) else repr(value)
    place = rng.choice([place for place, each in enumerate(text) if each.isalnum()])
    kind = "123456789" if text[place].isdigit() else "abcdef"
    other = rng.choice([each for each in kind if each != text[place]])
    after = text[:place] + other + text[place + 1 :]
    return (after if isinstance(value, str) else type(value)(after)), f"{value} → {after}"


def _of_code(
    rng: random.Random, project: Project, version: ModelVersion, store: Store, lineage: list[Record]
) -> Change:
    """Draw a byte of the definitions that a record names; every other time of a constant."""
    record = rng.choice([each for each in lineage if each.document["code"]])
    path = rng.choice([each for each in record.document["code"] if each.startswith("digitflow/")])
    name = path.removeprefix("digitflow/")
    before = (project.code / name).read_bytes()
    spans = [*_spans(before, set(record.document["code"][path]))] or [(0, len(before))]
    start, end = rng.choice(spans)
    places = [place for place in range(start, end) if chr(before[place]).isalnum()]
    numbers = [place for place in places if chr(before[place]).isdigit()]
    place = rng.choice(numbers if numbers and rng.random() < 0.5 else places)  # noqa: PLR2004
    letters = b"123456789" if chr(before[place]).isdigit() else b"abcdefghijklmnopqrstuvwxyz"
    other = rng.choice([each for each in letters if each != before[place]])
    after = before[:place] + bytes([other]) + before[place + 1 :]
    line = before.count(b"\n", 0, place) + 1
    what = f"{record.label}, {name}:{line}: {chr(before[place])} → {chr(other)}"
    return Change(
        "code at the recorded commit",
        what,
        partial(project.other_code, name, after),
        changes_nothing=lambda _: _meaning(before) == _meaning(after),
    )


def _spans(source: bytes, names: set[str]) -> Iterator[tuple[int, int]]:
    """Yield from which byte to which the definitions of these names go."""
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    for node in ast.parse(source).body:
        targets = getattr(node, "targets", [getattr(node, "target", None)])
        called = {getattr(node, "name", None), *(getattr(each, "id", None) for each in targets)}
        if called & names:
            yield starts[node.lineno - 1], starts[node.end_lineno or node.lineno]


def _meaning(source: bytes) -> str:
    """Return what code says without its comments and docstrings."""
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        return repr(error)
    for node in ast.walk(tree):
        if ast.get_docstring(node) if hasattr(node, "body") and _may_be_told(node) else None:
            node.body[0] = ast.Pass()  # type: ignore[attr-defined]
    return ast.dump(tree)


def _may_be_told(node: ast.AST) -> bool:
    return isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)


def _of_lock(
    rng: random.Random, project: Project, version: ModelVersion, store: Store, lineage: list[Record]
) -> Change:
    before = (project.code / LOCK).read_bytes()
    place = rng.randrange(len(before))
    other = rng.choice([each for each in range(33, 127) if each != before[place]])
    after = before[:place] + bytes([other]) + before[place + 1 :]
    line = before.count(b"\n", 0, place) + 1
    return Change(
        "the lock, with --venv",
        f"{LOCK}:{line}: {chr(before[place])} → {chr(other)}",
        partial(project.other_code, LOCK, after),
        # It was installed, and every stage has said that it ran with the same versions.
        changes_nothing=lambda answer: not _names_what_else_differs(answer),
        options=("--venv",),
    )


_DRAW: dict[str, Callable[[random.Random, Project, ModelVersion, Store, list[Record]], Change]] = {
    "data": _of_data,
    "model": _of_model,
    "record": _of_record,
    "forged": _forged,
    "ledger": _of_ledger,
    "code": _of_code,
    "lock": _of_lock,
}


def print_changes(drawn: list[Change]) -> bool:
    """Print what became of each kind of change; tell whether none was missed."""
    columns = (DIFFERENT, REFUSED, HEALED, MISSED, NOTHING)
    print(f"| one byte of | changed | {' | '.join(columns)} |")
    print("|---" * (2 + len(columns)) + "|")
    for kind in dict.fromkeys(each.kind for each in drawn):
        counted = Counter(each.verdict for each in drawn if each.kind == kind)
        cells = [counted[each] for each in columns]
        print(f"| {kind} | {sum(counted.values())} | {' | '.join(map(str, cells))} |")
    mattered = [each for each in drawn if each.verdict != NOTHING]
    caught = sum(each.verdict != MISSED for each in mattered)
    is_met = caught == len(mattered)
    print(f"\n{caught} of {len(mattered)} caught: {'met' if is_met else 'MISSED'}")
    return is_met


if __name__ == "__main__":
    sys.exit(main())
