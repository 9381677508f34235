"""The network in OpenVINO with its frozen blocks in 8 bits, 1.8 times as fast as in float32, with VNNI three times.

Weights have a scale per output channel, activations one per tensor (Jacob et al., arXiv 1712.05877). The ranges of the
activations need no images: after a BatchNorm a channel has mean β and standard deviation γ, in a sum of branches these
add up, and a ReLU makes a rectified normal distribution of it (Nagel et al., "Data-free quantization through weight
equalization and bias correction", arXiv 1906.04721). So the numbers depend on the weights alone.
"""

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowers.common import extras
from flowers.config.architecture import CONV5_BLOCKS
from flowers.model import resnet
from flowers.model.backbone import BGR_MEANS, batched, folded_weights
from flowers.model.feature_layer import FeatureLayer
from flowers.model.weights import Tensors

# An activation's largest value that 8 bits represent, in standard deviations above the mean of its channel. On photos
# of flowers, features with 6 and with 8 are as close to those in float32 as with the ranges of 300 images.
DEVIATIONS = 7

_WHAT = "model.precision: int8"  # in errors


class Int8Backbone:
    """Used like `Backbone`. The top `float_blocks` blocks, those that were trained, compute in float32."""

    def __init__(self, tensors: Tensors, feature_layers: Iterable[FeatureLayer], float_blocks: int = 0) -> None:
        """Build the network for images of the feature layers' common size. Raises UserError without OpenVINO."""
        self.feature_layers = tuple(sorted(set(feature_layers), key=lambda layer: -layer.unfreeze_blocks))
        self._tensors, self._float_blocks = tensors, float_blocks
        self._infer = _compiled(network(tensors, self.feature_layers, float_blocks))

    def __call__(self, images: NDArray[np.uint8]) -> dict[FeatureLayer, NDArray[np.float32]]:
        """Activations of uint8 RGB images (n, size, size, 3) at each feature layer: (n, *layer.shape) float32."""
        return dict(zip(self.feature_layers, self._infer(images), strict=True))

    def maps(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The activations at the last feature layer before pooling: (n, size/32, size/32, features)."""
        found: NDArray[np.float32] = self._infer_maps(images)[0]
        return found

    @cached_property
    def _infer_maps(self) -> Any:
        return _compiled(network(self._tensors, self.feature_layers[-1:], self._float_blocks, pooled=False))

    def batches(self, images: Iterable[NDArray[np.uint8]]) -> Iterator[dict[FeatureLayer, NDArray[np.float32]]]:
        """Like `__call__`, for a stream of single images; yields one batch at a time."""
        return map(self, batched(images))


def network(
    tensors: Tensors,
    feature_layers: Sequence[FeatureLayer],
    float_blocks: int = 0,
    pooled: bool = True,
    mirror: bool = False,
) -> Any:
    """An `openvino.Model`: uint8 RGB (n, size, size, 3) to the activations at each feature layer, in their order.

    With `mirror` the images are followed by their mirror images: activations are (2n, *layer.shape).
    """
    build = _Builder(tensors)
    op, size = build.op, feature_layers[0].size
    image = op.parameter([-1, size, size, 3], np.uint8, name="image")
    found = build.activations(image, feature_layers, float_blocks, pooled, mirror)
    model = extras.openvino(_WHAT).Model([op.result(found[layer]) for layer in feature_layers], [image], "resnet50")
    image.output(0).get_tensor().set_names({"image"})
    return model


def _compiled(model: Any) -> Any:
    # What is not int8 is float32: with bfloat16 the numbers would depend on the processor.
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    if threads := os.environ.get("TF_NUM_INTRAOP_THREADS"):  # as Spark limits TensorFlow
        settings["INFERENCE_NUM_THREADS"] = int(threads)
    compiled = extras.openvino(_WHAT).Core().compile_model(model, "CPU", settings)

    def infer(images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        request = compiled.create_infer_request()  # creating it costs nothing, and threads may share the network
        request.infer([np.ascontiguousarray(images)])
        return [request.get_output_tensor(number).data.copy() for number in range(len(compiled.outputs))]

    return infer


@dataclass
class _Values:
    """A tensor of the graph, (n, channels, side, side), and the expected distribution of each of its channels."""

    node: Any
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    @property
    def top(self) -> float:
        """The largest value that 8 bits are to represent."""
        return max(float((self.mean + DEVIATIONS * self.deviation).max()), 1e-3)


class _Builder:
    """Puts the network together from OpenVINO's operations."""

    def __init__(self, tensors: Tensors) -> None:
        self._module = extras.openvino(_WHAT)
        from openvino import opset13

        self.op: Any = opset13
        self._tensors, self._folded = tensors, folded_weights(tensors)

    def activations(
        self, image: Any, layers: Iterable[FeatureLayer], float_blocks: int, pooled: bool, mirror: bool
    ) -> dict[FeatureLayer, Any]:
        wanted = {layer.unfreeze_blocks: layer for layer in layers}
        found, conv4 = {}, None
        values = self._stem(image, mirror)
        for unfreeze in range(len(resnet.BLOCKS), -1, -1):
            if unfreeze == CONV5_BLOCKS:
                conv4 = self._subsampled(values.node)  # the positions that conv5 reads
            if unfreeze in wanted:
                layer = wanted[unfreeze]
                if unfreeze == 0:
                    found[layer] = self._features([conv4, values.node] if layer.conv4 else [values.node], pooled)
                else:
                    found[layer] = self._channels_last(
                        self._subsampled(values.node) if layer.subsampled else values.node
                    )
            if unfreeze > min(wanted):
                values = self._block(resnet.BLOCKS[-unfreeze], values, in_int8=unfreeze > float_blocks)
        return found

    def _stem(self, image: Any, mirror: bool) -> _Values:
        """Everything before the first block, in float32: one scale would not do for the image's three channels."""
        op = self.op
        x = op.gather(op.convert(image, "f32"), op.constant([2, 1, 0]), op.constant(3))
        x = op.transpose(op.subtract(x, op.constant(BGR_MEANS)), op.constant([0, 3, 1, 2]))
        if mirror:
            backwards = op.constant(np.arange(image.get_partial_shape()[1].get_length())[::-1].copy())
            x = op.concat([x, op.gather(x, backwards, op.constant(3))], 0)
        x = self._rectified(self._convolution(x, "conv1_conv", 2, in_int8=False))
        x.node = op.max_pool(x.node, [2, 2], [1, 1], [1, 1], [1, 1], [3, 3]).output(0)  # after a ReLU, padding is 0
        return x

    def _block(self, block: resnet.Block, x: _Values, in_int8: bool) -> _Values:
        if in_int8:
            x = self._in_8_bits(x)
        shortcut = self._convolution(x.node, f"{block.name}_0_conv", block.stride, in_int8) if block.projection else x
        for number, stride in ((1, block.stride), (2, 1)):
            x = self._rectified(self._convolution(x.node, f"{block.name}_{number}_conv", stride, in_int8))
            x = self._in_8_bits(x) if in_int8 else x
        x = self._convolution(x.node, f"{block.name}_3_conv", 1, in_int8)
        both = np.hypot(x.deviation, shortcut.deviation)
        return self._rectified(_Values(self.op.add(x.node, shortcut.node), x.mean + shortcut.mean, both))

    def _convolution(self, node: Any, layer: str, stride: int, in_int8: bool) -> _Values:
        op = self.op
        kernel, bias = self._folded[layer]
        kernel = kernel.transpose(3, 2, 0, 1)
        weights = self._int8_weights(kernel) if in_int8 else op.constant(kernel)
        padding = [kernel.shape[2] // 2] * 2
        node = op.convolution(node, weights, [stride, stride], padding, padding, [1, 1])
        norm = layer.removesuffix("_conv") + "_bn"
        beta, gamma = (self._tensors[f"{norm}/{name}"].astype(np.float64) for name in ("beta", "gamma"))
        return _Values(op.add(node, op.constant(bias.reshape(1, -1, 1, 1))), beta, np.abs(gamma))

    def _int8_weights(self, kernel: NDArray[np.float32]) -> Any:
        scale = np.abs(kernel).max(axis=(1, 2, 3), keepdims=True) / 127
        scale[scale == 0] = 1
        whole = self.op.constant(np.round(kernel / scale).astype(np.int8))
        return self.op.multiply(self.op.convert(whole, "f32"), self.op.constant(scale.astype(np.float32)))

    def _rectified(self, x: _Values) -> _Values:
        """ReLU, and the moments of a rectified normal distribution."""
        deviation = np.maximum(x.deviation, 1e-12)
        ratio = x.mean / deviation
        above = np.array([(1 + math.erf(each / math.sqrt(2))) / 2 for each in ratio])  # the normal distribution
        density = np.exp(-(ratio**2) / 2) / math.sqrt(2 * math.pi)
        mean = x.mean * above + deviation * density
        square = (x.mean**2 + deviation**2) * above + x.mean * deviation * density
        return _Values(self.op.relu(x.node), mean, np.sqrt(np.maximum(square - mean**2, 0)))

    def _in_8_bits(self, x: _Values) -> _Values:
        zero, top = (self.op.constant(np.full((1, 1, 1, 1), value, np.float32)) for value in (0, x.top))
        return _Values(self.op.fake_quantize(x.node, zero, top, zero, top, 256), x.mean, x.deviation)

    def _subsampled(self, node: Any) -> Any:
        """Even rows and columns."""
        start, steps = self.op.constant([0, 0, 0, 0]), self.op.constant([1, 1, 2, 2])
        return self.op.strided_slice(node, start, start, steps, [1] * 4, [1] * 4)

    def _channels_last(self, node: Any) -> Any:
        return self.op.transpose(node, self.op.constant([0, 2, 3, 1]))

    def _features(self, stages: list[Any], pooled: bool) -> Any:
        axes = self.op.constant([2, 3])
        if pooled:
            return self.op.concat([self.op.reduce_mean(stage, axes) for stage in stages], 1)
        return self._channels_last(self.op.concat(stages, 1))
