"""What a stage reads beside its inputs is kept, and a change of it is a reason."""

import importlib
import logging
import os
import sqlite3
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from digitflow.storage.errors import CodeChangedError
from digitflow.storage.store import Store

# Some of these stages leave a file to the garbage collector, as people's do.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)

Load = Callable[..., ModuleType]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "a.txt").write_text("one")
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    return folder


@pytest.fixture
def load(project: Path) -> Iterator[Load]:
    def load(body: str, head: str = "") -> ModuleType:
        source = "import os\nfrom pathlib import Path\nfrom digitflow import stage\n"
        source += f"{textwrap.dedent(head)}\n@stage(outputs={{'x': 'json'}})\n"
        source += "def own(*, n: int = 1):\n" + textwrap.indent(textwrap.dedent(body), "    ")
        (project / "own_reader.py").write_text(source)
        importlib.invalidate_caches()
        return importlib.import_module("own_reader")

    yield load
    for name in ("own_reader", "own_helper"):
        sys.modules.pop(name, None)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def run(module: ModuleType, store: Store) -> tuple[Any, tuple[str, ...]]:
    result = module.own.run(store, "own", {}, {}, run="r")
    return store.read(result.outputs["x"]), result.reasons


READERS = {
    "open": "return {'x': open('data/a.txt').read()}",
    "a path": "return {'x': (Path(__file__).parent / 'data' / 'a.txt').read_text()}",
    "bytes": "return {'x': Path('data/a.txt').read_bytes().decode()}",
    "a descriptor": "d = os.open('data/a.txt', os.O_RDONLY)\nreturn {'x': os.read(d, 9).decode()}",
    "a file to be changed": "return {'x': open('data/a.txt', 'r+').read()}",
    "a file to be added to": (
        "with open('data/a.txt', 'a+') as file:\n    file.seek(0)\n    return {'x': file.read()}"
    ),
    "a descriptor to be changed": (
        "d = os.open('data/a.txt', os.O_RDWR | os.O_CREAT)\nreturn {'x': os.read(d, 9).decode()}"
    ),
    "a memory map": "import numpy as np\nreturn {'x': bytes(np.memmap('data/a.txt')).decode()}",
    "NumPy": "import numpy as np\nreturn {'x': np.fromfile('data/a.txt', 'S3')[0].decode()}",
    "pandas": "import pandas as pd\nreturn {'x': pd.read_csv('data/a.txt').columns[0]}",
    "a thread": """
        from concurrent.futures import ThreadPoolExecutor
        with ThreadPoolExecutor(1) as pool:
            return {'x': pool.submit(Path('data/a.txt').read_text).result()}
        """,
    "twice": "Path('data/a.txt').read_text()\nreturn {'x': Path('data/a.txt').read_text()}",
}


@pytest.mark.parametrize("name", READERS)
def test_a_file_that_is_read_counts(load: Load, store: Store, project: Path, name: str):
    module = load(READERS[name])
    assert run(module, store) == ("one", ("never run",))
    assert run(module, store) == ("one", ())
    (project / "data" / "a.txt").write_text("two")
    planned = module.own.look_up(store, "own", {}, {})
    assert planned.record is None
    (reason,) = planned.reasons
    assert reason == "file data/a.txt changed"
    assert run(module, store) == ("two", (reason,))
    assert run(module, store) == ("two", ())
    (project / "data" / "a.txt").unlink()
    assert module.own.look_up(store, "own", {}, {}).reasons == ("file data/a.txt is gone",)


def test_a_database_that_is_read_counts(load: Load, store: Store, project: Path):
    with closing(sqlite3.connect("own.db")) as database:
        database.execute("create table t (x)")
        database.execute("insert into t values (1)")
        database.commit()
        module = load(
            "with closing(sqlite3.connect('own.db')) as own:\n"
            "    return {'x': own.execute('select max(x) from t').fetchone()[0]}",
            "import sqlite3\nfrom contextlib import closing",
        )
        assert run(module, store) == (1, ("never run",))
        assert run(module, store) == (1, ())
        database.execute("insert into t values (2)")
        database.commit()
    assert run(module, store) == (2, ("file own.db changed",))


def test_what_a_stage_changes_counts_as_it_was(load: Load, store: Store, project: Path):
    module = load(
        "with open('data/a.txt', 'r+') as file:\n    text = file.read()\n    file.write('!')\n"
        "return {'x': text}"
    )
    assert run(module, store) == ("one", ("never run",))
    (project / "data" / "a.txt").write_text("one")
    assert run(module, store) == ("one", ())
    (project / "data" / "a.txt").write_text("one!")
    assert run(module, store) == ("one!", ("file data/a.txt changed",))


