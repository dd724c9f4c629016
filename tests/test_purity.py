"""What may import what, and what no source may contain."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("flows", "tasks", "storage")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
PURE = ("storage", "digitflow.tasks.data", "digitflow.tasks.nn", "digitflow.tasks.figures")

# Files and folders that anybody who opens the repository finds at its top.
ALLOWED_AT_THE_TOP = {
    ".ci",
    ".gitattributes",
    ".github",
    ".gitignore",
    ".pre-commit-config.yaml",
    ".python-version",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "benchmarks",
    "datasets",
    "docs",
    "flows",
    "prefect.yaml",
    "pyproject.toml",
    "requirements-dev.txt",
    "requirements.txt",
    "storage",
    "tasks",
    "tests",
}

# They can run code while they read data.
DANGEROUS = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "shelve", "marshal", "joblib"}


GENERATORS = {"default_rng", "Generator", "SeedSequence", "BitGenerator", "PCG64", "SFC64"}
READS_ARRAYS = (
    r"(np|numpy|npy|np\.lib\.format|numpy\.lib\.format)\.(load|savez?|(read|write)_array)"
)


def modules(package: str) -> list[str]:
    """Return the dotted names of a package's modules."""
    folder = ROOT.joinpath(*package.split("."))
    names = []
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return names


