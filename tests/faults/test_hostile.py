"""A store in which somebody else may write: what he leaves is refused, and nothing is executed.

He cannot be kept from replacing a result by another that is sound in form: digests say that
nothing was damaged, not who made it.
"""

import hashlib
import io
import json
import os
import pickle
import shutil
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from digitflow.flows.cli.app import main
from digitflow.flows.selection import Selection
from digitflow.storage.digests import digest_json, short
from digitflow.storage.errors import ArtifactError
from digitflow.storage.store import Store
from digitflow.storage.upkeep.gc import sweep
from tests.faults.conftest import Undisturbed
from tests.faults.killing import kill_when
from tests.faults.logged_walk import Hold, LoggedWalk, epochs_trained, events
from tests.faults.processes import from_function
from tests.faults.soundness import check_sound, make_old, outcomes


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.canary),)


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "executed"
    yield path
    assert not path.exists(), "a pickle was executed"


@pytest.fixture
def store(undisturbed: Undisturbed, tmp_path: Path) -> Path:
    shutil.copytree(undisturbed.store, tmp_path / "store")
    return tmp_path / "store"


def pickled_npy(canary: Path) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([Bomb(canary)], dtype=object), allow_pickle=True)
    return buffer.getvalue()


def pickled_npz(canary: Path) -> bytes:
    buffer = io.BytesIO()
    bomb = np.array([Bomb(canary)], dtype=object)
    np.savez(buffer, allow_pickle=True, outputs=bomb, losses=bomb)
    return buffer.getvalue()


def bare_pickle(canary: Path) -> bytes:
    return pickle.dumps(Bomb(canary))


def gigabytes(canary: Path) -> bytes:
    header = repr({"descr": "<f8", "fortran_order": False, "shape": (2**40,)}).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


def test_the_bomb_goes_off(tmp_path: Path) -> None:
    """The tests below would notice."""
    with pytest.raises(ValueError, match="allow_pickle"):
        np.load(io.BytesIO(pickled_npy(tmp_path / "canary")), allow_pickle=False)
    assert not (tmp_path / "canary").exists()
    np.load(io.BytesIO(pickled_npy(tmp_path / "canary")), allow_pickle=True)
    assert (tmp_path / "canary").exists()


def plant(store: Path, content: bytes) -> str:
    """Put an object into a store under its right digest."""
    sha256 = hashlib.sha256(content).hexdigest()
    path = Store(store).objects.path(sha256)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return sha256


def forge(store: Path, stage: str, change: Callable[[dict[str, Any]], object]) -> Path:
    """Change the record of a stage, and make its own digest right again."""
    (path,) = (store / "records" / stage).glob("*.json")
    body = json.loads(path.read_text())
    del body["sha256"]
    change(body)
    path.write_text(json.dumps({**body, "sha256": digest_json(body)}))
    return path


def forget(store: Path, *stages: str) -> None:
    for stage in stages:
        shutil.rmtree(store / "records" / stage)


@pytest.mark.parametrize("content", [pickled_npy, pickled_npz, bare_pickle, gigabytes])
@pytest.mark.parametrize(
    ("maker", "output", "reader"),
    [("train", "predictions", "evaluate"), ("preprocess", "training_inputs", "train")],
)
def test_a_forged_record_that_names_a_hostile_object(
    undisturbed: Undisturbed,
    store: Path,
    canary: Path,
    content: Callable[[Path], bytes],
    maker: str,
    output: str,
    reader: str,
) -> None:
    data = content(canary)
    sha256 = plant(store, data)
    forge(store, maker, lambda body: body["outputs"][output].update(sha256=sha256, size=len(data)))
    log = store.parent / "log"
    tracemalloc.start()
    with pytest.raises(ArtifactError):
        undisturbed.walk(store, log)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 * 2**20
    assert events(log)[-1]["label"] == reader
    # Whoever reads the error knows what to do, and it helps.
    again = LoggedWalk(
        undisturbed.walk.dataset, undisturbed.walk.changes, Selection(refresh=(maker,))
    )(store, log)
    assert again.digests() == undisturbed.done.digests()


