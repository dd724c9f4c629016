"""`digitflow plan`: the exit code, why, and as JSON."""

from pathlib import Path

from digitflow.storage.cache import Cache
from tests.answers import SET_TINY, Answer, Cli, no_line_is_too_wide
from tests.walk import LABELS, Walk

ROOT = Path(__file__).resolve().parents[3]


def plan(cli: Cli, directory: Path, *arguments: str) -> Answer:
    return cli("plan", "--dataset", str(directory), *SET_TINY, *arguments)


def test_exit_code_tells_whether_anything_would_run(cli: Cli, cache: Cache, tiny_directory: Path):
    answer = plan(cli, tiny_directory)
    assert answer.code == 0
    assert answer.out.count("cached") == len(LABELS)
    answer = plan(cli, tiny_directory, "epochs=3")
    assert answer.code == 2  # set twice
    answer = plan(cli, tiny_directory, "--refresh", "plot")
    assert answer.code == 3
    assert "refresh asked for" in answer.out
    assert no_line_is_too_wide(answer.out)


def test_says_what_changed(cli: Cli, cache: Cache, tiny_directory: Path):
    tiny = [each for each in SET_TINY if not each.startswith("epochs=")]
    answer = cli("plan", "--dataset", str(tiny_directory), *tiny, "epochs=3")
    assert answer.code == 3
    lines = [" ".join(line.split()) for line in answer.out.splitlines()]
    assert "will run train parameter epochs 2 → 3" in lines
    assert "waits evaluate waits for train" in lines


def test_as_json(cli: Cli, cache: Cache, tiny_directory: Path, first: Walk):
    answer = plan(cli, tiny_directory, "--json", "--from", "evaluate")
    stages = {stage["label"]: stage for stage in answer.json}
    assert list(stages) == list(LABELS)
    assert stages["train"]["status"] == "cached"
    assert stages["train"]["key"] == first.results["train"].key
    assert stages["evaluate"]["status"] == "will run"
    assert stages["evaluate"]["reasons"] == ["refresh asked for"]
    assert stages["plot"]["waits_for"] == ["evaluate"]


def test_writes_nothing(cli: Cli, tmp_path: Path, tiny_directory: Path):
    assert plan(cli, tiny_directory).code == 3
    assert not (tmp_path / "store").exists()
    assert not list(Path.cwd().iterdir())
