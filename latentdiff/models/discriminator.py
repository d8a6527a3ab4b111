"""The patch discriminator that judges the autoencoder's reconstructions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from latentdiff.models.colour import blur, luma

# Standard deviation, in [-1, 1], that the two finest bands of a photograph's detail have about.
BAND_SCALE = 0.05


class PatchDiscriminator(nn.Module):
    """[b, c, h, w] in [-1, 1] -> [b, 1, h/4, w/4]: one logit for each overlapping patch (Isola et al. 2017).

    Spectral normalisation (Miyato et al. 2018) and no feature normalisation: group or instance norm would divide out
    the energy of the texture, which is just what a blurred reconstruction lacks.

    Args:
        image_channels: Of the images.
        channels: Width of the first layer.
        gain: What the logits are multiplied by. The norms of one bound how far two similar images' logits can be apart:
            where that is far within the hinge's margins, the loss stays at 1 and no patch is ever done with.
        bands: Show it the two finest bands of the Laplacian pyramid (Burt and Adelson 1983, not decimated) of the
            image's luma beside the image, at unit scale: reconstructions are wrong there, in a thousandth of the
            image's power. Not of its colours: JPEG keeps little of their fine detail, and one that was shown it told
            photographs of faces from reconstructions by that alone.
    """

    def __init__(self, image_channels: int, channels: int, gain: float = 1.0, bands: bool = False):
        super().__init__()

        def convolution(i: int, o: int, stride: int = 1) -> nn.Module:
            return spectral_norm(nn.Conv2d(i, o, 4 if stride == 2 else 3, stride, 1))

        self.layers = nn.Sequential(
            convolution(image_channels + (2 if bands else 0), channels),
            nn.LeakyReLU(0.2),
            convolution(channels, 2 * channels, 2),
            nn.LeakyReLU(0.2),
            convolution(2 * channels, 4 * channels, 2),
            nn.LeakyReLU(0.2),
            convolution(4 * channels, 4 * channels),
            nn.LeakyReLU(0.2),
            convolution(4 * channels, 1),
        )
        self.gain, self.bands = gain, bands

    def forward(self, x: Tensor, offset: tuple[int, int] | None = None) -> Tensor:
        """Logits of images, whose first row and column lie where ``offset`` (each of 0 to 3) says on the grid of four
        pixels that the strides make; three rows and three columns of zeros then surround them."""
        x = append_detail_bands(x) if self.bands else x
        if offset is not None:
            top, left = offset
            x = F.pad(x, (left, 3 - left, top, 3 - top))
        return self.gain * self.layers(x)


def append_detail_bands(x: Tensor) -> Tensor:
    """Images [b, c, h, w] -> [b, c + 2, h, w]: the image, what a blur takes from its luma, and a second, both enlarged.

    In the images' own precision also under autocast: in bf16 the bands would be rounding errors.
    """
    with torch.autocast(x.device.type, enabled=False):
        grey = luma(x)
        low = blur(grey)
        return torch.cat([x, (grey - low) / BAND_SCALE, (low - blur(low)) / BAND_SCALE], dim=1)


def hinge_discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Hinge loss of the discriminator's logits (Lim and Ye 2017)."""
    return 0.5 * (F.relu(1.0 - real).mean() + F.relu(1.0 + fake).mean())


def hinge_generator_loss(fake: Tensor) -> Tensor:
    """What the decoder adds to its loss: raise the logits of its own images."""
    return -fake.mean()
