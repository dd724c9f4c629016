"""What a stage reads beside its inputs while it computes: files, folders, environment variables.

The interpreter announces every file that Python code opens, and every folder that it lists, to an
audit hook; reads of `os.environ` are noted by a wrapper around it, where own code asks. They are
kept in the record with digests, and a record is served only while they are the same. Not seen are
what C code opens by itself, what other processes read, and questions such as whether a file exists.
"""

from __future__ import annotations

import os
import site
import stat
import sys
import sysconfig
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from digitflow.storage.digests import digest_bytes, digest_file, digest_json

# What was read → its digest; empty if it was not there.
Observed = Mapping[str, str]

_FILE, _FOLDER, _VARIABLE = "file", "folder", "variable"
_WORKING, _PROJECT, _ANYWHERE = "working", "project", "anywhere"

# Of the machine, not of the computation.
_SYSTEM = ("/proc", "/sys", "/dev", "/run", "/etc", "/usr/share", "/usr/lib", "/lib", "/var/cache")
# Who reads a source to show it.
_SHOW = ("linecache.py", "tokenize.py", "inspect.py", "traceback.py", "pdb.py")

_observation: ContextVar[Observation | None] = ContextVar("digitflow_observation", default=None)


class Reading(NamedTuple):
    """Something that was read."""

    kind: str
    name: str  # as it was given
    place: str  # where that was then
    digest: str


class Observation:
    """What is read in the context, and in the threads that it starts.

    Parameters
    ----------
    root
        Folder of the project: what lies there is named from it, so that a copy has its own.
    apart
        Folders whose files are not noted: the store's.
    """

    def __init__(self, root: Path, apart: tuple[Path, ...] = ()) -> None:
        self._root = root
        self._apart = tuple(
            {f"{each}{os.sep}" for path in apart for each in (path.absolute(), path.resolve())}
        )
        self._lock = threading.Lock()
        self._seen: dict[str, str] = {}
        self._made: set[str] = set()
        self.open = True

    def found(self) -> dict[str, str]:
        """Return what was read, with what it was when it was read first."""
        with self._lock:
            return dict(sorted(self._seen.items()))

    def changed(self) -> list[str]:
        """Return what is not any more as it was read, through others than the stage."""
        with self._lock:
            seen = {
                name: digest
                for name, digest in self._seen.items()
                if _place(name, self._root) not in self._made
            }
        return changes(seen, self._root)

    def made(self, path: Any) -> None:
        """Note what the stage itself made: that is no input of it."""
        place = _absolute(path)
        if place is not None:
            self._made.add(place)

    def add(self, reading: Reading) -> None:
        """Note what was read."""
        kind, name, place, digest = reading
        if kind != _VARIABLE and (place in self._made or place.startswith(self._apart)):
            return
        if kind == _VARIABLE:
            key = f"{kind}::{name}"
        elif not Path(name).is_absolute():
            key = f"{kind}:{_WORKING}:{name}"
        elif place.startswith(f"{self._root}{os.sep}"):
            key = f"{kind}:{_PROJECT}:{place[len(str(self._root)) + 1 :]}"
        else:
            key = f"{kind}:{_ANYWHERE}:{place}"
        with self._lock:
            self._seen.setdefault(key, digest)

    def add_loaded(self, files: Iterable[str]) -> None:
        """Note what modules read while they were loaded, given the modules' files."""
        for file in files:
            for reading in list(_by_modules.get(file, {}).values()):
                self.add(reading)


# What modules read while they were loaded, by the module's file.
_by_modules: dict[str, dict[tuple[str, str], Reading]] = {}


@contextmanager
def observing(observation: Observation) -> Iterator[Observation]:
    """Note what is read in the block."""
    watch()
    token = _observation.set(observation)
    try:
        yield observation
    finally:
        observation.open = False
        _observation.reset(token)


@contextmanager
def paused() -> Iterator[None]:
    """Note nothing in the block."""
    token = _observation.set(None)
    try:
        yield
    finally:
        _observation.reset(token)