def test_a_file_that_is_not_there_counts_once_it_is(load: Load, store: Store, project: Path):
    module = load(
        "try:\n    return {'x': open('more.txt').read()}\nexcept FileNotFoundError:\n"
        "    return {'x': 'none'}"
    )
    assert run(module, store) == ("none", ("never run",))
    assert run(module, store) == ("none", ())
    (project / "more.txt").write_text("more")
    assert run(module, store) == ("more", ("file more.txt is new",))


@pytest.mark.parametrize(
    "how", ["os.listdir('data')", "[e.name for e in os.scandir('data')]",
            "[p.name for p in Path('data').glob('*')]"],
)  # fmt: skip
def test_a_folder_that_is_listed_counts(load: Load, store: Store, project: Path, how: str):
    module = load(f"return {{'x': sorted({how})}}")
    assert run(module, store) == (["a.txt"], ("never run",))
    assert run(module, store) == (["a.txt"], ())
    (project / "data" / "b.txt").write_text("two")
    assert run(module, store) == (["a.txt", "b.txt"], ("folder data changed",))


VARIABLES = [
    "os.environ.get('OWN_MODE', 'none')",
    "os.getenv('OWN_MODE', 'none')",
    "os.environ['OWN_MODE'] if 'OWN_MODE' in os.environ else 'none'",
]


@pytest.mark.parametrize("how", VARIABLES)
def test_a_variable_that_is_read_counts(
    load: Load, store: Store, how: str, monkeypatch: pytest.MonkeyPatch
):
    module = load(f"return {{'x': {how}}}")
    assert run(module, store) == ("none", ("never run",))
    assert run(module, store) == ("none", ())
    monkeypatch.setenv("OWN_MODE", "secret")
    assert run(module, store) == ("secret", ("environment variable OWN_MODE changed",))
    assert run(module, store) == ("secret", ())
    text = "".join(path.read_text() for path in (store.root / "records").rglob("*.json"))
    assert "OWN_MODE" in text
    assert "secret" not in text


NOT_READ = {
    "a copy of the environment": (
        "dict(os.environ), os.environ.copy(), {**os.environ}\nreturn {'x': 1}"
    ),
    "what the stage wrote": "Path('out.txt').write_text('a')\nreturn {'x': open('out.txt').read()}",
    "what the stage made to change it": (
        "with open('out.txt', 'w+') as file:\n    file.write('a')\n    file.seek(0)\n"
        "    assert file.read() == 'a'\n"
        "with open('out.txt', 'r+') as file:\n    return {'x': file.read()}"
    ),
    "a log that it adds to": (
        "with open('own.log', 'a') as file:\n    file.write('a')\nreturn {'x': 1}"
    ),
    "an unnamed temporary file": (
        "import tempfile\nwith tempfile.TemporaryFile() as file:\n    file.write(b'a')\n"
        "    return {'x': 1}"
    ),
    "a temporary file": (
        "import tempfile\nwith tempfile.TemporaryDirectory() as folder:\n"
        "    (Path(folder) / 'x').write_text('a')\n"
        "    return {'x': (Path(folder) / 'x').read_text()}"
    ),
    "a library's own files": "import matplotlib.font_manager, json, html.entities\nreturn {'x': 1}",
    "code that it imports": "import own_helper\nreturn {'x': own_helper.x}",
    "the system's": "return {'x': len(open('/proc/self/stat').read()) > 0}",
}


@pytest.mark.parametrize("name", NOT_READ)
def test_what_does_not_count(load: Load, store: Store, name: str):
    module = load(NOT_READ[name])
    module_file = Path(str(module.__file__))
    module_file.with_name("own_helper.py").write_text("x = 1\n")
    run(module, store)
    (record,) = store.records.of_stage("own")
    assert record.observed == {}
    os.environ["OWN_OTHER"] = "1"
    assert run(module, store)[1] == ()


