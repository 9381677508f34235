"""The feature layer, where the network is divided: the frozen backbone ends there and the trainable part starts."""

from dataclasses import dataclass

from flowers.config.architecture import CONV5_BLOCKS, INPUT_SIZE
from flowers.model import resnet

# The pooled features that the head reads, by `head.features`: the number of each stage. They are the last ones of a
# feature layer, whatever that has before them.
HEAD_FEATURES = {"conv5": (resnet.FEATURES,), "conv4+conv5": (resnet.CONV4_FEATURES, resnet.FEATURES)}


@dataclass(frozen=True)
class FeatureLayer:
    """The input of the top `unfreeze_blocks` residual blocks, which are trained; with 0, the pooled features."""

    unfreeze_blocks: int
    size: int = INPUT_SIZE  # side of the network's input, in pixels: a multiple of 32
    conv4: bool = False  # whether conv4's features are pooled in addition to conv5's

    @classmethod
    def below(cls, unfreeze_blocks: int, size: int) -> "FeatureLayer":
        """The feature layer of a model: with conv4's features, unless it divides the network within conv5."""
        return cls(unfreeze_blocks, size, conv4=not 0 < unfreeze_blocks < CONV5_BLOCKS)

    @property
    def blocks(self) -> tuple[resnet.Block, ...]:
        """The residual blocks above the feature layer."""
        return resnet.BLOCKS[len(resnet.BLOCKS) - self.unfreeze_blocks :]

    @property
    def features(self) -> tuple[int, ...]:
        """Number of pooled features of each stage, in their order."""
        return (resnet.CONV4_FEATURES, resnet.FEATURES) if self.conv4 else (resnet.FEATURES,)

    @property
    def subsampled(self) -> bool:
        """Whether only even rows and columns are kept: the next block strides in its 1×1s and reads no others."""
        return bool(self.blocks) and self.blocks[0].stride == 2

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one image's activation at this feature layer."""
        if not self.blocks:
            return (sum(self.features),)
        block = self.blocks[0]
        side = self.size // 2 ** int(block.name[4])  # of the block's output; a subsampled activation has the same
        return (side, side, block.inputs)

    @property
    def name(self) -> str:
        """A short name for folders."""
        pooled = "pooled-conv4-conv5" if self.conv4 else "pooled"
        layer = resnet.feature_layer_name(self.unfreeze_blocks) if self.unfreeze_blocks else pooled
        return layer if self.size == INPUT_SIZE else f"{layer}-{self.size}px"