def loaded_by(*names: str) -> set[str]:
    """Import modules in a fresh process; return every top-level module that it then has."""
    script = (
        "import sys, json, importlib\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        "print(json.dumps([name for name in sys.modules if '.' not in name]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imported(path: Path) -> Iterator[str]:
    """Yield the dotted name of every module that a source imports, at any depth."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def calls() -> Iterator[tuple[str, str, dict[str | None, str]]]:
    """Yield the place, the function and the keyword arguments of every call in every source."""
    for path in SOURCES:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call):
                keywords = {each.arg: ast.unparse(each.value) for each in node.keywords}
                yield f"{name(path)}:{node.lineno}", ast.unparse(node.func), keywords


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def docstrings(path: Path) -> set[ast.AST]:
    """Return the nodes of a source that are docstrings."""
    holders = (ast.Module, ast.ClassDef, ast.FunctionDef)
    return {
        node.body[0].value
        for node in ast.walk(tree(path))
        if isinstance(node, holders) and node.body and isinstance(node.body[0], ast.Expr)
    }


def test_there_are_sources():
    assert len(SOURCES) > 40
    assert {path.parent.name for path in SOURCES} >= {"flows", "tasks", "storage", "nn", "data"}


class TestImports:
    @pytest.mark.parametrize("package", PURE)
    def test_pure_packages_load_no_prefect(self, package: str):
        loaded = loaded_by(*modules(package))
        assert package.partition(".")[0] in loaded
        assert not loaded & {"prefect", "fastapi", "sqlalchemy", "flows"}
        if package != "storage":
            assert "storage" not in loaded

    def test_planning_loads_neither_prefect_nor_arrays_nor_tables_nor_figures(self):
        light = (
            "digitflow.flows.plan",
            "digitflow.flows.spec",
            "digitflow.flows.pipeline",
            "digitflow.tasks.reporting.results",
            "digitflow.tasks.reporting.report",
        )
        heavy = {"prefect", "numpy", "pandas", "matplotlib", "fastapi", "sqlalchemy"}
        assert not loaded_by(*light) & heavy

    def test_the_command_line_loads_little_before_it_knows_what_is_asked(self):
        assert not loaded_by("digitflow.flows.cli.app") & {
            "prefect",
            "numpy",
            "pandas",
            "matplotlib",
        }

    def test_importing_every_module_says_and_writes_nothing(self, tmp_path: Path):
        names = [each for package in PACKAGES for each in modules(package)]
        names.remove("digitflow.flows.__main__")
        script = f"import importlib\nfor name in {names!r}: importlib.import_module(name)\n"
        (tmp_path / "home").mkdir()
        done = subprocess.run(
            [sys.executable, "-W", "error::SyntaxWarning", "-c", script],
            cwd=tmp_path,
            env={"HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin",
                 "MPLCONFIGDIR": str(tmp_path / "mpl"), "DIGITFLOW_STORE": str(tmp_path / "store")},
            capture_output=True,
            text=True,
            check=True,
        )  # fmt: skip
        assert (done.stdout, done.stderr) == ("", "")
        assert not (tmp_path / "store").exists()

    def test_directions(self):
        """flows → tasks → tasks/data, tasks/nn, tasks/figures, storage; never back."""
        for path in SOURCES:
            self.check_directions(path)

    def check_directions(self, path: Path) -> None:
        place = name(path)
        ours = {each for each in imported(path) if each.partition(".")[0] in PACKAGES}
        tops = {each.partition(".")[0] for each in imported(path)}
        if place.startswith("storage/"):
            assert {each.partition(".")[0] for each in ours} <= {"storage"}
        for package in ("data", "nn", "figures"):
            if place.startswith(f"tasks/{package}/"):
                within = (f"tasks.{package}.", "digitflow.tasks.figures.agg.")
                outside = {each for each in ours if not f"{each}.".startswith(within)}
                assert outside <= {"tasks"}, f"{place} reaches for {outside}"
        if place.startswith("tasks/"):
            assert "flows" not in tops
        if place.startswith(("storage/", "tasks/data/", "tasks/nn/", "tasks/figures/")):
            assert "prefect" not in tops

    def test_one_module_imports_matplotlib(self):
        """Elsewhere the environment could keep it from being imported: see `tasks.agg`."""
        assert [
            name(path)
            for path in SOURCES
            if any(each.partition(".")[0] == "matplotlib" for each in imported(path))
        ] == ["tasks/agg.py"]

    def test_packages_are_empty(self):
        for path in SOURCES:
            if path.name == "__init__.py":
                statements = [each for each in tree(path).body if not isinstance(each, ast.Expr)]
                assert statements == [], f"{name(path)} runs whenever anything below is imported"


class TestSources:
    """Each test returns every place that breaks its rule, not only the first."""

    def test_nothing_that_runs_code_while_it_reads_data(self):
        assert [
            f"{name(path)}: {each}"
            for path in SOURCES
            for each in imported(path)
            if each.partition(".")[0] in DANGEROUS
        ] == []
        assert [
            f"{where}: {called}"
            for where, called, keywords in calls()
            if called in ("eval", "exec", "compile", "__import__")
            or called.endswith(("read_pickle", "to_pickle"))
            or keywords.get("allow_pickle", "False") != "False"
            or (re.fullmatch(READS_ARRAYS, called) and "allow_pickle" not in keywords)
        ] == []

    def test_no_assert_no_print_no_bare_except(self):
        broken = [f"{where}: print" for where, called, _ in calls() if called == "print"]
        for path in SOURCES:
            for node in ast.walk(tree(path)):
                where = f"{name(path)}:{getattr(node, 'lineno', 0)}"
                if isinstance(node, ast.Assert):
                    broken.append(f"{where}: assert vanishes under -O")
                if isinstance(node, ast.ExceptHandler):
                    caught = "" if node.type is None else ast.unparse(node.type)
                    silent = all(isinstance(each, ast.Pass) for each in node.body)
                    if not caught or (silent and caught in ("Exception", "BaseException")):
                        broken.append(f"{where}: except {caught}")
        assert broken == []

    def test_no_randomness_but_explicit_generators(self):
        broken = [
            f"{name(path)}: random"
            for path in SOURCES
            if name(path).startswith(("tasks/data/", "tasks/nn/", "tasks/figures/"))
            and "random" in {each.partition(".")[0] for each in imported(path)}
        ]
        for path in SOURCES:
            for node in ast.walk(tree(path)):
                if isinstance(node, ast.Attribute):
                    found = re.match(r"(np|numpy)\.random\.(\w+)", ast.unparse(node))
                    if found and found[2] not in GENERATORS:
                        broken.append(f"{name(path)}:{node.lineno}: {found[0]}")
        assert broken == []

    def test_storage_and_stages_know_no_dataset(self):
        paths = [*(ROOT / "storage").rglob("*.py"), ROOT / "tasks" / "stage.py"]
        assert len(paths) > 10
        assert [
            name(path) for path in paths if "mnist" in path.read_text(encoding="utf-8").lower()
        ] == []

    def test_only_the_sources_know_a_dataset_by_its_name(self):
        names = {path.stem for path in (ROOT / "tasks" / "data" / "manifests").glob("*.toml")}
        assert {"mnist", "sample"} < names
        broken = []
        for path in SOURCES:
            for node in ast.walk(tree(path)):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found = node.value.lower() in names or "mnist" in node.value.lower()
                    if found and node not in docstrings(path) and path.name != "sources.py":
                        broken.append(f"{name(path)}:{node.lineno}: {node.value!r}")
        assert broken == []

    def test_nothing_of_the_machine_that_it_was_written_on(self):
        forbidden = ("/work/", "/home/", "/root/", "/Users/", "TODO", "FIXME", "XXX")
        assert [
            f"{name(path)}: {each}"
            for path in SOURCES
            for each in forbidden
            if each in path.read_text(encoding="utf-8")
        ] == []

    def test_every_module_and_every_public_definition_says_what_it_is(self):
        silent = [
            name(path) for path in SOURCES if tree(path).body and not ast.get_docstring(tree(path))
        ]
        for path in SOURCES:
            for node in tree(path).body:
                if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_":
                    marks = " ".join(ast.unparse(each) for each in node.decorator_list)
                    if "overload" not in marks and not ast.get_docstring(node):
                        silent.append(f"{name(path)}: {node.name}")
        assert silent == []


class TestLayout:
    def tracked(self) -> list[str]:
        done = subprocess.run(
            ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            pytest.skip("not a git checkout")
        return done.stdout.splitlines()

    def test_only_what_belongs_there_lies_at_the_top(self):
        top = {place.partition("/")[0] for place in self.tracked()}
        assert top <= ALLOWED_AT_THE_TOP

    def test_nothing_that_is_made_is_kept(self):
        for place in self.tracked():
            assert not place.endswith((".pyc", ".gz", ".npz", ".npy", ".orig", ".rej")) or (
                place.startswith("tests/")
            ), place
            assert "__pycache__" not in place

    def test_no_file_in_flows_hides_a_module(self):
        """A worker that puts flows/ first on its path must still find the real ones."""
        installed = set(sys.stdlib_module_names) | {"prefect", "numpy", "pandas", "matplotlib"}
        for path in (ROOT / "flows").glob("*"):
            stem = path.stem
            if not stem.startswith("__"):
                assert stem not in installed | {"tasks", "storage", "tests"}, name(path)

    def test_no_grab_bags(self):
        for path in SOURCES:
            assert path.stem not in ("utils", "helpers", "common", "misc", "util"), name(path)
