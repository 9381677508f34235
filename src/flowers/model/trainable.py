"""The trainable part: the unfrozen residual blocks and the head, from the backbone's activations to logits.

The unfrozen blocks compute what Keras's network computes with fixed BatchNorm statistics. The kernel is scaled inside
the step, so gradients and decay are Keras's, but the output of a convolution needs no two passes more.
"""

from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from flowers.config.architecture import CONV5_BLOCKS
from flowers.model import backend, batchnorm_folding, keras_model, resnet
from flowers.model.backbone import BATCH
from flowers.model.feature_layer import FeatureLayer
from flowers.model.weights import Tensors

if TYPE_CHECKING:
    import keras


class Examples(Protocol):
    """Activations whose rows can be gathered: an array, or the memory-mapped cache."""

    def __len__(self) -> int: ...
    def __getitem__(self, rows: np.ndarray) -> np.ndarray: ...


class TrainablePart:
    """Unfrozen blocks and head: maps activations (n, *feature_layer.shape) to logits (n, classes), float32."""

    def __init__(
        self,
        feature_layer: FeatureLayer,
        tensors: Tensors,
        head: "keras.Model",
        precision: str = "float32",
        train_batch_norm: bool = False,
    ) -> None:
        """Blocks start from `tensors` and compute in `precision`; variables are float32, BatchNorm statistics fixed."""
        self.feature_layer, self.head = feature_layer, head
        self._precision = "float32" if precision == "int8" else precision  # only frozen blocks are in 8 bits
        names = resnet.block_tensors(feature_layer.blocks)
        trained = ("kernel", "bias", "gamma", "beta") if train_batch_norm else ("kernel", "bias")
        variable = backend.tensorflow().Variable
        self._unfrozen = {name: variable(tensors[name]) for name in names if name.split("/")[1] in trained}
        self._fixed = {name: tensors[name] for name in names if name not in self._unfrozen}

    def __call__(self, activations: Any, training: bool = False) -> Any:
        """Logits (n, classes), float32."""
        conv4 = self.head.input_shape[1] > resnet.FEATURES  # else it would be pooled for nothing
        return self._logits(self.features(activations, conv4), training)

    def _logits(self, features: Any, training: bool = False) -> Any:
        return self.head(features[:, -self.head.input_shape[1] :], training=training)  # conv5's features come last

    def features(self, activations: Any, conv4: bool = True) -> Any:
        """Pooled features (n, sum(feature_layer.features)), float32; those of conv4, if any, only if wanted."""
        if not self.feature_layer.blocks:
            return activations
        return backend.tensorflow().reduce_mean(self.maps(activations, conv4), axis=[1, 2])

    def maps(self, activations: Any, conv4: bool = True) -> Any:
        """Feature maps before pooling, (n, size/32, size/32, sum(features)) float32; needs an unfrozen block."""
        tf, tensors = backend.tensorflow(), {**self._unfrozen, **self._fixed}

        def weights(layer: str) -> tuple[Any, Any]:
            kernel, bias = batchnorm_folding.fold(tensors.__getitem__, layer)
            return tf.cast(kernel, self._precision), tf.cast(bias, self._precision)

        x = tf.cast(activations, self._precision)
        stages = []
        for number, block in enumerate(self.feature_layer.blocks):
            # A subsampled activation already includes the first block's stride.
            stride = 1 if number == 0 and self.feature_layer.subsampled else block.stride
            if conv4 and self.feature_layer.conv4 and block == resnet.BLOCKS[-CONV5_BLOCKS]:
                stages.append(x[:, ::stride, ::stride, :])
            x = batchnorm_folding.residual_block(x, block, stride, weights)
        return tf.cast(tf.concat([*stages, x], axis=-1), tf.float32)

    @property
    def variables(self) -> dict[str, Any]:
        """The trained TensorFlow variables by `<layer>/<variable>`."""
        head = keras_model.named_variables(self.head)
        return {**self._unfrozen, **{name: variable.value for name, variable in head.items()}}

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.head.output_shape[-1])

    def get_tensors(self) -> dict[str, np.ndarray]:
        """All tensors of unfrozen blocks and head by Keras's names, float32, BatchNorm statistics included."""
        return {**self._fixed, **{name: variable.numpy() for name, variable in self.variables.items()}}

    def set_tensors(self, tensors: Tensors) -> None:
        """Set all variables; fixed tensors do not change."""
        for name, variable in self.variables.items():
            variable.assign(tensors[name])

    def reseed(self, random: np.random.Generator) -> None:
        """Reseed every dropout layer, so that its state does not depend on earlier steps."""
        for layer in self.head.layers:
            if hasattr(layer, "seed_generator"):
                layer.seed_generator.state.assign(random.integers(2**32, size=2, dtype=np.uint32))

    def logits(self, activations: Any) -> np.ndarray:
        """Logits of all rows of activations, (n, classes) float32, computed in batches padded to one size."""
        return self._in_batches(self._predict, activations)[0]

    def logits_and_features(self, activations: Any) -> tuple[np.ndarray, np.ndarray]:
        """Logits as `logits` returns them, and the pooled features (n, sum(feature_layer.features)) float32."""
        logits, features = self._in_batches(self._predict_both, activations)
        return logits, features

    def _in_batches(self, function: Any, activations: Any) -> list[np.ndarray]:
        parts, size = [], BATCH if self.feature_layer.blocks else 8 * BATCH
        for start in range(0, len(activations), size):
            rows = np.arange(start, start + size)
            values = function(activations[np.minimum(rows, len(activations) - 1)])
            parts.append([each.numpy()[: len(activations) - start] for each in values])
        return [np.concatenate(part) for part in zip(*parts, strict=True)]

    @cached_property
    def _predict(self) -> Any:
        return backend.tensorflow().function(lambda activations: [self(activations)], autograph=False)

    @cached_property
    def _predict_both(self) -> Any:
        def both(activations: Any) -> list[Any]:
            features = self.features(activations)
            return [self._logits(features), features]

        return backend.tensorflow().function(both, autograph=False)
