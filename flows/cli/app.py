"""The command `digitflow`: which commands there are, and what becomes of their errors.

A command's module is imported when the command is called. What the help says of a command
therefore stands here, and what it says of the command's options stands with them.
"""

from __future__ import annotations

import io
import sys
from traceback import format_exception
from types import TracebackType
from typing import Any

from cyclopts import App, CycloptsError, Group, Parameter, UnknownOptionError

DONE, FAILED, BAD_USAGE = 0, 1, 2
# As shells report what SIGPIPE has ended. With 0 a verdict would be taken for given.
READER_GONE = 141

_TRAINING = Group("Training", sort_key=1)
_RESULTS = Group("Runs and models", sort_key=2)
_STORE = Group("Data and store", sort_key=3)
_SERVICES = Group("Services", sort_key=4)
_HELP = Group("Help", sort_key=5)

_COMMANDS = (
    (
        "run:run",
        _TRAINING,
        "Run the pipeline: download, decode, preprocess, train, evaluate, plot.\n\n"
        "A stage whose inputs, parameters and code are unchanged is served from the cache. For a "
        "flow of your own: digitflow run FILE.py:NAME --param KEY=VALUE; exit code 3 if its gate "
        "did not promote.",
    ),
    (
        "run:retrain",
        _TRAINING,
        "Train, judge the new model against the champion, and promote it if it is better.\n\n"
        "Exit code 0 if it was promoted or nothing has changed, 3 if a person should look: the "
        "model was rejected or held, or the source could not confirm the data.",
    ),
    (
        "rehearse:rehearse",
        _TRAINING,
        "Play a fortnight of faults on a copy of your champion, and report what the gate did.\n\n"
        "Swapped labels, leaks, a lost champion: nothing of it is kept, and nothing of yours is "
        "touched. Exit code 0 if no fault was promoted, 3 if one was.",
    ),
    (
        "plan:plan",
        _TRAINING,
        "Show what a run would do, and why, without running anything.\n\n"
        "Exit code 0 if every stage is cached, 3 if any would run. For a flow of your own: "
        "digitflow plan FILE.py:NAME --param KEY=VALUE",
    ),
    (
        "new:new",
        _TRAINING,
        "Make a small project of your own: stages, a metric, a gate, tests, deployments.\n\n"
        "A folder NAME with a table and a scikit-learn model; its README.md says what to type.",
    ),
    (
        "sweep:sweep",
        _TRAINING,
        "Train a network for each point of a grid, rank the points and test the winner.\n\n"
        "Points are ranked on the validation set. A point that is cached is not trained again.",
    ),
    (
        "run:parameters",
        _TRAINING,
        "List the parameters that --set takes: value in a preset, meaning, bounds.",
    ),
    ("history:runs", _RESULTS, "List the finished runs, newest first."),
    (
        "history:show",
        _RESULTS,
        "Show a run, a stage's newest record, or an object: its origin, inputs and users.",
    ),
    ("history:diff", _RESULTS, "Compare two runs: parameters, metrics, figures."),
    (
        "models:models",
        _RESULTS,
        "List the trained models; show, promote, roll back, quarantine, hold or export one.",
    ),
    (
        "standing:status",
        _RESULTS,
        "Show each model's champion, the gate's last verdicts, holds and quarantines.\n\n"
        "Exit code 1 if it is not certain which version is the champion.",
    ),
    (
        "standing:why",
        _RESULTS,
        "Show what differs between a model and its champion: parameters, code, data, images.",
    ),
    (
        "reproduce:reproduce",
        _RESULTS,
        "Train a model once more from its records, and compare stage by stage.\n\n"
        "In fresh processes and an empty store, from data with the same digests, with the code of "
        "the recorded commit. Exit code 1 if a stage differs; the first one is named.",
    ),
    (
        "predict:predict",
        _RESULTS,
        "Classify pictures: class, probability and runner-up.\n\n"
        "Photos are first brought to the form of the training images. Exit code 1 if a file "
        "cannot be read; the others are classified all the same.",
    ),
    (
        "predict:drift",
        _RESULTS,
        "Check whether recent pictures differ from the test set. Exit code 3 if they do.\n\n"
        "Compares the predictions that `predict --record` and the deployment `predict-batch` "
        "recorded.",
    ),
    (
        "serve:serve",
        _RESULTS,
        "Serve the champion over HTTP: /predict, /health, /metrics, and a page to draw on.",
    ),
    ("datasets:dataset", _STORE, "List, show, check, add and draw datasets."),
    (
        "store:gc",
        _STORE,
        "List what can be deleted from the store, and its size; --apply deletes it.",
    ),
    (
        "store:verify",
        _STORE,
        "Hash everything in the store again and list damage. Exit code 1 if there is any.",
    ),
    (
        "accept:accept",
        _STORE,
        "Take an edit of a stage's code as one that changes nothing: old outputs are served.\n\n"
        "Refused if more than the code differs. digitflow plan and show say who accepted it and "
        "why, and digitflow audit computes it again before anything else.",
    ),
    (
        "audit:audit",
        _STORE,
        "Compute a sample of the cached stages once more and compare the outputs.\n\n"
        "Each runs in a fresh process, and nothing of the cache is written. Exit code 1 if an "
        "output differs. What other code made cannot be audited, and is counted.",
    ),
    (
        "services:up",
        _SERVICES,
        "Start server, deployments and workers on this machine, until Ctrl-C.\n\n"
        "If PREFECT_API_URL names a server that runs, it is used and left running.",
    ),
    (
        "services:down",
        _SERVICES,
        "Stop what digitflow up started, even if its terminal is gone.",
    ),
    (
        "services:deploy",
        _SERVICES,
        "Create or update work pool and deployments on the server at PREFECT_API_URL.",
    ),
    (
        "services:monitor",
        _SERVICES,
        "Restart runs that died with their worker, on the server at PREFECT_API_URL.\n\n"
        "Runs until stopped; one per server. digitflow up starts its own.",
    ),
    (
        "services:server",
        _SERVICES,
        "Start a Prefect server whose SQLite writers wait for each other.\n\n"
        "Otherwise the same as prefect server start, with Prefect's settings, such as "
        "PREFECT_SERVER_API_PORT. digitflow up starts its own.",
    ),
)


