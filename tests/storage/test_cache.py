import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from digitflow import storage
from digitflow.storage.backends.locks import KeyLocks
from digitflow.storage.cache import Outcome
from digitflow.storage.digests import digest_bytes
from digitflow.storage.documents import Documents
from digitflow.storage.errors import ArtifactError, ObjectDamagedError, ObjectMissingError
from digitflow.storage.formats.artifacts import Artifact
from digitflow.storage.keys import StageKey
from digitflow.storage.records import RECORDS
from digitflow.storage.store import Store, store_location

FORMATS = {"array": "npy", "notes": "json"}
# Of a clock that goes wrong, either way.
TIMES = ("2999-01-01T00:00:00.000+00:00", "1970-01-02T00:00:00.000+00:00")
DATA = b"archive"
PINNED = {"archive": digest_bytes(DATA)}


def key(
    stage: str = "square", inputs: Mapping[str, str] | None = None, **parameters: Any
) -> StageKey:
    return StageKey(stage, {"steps.py": {"square": "1"}}, parameters, inputs or {})


class Computation:
    """Counts how often it is asked, and can be told to fail."""

    def __init__(self) -> None:
        self.count = 0
        self.reasons: list[tuple[str, ...]] = []
        self.error: BaseException | None = None
        self.values: dict[str, Any] = {"array": np.arange(5) ** 2, "notes": {"n": 5}}

    def __call__(self, scratch: Path) -> dict[str, Any]:
        self.count += 1
        self.scratch = scratch
        assert scratch.is_dir()
        if self.error is not None:
            (scratch / "half-done").write_text("kept")
            raise self.error
        return self.values


@pytest.fixture
def compute() -> Computation:
    return Computation()


@pytest.fixture
def obtain(store: Store, compute: Computation) -> Callable[..., Outcome]:
    def obtain(
        of: StageKey | None = None,
        label: str = "square",
        formats: Mapping[str, str] = FORMATS,
        run: str = "first",
        **options: Any,
    ) -> Outcome:
        return store.cache.obtain(
            of or key(), label, compute, formats, run=run, on_miss=compute.reasons.append, **options
        )

    return obtain


def damage(store: Store, artifact: Artifact) -> None:
    path = store.objects.path(artifact.sha256)
    path.chmod(0o644)
    path.write_bytes(b"x" + path.read_bytes()[1:])


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


def record_path(store: Store, outcome: Outcome) -> Path:
    return store.records.path(outcome.record.stage, outcome.record.key)


def test_computes_once_and_serves_what_it_computed(
    store: Store, compute: Computation, obtain: Callable[..., Outcome]
):
    first = obtain()
    assert not first.cached
    assert first.reasons == ("never run",)
    assert compute.reasons == [("never run",)]
    second = obtain(run="second")
    assert second.cached
    assert compute.count == 1
    assert second.record == first.record
    assert second.record.run == "first"
    np.testing.assert_array_equal(store.read(second.record.outputs["array"]), np.arange(5) ** 2)
    assert store.read(second.record.outputs["notes"]) == {"n": 5}
    assert second.record.outputs["array"].details == {"shape": [5], "dtype": "int64"}


def test_looking_up_writes_nothing(store: Store):
    assert store.cache.look_up(key(), "square").reasons == ("never run",)
    assert not store.root.exists()


def test_looking_up_verifies_and_computes_nothing(store: Store, obtain: Callable[..., Outcome]):
    outcome = obtain()
    before = sorted((path, path.stat().st_mtime_ns) for path in store.root.rglob("*"))
    assert store.cache.look_up(key(), "square").record == outcome.record
    assert sorted((path, path.stat().st_mtime_ns) for path in store.root.rglob("*")) == before


def test_serving_notes_the_use(store: Store, obtain: Callable[..., Outcome]):
    path = record_path(store, obtain())
    os.utime(path, (1000, 1000))
    obtain()
    assert path.stat().st_mtime > 1000


@pytest.mark.parametrize("swept", ["record", "object"])
def test_what_was_swept_since_it_was_looked_up_is_not_served(
    store: Store, obtain: Callable[..., Outcome], swept: str
):
    outcome = obtain()
    assert store.cache.serve(outcome.record)
    artifact = outcome.record.outputs["array"]
    path = record_path(store, outcome)
    (path if swept == "record" else store.objects.path(artifact.sha256)).unlink()
    assert not store.cache.serve(outcome.record)


