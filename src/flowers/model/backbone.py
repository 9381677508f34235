"""The frozen backbone: ResNet50 up to the feature layer, BatchNorm folded into its convolutions, in one tf.function."""

import functools
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from flowers.config.architecture import CONV5_BLOCKS
from flowers.model import backend, batchnorm_folding, resnet
from flowers.model.feature_layer import FeatureLayer
from flowers.model.weights import Tensors

# Every batch has this size; the last one is padded. The bits of a row then do not depend on the number of rows.
BATCH = 32

# Keras's preprocess_input subtracts these from blue, green and red (its "caffe" mode).
BGR_MEANS = np.array([103.939, 116.779, 123.68], np.float32)


def best_precision() -> str:
    """`bfloat16` if the GPU (capability 8, Ampere), or without one the processor, multiplies in it; else `float32`."""
    if backend.device() == "gpu":
        gpus = backend.tensorflow().config.list_physical_devices("GPU")
        details = backend.tensorflow().config.experimental.get_device_details(gpus[0])
        return "bfloat16" if details.get("compute_capability", (0, 0)) >= (8, 0) else "float32"
    try:
        with Path("/proc/cpuinfo").open(encoding="ascii", errors="replace") as file:
            flags = next((line for line in file if line.startswith("flags")), "").split()
    except OSError:
        return "float32"
    return "bfloat16" if {"avx512_bf16", "amx_bf16"} & set(flags) else "float32"


def folded_weights(tensors: Tensors) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Kernel and bias of every convolution with its BatchNorm folded in, float32."""

    def exact(name: str) -> np.ndarray:
        return tensors[name].astype(np.float64) if name.endswith("/moving_variance") else tensors[name]

    both = {layer: batchnorm_folding.fold(exact, layer) for layer in resnet.convolutions()}
    return {layer: (kernel.astype(np.float32), bias.astype(np.float32)) for layer, (kernel, bias) in both.items()}


def batched(images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """A stream of single images as arrays of `BATCH` of them, the last one smaller."""
    source = iter(images)
    while batch := list(islice(source, BATCH)):
        yield np.stack(batch)


class Backbone:
    """The frozen network up to one or more feature layers; one pass returns the activations at all of them."""

    def __init__(
        self,
        tensors: Tensors,
        feature_layers: Iterable[FeatureLayer],
        precision: str,
        padded: bool = True,
    ) -> None:
        """Build the function for images of the feature layers' common size; activations have dtype `precision`.

        Without `padded`, a smaller batch is computed at its own size, which is faster and changes the last bits.
        """
        tf = backend.tensorflow()
        self.feature_layers = tuple(sorted(set(feature_layers), key=lambda layer: -layer.unfreeze_blocks))
        self.precision, self._padded = precision, padded
        self._dtype = tf.as_dtype(precision)
        weights: dict[str, tuple[Any, Any]] = folded_weights(tensors)
        if backend.frozen_weights():  # beside the graph: TensorFlow keeps seven copies of constants in it, 94 MB each
            weights = {
                layer: (tf.constant(kernel, self._dtype), tf.constant(bias, self._dtype))
                for layer, (kernel, bias) in weights.items()
            }
        size = self.feature_layers[0].size
        signature = tf.TensorSpec((BATCH if padded else None, size, size, 3), tf.uint8)
        self._function, self._unpooled = (
            tf.function(
                functools.partial(self._forward, tf, weights, pooled), input_signature=[signature], autograph=False
            )
            for pooled in (True, False)
        )

    def __call__(self, images: np.ndarray) -> dict[FeatureLayer, np.ndarray]:
        """Activations of uint8 RGB images (n, size, size, 3), n ≤ BATCH, at each feature layer: (n, *layer.shape)."""
        count = len(images)
        if self._padded and count < BATCH:
            images = np.concatenate([images, np.zeros((BATCH - count, *images.shape[1:]), np.uint8)])
        outputs = self._function(images)
        return {layer: output.numpy()[:count] for layer, output in zip(self.feature_layers, outputs, strict=True)}

    def maps(self, images: np.ndarray) -> np.ndarray:
        """The activations at the last feature layer before pooling: (n, size/32, size/32, features)."""
        output: np.ndarray = self._unpooled(images)[-1].numpy()
        return output

    def batches(self, images: Iterable[np.ndarray]) -> Iterator[dict[FeatureLayer, np.ndarray]]:
        """Like `__call__`, for a stream of single images; yields one batch at a time."""
        return map(self, batched(images))

    def _forward(self, tf: Any, weights: dict[str, tuple[Any, Any]], pooled: bool, images: Any) -> list[Any]:
        def constants(layer: str) -> tuple[Any, Any]:
            kernel, bias = weights[layer]
            return tf.convert_to_tensor(kernel, self._dtype), tf.convert_to_tensor(bias, self._dtype)

        x = tf.cast(tf.cast(images[..., ::-1], tf.float32) - BGR_MEANS, self._dtype)
        x = tf.pad(x, [[0, 0], [3, 3], [3, 3], [0, 0]])
        x = tf.nn.relu(batchnorm_folding.convolve(x, constants("conv1_conv"), 2))
        x = tf.nn.max_pool2d(tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]), 3, 2, "VALID")
        wanted = {layer.unfreeze_blocks: layer for layer in self.feature_layers}
        outputs = []
        for below in range(len(resnet.BLOCKS) + 1):
            unfreeze = len(resnet.BLOCKS) - below
            if unfreeze == CONV5_BLOCKS:
                conv4 = x[:, ::2, ::2, :]  # the positions that conv5 reads
            if unfreeze in wanted:
                output = x[:, ::2, ::2, :] if wanted[unfreeze].subsampled else x
                if unfreeze == 0:
                    maps = tf.concat([conv4, x] if wanted[0].conv4 else [x], axis=-1)
                    output = (
                        tf.cast(tf.reduce_mean(tf.cast(maps, tf.float32), axis=[1, 2]), x.dtype) if pooled else maps
                    )
                outputs.append(output)
            if unfreeze > min(wanted):
                block = resnet.BLOCKS[below]
                x = batchnorm_folding.residual_block(x, block, block.stride, constants)
        return outputs
