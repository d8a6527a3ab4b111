"""Cross-attention: each position of the maps looks at the tokens of a caption."""

from __future__ import annotations

from torch import Tensor, nn

from latentdiff.models.layers import group_norm, num_heads, zero_init
from latentdiff.models.memory_layout import is_channels_last, to_contiguous_layout, to_layout_of
from latentdiff.models.text_encoder import TextStates, masked_attention


class CrossAttention(nn.Module):
    """Attention of maps to a caption's states, with a skip connection (Rombach et al. 2022, section 3.3).

    Args:
        channels: Channels of the maps.
        text_width: Channels of a state.
        head_channels: Channels of one head.

    Raises :class:`~latentdiff.errors.ConfigError` where heads of that size do not divide the channels.
    """

    def __init__(self, channels: int, text_width: int, head_channels: int):
        super().__init__()
        self.heads = num_heads(channels, head_channels)
        self.norm = group_norm(channels)
        self.q = nn.Conv2d(channels, channels, 1)
        self.kv = nn.Linear(text_width, 2 * channels)
        self.out = zero_init(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor, text: TextStates) -> Tensor:
        """Map [b, c, h, w] to [b, c, h, w]."""
        q = self.q(to_layout_of(self.norm(to_contiguous_layout(x)), x)).flatten(2).mT  # b (h w) c
        k, v = self.kv(text.states).chunk(2, dim=-1)
        y = masked_attention(q, k, v, text.keep, self.heads).mT.unflatten(2, x.shape[2:])  # b c h w, channels last
        return x + self.out(y if is_channels_last(x) else y.contiguous())
