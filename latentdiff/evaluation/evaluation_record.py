"""What an ``evaluation.json`` says beside the metrics: of the data, the model, its sampling and its training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from latentdiff.checkpoint import device_name, environment
from latentdiff.data import ImageDataset
from latentdiff.data.statistics import pixel_density
from latentdiff.evaluation.image_sources import ImageSource
from latentdiff.evaluation.measurements import Measurements
from latentdiff.files import file_sha256

# Columns of a training's history that a report draws.
CURVES = ("images_seen", "seconds", "distance", "kid", "loss", "val_loss", "reconstruction", "psnr")


def evaluation_record(
    source: ImageSource,
    path: Path | None,
    images: torch.Tensor,
    seconds: float,
    train: ImageDataset,
    test: ImageDataset,
    found: Measurements,
    device: torch.device,
) -> dict[str, Any]:
    """What ``evaluation.json`` says of the data, the model and what was found."""
    return {
        "kind": source.kind,
        **({} if source.originals is None else {"reconstructed_split": source.originals_split}),
        "data": {
            "name": test.name,
            "source": test.source,
            "train_images": len(train),
            "test_images": len(test),
            "image_shape": list(test.image_shape),
            "class_names": list(test.class_names),
            "train_split": train.split_description,
            "test_split": test.split_description,
            "train_fingerprint": train.fingerprint,
            "test_fingerprint": test.fingerprint,
        },
        "density": {
            key: pixel_density(own).round(7).tolist() for key, own in (("images", images), ("test", test.images))
        },
        "sampling": source.sampling
        and {
            **source.sampling,
            "seconds": seconds,
            "images_per_second": len(images) / seconds,
            "device": device_name(device),
        },
        "model": None if not source.model else {**_model_file(path), **source.model},
        "training": training_record(source.provenance) if source.provenance else None,
        "features": found.features,
        "metrics": found.metrics,
        "floors": found.floors,
        "warnings": validation_as_test_warnings(test)
        + other_split_warnings(source.provenance, train, test)
        + source.notes
        + found.notes,
        "environment": environment(),
    }


def _model_file(path: Path | None) -> dict[str, Any]:
    """The name and the SHA-256 of the file that a model was read from."""
    known = path is not None and path.is_file()
    return {"path": path.name if path else None, "sha256": file_sha256(path) if known else None}


def validation_as_test_warnings(test: ImageDataset) -> list[str]:
    """A warning where validation images were measured against for want of test images."""
    if test.split == "test":
        return []
    return [
        f'what is called "test" here are the {len(test):,} {test.split} images, since there is no test split '
        f"({test.split_description or 'official split'}): where they chose the best model, its figures are a little "
        "too good."
    ]


def other_split_warnings(provenance: dict[str, Any] | None, train: ImageDataset, test: ImageDataset) -> list[str]:
    """A warning where the model was trained on other images than the training split here, of a set that is split anew:
    test images may then be among those that it was trained on."""
    provenance = provenance or {}
    data = provenance.get("data") or {}
    # Images of the official training split that were set apart for validation leave the test split as it is.
    is_official = bool(((provenance.get("config") or {}).get("data") or {}).get("val_images"))
    anew = test.split_description or (None if is_official else data.get("split"))
    if not data or not anew or data.get("fingerprint") == train.fingerprint:
        return []
    return [
        f"the model was trained on {data.get('images', 0):,} images of {data.get('name')} "
        f"({data.get('split') or 'another split'}), not on the {len(train):,} of the training split here "
        f"({train.split_description}): it may have seen test images. Evaluate with the --data settings that it was "
        "trained with."
    ]


def training_record(provenance: dict[str, Any]) -> dict[str, Any]:
    """What a report says about the training: budget, speed, memory, device, and quality over time."""
    keys = ("images_seen", "seconds", "images_per_second", "peak_memory_bytes", "device", "command")
    rows = provenance.get("history") or []
    history = [{key: row[key] for key in CURVES if key in row} for row in rows]
    quality = [row["quality_seconds"] for row in rows if row.get("quality_seconds") is not None]
    return {
        **{key: provenance.get(key) for key in keys},
        "energy_joules": provenance.get("energy_joules"),
        "flops": provenance.get("flops"),
        "config": provenance.get("config"),
        "stage_one_seconds": provenance.get("stage_one_seconds"),
        "stage_one_flops": provenance.get("stage_one_flops"),
        "stage_one_device": provenance.get("stage_one_device"),
        "encode_seconds": provenance.get("encode_seconds"),
        # What watching the samples' quality cost beside the training.
        "quality_seconds": sum(quality) if quality else None,
        "optimiser_steps": _optimiser_steps(provenance),
        "history": [row for row in history if len(row) > 2],
    }


def _optimiser_steps(provenance: dict[str, Any]) -> int | None:
    """How many steps a training had; None where the record does not say.

    Of the run that it started from, where there is one, the batch size is not known.
    """
    trainer = (provenance.get("config") or {}).get("trainer")
    batch_size = trainer.get("batch_size") if isinstance(trainer, dict) else None
    if provenance.get("started_from") or not isinstance(batch_size, int) or batch_size < 1:
        return None
    return round((provenance.get("images_seen") or 0) / batch_size)
