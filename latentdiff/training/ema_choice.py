"""A run's model with another average of its weights, of a length that is named or chosen on validation images."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch

from latentdiff import checkpoint, distributed
from latentdiff.codec import AutoencoderCodec
from latentdiff.config import DataConfig, from_dict
from latentdiff.config.model_stages import EvaluateStage, ReleaseStage
from latentdiff.data import ImageDataset, load_dataset
from latentdiff.errors import CheckpointError, ConfigError
from latentdiff.evaluation.reference_subset import representative
from latentdiff.files import file_sha256, write_atomically
from latentdiff.folder_mark import read_mark
from latentdiff.inference.model import DiffusionModel, load
from latentdiff.precision import resolve_device
from latentdiff.resources import resolve_checkpoint
from latentdiff.training.latent_statistics import latent_statistics
from latentdiff.training.post_hoc_ema import FOLDER, rebuild_average, snapshots_in
from latentdiff.training.quality_probe import QualityProbe

# Lengths that ``auto`` tries, about a factor of 1.4 apart.
CANDIDATES = (0.02, 0.035, 0.05, 0.07, 0.10, 0.14, 0.20, 0.28)
# Samples, or reconstructions of validation images, that each of them is judged by.
NUM_IMAGES = 2000
# The choice that was made, so that release and evaluate agree and the second costs nothing.
RECORD = "ema.json"
Asked = TypeVar("Asked", EvaluateStage, ReleaseStage)


def write_ema_model(
    model: Path | str,
    length: float | Literal["auto"],
    num_images: int = NUM_IMAGES,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    features_folder: Path | str | None = None,
) -> Path:
    """Write a run's model with an average of another length into the run's folder, as ``ema-LENGTH.safetensors``.

    The average is rebuilt from the snapshots that ``trainer.ema_snapshots`` kept (post-hoc EMA, Karras et al. 2024). If
    the encoder of an autoencoder was frozen during the run, only its decoder is averaged. ``auto`` compares eight
    lengths, and the average that the run has used itself, by the distance of samples (of an autoencoder: of
    reconstructions) to the run's validation images. It keeps what it found in ``ema.json``, and does not measure again.

    Args:
        model: The run's folder or its ``model.safetensors``.
        length: 0.01 to 0.28 of the run, or ``auto``.
        num_images: How many images each length is judged by.
        device: Where they are made.
        features_folder: Where Inception's features of the validation images are cached.

    Returns: the path of the file. If ``auto`` finds nothing better, it is the run's own ``model.safetensors``.

    Raises:
        CheckpointError: Not a run's model, a run without snapshots, or nothing to judge with.
        ConfigError: A length that no average has; ``auto`` without validation images.
    """
    if distributed.world_size() > 1:
        raise ConfigError("--ema writes a model file, which one process does: take --devices 1")
    path = resolve_checkpoint(model)
    _check(path)
    chosen = _choose(path, num_images, resolve_device(device), features_folder) if length == "auto" else length
    if chosen is None:
        return path
    target = ema_file(path.parent, chosen)
    made = _build(path, chosen)
    made.provenance = {**made.provenance, "ema": {"length": chosen, **(_read_record(path) if length == "auto" else {})}}
    made.save(target)
    print(target)
    return target


def with_ema(settings: Asked) -> Asked:
    """The settings of a stage, which name the model with the average that ``settings.ema`` asks for."""
    if settings.ema is None:
        return settings
    folder = getattr(settings, "features_folder", None)
    device = getattr(settings, "device", "auto")
    model = write_ema_model(settings.model, settings.ema, device=device, features_folder=folder)
    return replace(settings, model=str(model), ema=None)


def ema_file(folder: Path, length: float) -> Path:
    """The file of the model with an average of that length."""
    return folder / f"ema-{length:g}.safetensors"


def _check(path: Path) -> None:
    """Raise CheckpointError where there is no finished run with snapshots around a model file."""
    folder = path.parent
    if path.name != "model.safetensors" or read_mark(folder) is None:
        raise CheckpointError(f"--ema needs the model of a finished run, and {path} is not one: name the run's folder")
    paths = snapshots_in(folder)
    if not paths:
        raise CheckpointError(
            f"{folder} has no snapshots in {FOLDER}/ to make an average of: train with --trainer.ema_snapshots 20"
        )
    made = checkpoint.read_header(path).get("provenance") or {}
    seen = (made.get("images_seen") or 0) - ((made.get("started_from") or {}).get("images_seen") or 0)
    if int(paths[-1].stem) != seen:
        raise CheckpointError(
            f"the last snapshot in {folder / FOLDER} is after {int(paths[-1].stem):,} images, and the model after "
            f"{seen:,}: they are not from the same run"
        )


def _build(path: Path, length: float) -> DiffusionModel | AutoencoderCodec:
    """The run's model with another average."""
    model = load(path, engine="torch")
    folder = path.parent
    if isinstance(model, DiffusionModel):
        rebuild_average(folder, length, model.network)
        return model
    if not _has_encoder(folder):
        rebuild_average(folder, length, model.model.decoder)
        return model
    rebuild_average(folder, length, model.model)
    # Another encoder has other latents.
    data = from_dict(DataConfig, model.settings["data"])
    images = load_dataset(data).train.images
    model.mean, model.std = latent_statistics(
        model.model, torch.cat([images, images.flip(-1)]) if data.hflip else images
    )
    return model


