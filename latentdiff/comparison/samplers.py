"""Samplers against their number of steps, on one model."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from latentdiff.checkpoint import device_name, environment
from latentdiff.config import to_dict
from latentdiff.config.comparison_stages import SamplersStage
from latentdiff.data import DatasetSplits, ImageDataset, load_split
from latentdiff.data.shape_check import check_image_shape
from latentdiff.errors import CheckpointError, FolderError
from latentdiff.evaluation.available_nets import how_to_train_classifier
from latentdiff.evaluation.feature_extraction import extract_features
from latentdiff.evaluation.feature_metrics import ReferenceFeatures, feature_metrics
from latentdiff.evaluation.feature_nets import ClassifierFeatures
from latentdiff.evaluation.flops import network_passes
from latentdiff.files import check_cache_folder, file_sha256, write_atomically
from latentdiff.inference.labels import match_classes
from latentdiff.inference.model import DiffusionModel, load_diffusion
from latentdiff.inference.model_file import find_model
from latentdiff.inference.request import SamplingRequest
from latentdiff.precision import resolve_device
from latentdiff.report.sampler_figure import sampler_figure
from latentdiff.report.sampler_record import read_sampler_record, write_sampler_record
from latentdiff.runs import run_folder
from latentdiff.runs.find import find_classifier


def compare_samplers(config: SamplersStage, command: str = "") -> Path:
    """Measure every pair of sampler and steps that is not in the run's folder yet; return the folder."""
    if config.threads:
        torch.set_num_threads(config.threads)
    check_cache_folder(config.features_folder, "--features_folder")
    device, path = resolve_device(config.device), find_model(config.model)
    model = load_diffusion(path).to(device)
    train, test = load_split(config.data, "train"), DatasetSplits(config.data).test_or_val
    check_image_shape(str(path), model.codec.image_shape, test, model.settings)
    classifier = find_classifier(test.name)
    if classifier is None:
        raise CheckpointError(
            f"{test.name} has no classifier to measure with. {how_to_train_classifier(test, config.data)}".rstrip()
        )
    base = SamplingRequest(
        num_images=config.num_images,
        guidance_scale=config.guidance_scale,
        seed=config.seed,
        batch_size=config.batch_size,
    )
    wanted = [replace(base, sampler=name, steps=steps) for name in config.samplers for steps in config.steps]
    for request in wanted:
        model.check(request)
    place = match_classes(model.class_names, test.class_names, str(path), test.name) if model.conditional else None
    net = ClassifierFeatures(classifier, device)
    name = run_folder.folder_name(path)
    run = run_folder.numbered(config.run, "samplers", name)
    with run_folder.opened(run, "samplers", name, config, resumable=True, inputs=[path]) as folder:
        _measure(config, model, net, (train, test), path, wanted, place, folder, command)
    print(folder)
    return folder


def _measure(
    config: SamplersStage,
    model: DiffusionModel,
    net: ClassifierFeatures,
    splits: tuple[ImageDataset, ImageDataset],
    path: Path,
    wanted: list[SamplingRequest],
    place: Tensor | None,
    folder: Path,
    command: str,
) -> None:
    """Measure the pairs that ``folder`` does not have yet, and write each at once."""
    train, test = splits
    device = net.device
    reference = ReferenceFeatures.build(net, train, test, Path(config.features_folder), max_real_images=len(test))
    results = folder / "samplers.json"
    record: dict[str, Any] = {
        "schema": 1,
        "model": {"path": path.name, "sha256": file_sha256(path)},
        "data": reference.data,
        "num_images": config.num_images,
        "seed": config.seed,
        "guidance_scale": config.guidance_scale,
        "features": reference.net,
        "floor": reference.floor(config.num_images)["distance_test"],
        "device": device_name(device),
        "environment": environment(),
        "command": command,
        "rows": [],
    }
    if results.is_file():
        before = read_sampler_record(results)
        if before["model"]["sha256"] != record["model"]["sha256"]:
            raise FolderError(f"{folder} holds measurements of another model file; start anew with --run.overwrite")
        kept = {
            "data": "against other images",
            "features": "with another classifier",
            "num_images": "of another number of images",
            "seed": "with another seed",
            "guidance_scale": "with another guidance_scale",
        }
        for key, what in kept.items():
            if before.get(key, record[key]) != record[key]:
                raise FolderError(f"{folder} holds measurements {what}; start anew with --run.overwrite")
        # Counted anew: earlier versions reckoned the passes of Heun's method.
        base = wanted[0]
        record["rows"] = [
            row | {"passes": network_passes(model, replace(base, sampler=row["sampler"], steps=row["steps"]))}
            for row in before["rows"]
        ]
    done = {(row["sampler"], row["steps"]) for row in record["rows"]}
    for request in tqdm(wanted, desc="samplers", disable=None):
        if (request.sampler, request.steps) in done:
            continue
        start = time.perf_counter()
        images = model.sample(**to_dict(request))
        seconds = time.perf_counter() - start
        features = extract_features(net, images, progress=False)
        labels = model.resolve_labels(request)
        labels = None if labels is None or place is None or model.network.tokenizer else place[labels]
        found = feature_metrics(features, labels, reference, config.seed)
        row = {
            "sampler": request.sampler,
            "steps": request.steps,
            "passes": network_passes(model, request),
            "distance_test": found["distance_test"],
            "distance_error": found["distance_test_error"],
            "class_accuracy": found.get("class_accuracy"),
            "seconds": seconds,
        }
        record["rows"].append(row)
        tqdm.write(f"{request.sampler} {request.steps}: {row['distance_test']:.4f} in {seconds:.0f} s")
        write_sampler_record(record, results)
    text = markdown_table(record)
    write_atomically(folder / "samplers.md", lambda name: name.write_text(text))
    write_figures(record, folder)
    print(text)


def markdown_table(record: dict[str, Any]) -> str:
    """The distances as Markdown: a row a number of steps, a column a sampler."""
    found = {(row["sampler"], row["steps"]): row["distance_test"] for row in record["rows"]}
    samplers, counts = (list(dict.fromkeys(row[key] for row in record["rows"])) for key in ("sampler", "steps"))
    lines = ["| Steps | " + " | ".join(samplers) + " |", "|--:" * (len(samplers) + 1) + "|"]
    for steps in sorted(counts):
        cells = [f"{found[name, steps]:.3f}" if (name, steps) in found else "–" for name in samplers]
        lines.append(f"| {steps} | " + " | ".join(cells) + " |")
    text = f"{record['num_images']:,} images each; as many real training images: {record['floor']:.3f}."
    if errors := [row["distance_error"] for row in record["rows"] if row.get("distance_error") is not None]:
        text += f" Standard errors from {min(errors):.3f} to {max(errors):.3f}."
    return "\n".join([*lines, "", text])


def write_figures(record: dict[str, Any], folder: Path) -> None:
    """Write samplers.png and samplers.svg."""
    for format in ("png", "svg"):
        picture = sampler_figure(record, format=format)
        write_atomically(folder / f"samplers.{format}", lambda name, picture=picture: name.write_bytes(picture))