class TestReasons:
    def test_names_what_changed(self, obtain: Callable[..., Outcome]):
        obtain(key(rate=0.1, epochs=5))
        assert obtain(key(rate=0.2, epochs=5)).reasons == ("parameter rate 0.1 → 0.2",)

    def test_compares_with_the_nearest_record_not_the_newest(self, obtain: Callable[..., Outcome]):
        obtain(key(a=1, b=1, c=1))
        obtain(key(a=2, b=2, c=2))
        assert obtain(key(a=1, b=1, c=3)).reasons == ("parameter c 1 → 3",)

    def test_compares_with_records_of_the_same_label_only(self, obtain: Callable[..., Outcome]):
        obtain(key(name="a"), label="decode-training-images")
        assert obtain(key(name="b"), label="decode-test-images").reasons == ("never run",)

    def test_compares_with_records_of_the_same_stage_only(self, obtain: Callable[..., Outcome]):
        obtain(key("train", rate=1))
        assert obtain(key("evaluate", rate=2)).reasons == ("never run",)

    def test_an_unreadable_record_explains_nothing(
        self, store: Store, obtain: Callable[..., Outcome]
    ):
        record_path(store, obtain(key(a=1))).write_bytes(b"damaged")
        storage.cache._remembered.clear()  # as another process would see it
        assert obtain(key(a=2)).reasons == ("never run",)

    def test_the_hundredth_miss_costs_what_the_tenth_did(
        self, obtain: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
    ):
        """A sweep's cost grows with its points, and no faster."""
        compared = []
        plain = storage.cache.differences

        def differences(old: Any, new: Any) -> list[str]:
            compared.append(old)
            return plain(old, new)

        monkeypatch.setattr(storage.cache, "differences", differences)
        read = []
        fetch = Documents.fetch

        def fetched(self: Any, name: str) -> Any:
            read.append(name)
            return fetch(self, name)

        monkeypatch.setattr(Documents, "fetch", fetched)
        costs = []
        for rate in range(100):
            assert obtain(key(rate=rate)).cached is False
            costs.append((len(compared), len(read)))
            compared.clear()
            read.clear()
        assert costs[99] == costs[50] == costs[10]

    def test_a_changed_input(self, obtain: Callable[..., Outcome]):
        obtain(key(inputs={"x": "a" * 64}))
        assert obtain(key(inputs={"x": "b" * 64})).reasons == (
            f"input changed: x {'a' * 12}… → {'b' * 12}…",
        )


class TestRefresh:
    def test_computes_although_it_is_cached(
        self, compute: Computation, obtain: Callable[..., Outcome]
    ):
        obtain()
        outcome = obtain(refresh=True, run="second")
        assert compute.count == 2
        assert outcome.reasons == ("refresh asked for",)
        assert compute.reasons[-1] == ("refresh asked for",)
        assert outcome.record.run == "second"
        assert obtain().cached

    def test_of_something_never_run(self, compute: Computation, obtain: Callable[..., Outcome]):
        assert obtain(refresh=True).reasons == ("refresh asked for",)
        assert compute.count == 1

    @pytest.mark.parametrize("created", TIMES)
    def test_is_answered_by_a_record_that_appears_while_it_waits(
        self,
        store: Store,
        compute: Computation,
        obtain: Callable[..., Outcome],
        created: str,
        monkeypatch: pytest.MonkeyPatch,
    ):
        outcome = obtain()
        newer = replace(outcome.record, created=created, run="other")
        plain = KeyLocks.computing

        def late(*arguments: Any) -> Any:
            store.records.save(newer)  # somebody else was first
            return plain(*arguments)

        monkeypatch.setattr(KeyLocks, "computing", late)
        assert obtain(refresh=True).record.run == "other"
        assert compute.count == 1

    @pytest.mark.parametrize("created", TIMES)
    def test_is_not_answered_by_what_was_there_whatever_the_clocks_say(
        self, store: Store, compute: Computation, obtain: Callable[..., Outcome], created: str
    ):
        store.records.save(replace(obtain().record, created=created))
        outcome = obtain(refresh=True, run="second")
        assert (compute.count, outcome.record.run) == (2, "second")
        assert obtain().record.run == "second"

    def test_new_bytes_replace_the_old_record(
        self, store: Store, compute: Computation, obtain: Callable[..., Outcome]
    ):
        obtain()
        compute.values = {"array": np.zeros(2), "notes": {}}
        obtain(refresh=True)
        assert store.read(obtain().record.outputs["notes"]) == {}


