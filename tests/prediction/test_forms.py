"""A test image that is saved as a picture or an array is read as the test image that it is.

On datasets of ten forms, each of which a model is trained on as it is: so whatever it predicts for
the test image, it predicts for the file.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from digitflow.tasks.data.idx import arrays as idx
from digitflow.tasks.data.pictures.batch import read_batch
from digitflow.tasks.data.pictures.form import Form, fit_form
from digitflow.tasks.data.sample import balanced_labels, draw_blocks
from digitflow.tasks.nn.inference.model_file import to_network
from digitflow.tasks.nn.settings import TrainingSettings
from digitflow.tasks.nn.training.train import train_network

Images = NDArray[np.uint8]
COUNT = 200


def drawn(count: int) -> tuple[Images, NDArray[np.uint8]]:
    generator = np.random.default_rng(1)
    labels = balanced_labels(count, generator)
    return np.concatenate(list(draw_blocks(labels, generator))), labels


def digits() -> Images:
    return drawn(COUNT)[0]


def scaled(images: Images, size: tuple[int, int]) -> Images:
    height, width = size
    return np.stack([np.asarray(Image.fromarray(each).resize((width, height))) for each in images])


def moved(images: Images) -> Images:
    rng = np.random.default_rng(3)
    padded = np.pad(images, ((0, 0), (8, 8), (8, 8)))
    return np.stack([np.roll(each, rng.integers(-8, 9, 2), (0, 1)) for each in padded])


def letters() -> Images:
    made = []
    rng = np.random.default_rng(4)
    for number in range(COUNT):
        image = Image.new("L", (32, 32))
        font = ImageFont.load_default(int(rng.integers(14, 26)))
        ImageDraw.Draw(image).text((8, 3), "ABCDEFGHIJ"[number % 10], 255, font)
        made.append(np.asarray(image))
    return np.stack(made)


def photographs() -> Images:
    """Surfaces, with neither ink nor background."""
    rng = np.random.default_rng(5)
    coarse = rng.integers(0, 256, (COUNT, 6, 6), dtype=np.uint8)
    return scaled(coarse, (28, 28))


def noisy() -> Images:
    noise = np.random.default_rng(6).integers(0, 12, (COUNT, 28, 28))
    return np.clip(digits().astype(int) + noise, 0, 255).astype(np.uint8)


FORMS: dict[str, Callable[[], Images]] = {
    "as MNIST": digits,
    "inverted": lambda: 255 - digits(),
    "photographs": photographs,
    "letters of fonts": letters,
    "50x50": lambda: scaled(digits(), (50, 50)),
    "28x20": lambda: scaled(digits(), (28, 20)),
    "not centred": lambda: moved(digits()),
    "pencil on grey": lambda: (200 - digits().astype(int) * 80 // 255).astype(np.uint8),
    "filling the image": lambda: scaled(digits()[:, 4:24, 4:24], (28, 28)),
    "noisy": noisy,
}


@pytest.fixture(params=FORMS, ids=list(FORMS))
def images(request: pytest.FixtureRequest) -> Images:
    made: Images = FORMS[request.param]()
    return made


def test_a_saved_test_image_is_the_test_image(images: Images, tmp_path: Path):
    training, test = images[: COUNT // 2], images[COUNT // 2 :]
    form = Form.from_json(fit_form(training).to_json())
    names = [f"{number:03d}" for number in range(len(test))]
    for name, image in zip(names, test, strict=True):
        Image.fromarray(image).save(tmp_path / f"{name}.png")
        Image.fromarray(image).convert("RGB").save(tmp_path / f"{name}.bmp")
        Image.fromarray(image).save(tmp_path / f"{name}.jpg", quality=95)
    np.save(tmp_path / "all.npy", test)
    idx.write(tmp_path / "all-idx3-ubyte.gz", test)
    for name in ("all.npy", "all-idx3-ubyte.gz"):
        assert np.array_equal(read_batch([tmp_path / name], form).images, test)
    for suffix, differs in ((".png", 0), (".bmp", 0), (".jpg", 30)):
        read = read_batch([tmp_path / f"{name}{suffix}" for name in names], form)
        difference = np.abs(read.images.astype(int) - test).max(axis=(1, 2))
        assert (difference <= differs).mean() >= 0.99, suffix


def test_the_form_is_seen():
    forms = {name: fit_form(make()) for name, make in FORMS.items()}
    assert [name for name, form in forms.items() if not form.plain] == ["photographs"]
    dark = [name for name, form in forms.items() if form.is_dark_on_light]
    assert dark == ["inverted", "pencil on grey"]
    assert forms["filling the image"].box[1] == pytest.approx(1, abs=0.05)
    assert forms["pencil on grey"].background == 200


@pytest.mark.parametrize("form", ["inverted", "pencil on grey", "filling the image"])
def test_a_photograph_is_brought_to_that_form(form: str):
    """A digit on another background, larger and elsewhere, looks like those of the dataset."""
    images = FORMS[form]()
    fitted = fit_form(images)
    page = np.pad(scaled(digits()[:20], (90, 90)), ((0, 0), (30, 10), (20, 40)))
    alike = []
    for image, digit in zip(page, images, strict=False):
        brought = fitted.bring(image)
        assert fitted.has(brought)
        alike.append(np.corrcoef(brought.ravel(), digit.ravel())[0, 1])
    # The drawn digits are of several sizes, and all are brought to the usual one.
    assert np.mean(alike) > 0.7


@pytest.mark.parametrize("convolution_channels", [(), (3,)])
def test_inverted_images_train_the_very_same_network(convolution_channels: tuple[int, ...]):
    """Augmentation fills with background, whichever grey that is."""
    images, labels = drawn(120)
    settings = TrainingSettings(
        convolution_channels=convolution_channels, epochs=2, batch_size=16, shift=2.0, patience=0
    )
    white = train_network(
        images[:80], labels[:80], images[80:], labels[80:], settings=settings, classes=10
    )
    black = train_network(
        255 - images[:80],
        labels[:80],
        255 - images[80:],
        labels[80:],
        settings=settings,
        classes=10,
        inverted=True,
    )
    assert np.array_equal(white.outputs, black.outputs)
    again = to_network(black.weights).predict(255 - images[80:])
    assert np.array_equal(again, to_network(white.weights).predict(images[80:]))
