"""The trained network as OpenVINO's operations, written down one by one: no converter decides anything."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from flowers.config.architecture import CONV5_BLOCKS, INPUT_SIZE
from flowers.model import resnet
from flowers.model.backbone import BGR_MEANS, folded_weights
from flowers.model.keras_model import SMALLEST
from flowers.model.weights import Tensors
from flowers.serving.openvino import exported

POOLED = ("pooled_conv4", "pooled_conv5")  # the operations whose results the head is given


def build(
    tensors: Tensors,
    temperature: float,
    normalization: str = "none",
    mirror: bool = False,
    size: int = INPUT_SIZE,
    conv4: bool = False,
) -> Any:
    """An `openvino.Model` from uint8 RGB images (n, size, size, 3), any n, to probabilities (n, classes) float32.

    `tensors` are those of ResNet50 and of the head, by the names that Keras's layers have; the rest is as in
    model.json. BatchNorm is folded into the convolutions, and the temperature, by which logits are divided, into the
    last layer.
    """
    ov = exported.runtime()
    import openvino.opset13 as op

    image = op.parameter([-1, size, size, 3], np.uint8, name="image")
    channels_first = op.transpose(op.convert(image, np.float32), op.constant(np.array([0, 3, 1, 2])))
    if mirror:
        backwards = op.constant(np.arange(size - 1, -1, -1))
        channels_first = op.concat([channels_first, op.gather(channels_first, backwards, op.constant(3))], 0)
    stages = _backbone(op, channels_first, folded_weights(tensors))[0 if conv4 else 1 :]
    logits = _head(op, stages, tensors, temperature, normalization)
    if mirror:
        one, other = op.split(logits, op.constant(0), 2).outputs()
        logits = op.multiply(op.add(one, other), op.constant(np.float32(0.5)))
    return ov.Model([op.softmax(logits, 1)], [image], "flowers")


def head_operations(network: Any) -> list[str]:
    """The names of all operations of a network of `build` that come after the pooling."""
    found: list[str] = []
    for operation in network.get_ordered_ops():
        sources = {given.get_source_output().get_node().get_friendly_name() for given in operation.inputs()}
        if sources & {*POOLED, *found}:
            found.append(operation.get_friendly_name())
    return found


def _backbone(op: Any, x: Any, weights: dict[str, tuple[np.ndarray, np.ndarray]]) -> tuple[Any, Any]:
    """Pooled features of conv4 (n, 1024) and of conv5 (n, 2048) of RGB images (n, 3, size, size)."""

    def convolve(x: Any, layer: str, stride: int = 1, padding: int = 0) -> Any:
        kernel, bias = weights[layer]
        if layer == "conv1_conv":
            kernel = kernel[:, :, ::-1]  # the network was trained on BGR
        kernel = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))
        pads = [padding, padding]
        x = op.convolution(x, op.constant(kernel), [stride, stride], pads, pads, [1, 1], name=layer)
        return op.add(x, op.constant(bias.reshape(1, -1, 1, 1)))

    x = op.subtract(x, op.constant(BGR_MEANS[::-1].reshape(1, 3, 1, 1).copy()))
    x = op.relu(convolve(x, "conv1_conv", 2, 3))
    x = op.max_pool(x, [2, 2], [1, 1], [1, 1], [1, 1], [3, 3]).output(0)
    for block in resnet.BLOCKS:
        if block == resnet.BLOCKS[-CONV5_BLOCKS]:
            conv4 = op.max_pool(x, [2, 2], [1, 1], [0, 0], [0, 0], [1, 1]).output(0)  # what conv5 reads of it
        shortcut = convolve(x, f"{block.name}_0_conv", block.stride) if block.projection else x
        x = op.relu(convolve(x, f"{block.name}_1_conv", block.stride))
        x = op.relu(convolve(x, f"{block.name}_2_conv", padding=1))
        x = op.relu(op.add(convolve(x, f"{block.name}_3_conv"), shortcut))
    places = op.constant(np.array([2, 3]))
    pooled = zip(POOLED, (conv4, x), strict=True)
    conv4, conv5 = (op.reduce_mean(maps, places, keep_dims=False, name=name) for name, maps in pooled)
    return conv4, conv5


def _head(op: Any, stages: Sequence[Any], tensors: Tensors, temperature: float, normalization: str) -> Any:
    """Logits (n, classes), divided by the temperature, of each stage's features."""

    def root(x: Any) -> Any:
        x = op.maximum(x, op.constant(np.float32(SMALLEST)))
        return op.sqrt(op.divide(x, op.reduce_mean(x, op.constant(np.array([1])), keep_dims=True)))

    x = op.concat([root(stage) if normalization == "root" else stage for stage in stages], 1)

    def dense(x: Any, layer: str, divisor: float = 1.0) -> Any:
        kernel, bias = (tensors[f"{layer}/{name}"] / np.float32(divisor) for name in ("kernel", "bias"))
        return op.add(op.matmul(x, op.constant(kernel), False, False, name=layer), op.constant(bias))

    hidden = sum(name.startswith("head_dense") and name.endswith("/kernel") for name in tensors)
    for number in range(1, hidden + 1):
        x = op.relu(dense(x, f"head_dense{number}"))
    return dense(x, "head_logits", temperature)
