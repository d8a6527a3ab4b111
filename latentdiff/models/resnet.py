"""A plain residual network as the denoiser: no change of resolution."""

from __future__ import annotations

from torch import Tensor, nn

from latentdiff.config import NetworkConfig
from latentdiff.errors import ConfigError
from latentdiff.models.conditioning import ConditionedNetwork
from latentdiff.models.layers import ResBlock, group_norm, norm_silu, zero_init
from latentdiff.models.memory_layout import to_contiguous_layout, to_convolution_layout


class ResNet(ConditionedNetwork):
    """``num_res_blocks`` residual blocks of ``channels[0]`` between two convolutions.

    Args:
        channels: Channels of what is denoised.
        num_classes: As in :class:`~latentdiff.models.unet.UNet`.
        config: Its settings; one width, no attention.
        outputs: Channels of what comes out; default: as many as go in.
    """

    def __init__(self, channels: int, num_classes: int, config: NetworkConfig, out_channels: int | None = None):
        super().__init__(num_classes, config)
        if len(config.channels) != 1 or config.attention_levels:
            raise ConfigError("architecture resnet takes one width in channels, and no attention_levels")
        width = config.channels[0]
        self.stem = nn.Conv2d(channels, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            ResBlock(width, width, self.embedding_channels, config.dropout, config.conditioning)
            for _ in range(config.num_res_blocks)
        )
        self.norm = group_norm(width)
        self.head = zero_init(nn.Conv2d(width, out_channels or channels, 3, padding=1))

    def forward(self, x: Tensor, time: Tensor, labels: Tensor | None = None) -> Tensor:
        """x [b, c, h, w], time [b], labels int64 [b] (``null_label`` for none) -> [b, outputs, h, w]."""
        embedding = self.embed(time, labels)
        x = to_convolution_layout(self.stem(to_convolution_layout(x)))
        for block in self.blocks:
            x = block(x, embedding)
        return to_contiguous_layout(self.head(norm_silu(self.norm, x)))
