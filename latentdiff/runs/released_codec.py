"""The autoencoder of a released latent model: in its file, in the file beside it, or with a decoder trained further."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from latentdiff import checkpoint
from latentdiff.config import AutoencoderConfig, from_dict
from latentdiff.errors import CheckpointError
from latentdiff.files import file_sha256
from latentdiff.int8_weights import from_int8, to_int8

# The settings that leave an encoder and its latents as they are.
DECODER_SETTINGS = {"decoder_blocks": 0, "refine_channels": 0, "smooth_colours": False}


def with_shared_autoencoder(
    source: Path, header: dict[str, Any], tensors: dict[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A released model's header and tensors with those of the autoencoder that it shares; any other's as they are.

    Raises :class:`~latentdiff.errors.CheckpointError` where the file beside it is missing or another.
    """
    named = header.get("codec_file")
    if named is None:
        return header, tensors
    own = {f"codec.{name}": tensor for name, tensor in checkpoint.read_shared_autoencoder(source, named).items()}
    return {key: value for key, value in header.items() if key != "codec_file"}, {**tensors, **own}


def with_decoder(
    header: dict[str, Any], tensors: dict[str, Tensor], autoencoder: Path
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A latent diffusion model's header and tensors with the decoder of another file of its autoencoder.

    Raises :class:`~latentdiff.errors.CheckpointError` if the two autoencoders have different latents.
    """
    theirs, weights = checkpoint.read(autoencoder, kind="autoencoder")
    own = {name.removeprefix("codec."): tensor for name, tensor in tensors.items() if name.startswith("codec.")}

    encoders = [
        {name: tensor for name, tensor in codec.items() if not name.startswith("decoder.")} for codec in (own, weights)
    ]
    another = CheckpointError(
        f"the encoder in {autoencoder} is not the one that the model was trained with, so its latents differ"
    )
    if not own or not _equal_as_released(*encoders):  # a model on pixels has none
        raise another
    # Rebuilt, since a setting that did not exist yet when a file was written was at its default. What a decoder alone
    # is made by may differ.
    codecs = [
        (codec["image_shape"], replace(from_dict(AutoencoderConfig, codec["autoencoder"]), **DECODER_SETTINGS))
        for codec in (header["codec"], theirs["codec"])
    ]
    if codecs[0] != codecs[1]:
        raise another
    made = theirs.get("provenance") or {}
    provenance = {
        **(header.get("provenance") or {}),
        "stage_one_seconds": made.get("seconds"),
        "stage_one_flops": made.get("flops"),
        "stage_one_device": made.get("device"),
        "stage_one_sha256": file_sha256(autoencoder),
        "decoder": {key: made[key] for key in ("images_seen", "command") if key in made},
    }
    network = {name: tensor for name, tensor in tensors.items() if not name.startswith("codec.")}
    tensors = {**network, **{f"codec.{name}": tensor for name, tensor in weights.items()}}
    return {**header, "codec": theirs["codec"], "provenance": provenance}, tensors


def without_shared_autoencoder(
    header: dict[str, Any], tensors: dict[str, Tensor], autoencoder: Path
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A latent diffusion model's header and tensors without the codec, which ``autoencoder`` holds.

    Raises :class:`~latentdiff.errors.CheckpointError` where that file is missing or holds another.
    """
    own = {name.removeprefix("codec."): tensor for name, tensor in tensors.items() if name.startswith("codec.")}
    if not own:
        raise CheckpointError(
            "codec_beside is for latent diffusion models, but this model has no autoencoder: leave out --codec_beside"
        )
    if not autoencoder.is_file():
        raise CheckpointError(
            f"there is no {autoencoder} to decode with: release the model's autoencoder to that file first, or leave "
            "out --codec_beside"
        )
    _, weights = checkpoint.read(autoencoder, kind="autoencoder")
    if not any(_equal_as_released(rounded, weights) for rounded in (own, from_int8(to_int8(own)))):
        raise CheckpointError(
            f"{autoencoder} is not the model's autoencoder: release the model's autoencoder to that file first, or "
            "leave out --codec_beside"
        )
    named = {"name": autoencoder.name, "sha256": file_sha256(autoencoder)}
    network = {name: tensor for name, tensor in tensors.items() if not name.startswith("codec.")}
    return {**header, "codec_file": named}, network


def _equal_as_released(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Whether two sets of weights are the same in a released file, which holds matrices and kernels as bf16."""
    return a.keys() == b.keys() and all(
        a[name].bfloat16().equal(b[name].bfloat16()) if a[name].ndim > 1 else a[name].equal(b[name]) for name in a
    )
