"""The discriminator that judges reconstructions by what the LPIPS trunk finds in them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

# Share of the old in the running power of each feature, per step.
MEAN_SQUARE_DECAY = 0.99


class FeatureDiscriminator(nn.Module):
    """Feature maps [b, c_l, h_l, w_l] of each layer l -> their logits [b, 1, h_l, w_l].

    A small head on each layer of a frozen, pretrained network (Projected GAN, Sauer et al. 2021, without its random
    mixing of layers). LPIPS asks a reconstruction for the features of its own photograph, and where they cannot be
    known is content with their mean; this asks for features such as photographs have.

    Args:
        widths: Channels of each layer.
        channels: Width of the heads.
    """

    def __init__(self, widths: Sequence[int], channels: int):
        super().__init__()

        def head(width: int) -> nn.Module:
            return nn.Sequential(
                spectral_norm(nn.Conv2d(width, channels, 1)),
                nn.LeakyReLU(0.2),
                spectral_norm(nn.Conv2d(channels, channels, 3, padding=1)),
                nn.LeakyReLU(0.2),
                spectral_norm(nn.Conv2d(channels, 1, 3, padding=1)),
            )

        self.heads = nn.ModuleList(head(width) for width in widths)
        # Running mean square of each feature over photographs, by which it comes to unit scale. Not the norm at each
        # position, as in LPIPS: that would divide out how much texture there is.
        for layer, width in enumerate(widths):
            self.register_buffer(f"power_{layer}", torch.zeros(width))

    @property
    def mean_squares(self) -> list[Tensor]:
        """The running mean square [c_l] of each layer's features over photographs; 0 before the first."""
        return [getattr(self, f"power_{layer}") for layer in range(len(self.heads))]

    @torch.no_grad()
    def update_mean_squares(self, squares: Sequence[Tensor]) -> None:
        """Take in the mean square [c_l] of each layer's features over some photographs."""
        for power, found in zip(self.mean_squares, squares, strict=True):
            power.copy_(torch.where(power.any(), MEAN_SQUARE_DECAY * power + (1.0 - MEAN_SQUARE_DECAY) * found, found))

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """The logits of each layer's features."""
        logits = []
        for head, power, x in zip(self.heads, self.mean_squares, features, strict=True):
            # A feature that photographs hardly ever have is not magnified without bound.
            scale = torch.where(power.any(), (power + 0.01 * power.mean()).clamp_min(1e-12).rsqrt(), 1.0)
            logits.append(head(x * scale[:, None, None]))
        return logits


def feature_hinge_discriminator_loss(real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """Hinge loss [b] of the discriminator for each image, the mean over its layers of the mean over positions."""
    pairs = zip(real, fake, strict=True)
    return torch.stack(
        [0.5 * (_mean_per_image(F.relu(1.0 - r)) + _mean_per_image(F.relu(1.0 + f))) for r, f in pairs]
    ).mean(dim=0)


def feature_hinge_generator_loss(fake: Sequence[Tensor]) -> Tensor:
    """What the decoder adds to its loss for each image [b]: raise the logits at every layer."""
    return -torch.stack([_mean_per_image(logits) for logits in fake]).mean(dim=0)


def _mean_per_image(x: Tensor) -> Tensor:
    return x.float().flatten(1).mean(dim=1)
