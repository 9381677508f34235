"""The layer where the network is divided: the frozen backbone ends in it, the trainable part starts from it."""

from dataclasses import dataclass

from flowers.config.architecture import INPUT_SIZE
from flowers.model import resnet


@dataclass(frozen=True)
class FeatureLayer:
    """The input of the `unfreeze_blocks` blocks that are trained, counted from the top; at 0, the pooled features."""

    unfreeze_blocks: int
    size: int = INPUT_SIZE  # side of the network's input, in pixels: a multiple of 32
    conv4: bool = False  # whether conv4's features are pooled beside those of conv5

    @classmethod
    def below(cls, unfreeze_blocks: int, size: int, features: str) -> "FeatureLayer":
        """The feature_layer where `features`, as params.yaml calls them, are pooled: conv5, or conv4+conv5."""
        return cls(unfreeze_blocks, size, conv4=features == "conv4+conv5")

    @property
    def blocks(self) -> tuple[resnet.Block, ...]:
        """The residual blocks above the feature_layer."""
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
        """Shape of one photo's activation at this feature_layer."""
        if not self.blocks:
            return (sum(self.features),)
        block = self.blocks[0]
        side = self.size // 2 ** int(
            block.name[4]
        )  # of the block's output, which is what a subsampled feature_layer has too
        return (side, side, block.inputs)

    @property
    def name(self) -> str:
        """A short name for messages and folders."""
        pooled = "pooled-conv4-conv5" if self.conv4 else "pooled"
        layer = resnet.feature_layer_name(self.unfreeze_blocks) if self.unfreeze_blocks else pooled
        return layer if self.size == INPUT_SIZE else f"{layer}-{self.size}px"
