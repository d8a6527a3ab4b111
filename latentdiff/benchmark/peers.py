"""Other projects' packages, and their networks with the shape and the size of ours."""

from __future__ import annotations

import importlib
import importlib.metadata
import math
from types import ModuleType

from torch import nn

from latentdiff.benchmark.context import BenchmarkContext
from latentdiff.benchmark.networks import NUM_CLASSES, count_parameters_of, match_widths
from latentdiff.config import AutoencoderConfig, NetworkConfig

DIFFUSERS, DDP = "diffusers", "denoising-diffusion-pytorch"
MODULES = {DIFFUSERS: "diffusers", DDP: "denoising_diffusion_pytorch"}


def find_peer(context: BenchmarkContext, name: str) -> ModuleType | None:
    """Import the package of one of ``MODULES`` and note its version; None if it is not installed."""
    if name in context.left_out:
        return None
    try:
        module = importlib.import_module(MODULES[name])
    except ImportError:
        context.leave_out(name, 'not installed: pip install ".[peers]"')
        return None
    context.versions[name] = getattr(module, "__version__", "") or importlib.metadata.version(name)
    return module


def diffusers_unet(
    channels: int, side: int, config: NetworkConfig, widths: tuple[int, ...], classes: int | None
) -> nn.Module:
    """Build diffusers' UNet2DModel with the blocks and attentions of our network.

    Args:
        channels: Channels of the images or latents.
        side: Side of the images or latents.
        config: Our network's settings.
        widths: Channels at each resolution.
        classes: Number of classes, the one that stands for no class included; None builds an unconditional network.
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


def match_diffusers_unet(
    channels: int, side: int, config: NetworkConfig, parameters: int, classes: int | None = NUM_CLASSES + 1
) -> nn.Module:
    """Build :func:`diffusers_unet` with widths that give ``parameters`` parameters."""

    def count(widths: tuple[int, ...]) -> int:
        return count_parameters_of(lambda: diffusers_unet(channels, side, config, widths, classes))

    return diffusers_unet(channels, side, config, match_widths(count, config.channels, parameters), classes)


def ddp_unet(channels: int, config: NetworkConfig, dim: int) -> nn.Module:
    """Build denoising-diffusion-pytorch's Unet with our number of resolutions, otherwise as its README does.

    Its widths are whole multiples of ``dim``. It has two blocks at each resolution, and its attention is linear except
    at the last resolution.
    """
    from denoising_diffusion_pytorch import Unet

    multiples = tuple(max(1, round(width / config.channels[0])) for width in config.channels)
    return Unet(dim=dim, dim_mults=multiples, channels=channels, flash_attn=False)


def match_ddp_unet(channels: int, config: NetworkConfig, parameters: int) -> nn.Module:
    """Build :func:`ddp_unet` with a ``dim`` that gives ``parameters`` parameters."""

    def count(widths: tuple[int, ...]) -> int:
        return count_parameters_of(lambda: ddp_unet(channels, config, *widths))

    (dim,) = match_widths(count, config.channels[:1], parameters, multiples=(32, 16, 8, 4, 2))
    return ddp_unet(channels, config, dim)


def diffusers_autoencoder(image_shape: tuple[int, int, int], config: AutoencoderConfig) -> nn.Module:
    """Build diffusers' AutoencoderKL with our channels and blocks.

    Its decoder always has one block more than its encoder. It has no patches: those of ``config`` must be one pixel.
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