def _has_encoder(folder: Path) -> bool:
    """Whether the snapshots hold an autoencoder's encoder too."""
    return any(name.startswith("0.encoder.") for name in checkpoint.read_tensors(snapshots_in(folder)[-1]).tensors)


def _choose(path: Path, num_images: int, device: torch.device, features_folder: Path | str | None) -> float | None:
    """The best length on the run's validation images; None where it is the run's own average."""
    if not (record := _read_record(path)):
        record = _compare(path, num_images, device, features_folder)
        text = json.dumps({"model_sha256": file_sha256(path), "choice": record}, indent=1)
        write_atomically(path.parent / RECORD, lambda file: file.write_text(text))
    values: dict[str, float] = record["values"]
    best = min(values, key=values.__getitem__)
    print(f"average with the lowest {record['metric']} on {record['images']:,} validation images: {best}")
    return None if best == "own" else float(best)


def _compare(path: Path, num_images: int, device: torch.device, features_folder: Path | str | None) -> dict[str, Any]:
    """What each length gives on the validation images of the run's data set."""
    config = load(path, engine="torch").settings
    if not config:
        raise CheckpointError(f"{path} does not say what it was trained on: name a length, such as --ema 0.1")
    held_out = validation_images(from_dict(DataConfig, config["data"]))
    net = config.get("quality_net", "auto")
    probe = QualityProbe.build(held_out, num_images, device, net, features_folder)
    if probe is None:
        raise CheckpointError("no metric to compare averages by: name a length, such as --ema 0.1")
    values: dict[str, float] = {}
    for length in (None, *CANDIDATES):
        model = (load(path, engine="torch") if length is None else _build(path, length)).to(device)
        if isinstance(model, DiffusionModel):
            images = probe.sample(model)
        else:
            few = representative(held_out, num_images).images
            images = torch.cat([model.reconstruct(chunk).cpu() for chunk in few.split(256)])
        name = "own" if length is None else f"{length:g}"
        values[name] = probe.distance_of(images)
        print(f"  average {name}: {probe.metric} {values[name]:.5g}", flush=True)
    return {"metric": probe.metric, "images": len(images), "values": values}


def validation_images(data: DataConfig) -> ImageDataset:
    """The validation images, by which ``auto`` chooses. Raises ConfigError where there are none."""
    held_out = load_dataset(data).held_out
    if held_out.split != "val" or len(held_out) < 2:
        raise ConfigError(
            f"--ema auto, and a recipe with --trainer.ema_snapshots, need validation images. {data.name} has "
            "none. Name a length, such as --ema 0.1"
        )
    return held_out


def _read_record(path: Path) -> dict[str, Any]:
    """The choice that was made for this very model; empty where there is none."""
    try:
        record = json.loads((path.parent / RECORD).read_text())
        return record["choice"] if record["model_sha256"] == file_sha256(path) else {}
    except (OSError, ValueError, LookupError, TypeError):
        return {}