FORGERIES: dict[str, Callable[[dict[str, Any]], object]] = {
    "a class": lambda body: body.update({"py/object": "os.system", "__class__": "os.system"}),
    "a class among the outputs": lambda body: body["outputs"].update(
        {"model": {"py/reduce": ["os.system", "true"]}}
    ),
    "a path for a digest": lambda body: body["outputs"]["model"].update(
        sha256="../../../../etc/passwd"
    ),
    "a path for an output": lambda body: body["outputs"].update(
        {"../../../escape": body["outputs"]["model"]}
    ),
    "a path for a stage": lambda body: body["document"].update(stage="../../escape"),
    "another key": lambda body: body.update(key="0" * 64),
    "another format that there is": lambda body: body["outputs"]["history"].update(format="json"),
    "another format": lambda body: body["outputs"]["model"].update(format="pickle"),
    "a size below nothing": lambda body: body["outputs"]["model"].update(size=-1),
    "no outputs": lambda body: body.update(outputs={}),
    "outputs of another type": lambda body: body.update(outputs=[1, 2]),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_record(undisturbed: Undisturbed, store: Path, forgery: str) -> None:
    forge(store, "train", FORGERIES[forgery])
    before = {path for path in store.parent.rglob("*") if not path.is_relative_to(store)}
    walked = undisturbed.walk(store, store.parent / "log")
    assert walked.ran == ["train"]
    assert "record" in walked.started["train"][0]
    assert "is damaged" in walked.started["train"][0]
    assert outcomes(store) == undisturbed.outcomes
    after = {path for path in store.parent.rglob("*") if not path.is_relative_to(store)}
    assert after - before <= {store.parent / "log"}
    check_sound(store)


def test_the_sound_record_of_another_key(undisturbed: Undisturbed, store: Path) -> None:
    """A worse network passed off as this one."""
    (path,) = (store / "records" / "train").glob("*.json")
    log = store.parent / "log"
    worse = replace(undisturbed.walk, changes={"epochs": 1}, selection=Selection(until="train"))
    worse(store, log)
    (other,) = set((store / "records" / "train").glob("*.json")) - {path}
    other.replace(path)
    walked = undisturbed.walk(store, log)
    assert walked.started == {"train": (f"record {short(path.stem)}… is damaged",)}
    assert walked.digests() == undisturbed.done.digests()


def test_hostile_bytes_under_another_digest(
    undisturbed: Undisturbed, store: Path, canary: Path
) -> None:
    sha256 = undisturbed.done.output("train", "predictions").sha256
    path = Store(store).objects.path(sha256)
    path.chmod(0o644)
    path.write_bytes(pickled_npz(canary))
    forget(store, "evaluate")
    walked = undisturbed.walk(store, store.parent / "log")
    assert walked.started["train"] == (f"object {short(sha256)}… is damaged",)
    assert outcomes(store) == undisturbed.outcomes


@pytest.mark.parametrize("bytes_are", ["right", "wrong"])
def test_a_link_in_an_objects_place(undisturbed: Undisturbed, store: Path, bytes_are: str) -> None:
    """Even to the right bytes: what lies outside is not the store's to keep."""
    sha256 = undisturbed.done.output("train", "model").sha256
    path = Store(store).objects.path(sha256)
    outside = store.parent / "outside"
    outside.write_bytes(path.read_bytes() if bytes_are == "right" else b"secret")
    before = outside.stat().st_mtime_ns, outside.read_bytes()
    path.unlink()
    path.symlink_to(outside)
    walked = undisturbed.walk(store, store.parent / "log")
    assert walked.started == {"train": (f"object {short(sha256)}… is damaged",)}
    assert path.is_file()
    assert not path.is_symlink()
    assert (outside.stat().st_mtime_ns, outside.read_bytes()) == before
    check_sound(store)


def test_a_link_in_a_records_place(undisturbed: Undisturbed, store: Path) -> None:
    (path,) = (store / "records" / "train").glob("*.json")
    outside = store.parent / "outside"
    path.rename(outside)
    path.symlink_to(outside)
    walked = undisturbed.walk(store, store.parent / "log")
    assert walked.started == {"train": (f"record {short(path.stem)}… is damaged",)}
    assert not path.is_symlink()


@pytest.mark.parametrize("place", ["object", "record", "run"])
def test_a_pipe_makes_nobody_wait(
    undisturbed: Undisturbed,
    store: Path,
    place: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if place == "object":
        path = Store(store).objects.path(undisturbed.done.output("train", "model").sha256)
    else:
        (path,) = (store / ("runs" if place == "run" else "records/train")).glob("*.json")
    path.unlink()
    os.mkfifo(path)
    monkeypatch.setenv("DIGITFLOW_STORE", str(store))
    if place == "run":
        assert main(["runs"]) == 0
        assert main(["gc", "--keep-days", "0"]) == 0
        assert main(["verify"]) == 0  # healed by the first command from its copy
    attempt = undisturbed.job(store, store.parent / "log")
    assert attempt.wait() == 0, attempt.output()
    assert outcomes(store) == undisturbed.outcomes
    check_sound(store)
    if place == "run":
        path.unlink()
        os.mkfifo(path)
        assert main(["verify", "--repair"]) == 1
        assert path.is_file()
        assert main(["verify"]) == 0


def test_a_sweep_leaves_alone_what_links_lead_to(undisturbed: Undisturbed, store: Path) -> None:
    outside = store.parent / "outside"
    outside.mkdir()
    (outside / "file").write_text("mine")
    make_old(outside)
    (store / "scratch").mkdir(exist_ok=True)
    (store / "scratch" / ("a" * 64)).symlink_to(outside)
    (store / "objects" / "tmp").mkdir(exist_ok=True)
    (store / "objects" / "tmp" / ".tmp-link").symlink_to(outside)
    object_path = Store(store).objects.path("b" * 64)
    object_path.parent.mkdir(exist_ok=True)
    object_path.symlink_to(outside / "file")
    make_old(store)
    sweep(Store(store), keep_days=0)
    assert (outside / "file").read_text() == "mine"
    check_sound(store)


def test_a_hostile_checkpoint(undisturbed: Undisturbed, tmp_path: Path, canary: Path) -> None:
    """Its name may promise what it holds; it is no checkpoint of ours all the same."""
    store, log = tmp_path / "store", tmp_path / "log"
    held = from_function(replace(undisturbed.walk, hold=Hold(2)))(store, log)
    kill_when(held, log, lambda: 2 in epochs_trained(log))
    checkpoints = list(store.glob("scratch/*/*.npz"))
    for content in (pickled_npz(canary), pickled_npy(canary), bare_pickle(canary)):
        prefix = checkpoints[0].name.partition("-")[0]
        sha256 = hashlib.sha256(content).hexdigest()
        (checkpoints[0].parent / f"{prefix}-000005-{sha256}.npz").write_bytes(content)
    (checkpoints[0].parent / f"{prefix}-nonsense-{sha256}.npz").write_bytes(content)
    resumed = from_function(undisturbed.walk)(store, log)
    assert resumed.wait() == 0, resumed.output()
    assert outcomes(store) == undisturbed.outcomes
