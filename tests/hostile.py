"""Run pytest where everything around it is against it: ``python -m tests.hostile [ARGUMENT ...]``.

Whatever the environment of a user may hold is set to something that breaks whoever looks at it.
`tests/environment.py` lets nobody look. ``make test-hostile`` runs the tests of ``make test`` so.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

NOWHERE = "http://127.0.0.1:9"  # nobody listens on the discard port
NO_FOLDER = "/dev/null/folder"  # and nobody can make it one
LOCALE = "tr_TR.ISO-8859-9"

HOSTILE = {
    # A home in which not even root can write.
    "HOME": "/proc",
    **{f"XDG_{name}_HOME": NO_FOLDER for name in ("CACHE", "CONFIG", "DATA", "STATE")},
    # What digitflow and Prefect are told.
    "DIGITFLOW_STORE": "nonsense://store",
    "DIGITFLOW_MIRROR": NO_FOLDER,
    "DIGITFLOW_DATASETS": NO_FOLDER,
    "DIGITFLOW_CACHE": NO_FOLDER,
    "PREFECT_HOME": NO_FOLDER,
    "PREFECT_PROFILE": "nobody",
    "PREFECT_API_URL": f"{NOWHERE}/api",
    "PREFECT_API_KEY": "wrong",
    "PREFECT_SERVER_API_PORT": "9",
    "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{NO_FOLDER}/prefect.db",
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    "PREFECT_CLIENT_MAX_RETRIES": "0",
    "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "true",
    # The libraries below.
    "MPLBACKEND": "module://nonexistent",
    "MPLCONFIGDIR": NO_FOLDER,
    "OPENBLAS_NUM_THREADS": "3",
    "OPENBLAS_CORETYPE": "Prescott",
    "OPENBLAS_VERBOSE": "2",
    "OMP_NUM_THREADS": "3",
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "1ms",
    "AWS_PROFILE": "nobody",
    "AWS_ENDPOINT_URL_S3": NOWHERE,
    "PGHOST": NO_FOLDER,
    # The network.
    **{
        spelt: NOWHERE
        for name in ("http_proxy", "https_proxy", "all_proxy")
        for spelt in (name, name.upper())
    },
    **dict.fromkeys(("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"), NO_FOLDER),
    # Time, language, screen.
    "TZ": "Pacific/Kiritimati",
    **dict.fromkeys(("LANG", "LC_ALL"), LOCALE),
    "LANGUAGE": "tr",
    "CI": "true",
    "COLUMNS": "200",
    "FORCE_COLOR": "1",
    "PY_COLORS": "0",  # pytest's own report stays legible
    "TERM": "dumb",
    # Python itself, and git, as in one of its hooks.
    "PYTHONWARNINGS": "error",
    "PYTHONHASHSEED": "0",
    "PYTHONIOENCODING": "ascii",
    "PYTHONUTF8": "0",
    "PYTHONCOERCECLOCALE": "0",
    "GIT_DIR": NO_FOLDER,
}
OURS = ("benchmarks", "digitflow", "flows", "storage", "tasks", "tests")


def hostile_environment(folder: Path) -> dict[str, str]:
    """Return the environment; modules and a locale that belong to it are put into the folder."""
    for name in OURS:
        (folder / f"{name}.py").write_text("raise ImportError('not the module you want')\n")
    environment = {**os.environ, **HOSTILE, "PYTHONPATH": str(folder)}
    # Where the system can make it, the locale is a real one, and its encoding is not UTF-8.
    if shutil.which("localedef") is not None:
        language, _, encoding = LOCALE.partition(".")
        made = subprocess.run(
            ["localedef", "-c", "-i", language, "-f", encoding, str(folder / LOCALE)],
            capture_output=True,
        )
        if made.returncode == 0:
            environment["LOCPATH"] = str(folder)
    return environment


def main(arguments: list[str]) -> int:
    """Run pytest with these arguments, and return its exit code."""
    os.umask(0o077)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with tempfile.TemporaryDirectory(prefix="digitflow-hostile-") as folder:
        environment = hostile_environment(Path(folder))
        command = [sys.executable, "-m", "pytest", *arguments]
        return subprocess.run(command, env=environment, stdin=subprocess.DEVNULL).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
