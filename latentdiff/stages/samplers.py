"""Measure samplers against their number of steps, on one model."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from latentdiff.config import DataConfig, RunConfig, SamplerName, plain
from latentdiff.settings import Settings


@dataclass(frozen=True, kw_only=True)
class SamplersStage(Settings):
    """Sample a model with several samplers in several numbers of steps; a table, samplers.json and a figure.

    The distance is the Fréchet distance in the features of the data set's classifier; it falls with the number of
    images, so it compares these rows with each other and not with another number's. A run that was stopped goes on
    with --run.resume.

    Args:
        checkpoint: A diffusion model's file.
        samplers: Names of the samplers, as stages.sample knows them.
        steps: Numbers of steps that each sampler is measured with.
        num_images: Images for each pair.
        guidance_scale: Classifier-free guidance; 1 is off.
        seed: Image i depends on (seed, i) alone: all rows start from the same noise.
        batch_size: Images at a time; changes memory, not images.
        data: The real images.
        device: ``auto`` takes a GPU where there is one.
        threads: CPU threads; none leaves torch's choice.
        features_folder: Where the features of real images are cached.
        run: Where the files go.
    """

    checkpoint: str = "checkpoints/fashion-mnist/latent.safetensors"
    samplers: tuple[SamplerName, ...] = ("ddpm", "ddim", "heun", "dpmpp_2m", "dpmpp_2m_sde", "unipc")
    steps: tuple[int, ...] = (5, 10, 20, 50, 100, 250, 1000)
    num_images: int = 2000
    guidance_scale: float = 1.0
    seed: int = 0
    batch_size: int = 250
    data: DataConfig = field(default_factory=DataConfig)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = None
    features_folder: str = "stages/features"
    run: RunConfig = field(default_factory=RunConfig)


def passes(sampler: str, steps: int, guided: bool = False) -> int:
    """Network passes an image."""
    return (2 * steps - 1 if sampler in ("heun", "predictor_corrector") else steps) * (2 if guided else 1)


def run(config: SamplersStage, command: str = "") -> Path:
    """Measure every pair that is not in the run's folder yet; return the folder."""
    import json
    import time

    import torch
    from tqdm import tqdm

    from latentdiff.checkpoint import CheckpointError, device_name, environment, file_sha256, write_atomically
    from latentdiff.data import load_data, load_test
    from latentdiff.evaluation.extract import extract
    from latentdiff.evaluation.feature_nets import ClassifierFeatures
    from latentdiff.evaluation.measure import Reference, measure
    from latentdiff.pipeline import Request, load_diffusion, locate
    from latentdiff.precision import resolve_device
    from latentdiff.shelf import find
    from latentdiff.stages import folders

    if config.threads:
        torch.set_num_threads(config.threads)
    device, path = resolve_device(config.device), locate(config.checkpoint)
    model = load_diffusion(path).to(device)
    train, test = load_data(config.data, "train"), load_test(config.data)
    classifier = find(f"{test.name}/classifier.safetensors")
    if classifier is None:
        raise CheckpointError(f"{test.name} has no classifier to measure with")
    base = Request(
        num_images=config.num_images,
        guidance_scale=config.guidance_scale,
        seed=config.seed,
        batch_size=config.batch_size,
    )
    wanted = [replace(base, sampler=name, steps=steps) for name in config.samplers for steps in config.steps]
    for request in wanted:
        model.check(request)
    net = ClassifierFeatures(classifier, device)
    folder = folders.prepare(config.run, "samplers", folders.model_name(path), resumable=True)
    folders.record_config(config, folder)
    reference = Reference.build(net, train, test, Path(config.features_folder), max_images=len(test))
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
        before = json.loads(results.read_text())
        if before["model"] != record["model"]:
            raise folders.FolderError(f"{folder} measured another model file; begin anew with --run.overwrite")
        record["rows"] = before["rows"]
    done = {(row["sampler"], row["steps"]) for row in record["rows"]}
    for request in tqdm(wanted, desc="samplers", disable=None):
        if (request.sampler, request.steps) in done:
            continue
        start = time.perf_counter()
        images = model.sample(**plain(request))
        seconds = time.perf_counter() - start
        features = extract(net, images, progress=False)
        found = measure(features, model.resolve_labels(request), reference, config.seed)
        row = {
            "sampler": request.sampler,
            "steps": request.steps,
            "passes": passes(request.sampler, request.steps, request.guidance_scale not in (0.0, 1.0)),
            "distance_test": found["distance_test"],
            "distance_error": found["distance_test_error"],
            "class_accuracy": found.get("class_accuracy"),
            "seconds": seconds,
        }
        record["rows"].append(row)
        tqdm.write(f"{request.sampler} {request.steps}: {row['distance_test']:.4f} in {seconds:.0f} s")
        write_atomically(results, lambda name: name.write_text(json.dumps(record, indent=1)))
    text = table(record)
    write_atomically(folder / "samplers.md", lambda name: name.write_text(text))
    draw(record, folder)
    print(f"{text}\n{folder}")
    return folder


def table(record: dict[str, Any]) -> str:
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


def draw(record: dict[str, Any], folder: Path) -> None:
    """Write samplers.png and samplers.svg."""
    from latentdiff.checkpoint import write_atomically
    from latentdiff.report.sampler_figure import sampler_figure

    for format in ("png", "svg"):
        picture = sampler_figure(record, format=format)
        write_atomically(folder / f"samplers.{format}", lambda name, picture=picture: name.write_bytes(picture))


def main(argv: list[str] | None = None) -> None:
    from latentdiff.stages import cli

    run(cli.parse(SamplersStage, argv), cli.command(__spec__.name if __spec__ else __name__, argv))


if __name__ == "__main__":
    from latentdiff.stages.cli import run_stage

    run_stage(main)
