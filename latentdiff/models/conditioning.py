"""Embeddings of time and class for the denoising networks."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentdiff.config import NetworkConfig
from latentdiff.errors import ConfigError


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

    Attributes:
        null_label: The label that means "no class"; None for an unconditional network.
        embedding_channels: Width of the embedding; 0 without an embedding.
    """

    def __init__(self, num_classes: int, config: NetworkConfig):
        super().__init__()
        if config.conditioning == "none" and num_classes:
            raise ConfigError("conditioning none gives the network no class: set class_conditional false")
        width = config.channels[0]
        self.conditioning = config.conditioning
        self.embedding_channels = 0 if config.conditioning == "none" else config.embedding_channels or 4 * width
        self.time_channels = width
        self.fourier = FourierEmbedding(width, config.fourier_scale) if config.time_embedding == "fourier" else None
        self.null_label = num_classes if num_classes else None
        self.classes = nn.Embedding(num_classes + 1, self.embedding_channels) if num_classes else None
        if self.embedding_channels:
            hidden = self.embedding_channels
            self.time = nn.Sequential(nn.Linear(width, hidden), nn.SiLU(), nn.Linear(hidden, hidden))

    def embed(self, time: Tensor, labels: Tensor | None) -> Tensor | None:
        """Return the embedding [b, embedding_channels] of time and class, or None for a network without an embedding.

        Args:
            time: Time of each image, [b].
            labels: Class of each image, int64 [b], ``null_label`` for "no class"; None for an unconditional network.

        Raises:
            ConfigError: Labels are missing, or given to an unconditional network.
        """
        if (labels is None) != (self.classes is None):
            raise ConfigError("a class-conditional network needs labels, an unconditional one takes none")
        if not self.embedding_channels:
            return None
        features = self.fourier(time) if self.fourier is not None else sinusoidal_embedding(time, self.time_channels)
        embedding = self.time(features)
        if self.classes is not None:
            embedding = embedding + self.classes(labels)
        return F.silu(embedding)