class TestDamage:
    @pytest.mark.parametrize("output", ["array", "notes"])
    def test_a_damaged_object_is_said_and_healed(
        self, store: Store, compute: Computation, obtain: Callable[..., Outcome], output: str
    ):
        artifact = obtain().record.outputs[output]
        damage(store, artifact)
        with pytest.raises(ObjectDamagedError):
            store.read(artifact)
        outcome = obtain()
        assert outcome.reasons == (f"object {artifact.sha256[:12]}… is damaged",)
        assert compute.count == 2
        assert obtain().cached
        store.objects.verify(artifact.sha256, artifact.size)

    @pytest.mark.parametrize("output", ["array", "notes"])
    def test_a_deleted_object_is_said_and_healed(
        self, store: Store, compute: Computation, obtain: Callable[..., Outcome], output: str
    ):
        artifact = obtain().record.outputs[output]
        store.objects.path(artifact.sha256).unlink()
        with pytest.raises(ObjectMissingError):
            store.read(artifact)
        assert obtain().reasons == (f"object {artifact.sha256[:12]}… is missing",)
        assert obtain().cached
        assert compute.count == 2

    @pytest.mark.parametrize("data", [b"", b"{}", b"not json", b"\x00" * 100])
    def test_a_damaged_record_is_said_and_healed(
        self, store: Store, compute: Computation, obtain: Callable[..., Outcome], data: bytes
    ):
        outcome = obtain()
        record_path(store, outcome).write_bytes(data)
        assert obtain().reasons == (f"record {outcome.record.key[:12]}… is damaged",)
        assert obtain().cached
        assert compute.count == 2

    def test_a_deleted_record_is_a_miss_that_finds_its_objects_right(
        self, store: Store, obtain: Callable[..., Outcome]
    ):
        record_path(store, obtain()).unlink()
        assert obtain().reasons == ("never run",)
        assert obtain().cached

    def test_a_reference_with_another_size_than_the_object(
        self, store: Store, obtain: Callable[..., Outcome]
    ):
        artifact = obtain().record.outputs["array"]
        with pytest.raises(ObjectDamagedError):
            store.read(replace(artifact, size=artifact.size + 1))

    def test_an_object_of_another_format_than_declared(
        self, store: Store, obtain: Callable[..., Outcome]
    ):
        with pytest.raises(ArtifactError, match="is not a readable npz artifact"):
            store.read(replace(obtain().record.outputs["array"], format="npz"))


class TestFailure:
    @pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt(), SystemExit()])
    def test_leaves_no_record_and_keeps_the_scratch_folder(
        self,
        store: Store,
        compute: Computation,
        obtain: Callable[..., Outcome],
        error: BaseException,
    ):
        compute.error = error
        with pytest.raises(type(error)):
            obtain()
        assert store.cache.look_up(key(), "square").reasons == ("never run",)
        assert (compute.scratch / "half-done").read_text() == "kept"
        failed = compute.scratch
        compute.error = None
        obtain()
        assert compute.scratch == failed  # the next try goes on there
        assert not failed.exists()

    def test_of_a_refresh_keeps_the_old_record(
        self, compute: Computation, obtain: Callable[..., Outcome]
    ):
        first = obtain()
        compute.error = ValueError("broken")
        with pytest.raises(ValueError, match="broken"):
            obtain(refresh=True)
        assert obtain().record == first.record

    @pytest.mark.parametrize(
        ("values", "says"),
        [
            ({}, "square: expected the outputs array, notes, found none"),
            ({"array": 1}, "square: expected the outputs array, notes, found array"),
            ({"array": 1, "notes": 1, "z": 1}, "found array, notes, z"),
            (None, "square: expected the outputs in a mapping, found None"),
            ([1, 2], r"square: expected the outputs in a mapping, found \[1, 2\]"),
            ({"array": np.array([None]), "notes": {}}, "expected an array of numbers"),
            ({"array": np.eye(2), "notes": {1: 2}}, "expected strings as keys"),
        ],
    )
    def test_values_that_were_not_declared(
        self,
        store: Store,
        compute: Computation,
        obtain: Callable[..., Outcome],
        values: Any,
        says: str,
    ):
        compute.values = values
        with pytest.raises(ArtifactError, match=says):
            obtain()
        assert not list(store.records.of_stage("square"))
        assert names(store.root / "objects" / "tmp") == []

    def test_a_crash_before_the_record_leaves_no_record(
        self, store: Store, obtain: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
    ):
        with monkeypatch.context() as patch:
            patch.setattr("digitflow.storage.backends.local.write_bytes", raise_memory_error)
            with pytest.raises(MemoryError):
                obtain()
        assert len(list(store.objects)) == 2
        assert store.cache.look_up(key(), "square").reasons == ("never run",)

    def test_the_lock_is_free_afterwards(
        self, compute: Computation, obtain: Callable[..., Outcome]
    ):
        compute.error = ValueError()
        for _ in range(3):
            with pytest.raises(ValueError, match="^$"):
                obtain()
        assert compute.count == 3


