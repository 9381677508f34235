"""Keras's own format: one `.keras` file, answered by Keras itself."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowers.model import backend
from flowers.serving.export import runtime, seal
from flowers.serving.export.network import Network

FILE = "model.keras"
_ENTRY = "flowers.json"

# The classes that an exported network consists of. Keras imports whatever a file names, so nothing else may be named.
_CLASSES = {
    *("Functional", "InputLayer", "DTypePolicy", "__keras_tensor__"),
    *("Take", "Rescaling", "ZeroPadding2D", "Conv2D", "BatchNormalization", "Activation", "MaxPooling2D", "Add"),
    *("GlobalAveragePooling2D", "Concatenate", "Dense", "Dropout", "Softmax"),
    *("Maximum", "Mean", "Sqrt", "TrueDivide", "Split", "Reshape"),
    *("GlorotUniform", "Zeros", "Ones"),
}


def require() -> None:
    """Nothing beyond what every installation has."""


def write(network: Network, folder: Path) -> None:
    """Write `model.keras`, whose archive holds the description, too."""
    file = folder / FILE
    network.model.save(file)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(_ENTRY, network.described("keras").text)
        archive.comment = seal.BLANK.encode()  # not in the entry, of which the archive has a checksum
    seal.seal(file)


class KerasFile(runtime.Exported):
    """A `.keras` file."""

    def __init__(self, file: Path) -> None:
        """Raises UserError if it is damaged, or anything else than an export."""
        self._model, about = runtime.opened(file, "Keras", lambda: _read(file))
        super().__init__(about)

    def _infer(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.asarray(self._model(images))


def _read(file: Path) -> tuple[Any, bytes]:
    with zipfile.ZipFile(file) as archive:
        config = json.loads(archive.read("config.json"))
        text = archive.read(_ENTRY)
    if unknown := sorted(_named(config) - _CLASSES):
        raise ValueError(f"not a network that `flowers export` wrote: it holds {unknown[0]}")
    saving = backend.keras().saving
    model = saving.load_model(file, compile=False, safe_mode=True)
    return backend.tensorflow().function(lambda images: model(images, training=False), autograph=False), text


def _named(config: Any) -> set[str]:
    """All names of classes in Keras's configuration of a model; one outside of Keras with its module."""
    if isinstance(config, list):
        return set().union(*map(_named, config))
    if not isinstance(config, dict):
        return set()
    found = set().union(*map(_named, config.values()))
    if "class_name" in config:
        module = str(config.get("module") or "keras")
        own = module.partition(".")[0] in ("keras", "builtins")
        found.add(str(config["class_name"]) if own else f"{module}.{config['class_name']}")
    return found
