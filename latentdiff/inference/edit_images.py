"""What the stage ``sample`` does with real images: noise, reconstruct, interpolate, inpaint, measure a likelihood."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentdiff import distributed
from latentdiff.codec import AutoencoderCodec
from latentdiff.config import SamplingConfig, to_dict
from latentdiff.config.model_stages import SampleStage
from latentdiff.data import DatasetSplits, ImageDataset
from latentdiff.data.decode import open_image
from latentdiff.data.image_formats import BadImageError
from latentdiff.data.shape_check import check_image_shape
from latentdiff.errors import ConfigError
from latentdiff.files import write_atomically
from latentdiff.inference.given_images import with_prompt
from latentdiff.inference.inpainting import inpaint
from latentdiff.inference.inversion import interpolate
from latentdiff.inference.labels import Labels, match_classes, parse_labels
from latentdiff.inference.likelihood import bits_per_dim
from latentdiff.inference.model import DiffusionModel, load_diffusion
from latentdiff.inference.model_file import find_model
from latentdiff.inference.noising import check_strengths, forward_process, reconstruct
from latentdiff.inference.prompts import check_negative, parse_prompt
from latentdiff.inference.request import SamplingRequest
from latentdiff.inference.task_settings import check_task_settings
from latentdiff.precision import resolve_device
from latentdiff.report.denoising import check_strip, write_gif, write_strip
from latentdiff.report.grids import save_grid
from latentdiff.runs import run_folder

# What stands for the part that inpaint is to fill.
GREY = 128
STEPS = {"reconstruct": 20, "interpolate": 100, "inpaint": 50}
# Settings that no task refuses, although steps and seed are of no account where nothing is solved or drawn.
COMMON = {"steps", "seed", "batch_size"}


def edit_images(config: SampleStage) -> Path:
    """Do ``config.task`` and return the folder with its pictures.

    Raises :class:`~latentdiff.errors.ConfigError` for settings that cannot be met, before any work.
    """
    if distributed.world_size() > 1:
        raise ConfigError(f"only the task sample can run in several processes, not {config.task}")
    check_task_settings(config)
    path = find_model(config.model)
    model = load_diffusion(path).to(resolve_device(config.device)).with_engine(config.engine, config.exact)
    labels = parse_labels(config.labels, model.class_names)
    prompt, negative = (parse_prompt(getattr(config, name), name) for name in ("prompt", "negative_prompt"))
    check_strip(config.strip)
    _check_unused_settings(config)
    mask = read_mask(config.mask, model.codec.image_shape[1:]) if config.task == "inpaint" else None
    guide = find_model(config.guide) if config.guide is not None else None
    if config.guide is not None:
        model.load_guide(config.guide)
    test = DatasetSplits(config.data).test_or_val  # which may take minutes
    n = config.num_images
    if prompt is None and negative is not None and model.network.tokenizer is not None:
        prompt = _own_captions(test, n)
    labels = with_prompt(model, n, labels, prompt, negative)
    request = _check(config, model, test, labels)
    check_negative(replace(request, negative_prompt=negative))
    images = test.images[:n]
    classes = _own_classes(config, model, test, n) if model.conditional and labels is None else labels
    mask_file = config.mask if Path(config.mask).is_file() else None
    name = f"{run_folder.folder_name(path)}-{config.task}"
    run = run_folder.numbered(config.run, "sample", name)
    with run_folder.opened(run, "sample", name, config, inputs=[path, guide, mask_file]) as folder:
        if config.task == "likelihood":
            _likelihood(config, model, images, classes, folder)
        else:
            _draw(config, model, request, images, classes, labels, mask, folder)
    print(folder)
    return folder


def _draw(
    config: SampleStage,
    model: DiffusionModel,
    request: SamplingRequest,
    images: Tensor,
    classes: Any,
    labels: Labels,
    mask: Tensor | None,
    folder: Path,
) -> None:
    """Write the pictures of a task."""
    n = columns = config.num_images
    if config.task == "noise":
        rows = forward_process(model, images, config.strengths, config.seed)
    elif config.task == "reconstruct":
        again = reconstruct(model, images, config.strengths, classes, **request.sampling_settings())
        rows = torch.cat([images[None], again])
    elif config.task == "inpaint":
        given = images.masked_fill(mask, GREY)
        options = {"resamples": config.resamples, "steps": request.steps, "seed": config.seed}
        options["batch_size"] = config.batch_size
        rows = torch.stack([images, given, inpaint(model, images, mask, classes, **options)])
    else:
        # The ends have different classes: the way between them is walked without one, unless one is asked for.
        second, steps = images.roll(-1, dims=0), config.steps or STEPS["interpolate"]
        rows = interpolate(model, images, second, config.frames, labels, steps)
        columns = config.frames
    picture = rows.transpose(0, 1) if config.task == "interpolate" else rows
    save_grid(picture.flatten(0, 1), folder / "grid.png", columns=columns)
    if config.strip:
        strengths = torch.linspace(0.0, 1.0, config.strip).tolist()
        write_strip(list(forward_process(model, images, strengths, config.seed)), folder / "strip.png", config.strip)
    if config.gif:
        write_gif(list(rows), folder / f"{config.task}.gif", math.ceil(math.sqrt(n)))


def _own_classes(config: SampleStage, model: DiffusionModel, test: ImageDataset, n: int) -> Tensor | None:
    """The classes of the first ``n`` images, which are the usual ones, among the model's: int64 [n].

    Raises :class:`~latentdiff.errors.ConfigError` where the model does not have them.
    """
    if config.task in ("noise", "interpolate"):  # which heed no class
        return None
    if model.network.tokenizer is not None:
        return model.network.tokenizer.encode(_own_captions(test, n))
    if not test.num_classes:
        raise ConfigError(f"the images of {test.name} have no classes here, but the model needs them: give --labels")
    used = sorted(set(test.labels[:n].tolist()))
    try:
        place = match_classes([test.class_names[k] for k in used], model.class_names, test.name, config.model)
    except ConfigError as error:
        raise ConfigError(f"{error}. Give the model's own classes with --labels") from error
    of_model = torch.zeros(test.num_classes, dtype=torch.int64)
    of_model[used] = place
    return of_model[test.labels[:n]]


def _own_captions(test: ImageDataset, n: int) -> list[str]:
    """The captions of the first ``n`` images. Raises :class:`~latentdiff.errors.ConfigError` where there are none."""
    if not test.captions:
        raise ConfigError(
            f"the images of {test.name} have no captions here, but the model needs them: give --prompt, or set "
            "--data.captions"
        )
    return list(test.captions[:n])


def _check(config: SampleStage, model: DiffusionModel, test: ImageDataset, labels: Labels) -> SamplingRequest:
    """The request, checked with everything else that can be wrong. Raises ValueError before a folder is touched."""
    n = config.num_images
    if not 1 <= n <= len(test):
        raise ConfigError(f"--num_images must be from 1 to {len(test)}, the number of test images, not {n}")
    check_image_shape(config.model, model.codec.image_shape, test, model.settings)
    check_strengths(config.strengths)
    if config.frames < 2:
        raise ConfigError(f"--frames must be at least 2, for both ends, not {config.frames}")
    if config.resamples < 1:
        raise ConfigError(f"--resamples must be at least 1, not {config.resamples}")
    if config.task == "interpolate" and model.conditional and labels is None and not model.diffusion.class_dropout:
        raise ConfigError("this model was trained without class dropout: interpolate needs --labels or --prompt")
    # The flow takes steps of its own, as many as one likes.
    flow = config.task == "interpolate" or (config.task == "likelihood" and config.method == "ode")
    steps = 1 if flow else config.steps or STEPS.get(config.task, 1)
    # The bound is of ddpm's steps, to whose options its variance belongs.
    sampler = "ddpm" if config.task == "likelihood" else config.sampler
    request = SamplingRequest.of(replace(config, steps=steps, sampler=sampler), num_images=n, labels=labels)
    model.check(request)
    return request


def _check_unused_settings(config: SampleStage) -> None:
    """Raise ValueError for a setting of the sampler that the task does not use."""
    if config.task == "reconstruct":
        return
    bound = config.task == "likelihood" and config.method == "bound"
    task = "likelihood --method ode" if config.task == "likelihood" and not bound else config.task
    for name, value in to_dict(SamplingConfig()).items():
        if name in COMMON or getattr(config, name) == value:
            continue
        # The bound is of ddpm's steps, which may be said.
        if not (bound and (name == "variance" or (name == "sampler" and config.sampler == "ddpm"))):
            raise ConfigError(f"--{name} has no effect on the task {task}: leave it out")


def _likelihood(config: SampleStage, model: DiffusionModel, images: Tensor, classes: Any, folder: Path) -> None:
    parts = []
    for start in range(0, len(images), config.batch_size):
        stop = start + config.batch_size
        own = classes if classes is None or isinstance(classes, int | str) else classes[start:stop]
        options = {"method": config.method, "variance": config.variance, "steps": config.steps, "seed": config.seed}
        parts.append(bits_per_dim(model, images[start:stop], own, first=start, **options))
    bits = torch.cat(parts)
    record = {
        "method": config.method,
        "space": "latents" if isinstance(model.codec, AutoencoderCodec) else "pixels",
        "num_images": len(bits),
        "mean_bits_per_dim": float(bits.mean()),
        "standard_error": float(bits.std() / math.sqrt(len(bits))) if len(bits) > 1 else None,
        "bits_per_dim": [round(value, 5) for value in bits.tolist()],
    }
    write_atomically(folder / "likelihood.json", lambda name: name.write_text(json.dumps(record, indent=1)))
    what = "density of the latents" if record["space"] == "latents" else "uint8 pixels"
    mean = record["mean_bits_per_dim"]
    print(f"{mean:.4f} bits/dim ({what}), mean of {len(bits)} test images, {config.method}")


def read_mask(text: str, shape: tuple[int, ...]) -> Tensor:
    """bool [h, w], True where to fill, from a word or a PNG. Raises ValueError naming what it cannot be."""
    height, width = shape
    mask = torch.zeros(height, width, dtype=torch.bool)
    halves = {
        "left": (slice(None), slice(0, width // 2)),
        "right": (slice(None), slice(width // 2, None)),
        "top": (slice(0, height // 2), slice(None)),
        "bottom": (slice(height // 2, None), slice(None)),
        "centre": (slice(height // 4, height - height // 4), slice(width // 4, width - width // 4)),
    }
    if text in halves:
        mask[halves[text]] = True
        return mask
    if not Path(text).is_file():
        raise ConfigError(f"--mask is {text!r}: neither a file nor one of {', '.join(halves)}")
    try:
        picture = open_image(Path(text).read_bytes(), text)[0].convert("L")
    except (OSError, BadImageError) as error:
        raise ConfigError(f"the mask {text} cannot be used: {error}") from error
    if picture.size != (width, height):
        raise ConfigError(f"the mask {text} is {picture.size[0]}x{picture.size[1]}, the images are {width}x{height}")
    mask = torch.from_numpy(np.array(picture) > 127)
    if not mask.any():
        raise ConfigError(
            f"the mask {text} fills nothing: none of its pixels is white (its brightest is {np.max(picture)})"
        )
    return mask
