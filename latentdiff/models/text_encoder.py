"""From the tokens of captions to states that a U-Net attends to."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from latentdiff.models.layers import embedding_table
from latentdiff.text.pretrained import PretrainedText
from latentdiff.text.tokenizer import PADDING, Tokenizer
from latentdiff.text.vocabulary import Vocabulary

LAYERS = 2
HEAD_CHANNELS = 32
# What stands for minus infinity before a softmax: its exponential is 0 in fp32, and 8 bits can still scale it.
MASKED = -1e4


class TextStates(NamedTuple):
    """Captions as a network attends to them.

    Attributes:
        states: [b, l, width].
        keep: bool [b, l], False where there is padding; at least one of a caption is True.
    """

    states: Tensor
    keep: Tensor

    def mean(self) -> Tensor:
        """The mean of each caption's states that are not padding, [b, width]."""
        weights = self.keep.to(self.states.dtype)[..., None]
        return (self.states * weights).sum(1) / weights.sum(1)


def masked_attention(q: Tensor, k: Tensor, v: Tensor, keep: Tensor, heads: int) -> Tensor:
    """Attention of q [b, n, c] to k and v [b, l, c] of which ``keep``, bool [b, l], says what is there: [b, n, c]."""
    q, k, v = (each.unflatten(-1, (heads, -1)).transpose(1, 2) for each in (q, k, v))  # b heads n c
    weights = (q * q.shape[-1] ** -0.5) @ k.mT
    weights = torch.softmax(weights.masked_fill(~keep[:, None, None], MASKED), dim=-1)
    return (weights.to(v.dtype) @ v).transpose(1, 2).flatten(2)


class TransformerLayer(nn.Module):
    """Self-attention and a two-layer perceptron, each after a norm (Vaswani et al. 2017; Xiong et al. 2020)."""

    def __init__(self, width: int):
        super().__init__()
        self.heads = next(n for n in range(max(1, width // HEAD_CHANNELS), 0, -1) if width % n == 0)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:
        """Map [b, l, width] to [b, l, width]."""
        q, k, v = self.qkv(self.norm1(x)).chunk(3, dim=-1)
        x = x + self.out(masked_attention(q, k, v, keep, self.heads))
        return x + self.narrow(F.gelu(self.wide(self.norm2(x))))


class TextEncoder(nn.Module):
    """A small transformer over a vocabulary's tokens, which is trained with the U-Net.

    A learned start precedes the tokens, so that the empty caption has a state too.

    Args:
        num_tokens: How many tokens there are.
        context: Tokens of a caption.
        width: Channels of a state.
    """

    def __init__(self, num_tokens: int, context: int, width: int):
        super().__init__()
        self.width = width
        self.tokens = embedding_table(num_tokens, width)
        self.start = nn.Parameter(torch.zeros(width))
        self.positions = nn.Parameter(0.02 * torch.randn(context + 1, width))
        self.layers = nn.ModuleList(TransformerLayer(width) for _ in range(LAYERS))
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> TextStates:
        """The states of tokens int64 [b, context]: [b, context + 1, width]."""
        keep = F.pad(tokens != PADDING, (1, 0), value=True)
        start = self.start + torch.zeros_like(tokens[:, :1, None], dtype=self.start.dtype)
        x = torch.cat([start, self.tokens(tokens)], dim=1) + self.positions
        for layer in self.layers:
            x = layer(x, keep)
        return TextStates(self.norm(x), keep)


class FrozenTextEncoder(nn.Module):
    """The states of a frozen encoder, which keeps those of each distinct caption, with a norm that is trained.

    Args:
        pretrained: The encoder. It is no part of the module's weights.
    """

    def __init__(self, pretrained: PretrainedText):
        super().__init__()
        self.pretrained, self.width = pretrained, pretrained.width
        self.norm = nn.LayerNorm(self.width)

    def forward(self, tokens: Tensor) -> TextStates:
        """The states of tokens int64 [b, context]: [b, context, width]."""
        states, keep = self._states(tokens)
        return TextStates(self.norm(states), keep)

    def leave_uncompiled(self) -> None:
        """Let a compiler that comes to the look-up of states call it as it is written."""
        # Not as a decorator: that imports the compiler, and with it 1.4 s come to the start of every command.
        self._states = torch.compiler.disable(self._states)

    def _states(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        if isinstance(tokens, FakeTensor):  # of a step whose cost is counted without numbers
            return tokens.new_empty(*tokens.shape, self.width, dtype=torch.float32), tokens != PADDING
        return self.pretrained.states(tokens)


def build_text_encoder(tokenizer: Tokenizer, width: int) -> TextEncoder | FrozenTextEncoder:
    """Return the encoder for a tokenizer: its own frozen one, or a new one with states of ``width`` channels."""
    if isinstance(tokenizer, PretrainedText):
        return FrozenTextEncoder(tokenizer)
    assert isinstance(tokenizer, Vocabulary)
    return TextEncoder(tokenizer.num_tokens, tokenizer.context, width)
