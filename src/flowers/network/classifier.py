"""The trained model on disk and in memory: raw photos to probabilities through trunk, tail and head.

The folder holds `model.json` (classes, input rules, architecture, precision, digest of the ImageNet weights) and
`trained.npz` (tail and head). The trunk's tensors stay where the download stage put them.
"""

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flowers import console
from flowers.errors import UserError
from flowers.network import keras_model, training, weights
from flowers.network.top import Top
from flowers.network.trunk import Cut, Trunk

if TYPE_CHECKING:
    import keras

DESCRIPTION = "model.json"
TRAINED = "trained.npz"
INPUT = (
    "uint8 RGB (n, 224, 224, 3): upright, short side resized to 224 (bicubic), centre cut; BGR means subtracted inside"
)


@dataclass(frozen=True)
class Description:
    """What model.json says."""

    classes: list[str]
    head_units: list[int]
    dropout: float
    unfreeze_blocks: int
    precision: str
    weights_digest: str
    input: str = INPUT


class Classifier:
    """A trained model, whole: `classes`, and `probabilities(images)`."""

    def __init__(self, description: Description, trained: weights.Tensors, pretrained: weights.Tensors) -> None:
        """`trained` are the tensors of tail and head, `pretrained` those of the ImageNet network."""
        self.description = description
        self.classes = description.classes
        self.cut = Cut(description.unfreeze_blocks)
        self._trained, self.pretrained = trained, pretrained

    @cached_property
    def top(self) -> Top:
        """Activations at the cut to logits."""
        return Top(self.cut, self._trained, self._head, self.description.precision)

    @cached_property
    def _head(self) -> "keras.Model":
        shape = self.description
        model = keras_model.head(len(self.classes), shape.head_units, shape.dropout, seed=0)
        keras_model.set_tensors(model, self._trained)
        return model

    @cached_property
    def _trunk(self) -> Trunk:
        return Trunk(self.pretrained, [self.cut], self.description.precision)

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Probabilities (n, classes) float32 of images, uint8 RGB (n, 224, 224, 3) as `images.load` returns them."""
        batches = [batch[self.cut] for batch in self._trunk.batches(iter(images))]
        return self.probabilities_at_cut(np.concatenate(batches).astype(np.float32))

    def probabilities_at_cut(self, activations: training.Examples) -> np.ndarray:
        """Probabilities (n, classes) float32 of the trunk's activations at `cut`."""
        return training.softmax(self.top.logits(activations))

    def feature_maps(self, image: np.ndarray) -> np.ndarray:
        """The last convolution's output, (7, 7, 2048) float32, for one image, uint8 RGB (224, 224, 3)."""
        trunk, tail = self._to_maps
        (values,) = trunk(image[None]).values()
        maps: np.ndarray = tail.maps(values.astype(np.float32))[0].numpy()
        return maps

    @cached_property
    def _to_maps(self) -> tuple[Trunk, Top]:
        """A trunk that does not pool, and the blocks above it; for single images, which would fill no batch."""
        precision = self.description.precision
        tail = self.top if self.cut.blocks else Top(Cut(1), self.pretrained, self._head, precision)
        return Trunk(self.pretrained, [tail.cut], precision, batch=1), tail

    def export(self) -> "keras.Model":
        """The whole network as one Keras model: uint8 (n, 224, 224, 3) to probabilities, in float32."""
        return keras_model.whole({**self.pretrained, **self._trained}, self._head)


def save(folder: Path, description: Description, trained: weights.Tensors) -> None:
    """Write the model's folder; equal models give equal bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(asdict(description), indent=2, ensure_ascii=False)
    (folder / DESCRIPTION).write_text(text + "\n", encoding="utf-8")
    weights.write(trained, folder / TRAINED)


def load(folder: Path, weights_file: Path) -> Classifier:
    """Load a model's folder together with the ImageNet weights that it was trained on.

    Raises UserError where a file is missing, or the weights are not those that the model was trained on.
    """
    try:
        content: dict[str, Any] = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        description = Description(**content)
        trained = weights.read(folder / TRAINED)
        pretrained = weights.read(weights_file)
    except FileNotFoundError as error:
        raise UserError(f"{error.filename}: no such file; run `dvc repro` to train a model") from None
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{folder}: not a model of this program: {error}") from None
    if weights.digest(pretrained) != description.weights_digest:
        raise UserError(f"{weights_file}: not the weights that the model in {folder} was trained on")
    return Classifier(description, trained, pretrained)


def export(folder: Path, weights_file: Path, destination: Path) -> None:
    """Write the model of a folder as one self-contained `.keras` file; see `keras_model.whole` for what it takes."""
    if destination.suffix != ".keras":
        raise UserError(f"{destination}: the name of an exported model ends in .keras")
    classifier = load(folder, weights_file)
    model, classes = classifier.export(), classifier.classes
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        model.save(destination)
        console.say(
            f"wrote {destination}: uint8 images (n, 224, 224, 3) to the probabilities of {len(classes)} classes"
        )
    except OSError as error:
        raise UserError(f"{destination}: cannot be written ({error.strerror or error})") from None
