"""The pipeline on real stages and a real store: what runs again, and why, and what does not.

Every walk is planned first, and the plan must say what the walk then does.
"""

import gzip
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from digitflow.flows.selection import STAGE_NAMES, Selection
from digitflow.storage.digests import digest_bytes, short
from digitflow.storage.store import Store
from digitflow.tasks.data.datasets.sources import ROLES, Dataset, from_directory
from digitflow.tasks.engine.plan import NotCachedError, PlannedStage
from digitflow.tasks.parameters import Parameters
from tests.walk import LABELS, Walk, planned, tiny_parameters, walk, write_dataset

DOWNLOADS, DECODES = LABELS[:4], LABELS[4:8]
AFTER_DECODE = LABELS[8:]


def planned_walk(
    cache: Store,
    dataset: Dataset,
    parameters: Parameters | None = None,
    selection: Selection | None = None,
) -> Walk:
    """Plan a walk, walk, and compare the two."""
    parameters, selection = parameters or tiny_parameters(), selection or Selection()
    before = everything_below(cache.root)
    plan = planned(cache, dataset, parameters, selection)
    assert everything_below(cache.root) == before, "planning wrote into the store"
    done = walk(cache, dataset, parameters, selection, run="second")
    assert [each.label for each in plan] == list(done.results)
    for each in plan:
        check_plan(each, done)
    return done


def check_plan(planned: PlannedStage, done: Walk) -> None:
    result = done.results[planned.label]
    if planned.waits_for:
        # Whatever it waits for really ran, or waited itself.
        assert not planned.cached
        assert planned.reasons == ()
        assert planned.outputs is None
        with pytest.raises(NotCachedError, match=f"{planned.label} is not cached"):
            planned.result()
    elif planned.cached:
        assert result.cached, f"{planned.label} was planned as cached"
        assert planned.outputs == result.outputs
        assert planned.result().key == result.key
    else:
        assert done.started[planned.label] == planned.reasons


def everything_below(root: Path) -> list[tuple[str, int]]:
    return sorted(
        (str(path.relative_to(root)), path.stat().st_mtime_ns)
        for path in root.rglob("*")
        if path.is_file() and path.parent.name != "locks"
    )


def damage(path: Path) -> None:
    path.chmod(0o644)
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


class TestCachedRuns:
    def test_the_first_walk_runs_everything(self, first: Walk):
        assert first.ran == list(LABELS)
        assert set(first.started.values()) == {("never run",)}
        ran = {result.stage for result in first.results.values()}
        assert ran | {"draw", "combine"} == set(STAGE_NAMES)

    def test_a_second_identical_walk_computes_nothing(
        self, cache: Store, tiny: Dataset, first: Walk
    ):
        second = planned_walk(cache, tiny)
        assert second.ran == []
        assert all(result.cached for result in second.results.values())
        assert second.digests() == first.digests()

    def test_an_independent_walk_gives_the_same_bytes(
        self, empty: Store, tiny: Dataset, first: Walk
    ):
        assert planned_walk(empty, tiny).digests() == first.digests()

    def test_a_plan_of_an_empty_store_knows_what_it_cannot_know(self, empty: Store, tiny: Dataset):
        plan = planned(empty, tiny, tiny_parameters(), Selection())
        assert [each.label for each in plan] == list(LABELS)
        assert [each.reasons for each in plan[:4]] == [("never run",)] * 4
        assert [each.waits_for for each in plan[4:9]] == [
            *((download,) for download in DOWNLOADS),
            DECODES,
        ]
        assert not empty.root.exists()

    def test_the_place_of_the_data_does_not_matter(
        self, cache: Store, tiny_directory: Path, tmp_path: Path
    ):
        shutil.copytree(tiny_directory, tmp_path / "moved" / "tiny")
        assert planned_walk(cache, from_directory(tmp_path / "moved" / "tiny")).ran == []

    def test_the_data_need_not_be_there_any_more(
        self, cache: Store, tiny_directory: Path, tmp_path: Path
    ):
        shutil.copytree(tiny_directory, tmp_path / "tiny")
        dataset = from_directory(tmp_path / "tiny")
        shutil.rmtree(tmp_path / "tiny")
        assert planned_walk(cache, dataset).ran == []

    def test_the_same_images_unpacked_are_decoded_again_and_no_more(
        self, cache: Store, tiny_directory: Path, tmp_path: Path
    ):
        (tmp_path / "tiny").mkdir()
        for packed in tiny_directory.iterdir():
            plain = tmp_path / "tiny" / packed.name.removesuffix(".gz")
            plain.write_bytes(gzip.decompress(packed.read_bytes()))
        done = planned_walk(cache, from_directory(tmp_path / "tiny"))
        assert done.ran == [*DOWNLOADS, *DECODES]  # the arrays came out the same


