"""A network on its way to another format: the whole Keras model, its description, and images for int8."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from flowers.model import backend
from flowers.serving.export.description import Description

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Network:
    """What a format's `write` gets."""

    model: Any  # `keras.Model`: uint8 (n, size, size, 3) to probabilities (n, classes); None with `in_int8`
    about: Description
    calibration: Callable[[int], list[NDArray[np.uint8]]]  # so many training images (size, size, 3), for int8
    in_int8: tuple[Any, "keras.Model"] | None = None  # `Classifier.export_int8` of a model that was trained in int8

    def described(self, *packages: str, **changes: object) -> Description:
        """The description with the versions of these packages, and other changes."""
        # TensorFlow's own version, because its package has several names.
        versions = {name: backend.version() if name == "tensorflow" else version(name) for name in packages}
        made_with = self.about.made_with | versions
        return self.about.model_copy(update={"made_with": made_with, **changes})
