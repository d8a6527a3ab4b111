"""Sample images from a trained model, or do something else with it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from latentdiff.config import DataConfig, RunConfig, SamplingConfig

STEPS = 20


@dataclass(frozen=True, kw_only=True)
class SampleStage(SamplingConfig):
    """Sample images: a PNG grid, and on demand single PNGs, an npz, a strip of the denoising and a GIF of it.

    The other tasks take the first test images of the data set, with their own classes unless ``labels`` are given,
    and draw one grid. Only sample and reconstruct heed all of the sampler's settings; those of them that another task
    would not heed are refused.

    Args:
        task: ``sample``; ``noise`` shows the forward process, a row a share; ``reconstruct`` noises images to each
            share and denoises them back; ``interpolate`` goes from each image to the next over the noise behind both;
            ``inpaint`` fills a masked part; ``likelihood`` gives bits per dimension.
        checkpoint: A diffusion model's file.
        steps: Sampling steps. Default: 20; for interpolate 100 each way, for inpaint 50, for likelihood all of the
            training's, or 200 with the ODE.
        num_images: Number of images to sample.
        labels: Classes by number or name, separated by commas: one for all images, or one for each. Default: all
            classes in turn.
        device: ``auto`` takes a GPU where there is one.
        devices: GPUs, or processes on a CPU, that share the images of ``sample``; the images stay the same.
        columns: Images in a row of the grid; none makes it about square.
        pngs: Write each image as its own PNG.
        npz: Write all images (``images``, uint8 n h w c) and ``labels`` as samples.npz.
        strip: Write the denoising of the first images at this many moments, from noise on, as strip.png; 0 leaves it
            out. For the task noise it is the other way round, from image to noise.
        gif: Write the denoising of the first batch as denoising.gif; of the other tasks, their rows.
        shares: Shares of the schedule's noise for noise and reconstruct, 0 to 1.
        frames: Images in a row of interpolate, with both ends.
        mask: What inpaint fills: a half, the centre, or a PNG whose white pixels are to be filled.
        resamples: Times that inpaint repeats each step so that both parts agree.
        method: The likelihood: the variational bound, or the flow ODE's.
        data: Where the other tasks take their images from.
        run: Where the files go.
    """

    task: Literal["sample", "noise", "reconstruct", "interpolate", "inpaint", "likelihood"] = "sample"
    checkpoint: str = "checkpoints/fashion-mnist/latent.safetensors"
    steps: int | None = None
    num_images: int = 64
    labels: str | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    devices: int = 1
    columns: int | None = None
    pngs: bool = False
    npz: bool = False
    strip: int = 0
    gif: bool = False
    shares: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    frames: int = 8
    mask: str = "right"
    resamples: int = 5
    method: Literal["bound", "ode"] = "bound"
    data: DataConfig = field(default_factory=DataConfig)
    run: RunConfig = field(default_factory=RunConfig)


def parse_labels(text: str | None, class_names: tuple[str, ...]) -> int | list[int] | None:
    """Class numbers from numbers or names separated by commas. Raises ValueError naming one that is neither."""
    if text is None:
        return None
    names = {name.lower(): index for index, name in enumerate(class_names)}
    labels = []
    for part in (part.strip() for part in str(text).split(",")):
        if part.lower() not in names and not part.isdigit():
            raise ValueError(f"{part!r} is no class; there are {', '.join(class_names)}")
        labels.append(names.get(part.lower(), int(part) if part.isdigit() else 0))
    return labels[0] if len(labels) == 1 else labels


def run(config: SampleStage) -> Path:
    """Sample as ``config`` says and return the folder that holds the images."""
    import math
    import time

    import numpy as np
    import torch
    from tqdm import tqdm

    from latentdiff import processes
    from latentdiff.checkpoint import CheckpointError
    from latentdiff.pipeline import DiffusionModel, Request, load
    from latentdiff.precision import resolve_device
    from latentdiff.report.denoising import write_gif, write_strip
    from latentdiff.report.grids import save_grid, save_image
    from latentdiff.stages import folders

    device = resolve_device(config.device)
    model = load(config.checkpoint, device)
    if not isinstance(model, DiffusionModel):
        raise CheckpointError(f"{config.checkpoint} is an autoencoder; sampling needs a diffusion model")
    labels = parse_labels(config.labels, model.class_names)
    if config.strip and config.strip < 2:
        raise ValueError(f"--strip must be at least 2, noise and image, or 0 to leave it out, not {config.strip}")
    if config.task != "sample":
        if processes.count() > 1:
            raise ValueError(f"only the images of sample can be shared by several processes, not {config.task}")
        from latentdiff.stages.tasks import perform

        return perform(config, model, labels)
    config = replace(config, steps=config.steps or STEPS)
    request = Request.of(config, num_images=config.num_images, labels=labels)
    model.check(request)
    labels = model.resolve_labels(request)
    name = folders.model_name(Path(config.checkpoint))
    if processes.first():
        folder = folders.prepare(config.run, "sample", name)
        folders.record_config(config, folder)
    start, frames, own = time.perf_counter(), [], processes.share(config.num_images)
    chunks = [torch.empty(0, *model.codec.image_shape, dtype=torch.uint8)]
    quiet = None if processes.first() else True
    with tqdm(total=len(own) * config.steps, desc="sampling", unit="image steps", disable=quiet) as bar:
        for indices, states in model.batches(request, own):
            shown = indices.start == 0 and (config.strip or config.gif)
            if shown:
                frames.append(model.codec.decode(model.start(request, indices)[0]).cpu())
            for state in states:
                bar.update(len(indices))
                if shown:
                    frames.append(model.codec.decode(state.x).cpu())
            chunks.append(model.codec.decode(state.x).cpu())
    images = processes.everyone(torch.cat(chunks))
    if not processes.first():
        return folders.path_of(config.run, "sample", name)
    print(f"{len(images)} images in {time.perf_counter() - start:.1f} s on {device}")
    columns = config.columns or math.ceil(math.sqrt(len(images)))
    save_grid(images, folder / "grid.png", columns)
    if config.pngs:
        for index, image in enumerate(images):
            save_image(image, folder / "images" / f"{index:06d}.png")
    if config.npz:
        arrays = {"images": images.permute(0, 2, 3, 1).numpy()}
        np.savez_compressed(
            folder / "samples.npz", **arrays, **({"labels": labels.numpy()} if labels is not None else {})
        )
    if config.strip:
        write_strip(frames, folder / "strip.png", config.strip)
    if config.gif:
        write_gif(frames, folder / "denoising.gif", columns)
    print(folder)
    return folder


def main(argv: list[str] | None = None) -> None:
    from latentdiff.stages import cli, launch

    config = cli.parse(SampleStage, argv)
    if not launch.spread(__spec__.name if __spec__ else __name__, argv, config.devices):
        run(config)


if __name__ == "__main__":
    from latentdiff.stages.cli import run_stage

    run_stage(main, several=True)
