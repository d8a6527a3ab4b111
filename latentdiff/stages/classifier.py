"""Train the classifier that judges samples: ``python -m latentdiff.stages.classifier``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from latentdiff.config import DataConfig, Precision, RunConfig, plain
from latentdiff.settings import Settings


@dataclass(frozen=True, kw_only=True)
class ClassifierStage(Settings):
    """A small residual classifier, the feature net of the quick evaluation.

    Args:
        data: Which images. ``data.hflip`` mirrors them at random.
        channels: Width at each resolution, finest first; the last one is the number of features.
        epochs: Passes over the training images.
        batch_size: Images a step.
        lr: Peak learning rate.
        seed: Seed of the weights, the batches and the shifts.
        precision: ``bf16`` is autocast; ``auto`` is bf16 where the GPU or CPU multiplies in it.
        accelerator: ``auto`` takes a GPU where there is one.
        num_threads: CPU threads; none leaves torch's choice.
        run: Where the files go.
    """

    data: DataConfig = field(default_factory=DataConfig)
    channels: tuple[int, ...] = (32, 64, 128)
    epochs: int = 12
    batch_size: int = 128
    lr: float = 0.1
    seed: int = 0
    precision: Precision = "auto"
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    num_threads: int | None = None
    run: RunConfig = field(default_factory=RunConfig)


def run(config: ClassifierStage, command: str = "") -> Path:
    """Train as ``config`` says and return the path of the run's ``model.safetensors`` (bf16)."""
    import time

    import torch

    from latentdiff import checkpoint
    from latentdiff.data import load_data
    from latentdiff.precision import resolve_device, resolve_precision
    from latentdiff.stages import folders
    from latentdiff.training import classifier

    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    device = resolve_device(config.accelerator)
    dtype = resolve_precision(config.precision, device)
    train_set, test_set = load_data(config.data, "train"), load_data(config.data, "test")
    folder = folders.prepare(config.run, "classifier", config.data.name)
    folders.record_config(config, folder)
    print(train_set.describe(), flush=True)
    started = time.perf_counter()
    model, accuracy = classifier.train(
        train_set,
        test_set,
        epochs=config.epochs,
        batch_size=config.batch_size,
        lr=config.lr,
        seed=config.seed,
        hflip=config.data.hflip,
        channels=config.channels,
        device=device,
        precision=dtype,
    )
    seconds = time.perf_counter() - started
    header = {
        "network": {
            "image_shape": list(train_set.image_shape),
            "num_classes": train_set.num_classes,
            "channels": list(config.channels),
        },
        "class_names": list(train_set.class_names),
        "data": {"name": train_set.name, "source": train_set.source, "fingerprint": train_set.fingerprint},
        "test_accuracy": accuracy,
        "test_images": len(test_set),
        "images_seen": config.epochs * len(train_set),
        "seconds": round(seconds, 1),
        "device": checkpoint.device_name(device),
        "precision": "bf16" if dtype == torch.bfloat16 else "fp32",
        "environment": checkpoint.environment(),
        "config": plain(config),
        "command": command,
    }
    path = folder / "model.safetensors"
    checkpoint.save(path, "classifier", model.state_dict(), header, torch.bfloat16)
    print(f"test accuracy {accuracy:.2%} after {seconds:.0f} s\n{path}", flush=True)
    return path


def main(argv: list[str] | None = None) -> None:
    from latentdiff.stages import cli

    run(cli.parse(ClassifierStage, argv), cli.command(__spec__.name if __spec__ else __name__, argv))


if __name__ == "__main__":
    from latentdiff.stages.cli import run_stage

    run_stage(main)
