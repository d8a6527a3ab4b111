"""Sample images into a folder."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from latentdiff import distributed
from latentdiff.config.model_stages import SampleStage
from latentdiff.files import write_atomically
from latentdiff.inference.labels import parse_labels
from latentdiff.inference.model import DiffusionModel, load_diffusion
from latentdiff.inference.request import SamplingRequest
from latentdiff.inference.task_settings import check_task_settings
from latentdiff.precision import resolve_device
from latentdiff.progress import progress_bar
from latentdiff.report.denoising import check_strip, write_gif, write_strip
from latentdiff.report.grids import save_grid, save_image
from latentdiff.resources import resolve_checkpoint
from latentdiff.runs import run_folder

STEPS = 20


def sample_to_files(config: SampleStage) -> Path:
    """Sample as ``config`` says and return the folder that holds the images.

    Without ``config.run.folder`` it is the first of ``stages/sample/NAME``, ``NAME-2``, ... that is free.
    """
    check_task_settings(config)
    device, path = resolve_device(config.device), resolve_checkpoint(config.model)
    model = load_diffusion(path).to(device).with_engine(config.engine, config.exact)
    labels = parse_labels(config.labels, model.class_names)
    check_strip(config.strip)
    config = replace(config, steps=config.steps or STEPS)
    request = SamplingRequest.of(config, num_images=config.num_images, labels=labels)
    model.check(request)
    labels = model.resolve_labels(request)
    with ExitStack() as stack:
        folder = None
        if distributed.is_main_process():
            name = run_folder.folder_name(path)
            run = run_folder.numbered(config.run, "sample", name)
            folder = stack.enter_context(run_folder.opened(run, "sample", name, config, inputs=[path]))
        folder = distributed.broadcast(folder)
        images, frames = _sample(model, request, config, device)
        if distributed.is_main_process():
            _write(images, labels, model.class_names, frames, config, folder)
    if distributed.is_main_process():
        print(folder)
    return folder


def _sample(
    model: DiffusionModel, request: SamplingRequest, config: SampleStage, device: torch.device
) -> tuple[Tensor, list[Tensor]]:
    """All images, uint8 [n, c, h, w], and the decoded states of the first batch where they are to be shown."""
    start, frames, own = time.perf_counter(), [], distributed.shard_range(config.num_images)
    chunks = [torch.empty(0, *model.codec.image_shape, dtype=torch.uint8)]
    with progress_bar(total=len(own) * request.steps, desc="sampling", unit="image steps") as bar:
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
    print(f"{len(images)} images in {time.perf_counter() - start:.1f} s on {device}")
    return images, frames


def _write(
    images: Tensor,
    labels: Tensor | None,
    class_names: Sequence[str],
    frames: list[Tensor],
    config: SampleStage,
    folder: Path,
) -> None:
    """Write what ``config`` asks for into ``folder``."""
    columns = config.columns or math.ceil(math.sqrt(len(images)))
    save_grid(images, folder / "grid.png", columns)
    if config.pngs:
        for index, image in enumerate(images):
            save_image(image, folder / "images" / f"{index:06d}.png")
    if config.npz:
        arrays = {"images": images.permute(0, 2, 3, 1).numpy()}
        if labels is not None:
            arrays |= {"labels": labels.numpy(), "class_names": np.array(class_names, dtype=np.str_)}
        write_atomically(folder / "samples.npz", lambda path: np.savez_compressed(path, **arrays))
    if config.strip:
        write_strip(frames, folder / "strip.png", config.strip)
    if config.gif:
        write_gif(frames, folder / "denoising.gif", columns)
