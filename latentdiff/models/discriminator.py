"""The patch discriminators that judge the autoencoder's reconstructions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

SLOPE = 0.2  # of the leaky ReLUs
# Standard deviation, in [-1, 1], that a band of a photograph's detail has about: the two finest of a Laplacian pyramid.
BAND_SCALE = 0.05


class PatchDiscriminator(nn.Module):
    """[b, c, h, w] in [-1, 1] -> [b, 1, h/4, w/4]: one logit for each overlapping patch (Isola et al. 2017).

    No feature normalisation: group or instance norm would divide out the energy of the texture, which is just what a
    blurred reconstruction lacks, and batch norm would make the loss depend on how a batch is cut into parts.

    Args:
        image_channels: Of the images.
        channels: Width of the first layer.
        kind: ``spectral`` has spectral normalisation (Miyato et al. 2018). ``bands`` has none, but sees the two finest
            bands of the image's Laplacian pyramid (Burt and Adelson 1983, not decimated) beside it, at unit scale:
            that is where a reconstruction is wrong, with a thousandth of the power that the coarse structure has.
        gain: What the logits are multiplied by. The norms of one bound how far two similar images' logits can be apart:
            where that is far within the hinge's margins, the loss stays at 1 and no patch is ever done with.
    """

    def __init__(self, image_channels: int, channels: int, kind: str = "spectral", gain: float = 1.0):
        super().__init__()
        self.kind, self.gain = kind, gain
        self.layers = nn.Sequential(
            self._convolution(image_channels * (3 if kind == "bands" else 1), channels),
            nn.LeakyReLU(SLOPE),
            self._convolution(channels, 2 * channels, 2),
            nn.LeakyReLU(SLOPE),
            self._convolution(2 * channels, 4 * channels, 2),
            nn.LeakyReLU(SLOPE),
            self._convolution(4 * channels, 4 * channels),
            nn.LeakyReLU(SLOPE),
            self._convolution(4 * channels, 1),
        )

    def _convolution(self, i: int, o: int, stride: int = 1) -> nn.Module:
        layer = nn.Conv2d(i, o, 4 if stride == 2 else 3, stride, 1)
        if self.kind == "spectral":
            return spectral_norm(layer)
        # Signals keep their size from layer to layer (He et al. 2015); torch's own initialisation shrinks them.
        nn.init.kaiming_normal_(layer.weight, a=SLOPE)
        nn.init.zeros_(layer.bias)
        return layer

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * self.layers(with_bands(x) if self.kind == "bands" else x)


def with_bands(x: Tensor) -> Tensor:
    """Images [b, c, h, w] -> [b, 3c, h, w]: the image, what a blur takes from it, and a second, both enlarged."""
    low = _blur(x)
    return torch.cat([x, (x - low) / BAND_SCALE, (low - _blur(low)) / BAND_SCALE], dim=1)


def _blur(x: Tensor) -> Tensor:
    """By the binomial of five taps, along each side."""
    taps = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], device=x.device, dtype=x.dtype) / 16.0
    kernel = (taps[:, None] * taps).expand(x.shape[1], 1, 5, 5)
    return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), kernel, groups=x.shape[1])


def hinge_discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Hinge loss of the discriminator's logits (Lim and Ye 2017)."""
    return 0.5 * (F.relu(1.0 - real).mean() + F.relu(1.0 + fake).mean())


def hinge_generator_loss(fake: Tensor) -> Tensor:
    """What the decoder adds to its loss: raise the logits of its own images."""
    return -fake.mean()
