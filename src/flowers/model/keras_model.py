"""Keras models: the head, and the whole network for export."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from flowers.config.architecture import CONV5_BLOCKS, INPUT_SIZE
from flowers.model import backend, resnet
from flowers.model.backbone import BGR_MEANS
from flowers.model.weights import Tensors

if TYPE_CHECKING:
    import keras

SMALLEST = 1e-6  # `root` raises smaller features to this


def head(
    classes: int,
    units: Sequence[int],
    dropout: float,
    seed: int,
    normalization: str = "none",
    features: Sequence[int] = (resnet.FEATURES,),
) -> "keras.Model":
    """Pooled features (n, sum(features)) to logits (n, classes): Dense layers with ReLU, each followed by dropout.

    The normalization `root` first divides the features of each stage by their mean and takes square roots, which gives
    vectors of constant length (RootSIFT: Arandjelović and Zisserman, "Three things everyone should know to improve
    object retrieval", CVPR 2012).
    """
    keras = backend.keras()
    initializers = (keras.initializers.GlorotUniform(seed=seed + number) for number in range(len(units) + 1))
    inputs = x = keras.Input((sum(features),))
    if normalization == "root":
        x = keras.ops.maximum(x, SMALLEST)  # the root's slope is infinite at 0
        stages = keras.ops.split(x, np.cumsum(features[:-1]).tolist(), axis=-1) if len(features) > 1 else [x]
        rooted = [keras.ops.sqrt(stage / keras.ops.mean(stage, axis=-1, keepdims=True)) for stage in stages]
        x = keras.ops.concatenate(rooted, axis=-1) if len(features) > 1 else rooted[0]
    for number, width in enumerate(units, start=1):
        x = keras.layers.Dense(
            width, activation="relu", kernel_initializer=next(initializers), name=f"head_dense{number}"
        )(x)
        x = keras.layers.Dropout(dropout, seed=seed + number, name=f"head_dropout{number}")(x)
    logits = keras.layers.Dense(classes, kernel_initializer=next(initializers), name="head_logits")(x)
    return keras.Model(inputs, logits, name="head")


def whole(
    tensors: Tensors,
    head_model: "keras.Model",
    temperature: float = 1.0,
    mirror: bool = False,
    size: int = INPUT_SIZE,
    conv4: bool = False,
) -> "keras.Model":
    """Raw images, uint8 RGB (n, size, size, 3), to probabilities (n, classes), as one self-contained Keras model.

    It consists of Keras's preprocessing, Keras's ResNet50 with `tensors`, and the trained head, whose logits are
    divided by the temperature. With `mirror` the logits of the image and of its mirror image are averaged. With `conv4`
    the head reads the features of conv4, pooled over the positions that conv5 reads, and those of conv5.
    """
    keras = backend.keras()
    base = keras.applications.ResNet50(weights=None, include_top=False, pooling="avg", input_shape=(size, size, 3))
    if conv4:
        maps = keras.layers.MaxPooling2D(1, strides=2)(base.get_layer(resnet.feature_layer_name(CONV5_BLOCKS)).output)
        pooled = [keras.layers.GlobalAveragePooling2D()(maps), base.output]
        base = keras.Model(base.input, keras.layers.Concatenate()(pooled), name=base.name)
    set_tensors(base, tensors)
    inputs = keras.Input((size, size, 3), dtype="uint8", name="image")
    # `take`, not `flip`: OpenVINO folds it into the first convolution.
    x = keras.layers.Rescaling(1.0, offset=(-BGR_MEANS).tolist())(keras.ops.take(inputs, [2, 1, 0], axis=-1))
    if mirror:
        x = keras.ops.concatenate([x, keras.ops.take(x, list(range(size))[::-1], axis=2)], axis=0)
    return keras.Model(inputs, _probabilities(base(x), head_model, temperature, mirror), name="flowers")


def from_features(head_model: "keras.Model", temperature: float = 1.0, mirror: bool = False) -> "keras.Model":
    """The end of `whole`: pooled features (n, ...) float32 to probabilities; with `mirror` (2n, ...) to n of them."""
    keras = backend.keras()
    inputs = keras.Input(head_model.input_shape[1:], name="features")
    return keras.Model(inputs, _probabilities(inputs, head_model, temperature, mirror), name="flowers")


def _probabilities(features: Any, head_model: "keras.Model", temperature: float, mirror: bool) -> Any:
    keras = backend.keras()
    logits = head_model(features)
    if mirror:
        logits = keras.ops.mean(keras.ops.reshape(logits, (2, -1, logits.shape[1])), axis=0)
    logits = keras.layers.Rescaling(1 / temperature, name="temperature")(logits)
    return keras.layers.Softmax(name="probability")(logits)


def set_tensors(model: "keras.Model", tensors: Tensors) -> None:
    """Set every variable of the model from the tensor of its name, `<layer>/<variable>`."""
    for name, variable in named_variables(model).items():
        variable.assign(tensors[name])


def named_variables(model: "keras.Model") -> dict[str, Any]:
    """The variables of all layers by `<layer>/<variable>`, without the states of random generators."""
    return {
        f"{layer.name}/{variable.name}": variable
        for layer in model.layers
        for variable in layer.weights
        if variable.name != "seed_generator_state"
    }