def raise_memory_error(*args: Any) -> None:
    raise MemoryError


class TestPinned:
    """Outputs whose digests are promised, such as downloads."""

    @pytest.fixture
    def fetch(
        self, store: Store, compute: Computation, obtain: Callable[..., Outcome]
    ) -> Callable[..., Outcome]:
        def fetch(data: bytes = DATA, **options: Any) -> Outcome:
            def download(scratch: Path) -> dict[str, Any]:
                compute.count += 1
                (scratch / "archive.gz").write_bytes(data)
                return {"archive": scratch / "archive.gz"}

            of = StageKey("download", {}, {"sha256": PINNED["archive"]}, {})
            return store.cache.obtain(
                of, "download", download, {"archive": "file"}, run="r", pinned=PINNED, **options
            )

        return fetch

    def put(self, store: Store, data: bytes = DATA) -> None:
        with store.objects.temporary() as file:
            file.write_bytes(data)
            store.objects.add(file)

    def test_are_recognised_without_a_record(
        self, store: Store, compute: Computation, fetch: Callable[..., Outcome]
    ):
        self.put(store)
        outcome = fetch()
        assert outcome.cached
        assert compute.count == 0
        assert store.read(outcome.record.outputs["archive"]).read_bytes() == DATA
        assert outcome.record.outputs["archive"].size == len(DATA)
        # From now on there is a record.
        assert store.records.load("download", outcome.record.key) is not None

    def test_are_recognised_behind_a_damaged_record(
        self, store: Store, compute: Computation, fetch: Callable[..., Outcome]
    ):
        path = record_path(store, fetch())
        path.write_bytes(b"damaged")
        assert fetch().cached
        assert compute.count == 1
        assert RECORDS.parse(path.read_bytes()).key == path.stem

    def test_are_recognised_behind_a_record_of_other_outputs(
        self, store: Store, compute: Computation, fetch: Callable[..., Outcome]
    ):
        record = fetch().record
        self.put(store, b"something else")
        forged = Artifact(digest_bytes(b"something else"), 14, "file")
        store.records.save(replace(record, outputs={"archive": forged}))
        outcome = fetch()
        assert outcome.record.outputs["archive"].sha256 == PINNED["archive"]
        store.objects.path(PINNED["archive"]).unlink()
        store.records.save(replace(record, outputs={"archive": forged}))
        assert fetch().reasons == (f"record {record.key[:12]}… is damaged",)
        assert compute.count == 2

    def test_are_not_recognised_if_damaged(
        self, store: Store, compute: Computation, fetch: Callable[..., Outcome]
    ):
        record = fetch().record
        damage(store, record.outputs["archive"])
        outcome = fetch()
        assert outcome.reasons == (f"object {PINNED['archive'][:12]}… is damaged",)
        assert compute.count == 2
        assert fetch().cached

    def test_wrong_bytes_are_refused(self, store: Store, fetch: Callable[..., Outcome]):
        with pytest.raises(
            ArtifactError,
            match=f"download: expected archive with the SHA-256 {PINNED['archive']}, found ",
        ):
            fetch(b"wrong")
        assert not list(store.records.of_stage("download"))

    @pytest.mark.parametrize("with_record", [True, False])
    def test_a_refresh_computes_them(
        self, store: Store, compute: Computation, fetch: Callable[..., Outcome], with_record: bool
    ):
        path = record_path(store, fetch())
        if not with_record:
            path.unlink()
        assert fetch(refresh=True).reasons == ("refresh asked for",)
        assert compute.count == 2

    def test_a_plan_writes_no_record_of_them(self, store: Store, fetch: Callable[..., Outcome]):
        self.put(store)
        of = StageKey("download", {}, {"sha256": PINNED["archive"]}, {})
        assert store.cache.look_up(of, "download", pinned=PINNED).record is not None
        assert not (store.root / "records").exists()


