"""Sample images into a folder."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from latentdiff import distributed
from latentdiff.config.model_stages import SampleStage
from latentdiff.inference.labels import parse_labels
from latentdiff.inference.model import load_diffusion
from latentdiff.inference.request import SamplingRequest
from latentdiff.precision import resolve_device
from latentdiff.progress import progress_bar
from latentdiff.report.denoising import check_strip, write_gif, write_strip
from latentdiff.report.grids import save_grid, save_image
from latentdiff.resources import resolve_checkpoint
from latentdiff.runs import run_folder

STEPS = 20


def sample_to_files(config: SampleStage) -> Path:
    """Sample as ``config`` says and return the folder that holds the images."""
    device = resolve_device(config.device)
    model = load_diffusion(resolve_checkpoint(config.model)).to(device)
    labels = parse_labels(config.labels, model.class_names)
    check_strip(config.strip)
    config = replace(config, steps=config.steps or STEPS)
    request = SamplingRequest.of(config, num_images=config.num_images, labels=labels)
    model.check(request)
    labels = model.resolve_labels(request)
    name = run_folder.model_name(Path(config.model))
    if distributed.is_main_process():
        folder = run_folder.prepare(config.run, "sample", name)
        run_folder.record_config(config, folder)
    start, frames, own = time.perf_counter(), [], distributed.shard_range(config.num_images)
    chunks = [torch.empty(0, *model.codec.image_shape, dtype=torch.uint8)]
    with progress_bar(total=len(own) * config.steps, desc="sampling", unit="image steps") as bar:
        for indices, states in model.batches(request, own):
            shown = indices.start == 0 and (config.strip or config.gif)
            if shown:
                frames.append(model.codec.decode(model.initial_noise(request, indices)[0]).cpu())
            for state in states:
                bar.update(len(indices))
                if shown:
                    frames.append(model.codec.decode(state.x).cpu())
            chunks.append(model.codec.decode(state.x).cpu())
    images = distributed.gather(torch.cat(chunks))
    if not distributed.is_main_process():
        return config.run.path("sample", name)
    print(f"{len(images)} images in {time.perf_counter() - start:.1f} s on {device}")
    columns = config.columns or math.ceil(math.sqrt(len(images)))
    save_grid(images, folder / "grid.png", columns)
    if config.pngs:
        for index, image in enumerate(images):
            save_image(image, folder / "images" / f"{index:06d}.png")
    if config.npz:
        arrays = {"images": images.permute(0, 2, 3, 1).numpy()}
        if labels is not None:
            arrays |= {"labels": labels.numpy(), "class_names": np.array(model.class_names, dtype=np.str_)}
        np.savez_compressed(folder / "samples.npz", **arrays)
    if config.strip:
        write_strip(frames, folder / "strip.png", config.strip)
    if config.gif:
        write_gif(frames, folder / "denoising.gif", columns)
    print(folder)
    return folder
