"""The frozen trunk: ResNet50 below the cut with BatchNorm folded into its convolutions, as one frozen function."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flowers.images import SIZE
from flowers.network import backend, folded, resnet
from flowers.network.weights import Tensors

# Every batch has this size, the last one padded: the bits of a row then never depend on how many rows came along.
BATCH = 32

# What Keras's preprocess_input subtracts from blue, green and red (its "caffe" mode).
BGR_MEANS = np.array([103.939, 116.779, 123.68], np.float32)


@dataclass(frozen=True)
class Cut:
    """Where the network is cut: below the `unfreeze_blocks` blocks that are trained; at 0, after the pooling."""

    unfreeze_blocks: int
    size: int = SIZE  # side of the network's input, in pixels: a multiple of 32
    conv4: bool = False  # whether conv4's features are pooled beside those of conv5

    @classmethod
    def below(cls, unfreeze_blocks: int, size: int, features: str) -> "Cut":
        """The cut where `features`, as params.yaml calls them, are pooled: conv5, or conv4+conv5."""
        return cls(unfreeze_blocks, size, conv4=features == "conv4+conv5")

    @property
    def blocks(self) -> tuple[resnet.Block, ...]:
        """The residual blocks above the cut."""
        return resnet.BLOCKS[len(resnet.BLOCKS) - self.unfreeze_blocks :]

    @property
    def features(self) -> tuple[int, ...]:
        """How many features the head is given of each stage, side by side."""
        return (resnet.CONV4_FEATURES, resnet.FEATURES) if self.conv4 else (resnet.FEATURES,)

    @property
    def subsampled(self) -> bool:
        """Whether only even rows and columns are kept: all that the next block, striding in its 1×1s, ever reads."""
        return bool(self.blocks) and self.blocks[0].stride == 2

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one photo's activation at this cut."""
        if not self.blocks:
            return (sum(self.features),)
        block = self.blocks[0]
        side = self.size // 2 ** int(block.name[4])  # of the block's output, which is what a subsampled cut has too
        return (side, side, block.inputs)

    @property
    def name(self) -> str:
        """A short name for messages and folders."""
        pooled = "pooled-conv4-conv5" if self.conv4 else "pooled"
        layer = resnet.cut_layer(self.unfreeze_blocks) if self.unfreeze_blocks else pooled
        return layer if self.size == SIZE else f"{layer}-{self.size}px"


def best_precision() -> str:
    """`bfloat16` where the GPU, or else the processor, multiplies in it; `float32` elsewhere.

    A GPU does from compute capability 8 (Ampere) on, a processor with AVX-512 BF16 or AMX.
    """
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

    both = {layer: folded.fold(exact, layer) for layer in resnet.convolutions()}
    return {layer: (kernel.astype(np.float32), bias.astype(np.float32)) for layer, (kernel, bias) in both.items()}


class Trunk:
    """The frozen network up to one or more cuts; one pass over a photo gives the activations at all of them."""

    def __init__(
        self,
        tensors: Tensors,
        cuts: Iterable[Cut],
        precision: str,
        batch: int | None = None,
        padded: bool = True,
    ) -> None:
        """`precision` is `float32` or `bfloat16`; activations come out in it. `batch`: photos at a time, else BATCH.

        The cuts are of one size, which is that of the images.
        Not `padded`, a smaller batch is computed as it is: sooner, and with other last bits in float32.
        """
        tf = backend.tensorflow()
        self.cuts = tuple(sorted(set(cuts), key=lambda cut: -cut.unfreeze_blocks))
        self.precision, self.batch, self._padded = precision, batch or BATCH, padded
        self._dtype = tf.as_dtype(precision)
        weights = folded_weights(tensors)
        size = self.cuts[0].size
        signature = tf.TensorSpec((self.batch if padded else None, size, size, 3), tf.uint8)
        self._function = tf.function(
            lambda images: self._forward(tf, weights, images), input_signature=[signature], autograph=False
        )

    def __call__(self, images: np.ndarray) -> dict[Cut, np.ndarray]:
        """Activations of uint8 RGB images (n, size, size, 3), n ≤ batch, at every cut: (n, *cut.shape)."""
        given = images
        if self._padded and len(images) < self.batch:
            given = np.zeros((self.batch, *images.shape[1:]), np.uint8)
            given[: len(images)] = images
        outputs = self._function(given)
        return {cut: output.numpy()[: len(images)] for cut, output in zip(self.cuts, outputs, strict=True)}

    def batches(self, images: Iterable[np.ndarray]) -> Iterator[dict[Cut, np.ndarray]]:
        """As `__call__`, for a stream of single images, a batch at a time."""
        batch = []
        for image in images:
            batch.append(image)
            if len(batch) == self.batch:
                yield self(np.stack(batch))
                batch = []
        if batch:
            yield self(np.stack(batch))

    def _forward(self, tf: Any, weights: dict[str, tuple[np.ndarray, np.ndarray]], images: Any) -> list[Any]:
        def constants(layer: str) -> tuple[Any, Any]:
            kernel, bias = weights[layer]
            return tf.constant(kernel, self._dtype), tf.constant(bias, self._dtype)

        x = tf.cast(tf.cast(images[..., ::-1], tf.float32) - BGR_MEANS, self._dtype)
        x = tf.pad(x, [[0, 0], [3, 3], [3, 3], [0, 0]])
        x = tf.nn.relu(folded.convolve(x, constants("conv1_conv"), 2))
        x = tf.nn.max_pool2d(tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]), 3, 2, "VALID")
        wanted = {cut.unfreeze_blocks: cut for cut in self.cuts}
        outputs = []
        for below in range(len(resnet.BLOCKS) + 1):
            unfreeze = len(resnet.BLOCKS) - below
            if unfreeze == resnet.CONV5:
                conv4 = x[:, ::2, ::2, :]  # what conv5 reads of it
            if unfreeze in wanted:
                pooled = [conv4, x] if unfreeze == 0 and wanted[0].conv4 else [x]
                outputs.append(_kept(tf, tf.concat(pooled, axis=-1), wanted[unfreeze]))
            if unfreeze > min(wanted):
                block = resnet.BLOCKS[below]
                x = folded.residual_block(x, block, block.stride, constants)
        return outputs


def _kept(tf: Any, x: Any, cut: Cut) -> Any:
    if cut.unfreeze_blocks == 0:
        return tf.cast(tf.reduce_mean(tf.cast(x, tf.float32), axis=[1, 2]), x.dtype)
    return x[:, ::2, ::2, :] if cut.subsampled else x
