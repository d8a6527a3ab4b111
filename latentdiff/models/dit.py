"""The diffusion transformer, DiT, for pixels and latents alike."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentdiff.config import NetworkConfig
from latentdiff.errors import ConfigError
from latentdiff.models.conditioning import ConditionedNetwork, check_one_width, sinusoidal_embedding
from latentdiff.models.layers import MAX_MATMUL_POSITIONS, MAX_MATMUL_POSITIONS_TRAINING
from latentdiff.models.patches import pad_to_patches, unfold_patches

# Hidden units of a block's MLP for each channel.
MLP_RATIO = 4


def grid_embedding(height: int, width: int, channels: int, device: torch.device | str = "cpu") -> Tensor:
    """Return fixed cosines and sines [height * width, channels] of each row and column.

    Args:
        height: Rows of the grid.
        width: Columns of the grid.
        channels: Width of the embedding, a multiple of 4: one half for the row, one for the column.
    """
    rows, columns = (sinusoidal_embedding(torch.arange(n, device=device), channels // 2) for n in (height, width))
    return torch.cat([rows.repeat_interleave(width, dim=0), columns.repeat(height, 1)], dim=1)


class Attention(nn.Module):
    """Multi-head self-attention over tokens.

    Args:
        channels: Number of channels.
        head_channels: Number of channels of one head; must divide ``channels``.
    """

    def __init__(self, channels: int, head_channels: int):
        super().__init__()
        self.heads = channels // head_channels
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens [b, n, c] to [b, n, c]."""
        # Without len() and einops, which would fix the batch of an exported graph.
        q, k, v = (each.transpose(1, 2) for each in self.qkv(x).unflatten(2, (3 * self.heads, -1)).chunk(3, dim=2))
        most = MAX_MATMUL_POSITIONS_TRAINING if q.requires_grad else MAX_MATMUL_POSITIONS
        if torch.compiler.is_exporting() or (x.device.type == "cpu" and x.shape[1] <= most):
            weights = torch.softmax((q * q.shape[-1] ** -0.5) @ k.mT, dim=-1)
            attended = weights.to(v.dtype) @ v
        else:
            attended = F.scaled_dot_product_attention(q, k, v)
        return self.out(attended.transpose(1, 2).flatten(2))


class DiTBlock(nn.Module):
    """A transformer block whose norms are scaled and shifted, and whose branches are gated, by the embedding of time
    and class. The gates start at zero, so that the block starts as the identity (adaLN-Zero)."""

    def __init__(self, channels: int, embedding_channels: int, head_channels: int, dropout: float):
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(channels, eps=1e-6, elementwise_affine=False) for _ in range(2))
        self.attention = Attention(channels, head_channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, MLP_RATIO * channels),
            nn.GELU(approximate="tanh"),
            nn.Dropout(dropout),
            nn.Linear(MLP_RATIO * channels, channels),
        )
        self.embed = nn.Linear(embedding_channels, 6 * channels)
        nn.init.zeros_(self.embed.weight)
        nn.init.zeros_(self.embed.bias)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Map tokens x [b, n, channels] and the embedding [b, embedding_channels] to [b, n, channels]."""
        scale1, shift1, gate1, scale2, shift2, gate2 = self.embed(embedding)[:, None].chunk(6, dim=2)
        x = x + gate1 * self.attention(self.norm1(x) * (1 + scale1) + shift1)
        return x + gate2 * self.mlp(self.norm2(x) * (1 + scale2) + shift2)


class DiT(ConditionedNetwork):
    """A transformer of ``num_res_blocks`` blocks, ``channels[0]`` wide, on patches (Peebles and Xie 2023).

    Args:
        in_channels: Number of channels of the noisy images or latents.
        num_classes: Number of classes, see :class:`~latentdiff.models.unet.UNet`.
        config: Settings of the network: one width, no attention_levels, and conditioning scale_shift.
        out_channels: Number of channels of the output. Default: ``in_channels``.

    Raises :class:`~latentdiff.errors.ConfigError` for settings that a transformer does not have.
    """

    def __init__(self, in_channels: int, num_classes: int, config: NetworkConfig, out_channels: int | None = None):
        super().__init__(num_classes, config)
        width = check_one_width(config)
        if config.conditioning != "scale_shift":
            raise ConfigError(f"architecture dit takes the conditioning scale_shift, not {config.conditioning}")
        if width % 4 or width % config.head_channels:
            raise ConfigError(
                f"architecture dit takes a width that is a multiple of 4 and of network.head_channels, "
                f"{config.head_channels}, not {width}"
            )
        self.patch = config.patch
        self.stem = nn.Conv2d(in_channels, width, self.patch, stride=self.patch)
        self.blocks = nn.ModuleList(
            DiTBlock(width, self.embedding_channels, config.head_channels, config.dropout)
            for _ in range(config.num_res_blocks)
        )
        self.norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.embed_head = nn.Linear(self.embedding_channels, 2 * width)
        self.head = nn.Linear(width, (out_channels or in_channels) * self.patch**2)
        for layer in (self.embed_head, self.head):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, time: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the network's output [b, out_channels, h, w].

        Args:
            x: Noisy images or latents, [b, in_channels, h, w].
            time: Time of each image, [b].
            labels: Class of each image, int64 [b], ``null_label`` for "no class"; None for an unconditional network.
        """
        embedding = self.embed(time, labels)
        assert embedding is not None
        height, width = x.shape[2:]
        maps = self.stem(pad_to_patches(x, self.patch))
        rows, columns = maps.shape[2:]
        tokens = maps.flatten(2).mT + grid_embedding(rows, columns, maps.shape[1], x.device)
        for block in self.blocks:
            tokens = block(tokens, embedding)
        scale, shift = self.embed_head(embedding)[:, None].chunk(2, dim=2)
        tokens = self.head(self.norm(tokens) * (1 + scale) + shift)
        return unfold_patches(tokens.mT.unflatten(2, (rows, columns)), self.patch, height, width).contiguous()
