"""The shape of Keras's ResNet50: its residual blocks, its possible feature layers, and its tensors by name.

The network of He et al., "Deep Residual Learning for Image Recognition" (arXiv 1512.03385), in Keras's version, which
strides in the first 1×1 convolution of a stage. Layer names are Keras's. This module does not import TensorFlow.
"""

from collections.abc import Iterable
from dataclasses import dataclass

BATCH_NORM_EPSILON = 1.001e-5
CONV4_FEATURES, FEATURES = 1024, 2048  # of the last two stages


@dataclass(frozen=True)
class Block:
    """A residual block: 1×1, 3×3 and 1×1 convolutions, and a projection on the shortcut if the shape changes."""

    name: str
    inputs: int
    filters: int
    stride: int
    projection: bool


def _blocks() -> tuple[Block, ...]:
    blocks, inputs = [], 64
    for stage, (filters, count) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), start=2):
        for number in range(1, count + 1):
            stride = 2 if number == 1 and stage > 2 else 1
            blocks.append(Block(f"conv{stage}_block{number}", inputs, filters, stride, projection=number == 1))
            inputs = 4 * filters
    return tuple(blocks)


BLOCKS = _blocks()


def feature_layer_name(unfreeze_blocks: int) -> str:
    """The Keras layer whose output feeds the first of the top `unfreeze_blocks` blocks (0...16)."""
    below = len(BLOCKS) - unfreeze_blocks
    return f"{BLOCKS[below - 1].name}_out" if below else "pool1_pool"


def convolutions() -> dict[str, tuple[int, int, int, int]]:
    """Kernel shapes (height, width, inputs, outputs) of all 53 convolutions; `x_bn` normalises `x_conv`."""
    shapes = {"conv1_conv": (7, 7, 3, 64)}
    for block in BLOCKS:
        wide = 4 * block.filters
        if block.projection:
            shapes[f"{block.name}_0_conv"] = (1, 1, block.inputs, wide)
        shapes[f"{block.name}_1_conv"] = (1, 1, block.inputs, block.filters)
        shapes[f"{block.name}_2_conv"] = (3, 3, block.filters, block.filters)
        shapes[f"{block.name}_3_conv"] = (1, 1, block.filters, wide)
    return shapes


def block_tensors(blocks: Iterable[Block]) -> list[str]:
    """The tensors of these blocks, as `<layer>/<variable>`."""
    prefixes = tuple(f"{block.name}_" for block in blocks)
    return [name for name in tensor_shapes() if name.startswith(prefixes)]


def tensor_shapes() -> dict[str, tuple[int, ...]]:
    """The 320 tensors of the network with its ImageNet classifier, as `<layer>/<variable>`."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layer, kernel in convolutions().items():
        shapes[f"{layer}/kernel"] = kernel
        shapes[f"{layer}/bias"] = (kernel[3],)
        for variable in ("gamma", "beta", "moving_mean", "moving_variance"):
            shapes[f"{layer.removesuffix('_conv')}_bn/{variable}"] = (kernel[3],)
    return shapes | {"predictions/kernel": (FEATURES, 1000), "predictions/bias": (1000,)}
