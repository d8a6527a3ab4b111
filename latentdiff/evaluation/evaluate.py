"""Measure a model: distances to real images, floors, speed."""

from __future__ import annotations

import json
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from latentdiff import checkpoint, distributed
from latentdiff.config import SamplingConfig
from latentdiff.config.model_stages import EvaluateStage
from latentdiff.data import DatasetSplits, ImageDataset, load_split
from latentdiff.errors import ConfigError
from latentdiff.evaluation import image_sources as subjects
from latentdiff.evaluation.assessment import GENERATED, METHOD, Against, Assessment, assess, sampled
from latentdiff.evaluation.available_nets import feature_nets, lpips_net
from latentdiff.evaluation.feature_nets import InceptionFeatures
from latentdiff.evaluation.fid_infinity import LEAST
from latentdiff.evaluation.given_images import is_images
from latentdiff.evaluation.image_sources import Subject
from latentdiff.evaluation.kid import SUBSETS, Subsets
from latentdiff.evaluation.precision_recall import closest, neighbours_of
from latentdiff.evaluation.record import record
from latentdiff.files import write_atomically
from latentdiff.inference.request import SamplingRequest
from latentdiff.precision import resolve_device
from latentdiff.report import evaluation_figures as evidence
from latentdiff.report.grids import save_grid
from latentdiff.report.summary import summary
from latentdiff.resources import resolve_checkpoint
from latentdiff.runs import folder as folders

GRID = 100
# Samples nearest to a training image, by pixels and by features, and how many training images of each are shown.
CLOSEST, NEIGHBOURS = 5, 3

# What can be measured without a file.
RANDOM = ("noise", "gaussian")


def evaluate_to_folder(config: EvaluateStage, command: str = "") -> Path:
    """Measure as ``config`` says and return the folder that holds ``evaluation.json``."""
    check_settings(config)
    device = resolve_device(config.device)
    path = None if config.model in RANDOM else resolve_checkpoint(config.model)
    name = config.name or (folders.model_name(path) if path else config.model)
    folders.check(config.run, "evaluate", name)
    with distributed.main_process_first():
        train, test = load_split(config.data, "train"), DatasetSplits(config.data).test_or_val
    subject, n = build_subject(config, path, train, test, device)
    with distributed.main_process_first():
        nets = feature_nets(test, device, config.inception, config.inception_weights)
    distributed.check_same("the images or the nets to measure with", [test.fingerprint, *nets])
    lpips = lpips_net(device) if config.lpips == "auto" and distributed.is_main_process() else None
    # As many real training as test images, since a Fréchet distance falls with the number on either side. Training
    # images' reconstructions are measured against their own originals.
    reals = n if config.reconstruct == "train" else config.real_images or max(n, len(test))
    check_extras(config, nets, n, min(reals, len(test)), subject)
    if distributed.is_main_process():
        folder = folders.prepare(config.run, "evaluate", name, inputs=[path])
        folders.record_config(config, folder)
    print(f"{test.describe()}\nmeasuring {n:,} images of {name}: {subject.kind}")
    if unheeded := _unheeded(config, subject):
        print(f"of no effect on these images: {', '.join(f'--{key}' for key in unheeded)}")

    start = time.perf_counter()
    images = sampled(subject, n, test.image_shape)
    seconds = time.perf_counter() - start
    against = Against(
        train=train,
        test=test,
        real_images=reals,
        features_folder=Path(config.features_folder),
        seed=config.seed,
        subsets=Subsets(config.kid_subsets, config.kid_subset_size or SUBSETS.size),
    )
    taps = [InceptionFeatures(config.inception_weights, device, str(tap)) for tap in config.inception_taps]
    found = assess(images, subject, against, nets, lpips, config.fid_infinity, taps)
    if found is None:
        return config.run.path("evaluate", name)
    columns = 10 if subject.labels is None else min(10, test.num_classes)
    save_grid(images[:GRID], folder / "grid.png", columns)
    values = {
        "schema": 1,
        "method": METHOD,
        "name": name,
        "num_images": n,
        **record(subject, path, images, seconds, train, test, found, device),
        "grid": "grid.png",
        "pictures": draw(folder, subject, images, train, test.class_names, found),
        "command": command,
    }
    text = json.dumps(values, indent=1, allow_nan=False)
    write_atomically(folder / "evaluation.json", lambda file: file.write_text(text))
    for line in summary(values):
        print(line)
    print(folder)
    return folder


def check_settings(config: EvaluateStage) -> None:
    """Raise ValueError for settings that cannot be meant, whatever the images: before any of them is read."""
    if config.num_images is not None and config.num_images < 2:
        raise ConfigError(f"a distance needs at least 2 images, not {config.num_images}")
    if config.real_images is not None and config.real_images < 2:
        raise ConfigError(f"a distance needs at least 2 real images, not {config.real_images}")
    if config.kid_subsets < 1:
        raise ConfigError(f"kid_subsets must be at least 1, not {config.kid_subsets}")
    if config.kid_subset_size is not None and config.kid_subset_size < 2:
        raise ConfigError(f"a kernel distance needs at least 2 images, not --kid_subset_size {config.kid_subset_size}")
    if config.batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1, not {config.batch_size}")
    if config.name and not (config.name.strip() and config.name.isprintable()):
        # Such an evaluation would be refused by every comparison.
        raise ConfigError(f"--name {config.name!r}: a row's name is one line of text")
    if config.name and not config.run.folder and "/" in config.name:
        raise ConfigError(f"--name {config.name} is the folder's name too: leave the / out, or name a --run.folder")
    if config.inception == "off" and config.inception_weights:
        raise ConfigError("inception_weights names what --inception off leaves out")


