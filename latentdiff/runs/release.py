"""Release a trained model: half the size, with a card that says where it comes from."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentdiff import checkpoint
from latentdiff.config import AutoencoderConfig, from_dict
from latentdiff.config.model_stages import ReleaseStage
from latentdiff.errors import CheckpointError, ConfigError, FolderError
from latentdiff.files import file_sha256, write_atomically
from latentdiff.report.evaluation import read_evaluation
from latentdiff.resources import resolve_checkpoint
from latentdiff.runs.model_card import TITLES, card, write_samples

# The settings that leave an encoder and its latents as they are.
OF_A_DECODER = {"decoder_blocks": 0, "refine_channels": 0, "smooth_colours": False}


def release_model(config: ReleaseStage) -> Path:
    """Write the file and its card; return the path of the file."""
    source, target = Path(config.model), Path(config.to)
    header, tensors = checkpoint.read(source)
    kind = header["kind"]
    if kind not in TITLES:
        raise ConfigError(
            f"{source} holds a {kind}, which is released as it is; a card is written for {', '.join(TITLES)}"
        )
    header, tensors = with_codec(source, header, tensors)
    header = {**header, "provenance": thinned(header["provenance"])}
    if config.smooth_colours:
        header = with_smooth_colours(header)
    if config.autoencoder:
        header, tensors = with_decoder(header, tensors, Path(config.autoencoder))
    if config.codec_beside:
        header, tensors = without_codec(header, tensors, target.parent / "autoencoder.safetensors")
    if config.more_evaluations and not config.evaluation:
        raise ConfigError("more_evaluations come after the first, which --evaluation names")
    measured = [config.evaluation, *config.more_evaluations] if config.evaluation else []
    evaluations = [read_evaluation(folder).values for folder in measured]
    if target.exists() and not config.overwrite:
        raise FolderError(f"{target} is there already; --overwrite replaces it")
    content = {key: value for key, value in header.items() if key not in ("format", "kind")}
    # Under another name until the evaluation is known to be of this very file.
    waiting = target.with_name(f".{target.name}")
    try:
        checkpoint.save(waiting, kind, tensors, content, torch.bfloat16)
        for folder, values in zip(measured, evaluations, strict=True):
            if (values["model"] or {}).get("sha256") != file_sha256(waiting):
                raise ConfigError(f"{folder} measured another file than {target}: evaluate the released file")
            check_guide(folder, values["sampling"] or {})
        sharing = dependants(target) if kind == "autoencoder" else []
        os.replace(waiting, target)
    finally:
        waiting.unlink(missing_ok=True)
    samples = write_samples(Path(config.evaluation), target) if config.evaluation else None
    numbers = sum(tensor.numel() for tensor in tensors.values())
    text = card(target, header, numbers, evaluations, config.licence, samples)
    write_atomically(target.with_suffix(".md"), lambda file: file.write_text(text))
    print(target)
    for name in sharing:
        print(f"{name} decodes with the file that was replaced: release it again from its run, or from copies of both")
    return target


def check_guide(folder: str, sampling: dict[str, Any]) -> None:
    """Raise ValueError where the guide that an evaluation was made with is not there any more as it was."""
    if sampling.get("guide") and file_sha256(resolve_checkpoint(sampling["guide"])) != sampling.get("guide_sha256"):
        raise ConfigError(f"{folder} was guided by another file than {sampling['guide']} is now: evaluate again")


def dependants(autoencoder: Path) -> list[Path]:
    """The released models in its folder that decode with this autoencoder's file as it is now."""
    if not autoencoder.is_file():
        return []
    found, digest = [], file_sha256(autoencoder)
    for path in sorted(autoencoder.parent.glob("*.safetensors")):
        try:
            named = checkpoint.read_header(path).get("codec_file")
        except CheckpointError:
            continue
        if named == {"name": autoencoder.name, "sha256": digest}:
            found.append(path)
    return found


