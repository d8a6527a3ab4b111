"""The patch discriminator that judges the autoencoder's reconstructions."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


class PatchDiscriminator(nn.Sequential):
    """[b, c, h, w] -> [b, 1, h/4, w/4]: one logit for each overlapping patch (Isola et al. 2017).

    Spectral normalisation (Miyato et al. 2018) and no feature normalisation: group or instance norm would divide out
    the energy of the texture, which is just what a blurred reconstruction lacks.

    Args:
        image_channels: Of the images.
        channels: Width of the first layer.
        gain: What the logits are multiplied by. The norms of one bound how far two similar images' logits can be apart:
            where that is far within the hinge's margins, the loss stays at 1 and no patch is ever done with.
    """

    def __init__(self, image_channels: int, channels: int, gain: float = 1.0):
        def convolution(i: int, o: int, stride: int = 1) -> nn.Module:
            return spectral_norm(nn.Conv2d(i, o, 4 if stride == 2 else 3, stride, 1))

        super().__init__(
            convolution(image_channels, channels),
            nn.LeakyReLU(0.2),
            convolution(channels, 2 * channels, 2),
            nn.LeakyReLU(0.2),
            convolution(2 * channels, 4 * channels, 2),
            nn.LeakyReLU(0.2),
            convolution(4 * channels, 4 * channels),
            nn.LeakyReLU(0.2),
            convolution(4 * channels, 1),
        )
        self.gain = gain

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * super().forward(x)


def hinge_discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Hinge loss of the discriminator's logits (Lim and Ye 2017)."""
    return 0.5 * (F.relu(1.0 - real).mean() + F.relu(1.0 + fake).mean())


def hinge_generator_loss(fake: Tensor) -> Tensor:
    """What the decoder adds to its loss: raise the logits of its own images."""
    return -fake.mean()
