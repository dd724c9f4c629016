"""What docs/deploy.md has its readers install: units of systemd, an automation."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from prefect.settings import Settings

from tests.mnist import ROOT
from tests.patience import PATIENCE

UNITS = sorted((ROOT / "docs" / "systemd").glob("*.service"))
ENVIRONMENTS = sorted((ROOT / "docs" / "systemd").glob("*.env"))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_accepts_the_units(unit: Path, tmp_path: Path) -> None:
    # It also looks whether the program is there.
    text = unit.read_text(encoding="utf-8")
    text, found = re.subn(
        r"(?<=^ExecStart=)/opt/digitflow/.venv/bin/\w+ ", "/usr/bin/env ", text, flags=re.M
    )
    assert found == 1
    copy = tmp_path / unit.name
    copy.write_text(text, encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    ours = [line for line in (done.stdout + done.stderr).splitlines() if unit.name in line]
    assert (done.returncode, ours) == (0, [])


@pytest.mark.parametrize("file", ENVIRONMENTS, ids=lambda file: file.stem)
def test_prefect_knows_the_settings(file: Path) -> None:
    """A misspelt one is ignored in silence."""
    known = set(Settings().to_environment_variables(exclude_unset=False)) | {
        *("PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_AUTH_STRING"),
        *("PREFECT_API_URL", "PREFECT_SERVER_DATABASE_CONNECTION_URL"),
    }
    names = re.findall(r"^#?(PREFECT_\w+)=", file.read_text(encoding="utf-8"), re.MULTILINE)
    assert names
    assert set(names) <= known
