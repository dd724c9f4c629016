from pathlib import Path

import numpy as np

from digitflow.storage.formats.artifacts import write_artifact
from digitflow.tasks.stages.compare_labels import compare_labels
from digitflow.tasks.stages.measure import measure


def test_what_the_stages_say_of_a_dataset_is_json(tmp_path: Path):
    images = np.random.default_rng(0).integers(0, 255, (9, 4, 4), dtype=np.uint8)
    classes = np.arange(9, dtype=np.uint8) % 3
    data = (images, classes, images[:3], classes[:3])
    document = measure(*data, classes=3)["measures"]
    assert document["training"]["classes"] == [3, 3, 3]
    write_artifact("json", tmp_path / "measures", document)  # it refuses what JSON cannot keep
    write_artifact("json", tmp_path / "agreement", compare_labels(*data, *data)["agreement"])