class TestFiles:
    FORMATS: Mapping[str, str] = {"file": "file"}

    def test_are_moved_into_the_store(
        self, store: Store, compute: Computation, obtain: Callable[..., Outcome]
    ):
        def write(scratch: Path) -> dict[str, Any]:
            (scratch / "deep").mkdir()
            (scratch / "deep" / "digits.gz").write_bytes(DATA)
            return {"file": scratch / "deep" / "digits.gz"}

        outcome = store.cache.obtain(key(), "draw", write, self.FORMATS, run="r")
        artifact = outcome.record.outputs["file"]
        assert artifact.details == {"name": "digits.gz"}
        assert store.read(artifact).read_bytes() == DATA

    def test_of_somebody_else_are_not_taken_away(
        self, tmp_path: Path, compute: Computation, obtain: Callable[..., Outcome]
    ):
        precious = tmp_path / "precious.csv"
        precious.write_text("mine")
        link = tmp_path / "store" / "link"
        for value in (precious, str(precious), None):
            compute.values = {"file": value}
            with pytest.raises(ArtifactError, match="a file in the stage's scratch folder"):
                obtain(formats=self.FORMATS)
        assert precious.read_text() == "mine"
        assert not link.exists()

    def test_links_out_of_the_scratch_folder_are_refused(self, tmp_path: Path, store: Store):
        precious = tmp_path / "precious.csv"
        precious.write_text("mine")

        def link(scratch: Path) -> dict[str, Any]:
            (scratch / "link").symlink_to(precious)
            return {"file": scratch / "link"}

        with pytest.raises(ArtifactError, match="a file in the stage's scratch folder"):
            store.cache.obtain(key(), "draw", link, self.FORMATS, run="r")
        assert precious.read_text() == "mine"


def test_a_computation_that_changes_its_parameters_leaves_a_valid_record(store: Store):
    classes = ["b", "a"]

    def sort(scratch: Path) -> dict[str, Any]:
        classes.sort()
        return {"notes": classes}

    asked = key(classes=classes)
    digest = asked.digest()
    store.cache.obtain(asked, "sort", sort, {"notes": "json"}, run="r")
    record = store.records.load("square", digest)
    assert record is not None
    assert record.document["parameters"] == {"classes": ["b", "a"]}


def test_equal_outputs_are_stored_once(store: Store, obtain: Callable[..., Outcome]):
    obtain(key(a=1))
    obtain(key(a=2))
    assert len(list(store.objects)) == 2
    assert len(list(store.records.of_stage("square"))) == 2


def test_nothing_half_done_is_left(store: Store, obtain: Callable[..., Outcome]):
    obtain()
    assert set(names(store.root)) <= {"objects", "records", "scratch", "locks", "live"}
    for folder in ("scratch", "live", "objects/tmp"):
        assert names(store.root / folder) == []


@pytest.mark.parametrize(
    ("value", "expected"),
    [("relative/store", "{cwd}/relative/store"), ("/absolute", "/absolute"), ("~/s", "{home}/s"),
     ("", "{home}/.digitflow"), (None, "{home}/.digitflow")],
)  # fmt: skip
def test_where_the_store_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str | None, expected: str
):
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    if value is None:
        monkeypatch.delenv("DIGITFLOW_STORE", raising=False)
    else:
        monkeypatch.setenv("DIGITFLOW_STORE", value)
    at = expected.format(cwd=tmp_path / "cwd", home=tmp_path / "home")
    assert str(store_location()) == at
    assert str(Store().root) == at
    assert not Path(at).exists()


def everything_below(root: Path) -> Iterable[tuple[str, bytes]]:
    return sorted(
        (str(path.relative_to(root)), path.read_bytes())
        for path in root.rglob("*")
        if path.is_file()
    )


def test_two_stores_that_did_the_same_hold_the_same_objects(tmp_path: Path, compute: Computation):
    stores = [Store(tmp_path / name) for name in "ab"]
    for store in stores:
        store.cache.obtain(key(), "square", compute, FORMATS, run="r")
    one, other = (everything_below(store.root / "objects") for store in stores)
    assert one == other
