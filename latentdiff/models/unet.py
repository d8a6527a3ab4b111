"""The denoising U-Net, for pixels and latents alike."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from latentdiff.config import NetworkConfig
from latentdiff.errors import ConfigError
from latentdiff.models.conditioning import ConditionedNetwork
from latentdiff.models.cross_attention import CrossAttention
from latentdiff.models.layers import Downsample, ResBlock, SelfAttention, Upsample, group_norm, norm_silu, zero_init
from latentdiff.models.memory_layout import to_contiguous_layout, to_convolution_layout
from latentdiff.models.patches import pad_to_patches, patch_stem, unfold_patches
from latentdiff.models.text_encoder import TextStates
from latentdiff.text.tokenizer import Tokenizer


class UNetBlock(nn.Module):
    """A residual block, followed by self-attention where ``attention`` is true, and by cross-attention to captions
    whose states have ``text_width`` channels, where that is not 0."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        embedding: int,
        attention: bool,
        config: NetworkConfig,
        text_width: int = 0,
    ):
        super().__init__()
        self.residual = ResBlock(in_channels, out_channels, embedding, config.dropout, config.conditioning)
        self.attention = SelfAttention(out_channels, config.head_channels) if attention else nn.Identity()
        self.cross = CrossAttention(out_channels, text_width, config.head_channels) if text_width else None

    def forward(self, x: Tensor, embedding: Tensor | None, text: TextStates | None = None) -> Tensor:
        """Map x [b, in_channels, h, w] and the embedding [b, embedding_channels] to [b, out_channels, h, w]."""
        x = self.attention(self.residual(x, embedding))
        return x if self.cross is None or text is None else self.cross(x, text)


class UNet(ConditionedNetwork):
    """A U-Net with time and class conditioning (Ho et al. 2020; scale-shift norm of Dhariwal and Nichol 2021).

    With captions, the mean of a caption's states joins the embedding in the class's place, and blocks with attention
    and the middle attend to the states themselves (Rombach et al. 2022).

    An odd side is rounded up on the way down (7 to 4), and restored to the skip's side on the way up (4 to 7).

    Args:
        in_channels: Number of channels of the noisy images or latents.
        num_classes: Number of classes; the network gets one more for "none". 0 builds an unconditional network.
        config: Widths and depths.
        out_channels: Number of channels of the output. Default: ``in_channels``.
        tokenizer: Of a network that takes captions in place of classes.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        config: NetworkConfig,
        out_channels: int | None = None,
        tokenizer: Tokenizer | None = None,
    ):
        super().__init__(num_classes, config, tokenizer)
        widths, blocks = config.channels, config.num_res_blocks
        if any(level >= len(widths) for level in config.attention_levels):
            raise ConfigError(f"attention_levels {config.attention_levels} go beyond the {len(widths)} resolutions")
        embedding, text_width = self.embedding_channels, 0 if self.text is None else self.text.width

        def block(level: int, in_channels: int) -> UNetBlock:
            attends = level in config.attention_levels
            return UNetBlock(in_channels, widths[level], embedding, attends, config, text_width * attends)

        self.patch = config.patch
        self.stem = patch_stem(in_channels, widths[0], self.patch)
        self.down, self.downsamples = nn.ModuleList(), nn.ModuleList()
        skips = [widths[0]]
        for level, width in enumerate(widths):
            self.down.append(nn.ModuleList(block(level, width) for _ in range(blocks)))
            skips += [width] * blocks
            if level + 1 < len(widths):
                self.downsamples.append(Downsample(width, widths[level + 1]))
                skips.append(widths[level + 1])
        self.middle = nn.ModuleList(
            [
                UNetBlock(widths[-1], widths[-1], embedding, config.middle_attention, config, text_width),
                UNetBlock(widths[-1], widths[-1], embedding, False, config),
            ]
        )
        self.up, self.upsamples = nn.ModuleList(), nn.ModuleList()
        for level in reversed(range(len(widths))):
            inputs = [widths[level]] * (blocks + 1)
            self.up.append(nn.ModuleList(block(level, width + skips.pop()) for width in inputs))
            if level:
                self.upsamples.append(Upsample(widths[level], widths[level - 1]))
        self.norm = group_norm(widths[0])
        self.head = zero_init(nn.Conv2d(widths[0], (out_channels or in_channels) * self.patch**2, 3, padding=1))

    def forward(self, x: Tensor, time: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the network's output [b, out_channels, h, w].

        Args:
            x: Noisy images or latents, [b, in_channels, h, w].
            time: Time of each image, [b].
            labels: Class of each image, int64 [b], ``null_label`` for "no class"; None for an unconditional network. Of
                captions their token ids, int64 [b, context].
        """
        text = self.read_captions(labels)
        embedding = self.embed(time, labels, text)
        height, width = x.shape[2:]
        x = to_convolution_layout(self.stem(to_convolution_layout(pad_to_patches(x, self.patch))))
        skips = [x]
        for level, blocks in enumerate(self.down):
            for block in blocks.children():
                x = block(x, embedding, text)
                skips.append(x)
            if level < len(self.downsamples):
                x = self.downsamples[level](x)
                skips.append(x)
        for block in self.middle:
            x = block(x, embedding, text)
        for level, blocks in enumerate(self.up):
            for block in blocks.children():
                x = block(torch.cat([x, skips.pop()], dim=1), embedding, text)
            if level < len(self.upsamples):
                x = self.upsamples[level](x, skips[-1].shape[2:])
        x = self.head(norm_silu(self.norm, x))
        return unfold_patches(to_contiguous_layout(x), self.patch, height, width).contiguous()
