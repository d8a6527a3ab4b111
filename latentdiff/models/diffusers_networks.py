"""Networks of diffusers behind the interfaces of our own, so that sampling, training and engines take them as they are.

diffusers is an extra. It is imported when such a network is built.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentdiff.config import AutoencoderConfig, to_dict
from latentdiff.config.diffusers_models import (
    AutoencoderKLConfig,
    AutoencoderTinyConfig,
    DiffusersAutoencoderConfig,
    DiffusersNetworkConfig,
    UNet2DConfig,
)
from latentdiff.errors import ConfigError
from latentdiff.extras import import_extra
from latentdiff.models.autoencoder import LOGVAR_RANGE, Autoencoder
from latentdiff.models.conditioning import ConditionedNetwork
from latentdiff.models.size import check_size


def build_module(config: UNet2DConfig | AutoencoderKLConfig | AutoencoderTinyConfig) -> Any:
    """Return a new module of diffusers.

    Args:
        config: Its arguments.

    Raises :class:`~latentdiff.errors.ConfigError` without the extra ``diffusers``, and for arguments that diffusers
    refuses.
    """
    diffusers = import_extra("diffusers", "diffusers")
    kind = {
        UNet2DConfig: "UNet2DModel",
        AutoencoderKLConfig: "AutoencoderKL",
        AutoencoderTinyConfig: "AutoencoderTiny",
    }[type(config)]
    known = {field.name for field in dataclasses.fields(config)} - _NOT_ARGUMENTS.get(kind, set())
    arguments = {name: value for name, value in to_dict(config).items() if name in known}
    try:
        return getattr(diffusers, kind)(**arguments)
    except (ValueError, TypeError, AssertionError) as error:
        raise ConfigError(f"diffusers cannot build this {kind}: {' '.join(str(error).split())[:200]}") from error


# What a configuration of diffusers holds and its constructor does not take.
_NOT_ARGUMENTS = {"AutoencoderTiny": {"block_out_channels"}}


class DiffusersUNet(ConditionedNetwork):
    """diffusers' UNet2DModel as a denoising network.

    Args:
        num_classes: Number of classes; 0 for an unconditional network. Where the table of classes has a row more, that
            is the one for "no class".
        config: The arguments of UNet2DModel.

    Attributes:
        null_label: As of every network. The table of a model that was trained without hidden classes has no such row,
            and such a model is never asked for it.
        unet: The UNet2DModel.
    """

    def __init__(self, num_classes: int, config: DiffusersNetworkConfig):
        nn.Module.__init__(self)  # the embeddings of time and class are diffusers' own
        rows = config.unet.num_class_embeds
        if rows is not None and num_classes not in (rows, rows - 1):
            raise ConfigError(f"this UNet2DModel has rows for {rows} classes, and there are {num_classes}")
        self.conditioning = config.conditioning
        self.null_label = num_classes if rows is not None else None
        self.classes = self.fourier = self.tokenizer = self.text = None
        check_size(lambda: build_module(config.unet), config.channels, config.num_res_blocks)
        self.unet = build_module(config.unet)
        embedding = config.unet.time_embedding_dim or 4 * config.unet.block_out_channels[0]
        self.embedding_channels, self.time_channels = embedding, config.unet.block_out_channels[0]

    def forward(self, x: Tensor, time: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the network's output [b, out_channels, h, w]; arguments as of :class:`~latentdiff.models.unet.UNet`.

        Raises :class:`~latentdiff.errors.ConfigError` where labels are missing, or given to an unconditional network.
        """
        if (labels is None) != (self.null_label is None):
            raise ConfigError("a class-conditional network needs labels, an unconditional one takes none")
        return self.unet(x, time, class_labels=labels, return_dict=False)[0]


