"""One BLAS thread, whatever the environment says: in training, in prediction, in every stage."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from threadpoolctl import ThreadpoolController, threadpool_info, threadpool_limits

from digitflow.storage.store import Store
from digitflow.tasks.engine.stage import stage
from digitflow.tasks.nn.blas import blas_in_use, blas_threads

ROOT = Path(__file__).resolve().parents[2]
SECONDS_TO_WAIT = 300


def counts() -> set[int]:
    return {each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}


@pytest.fixture(autouse=True)
def _three_threads_outside() -> Any:
    with threadpool_limits(3, user_api="blas"):
        yield
        assert counts() == {3}, "the number outside was not put back"


def test_nested_blocks_put_back_what_was() -> None:
    with blas_threads(1):
        assert counts() == {1}
        with blas_threads(2):
            assert counts() == {2}
            with blas_threads(2), blas_threads(1):
                assert counts() == {1}
            assert counts() == {2}
        assert counts() == {1}
    assert counts() == {3}


def test_an_error_puts_back_what_was() -> None:
    with pytest.raises(KeyError), blas_threads(1), blas_threads(2):
        raise KeyError
    assert counts() == {3}


def test_a_number_that_blas_does_not_take_changes_nothing() -> None:
    with pytest.raises(ValueError, match="found 100000: it uses"), blas_threads(100_000):
        pass
    assert counts() == {3}
    with blas_threads(1):
        with pytest.raises(ValueError, match="found 100000: it uses"), blas_threads(100_000):
            pass
        assert counts() == {1}
    assert counts() == {3}


def test_threads_that_want_the_same_number_compute_together() -> None:
    both = threading.Barrier(2, timeout=SECONDS_TO_WAIT)
    found = []

    def work() -> None:
        with blas_threads(1):
            both.wait()
            found.append(counts())
            both.wait()

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(SECONDS_TO_WAIT)
    assert found == [{1}, {1}]


def test_threads_that_want_different_numbers_take_turns() -> None:
    """Each holds one thread and asks for another number inside: none waits for the other."""
    found = []

    def work(count: int) -> None:
        for _ in range(50):
            with blas_threads(1), blas_threads(count):
                np.ones((64, 64)) @ np.ones((64, 64))
                found.append(counts() == {count})

    workers = [threading.Thread(target=work, args=(count,)) for count in (1, 2, 3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(SECONDS_TO_WAIT)
    assert found == [True] * 150


@stage(outputs={"seen": "json"})
def threads_of_a_stage() -> dict[str, Any]:
    return {"seen": sorted(counts())}


def test_a_stage_computes_with_one(tmp_path: Path) -> None:
    cache = Store(tmp_path)
    result = threads_of_a_stage.run(cache, "threads", {}, {}, run="a-run")
    assert cache.read(result.outputs["seen"]) == [1]


TRAINING = """
import hashlib, sys
import numpy as np
from digitflow.tasks.nn.inference.predict import predict
from digitflow.tasks.nn.settings import TrainingSettings
from digitflow.tasks.nn.training.train import train_network

rng = np.random.default_rng(0)
images = rng.integers(0, 256, (1200, 28, 28), dtype=np.uint8)
labels = rng.integers(0, 10, 1200)
settings = TrainingSettings(hidden_sizes=(512,), epochs=1, blas_threads=int(sys.argv[1]))
result = train_network(images, labels, images, labels, settings=settings)
digest = hashlib.sha256(result.outputs.tobytes())
for name in sorted(result.weights):
    digest.update(result.weights[name].tobytes())
digest.update(predict(result.weights, images).tobytes())
print(digest.hexdigest())
"""


def trained(asked: int, **environment: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-c", TRAINING, str(asked)],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return ran.stdout


def test_the_environment_changes_no_byte_of_a_training() -> None:
    alone = trained(1, OPENBLAS_NUM_THREADS="1")
    assert trained(1, OPENBLAS_NUM_THREADS="2", OMP_NUM_THREADS="2") == alone
    assert trained(1, OPENBLAS_NUM_THREADS="4", OMP_NUM_THREADS="4") == alone
    two = trained(2, OPENBLAS_NUM_THREADS="1")
    assert trained(2, OPENBLAS_NUM_THREADS="3") == two


def test_the_blas_of_another_library_is_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """SciPy brings one of its own, which computes nothing here; it may be loaded or not."""

    def loaded(*packages: str) -> str:
        one = {"internal_api": "openblas", "architecture": "Haswell", "num_threads": 1}
        found = [
            {**one, "version": each, "filepath": f"/venv/{each}.libs/libopenblas.so"}
            for each in packages
        ]
        monkeypatch.setattr(ThreadpoolController, "info", lambda _: found)
        return blas_in_use()

    assert loaded("numpy") == loaded("numpy", "scipy") == "openblas numpy Haswell × 1"
    assert loaded("system") == "openblas system Haswell × 1"