class TestParameters:
    @pytest.mark.parametrize(
        ("changes", "ran", "reason"),
        [
            (
                {"learning_rate": 0.05},
                ["train", "calibrate", "evaluate", "plot"],
                "learning_rate 0.005 → 0.05",
            ),
            ({"dpi": 50}, ["plot"], "dpi 40 → 50"),
        ],
    )
    def test_a_changed_one_reruns_what_uses_it_and_what_follows(
        self, cache: Store, tiny: Dataset, changes: dict[str, Any], ran: list[str], reason: str
    ):
        done = planned_walk(cache, tiny, tiny_parameters(**changes))
        assert done.ran == ran
        assert done.started[ran[0]] == (f"parameter {reason}",)
        for label in ran[1:]:
            assert all(each.startswith("input changed: ") for each in done.started[label])
        # And back again.
        assert planned_walk(cache, tiny).ran == []

    @pytest.mark.parametrize(
        ("changes", "first_to_run", "reason"),
        [
            ({"training_sample": 30}, "preprocess", "training_sample 40 → 30"),
            ({"test_sample": 10}, "preprocess", "test_sample 20 → 10"),
            ({"epochs": 3}, "train", "epochs 2 → 3"),
            ({"seed": 1}, "train", "seed 884736743 → 1"),
            ({"gallery_seed": 1}, "plot", "gallery_seed 147197952744 → 1"),
            ({"gallery_size": 3}, "plot", "gallery_size 5 → 3"),
            ({"mistakes": 5}, "plot", "mistakes 20 → 5"),
        ],
    )
    def test_a_plan_knows_for_each_what_runs_first(
        self, cache: Store, tiny: Dataset, changes: dict[str, Any], first_to_run: str, reason: str
    ):
        plan = planned(cache, tiny, tiny_parameters(**changes), Selection())
        to_run = [each for each in plan if not each.cached]
        assert [each.label for each in to_run] == list(LABELS[LABELS.index(first_to_run) :])
        assert to_run[0].reasons == (f"parameter {reason}",)
        assert all(each.waits_for for each in to_run[1:])

    def test_every_reason_names_the_input_that_changed(
        self, cache: Store, tiny: Dataset, first: Walk
    ):
        until = Selection(until="evaluate")
        done = planned_walk(cache, tiny, tiny_parameters(learning_rate=0.05), until)
        old, new = (short(each.output("train", "predictions").sha256) for each in (first, done))
        assert f"input changed: predictions {old}… → {new}…" in done.started["evaluate"]


