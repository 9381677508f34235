"""BatchNorm folded into the convolution before it, and residual blocks of folded convolutions.

The frozen backbone and the unfrozen blocks both compute this way. A BatchNorm with fixed statistics can be part of the
convolution: kernel · γ/√(σ²+ε) and (bias − μ) · γ/√(σ²+ε) + β (Jacob et al., arXiv 1712.05877, section 3.2).
"""

from collections.abc import Callable
from typing import Any

from flowers.model import backend, resnet

# Folded kernel and bias of a convolution, by its Keras name.
Weights = Callable[[str], tuple[Any, Any]]


def fold(tensor: Callable[[str], Any], layer: str) -> tuple[Any, Any]:
    """Kernel and bias of a convolution with its BatchNorm folded in; `tensor(name)` returns an array or a tensor."""
    norm = layer.removesuffix("_conv") + "_bn"
    scale = tensor(f"{norm}/gamma") / (tensor(f"{norm}/moving_variance") + resnet.BATCH_NORM_EPSILON) ** 0.5
    bias = (tensor(f"{layer}/bias") - tensor(f"{norm}/moving_mean")) * scale + tensor(f"{norm}/beta")
    return tensor(f"{layer}/kernel") * scale, bias


def convolve(x: Any, weights: tuple[Any, Any], stride: int = 1) -> Any:
    """A convolution with bias; 3×3 ones are padded to keep the size, others are not."""
    tf = backend.tensorflow()
    kernel, bias = weights
    return tf.nn.bias_add(tf.nn.conv2d(x, kernel, stride, "SAME" if kernel.shape[0] == 3 else "VALID"), bias)


def residual_block(x: Any, block: resnet.Block, stride: int, weights: Weights) -> Any:
    """The block's output, from images (n, side, side, block.inputs) to (n, side/stride, side/stride, 4·filters)."""
    tf = backend.tensorflow()
    shortcut = convolve(x, weights(f"{block.name}_0_conv"), stride) if block.projection else x
    x = tf.nn.relu(convolve(x, weights(f"{block.name}_1_conv"), stride))
    x = tf.nn.relu(convolve(x, weights(f"{block.name}_2_conv")))
    return tf.nn.relu(convolve(x, weights(f"{block.name}_3_conv")) + shortcut)
