"""A plain residual network as the denoiser: no change of resolution."""

from __future__ import annotations

from torch import Tensor, nn

from latentdiff.config import NetworkConfig
from latentdiff.models.conditioning import ConditionedNetwork, check_one_width
from latentdiff.models.layers import ResBlock, group_norm, norm_silu, zero_init
from latentdiff.models.memory_layout import to_contiguous_layout, to_convolution_layout
from latentdiff.models.patches import pad_to_patches, patch_stem, unfold_patches


class ResNet(ConditionedNetwork):
    """A denoising network of ``num_res_blocks`` residual blocks, ``channels[0]`` wide, at one resolution.

    Args:
        in_channels: Number of channels of the noisy images or latents.
        num_classes: Number of classes, see :class:`~latentdiff.models.unet.UNet`.
        config: Settings of the network: one width and no attention.
        out_channels: Number of channels of the output. Default: ``in_channels``.
    """

    def __init__(self, in_channels: int, num_classes: int, config: NetworkConfig, out_channels: int | None = None):
        super().__init__(num_classes, config)
        width = check_one_width(config)
        self.patch = config.patch
        self.stem = patch_stem(in_channels, width, self.patch)
        self.blocks = nn.ModuleList(
            ResBlock(width, width, self.embedding_channels, config.dropout, config.conditioning)
            for _ in range(config.num_res_blocks)
        )
        self.norm = group_norm(width)
        self.head = zero_init(nn.Conv2d(width, (out_channels or in_channels) * self.patch**2, 3, padding=1))

    def forward(self, x: Tensor, time: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the network's output [b, out_channels, h, w].

        Args:
            x: Noisy images or latents, [b, in_channels, h, w].
            time: Time of each image, [b].
            labels: Class of each image, int64 [b], ``null_label`` for "no class"; None for an unconditional network.
        """
        embedding = self.embed(time, labels)
        height, width = x.shape[2:]
        x = to_convolution_layout(self.stem(to_convolution_layout(pad_to_patches(x, self.patch))))
        for block in self.blocks:
            x = block(x, embedding)
        x = self.head(norm_silu(self.norm, x))
        return unfold_patches(to_contiguous_layout(x), self.patch, height, width).contiguous()
