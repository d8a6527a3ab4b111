"""What the released models were patched with, since each is a chain of runs.

Nothing else needs this module, the stage ``average``, and the settings ``smooth_colours``, ``autoencoder`` and
``codec_beside`` of the stage ``release``. They go when each released model is made by one run (docs/decisions.md).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from latentdiff import checkpoint
from latentdiff.config import AutoencoderConfig, from_dict
from latentdiff.config.model_stages import AverageStage
from latentdiff.errors import CheckpointError, ConfigError, FolderError
from latentdiff.files import file_sha256
from latentdiff.resources import resolve_checkpoint

# The settings that leave an encoder and its latents as they are.
DECODER_SETTINGS = {"decoder_blocks": 0, "refine_channels": 0, "smooth_colours": False}


def average_models(config: AverageStage, command: str = "") -> Path:
    """Write the mean and return its path.

    Raises :class:`~latentdiff.errors.CheckpointError` for models that cannot be averaged, and FolderError for a file
    that exists already.
    """
    target = Path(config.to)
    if target.exists() and not config.overwrite:
        raise FolderError(f"{target} is there already; --overwrite replaces it")
    if checkpoint.is_of_a_run(target):
        raise FolderError(f"{target} is the run's own model, and would be lost: name another file with --to")
    if len(config.models) < 2:
        raise ConfigError("an average needs at least two models")
    paths = [resolve_checkpoint(name) for name in config.models]
    headers, weights = zip(*(checkpoint.read(path) for path in paths), strict=True)
    first = weights[0]
    for path, header, tensors in zip(paths, headers, weights, strict=True):
        if header["kind"] != headers[0]["kind"] or {k: v.shape for k, v in tensors.items()} != {
            k: v.shape for k, v in first.items()
        }:
            raise CheckpointError(f"{path} is of another kind or shape than {paths[0]}: they cannot be averaged")
        if header.get("class_names") != headers[0].get("class_names"):
            raise CheckpointError(
                f"the classes of {path} and {paths[0]}, or their order, differ: they cannot be averaged"
            )
        for name in _must_be_equal(headers[0]["kind"], first):
            if not tensors[name].equal(first[name]):
                raise CheckpointError(
                    f"{path} and {paths[0]} have different latents ({name} differs): their mean would be useless"
                )
    mean = {
        name: sum(tensors[name].double() for tensors in weights).div(len(weights)).float()
        if tensor.is_floating_point()
        else tensor
        for name, tensor in first.items()
    }
    longest = max(headers, key=lambda header: (header.get("provenance") or {}).get("images_seen") or 0)
    content = {key: value for key, value in longest.items() if key not in ("format", "kind", "provenance")}
    content["provenance"] = _averaged_provenance(longest, paths, headers, command)
    checkpoint.save(target, longest["kind"], mean, content)
    print(target)
    return target


def _must_be_equal(kind: str, tensors: dict[str, Any]) -> list[str]:
    """The tensors that say what a latent means: they must be the same in all."""
    if kind == "autoencoder":
        return [name for name in tensors if not name.startswith("decoder.")]
    return [name for name in tensors if name.startswith("codec.")]


def _averaged_provenance(
    longest: dict[str, Any], paths: list[Path], headers: tuple[dict[str, Any], ...], command: str
) -> dict[str, Any]:
    """The record of the model that has seen the most images, with the list of the averaged models."""
    return {
        **(longest.get("provenance") or {}),
        "command": command,
        "averaged": [
            {"sha256": file_sha256(path), **{key: made[key] for key in ("images_seen", "command") if key in made}}
            for path, made in zip(paths, (header.get("provenance") or {} for header in headers), strict=True)
        ],
    }


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


def with_smooth_colours(header: dict[str, Any]) -> dict[str, Any]:
    """An autoencoder's header that says so. Raises ValueError for another model, or for other images than RGB."""
    if header["kind"] != "autoencoder":
        raise ConfigError(
            f"smooth_colours is a setting of an autoencoder, not of a {header['kind']}: release the autoencoder "
            "with it, and then this model with --autoencoder"
        )
    if header["codec"]["image_shape"][0] != 3:
        raise ConfigError(f"smooth_colours is for RGB images, not for {header['codec']['image_shape'][0]} channel(s)")
    codec = header["codec"]
    return {**header, "codec": {**codec, "autoencoder": {**codec["autoencoder"], "smooth_colours": True}}}


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
    same = encoders[0].keys() == encoders[1].keys() and all(
        _equal_as_released(tensor, encoders[1][name]) for name, tensor in encoders[0].items()
    )
    # Rebuilt, since a setting that did not exist yet when a file was written was at its default. What a decoder alone
    # is made by may differ.
    codecs = [
        (codec["image_shape"], replace(from_dict(AutoencoderConfig, codec["autoencoder"]), **DECODER_SETTINGS))
        for codec in (header["codec"], theirs["codec"])
    ]
    if not same or codecs[0] != codecs[1]:
        raise CheckpointError(
            f"the encoder in {autoencoder} is not the one that the model was trained with, so its latents differ"
        )
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
    if own.keys() != weights.keys() or not all(_equal_as_released(own[name], weights[name]) for name in own):
        raise CheckpointError(
            f"{autoencoder} is not the model's autoencoder: release the model's autoencoder to that file first, "
            "or leave out "
            "--codec_beside"
        )
    named = {"name": autoencoder.name, "sha256": file_sha256(autoencoder)}
    network = {name: tensor for name, tensor in tensors.items() if not name.startswith("codec.")}
    return {**header, "codec_file": named}, network


def _equal_as_released(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are the same in a released file, which holds matrices and kernels as bf16."""
    return a.bfloat16().equal(b.bfloat16()) if a.ndim > 1 else a.equal(b)