def check_sides(config: DiffusersNetworkConfig, shape: tuple[int, int, int]) -> None:
    """Raise ConfigError for images or latents [c, h, w] whose sides a UNet2DModel cannot halve and restore."""
    factor, sides = config.unet.side_factor, shape[1:]
    if any(side % factor for side in sides):
        nearest = " or ".join(
            str(factor * number) for number in sorted({max(1, sides[0] // factor), -(-sides[0] // factor)})
        )
        raise ConfigError(
            f"this UNet2DModel halves a side {len(config.channels) - 1} times and restores even ones alone, so a side "
            f"must be divisible by {factor}, not {'x'.join(map(str, sides))}: take --data.size {nearest}"
        )


def check_colours(config: DiffusersAutoencoderConfig, image_shape: tuple[int, int, int]) -> None:
    """Raise ConfigError for images [c, h, w] of other colours than an autoencoder of diffusers takes and gives."""
    vae, channels = config.vae, image_shape[0]
    if vae.in_channels != vae.out_channels or channels not in (vae.in_channels, 1):
        raise ConfigError(
            f"this {config.kind} takes images of {vae.in_channels} channels and gives {vae.out_channels}; these "
            f"have {channels}: load them with --data.colour {'rgb' if vae.in_channels == 3 else 'grey'}"
        )


class DiffusersAutoencoder(Autoencoder):
    """An AutoencoderKL or AutoencoderTiny as an autoencoder of images of any size.

    Sides that the network cannot halve evenly are filled up with copies of the last row and column, and cut off again
    after decoding. Grey images go through a network of colour as three equal channels, whose mean comes back.

    Args:
        image_shape: Channels, height and width of the images.
        config: The arguments of diffusers' class.

    Raises :class:`~latentdiff.errors.ConfigError` for images of other colours than the network's.
    """

    def __init__(self, image_shape: tuple[int, int, int], config: DiffusersAutoencoderConfig):
        nn.Module.__init__(self)
        channels, height, width = image_shape
        vae, factor = config.vae, config.side_factor
        check_colours(config, image_shape)
        self.image_shape = (channels, height, width)
        self.padded = (-(-height // factor) * factor, -(-width // factor) * factor)
        self.latent_shape = (vae.latent_channels, self.padded[0] // factor, self.padded[1] // factor)
        self.vae_channels, self.is_tiny = vae.in_channels, config.kind == "AutoencoderTiny"
        check_size(lambda: build_module(vae), vae.widths, 2 * vae.blocks)
        whole = build_module(vae)
        # Its parts, not the whole: the names of the decoder's weights are then as in our own autoencoder.
        self.encoder, self.decoder = whole.encoder, whole.decoder
        self.quant_conv = getattr(whole, "quant_conv", None)
        self.post_quant_conv = getattr(whole, "post_quant_conv", None)

    def encode(self, x: Tensor) -> Tensor:
        """Return the moments, fp32 [b, 2 * latent_channels, h', w'], of images ``x`` [b, c, h, w] in [-1, 1].

        An AutoencoderTiny gives one latent: its log-variance is the least that there is.
        """
        x = x.expand(-1, self.vae_channels, -1, -1)
        fill = self.padded[0] - x.shape[-2], self.padded[1] - x.shape[-1]
        if any(fill):
            x = F.pad(x, (0, fill[1], 0, fill[0]), mode="replicate")
        x = self.encoder(x)
        if self.is_tiny:
            mean = x.float()
            return torch.cat([mean, torch.full_like(mean, LOGVAR_RANGE[0])], dim=1)
        x = x if self.quant_conv is None else self.quant_conv(x)
        mean, logvar = x.float().chunk(2, dim=1)
        return torch.cat([mean, logvar.clamp(*LOGVAR_RANGE)], dim=1)

    def decode(self, z: Tensor) -> Tensor:
        """Return images, fp32 [b, c, h, w] about in [-1, 1], of raw (not standardised) latents ``z``."""
        z = z if self.post_quant_conv is None else self.post_quant_conv(z)
        image = self.decoder(z)[..., : self.image_shape[1], : self.image_shape[2]].float()
        return image if self.image_shape[0] == self.vae_channels else image.mean(dim=1, keepdim=True)


def build_autoencoder(image_shape: tuple[int, int, int], config: AutoencoderConfig) -> Autoencoder:
    """Return a new autoencoder, ours or diffusers', as its settings say; raises as their classes do."""
    if isinstance(config, DiffusersAutoencoderConfig):
        return DiffusersAutoencoder(image_shape, config)
    return Autoencoder(image_shape, config)
