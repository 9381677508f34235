"""The trained model, on disk and in memory: images to probabilities through backbone, unfrozen blocks and head.

The folder holds `model.json` (classes, input format, architecture, precision, digest of the ImageNet weights),
`trained.npz` (unfrozen blocks and head), `novelty.npz` (the detector of unknown images) and `examples` (a training
image of each class). The backbone's tensors are read from the file of the download stage.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flowers.common import sealed
from flowers.common.errors import UserError
from flowers.config.architecture import INPUT_SIZE
from flowers.metrics.classification import softmax
from flowers.metrics.novelty import Detector
from flowers.model import backend, int8, keras_model, weights
from flowers.model.backbone import BATCH, Backbone
from flowers.model.feature_layer import HEAD_FEATURES, FeatureLayer
from flowers.model.predicted import Predicted, predicted
from flowers.model.trainable import Examples, TrainablePart

if TYPE_CHECKING:
    import keras

DESCRIPTION = "model.json"
TRAINED = "trained.npz"
DETECTOR = "novelty.npz"
EXAMPLES = "examples"  # <number of the class>.jpg


def input_words(size: int) -> str:
    """The input format of a model of this input size, in words."""
    return (
        f"uint8 RGB (n, {size}, {size}, 3): upright, short side resized to {size} (bicubic), centre crop; "
        "BGR means subtracted inside"
    )


@dataclass(frozen=True)
class Description:
    """The content of model.json."""

    classes: list[str]
    head_units: list[int]
    dropout: float
    unfreeze_blocks: int
    precision: str
    weights_digest: str
    temperature: float = 1.0  # the logits are divided by it, which calibrates the probabilities
    normalization: str = "none"  # of the features before the head
    features: str = "conv5"  # the pooled stages: conv5 or conv4+conv5
    mirror: bool = False  # test-time flip: average the logits of an image and of its mirror image
    size: int = INPUT_SIZE  # side of the input images, in pixels
    threshold: float | None = None  # lower probabilities are low confidence; None without validation images
    known_threshold: float | None = None  # a lower ratio of the detector means an unknown image; None without detector
    input: str = input_words(INPUT_SIZE)


class Classifier:
    """A trained model: `classes`, `threshold`, `size`, and `predict(images)`."""

    def __init__(
        self,
        description: Description,
        trained: weights.Tensors,
        pretrained: weights.Tensors,
        detector: Detector | None = None,
        examples: Path | None = None,
    ) -> None:
        """`trained` are the tensors of unfrozen blocks and head, `pretrained` those of the ImageNet network.

        `examples` is the folder with a training image of each class.
        """
        self.description, self.detector, self.examples = description, detector, examples
        self.classes, self.threshold = description.classes, description.threshold
        self.size = description.size
        self.feature_layer = FeatureLayer.below(description.unfreeze_blocks, self.size)
        self._pooled = FeatureLayer.below(0, self.size)
        self.trained, self.pretrained = trained, pretrained

    @cached_property
    def trainable(self) -> TrainablePart:
        """Maps activations at the feature layer to logits."""
        return TrainablePart(self.feature_layer, self.trained, self._head, self.description.precision)

    @cached_property
    def _head(self) -> "keras.Model":
        shape, features = self.description, HEAD_FEATURES[self.description.features]
        model = keras_model.head(len(self.classes), shape.head_units, shape.dropout, 0, shape.normalization, features)
        keras_model.set_tensors(model, self.trained)
        return model

    @cached_property
    def _to_features(self) -> Backbone | int8.Int8Backbone:
        """The whole network up to pooling, with the trained blocks folded like the frozen ones."""
        tensors = {**self.pretrained, **self.trained}
        if self.description.precision == "int8":
            return int8.Int8Backbone(tensors, [self._pooled], self.description.unfreeze_blocks)
        return Backbone(tensors, [self._pooled], self.description.precision, padded=False)

    @cached_property
    def _features_to_logits(self) -> TrainablePart:
        return TrainablePart(self._pooled, {}, self._head)

    def predict(self, images: np.ndarray) -> Predicted:
        """Predictions for uint8 RGB images (n, size, size, 3), up to the last bits."""
        batches = [
            self._to_features(flipped[start : start + BATCH])[self._pooled]
            for flipped in ([images, images[:, :, ::-1]] if self.description.mirror else [images])
            for start in range(0, len(images), BATCH)
        ]
        if not batches:
            return predicted(np.empty((0, len(self.classes)), np.float32))
        features = np.concatenate(batches).astype(np.float32)
        return self.judged(self._calibrated(self._features_to_logits.logits(features)), features[: len(images)])

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """The probabilities (n, classes) float32 of `predict`."""
        return self.predict(images).probabilities

    def judged(self, probabilities: np.ndarray, features: np.ndarray) -> Predicted:
        """Predictions from probabilities, and from pooled features (n, ...) of the images without flips."""
        ratios = self.detector.ratios(features) if self.detector else None
        return predicted(probabilities, ratios, self.description.known_threshold)

    def probabilities_from_activations(self, activations: Examples) -> np.ndarray:
        """Probabilities (n, classes) float32 of activations at the feature layer, ordered as in `Subset.with_flips`."""
        return self._calibrated(self.trainable.logits(activations))

    def from_activations(self, activations: Examples) -> tuple[np.ndarray, np.ndarray]:
        """Those probabilities, and the pooled features (n, ...) float32 of the images without flips."""
        logits, features = self.trainable.logits_and_features(activations)
        probabilities = self._calibrated(logits)
        return probabilities, features[: len(probabilities)]

    def _calibrated(self, logits: np.ndarray) -> np.ndarray:
        """Calibrated probabilities of logits of all images, followed by those of all mirror images if `mirror`."""
        flips = logits.reshape(2 if self.description.mirror else 1, -1, logits.shape[1])
        return softmax(flips.mean(axis=0) / self.description.temperature)

    def feature_maps(self, image: np.ndarray) -> np.ndarray:
        """Feature maps before pooling, (size/32, size/32, features) float32, of a uint8 RGB image (size, size, 3)."""
        maps: np.ndarray = self._to_features.maps(image[None])[0].astype(np.float32)
        return maps

    def logit_gradient(self, features: np.ndarray, number: int) -> np.ndarray:
        """Gradient of the logit of a class number with respect to the pooled features, (features,) float32."""
        gradient: np.ndarray = self._logit_gradient(features[None], number)[0].numpy()
        return gradient

    @cached_property
    def _logit_gradient(self) -> Any:
        tf, head = backend.tensorflow(), self._head  # made here: inside the function its weights would not be set

        def gradient(features: Any, number: Any) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(features)
                logit = head(features[:, -head.input_shape[1] :], training=False)[0, number]
            return tape.gradient(logit, features)

        signature = [tf.TensorSpec((1, sum(self._pooled.features))), tf.TensorSpec((), tf.int32)]
        return tf.function(gradient, input_signature=signature, autograph=False)

    def export(self) -> "keras.Model":
        """The whole network as one float32 Keras model: uint8 (n, size, size, 3) to probabilities."""
        tensors, shape = {**self.pretrained, **self.trained}, self.description
        conv4 = shape.features == "conv4+conv5"
        return keras_model.whole(tensors, self._head, shape.temperature, shape.mirror, shape.size, conv4)

    def export_int8(self) -> tuple[Any, "keras.Model"]:
        """The network of a model in int8 in two parts: an `openvino.Model` of images to features, and the rest."""
        tensors, shape = {**self.pretrained, **self.trained}, self.description
        layer = replace(self._pooled, conv4=shape.features == "conv4+conv5")
        features = int8.network(tensors, [layer], shape.unfreeze_blocks, mirror=shape.mirror)
        return features, keras_model.from_features(self._head, shape.temperature, shape.mirror)


def save(
    folder: Path,
    description: Description,
    trained: weights.Tensors,
    detector: Detector | None = None,
    examples: Sequence[bytes] = (),
) -> None:
    """Write the model's folder; `examples` are encoded images, one of each class. Equal models give equal bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    sealed.write(asdict(description), folder / DESCRIPTION)
    weights.write(trained, folder / TRAINED)
    if detector is not None:
        weights.write(vars(detector), folder / DETECTOR)
    for number, content in enumerate(examples):
        (folder / EXAMPLES).mkdir(exist_ok=True)
        (folder / EXAMPLES / f"{number}.jpg").write_bytes(content)


def load(folder: Path, weights_file: Path) -> Classifier:
    """Load a model's folder and its ImageNet weights. Raises UserError if these are missing, damaged or others."""
    try:
        description = Description(**sealed.read(folder / DESCRIPTION))
        trained = weights.read(folder / TRAINED)
        known = description.known_threshold is not None
        detector = Detector(**weights.read(folder / DETECTOR)) if known else None
        pretrained = weights.read(weights_file)
    except FileNotFoundError as error:
        raise UserError(f"{error.filename}: no such file; run `dvc repro` to train a model") from None
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{folder}: not a model of this program: {error}") from None
    if weights.digest(pretrained) != description.weights_digest:
        raise UserError(f"{weights_file}: not the weights that the model in {folder} was trained on")
    return Classifier(description, trained, pretrained, detector, folder / EXAMPLES)
