"""Stage `plot`: the pictures of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from digitflow.tasks.engine.stage import stage

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray


@stage(
    outputs={
        "learning_curves": "png",
        "confusion_matrix": "png",
        "mistakes": "png",
        "filters": "png",
        "training_image": "png",
        "gallery": "png",
    }
)
def plot(
    history: pd.DataFrame,
    confusion: pd.DataFrame,
    model: Mapping[str, NDArray[Any]],
    predictions: Mapping[str, NDArray[Any]],
    training_images: NDArray[Any],
    training_labels: NDArray[Any],
    test_images: NDArray[Any],
    test_labels: NDArray[Any],
    *,
    dataset: str,
    class_names: list[str],
    labels: list[int],
    gallery_size: int,
    gallery_seed: int,
    mistakes: int,
    dpi: int,
) -> dict[str, bytes]:
    """Draw learning curves, confusion, worst mistakes, first layer and training images."""
    from digitflow.tasks.data.classes import class_ids
    from digitflow.tasks.figures.confusion import confusion_figure
    from digitflow.tasks.figures.filters import filters_figure, first_layer_filters
    from digitflow.tasks.figures.gallery import choose_gallery, gallery_figure, image_figure
    from digitflow.tasks.figures.learning_curves import learning_curves_figure
    from digitflow.tasks.figures.mistakes import mistakes_figure
    from digitflow.tasks.figures.png import to_png

    matrix = confusion.set_index("true")
    counts = matrix.to_numpy()
    predicted = predictions["outputs"].argmax(axis=1)
    tested = len(predicted)
    last = len(training_images) - 1
    shown = min(gallery_size, len(training_images))
    chosen = choose_gallery(training_images, size=shown, seed=gallery_seed)

    def names_of(places: Any) -> list[str]:
        return [
            class_names[each] for each in class_ids("training", training_labels[places], labels)
        ]

    figures = {
        "learning_curves": learning_curves_figure(history, dataset=dataset),
        "confusion_matrix": confusion_figure(
            matrix, dataset=dataset, accuracy=counts.trace() / counts.sum()
        ),
        "mistakes": mistakes_figure(
            test_images[:tested],
            class_ids("test", test_labels[:tested], labels),
            predicted,
            predictions["losses"],
            class_names,
            count=mistakes,
            dataset=dataset,
        ),
        "filters": filters_figure(
            first_layer_filters(model, *training_images.shape[1:]), dataset=dataset
        ),
        "training_image": image_figure(
            training_images[last], *names_of([last]), number=last + 1, dataset=dataset
        ),
        "gallery": gallery_figure(
            training_images[chosen], names_of(chosen), chosen, dataset=dataset
        ),
    }
    return {name: to_png(figure, dpi=dpi) for name, figure in figures.items()}
