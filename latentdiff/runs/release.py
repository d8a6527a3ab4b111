"""Release a trained model: half the size, with a card that says where it comes from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from latentdiff import checkpoint
from latentdiff.config.model_stages import ReleaseStage
from latentdiff.errors import CheckpointError, ConfigError, FolderError
from latentdiff.files import file_sha256, temporary_folder, write_atomically
from latentdiff.report.evaluation import read_evaluation
from latentdiff.resources import resolve_checkpoint
from latentdiff.runs.model_card import CARD_ROW, STORED_IN_HALF, TITLES, card, write_samples
from latentdiff.runs.released_codec import with_decoder, with_shared_autoencoder, without_shared_autoencoder

DTYPES = {"bf16": torch.bfloat16, "int8": torch.int8}


def release_model(config: ReleaseStage, made_by: str | None = None) -> Path:
    """Write the file and its card; return the path of the file.

    Args:
        config: The settings of the release stage.
        made_by: The command that makes the released file, which the card gives. Default: the command of its
            training.
    """
    source, target = resolve_checkpoint(config.model), Path(config.to)
    header, tensors = checkpoint.read(source)
    kind = header["kind"]
    if kind not in TITLES:
        raise ConfigError(
            f"{source} holds a {kind}, which needs no release: copy the file. Only these have cards: "
            f"{', '.join(TITLES)}"
        )
    header, tensors = with_shared_autoencoder(source, header, tensors)
    header = {**header, "provenance": with_short_history(header.get("provenance") or {})}
    if config.autoencoder:
        header, tensors = with_decoder(header, tensors, resolve_checkpoint(config.autoencoder))
    if config.codec_beside:
        header, tensors = without_shared_autoencoder(header, tensors, target.parent / "autoencoder.safetensors")
    if config.more_evaluations and not config.evaluation:
        raise ConfigError("more_evaluations needs --evaluation: give the first evaluation there")
    measured = [config.evaluation, *config.more_evaluations] if config.evaluation else []
    evaluations = [read_evaluation(folder).values for folder in measured]
    check_target(target, config)
    card_file = target.with_suffix(".md")
    written = [target, card_file, *([target.with_suffix(".jpg")] if config.evaluation else [])]
    there = [path for path in written if path.exists() and not config.overwrite]
    # The card is the last to be written. A model without one may be what a release that was killed has left.
    if there and (card_file.exists() or not target.exists()):
        raise FolderError(f"{there[0]} is there already; --overwrite replaces it")
    content = {key: value for key, value in header.items() if key not in ("format", "kind")}
    # In another folder until the evaluation is known to be of this very file.
    with temporary_folder(target) as folder:
        waiting = folder / target.name
        checkpoint.save(waiting, kind, tensors, content, DTYPES[config.precision])
        if there and file_sha256(waiting) != file_sha256(target):
            raise FolderError(f"{target} is there already, and is another model; --overwrite replaces it")
        for measured_in, values in zip(measured, evaluations, strict=True):
            if (values["model"] or {}).get("sha256") != file_sha256(waiting):
                raise ConfigError(f"{measured_in} measured another file than {target}: evaluate the released file")
            check_guide(measured_in, values["sampling"] or {})
        is_other = not target.is_file() or file_sha256(target) != file_sha256(waiting)
        sharing = models_decoding_with(target) if kind == "autoencoder" and is_other else []
        os.replace(waiting, target)
    samples = write_samples(Path(config.evaluation), target) if config.evaluation else None
    numbers = sum(tensor.numel() for tensor in tensors.values())
    stored = STORED_IN_HALF if config.precision == "bf16" else "matrices and kernels in 8 bits"
    text = card(target, header, numbers, evaluations, config.licence, samples, made_by, stored=stored)
    write_atomically(card_file, lambda file: file.write_text(text))
    print(target)
    for name in sharing:
        print(f"{name} decodes with the file that was replaced: release it again from its run, or from copies of both")
    return target


def check_target(target: Path, config: ReleaseStage) -> None:
    """Raise FolderError if the file, its card or its picture would replace a file that is not part of a released
    model."""
    another = "name another file with --to"
    if checkpoint.is_anothers(target):
        raise FolderError(f"{target} is not a model of latentdiff, and would be overwritten: {another}")
    if checkpoint.is_of_a_run(target):
        raise FolderError(f"{target} is the run's own model in full precision, and would be overwritten: {another}")
    if target.suffix != ".safetensors":
        raise ConfigError(f"--to {target}: a released file's name ends in .safetensors, and its card's in .md")
    beside, picture = target.with_suffix(".md"), target.with_suffix(".jpg")
    text = beside.read_text(errors="replace") if beside.is_file() else ""
    if beside.exists() and CARD_ROW not in text:
        raise FolderError(f"{beside}, the file for the card, is not a model card, and would be overwritten: {another}")
    if config.evaluation and picture.exists() and not (text or target.exists()):
        raise FolderError(
            f"{picture}, the file for the samples, does not belong to a released model, and would be overwritten: "
            f"{another}"
        )


def has_its_guide(sampling: dict[str, Any]) -> bool:
    """Whether the guide that an evaluation sampled with, if any, is still the same file."""
    if not sampling.get("guide"):
        return True
    guide = resolve_checkpoint(sampling["guide"])
    return guide.is_file() and file_sha256(guide) == sampling.get("guide_sha256")


def check_guide(folder: str, sampling: dict[str, Any]) -> None:
    """Raise ValueError if the guide of an evaluation has changed or is missing."""
    if not has_its_guide(sampling):
        raise ConfigError(f"{folder} was made with another guide than the present {sampling['guide']}: evaluate again")


def models_decoding_with(autoencoder: Path) -> list[Path]:
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


def with_short_history(provenance: dict[str, Any]) -> dict[str, Any]:
    """A record whose history is for curves only: with five digits, and without the statistics of each latent
    channel."""
    rows = [
        {
            name: float(f"{value:.5g}") if isinstance(value, float) else value
            for name, value in row.items()
            if not name.startswith("latent_")
        }
        for row in provenance.get("history", [])
    ]
    return {**provenance, "history": rows} if rows else provenance
