"""The denoising network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from latentdiff.config.base import Settings


@dataclass(frozen=True, kw_only=True)
class NetworkConfig(Settings):
    """The denoising network.

    Args:
        architecture: ``unet``, or ``resnet``: residual blocks at one resolution.
        channels: Width at each resolution, finest first; each further entry halves the side (rounded up).
        num_res_blocks: Residual blocks at each resolution.
        attention_levels: Resolutions that have self-attention, counted from the finest, 0.
        middle_attention: Self-attention between the way down and the way up.
        head_channels: Channels of one attention head.
        dropout: Dropout inside the residual blocks.
        time_embedding: ``sinusoidal`` (DDPM), or ``fourier``: fixed random frequencies, for ``edm`` and ``ve``.
        fourier_scale: Standard deviation of those frequencies, in turns per unit of time.
        conditioning: How blocks are told time and class: ``scale_shift`` of the second group norm, ``additive`` before
            it (DDPM), conditional ``batch_norm``, or ``none``: not at all.
        embedding_channels: Width of the embedding of time and class; none takes four times the first width.
        class_conditional: Give the network the class; false trains an unconditional model.
    """

    architecture: Literal["unet", "resnet"] = "unet"
    channels: tuple[int, ...] = (64, 96)
    num_res_blocks: int = 2
    attention_levels: tuple[int, ...] = (0, 1)
    middle_attention: bool = True
    head_channels: int = 32
    dropout: float = 0.0
    time_embedding: Literal["sinusoidal", "fourier"] = "sinusoidal"
    fourier_scale: float = 2.0
    conditioning: Literal["scale_shift", "additive", "batch_norm", "none"] = "scale_shift"
    embedding_channels: int | None = None
    class_conditional: bool = True
