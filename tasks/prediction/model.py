"""A trained model as an object: load a version or the champion, and predict.

Light until something is predicted: it needs no Prefect, and arrays only then.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from digitflow.storage.errors import ObjectDamagedError, ObjectMissingError, UnknownNameError
from digitflow.storage.history.models import ModelVersion
from digitflow.storage.store import Store
from digitflow.tasks.parameters import ParameterError
from digitflow.tasks.prediction.predictions import Prediction

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from digitflow.storage.formats.artifacts import Artifact
    from digitflow.tasks.data.pictures.batch import Batch
    from digitflow.tasks.data.pictures.form import Form
    from digitflow.tasks.nn.inference.calibration import Calibration


@dataclass(frozen=True)
class Model:
    """A model version of the store. Made by `Model.load`.

    Attributes
    ----------
    version
        What the registry says of it: data, parameters, metrics, class names.
    """

    version: ModelVersion
    _cache: Store

    def __post_init__(self) -> None:
        if not self.version.is_of_images:
            message = (
                f"expected a classifier of images, found version {self.version.version} of "
                f"{self.version.model}, which a flow of its own trained: name another model"
            )
            raise UnknownNameError(message)

    @classmethod
    def load(cls, version: int | str | None = None, *, store: Store | None = None) -> Model:
        """Return a model version, by default the champion.

        Parameters
        ----------
        version
            Its number, its handle such as ``v12``, the start of its digest, or the name of a
            model, whose champion it is then.
        store
            Where it lies; by default the store that ``DIGITFLOW_STORE`` names.

        Raises
        ------
        UnknownNameError
            If there is no such version, or no champion, or several models have one; says what to
            do about it.
        LedgerError
            If it is not certain which version is the champion.

        Examples
        --------
        >>> import digitflow
        >>> done = digitflow.run("sample", epochs=1, training_sample=100, test_sample=50)
        >>> model = digitflow.Model.load(done.model)
        >>> model.version.dataset
        'sample'
        """
        cache = store or Store()
        if version is not None:
            return cls(cache.models.find(str(version)), cache)
        champion = cache.models.certain_champion()
        if champion is not None:
            return cls(champion, cache)
        newest = max((model.version for model in cache.models.oldest_first()), default=None)
        todo = (
            "train a model and promote it: digitflow run, then digitflow models promote 1"
            if newest is None
            else f"promote one: digitflow models promote {newest}; or choose one: --model {newest}"
        )
        message = f"there is no champion to predict with; {todo}"
        raise UnknownNameError(message)

    @classmethod
    def champion(cls, model: str = "", *, store: Store | None = None) -> Model:
        """Return the champion of a named model as it is now.

        Asked again it follows: whoever serves for long asks before each batch. It reads what has
        been added to the ledger, and no weights.

        Parameters
        ----------
        model
            The model's name, such as ``mnist``; not needed if only one has a champion.
        store
            As for `load`.

        Raises
        ------
        UnknownNameError
            If that model has no champion, or none is named and several models have one.
        LedgerError
            If it is not certain which version is the champion, also where that has come to light
            since it was asked before.
        """
        if not model:
            return cls.load(store=store)
        cache = store or Store()
        found = cache.models.certain_champion(model)
        if found is None:
            known = ", ".join(cache.models.state().with_champions()) or "none yet"
            message = f"expected the name of a model with a champion ({known}), found {model!r}"
            raise UnknownNameError(message)
        return cls(found, cache)

    @property
    def named(self) -> str:
        """The named model that it was trained for."""
        return self._cache.models.state().named(self.version)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the probabilities."""
        return tuple(self.version.class_names)

    @property
    def input_size(self) -> tuple[int, ...]:
        """(height, width) in pixels of the images it takes, or (pixels,) where that is all.

        What an older digitflow registered has no record of it; its layers may know.
        """
        if self.version.image_size is not None:
            return self.version.image_size
        from digitflow.tasks.nn.inference.predict import input_shape

        return input_shape(self._weights)[-2:]

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width, in pixels, of the images it takes.

        Where only the number of pixels is known, a square number is taken for a square.

        Raises
        ------
        StorageError
            If they are not recorded, and the model's weights are lost or damaged.
        ParameterError
            If they are not recorded, and cannot be told from the weights either.
        """
        size = self.input_size
        if len(size) == 2:
            return size[0], size[1]
        (pixels,) = size
        side = math.isqrt(pixels)
        if side * side != pixels:
            model = self.version
            message = (
                f"expected a model whose image size is on record, found version {model.version} of "
                f"an older digitflow: it takes {pixels} pixels, not a square number. Repeat the "
                f"run that trained it ({model.dataset}, preset {model.preset}): it computes "
                "nothing that is cached, and records the size"
            )
            raise ParameterError(message)
        return side, side

    @property
    def form(self) -> Form:
        """How the images that it was trained on show what is on them.

        What an older digitflow registered is taken to have been trained on images like MNIST's.

        Raises
        ------
        StorageError, ParameterError
            As for `image_size`, of such a model.
        """
        from digitflow.tasks.data.pictures.form import Form

        if self.version.form is None:
            return Form(self.image_size)
        return Form.from_json(self.version.form)

    @cached_property
    def calibration(self) -> Calibration | None:
        """What tells how sure the model may be; None if it cannot tell.

        So it is with what an older digitflow registered, and what was trained on all the images
        there are.

        Raises
        ------
        StorageError
            If it is lost or damaged.
        """
        from digitflow.tasks.nn.inference.calibration import Calibration

        if self.version.calibration is None:
            return None
        return Calibration.from_arrays(self._read(self.version.calibration))

    def shares(self, outputs: NDArray[Any]) -> NDArray[Any]:
        """Return how probable each class is, given the network's outputs: calibrated, if it can be.

        Raises
        ------
        StorageError
            If the model's calibration is lost or damaged.
        ValueError
            If an output is not finite.
        """
        from digitflow.tasks.nn.inference.predict import probabilities

        if self.calibration is not None:
            return self.calibration.probabilities(outputs)
        return probabilities(outputs, loss_of(self.version))

    def probabilities(self, images: NDArray[Any]) -> NDArray[Any]:
        """Return how probable each class is for each image.

        Parameters
        ----------
        images
            Bytes (uint8) as the dataset has them, of shape (n, height, width).

        Returns
        -------
        array
            Of shape (n, classes); each row sums to 1.

        Raises
        ------
        StorageError
            If the model's weights are lost or damaged.
        ValueError
            If the images do not fit the model.
        """
        return self.shares(self._outputs(images))

    def read(
        self,
        pictures: Sequence[Path],
        progress: Callable[[int, int], None] | None = None,
    ) -> Batch:
        """Read pictures in the form of the images that the model was trained on.

        Parameters
        ----------
        pictures
            PNG, JPEG, BMP, GIF, WebP, IDX or NPY files, or folders of them.
        progress
            Called with the number of files that are read, and of all.

        Raises
        ------
        StorageError, ParameterError
            As for `form`.
        """
        from digitflow.tasks.data.pictures.batch import read_batch

        transposed = self.version.transposed
        return read_batch(pictures, self.form, progress, transposed=transposed)

    def predict_batch(self, batch: Batch) -> list[Prediction]:
        """Predict what is on each picture of a batch, in one pass.

        Raises
        ------
        StorageError
            If the model's weights are lost or damaged.
        ValueError
            If the pictures do not fit the model.
        """
        return self.predict_with_shares(batch)[0]

    def predict_with_shares(self, batch: Batch) -> tuple[list[Prediction], NDArray[Any]]:
        """Predict as `predict_batch` does; return the predictions, and each class's probability.

        Raises
        ------
        StorageError, ValueError
            As `predict_batch` does.
        """
        import numpy as np

        outputs = self._outputs(batch.images)
        shares = self.shares(outputs)
        # By the outputs, of which different ones may be equally probable; stable, so that of two
        # equal ones the first class is named, as argmax does.
        order = np.argsort(-outputs, axis=1, kind="stable")
        names = self.class_names
        found = [None] * len(batch.names) if batch.found is None else batch.found.tolist()
        doubts: list[str] | list[None] = [None] * len(batch.names)
        if self.calibration is not None:
            doubts = self.calibration.unsure(batch.images, outputs, batch.found)
        predictions = [
            Prediction(picture, None, 0.0, None, 0.0, count, None if doubt is None else "")
            if is_blank
            else Prediction(
                picture,
                names[first],
                float(row[first]),
                names[second],
                float(row[second]),
                count,
                doubt,
            )
            for picture, is_blank, row, (first, second), count, doubt in zip(
                batch.names, batch.is_blank, shares, order[:, :2], found, doubts, strict=True
            )
        ]
        return predictions, shares

    def predict(self, pictures: str | Path | Sequence[str | Path]) -> list[Prediction]:
        """Predict what is on pictures: PNG, JPEG, IDX or NPY files, or folders of them.

        Raises
        ------
        PictureError
            If a file cannot be read.
        StorageError
            If the model's weights are lost or damaged.
        """
        from digitflow.tasks.data.pictures.files import PictureError

        given = [pictures] if isinstance(pictures, str | Path) else list(pictures)
        batch = self.read([Path(each) for each in given])
        if batch.unreadable:
            message = "; ".join(f"{name}: {problem}" for name, problem in batch.unreadable)
            raise PictureError(message)
        return self.predict_batch(batch)

    def _outputs(self, images: NDArray[Any]) -> NDArray[Any]:
        from digitflow.tasks.nn.inference.predict import predict

        return predict(self._weights, images)

    @cached_property
    def _weights(self) -> dict[str, Any]:
        return self._read(self.version.weights)

    def _read(self, artifact: Artifact) -> dict[str, Any]:
        try:
            return dict(self._cache.read(artifact))
        except (ObjectMissingError, ObjectDamagedError) as error:
            raise self.version.lost(error) from error


def loss_of(model: ModelVersion) -> str:
    """Return the loss that a model was trained on: it says what its outputs mean."""
    return str(model.parameters["loss"])
