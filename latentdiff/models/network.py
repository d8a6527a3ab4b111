"""Build the denoising network that a config describes."""

from __future__ import annotations

from dataclasses import replace

import torch

from latentdiff.config import NetworkConfig
from latentdiff.config.diffusers_models import DiffusersNetworkConfig
from latentdiff.errors import ConfigError
from latentdiff.models.conditioning import ConditionedNetwork
from latentdiff.models.diffusers_networks import DiffusersUNet
from latentdiff.models.dit import DiT
from latentdiff.models.resnet import ResNet
from latentdiff.models.size import check_size
from latentdiff.models.unet import UNet
from latentdiff.text.tokenizer import Tokenizer


def check_network(config: NetworkConfig) -> None:
    """Raise :class:`~latentdiff.errors.ConfigError` for settings that no network has, before any data is read."""
    if isinstance(config, DiffusersNetworkConfig):
        return
    _check_reads(config)
    with torch.device("meta"):  # where a network takes no memory
        build_network(1, 1, replace(config, text="none"))


def has_attention(config: NetworkConfig) -> bool:
    """Whether the network that these settings describe has attention heads."""
    if config.architecture == "unet":
        return bool(config.attention_levels) or config.middle_attention or config.text != "none"
    return config.architecture == "dit"


def check_patch(config: NetworkConfig, shape: tuple[int, int, int]) -> None:
    """Raise :class:`~latentdiff.errors.ConfigError` for patches larger than what the network works on, (c, h, w)."""
    if config.patch > min(shape[1:]):
        raise ConfigError(
            f"network.patch {config.patch} is larger than what the network works on, {shape[1]}x{shape[2]}: take a "
            "smaller patch"
        )


def _check_reads(config: NetworkConfig) -> None:
    if config.text != "none" and config.architecture != "unet":
        raise ConfigError(f"only the architecture unet reads captions: network.text {config.text} goes with that alone")


def build_network(
    in_channels: int,
    num_classes: int,
    config: NetworkConfig,
    out_channels: int | None = None,
    tokenizer: Tokenizer | None = None,
) -> ConditionedNetwork:
    """Return a new denoising network for images or latents of any size.

    Args:
        in_channels: Number of channels of the noisy images or latents.
        num_classes: Number of classes of the data set. An unconditional network ignores them.
        config: Architecture, widths and depths.
        out_channels: Number of channels of the output. Default: ``in_channels``.
        tokenizer: Of the captions that the network takes in place of classes, as ``config.text`` asks for.

    Raises :class:`~latentdiff.errors.ConfigError` for a network that is larger than this machine's memory, and for
    captions with another architecture than the U-Net.

    >>> import torch
    >>> network = build_network(2, 10, NetworkConfig(channels=(32,), attention_levels=()))
    >>> x, time, labels = torch.randn(4, 2, 7, 7), torch.zeros(4), torch.tensor([0, 1, 2, 3])
    >>> network(x, time, labels).shape
    torch.Size([4, 2, 7, 7])
    """
    if isinstance(config, DiffusersNetworkConfig):
        wanted = in_channels, out_channels or in_channels
        if (config.unet.in_channels, config.unet.out_channels) != wanted:
            raise ConfigError(
                f"this UNet2DModel takes {config.unet.in_channels} channels and gives {config.unet.out_channels}; here "
                f"it would take {wanted[0]} and give {wanted[1]}"
            )
        return DiffusersUNet(num_classes, config)
    num_classes = num_classes if config.class_conditional else 0

    def build() -> ConditionedNetwork:
        if config.architecture == "unet":
            return UNet(in_channels, num_classes, config, out_channels, tokenizer)
        architecture = DiT if config.architecture == "dit" else ResNet
        return architecture(in_channels, num_classes, config, out_channels)

    if (config.text == "none") != (tokenizer is None):
        raise ConfigError(f"network.text {config.text} goes with a tokenizer of its captions, and none with none")
    _check_reads(config)
    check_size(build, config.channels, config.num_res_blocks)
    return build()
