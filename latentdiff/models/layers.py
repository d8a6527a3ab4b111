"""Layers that the autoencoder and the denoising networks share."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from latentdiff.errors import ConfigError
from latentdiff.models.memory_layout import is_channels_last, to_contiguous_layout, to_layout_of

# Up to so many positions a CPU is faster with matrix products than with torch's fused attention: 2 to 3 times in bf16
# training, 1.5 times in sampling.
MAX_MATMUL_POSITIONS_TRAINING, MAX_MATMUL_POSITIONS = 256, 64


def group_norm(channels: int) -> nn.GroupNorm:
    """Return a group normalisation of at most 32 groups, each of at least four channels where possible."""
    groups = math.gcd(32, channels)
    while channels // groups < 4 and groups > 1:
        groups //= 2
    return nn.GroupNorm(groups, channels)


def norm_silu(norm: nn.GroupNorm, x: Tensor) -> Tensor:
    """Return ``silu(norm(x))`` of x [b, c, h, w] in x's memory layout, computed in the contiguous layout."""
    return to_layout_of(F.silu(norm(to_contiguous_layout(x))), x)


def scaled_group_norm(norm: nn.GroupNorm, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return ``norm(x) * (1 + scale) + shift`` of x [b, c, h, w], with scale and shift [b, c], by one kernel.

    The batch is normalised as one image of b * c channels, each with its own weight, so scale and shift cost no kernel.
    An exported graph has the plain form: folding the batch into the channels would fix its size.
    """
    if torch.compiler.is_exporting():
        return norm(x) * (1 + scale)[:, :, None, None] + shift[:, :, None, None]
    b, c, height, width = x.shape
    weight = norm.weight * (1 + scale)
    bias = norm.bias * (1 + scale) + shift
    one = x.reshape(1, b * c, height, width)
    return F.group_norm(one, b * norm.num_groups, weight.flatten(), bias.flatten(), norm.eps).view(b, c, height, width)


def zero_init(module: nn.Conv2d) -> nn.Conv2d:
    """Set a residual branch's last layer to zero, so that the block starts as the identity (Goyal et al. 2017)."""
    nn.init.zeros_(module.weight)
    if module.bias is not None:
        nn.init.zeros_(module.bias)
    return module


def embedding_table(count: int, channels: int) -> nn.Embedding:
    """Return ``nn.Embedding(count, channels)``; on the device ``meta``, where there are no numbers, without its start.

    Torch would take the start of a meta tensor from its compiler, and importing that takes a second.
    """
    table = nn.Embedding(count, channels, _weight=torch.empty(count, channels))
    if not table.weight.is_meta:
        table.reset_parameters()
    return table


def halved_side(side: int) -> int:
    """Return the side after one :class:`Downsample`: half, rounded up, so that odd sides such as 7 are allowed."""
    return (side + 1) // 2


class ConditionalBatchNorm(nn.Module):
    """Batch normalisation with scale and shift from an embedding (de Vries et al. 2017)."""

    def __init__(self, channels: int, embedding_channels: int):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.embed = nn.Linear(embedding_channels, 2 * channels)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Map x [b, c, h, w] and the embedding [b, embedding_channels] to [b, c, h, w]."""
        scale, shift = self.embed(embedding)[:, :, None, None].chunk(2, dim=1)
        return self.norm(x) * (1 + scale) + shift


class ResBlock(nn.Module):
    """Two 3x3 convolutions with a skip connection, conditioned on an embedding of time and class.

    Args:
        in_channels: Number of channels of the input.
        out_channels: Number of channels of the output.
        embedding_channels: Width of the embedding; 0 builds an unconditioned block.
        dropout: Dropout rate before the second convolution.
        conditioning: ``scale_shift`` scales and shifts the second group norm (Dhariwal and Nichol 2021, section 3).
            ``additive`` adds the embedding before that norm (Ho et al. 2020). ``batch_norm`` replaces both norms by
            conditional batch norms.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        embedding_channels: int = 0,
        dropout: float = 0.0,
        conditioning: str = "scale_shift",
    ):
        super().__init__()
        self.conditioning = conditioning if embedding_channels else "none"
        conditional_norms = self.conditioning == "batch_norm"
        self.norm1 = (
            ConditionalBatchNorm(in_channels, embedding_channels) if conditional_norms else group_norm(in_channels)
        )
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        widths = {"scale_shift": 2 * out_channels, "additive": out_channels}.get(self.conditioning)
        self.embed = nn.Linear(embedding_channels, widths) if widths else None
        self.norm2 = (
            ConditionalBatchNorm(out_channels, embedding_channels) if conditional_norms else group_norm(out_channels)
        )
        self.dropout = nn.Dropout(dropout)
        self.conv2 = zero_init(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.skip = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        """Map x [b, in_channels, h, w] and the embedding [b, embedding_channels] to [b, out_channels, h, w]."""
        if self.conditioning == "batch_norm":
            h = self.norm2(self.conv1(F.silu(self.norm1(x, embedding))), embedding)
            return self.skip(x) + self.conv2(self.dropout(F.silu(h)))
        assert isinstance(self.norm1, nn.GroupNorm)
        assert isinstance(self.norm2, nn.GroupNorm)
        h = self.conv1(norm_silu(self.norm1, x))
        if self.conditioning == "additive" and self.embed is not None:
            h = h + self.embed(embedding)[:, :, None, None]
        h = to_contiguous_layout(h)
        if self.conditioning == "scale_shift" and self.embed is not None:
            h = scaled_group_norm(self.norm2, h, *self.embed(embedding).chunk(2, dim=1))
        else:
            h = self.norm2(h)
        return self.skip(x) + self.conv2(to_layout_of(self.dropout(F.silu(h)), x))


def num_heads(channels: int, head_channels: int) -> int:
    """Return how many attention heads there are. Raises ConfigError where they do not divide the channels."""
    if channels % head_channels:
        raise ConfigError(
            f"{channels} channels cannot be divided into attention heads of {head_channels}: take a multiple of "
            "that, or leave attention out (of an autoencoder network.attention; of a denoising network "
            "network.attention_levels and network.middle_attention, or set network.head_channels)"
        )
    return channels // head_channels


class SelfAttention(nn.Module):
    """Multi-head self-attention over the positions of a feature map, with a skip connection.

    Args:
        channels: Number of channels.
        head_channels: Number of channels of one head; must divide ``channels``.
    """

    def __init__(self, channels: int, head_channels: int = 32):
        super().__init__()
        self.heads = num_heads(channels, head_channels)
        self.norm = group_norm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = zero_init(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map [b, c, h, w] to [b, c, h, w]."""
        qkv = self.qkv(to_layout_of(self.norm(to_contiguous_layout(x)), x))
        most = MAX_MATMUL_POSITIONS_TRAINING if qkv.requires_grad else MAX_MATMUL_POSITIONS
        small = x.device.type == "cpu" and x.shape[2] * x.shape[3] <= most
        # torch's fused kernels have no one form in all runtimes.
        small = small or torch.compiler.is_exporting()
        return x + self.out((matmul_attention if small else fused_attention)(qkv, self.heads))


def matmul_attention(qkv: Tensor, heads: int) -> Tensor:
    """Return attention [b, heads * c, h, w] of qkv [b, 3 * heads * c, h, w] by matrix products in qkv's own layout."""
    if is_channels_last(qkv):
        q, k, v = rearrange(qkv, "b (n heads c) h w -> n b heads (h w) c", n=3, heads=heads)
        weights = torch.softmax((q * q.shape[-1] ** -0.5) @ k.mT, dim=-1)
        return _positions_to_maps(weights.to(v.dtype) @ v, qkv)
    # Without len() and einops, which would fix the batch of an exported graph.
    q, k, v = qkv.unflatten(1, (3 * heads, -1)).flatten(3).chunk(3, dim=1)  # b heads c (h w)
    weights = torch.softmax((q * q.shape[2] ** -0.5).mT @ k, dim=-1)
    return (v @ weights.to(v.dtype).mT).flatten(1, 2).unflatten(2, qkv.shape[2:])


def fused_attention(qkv: Tensor, heads: int) -> Tensor:
    """Return attention [b, heads * c, h, w] of qkv [b, 3 * heads * c, h, w] by torch's fused kernels.

    The kernels never store the attention weights. They need the channels of a head side by side in memory.
    """
    q, k, v = rearrange(qkv, "b (n heads c) h w -> n b heads (h w) c", n=3, heads=heads)
    return _positions_to_maps(F.scaled_dot_product_attention(q.contiguous(), k.contiguous(), v.contiguous()), qkv)


def _positions_to_maps(x: Tensor, qkv: Tensor) -> Tensor:
    """Reshape [b, heads, h * w, c] to [b, heads * c, h, w] in the memory layout of ``qkv``."""
    if is_channels_last(qkv):
        return rearrange(x, "b heads (h w) c -> b h w (heads c)", h=qkv.shape[2]).movedim(-1, 1)
    return rearrange(x, "b heads (h w) c -> b (heads c) h w", h=qkv.shape[2])


class Downsample(nn.Module):
    """Halve the sides, rounded up, by a strided convolution."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [b, in_channels, h, w] to [b, out_channels, ceil(h / 2), ceil(w / 2)]."""
        return self.conv(x)


class Upsample(nn.Module):
    """Enlarge by nearest neighbours, then convolve."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Map [b, in_channels, h, w] to [b, out_channels, *size]."""
        return self.conv(F.interpolate(x, size=size, mode="nearest"))