def changes(observed: Observed, root: Path) -> list[str]:
    """Say what of what was read is not as it was.

    Parameters
    ----------
    observed
        What a record says was read.
    root
        Folder of the project now.
    """
    said = []
    for key, digest in observed.items():
        kind, _, name = key.split(":", 2)
        if kind == _VARIABLE:
            if _digest_of_variable(name) != digest:
                said.append(f"environment variable {name} changed")
            continue
        with alone():
            now = _digest_of(kind, _place(key, root)) or ""
        if now != digest:
            how = "is gone" if not now else "changed" if digest else "is new"
            said.append(f"{kind} {name} {how}")
    return said


def _place(key: str, root: Path) -> str:
    _, base, name = key.split(":", 2)
    return str(root / name) if base == _PROJECT else str(Path(name).absolute())


def _absolute(path: Any) -> str | None:
    try:
        return str(Path(os.fsdecode(path)).absolute())
    except (TypeError, ValueError, OSError):  # a descriptor, or no folder to be in
        return None


def _writes(mode: Any, flags: Any) -> bool:
    if isinstance(mode, str):
        return any(each in mode for each in "wax+")
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def _reads(mode: Any, flags: Any) -> bool:
    """Tell whether what is in a file can be read, maybe to be changed, as `numpy.memmap` does."""
    if isinstance(mode, str):
        return "r" in mode or ("a" in mode and "+" in mode)
    return isinstance(flags, int) and not flags & (os.O_WRONLY | os.O_TRUNC | os.O_EXCL)


def _digest_of(kind: str, path: str) -> str | None:
    """Return a digest, nothing if there is nothing, None if it has no contents to compare."""
    try:
        if kind == _FOLDER:
            return digest_json(sorted(os.listdir(path)))  # noqa: PTH208 - names only
        if not stat.S_ISREG(Path(path).stat().st_mode):
            return None
        return digest_file(Path(path))
    except OSError:
        return ""


def _digest_of_variable(name: str) -> str:
    """Return a digest and not the value: it may be secret."""
    with alone():
        value = os.environ.get(name)
    return "" if value is None else digest_bytes(value.encode("utf-8", "surrogateescape"))


@cache
def _apart() -> tuple[str, ...]:
    """Return the folders of the interpreter, of what is installed, of the system and of caches."""
    paths = sysconfig.get_paths()
    folders = {paths[each] for each in ("stdlib", "platstdlib", "purelib", "platlib", "include")}
    folders |= {f"{prefix}/{each}" for prefix in (sys.prefix, sys.base_prefix)
                for each in ("lib", "lib64", "share", "bin", "etc")}  # fmt: skip
    folders |= {*site.getsitepackages(), site.getusersitepackages(), *_SYSTEM}
    home = Path("~").expanduser()
    folders |= {
        os.environ.get("XDG_CACHE_HOME") or str(home / ".cache"),
        os.environ.get("MPLCONFIGDIR") or str(home / ".config" / "matplotlib"),
        os.environ.get("PREFECT_HOME") or str(home / ".prefect"),
        str(home / ".matplotlib"),
    }
    return tuple(f"{each.rstrip(os.sep)}{os.sep}" for each in folders)


@cache
def watch() -> None:
    """Set the hook and the wrappers, once in a process."""
    _apart()
    sys.addaudithook(_hear)
    _wrap_environment()
    _wrap_threads()


_HEARD = {"open", "os.listdir", "os.scandir", "os.rename", "os.mkdir", "sqlite3.connect"}
_busy = threading.local()


@contextmanager
def alone() -> Iterator[None]:
    """Hear nothing of what the block does itself."""
    before = getattr(_busy, "now", False)
    _busy.now = True
    try:
        yield
    finally:
        _busy.now = before


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if event not in _HEARD or getattr(_busy, "now", False):
        return
    observation = _observation.get()
    frame = sys._getframe(1)
    with alone():
        if event == "open":
            path, mode, flags = arguments
            writes = _writes(mode, flags)
            if _reads(mode, flags):
                _note(observation, _FILE, path, frame, is_made=writes)
            if writes and observation is not None:
                observation.made(path)
        elif event == "sqlite3.connect":
            _note(observation, _FILE, arguments[0], frame, is_made=True)
            if observation is not None:
                observation.made(arguments[0])
        elif event in ("os.listdir", "os.scandir"):
            path = arguments[0]
            _note(observation, _FOLDER, "." if path is None else path, frame)
        elif observation is not None:
            observation.made(arguments[event == "os.rename"])