def build_subject(
    config: EvaluateStage, path: Path | None, train: ImageDataset, test: ImageDataset, device: torch.device
) -> tuple[Subject, int]:
    """What ``config`` asks to be measured, and how many images.

    Raises ValueError, CheckpointError or DataError before any long work.
    """
    of_codec = path is not None and not is_images(path) and checkpoint.read_header(path)["kind"] == "autoencoder"
    if config.mode == "prior" and not of_codec:
        raise ConfigError(f"--mode prior is for autoencoders, which {config.model} is not")
    if config.reconstruct == "train" and (config.mode == "prior" or not of_codec):
        raise ConfigError(
            f"--reconstruct train is for an autoencoder's reconstructions, not for {config.model}"
            + (" in --mode prior" if config.mode == "prior" else "")
        )
    if config.reconstruct == "train" and config.real_images not in (None, config.num_images):
        raise ConfigError(
            "--reconstruct train measures against the originals of as many images as --num_images says: leave "
            "--real_images out"
        )
    if path is not None and is_images(path):
        return subjects.images(path, test, config.num_images, config.batch_size)
    real = train if config.reconstruct == "train" else test
    n = config.num_images or min(10_000, len(real))
    if path is None:
        random = {"noise": (subjects.noise, test), "gaussian": (subjects.gaussian, train)}
        make, data = random[config.model]
        return make(data, n, config.seed, config.batch_size), n
    if of_codec:
        asked = (config.mode, real, config.reconstruct, n, config.seed, config.batch_size)
        return subjects.autoencoder(path, *asked, device), n
    return subjects.diffusion(path, SamplingRequest.of(config, num_images=n), test, device), n


def check_extras(
    config: EvaluateStage, nets: dict[str, Any], num_images: int, test_images: int, subject: Subject
) -> None:
    """Raise ValueError, before any work, for extras that cannot be had of so many images and real test images."""
    extras = ("fid_infinity", "inception_taps", "kid_subsets", "kid_subset_size")
    asked = [name for name in extras if (value := getattr(config, name)) and value != getattr(EvaluateStage, name)]
    if asked and "inception" not in nets:
        raise ConfigError(f"the FID Inception is off or not here, which {' and '.join(asked)} cannot do without")
    if config.kid_subset_size and config.kid_subset_size > min(num_images, test_images):
        raise ConfigError(
            f"a subset of {config.kid_subset_size:,} cannot be drawn from {num_images:,} images and {test_images:,} "
            "real ones: lower --kid_subset_size, or leave it out to take as many as there are"
        )
    size = min(config.kid_subset_size or SUBSETS.size, num_images, test_images)
    if "kid_subsets" in asked and size == num_images == test_images:
        raise ConfigError(
            f"all {size:,} images of either side are one subset, not {config.kid_subsets}: lower --kid_subset_size too"
        )
    if config.fid_infinity and num_images < LEAST:
        raise ConfigError(f"fid_infinity needs at least {LEAST} images, not {num_images}")
    if config.fid_infinity and subject.originals is not None:
        raise ConfigError("fid_infinity is of samples: reconstructions are no draw to continue")


def _unheeded(config: EvaluateStage, subject: Subject) -> list[str]:
    """Settings of the sampler that were given although no sampler makes these images: all rows of a comparison may be
    made with the same flags, but nobody should think that they counted."""
    if subject.kind == "diffusion":
        return []
    usual = SamplingConfig()
    names = {own.name for own in fields(SamplingConfig)} - {"seed", "batch_size"}
    return sorted(name for name in names if getattr(config, name) != getattr(usual, name))


def draw(
    folder: Path,
    subject: Subject,
    images: torch.Tensor,
    train: ImageDataset,
    class_names: tuple[str, ...],
    found: Assessment,
) -> dict[str, dict[str, Any]]:
    """Write the pictures that this kind of images has something to show in; return what the report needs of each."""
    pictures = {}
    if subject.originals is not None:
        pictures["originals"] = evidence.write_originals(folder, images, subject.originals)
    if subject.kind in ("diffusion", "images") and subject.labels is not None and class_names:
        pictures["classes"] = evidence.write_classes(folder, images, subject.labels, class_names)
    features, reference = found.last
    if subject.kind in GENERATED:
        differences, nearest = found.pixels
        by_pixels = differences.argsort()[:CLOSEST]
        by_features, distances = closest(features.pooled, reference.train.pooled, CLOSEST + len(by_pixels))
        shown = torch.tensor([*by_pixels, *(k for k in by_features if k not in by_pixels)][: 2 * CLOSEST])
        neighbours = reference.train_index[neighbours_of(features.pooled[shown], reference.train.pooled, NEIGHBOURS)]
        near = torch.cat([nearest[shown, None], neighbours], dim=1)
        near = train.images[near.flatten()].unflatten(0, near.shape)
        pictures["neighbours"] = evidence.write_neighbours(
            folder, images[shown], near, distances[shown].tolist(), differences[shown].tolist()
        )
    if subject.denoising is not None:
        pictures |= evidence.write_denoising(folder, subject.denoising())
    return pictures
