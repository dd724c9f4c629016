"""Each test that docs/security.md names is there."""

import ast
import re

from tests.mnist import ROOT

TEXT = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")


def test_the_tests_that_are_named_exist() -> None:
    named = set(re.findall(r"`(test_\w+\.py)::(test_\w+)`", TEXT))
    assert len(named) > 25
    there = {
        (path.name, each.name)
        for path in (ROOT / "tests").rglob("test_*.py")
        for each in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(each, ast.FunctionDef)
    }
    assert named <= there, named - there


def test_what_cannot_be_done_has_its_test() -> None:
    rows = [
        line.split(" | ") for line in TEXT.splitlines() if line.startswith("| ") and "**" in line
    ]
    assert len(rows) == 11
    for _, _, cannot in rows:
        assert "::test_" in cannot or cannot.strip(" |") == "—" or "the same" in cannot