AT_IMPORT = {
    "a file": ("CONFIG = Path('data/a.txt').read_text()", "file data/a.txt changed"),
    "a file that a function reads": (
        "def read():\n    with open('data/a.txt') as file: return file.read()\nCONFIG = read()",
        "file data/a.txt changed",
    ),
    "a variable": (
        "CONFIG = os.environ.get('OWN_MODE', 'one')", "environment variable OWN_MODE changed",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", AT_IMPORT)
def test_what_a_module_reads_while_it_is_loaded_counts(
    load: Load, store: Store, project: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    head, reason = AT_IMPORT[name]
    monkeypatch.delenv("OWN_MODE", raising=False)
    assert run(load("return {'x': CONFIG}", head), store) == ("one", ("never run",))
    del sys.modules["own_reader"]
    assert run(load("return {'x': CONFIG}", head), store) == ("one", ())
    (project / "data" / "a.txt").write_text("two")
    monkeypatch.setenv("OWN_MODE", "two")
    del sys.modules["own_reader"]
    assert run(load("return {'x': CONFIG}", head), store) == ("two", (reason,))


def test_what_a_module_reads_while_one_stage_runs_counts_for_the_next(
    load: Load, store: Store, project: Path
):
    (project / "own_helper.py").write_text("x = open('data/a.txt').read()\n")
    head = """
        @stage(outputs={'x': 'json'})
        def first(*, n: int = 1):
            import own_helper
            return {'x': own_helper.x}
        """
    module = load("import own_helper\nreturn {'x': own_helper.x}", head)
    module.first.run(store, "first", {}, {}, run="r")
    assert run(module, store) == ("one", ("never run",))
    (project / "data" / "a.txt").write_text("two")
    for stage in (module.first, module.own):
        assert stage.look_up(store, "x", {}, {}).reasons == ("file data/a.txt changed",)


def test_what_nobody_asked_in_a_stage_is_not_noted(load: Load, store: Store, project: Path):
    module = load("return {'x': 1}")
    (project / "data" / "a.txt").read_text()
    run(module, store)
    (record,) = store.records.of_stage("own")
    assert record.observed == {}


def test_what_changes_while_it_is_read_is_not_recorded(load: Load, store: Store):
    module = load(
        "import subprocess, sys\ntext = open('data/a.txt').read()\n"
        "edit = \"open('data/a.txt', 'w').write('two')\"\n"
        "subprocess.run([sys.executable, '-c', edit], check=True)\n"
        "return {'x': text}"
    )
    with pytest.raises(CodeChangedError, match=r"file data/a\.txt changed\. Nothing was recorded"):
        run(module, store)
    assert not list(store.records.of_stage("own"))


def test_a_copy_of_the_project_has_its_own_files(
    load: Load, store: Store, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    module = load(READERS["a path"])
    assert run(module, store) == ("one", ("never run",))
    other = tmp_path / "copy"
    (other / "data").mkdir(parents=True)
    (other / "own_reader.py").write_bytes((project / "own_reader.py").read_bytes())
    (other / "data" / "a.txt").write_text("two")
    del sys.modules["own_reader"]
    monkeypatch.syspath_prepend(str(other))
    importlib.invalidate_caches()
    copy = importlib.import_module("own_reader")
    assert run(copy, store) == ("two", ("file data/a.txt changed",))


def test_what_it_was_made_with_is_in_the_record(load: Load, store: Store):
    module = load("import numpy as np\nreturn {'x': float(np.ones(2) @ np.ones(2))}")
    run(module, store)
    (record,) = store.records.of_stage("own")
    assert record.made_with["BLAS"].endswith("× 1")
    assert record.document["processor"]
    assert "numpy" in record.document["libraries"]


def test_another_kernel_is_another_key_where_it_changes_bytes(
    load: Load, store: Store, monkeypatch: pytest.MonkeyPatch
):
    module = load("import numpy as np\nreturn {'x': float(np.ones(2) @ np.ones(2))}")
    run(module, store)
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Sandybridge")
    (reason,) = run(module, store)[1]
    assert reason.startswith("processor ")
    assert reason.endswith("OPENBLAS_CORETYPE=Sandybridge")
    del sys.modules["own_reader"]
    module = load("import numpy as np\nreturn {'x': int(np.ones(2, int).max())}")
    assert module.own.key({}, {}).processor == ""


def test_libraries_count_as_is_asked(
    load: Load, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    module = load("import numpy as np\nreturn {'x': int(np.ones(2, int).max())}")

    def with_numpy(version: str) -> tuple[str, ...]:
        closure = module.own._code.closure()
        monkeypatch.setitem(closure.libraries, "numpy", version)
        return run(module, store)[1]

    assert with_numpy("2.4.6") == ("never run",)
    assert with_numpy("2.5.5") == ("numpy 2.4.6 → 2.5.5",)
    monkeypatch.setenv("DIGITFLOW_LIBRARIES", "warn")
    with_numpy("2.4.6")
    with caplog.at_level(logging.WARNING):
        assert with_numpy("2.5.5") == ()
    assert "own: made with numpy 2.4.6, served with 2.5.5" in caplog.text
    monkeypatch.setenv("DIGITFLOW_LIBRARIES", "ignore")
    assert with_numpy("2.3.5") == ()
    monkeypatch.setenv("DIGITFLOW_LIBRARIES", "lax")
    with pytest.raises(ValueError, match="expected strict, warn or ignore, found 'lax'"):
        with_numpy("2.3.5")
