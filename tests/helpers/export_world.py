"""A small network to export, in the place of a trained one."""

import numpy as np

from flowers.model import backend
from flowers.model.classifier import Classifier, Description
from flowers.model.predicted import Predicted, predicted
from flowers.serving.export.description import Description as About
from flowers.serving.export.network import Network

CLASSES = ["Nymphæa, 'alba'", 'rose "of" Persia; \\n <b>&', "薔薇 🌹"]


class Small(Classifier):
    """A classifier of a few weights, whose classes are told apart by the colours of an image."""

    def __init__(self, classes=CLASSES, threshold: float | None = 0.5, size: int = 224) -> None:
        shape = Description(list(classes), [], 0.0, 0, "float32", "00", threshold=threshold, size=size)
        super().__init__(shape, {}, {})
        self.keras = keras_network(size)

    def export(self):
        return self.keras

    def predict(self, images: np.ndarray) -> Predicted:
        return predicted(self.probabilities(images))

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        return np.asarray(self.keras(images, training=False))


def keras_network(size: int):
    """The parts that a converter has to take: uint8 pixels, convolutions, pooling, a head, a softmax."""
    keras = backend.keras()
    inputs = keras.Input((size, size, 3), dtype="uint8", name="image")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(inputs)
    for number in (1, 2):
        x = keras.layers.Conv2D(8, 3, strides=2, kernel_initializer=keras.initializers.GlorotUniform(number))(x)
        x = keras.layers.Activation("relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    logits = keras.layers.Dense(3, kernel_initializer=keras.initializers.GlorotUniform(5))(x)
    return keras.Model(inputs, keras.layers.Softmax()(keras.layers.Rescaling(12.0)(logits)), name="small")


def given(model: Small, name: str) -> Network:
    """What `flowers export` gives to a format."""
    about = About(
        format=name,
        classes=model.classes,
        size=model.size,
        input="images",
        threshold=model.threshold,
        temperature=1.0,
        origin={"run": None, "commit": "0f" * 20},
        made_with={},
    )
    return Network(model.export(), about, lambda count: list(noise(20, model.size)))


def noise(count: int, size: int) -> np.ndarray:
    """Images of one colour each with noise on it, uint8 (count, size, size, 3)."""
    random = np.random.default_rng(3)
    colours = random.integers(0, 200, (count, 1, 1, 3))
    return (colours + random.integers(0, 56, (count, size, size, 3))).astype(np.uint8)
