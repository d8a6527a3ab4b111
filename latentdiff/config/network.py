"""Settings of the denoising network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from latentdiff.config.base import Settings
from latentdiff.config.ranges import Blocks, Length, Range, Width, Widths
from latentdiff.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class NetworkConfig(Settings):
    """The denoising network.

    Args:
        architecture: ``unet`` is a U-Net. ``resnet`` has residual blocks at a single resolution. ``dit`` is a diffusion
            transformer. ``resnet`` and ``dit`` take one width in ``channels``, no ``attention_levels`` and no ``text``.
            The width of ``dit`` is a multiple of 4 and of ``head_channels``; it has the conditioning ``scale_shift``.
        patch: Side of the patches, in pixels or in positions of a latent. The network first folds each patch into
            channels, and unfolds it last. Larger patches save the costly layers at full resolution.
        channels: Width at each resolution, finest first; each further entry halves the side (rounded up).
        num_res_blocks: Residual blocks at each resolution, or a transformer's blocks.
        attention_levels: Resolutions with self-attention. 0 is the finest.
        middle_attention: Whether the middle of the U-Net has self-attention. Others have no middle.
        head_channels: Channels of one attention head.
        dropout: Dropout rate in the residual blocks.
        time_embedding: Embedding of the time. ``sinusoidal`` is DDPM's. ``fourier`` has fixed random frequencies and
            suits ``edm`` and ``ve``.
        fourier_scale: Standard deviation of the random frequencies, in turns per unit of time.
        conditioning: How the embedding of time and class enters a residual block. ``scale_shift`` scales and shifts the
            second group norm. ``additive`` adds it before that norm (DDPM). ``batch_norm`` replaces both norms by
            conditional batch norms. ``none`` leaves time and class out.
        embedding_channels: Width of the embedding of time and class. Default: four times the first width, or
            the width itself for ``dit``.
        class_conditional: Whether the network gets the class; false trains an unconditional model.
        text: The text encoder. With one, captions take the place of the class. ``none`` is no encoder; ``own`` is a
            vocabulary of the training captions and a small transformer that is trained with the U-Net;
            ``transformers:PATH`` or ``transformers:ID`` is a frozen CLIP or T5 of the library transformers (extra
            ``text``).
        text_context: Largest number of tokens of a caption; longer captions are cut. Default: that of the longest
            caption, but at least 24 and at most 77.
    """

    architecture: Literal["unet", "resnet", "dit"] = "unet"
    patch: Annotated[int, Range(1, 64)] = 1
    channels: Widths = (64, 96)
    num_res_blocks: Blocks = 2
    attention_levels: Annotated[tuple[Annotated[int, Range(0, 15)], ...], Length(0, 16)] = (0, 1)
    middle_attention: bool = True
    head_channels: Width = 32
    dropout: Annotated[float, Range(0, 1, below=True)] = 0.0
    time_embedding: Literal["sinusoidal", "fourier"] = "sinusoidal"
    fourier_scale: Annotated[float, Range(0, 10**6, above=True)] = 2.0
    conditioning: Literal["scale_shift", "additive", "batch_norm", "none"] = "scale_shift"
    embedding_channels: Width | None = None
    class_conditional: bool = True
    text: str = "none"
    text_context: Annotated[int, Range(2, 512)] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.text not in ("none", "own") and not self.text.startswith("transformers:"):
            raise ConfigError(f"network.text must be none, own or transformers:PATH, not {self.text[:80]!r}")