def _note(
    observation: Observation | None,
    kind: str,
    path: Any,
    frame: FrameType,
    *,
    is_made: bool = False,
) -> None:
    """Note what is read; where it is made if need be, only what is there already."""
    place = _absolute(path)
    if place is None or _is_apart(place, frame):
        return
    # What is read while a module is loaded counts for every stage that uses the module, and not
    # only for the one that happens to load it.
    module = _reader(frame, False)
    if module is None and (observation is None or _reader(frame, True) is None):
        return
    digest = _digest_of(kind, place)
    if digest or (digest is not None and not is_made):
        _keep(observation, module, Reading(kind, os.fsdecode(path), place, digest))


def _keep(observation: Observation | None, module: str | None, reading: Reading) -> None:
    if module is not None:
        _by_modules.setdefault(module, {})[reading.kind, reading.place] = reading
    if observation is not None and observation.open:
        observation.add(reading)


def _reader(frame: FrameType | None, observed: bool) -> str | None:
    """Return the file of the own module that reads, or None if it is somebody else.

    While a stage is observed, that is whoever reads, but not what a library reads while it is
    loaded. Else it is a module of which the top runs.
    """
    others = _apart()
    direct = True
    while frame is not None:
        code = frame.f_code
        file = code.co_filename
        if file.startswith("<frozen importlib"):
            return None
        if file.startswith(others):
            direct = direct and "-packages" not in file
        elif not file.startswith("<frozen"):
            if _is_engine(frame):
                # A thread's first frame, or a builtin that the stage's caller calls.
                return file if observed else None
            if observed:
                return file
            if code.co_name == "<module>":
                is_script = frame.f_globals.get("__name__") == "__main__"
                return file if direct or not is_script else None
        frame = frame.f_back
    return "" if observed else None


_TOP = __name__.partition(".")[0]
_ENGINE = tuple(
    f"{_TOP}.{room}" for room in ("flows", "storage", "tasks.engine", "tasks.recomputation")
)


def _is_engine(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).startswith(_ENGINE)


def _is_apart(place: str, frame: FrameType) -> bool:
    by = frame.f_code.co_filename
    return (
        place.startswith(_apart())
        or place.endswith((".pyc", ".so", ".pth"))
        or "__pycache__" in place
        or by.startswith("<frozen importlib")
        or by.endswith(_SHOW)
    )


def _wrap_environment() -> None:
    kind: Any = type(os.environ)
    get, iterate = kind.__getitem__, kind.__iter__

    def get_item(self: Any, key: str) -> str:
        if self is os.environ and not getattr(_busy, "now", False):
            frame = sys._getframe(1)
            with alone():
                _note_variable(key, frame)
        found: str = get(self, key)
        return found

    def iterate_all(self: Any) -> Iterator[str]:
        # Who copies the environment, for another process say, asks for no variable.
        for key in iterate(self):
            _busy.copying = _instruction(sys._getframe(1))
            yield key

    kind.__getitem__, kind.__iter__ = get_item, iterate_all


def _note_variable(name: str, frame: FrameType) -> None:
    caller = _caller(frame)
    if caller is None or getattr(_busy, "copying", None) == _instruction(frame):
        return
    if caller.f_code.co_filename.startswith((*_apart(), "<frozen")) or _is_engine(caller):
        return
    reading = Reading(_VARIABLE, name, name, _digest_of_variable(name))
    _keep(_observation.get(), _reader(caller, False), reading)


_MAPPINGS = (f"{os.sep}os.py", "<frozen os>", "<frozen _collections_abc>", "_collections_abc.py")


def _caller(frame: FrameType | None) -> FrameType | None:
    """Return who asks the environment, behind the methods of mappings."""
    while frame is not None and frame.f_code.co_filename.endswith(_MAPPINGS):
        frame = frame.f_back
    return frame


def _instruction(frame: FrameType | None) -> tuple[int, int] | None:
    caller = _caller(frame)
    return None if caller is None else (id(caller), caller.f_lasti)


def _wrap_threads() -> None:
    start = threading.Thread.start

    def start_observed(self: threading.Thread) -> None:
        observation = _observation.get()
        if observation is not None:
            run = self.run

            def run_observed() -> None:
                _observation.set(observation)
                run()

            self.run = run_observed  # type: ignore[method-assign]
        start(self)

    threading.Thread.start = start_observed  # type: ignore[method-assign]
