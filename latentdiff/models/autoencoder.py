"""The convolutional VAE: images to the moments of a Gaussian posterior, and latents back to images."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from latentdiff.config import AutoencoderConfig
from latentdiff.errors import ConfigError
from latentdiff.models.colour import blur_chroma
from latentdiff.models.layers import (
    Downsample,
    ResBlock,
    SelfAttention,
    Upsample,
    group_norm,
    halved_side,
    norm_silu,
    zero_init,
)
from latentdiff.models.memory_layout import to_contiguous_layout, to_convolution_layout
from latentdiff.models.patches import pad_to_patches, patch_stem, unfold_patches
from latentdiff.models.size import check_size

# Bounds of the posterior's log-variance: exp stays finite, and no dimension can become a delta.
LOGVAR_RANGE = (-30.0, 10.0)


class Encoder(nn.Module):
    """The encoder: images to the moments of the posterior.

    Args:
        image_channels: Number of channels of the images.
        config: Widths and depths.
    """

    def __init__(self, image_channels: int, config: AutoencoderConfig):
        super().__init__()
        widths = config.channels
        self.patch = config.patch
        self.stem = patch_stem(image_channels, widths[0], self.patch)
        layers: list[nn.Module] = []
        for level, width in enumerate(widths):
            layers += [ResBlock(width, width) for _ in range(config.encoder_blocks)]
            if level + 1 < len(widths):
                layers.append(Downsample(width, widths[level + 1]))
        if config.attention:
            layers += [SelfAttention(widths[-1]), ResBlock(widths[-1], widths[-1])]
        self.layers = nn.Sequential(*layers)
        self.norm = group_norm(widths[-1])
        self.head = nn.Conv2d(widths[-1], 2 * config.latent_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the moments [b, 2 * latent_channels, h', w'], mean then log-variance, of images [b, c, h, w]."""
        x = pad_to_patches(x, self.patch)
        x = self.layers(to_convolution_layout(self.stem(to_convolution_layout(x))))
        return to_contiguous_layout(self.head(norm_silu(self.norm, x)))


class Decoder(nn.Module):
    """The decoder: latents to images.

    Args:
        image_channels: Number of channels of the images.
        image_size: Height and width of the images.
        sizes: Height and width at each resolution, finest first, in patches.
        config: Widths and depths.
    """

    def __init__(
        self,
        image_channels: int,
        image_size: tuple[int, int],
        sizes: list[tuple[int, int]],
        config: AutoencoderConfig,
    ):
        super().__init__()
        widths = config.channels
        self.image_size, self.patch, self.sizes = image_size, config.patch, sizes
        self.smooth_colours = config.smooth_colours
        self.stem = nn.Conv2d(config.latent_channels, widths[-1], 3, padding=1)
        middle = [ResBlock(widths[-1], widths[-1]), SelfAttention(widths[-1])] if config.attention else []
        self.middle = nn.Sequential(*middle)
        self.blocks = nn.ModuleList(
            nn.Sequential(*[ResBlock(width, width) for _ in range(config.decoder_blocks)]) for width in widths
        )
        self.ups = nn.ModuleList(Upsample(widths[i + 1], widths[i]) for i in range(len(widths) - 1))
        self.norm = group_norm(widths[0])
        self.head = nn.Conv2d(widths[0], image_channels * config.patch**2, 3, padding=1)
        self.refine = None
        if config.refine_channels:
            self.refine = Refiner(image_channels, widths[0], config.patch, config.refine_channels)

    def forward(self, z: Tensor) -> Tensor:
        """Return images [b, c, h, w], about in [-1, 1], of latents [b, latent_channels, h', w']."""
        x = self.blocks[-1](self.middle(to_convolution_layout(self.stem(to_convolution_layout(z)))))
        for level in reversed(range(len(self.ups))):
            x = self.blocks[level](self.ups[level](x, self.sizes[level]))
        height, width = self.image_size
        x = norm_silu(self.norm, x)
        image = unfold_patches(self.head(x), self.patch, height, width)
        image = to_contiguous_layout(image if self.refine is None else image + self.refine(image, x))
        return blur_chroma(image.float()) if self.smooth_colours else image


