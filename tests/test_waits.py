"""No wait without an end and a sentence: the table of docs/reliability.md, and the code."""

import ast
import importlib
import re
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("flows", "tasks", "storage", "benchmarks")
SOURCES = sorted(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))
TEXT = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
SECTION = TEXT.partition("## How long anything waits")[2].partition("\n## ")[0]
ROWS = [
    line
    for line in SECTION.splitlines()
    if line.startswith("| ") and not line.startswith("| wait for |")
]

# Names of the constants that say how long something waits. Those between two looks are none.
HOW_LONG = re.compile(r"_?(SECONDS_(TO|FOR|UNTIL|WITHOUT)_\w+|MOST_SECONDS|TIMEOUT|LIMITS)")

# Ours, each with an end of its own; and what ends with the stages and tasks that it waits for.
HAVE_ENDS = {"server.wait", "workers.wait"}
# Variables of a context, which are there or not.
DO_NOT_WAIT = {"_context.get", "_observation.get", "_spec.get", "prefect.FlowRunContext.get"}
# The one wait without an end or a word; the table says why.
WITHOUT_A_WORD = {"tasks/nn/blas.py: self._change.wait_for"}
WAIT_FOR_STAGES = (
    *("flows/", "tasks/"),
    *(f"benchmarks/{name}.py" for name in ("gate_models", "staleness", "trainings")),
)


def named(row: str) -> Iterator[tuple[str, str]]:
    """Yield file and name of each constant that a row names."""
    cell = row.split("|")[3]
    for path, names in re.findall(r"`([\w/]+\.py)` ((?:`[\w.]+`(?:, )?)+)", cell):
        for name in re.findall(r"`([\w.]+)`", names):
            yield path, name


def texts(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


SAID = [text for path in SOURCES for text in texts(path)]


def test_there_is_a_table() -> None:
    assert len(ROWS) > 25
    assert sum(len(list(named(row))) for row in ROWS) > 25


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip()[:40])
def test_what_the_table_says_is_so(row: str) -> None:
    for path, name in named(row):
        within = "" if path.startswith("benchmarks/") else "digitflow."
        module = importlib.import_module(within + path.removesuffix(".py").replace("/", "."))
        value = attrgetter(name)(module)
        for number in value if isinstance(value, tuple) else (value,):
            assert re.search(rf"(?<![\d,]){number:,g}(?![\d,]\d)", row), (
                f"{path}: {name} is {number}"
            )
    for sentence in re.findall("“([^”]*)”", row):
        for fragment in filter(None, (part.strip() for part in sentence.split("…"))):
            assert any(fragment in text for text in SAID), f"nobody says {fragment!r}"


def test_every_such_constant_is_in_the_table() -> None:
    listed = {(path, name.partition(".")[0]) for row in ROWS for path, name in named(row)}
    missing = []
    for path in SOURCES:
        place = path.relative_to(ROOT).as_posix()
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            targets = node.targets if isinstance(node, ast.Assign) else []
            names = [each.id for each in targets if isinstance(each, ast.Name)]
            missing += [
                f"{place}: {name}"
                for name in names
                if HOW_LONG.fullmatch(name) and (place, name) not in listed
            ]
    # A thread that has said its last word; nothing is waited for but its return.
    assert missing == ["tasks/data/download/waiting.py: _SECONDS_TO_END"]


def endless(path: Path) -> Iterator[str]:
    """Yield every call that could wait for ever."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    place = path.relative_to(ROOT).as_posix()
    contexts = {
        id(item.context_expr)
        for node in ast.walk(tree)
        if isinstance(node, ast.With | ast.AsyncWith)
        for item in node.items
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        method = called.rpartition(".")[2]
        given = {each.arg for each in node.keywords}
        bare = not node.args and not node.keywords
        found = (
            (method in ("wait", "join", "get", "acquire", "communicate") and bare and "." in called)
            or (method == "FileLock" and id(node) in contexts and "timeout" not in given)
            or (called.startswith(("subprocess.run", "subprocess.check", "subprocess.call"))
                and "timeout" not in given)
            or (method in ("urlopen", "urlretrieve") and "timeout" not in given)
            or (called.startswith(("requests.", "session.", "httpx."))
                and method in ("get", "post", "put", "head", "request")
                and "timeout" not in given)
            or (method == "wait_for" and len(node.args) == 1 and "timeout" not in given)
            or (method == "wait_procs" and "timeout" not in given)
            or (method == "result" and bare and not place.startswith(WAIT_FOR_STAGES))
        )  # fmt: skip
        known = called in HAVE_ENDS | DO_NOT_WAIT or f"{place}: {called}" in WITHOUT_A_WORD
        if found and not known:
            yield f"{place}:{node.lineno}: {called}"


def test_no_call_waits_for_ever() -> None:
    assert [each for path in SOURCES for each in endless(path)] == []


@pytest.mark.parametrize(
    "line",
    [
        "process.wait()",
        "thread.join()",
        "lock.acquire()",
        "items.get()",
        "with FileLock(path): pass",
        "subprocess.run(command)",
        "urllib.request.urlopen(url)",
        "requests.get(url)",
        "psutil.wait_procs(all)",
        "condition.wait_for(done)",
    ],
)
def test_such_a_call_would_be_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    (tmp_path / "storage").mkdir()
    path = tmp_path / "storage" / "x.py"
    path.write_text(line)
    assert len(list(endless(path))) == 1