class TestSelection:
    def test_refresh_runs_one_stage_and_spares_the_rest_if_its_bytes_are_the_same(
        self, cache: Store, tiny: Dataset, first: Walk
    ):
        done = planned_walk(cache, tiny, selection=Selection(refresh=("train",)))
        assert done.started == {"train": ("refresh asked for",)}
        assert done.digests() == first.digests()

    @pytest.mark.parametrize("stage", ["download", "decode", "preprocess", "evaluate"])
    def test_refresh_of_each_stage(self, cache: Store, tiny: Dataset, stage: str):
        done = planned_walk(cache, tiny, selection=Selection(refresh=(stage,)))
        assert done.ran == [label for label in LABELS if label.startswith(stage)]

    def test_from_runs_a_stage_and_everything_after_it(self, cache: Store, tiny: Dataset):
        done = planned_walk(cache, tiny, selection=Selection(start="evaluate"))
        assert done.started == dict.fromkeys(["evaluate", "plot"], ("refresh asked for",))

    @pytest.mark.parametrize(
        ("until", "last"),
        [
            ("draw", DOWNLOADS[-1]),
            ("download", DOWNLOADS[-1]),
            ("decode", DECODES[-1]),
            ("preprocess", "preprocess"),
            ("train", "train"),
            ("evaluate", "evaluate"),
            ("plot", "plot"),
        ],
    )
    def test_until_stops_after_a_stage(self, cache: Store, tiny: Dataset, until: str, last: str):
        done = planned_walk(cache, tiny, selection=Selection(until=until))
        assert list(done.results) == list(LABELS[: LABELS.index(last) + 1])
        assert done.ran == []

    def test_until_on_an_empty_store_makes_no_more(self, empty: Store, tiny: Dataset):
        done = planned_walk(empty, tiny, selection=Selection(until="preprocess"))
        assert done.ran == [*DOWNLOADS, *DECODES, "preprocess"]
        until = Selection(until="evaluate")
        assert planned_walk(empty, tiny, selection=until).ran == [
            "train",
            "calibrate",
            "evaluate",
        ]

    def test_all_of_them_together(self, cache: Store, tiny: Dataset):
        selection = Selection(refresh=("preprocess",), start="train", until="evaluate")
        done = planned_walk(cache, tiny, selection=selection)
        assert done.ran == ["preprocess", "train", "calibrate", "evaluate"]
        assert "plot" not in done.results

    @pytest.mark.parametrize("refresh", ["draw", "download"])
    def test_drawing_stands_in_the_place_of_downloading(self, refresh: str):
        selection = Selection(refresh=(refresh,))
        assert selection.refreshes("draw")
        assert selection.refreshes("download")
        assert not selection.refreshes("decode")


class TestDamage:
    """Each object and each record, deleted or damaged, is noticed, said and healed."""

    @pytest.mark.parametrize("how", ["deleted", "damaged"])
    def test_of_each_object(self, cache: Store, tiny: Dataset, first: Walk, how: str):
        makers: dict[str, str] = {}
        for label, result in first.results.items():
            for artifact in result.outputs.values():
                makers.setdefault(artifact.sha256, label)
        assert set(makers) == set(cache.objects)
        for sha256, label in makers.items():
            if label == "plot":
                continue  # drawn in a test of its own: it takes a second
            path = cache.objects.path(sha256)
            if how == "deleted":
                path.unlink()
                reason = f"object {short(sha256)}… is missing"
            else:
                damage(path)
                reason = f"object {short(sha256)}… is damaged"
            done = planned_walk(cache, tiny)
            assert done.started == {label: (reason,)}
            assert done.digests() == first.digests()
            cache.objects.verify(sha256)
            assert walk(cache, tiny).ran == []

    def test_of_a_figure(self, cache: Store, tiny: Dataset, first: Walk):
        artifact = first.output("plot", "gallery")
        damage(cache.objects.path(artifact.sha256))
        done = planned_walk(cache, tiny)
        assert done.started == {"plot": (f"object {short(artifact.sha256)}… is damaged",)}
        assert done.digests() == first.digests()

    def test_of_each_record(self, cache: Store, tiny: Dataset, first: Walk):
        for label, result in first.results.items():
            if label == "plot":
                continue
            path = cache.records.path(result.stage, result.key)
            damage(path)
            done = planned_walk(cache, tiny)
            if label in DOWNLOADS:
                # Its digest is promised, so the object is enough.
                assert done.ran == []
            else:
                assert done.started == {label: (f"record {short(result.key)}… is damaged",)}
            assert walk(cache, tiny).ran == []
            assert cache.records.load(result.stage, result.key) is not None

    def test_of_everything(self, cache: Store, tiny: Dataset, first: Walk):
        for sha256 in list(cache.objects):
            cache.objects.path(sha256).unlink()
        done = planned_walk(cache, tiny, selection=Selection(until="evaluate"))
        assert done.ran == list(LABELS[:-1])
        assert done.digests().items() <= first.digests().items()

    def test_of_a_dataset_file_under_our_feet(
        self, empty: Store, tiny_directory: Path, tmp_path: Path
    ):
        shutil.copytree(tiny_directory, tmp_path / "tiny")
        dataset = from_directory(tmp_path / "tiny")
        damage(tmp_path / "tiny" / "train-images-idx3-ubyte.gz")
        with pytest.raises(Exception, match="wrong bytes|SHA-256") as raised:
            walk(empty, dataset)
        assert type(raised.value).__name__ == "FetchError"
        assert list(empty.objects) == []


