"""From the parts of a pipeline of diffusers to a network, a process and a codec of ours."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from latentdiff.checkpoint import build_with_weights
from latentdiff.codec import AutoencoderCodec, Codec, IdentityCodec
from latentdiff.config import DiffusionConfig, NetworkConfig
from latentdiff.config.diffusers_models import (
    AutoencoderKLConfig,
    AutoencoderTinyConfig,
    DiffusersAutoencoderConfig,
    DiffusersNetworkConfig,
    UNet2DConfig,
)
from latentdiff.errors import CheckpointError, ConfigError
from latentdiff.from_diffusers.address import parse_address
from latentdiff.from_diffusers.components import Components, ReadVae
from latentdiff.from_diffusers.scheduler import process_of
from latentdiff.models.conditioning import ConditionedNetwork
from latentdiff.models.diffusers_networks import DiffusersAutoencoder, check_colours, check_sides
from latentdiff.models.network import build_network


class ImportedDiffusion(NamedTuple):
    """What a diffusion model of ours is made of, read from a pipeline of diffusers.

    Attributes:
        network: The U-Net.
        config, process: What built it, and how it was trained.
        codec: Of its pixels or latents.
        class_names: The names of its classes; their numbers, where the pipeline has no names.
        sampling: Defaults of sampling (:func:`~latentdiff.from_diffusers.scheduler.process_of`).
    """

    network: ConditionedNetwork
    config: NetworkConfig
    process: DiffusionConfig
    codec: Codec
    class_names: tuple[str, ...]
    sampling: dict[str, Any]


def read_model(value: str) -> ImportedDiffusion | AutoencoderCodec:
    """Read a pipeline of a UNet2DModel, or an autoencoder alone.

    Args:
        value: An address (:func:`~latentdiff.from_diffusers.address.parse_address`).

    Raises :class:`~latentdiff.errors.CheckpointError` for a model that diffusers cannot read, or that has parts or
    settings that there is nothing like here, and :class:`~latentdiff.errors.ConfigError` without the extra
    ``diffusers``.
    """
    components = Components(parse_address(value))
    alone = components.own_class
    if alone is not None and alone != "UNet2DModel":
        return _codec(components.autoencoder(), None, str(components.address))
    return _diffusion(components)


def check_has_autoencoder(value: str) -> None:
    """Raise what :func:`read_autoencoder` would for another class than it takes, or none: no weights are read."""
    Components(parse_address(value)).autoencoder_class()


def read_autoencoder(value: str, image_shape: tuple[int, int, int]) -> AutoencoderCodec:
    """The autoencoder at an address, of a pipeline of any kind or alone, for images of this shape.

    Its latents are standardised as diffusers does it, by one factor: a run measures its own images instead.

    Raises as :func:`read_model` does, and :class:`~latentdiff.errors.ConfigError` for images of other colours.
    """
    components = Components(parse_address(value))
    return _codec(components.autoencoder(), image_shape, str(components.address))


def _diffusion(components: Components) -> ImportedDiffusion:
    named = str(components.address)
    read = components.unet()
    unet = read.config
    latent = components.has_autoencoder()
    codec: Codec = IdentityCodec(_shape(unet.in_channels, unet.sample_size, named))
    vae = components.autoencoder() if latent else None
    if vae is not None:
        codec = _codec(vae, None, named, latents=codec.latent_shape, shifted=not _is_ldm(components))
    scheduler = components.scheduler()
    if scheduler is None:
        raise CheckpointError(
            f"{named} has no scheduler, so its process is not known: name the folder of its pipeline, or start a "
            "training from its weights with --init"
        )
    process, sampling = process_of(*scheduler, learns_variance(unet), latent, named)
    if not latent and not sampling["clip"]:
        codec.value_range = None  # its scheduler leaves x0 as it is
    classes = class_names(unet, (components.index or {}).get("id2label"))
    config = DiffusersNetworkConfig(unet=unet)
    try:
        check_sides(config, codec.latent_shape)
    except ConfigError as error:
        raise CheckpointError(f"{named}: {error}") from error
    state = {f"unet.{name}": tensor for name, tensor in read.state.items()}
    network = build_with_weights(
        lambda: build_network(unet.in_channels, len(classes), config, unet.out_channels), state, named
    )
    return ImportedDiffusion(network, config, process, codec, classes, sampling)


def learns_variance(unet: UNet2DConfig) -> bool:
    """Whether a U-Net predicts the variance too, in a second half of its channels."""
    return unet.out_channels == 2 * unet.in_channels


def class_names(unet: UNet2DConfig, named: Any) -> tuple[str, ...]:
    """A name for each row of a U-Net's table of classes.

    Args:
        unet: Its arguments.
        named: What a pipeline calls them, by number, or None.
    """
    rows = unet.num_class_embeds or 0
    names = named if isinstance(named, dict) else {}
    return tuple(str(names.get(str(row), names.get(row, row))) for row in range(rows))


def content_digest(state: dict[str, Tensor]) -> str:
    """SHA-256 over names and weights, in hex, by which a network without a file of ours is known."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().numpy().data)
    return digest.hexdigest()


