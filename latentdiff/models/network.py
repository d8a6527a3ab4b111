"""The denoising network that a config names."""

from __future__ import annotations

from latentdiff.config import NetworkConfig
from latentdiff.models.conditioning import ConditionedNetwork
from latentdiff.models.resnet import ResNet
from latentdiff.models.unet import UNet


def build_network(
    channels: int, num_classes: int, config: NetworkConfig, out_channels: int | None = None
) -> ConditionedNetwork:
    """A network for [b, channels, h, w] of any size.

    Args:
        channels: Channels of what is denoised.
        num_classes: Classes of the data set, of which an unconditional network takes none.
        config: What to build.
        outputs: Channels of what comes out; default: as many as go in.
    """
    kind = {"unet": UNet, "resnet": ResNet}[config.architecture]
    return kind(channels, num_classes if config.class_conditional else 0, config, out_channels)
