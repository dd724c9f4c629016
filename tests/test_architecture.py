"""What no linter's configuration says: what is loaded when, and what lies where.

Which room may import which, and what no source may call, is in ``pyproject.toml``.
"""

import ast
import json
import re
import subprocess
import sys
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("flows", "tasks", "storage")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
PURE = ("storage", "tasks.data", "tasks.nn", "tasks.figures")
HEAVY = {"prefect", "numpy", "pandas", "matplotlib", "fastapi", "sqlalchemy"}

# Files and folders that anybody who opens the repository finds at its top.
ALLOWED_AT_THE_TOP = {
    ".ci",
    ".dockerignore",
    ".gitattributes",
    ".github",
    ".gitignore",
    ".pre-commit-config.yaml",
    ".python-version",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Dockerfile",
    "LICENSE",
    "Makefile",
    "README.md",
    "benchmarks",
    "digitflow",
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


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def modules(package: str) -> list[str]:
    """Return the dotted names, as they are imported, of a package's modules."""
    names = []
    for path in sorted(ROOT.joinpath(*package.split(".")).rglob("*.py")):
        parts = ("digitflow", *path.relative_to(ROOT).with_suffix("").parts)
        names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return names


def loaded_by(*names: str) -> set[str]:
    """Import modules in a fresh process; return every module that it then has."""
    script = (
        "import sys, json, importlib\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        "print(json.dumps([*sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


class TestLoading:
    @pytest.mark.parametrize("package", PURE)
    def test_pure_rooms_load_no_prefect(self, package: str):
        loaded = loaded_by(*modules(package))
        assert f"digitflow.{package}" in loaded
        assert not loaded & {"prefect", "fastapi", "sqlalchemy", "digitflow.flows"}
        if package != "storage":
            assert "digitflow.storage" not in loaded

    def test_planning_loads_neither_prefect_nor_arrays_nor_tables_nor_figures(self):
        light = (
            "digitflow.tasks.engine.plan",
            "digitflow.flows.spec",
            "digitflow.flows.pipeline",
            "digitflow.tasks.reporting.results",
            "digitflow.tasks.reporting.report",
        )
        assert not loaded_by(*light) & HEAVY

    def test_the_command_line_loads_little_before_it_knows_what_is_asked(self):
        assert not loaded_by("digitflow.flows.cli.app") & HEAVY

    def test_rooms_are_loaded_as_parts_of_the_one_package(self):
        """``tasks`` can be imported from a checkout's root, as another object: nobody does."""
        loaded = loaded_by(
            "digitflow", *(each for package in PACKAGES for each in modules(package))
        )
        assert not {each for each in loaded if each.partition(".")[0] in PACKAGES}

    def test_importing_every_module_says_and_writes_nothing(self, tmp_path: Path):
        names = [each for package in PACKAGES for each in modules(package)]
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

    def test_packages_are_empty(self):
        for path in SOURCES:
            if path.name == "__init__.py":
                statements = [each for each in tree(path).body if not isinstance(each, ast.Expr)]
                assert statements == [], f"{name(path)} runs whenever anything below is imported"


class TestSources:
    """Each test returns every place that breaks its rule, not only the first."""

    def test_arrays_are_read_without_pickle(self):
        reads = (
            r"(np|numpy|npy|np\.lib\.format|numpy\.lib\.format)\.(load|savez?|(read|write)_array)"
        )
        broken = []
        for path in SOURCES:
            for node in ast.walk(tree(path)):
                if isinstance(node, ast.Call):
                    given = {each.arg: ast.unparse(each.value) for each in node.keywords}
                    if given.get("allow_pickle", "False") != "False" or (
                        re.fullmatch(reads, ast.unparse(node.func)) and "allow_pickle" not in given
                    ):
                        broken.append(f"{name(path)}:{node.lineno}")
        assert broken == []

    def test_nothing_else_runs_code_or_pickles(self):
        """Linters know more of these; not a call of `compile`, or of a table's own method."""
        assert [
            f"{name(path)}:{node.lineno}: {called}"
            for path in SOURCES
            for node in ast.walk(tree(path))
            if isinstance(node, ast.Call)
            if (called := ast.unparse(node.func)) in ("eval", "exec", "compile", "__import__")
            or called.endswith(("read_pickle", "to_pickle"))
        ] == []

    def test_storage_and_the_engine_know_no_dataset(self):
        paths = [*(ROOT / "storage").rglob("*.py"), *(ROOT / "tasks" / "engine").rglob("*.py")]
        assert len(paths) > 10
        assert [
            name(path) for path in paths if "mnist" in path.read_text(encoding="utf-8").lower()
        ] == []

    def test_only_the_sources_know_a_dataset_by_its_name(self):
        manifests = ROOT / "tasks" / "data" / "datasets" / "manifests"
        names = {path.stem for path in manifests.glob("*.toml")}
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
        forbidden = ("/work/", "/home/", "/root/", "/Users/")
        assert [
            f"{name(path)}: {each}"
            for path in SOURCES
            for each in forbidden
            if each in path.read_text(encoding="utf-8")
        ] == []


@cache
def docstrings(path: Path) -> set[ast.AST]:
    """Return the nodes of a source that are docstrings."""
    holders = (ast.Module, ast.ClassDef, ast.FunctionDef)
    return {
        node.body[0].value
        for node in ast.walk(tree(path))
        if isinstance(node, holders) and node.body and isinstance(node.body[0], ast.Expr)
    }


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

    def test_the_package_is_the_three_folders_and_a_face(self):
        package = ROOT / "digitflow"
        for folder in PACKAGES:
            link = package / folder
            assert link.is_dir()
            assert not link.is_symlink() or link.readlink() == Path("..", folder)

    def test_no_file_in_flows_hides_a_module(self):
        """A flow that is loaded from its file has flows/ first on its path."""
        installed = {*sys.stdlib_module_names, *packages_distributions()} - {"digitflow"}
        found = {path.stem for path in (ROOT / "flows").iterdir() if path.stem[:2] != "__"}
        assert found & (installed | {"tasks", "storage", "tests"}) == set()

    def test_every_file_that_a_document_names_is_there(self):
        documents = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
        named = re.compile(
            r"`((?:flows|tasks|storage|tests|benchmarks|docs)/[\w/.-]+?\.\w+)(?:::|`)"
        )
        assert len(documents) > 10
        assert [
            f"{name(path)}: {each}"
            for path in documents
            for each in named.findall(path.read_text(encoding="utf-8"))
            if not (ROOT / each).exists()
        ] == []

    def test_no_grab_bags(self):
        for path in SOURCES:
            assert path.stem not in ("utils", "helpers", "common", "misc", "util"), name(path)