def thinned(provenance: dict[str, Any]) -> dict[str, Any]:
    """A record with a history for curves alone: five digits, and none of each latent channel's statistics."""
    rows = [
        {
            name: float(f"{value:.5g}") if isinstance(value, float) else value
            for name, value in row.items()
            if not name.startswith("latent_")
        }
        for row in provenance.get("history", [])
    ]
    return {**provenance, "history": rows} if rows else provenance


def with_codec(
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
            f"smooth_colours is a setting of an autoencoder, not of a {header['kind']}: release that one with it, and "
            "the models that decode with it by --autoencoder"
        )
    if header["codec"]["image_shape"][0] != 3:
        raise ConfigError(f"smooth_colours is for RGB images, not for {header['codec']['image_shape'][0]} channel(s)")
    codec = header["codec"]
    return {**header, "codec": {**codec, "autoencoder": {**codec["autoencoder"], "smooth_colours": True}}}


def with_decoder(
    header: dict[str, Any], tensors: dict[str, Tensor], autoencoder: Path
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A latent diffusion model's header and tensors with the decoder of another file of its autoencoder.

    Raises :class:`~latentdiff.errors.CheckpointError` where a latent would mean another image to the two.
    """
    theirs, weights = checkpoint.read(autoencoder, kind="autoencoder")
    own = {name.removeprefix("codec."): tensor for name, tensor in tensors.items() if name.startswith("codec.")}

    encoders = [
        {name: tensor for name, tensor in codec.items() if not name.startswith("decoder.")} for codec in (own, weights)
    ]
    same = encoders[0].keys() == encoders[1].keys() and all(
        _equal_when_released(tensor, encoders[1][name]) for name, tensor in encoders[0].items()
    )
    # Rebuilt, since a setting that did not exist yet when a file was written was at its default. What a decoder alone
    # is made by may differ.
    codecs = [
        (codec["image_shape"], replace(from_dict(AutoencoderConfig, codec["autoencoder"]), **OF_A_DECODER))
        for codec in (header["codec"], theirs["codec"])
    ]
    if not same or codecs[0] != codecs[1]:
        raise CheckpointError(
            f"the encoder in {autoencoder} is not the one that the model was trained with: its latents are others"
        )
    made = theirs["provenance"]
    provenance = {
        **header["provenance"],
        "stage_one_seconds": made["seconds"],
        "stage_one_device": made.get("device"),
        "stage_one_sha256": file_sha256(autoencoder),
        "decoder": {"images_seen": made["images_seen"], "command": made["command"]},
    }
    network = {name: tensor for name, tensor in tensors.items() if not name.startswith("codec.")}
    tensors = {**network, **{f"codec.{name}": tensor for name, tensor in weights.items()}}
    return {**header, "codec": theirs["codec"], "provenance": provenance}, tensors


def without_codec(
    header: dict[str, Any], tensors: dict[str, Tensor], autoencoder: Path
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A latent diffusion model's header and tensors without the codec, which ``autoencoder`` holds.

    Raises :class:`~latentdiff.errors.CheckpointError` where that file is missing or holds another.
    """
    own = {name.removeprefix("codec."): tensor for name, tensor in tensors.items() if name.startswith("codec.")}
    if not own:
        raise CheckpointError("codec_beside is for latent diffusion models: this one has no autoencoder")
    _, weights = checkpoint.read(autoencoder, kind="autoencoder")
    if own.keys() != weights.keys() or not all(_equal_when_released(own[name], weights[name]) for name in own):
        raise CheckpointError(f"{autoencoder} is not the autoencoder in the model: release that one first")
    named = {"name": autoencoder.name, "sha256": file_sha256(autoencoder)}
    network = {name: tensor for name, tensor in tensors.items() if not name.startswith("codec.")}
    return {**header, "codec_file": named}, network


def _equal_when_released(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are the same in a released file, which holds matrices and kernels as bf16."""
    return a.bfloat16().equal(b.bfloat16()) if a.ndim > 1 else a.equal(b)