class TestData:
    def test_images_of_mnists_size_and_of_any_other(self, empty: Store, tmp_path: Path):
        for shape in ((28, 28), (9, 11)):
            dataset = from_directory(write_dataset(tmp_path / f"{shape}", shape=shape))
            done = walk(empty, dataset, selection=Selection(until="evaluate"))
            model = empty.read(done.output("train", "model"))
            assert model["weights_1"].shape[0] == shape[0] * shape[1]
            assert empty.read(done.output("evaluate", "metrics"))["test_samples"] == 20

    def test_prepared_values(self, cache: Store, first: Walk):
        inputs = cache.read(first.output("preprocess", "training_inputs"))
        targets = cache.read(first.output("preprocess", "training_targets"))
        images = cache.read(first.output("decode-training-images", "array"))
        labels = cache.read(first.output("decode-training-labels", "array"))
        np.testing.assert_array_equal(inputs, images)
        np.testing.assert_array_equal(targets, labels)
        assert (inputs.dtype, targets.ndim) == (np.uint8, 1)

    def test_one_changed_label_reruns_from_its_download_on(
        self, cache: Store, tiny_directory: Path, tmp_path: Path
    ):
        from digitflow.tasks.data.idx import arrays as idx

        shutil.copytree(tiny_directory, tmp_path / "tiny")
        file = tmp_path / "tiny" / "t10k-labels-idx1-ubyte.gz"
        labels = idx.decode(file)
        labels[0] = (labels[0] + 1) % 10
        idx.write(file, labels)
        until = Selection(until="evaluate")
        done = planned_walk(cache, from_directory(tmp_path / "tiny"), selection=until)
        # The network comes out the same, so what is fitted on it does, too.
        follows = [label for label in AFTER_DECODE[:-1] if label != "calibrate"]
        assert done.ran == ["download-test-labels", "decode-test-labels", *follows]
        [reason] = done.started["download-test-labels"]
        digest = digest_bytes(file.read_bytes())
        assert reason.startswith("parameter sha256 ")
        assert f"→ {digest[:39]}…" in reason

    def test_more_images_than_there_are(self, cache: Store, tiny: Dataset):
        with pytest.raises(ValueError, match=r"training_sample: expected at most 40.* found 41"):
            walk(cache, tiny, tiny_parameters(training_sample=41))

    @pytest.mark.parametrize("role", ROLES)
    def test_a_mirror_without_one_of_the_files(
        self, empty: Store, tiny_directory: Path, tmp_path: Path, role: str
    ):
        shutil.copytree(tiny_directory, tmp_path / "tiny")
        dataset = from_directory(tmp_path / "tiny")
        (tmp_path / "tiny" / dataset.file(role).name).unlink()
        with pytest.raises(Exception, match="could not be had from any mirror") as raised:
            walk(empty, dataset, selection=Selection(until="download"))
        assert dataset.file(role).name in str(raised.value)

    def test_the_order_of_files_on_disk_does_not_matter(
        self, cache: Store, tiny_directory: Path, tmp_path: Path
    ):
        (tmp_path / "tiny").mkdir()
        for path in sorted(tiny_directory.iterdir(), reverse=True):
            shutil.copy(path, tmp_path / "tiny")
            os.utime(tmp_path / "tiny" / path.name, (1, 1))
        assert walk(cache, from_directory(tmp_path / "tiny")).ran == []


def test_the_built_in_sample_goes_through_the_same_stages(
    empty: Store, monkeypatch: pytest.MonkeyPatch
):
    from digitflow.tasks.data.datasets.sources import find

    monkeypatch.setattr("digitflow.flows.pipeline.SAMPLE", {"training": 40, "test": 20, "seed": 1})
    selection = Selection(until="decode")
    done = planned_walk(empty, find("sample"), selection=selection)
    assert done.ran == ["draw-sample", *DECODES]
    assert empty.read(done.output("decode-training-images", "array")).shape == (40, 28, 28)
    assert planned_walk(empty, find("sample"), selection=selection).ran == []
    # An object of it is lost: drawn again, decoded not again.
    empty.objects.path(done.output("draw-sample", "test_labels").sha256).unlink()
    assert planned_walk(empty, find("sample"), selection=selection).ran == ["draw-sample"]