class Refiner(nn.Module):
    """A residual network on the decoded pixels, which also sees the decoder's last features.

    Its output starts at zero: a trained decoder that gains the network still gives the same images.

    Args:
        image_channels: Number of channels of the images.
        features: Number of channels of the decoder's last features.
        patch: Side of a patch in pixels.
        channels: Width of the network.
    """

    def __init__(self, image_channels: int, features: int, patch: int, channels: int):
        super().__init__()
        self.patch = patch
        self.unfold = nn.Conv2d(features, channels * patch**2, 3, padding=1)
        self.layers = nn.Sequential(
            nn.Conv2d(image_channels + channels, channels, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.SiLU(),
            zero_init(nn.Conv2d(channels, image_channels, 3, padding=1)),
        )

    def forward(self, image: Tensor, x: Tensor) -> Tensor:
        """Return the residual of ``image`` [b, c, h, w], given features ``x`` [b, f, h / patch, w / patch]."""
        height, width = image.shape[-2:]
        unfolded = unfold_patches(self.unfold(x), self.patch, height, width)
        return self.layers(torch.cat([image, unfolded], dim=1))


class Autoencoder(nn.Module):
    """A VAE with residual blocks (Kingma and Welling 2014; the shape of Rombach et al. 2022, small).

    Args:
        image_shape: Channels, height and width of the images; sides need not be divisible by anything.
        config: Widths and depths.

    Raises:
        ConfigError: The settings cannot be built, or do not fit the images.
    """

    def __init__(self, image_shape: tuple[int, int, int], config: AutoencoderConfig):
        super().__init__()
        if not config.channels or config.latent_channels < 1:
            raise ConfigError("an autoencoder needs at least one resolution and one latent channel")
        if config.smooth_colours and (image_shape[0] != 3 or min(image_shape[1:]) < 3):
            raise ConfigError(
                f"smooth_colours is for RGB images of at least 3x3 pixels, not {'x'.join(map(str, image_shape))}"
            )
        if config.patch < 1:
            raise ConfigError(f"patch, a side in pixels, must be at least 1, not {config.patch}")
        check_size(
            lambda: Autoencoder(image_shape, config),
            (*config.channels, config.refine_channels),
            config.encoder_blocks + config.decoder_blocks,
        )
        channels, height, width = image_shape
        self.image_shape = (channels, height, width)
        sizes = [(-(-height // config.patch), -(-width // config.patch))]
        for _ in config.channels[1:]:
            sizes.append((halved_side(sizes[-1][0]), halved_side(sizes[-1][1])))
        self.latent_shape = (config.latent_channels, *sizes[-1])
        self.encoder = Encoder(image_shape[0], config)
        self.decoder = Decoder(image_shape[0], (height, width), sizes, config)

    @property
    def compression(self) -> float:
        """Ratio of the number of values in an image to that in its latent."""
        return math.prod(self.image_shape) / math.prod(self.latent_shape)

    def encode(self, x: Tensor) -> Tensor:
        """Return the moments, fp32 [b, 2 * latent_channels, h', w'], of images ``x`` [b, c, h, w] in [-1, 1].

        The first half of the channels is the mean, the second the log-variance, clamped to ``LOGVAR_RANGE``.
        """
        mean, logvar = self.encoder(x).float().chunk(2, dim=1)
        return torch.cat([mean, logvar.clamp(*LOGVAR_RANGE)], dim=1)

    def decode(self, z: Tensor) -> Tensor:
        """Return images, fp32 [b, c, h, w] about in [-1, 1], of raw (not standardised) latents ``z``."""
        return self.decoder(z).float()


def sample_posterior(moments: Tensor, noise: Tensor) -> Tensor:
    """Sample latents from the posterior as mean + std * noise (Kingma and Welling 2014).

    Args:
        moments: Mean and log-variance, [b, 2 * latent_channels, h', w'].
        noise: Standard normal noise, [b, latent_channels, h', w'].

    Returns: latents of ``noise``'s shape.
    """
    mean, logvar = moments.chunk(2, dim=1)
    return mean + torch.exp(0.5 * logvar) * noise


def kl_per_dim(moments: Tensor) -> Tensor:
    """Return KL(posterior || N(0, I)) in nats, averaged over the latent's dimensions and the batch.

    Args:
        moments: Mean and log-variance, [b, 2 * latent_channels, h', w'].
    """
    mean, logvar = moments.chunk(2, dim=1)
    return 0.5 * (mean.square() + logvar.exp() - 1.0 - logvar).mean()