def _codec(
    read: ReadVae,
    image_shape: tuple[int, int, int] | None,
    named: str,
    latents: tuple[int, int, int] | None = None,
    shifted: bool = True,
) -> AutoencoderCodec:
    """A codec around an autoencoder, standardised as diffusers does it.

    Args:
        read: The autoencoder.
        image_shape: Of the images; None for those that its configuration, or a pipeline's latents, are for.
        named: What messages call it.
        latents: The shape of a pipeline's latents.
        shifted: Whether its ``shift_factor`` is heeded.
    """
    config = DiffusersAutoencoderConfig(kind=read.kind, vae=read.config)  # pyright: ignore[reportArgumentType]
    if latents is not None:
        if latents[0] != read.config.latent_channels:
            raise CheckpointError(f"the U-Net of {named} takes {latents[0]} channels, its autoencoder another number")
        factor = config.side_factor
        image_shape = (read.config.in_channels, factor * latents[1], factor * latents[2])
    elif image_shape is None:
        size = read.config.sample_size if isinstance(read.config, AutoencoderKLConfig) else 512
        image_shape = _shape(read.config.in_channels, size, named)
    shape = image_shape
    check_colours(config, shape)
    model = build_with_weights(lambda: DiffusersAutoencoder(shape, config), dict(read.state), named)
    codec = AutoencoderCodec(model, config, *statistics_of(read.config, shifted))
    codec.provisional = latents is None
    return codec


def statistics_of(vae: AutoencoderKLConfig | AutoencoderTinyConfig, shifted: bool = True) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation by which diffusers standardises latents, fp32 [latent_channels] each.

    Args:
        vae: ``latents_mean`` and ``latents_std`` where there are any, ``shift_factor``, and ``scaling_factor``.
        shifted: Whether a pipeline heeds more than ``scaling_factor``.
    """
    ones = torch.ones(vae.latent_channels)
    mean, std = (getattr(vae, name, None) if shifted else None for name in ("latents_mean", "latents_std"))
    shift = (vae.shift_factor or 0.0) if shifted else 0.0
    means = _per_channel(mean, ones * shift)
    return means, _per_channel(std, ones) / vae.scaling_factor


def _per_channel(values: Sequence[float] | None, default: Tensor) -> Tensor:
    if values is None:
        return default
    if len(values) != len(default):
        raise CheckpointError(f"an autoencoder of {len(default)} latent channels has statistics of {len(values)}")
    return torch.tensor(values)


def _is_ldm(components: Components) -> bool:
    """Whether the pipeline is LDMPipeline, which heeds the scaling factor alone."""
    return (components.index or {}).get("_class_name") == "LDMPipeline"


def _shape(channels: int, size: int | Sequence[int] | None, named: str) -> tuple[int, int, int]:
    if size is None:
        raise CheckpointError(f"{named} does not say for which side it is: its config.json lacks sample_size")
    height, width = (size, size) if isinstance(size, int) else size
    return channels, height, width
