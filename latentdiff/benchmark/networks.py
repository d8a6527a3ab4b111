"""Untrained models, and networks of a given number of parameters. Speed does not depend on what the weights are."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

import torch
from torch import nn

from latentdiff.codec import AutoencoderCodec, Codec, IdentityCodec
from latentdiff.config import AutoencoderConfig, DiffusionConfig, NetworkConfig
from latentdiff.errors import ConfigError
from latentdiff.inference.model import DiffusionModel
from latentdiff.models.autoencoder import Autoencoder
from latentdiff.models.network import build_network

NUM_CLASSES = 10
CLASS_NAMES = tuple(map(str, range(NUM_CLASSES)))
TOLERANCE = 0.05  # Share of the number of parameters that two equal networks may differ by.
# Factors from a quarter to four times the widths of the given network.
WIDTH_FACTORS = [0.25 * 16 ** (i / 600) for i in range(601)]


def untrained_codec(side: int, config: AutoencoderConfig | None) -> Codec:
    """Build a codec for RGB images of ``side`` pixels: an autoencoder with random weights, or the identity for None."""
    if config is None:
        return IdentityCodec((3, side, side))
    channels = config.latent_channels
    return AutoencoderCodec(Autoencoder((3, side, side), config), config, torch.zeros(channels), torch.ones(channels))


def untrained_model(
    side: int, autoencoder: AutoencoderConfig | None, network: NetworkConfig, device: torch.device
) -> DiffusionModel:
    """Build a model with random weights: on the latents of ``autoencoder``, or on pixels for None."""
    codec = untrained_codec(side, autoencoder)
    built = build_network(codec.latent_shape[0], NUM_CLASSES, network)
    return DiffusionModel(built, network, DiffusionConfig(), codec, CLASS_NAMES).to(device)


def count_parameters(network: nn.Module) -> int:
    """Count the parameters of ``network``."""
    return sum(p.numel() for p in network.parameters())


def count_parameters_of(build: Callable[[], nn.Module]) -> int:
    """Count the parameters of the network that ``build`` returns, without memory for them."""
    with torch.device("meta"):
        return count_parameters(build())


def match_widths(
    count: Callable[[tuple[int, ...]], int],
    widths: Sequence[int],
    parameters: int,
    multiples: Sequence[int] = (32, 16, 8, 4),
    tolerance: float = TOLERANCE,
) -> tuple[int, ...]:
    """Find widths, in about the ratio of ``widths``, that give a number of parameters.

    Large multiples are tried first: processors are fastest with them, and an odd width would slow a network down.

    Args:
        count: Returns the parameters of a network with given widths. It must rise with them.
        widths: The widths whose ratio is kept.
        parameters: The number of parameters that is wanted.
        multiples: Every width is a multiple of the first of these; the next one is tried if no widths come close.
        tolerance: The largest difference, as a share of ``parameters``.

    Raises:
        ConfigError: if no widths come close enough.
    """
    count = cache(count)  # To build a network takes a twentieth of a second.
    best, error = (), math.inf
    for multiple in multiples:
        shapes = list(
            dict.fromkeys(tuple(max(1, round(w * f / multiple)) * multiple for w in widths) for f in WIDTH_FACTORS)
        )
        index = bisect_left(shapes, parameters, key=count)
        for shape in shapes[max(0, index - 1) : index + 1]:
            difference = abs(count(shape) / parameters - 1)
            if difference < error:
                best, error = shape, difference
        if error <= tolerance:
            return best
    raise ConfigError(f"no widths near {tuple(widths)} give {parameters:,} parameters: {best} is off by {error:.1%}")


def match_pixel_network(config: NetworkConfig, parameters: int) -> NetworkConfig:
    """Change the widths of a pixel network such that it has ``parameters`` parameters. Raises as ``match_widths``."""

    def with_widths(widths: tuple[int, ...]) -> NetworkConfig:
        return replace(config, channels=widths, head_channels=math.gcd(config.head_channels, *widths))

    def count(widths: tuple[int, ...]) -> int:
        return count_parameters_of(lambda: build_network(3, NUM_CLASSES, with_widths(widths)))

    return with_widths(match_widths(count, config.channels, parameters))
