"""Train the classifier whose features measure samples."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from latentdiff import checkpoint
from latentdiff.config import to_dict
from latentdiff.config.training_stages import ClassifierStage
from latentdiff.data import load_split
from latentdiff.errors import ConfigError
from latentdiff.precision import resolve_device, resolve_precision
from latentdiff.runs import run_folder
from latentdiff.training import classifier_module as classifier


def train_classifier(config: ClassifierStage, command: str = "") -> Path:
    """Train as ``config`` says and return the path of the run's ``model.safetensors`` (bf16)."""
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    device = resolve_device(config.accelerator)
    dtype = resolve_precision(config.precision, device)
    train_set, test_set = load_split(config.data, "train"), load_split(config.data, "test")
    if train_set.num_classes < 2:
        raise ConfigError(
            f"{train_set.name} has fewer than two classes here, and a classifier learns to tell classes: put the "
            "images of each class into a folder of their own, or name the classes with --data.classes"
        )
    steps = classifier.count_steps(len(train_set), config.epochs, config.batch_size)
    with run_folder.opened(config.run, "classifier", config.data.name, config) as folder:
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
            "images_seen": steps * config.batch_size,
            "seconds": round(seconds, 1),
            "device": checkpoint.device_name(device),
            "precision": "bf16" if dtype == torch.bfloat16 else "fp32",
            "environment": checkpoint.environment(),
            "config": to_dict(config),
            "command": command,
        }
        path = folder / "model.safetensors"
        checkpoint.save(path, "classifier", model.state_dict(), header, torch.bfloat16)
        print(f"test accuracy {accuracy:.2%} after {seconds:.0f} s\n{path}", flush=True)
        return path
