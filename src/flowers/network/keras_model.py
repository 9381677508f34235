"""The network above and around the trunk, in Keras: the tail of residual blocks, the head, and the whole for export."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from flowers.network import backend, resnet
from flowers.network.trunk import BGR_MEANS, Cut
from flowers.network.weights import Tensors

if TYPE_CHECKING:
    import keras


def head(classes: int, units: Sequence[int], dropout: float, seed: int) -> "keras.Model":
    """Pooled features (n, 2048) to logits (n, classes): Dense layers with ReLU, each followed by dropout."""
    keras = backend.keras()
    initializers = (keras.initializers.GlorotUniform(seed=seed + number) for number in range(len(units) + 1))
    inputs = x = keras.Input((resnet.FEATURES,))
    for number, width in enumerate(units, start=1):
        x = keras.layers.Dense(
            width, activation="relu", kernel_initializer=next(initializers), name=f"head_dense{number}"
        )(x)
        x = keras.layers.Dropout(dropout, seed=seed + number, name=f"head_dropout{number}")(x)
    logits = keras.layers.Dense(classes, kernel_initializer=next(initializers), name="head_logits")(x)
    return keras.Model(inputs, logits, name="head")


def tail(cut: Cut, tensors: Tensors) -> "keras.Model":
    """Activations at the cut (n, *cut.shape) to pooled features (n, 2048), with Keras's own layer names.

    BatchNorm layers keep their statistics, scale and shift. They are set one by one: a Functional model trained with
    `fit` does not honour `training=False` on a nested one. A subsampled cut has done the first block's stride already.
    """
    keras = backend.keras()
    inputs = x = keras.Input(cut.shape)
    for number, block in enumerate(resnet.BLOCKS[len(resnet.BLOCKS) - cut.unfreeze_blocks :]):
        x = _block(x, block, stride=1 if number == 0 and cut.subsampled else block.stride)
    if cut.unfreeze_blocks:
        x = keras.layers.GlobalAveragePooling2D(name="avg_pool")(x)
    model = keras.Model(inputs, x, name="tail")
    set_tensors(model, tensors)
    return model


def joined(tail_model: "keras.Model", head_model: "keras.Model") -> "keras.Model":
    """Activations at the cut to logits: tail and head as one flat model that shares their layers."""
    x = tail_model.output
    for layer in head_model.layers[1:]:
        x = layer(x)
    return backend.keras().Model(tail_model.input, x, name="trained")


def _block(x: Any, block: resnet.Block, stride: int) -> Any:
    layers = backend.keras().layers

    def convolve(x: Any, number: int, kernel: int = 1, stride: int = 1) -> Any:
        filters = 4 * block.filters if number in (0, 3) else block.filters
        name = f"{block.name}_{number}"
        x = layers.Conv2D(filters, kernel, strides=stride, padding="same", name=f"{name}_conv")(x)
        return layers.BatchNormalization(epsilon=resnet.BATCH_NORM_EPSILON, trainable=False, name=f"{name}_bn")(x)

    shortcut = convolve(x, 0, stride=stride) if block.projection else x
    x = layers.ReLU(name=f"{block.name}_1_relu")(convolve(x, 1, stride=stride))
    x = layers.ReLU(name=f"{block.name}_2_relu")(convolve(x, 2, kernel=3))
    x = layers.Add(name=f"{block.name}_add")([convolve(x, 3), shortcut])
    return layers.ReLU(name=f"{block.name}_out")(x)


def whole(tensors: Tensors, head_model: "keras.Model") -> "keras.Model":
    """Raw images, uint8 RGB (n, 224, 224, 3), to probabilities (n, classes): one Keras model that needs nothing else.

    It is Keras's own ResNet50 with `tensors`, its preprocessing in front and the trained head behind.
    """
    keras = backend.keras()
    base = keras.applications.ResNet50(weights=None, include_top=False, pooling="avg", input_shape=(224, 224, 3))
    set_tensors(base, tensors)
    inputs = keras.Input((224, 224, 3), dtype="uint8", name="image")
    x = keras.layers.Rescaling(1.0, offset=(-BGR_MEANS).tolist())(keras.ops.flip(inputs, axis=-1))
    return keras.Model(inputs, keras.layers.Softmax(name="probability")(head_model(base(x))), name="flowers")


def set_tensors(model: "keras.Model", tensors: Tensors) -> None:
    """Set every variable of the model from the tensor of its name, `<layer>/<variable>`."""
    for name, variable in named_variables(model).items():
        variable.assign(tensors[name])


def get_tensors(model: "keras.Model") -> dict[str, np.ndarray]:
    """Every variable of the model as a float32 array, by name."""
    return {name: np.asarray(variable, np.float32) for name, variable in named_variables(model).items()}


def named_variables(model: "keras.Model") -> dict[str, Any]:
    """The variables of all layers by `<layer>/<variable>`; random generators' states are none."""
    return {
        f"{layer.name}/{variable.name}": variable
        for layer in model.layers
        for variable in layer.weights
        if variable.name != "seed_generator_state"
    }
