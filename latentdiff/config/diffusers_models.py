"""Settings of diffusers' networks: the arguments of its classes, with the ranges that are supported here.

A model file holds them as JSON. They are checked like any other header before a network is built. Arguments of
diffusers that are not supported, such as blocks that take text, are refused with their name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, cast

from latentdiff.config.autoencoder import AutoencoderConfig
from latentdiff.config.base import Settings
from latentdiff.config.network import NetworkConfig
from latentdiff.config.ranges import Blocks, Length, Range, Width, Widths

Side = Annotated[int, Range(1, 4096)]
Channels = Annotated[int, Range(1, 1024)]
Classes = Annotated[int, Range(1, 1_000_001)]
Factor = Annotated[float, Range(0, 10**6, above=True)]
Epsilon = Annotated[float, Range(0, 1, above=True)]
Shift = Annotated[float, Range(-(10**6), 10**6)]
Activation = Literal["silu", "swish", "mish", "gelu", "relu"]
DownBlock = Literal[
    "DownBlock2D", "AttnDownBlock2D", "ResnetDownsampleBlock2D", "SkipDownBlock2D", "AttnSkipDownBlock2D"
]
UpBlock = Literal["UpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D", "SkipUpBlock2D", "AttnSkipUpBlock2D"]
# Of the encoder and decoder of a variational autoencoder.
VaeDownBlock = Literal["DownEncoderBlock2D"]
VaeUpBlock = Literal["UpDecoderBlock2D"]


@dataclass(frozen=True, kw_only=True)
class UNet2DConfig(Settings):
    """The arguments of ``diffusers.UNet2DModel``, with its names and defaults.

    Args:
        sample_size: Side of the images or latents, or height and width.
        in_channels: Channels of the noisy images.
        out_channels: Channels of the output, twice as many where the variance is learned.
        center_input_sample: Whether the input is stretched from [0, 1] to [-1, 1].
        time_embedding_type: ``positional``. ``fourier`` belongs to another process, and ``learned`` has no time between
            two training steps.
        time_embedding_dim: Width of the embedding. Default: four times the first width.
        freq_shift: Shift of the embedding's frequencies.
        flip_sin_to_cos: Whether the cosines come first.
        down_block_types: The blocks on the way down, finest first.
        mid_block_type: The block in the middle, or none.
        up_block_types: The blocks on the way up, coarsest first.
        block_out_channels: Width at each resolution, finest first.
        layers_per_block: Residual blocks at each resolution.
        mid_block_scale_factor: What the middle block's output is divided by.
        downsample_padding: Padding of the strided convolutions; 0 pads on one side.
        downsample_type: How a side is halved in blocks with attention.
        upsample_type: How a side is doubled in blocks with attention.
        dropout: Dropout rate in the residual blocks.
        act_fn: The activation.
        attention_head_dim: Channels of one attention head. None: a single head.
        norm_num_groups: Groups of every group norm.
        attn_norm_num_groups: Groups of the norm before the middle's attention.
        norm_eps: Epsilon of the norms.
        resnet_time_scale_shift: How the embedding enters a block: added, or as scale and shift.
        add_attention: Whether the middle has attention.
        class_embed_type: None: the classes have an embedding table.
        num_class_embeds: Rows of the table of classes; None without classes.
        num_train_timesteps: Steps of a learned embedding of time. That embedding is refused.
    """

    sample_size: Side | tuple[Side, Side] | None = None
    in_channels: Channels = 3
    out_channels: Channels = 3
    center_input_sample: bool = False
    time_embedding_type: Literal["positional"] = "positional"
    time_embedding_dim: Width | None = None
    freq_shift: Annotated[float, Range(0, 1)] = 0
    flip_sin_to_cos: bool = True
    down_block_types: Annotated[tuple[DownBlock, ...], Length(1, 16)] = (
        "DownBlock2D",
        "AttnDownBlock2D",
        "AttnDownBlock2D",
        "AttnDownBlock2D",
    )
    mid_block_type: Literal["UNetMidBlock2D"] | None = "UNetMidBlock2D"
    up_block_types: Annotated[tuple[UpBlock, ...], Length(1, 16)] = (
        "AttnUpBlock2D",
        "AttnUpBlock2D",
        "AttnUpBlock2D",
        "UpBlock2D",
    )
    block_out_channels: Widths = (224, 448, 672, 896)
    layers_per_block: Blocks = 2
    mid_block_scale_factor: Factor = 1
    downsample_padding: Annotated[int, Range(0, 1)] = 1
    downsample_type: Literal["conv", "resnet"] = "conv"
    upsample_type: Literal["conv", "resnet"] = "conv"
    dropout: Annotated[float, Range(0, 1, below=True)] = 0.0
    act_fn: Activation = "silu"
    attention_head_dim: Width | None = 8
    norm_num_groups: Width = 32
    attn_norm_num_groups: Width | None = None
    norm_eps: Epsilon = 1e-5
    resnet_time_scale_shift: Literal["default", "scale_shift"] = "default"
    add_attention: bool = True
    class_embed_type: Literal[None] = None
    num_class_embeds: Classes | None = None
    num_train_timesteps: Annotated[int, Range(1, 1_000_000)] | None = None

    @property
    def side_factor(self) -> int:
        """The number by which both sides of an image must be divisible, from how often the network halves them."""
        return 2 ** (len(self.block_out_channels) - 1)


@dataclass(frozen=True, kw_only=True)
class DiffusersNetworkConfig(NetworkConfig):
    """A denoising network that is diffusers' UNet2DModel.

    Args:
        architecture: ``diffusers``.
        unet: The arguments of UNet2DModel. Widths and blocks of :class:`NetworkConfig` are read from it.
    """

    architecture: Literal["diffusers"] = "diffusers"  # pyright: ignore[reportIncompatibleVariableOverride]
    unet: UNet2DConfig

    def __post_init__(self) -> None:
        unet = _built(self.unet, UNet2DConfig)
        object.__setattr__(self, "unet", unet)
        derived = {
            "channels": unet.block_out_channels,
            "num_res_blocks": unet.layers_per_block,
            "attention_levels": tuple(i for i, name in enumerate(unet.down_block_types) if name.startswith("Attn")),
            "middle_attention": unet.mid_block_type is not None and unet.add_attention,
            "head_channels": unet.attention_head_dim or unet.block_out_channels[0],
            "dropout": unet.dropout,
            "conditioning": "scale_shift" if unet.resnet_time_scale_shift == "scale_shift" else "additive",
            "embedding_channels": unet.time_embedding_dim,
            "class_conditional": unet.num_class_embeds is not None,
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)
        super().__post_init__()


@dataclass(frozen=True, kw_only=True)
class AutoencoderKLConfig(Settings):
    """The arguments of ``diffusers.AutoencoderKL``, with its names and defaults.

    Args:
        in_channels: Channels of the images that it takes.
        out_channels: Channels of the images that it gives.
        down_block_types: The blocks of the encoder, one for each resolution.
        up_block_types: The blocks of the decoder, one for each resolution.
        block_out_channels: Width at each resolution, finest first.
        layers_per_block: Residual blocks at each resolution.
        act_fn: The activation.
        latent_channels: Channels of the latent.
        norm_num_groups: Groups of every group norm.
        sample_size: Side of the images that it was made for, or height and width.
        scaling_factor: What diffusers multiplies latents by.
        shift_factor: What diffusers takes from latents before that.
        latents_mean: What diffusers takes from the latents of each channel.
        latents_std: What diffusers divides the latents of each channel by.
        force_upcast: Whether diffusers runs it in fp32 whatever the pipeline's type; here it always does.
        use_quant_conv: Whether a 1x1 convolution follows the encoder.
        use_post_quant_conv: Whether a 1x1 convolution comes before the decoder.
        mid_block_add_attention: Whether the coarsest resolution has attention.
    """

    in_channels: Channels = 3
    out_channels: Channels = 3
    down_block_types: Annotated[tuple[VaeDownBlock, ...], Length(1, 16)] = ("DownEncoderBlock2D",)
    up_block_types: Annotated[tuple[VaeUpBlock, ...], Length(1, 16)] = ("UpDecoderBlock2D",)
    block_out_channels: Widths = (64,)
    layers_per_block: Blocks = 1
    act_fn: Activation = "silu"
    latent_channels: Channels = 4
    norm_num_groups: Width = 32
    sample_size: Side | tuple[Side, Side] = 32
    scaling_factor: Factor = 0.18215
    shift_factor: Shift | None = None
    latents_mean: tuple[Shift, ...] | None = None
    latents_std: tuple[Factor, ...] | None = None
    force_upcast: bool = True
    use_quant_conv: bool = True
    use_post_quant_conv: bool = True
    mid_block_add_attention: bool = True

    @property
    def widths(self) -> tuple[int, ...]:
        """The width at each resolution, finest first; each further entry halves the side."""
        return self.block_out_channels

    @property
    def blocks(self) -> int:
        """Layers at each resolution, of the encoder or the decoder."""
        return self.layers_per_block


@dataclass(frozen=True, kw_only=True)
class AutoencoderTinyConfig(Settings):
    """The arguments of ``diffusers.AutoencoderTiny``, with its names and defaults.

    Args:
        in_channels: Channels of the images that it takes.
        out_channels: Channels of the images that it gives.
        encoder_block_out_channels: Width of the encoder at each resolution.
        decoder_block_out_channels: Width of the decoder at each resolution.
        act_fn: The activation.
        upsample_fn: How the decoder enlarges.
        latent_channels: Channels of the latent.
        upsampling_scaling_factor: Factor by which each upsampling enlarges.
        num_encoder_blocks: Blocks of the encoder at each resolution.
        num_decoder_blocks: Blocks of the decoder at each resolution.
        latent_magnitude: Range of latents that diffusers stores as bytes; unused here.
        latent_shift: Centre of that range; unused here.
        force_upcast: As of :class:`AutoencoderKLConfig`.
        scaling_factor: What diffusers multiplies latents by.
        shift_factor: What diffusers takes from latents before that.
        block_out_channels: A copy of ``decoder_block_out_channels`` that diffusers writes.
    """

    in_channels: Channels = 3
    out_channels: Channels = 3
    encoder_block_out_channels: Widths = (64, 64, 64, 64)
    decoder_block_out_channels: Widths = (64, 64, 64, 64)
    act_fn: Activation = "relu"
    upsample_fn: Literal["nearest"] = "nearest"
    latent_channels: Channels = 4
    upsampling_scaling_factor: Literal[2] = 2
    num_encoder_blocks: Annotated[tuple[Blocks, ...], Length(1, 16)] = (1, 3, 3, 3)
    num_decoder_blocks: Annotated[tuple[Blocks, ...], Length(1, 16)] = (3, 3, 3, 1)
    latent_magnitude: Factor = 3
    latent_shift: Shift = 0.5
    force_upcast: bool = False
    scaling_factor: Factor = 1.0
    shift_factor: Shift = 0.0
    block_out_channels: Widths | None = None

    @property
    def widths(self) -> tuple[int, ...]:
        """The width at each resolution, finest first; each further entry halves the side."""
        return self.encoder_block_out_channels

    @property
    def blocks(self) -> int:
        """Layers at each resolution at most, of the encoder or the decoder."""
        return max(*self.num_encoder_blocks, *self.num_decoder_blocks)


VAE_CONFIGS = {"AutoencoderKL": AutoencoderKLConfig, "AutoencoderTiny": AutoencoderTinyConfig}


@dataclass(frozen=True, kw_only=True)
class DiffusersAutoencoderConfig(AutoencoderConfig):
    """An autoencoder that is one of diffusers'.

    Args:
        kind: Its class.
        vae: The arguments of that class. Widths and blocks of :class:`AutoencoderConfig` are read from them.
    """

    kind: Literal["AutoencoderKL", "AutoencoderTiny"] = "AutoencoderKL"
    vae: AutoencoderKLConfig | AutoencoderTinyConfig

    def __post_init__(self) -> None:
        vae = _built(self.vae, VAE_CONFIGS.get(self.kind, AutoencoderKLConfig))
        object.__setattr__(self, "vae", vae)
        derived = {
            "latent_channels": vae.latent_channels,
            "channels": vae.widths,
            "encoder_blocks": vae.blocks,
            "decoder_blocks": vae.blocks,
            "attention": isinstance(vae, AutoencoderKLConfig) and vae.mid_block_add_attention,
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)
        super().__post_init__()

    @property
    def side_factor(self) -> int:
        """Pixels of an image's side per pixel of the latent's side."""
        return 2 ** (len(self.vae.widths) - 1)


def network_config_class(values: Any) -> type[NetworkConfig]:
    """The class of settings that the JSON of a header's network is of."""
    is_diffusers = isinstance(values, dict) and cast(dict[str, Any], values).get("architecture") == "diffusers"
    return DiffusersNetworkConfig if is_diffusers else NetworkConfig


def autoencoder_config_class(values: Any) -> type[AutoencoderConfig]:
    """The class of settings that the JSON of a header's autoencoder is of."""
    return DiffusersAutoencoderConfig if isinstance(values, dict) and "vae" in values else AutoencoderConfig


def _built(value: Any, cls: type[Any]) -> Any:
    """Nested settings, which JSON holds as a dict. Anything else is left for the check of its type."""
    return cls(**cast(dict[str, Any], value)) if isinstance(value, dict) else value
