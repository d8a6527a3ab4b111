"""The patch discriminator of the autoencoder's adversarial loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from latentdiff.models.colour import blur, luma

# Standard deviation, in [-1, 1], that the two finest bands of a photograph's detail have about.
BAND_SCALE = 0.05


class PatchDiscriminator(nn.Module):
    """A discriminator with one logit for each overlapping patch of an image (Isola et al. 2017).

    The layers have spectral normalisation (Miyato et al. 2018) and no feature normalisation. Group or instance norm
    would remove the energy of the texture, and that is what a blurred reconstruction lacks.

    Args:
        image_channels: Number of channels of the images.
        channels: Width of the first layer.
        gain: Factor on the logits. Spectral norms of 1 bound the difference between the logits of two similar images.
            Where the bound is far below the margins of the hinge loss, the loss stays near 1 for all patches.
        bands: Whether the network also sees the two finest bands of the Laplacian pyramid (Burt and Adelson 1983, not
            decimated) of the luma, at unit scale. Reconstructions are wrong there, in a thousandth of the image's
            power. Bands of the chroma would mislead: JPEG keeps little fine chroma, which alone gives photographs away.
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
        """Return the logits [b, 1, h / 4, w / 4] of images ``x`` [b, c, h, w] in [-1, 1].

        Args:
            x: The images.
            offset: Row and column, each from 0 to 3, at which the images start on the grid of 4x4 pixels of the
                strides. Three rows and three columns of zeros are then added around the images.
        """
        x = append_detail_bands(x) if self.bands else x
        if offset is not None:
            top, left = offset
            x = F.pad(x, (left, 3 - left, top, 3 - top))
        return self.gain * self.layers(x)


def append_detail_bands(x: Tensor) -> Tensor:
    """Append the two finest bands of luma detail, at unit scale, to images [b, c, h, w]: [b, c + 2, h, w].

    A band is what a blur removes. Under autocast too, the images' own precision is used: bf16 would round the bands
    away.
    """
    with torch.autocast(x.device.type, enabled=False):
        grey = luma(x)
        low = blur(grey)
        return torch.cat([x, (grey - low) / BAND_SCALE, (low - blur(low)) / BAND_SCALE], dim=1)


def hinge_discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Return the discriminator's hinge loss of its logits of real and fake images (Lim and Ye 2017), a scalar."""
    return 0.5 * (F.relu(1.0 - real).mean() + F.relu(1.0 + fake).mean())


def hinge_generator_loss(fake: Tensor) -> Tensor:
    """Return the generator's hinge loss of the logits of its images, a scalar: the negative mean."""
    return -fake.mean()
