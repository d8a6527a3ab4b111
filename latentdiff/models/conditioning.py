"""How a network is told the time and the class."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentdiff.config import NetworkConfig
from latentdiff.errors import ConfigError


def sinusoidal_embedding(time: Tensor, channels: int, max_period: float = 10_000.0) -> Tensor:
    """Sines and cosines of ``time`` [b] at geometric frequencies -> [b, channels] (DDPM, after Vaswani et al. 2017)."""
    frequencies = torch.exp(-math.log(max_period) * torch.arange(channels // 2, device=time.device) / (channels // 2))
    angles = time.float()[:, None] * frequencies[None]
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class FourierEmbedding(nn.Module):
    """Sines and cosines of ``time`` [b] at fixed random frequencies -> [b, channels] (Tancik et al. 2020, Song et al.
    2021). For times of about unit size, such as the log(sigma) / 4 of the exploding processes."""

    def __init__(self, channels: int, scale: float):
        super().__init__()
        self.register_buffer("frequencies", 2.0 * math.pi * scale * torch.randn(channels // 2))

    def forward(self, time: Tensor) -> Tensor:
        angles = time.float()[:, None] * self.frequencies[None]
        return torch.cat([angles.cos(), angles.sin()], dim=1)


class ConditionedNetwork(nn.Module):
    """Base of the denoising networks: time and class become one embedding [b, embedding_channels].

    Args:
        num_classes: Number of classes; the network gets one more for "none". 0 builds an unconditional network.
        config: Its settings. With ``conditioning`` none the network is told neither the time nor the class.

    Attributes:
        null_label: The class that stands for none; None for an unconditional network.
        embedding_channels: Width of the embedding; 0 without any.
    """

    def __init__(self, num_classes: int, config: NetworkConfig):
        super().__init__()
        if config.conditioning == "none" and num_classes:
            raise ConfigError("conditioning none tells the network nothing: it needs class_conditional false")
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
        """time [b], labels int64 [b] (``null_label`` for none) or None -> [b, embedding_channels], or None."""
        if (labels is None) != (self.classes is None):
            raise ConfigError("a class-conditional network needs labels, an unconditional one takes none")
        if not self.embedding_channels:
            return None
        features = self.fourier(time) if self.fourier is not None else sinusoidal_embedding(time, self.time_channels)
        embedding = self.time(features)
        if self.classes is not None:
            embedding = embedding + self.classes(labels)
        return F.silu(embedding)
