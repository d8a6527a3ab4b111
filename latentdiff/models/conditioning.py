"""Embeddings of time, and of class or caption, for the denoising networks."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentdiff.config import NetworkConfig
from latentdiff.errors import ConfigError
from latentdiff.models.layers import embedding_table
from latentdiff.models.text_encoder import TextStates, build_text_encoder
from latentdiff.text.tokenizer import PADDING, Tokenizer


def sinusoidal_embedding(time: Tensor, channels: int, max_period: float = 10_000.0) -> Tensor:
    """Return cosines and sines [b, channels] of ``time`` at geometric frequencies (DDPM, Vaswani et al. 2017).

    Args:
        time: Time of each image, [b].
        channels: Width of the embedding, an even number.
        max_period: Longest period.
    """
    frequencies = torch.exp(-math.log(max_period) * torch.arange(channels // 2, device=time.device) / (channels // 2))
    angles = time.float()[:, None] * frequencies[None]
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class FourierEmbedding(nn.Module):
    """Embed times at fixed random frequencies (Tancik et al. 2020, Song et al. 2021).

    The embedding suits times of about unit size, such as log(sigma) / 4 of the variance-exploding processes.

    Args:
        channels: Width of the embedding, an even number.
        scale: Standard deviation of the frequencies, in turns per unit of time.
    """

    frequencies: Tensor

    def __init__(self, channels: int, scale: float):
        super().__init__()
        self.register_buffer("frequencies", 2.0 * math.pi * scale * torch.randn(channels // 2))

    def forward(self, time: Tensor) -> Tensor:
        """Return cosines and sines [b, channels] of ``time`` [b]."""
        angles = time.float()[:, None] * self.frequencies[None]
        return torch.cat([angles.cos(), angles.sin()], dim=1)


class ConditionedNetwork(nn.Module):
    """Base of the denoising networks: time and class become one embedding [b, embedding_channels].

    Args:
        num_classes: Number of classes; the network gets one more for "none". 0 builds an unconditional network.
        config: Settings of the network. With ``conditioning`` none it gets neither time nor class.
        tokenizer: Of a network that takes captions in place of classes: their token ids are its labels.

    Attributes:
        null_label: The label that means "no class"; of captions the padding, which alone means "no caption". None for
            an unconditional network.
        embedding_channels: Width of the embedding; 0 without an embedding.
    """

    def __init__(self, num_classes: int, config: NetworkConfig, tokenizer: Tokenizer | None = None):
        super().__init__()
        if config.conditioning == "none" and tokenizer is not None:
            raise ConfigError("conditioning none gives the network neither time nor caption: set text none")
        if config.conditioning == "none" and num_classes:
            raise ConfigError("conditioning none gives the network no class: set class_conditional false")
        width = config.channels[0]
        self.conditioning = config.conditioning
        usual = width if config.architecture == "dit" else 4 * width
        self.embedding_channels = 0 if config.conditioning == "none" else config.embedding_channels or usual
        if self.embedding_channels and width % 2:  # an embedding is pairs of a sine and a cosine
            raise ConfigError(f"network.channels must begin with an even width, not {width}")
        self.time_channels = width
        self.fourier = FourierEmbedding(width, config.fourier_scale) if config.time_embedding == "fourier" else None
        self.tokenizer = tokenizer
        num_classes = 0 if tokenizer is not None else num_classes
        self.null_label = PADDING if tokenizer is not None else num_classes or None
        self.classes = embedding_table(num_classes + 1, self.embedding_channels) if num_classes else None
        self.text = None if tokenizer is None else build_text_encoder(tokenizer, 2 * width)
        if self.text is not None:
            self.caption = nn.Linear(self.text.width, self.embedding_channels)
        if self.embedding_channels:
            hidden = self.embedding_channels
            self.time = nn.Sequential(nn.Linear(width, hidden), nn.SiLU(), nn.Linear(hidden, hidden))

    def read_captions(self, labels: Tensor | None) -> TextStates | None:
        """Return the states of captions, token ids int64 [b, context]; None for a network that takes none.

        Raises:
            ConfigError: There are no token ids.
        """
        if self.text is None:
            return None
        if labels is None or labels.ndim != 2:
            raise ConfigError("a network that takes captions needs their token ids, [b, context]")
        return self.text(labels)

    def zero_labels(self, count: int, device: torch.device | str = "cpu") -> Tensor | None:
        """Return labels of zeros for ``count`` images: int64 [count], or [count, context] of captions; None without."""
        if self.null_label is None:
            return None
        shape = (count,) if self.tokenizer is None else (count, self.tokenizer.context)
        return torch.zeros(shape, dtype=torch.int64, device=device)

    def embed(self, time: Tensor, labels: Tensor | None, text: TextStates | None = None) -> Tensor | None:
        """Return the embedding [b, embedding_channels] of time and class or caption, or None for a network without one.

        Args:
            time: Time of each image, [b].
            labels: Class of each image, int64 [b], ``null_label`` for "no class"; None for an unconditional network.
            text: The states of captions, of which labels are the token ids.

        Raises:
            ConfigError: Labels are missing, or given to an unconditional network.
        """
        if (labels is None) != (self.null_label is None):
            raise ConfigError("a class-conditional network needs labels, an unconditional one takes none")
        if not self.embedding_channels:
            return None
        features = self.fourier(time) if self.fourier is not None else sinusoidal_embedding(time, self.time_channels)
        embedding = self.time(features)
        if self.classes is not None:
            embedding = embedding + self.classes(labels)
        if text is not None:
            embedding = embedding + self.caption(text.mean())
        return F.silu(embedding)


def check_one_width(config: NetworkConfig) -> int:
    """Return the width of a network that works at one resolution. Raises ConfigError where there are more."""
    if len(config.channels) != 1 or config.attention_levels:
        raise ConfigError(
            f"architecture {config.architecture} takes one width in channels, and no attention_levels: for example "
            "--network.channels [192] --network.attention_levels []"
        )
    return config.channels[0]