def _shown_default(value: Any) -> str | None:
    """Leave out of the help the defaults that go without saying."""
    return None if value in (None, False, "") else str(value)


app = App(
    name="digitflow",
    help="Train and retrain digit classifiers in NumPy, on Prefect, with a cache that verifies "
    "what it serves.\n\nStart with: digitflow run",
    version_flags=["--version"],
    default_parameter=Parameter(negative="", negative_iterable="", show_default=_shown_default),
    result_action="return_value",
    # Or Ctrl-C would end everything with 130 before we can say that nothing is lost.
    suppress_keyboard_interrupt=False,
)
for _order, (_where, _group, _help) in enumerate(_COMMANDS):
    app.command(f"digitflow.flows.cli.{_where}", group=_group, help=_help, sort_key=_order)
for _flag in (*app.help_flags, *app.version_flags):
    app[_flag].group = (_HELP,)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Returns
    -------
    int
        0 done, 1 failed, 2 bad usage, 130 stopped by Ctrl-C, 141 if nobody reads on; some
        commands have others, which their help names.
    """
    from digitflow.flows.server.endpoint import bypass_proxies
    from digitflow.tasks.engine.log_text import make_harmless

    make_harmless()
    arguments = sys.argv[1:] if arguments is None else arguments
    bypass_proxies()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # where they have no arrow, say
    try:
        result = app(arguments, exit_on_error=False, print_error=False)
    except (BrokenPipeError, SystemExit) as error:
        # Rich, which prints the help, makes an exit of a broken pipe.
        if not isinstance(error.__context__ or error, BrokenPipeError):
            raise
        # The reader of our output has gone, as `head` does. Nothing is wrong, nor is it done.
        sys.stderr.close()
        return READER_GONE
    except (Exception, KeyboardInterrupt) as error:
        code = _explain(error, arguments)
        if code is None:
            raise
        return code
    return result if isinstance(result, int) else DONE


def _explain(error: BaseException, arguments: list[str]) -> int | None:
    """Print what went wrong; return the exit code, or None if all of it should be seen."""
    from digitflow.flows.cli.render import plain_console, print_text
    from digitflow.flows.selection import SelectionError
    from digitflow.storage.errors import UnknownNameError
    from digitflow.storage.visible import redacted
    from digitflow.tasks.data.datasets.dataset import DatasetError
    from digitflow.tasks.engine.cancellation import INTERRUPTED, StoppedError
    from digitflow.tasks.parameters import ParameterError
    from digitflow.tasks.prediction.export import ExportError
    from digitflow.tasks.reporting.results import ResultsFolderError

    console = plain_console(stderr=True)
    bad_usage = (
        CycloptsError,
        DatasetError,
        ExportError,
        ParameterError,
        ResultsFolderError,
        SelectionError,
        UnknownNameError,
    )
    if isinstance(error, KeyboardInterrupt | StoppedError):
        print_text(console, "stopped; the same command goes on from here", "yellow")
        return INTERRUPTED
    if isinstance(error, bad_usage):
        print_text(console, f"error: {redacted(str(error))}{_hint(error)}", "red")
        return BAD_USAGE
    if "--verbose" in arguments:
        sys.excepthook = _print_traceback
        return None
    print_text(console, f"error: {redacted(str(error)) or type(error).__name__}", "red")
    if getattr(getattr(error, "response", None), "status_code", None) in (401, 403):
        hint = "The Prefect server asks for a password: set PREFECT_API_AUTH_STRING=user:password."
        print_text(console, hint, "red")
    is_ours = type(error).__module__.startswith("digitflow.")  # so its message is for people
    if not is_ours and arguments[:1] in (["run"], ["retrain"], ["sweep"]):
        console.print("Add --verbose for the whole story.", style="dim")
    return FAILED


def _print_traceback(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    """Print what Python prints, without what a terminal would obey."""
    from digitflow.storage.visible import redacted, visible

    sys.stderr.write(visible(redacted("".join(format_exception(kind, error, traceback)))))


def _hint(error: BaseException) -> str:
    """Return how to set a parameter, for those who took it to be an option."""
    from digitflow.tasks.parameters import PARAMETER_NAMES

    if not isinstance(error, UnknownOptionError):
        return ""
    if not any("--set" in each.names for each in error.argument_collection):
        return ""
    name = (error.token.keyword or "").lstrip("-").replace("-", "_")
    return f" Set parameters with --set {name}=VALUE." if name in PARAMETER_NAMES else ""
