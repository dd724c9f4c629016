"""A trained model as an object: load a version or the champion, and predict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from digitflow.storage.models import ModelVersion
from digitflow.storage.store import Store
from digitflow.tasks.prediction.predictions import (
    Prediction,
    image_size_of,
    model_to_use,
    predict_batch,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray


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

    @classmethod
    def load(cls, version: int | None = None, *, store: Store | None = None) -> Model:
        """Return a model version, by default the champion.

        Parameters
        ----------
        version
            Its number in the registry.
        store
            Where it lies; by default the store that ``DIGITFLOW_STORE`` names.

        Raises
        ------
        UnknownNameError
            If there is no such version, or no champion; says what to do about it.

        Examples
        --------
        >>> import digitflow
        >>> done = digitflow.run("sample", epochs=1, training_sample=100, test_sample=50)
        >>> model = digitflow.Model.load(done.model)
        >>> model.version.dataset
        'sample'
        """
        cache = store or Store()
        return cls(model_to_use(cache, version), cache)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the probabilities."""
        return tuple(self.version.class_names)

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
        from digitflow.tasks.nn.predict import predict, probabilities

        outputs = predict(dict(self._cache.read(self.version.weights)), images)
        return probabilities(outputs, str(self.version.parameters["loss"]))

    def predict(self, pictures: str | Path | Sequence[str | Path]) -> list[Prediction]:
        """Say what is on pictures: PNG, JPEG, IDX or NPY files, or folders of them.

        Raises
        ------
        PictureError
            If a file cannot be read.
        StorageError
            If the model's weights are lost or damaged.
        """
        from digitflow.tasks.data.pictures.batch import read_batch
        from digitflow.tasks.data.pictures.files import PictureError

        given = [pictures] if isinstance(pictures, str | Path) else list(pictures)
        batch = read_batch(
            [Path(each) for each in given],
            image_size_of(self._cache, self.version),
            transposed=self.version.transposed,
        )
        if batch.unreadable:
            message = "; ".join(f"{name}: {problem}" for name, problem in batch.unreadable)
            raise PictureError(message)
        return predict_batch(self._cache, self.version, batch)
