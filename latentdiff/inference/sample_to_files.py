"""Sample images into a folder."""

from __future__ import annotations

import math
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from latentdiff import distributed
from latentdiff.config.model_stages import SampleStage
from latentdiff.errors import ConfigError
from latentdiff.files import write_atomically
from latentdiff.inference.labels import parse_labels
from latentdiff.inference.model import DiffusionModel, load_diffusion
from latentdiff.inference.model_file import find_model
from latentdiff.inference.prompts import parse_prompt, prompts_of
from latentdiff.inference.request import SamplingRequest
from latentdiff.inference.task_settings import check_task_settings
from latentdiff.inference.written_images import check_record, image_path, missing_batches, read_whole
from latentdiff.precision import resolve_device
from latentdiff.progress import progress_bar
from latentdiff.report.denoising import check_strip, write_gif, write_strip
from latentdiff.report.grids import save_grid, save_image
from latentdiff.runs import run_folder

STEPS = 20
# Images in grid.png at most: a picture of tens of thousands would open nowhere.
GRID_IMAGES = 4096


def sample_to_files(config: SampleStage) -> Path:
    """Sample as ``config`` says and return the folder that holds the images.

    Without ``config.run.folder`` it is the first of ``stages/sample/NAME``, ``NAME-2``, ... that is free. With
    ``config.pngs`` each image is written as soon as it is drawn, and ``config.run.resume`` draws only those that are
    missing.
    """
    check_task_settings(config)
    if config.run.resume and not config.pngs:
        raise ConfigError("--run.resume needs --pngs: without PNGs, an interrupted sampling leaves nothing to resume")
    device, path = resolve_device(config.device), find_model(config.model)
    guide = find_model(config.guide) if config.guide is not None else None
    model = load_diffusion(path).to(device).with_engine(config.engine, config.exact)
    labels = parse_labels(config.labels, model.class_names)
    check_strip(config.strip)
    config = replace(config, steps=config.steps or STEPS)
    words = {name: parse_prompt(getattr(config, name), name) for name in ("prompt", "negative_prompt")}
    request = SamplingRequest.of(config, num_images=config.num_images, labels=labels, **words)
    model.check(request)
    with ExitStack() as stack:
        folder = None
        if distributed.is_main_process():
            name = run_folder.folder_name(path)
            run = run_folder.numbered(config.run, "sample", name)
            if run.resume:  # before the folder is changed
                check_record(run.path("sample", name), path, guide, keep=False)
            inputs = [path, guide]
            opened = run_folder.opened(run, "sample", name, config, resumable=config.pngs, inputs=inputs)
            folder = stack.enter_context(opened)
            if config.pngs:
                check_record(folder, path, guide)
        folder = distributed.broadcast(folder)
        images, frames = _sample(model, request, config, device, folder)
        if distributed.is_main_process():
            _write(images, _asked_for(model, request), frames, config, folder)
    if distributed.is_main_process():
        print(folder)
    return folder


def _sample(
    model: DiffusionModel, request: SamplingRequest, config: SampleStage, device: torch.device, folder: Path
) -> tuple[Tensor, list[Tensor]]:
    """All images, uint8 [n, c, h, w], and the decoded states of the first batch if they are requested."""
    start, frames, own = time.perf_counter(), [], distributed.shard_range(config.num_images)
    images = torch.empty(len(own), *model.codec.image_shape, dtype=torch.uint8)
    shows = bool(config.strip or config.gif)
    missing = _missing(images, own, config, folder)
    drawn = {*missing, *own[: int(shows and own.start == 0)]}
    parts = list(missing_batches(own, request.batch_size, drawn))

    def keep(indices: range, batch: Tensor) -> None:
        for index, image in zip(indices, batch, strict=True):
            if index in missing:
                images[index - own.start] = image
                if config.pngs:
                    save_image(image, image_path(folder, index))

    with progress_bar(total=sum(map(len, parts)) * request.steps, desc="sampling", unit="image steps") as bar:
        for part in parts:
            before: tuple[range, Tensor] | None = None
            for indices, states in model.batches(request, part):
                if before:  # only now is it known to be finite
                    keep(*before)
                shown = indices.start == 0 and shows
                if shown:
                    frames.append(model.codec.decode(model.initial_noise(request, indices)[0]).cpu())
                for state in states:
                    bar.update(len(indices))
                    if shown:
                        frames.append(model.codec.decode(state.x).cpu())
                before = indices, model.codec.decode(state.x).cpu()
            if before:
                keep(*before)
    everything = distributed.gather(images)
    print(f"{len(everything)} images in {time.perf_counter() - start:.1f} s on {device}")
    return everything, frames


def _missing(images: Tensor, own: range, config: SampleStage, folder: Path) -> set[int]:
    """The images of ``own`` that are to be drawn; those that an interrupted run left are read into ``images``."""
    if not config.run.resume:
        return set(own)
    missing: set[int] = set()
    for index in own:
        found = read_whole(image_path(folder, index), tuple(images.shape[1:]))
        if found is None:
            missing.add(index)
        else:
            images[index - own.start] = found
    print(f"{len(own) - len(missing):,} of {len(own):,} images are there already")
    return missing


def _asked_for(model: DiffusionModel, request: SamplingRequest) -> dict[str, np.ndarray]:
    """What samples.npz says of each image: its class, with the names of all, or its prompt; nothing without either."""
    if model.network.tokenizer is not None:
        return {"prompts": np.array(prompts_of(request, model.captions), dtype=np.str_)}
    labels = model.resolve_labels(request)
    if labels is None:
        return {}
    return {"labels": labels.numpy(), "class_names": np.array(model.class_names, dtype=np.str_)}


def _write(
    images: Tensor,
    asked_for: dict[str, np.ndarray],
    frames: list[Tensor],
    config: SampleStage,
    folder: Path,
) -> None:
    """Write what ``config`` asks for into ``folder``."""
    shown = images[:GRID_IMAGES]
    columns = config.columns or math.ceil(math.sqrt(len(shown)))
    save_grid(shown, folder / "grid.png", columns)
    if config.pngs:
        # Those of other processes, where they did not write to this disk.
        for index, image in enumerate(images):
            if not image_path(folder, index).is_file():
                save_image(image, image_path(folder, index))
    if config.npz:
        arrays = {"images": images.permute(0, 2, 3, 1).numpy(), **asked_for}
        write_atomically(folder / "samples.npz", lambda path: np.savez_compressed(path, **arrays))
    if config.strip:
        write_strip(frames, folder / "strip.png", config.strip)
    if config.gif:
        write_gif(frames, folder / "denoising.gif", columns)
