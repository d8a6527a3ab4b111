"""A discriminator on the features of the LPIPS trunk."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

# Decay of the running mean square of each feature, per step.
MEAN_SQUARE_DECAY = 0.99


class FeatureDiscriminator(nn.Module):
    """A small head on each layer of a frozen, pretrained network (Projected GAN, Sauer et al. 2021, without mixing).

    LPIPS compares a reconstruction's features with those of its own photograph. Where those cannot be known, their mean
    is optimal. The discriminator asks instead for features that photographs have.

    Args:
        widths: Number of channels of each layer.
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
        # Running mean square of each feature over photographs, which scales the feature to unit size. The norm at each
        # position, as in LPIPS, would remove the amount of texture.
        for layer, width in enumerate(widths):
            self.register_buffer(f"power_{layer}", torch.zeros(width))

    @property
    def mean_squares(self) -> list[Tensor]:
        """Running mean square [c_l] of each layer's features over photographs; 0 before the first update."""
        return [getattr(self, f"power_{layer}") for layer in range(len(self.heads))]

    @torch.no_grad()
    def update_mean_squares(self, squares: Sequence[Tensor]) -> None:
        """Update the running mean squares with those of some photographs, [c_l] for each layer."""
        for power, found in zip(self.mean_squares, squares, strict=True):
            power.copy_(torch.where(power.any(), MEAN_SQUARE_DECAY * power + (1.0 - MEAN_SQUARE_DECAY) * found, found))

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return the logits [b, 1, h_l, w_l] of each layer's features [b, c_l, h_l, w_l]."""
        logits = []
        for head, power, x in zip(self.heads, self.mean_squares, features, strict=True):
            # The added share of the mean bounds the factor of features that photographs hardly ever have.
            scale = torch.where(power.any(), (power + 0.01 * power.mean()).clamp_min(1e-12).rsqrt(), 1.0)
            logits.append(head(x * scale[:, None, None]))
        return logits


def feature_hinge_discriminator_loss(real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """Return the discriminator's hinge loss of each image, [b]: the mean over positions, then over layers."""
    pairs = zip(real, fake, strict=True)
    return torch.stack(
        [0.5 * (_mean_per_image(F.relu(1.0 - r)) + _mean_per_image(F.relu(1.0 + f))) for r, f in pairs]
    ).mean(dim=0)


def feature_hinge_generator_loss(fake: Sequence[Tensor]) -> Tensor:
    """Return the generator's hinge loss of each image, [b]: the negative mean over positions, then over layers."""
    return -torch.stack([_mean_per_image(logits) for logits in fake]).mean(dim=0)


def _mean_per_image(x: Tensor) -> Tensor:
    return x.float().flatten(1).mean(dim=1)
