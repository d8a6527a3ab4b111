"""Other people's networks, of our networks' shape and size."""

from __future__ import annotations

import importlib
import importlib.metadata
import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from types import ModuleType

import torch
from torch import nn

from latentdiff.config import AutoencoderConfig, NetworkConfig
from latentdiff.errors import ConfigError
from latentdiff.models.network import build_network

TOLERANCE = 0.05  # Of the number of parameters.
# How much wider or narrower than ours a peer may be.
SCALES = [0.25 * 16 ** (i / 600) for i in range(601)]
CLASSES = 10

DIFFUSERS, DDP = "diffusers", "denoising-diffusion-pytorch"
MODULES = {DIFFUSERS: "diffusers", DDP: "denoising_diffusion_pytorch"}


class Peers:
    """Who is here to be compared with; who is not is left out with one line.

    Args:
        wanted: False leaves everybody out.

    Attributes:
        left_out: Why somebody is not measured, by name.
        versions: Of those who are.
    """

    def __init__(self, wanted: bool = True):
        self.wanted = wanted
        self.left_out: dict[str, str] = {}
        self.versions: dict[str, str] = {}

    def get(self, name: str) -> ModuleType | None:
        """The package of one of ``MODULES``, or None."""
        if not self.wanted or name in self.left_out:
            return None
        try:
            module = importlib.import_module(MODULES[name])
        except ImportError:
            self.leave_out(name, 'not installed: pip install "latentdiff[peers]"')
            return None
        self.versions[name] = getattr(module, "__version__", "") or importlib.metadata.version(name)
        return module

    def leave_out(self, name: str, reason: str) -> None:
        """Note, and say once, why somebody is not measured."""
        if name not in self.left_out:
            print(f"{name} is left out: {reason}", flush=True)
        self.left_out[name] = reason


def parameters(network: nn.Module) -> int:
    """Number of a network's parameters."""
    return sum(p.numel() for p in network.parameters())


def counted_parameters(build: Callable[[], nn.Module]) -> int:
    """Number of the parameters of what ``build`` builds, without memory for them."""
    with torch.device("meta"):
        return parameters(build())


def equal_widths(
    count: Callable[[tuple[int, ...]], int],
    base: Sequence[int],
    wanted: int,
    multiples: Sequence[int] = (32, 16, 8, 4),
    tolerance: float = TOLERANCE,
) -> tuple[int, ...]:
    """Widths in about the ratio of ``base`` that give ``wanted`` parameters within ``tolerance``.

    Large multiples first: processors are fastest with them, and a peer is not to be slowed by an odd width.

    Args:
        count: Parameters of a network of such widths; it rises with them.
        base: Our own widths.
        wanted: Our own parameters.
        multiples: What every width is to be a multiple of; the next one is tried where none comes close enough.
        tolerance: As a share of ``wanted``.

    Raises ValueError where no widths come close enough.
    """
    count = cache(count)  # Building a network takes a twentieth of a second, and many are asked for twice.
    best, error = (), math.inf
    for multiple in multiples:
        shapes = list(dict.fromkeys(tuple(max(1, round(w * s / multiple)) * multiple for w in base) for s in SCALES))
        index = bisect_left(shapes, wanted, key=count)
        for shape in shapes[max(0, index - 1) : index + 1]:
            off = abs(count(shape) / wanted - 1)
            if off < error:
                best, error = shape, off
        if error <= tolerance:
            return best
    raise ConfigError(f"no widths near {tuple(base)} give {wanted:,} parameters: {best} is off by {error:.1%}")


def diffusers_unet(
    channels: int, side: int, config: NetworkConfig, widths: tuple[int, ...], classes: int | None
) -> nn.Module:
    """diffusers' UNet2DModel with the blocks and attentions of ``config``, of other ``widths``.

    Args:
        channels: Of what is denoised.
        side: Of what is denoised.
        config: Ours.
        widths: At each resolution.
        classes: One of which stands for none; None builds it unconditional.
    """
    from diffusers import UNet2DModel

    attended = [level in config.attention_levels for level in range(len(widths))]
    return UNet2DModel(
        sample_size=side,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=widths,
        layers_per_block=config.num_res_blocks,
        down_block_types=tuple("AttnDownBlock2D" if own else "DownBlock2D" for own in attended),
        up_block_types=tuple("AttnUpBlock2D" if own else "UpBlock2D" for own in reversed(attended)),
        add_attention=config.middle_attention,
        attention_head_dim=min(config.head_channels, *widths),
        norm_num_groups=math.gcd(32, *widths),
        num_class_embeds=classes,
    )


def equal_diffusers_unet(
    channels: int, side: int, config: NetworkConfig, wanted: int, classes: int | None = CLASSES + 1
) -> nn.Module:
    """:func:`diffusers_unet` of ``wanted`` parameters."""

    def count(widths: tuple[int, ...]) -> int:
        return counted_parameters(lambda: diffusers_unet(channels, side, config, widths, classes))

    return diffusers_unet(channels, side, config, equal_widths(count, config.channels, wanted), classes)


def ddp_unet(channels: int, config: NetworkConfig, dim: int) -> nn.Module:
    """denoising-diffusion-pytorch's Unet of as many resolutions, otherwise as its README builds it.

    Its widths are whole multiples of ``dim``, its blocks two at each resolution, its attention linear but for the last.
    """
    from denoising_diffusion_pytorch import Unet

    multiples = tuple(max(1, round(width / config.channels[0])) for width in config.channels)
    return Unet(dim=dim, dim_mults=multiples, channels=channels, flash_attn=False)


def equal_ddp_unet(channels: int, config: NetworkConfig, wanted: int) -> nn.Module:
    """:func:`ddp_unet` of ``wanted`` parameters."""

    def count(widths: tuple[int, ...]) -> int:
        return counted_parameters(lambda: ddp_unet(channels, config, *widths))

    (dim,) = equal_widths(count, config.channels[:1], wanted, multiples=(32, 16, 8, 4, 2))
    return ddp_unet(channels, config, dim)


def diffusers_autoencoder(image_shape: tuple[int, int, int], config: AutoencoderConfig) -> nn.Module:
    """diffusers' AutoencoderKL of the same channels and blocks; its decoder always has one block more than its encoder.

    It knows no patches: ``config`` must have patches of one pixel to be compared.
    """
    from diffusers import AutoencoderKL

    levels = len(config.channels)
    return AutoencoderKL(
        in_channels=image_shape[0],
        out_channels=image_shape[0],
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=config.channels,
        layers_per_block=config.encoder_blocks,
        latent_channels=config.latent_channels,
        norm_num_groups=math.gcd(32, *config.channels),
        mid_block_add_attention=config.attention,
        sample_size=image_shape[1],
        scaling_factor=1.0,
    )


def equal_pixel_network(config: NetworkConfig, image_channels: int, wanted: int) -> NetworkConfig:
    """Our own pixel network's shape, its widths such that it has ``wanted`` parameters."""

    def of(widths: tuple[int, ...]) -> NetworkConfig:
        return replace(config, channels=widths, head_channels=math.gcd(config.head_channels, *widths))

    def count(widths: tuple[int, ...]) -> int:
        return counted_parameters(lambda: build_network(image_channels, CLASSES, of(widths)))

    return of(equal_widths(count, config.channels, wanted))
