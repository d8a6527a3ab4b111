"""The discriminators that judge the autoencoder's reconstructions: by their pixels, or by a trunk's features."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


def convolution(i: int, o: int, kernel: int = 3, stride: int = 1) -> nn.Module:
    """A convolution of bounded slope (spectral normalisation, Miyato et al. 2018)."""
    return spectral_norm(nn.Conv2d(i, o, kernel, stride, (kernel - 1) // 2))


class PatchDiscriminator(nn.Sequential):
    """[b, c, h, w] -> [b, 1, h/4, w/4]: one logit for each overlapping patch (Isola et al. 2017).

    Spectral normalisation and no feature normalisation: group or instance norm would divide out the energy of the
    texture, which is just what a blurred reconstruction lacks.
    """

    def __init__(self, image_channels: int, channels: int):
        super().__init__(
            convolution(image_channels, channels),
            nn.LeakyReLU(0.2),
            convolution(channels, 2 * channels, kernel=4, stride=2),
            nn.LeakyReLU(0.2),
            convolution(2 * channels, 4 * channels, kernel=4, stride=2),
            nn.LeakyReLU(0.2),
            convolution(4 * channels, 4 * channels),
            nn.LeakyReLU(0.2),
            convolution(4 * channels, 1),
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        return [super().forward(images)]


class FeatureDiscriminator(nn.Module):
    """A small head on each of a trained trunk's features (Sauer et al. 2021, Projected GANs; Kumari et al. 2022).

    A trunk that has seen a million photographs knows textures that a discriminator of our size would never find, and
    only the heads are trained. Its features come per position in unit length, [b, width, h, w] each; a head gives one
    logit for each position, [b, 1, h, w].
    """

    def __init__(self, widths: Sequence[int], channels: int):
        super().__init__()
        # From unit length to unit variance, what convolutions are initialised for.
        self.scales = [math.sqrt(width) for width in widths]
        self.heads = nn.ModuleList(
            nn.Sequential(
                convolution(width, channels, kernel=1),
                nn.LeakyReLU(0.2),
                convolution(channels, channels),
                nn.LeakyReLU(0.2),
                # Its slope is left free: bounded, the logits of two images that differ little could not part.
                nn.Conv2d(channels, 1, 3, padding=1),
            )
            for width in widths
        )

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        return [head(scale * feature) for head, scale, feature in zip(self.heads, self.scales, features, strict=True)]


def hinge_discriminator_loss(real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """Hinge loss (Lim and Ye 2017) of the logits of every head, averaged over the heads."""
    losses = [F.relu(1.0 - r.float()).mean() + F.relu(1.0 + f.float()).mean() for r, f in zip(real, fake, strict=True)]
    return 0.5 * sum(losses) / len(losses)


def hinge_generator_loss(fake: Sequence[Tensor]) -> Tensor:
    """What the decoder adds to its loss: raise the logits of its own images."""
    return -sum(logits.float().mean() for logits in fake) / len(fake)
