"""The patch discriminator that judges the autoencoder's reconstructions."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from latentdiff.models.layers import group_norm


class PatchDiscriminator(nn.Sequential):
    """[b, c, h, w] -> [b, 1, h/4, w/4]: one logit for each overlapping patch (Isola et al. 2017).

    Group normalisation instead of batch normalisation, so that an image's logits do not depend on its batch.
    """

    def __init__(self, image_channels: int, channels: int):
        def block(i: int, o: int, stride: int) -> list[nn.Module]:
            return [nn.Conv2d(i, o, 4 if stride == 2 else 3, stride, 1), group_norm(o), nn.LeakyReLU(0.2)]

        super().__init__(
            nn.Conv2d(image_channels, channels, 3, 1, 1),
            nn.LeakyReLU(0.2),
            *block(channels, 2 * channels, 2),
            *block(2 * channels, 4 * channels, 2),
            *block(4 * channels, 4 * channels, 1),
            nn.Conv2d(4 * channels, 1, 3, 1, 1),
        )


def hinge_discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Hinge loss of the discriminator's logits (Lim and Ye 2017)."""
    return 0.5 * (F.relu(1.0 - real).mean() + F.relu(1.0 + fake).mean())


def hinge_generator_loss(fake: Tensor) -> Tensor:
    """What the decoder adds to its loss: raise the logits of its own images."""
    return -fake.mean()
