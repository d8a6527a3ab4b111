"""What ``stages.sample`` does with real images: the functions of :mod:`latentdiff.uses`, drawn."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from latentdiff import uses
from latentdiff.checkpoint import write_atomically
from latentdiff.config import SamplingConfig, plain
from latentdiff.data import load_data
from latentdiff.pipeline import DiffusionModel
from latentdiff.report.denoising import write_gif
from latentdiff.report.grids import save_grid
from latentdiff.stages import folders

if TYPE_CHECKING:
    from latentdiff.stages.sample import SampleStage

# What stands for the part that inpaint is to fill.
GREY = 128


def perform(config: SampleStage, model: DiffusionModel, labels: int | list[int] | None) -> Path:
    """Do ``config.task`` and return the folder with its pictures. Raises ValueError for what cannot be, before any."""
    n = config.num_images
    test = load_data(config.data, "test")
    if test.image_shape != model.codec.image_shape:
        raise ValueError(f"the model makes images of {model.codec.image_shape}, the data set has {test.image_shape}")
    images, own = test.images[:n], test.labels[:n]
    if len(images) < n:
        raise ValueError(f"--num_images is {n}, the test split has {len(images)}")
    classes = (own if labels is None else labels) if model.conditional else labels
    settings = {name: getattr(config, name) for name in plain(SamplingConfig())}
    mask = read_mask(config.mask, model.codec.image_shape[1:]) if config.task == "inpaint" else None
    name = f"{folders.model_name(Path(config.checkpoint))}-{config.task}"
    folder = folders.prepare(config.run, "sample", name)
    folders.record_config(config, folder)
    if config.task == "likelihood":
        return _likelihood(config, model, images, classes, folder)
    if config.task == "noise":
        rows = uses.forward_process(model, images, config.shares, config.seed)
    elif config.task == "reconstruct":
        rows = torch.cat([images[None], uses.reconstruct(model, images, config.shares, classes, **settings)])
    elif config.task == "inpaint":
        given = images.masked_fill(mask, GREY)
        options = {"resamples": config.resamples, "steps": config.steps, "seed": config.seed}
        rows = torch.stack([images, given, uses.inpaint(model, images, mask, classes, **options)])
    else:
        # The ends have different classes: the way between them is walked without one, unless it is asked for.
        pair = labels if model.diffusion.class_dropout or labels is not None else own
        second = images.roll(-1, dims=0)
        rows = uses.interpolate(model, images, second, config.frames, pair, config.steps)
        save_grid(rows.transpose(0, 1).flatten(0, 1), folder / "grid.png", columns=config.frames)
        if config.gif:
            write_gif(list(rows), folder / "interpolation.gif", math.ceil(math.sqrt(n)))
        print(folder)
        return folder
    save_grid(rows.flatten(0, 1), folder / "grid.png", columns=n)
    if config.gif:
        write_gif(list(rows), folder / f"{config.task}.gif", math.ceil(math.sqrt(n)))
    print(folder)
    return folder


def _likelihood(config: SampleStage, model: DiffusionModel, images: Tensor, classes, folder: Path) -> Path:
    parts = []
    steps = config.steps if config.method == "ode" else None
    for start in range(0, len(images), config.batch_size):
        stop = start + config.batch_size
        own = classes if classes is None or isinstance(classes, int) else torch.as_tensor(classes)[start:stop]
        options = {"method": config.method, "variance": config.variance, "steps": steps, "seed": config.seed}
        parts.append(uses.bits_per_dim(model, images[start:stop], own, **options))
    bits = torch.cat(parts)
    record = {
        "method": config.method,
        "space": "latents" if model.codec.value_range is None else "pixels",
        "num_images": len(bits),
        "mean_bits_per_dim": float(bits.mean()),
        "standard_error": float(bits.std() / math.sqrt(len(bits))) if len(bits) > 1 else None,
        "bits_per_dim": [round(value, 5) for value in bits.tolist()],
    }
    write_atomically(folder / "likelihood.json", lambda name: name.write_text(json.dumps(record, indent=1)))
    what = "density of the latents" if record["space"] == "latents" else "uint8 pixels"
    mean = record["mean_bits_per_dim"]
    print(f"{mean:.4f} bits/dim ({what}), mean of {len(bits)} test images, {config.method}\n{folder}")
    return folder


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
        raise ValueError(f"--mask is {text!r}: neither a file nor one of {', '.join(halves)}")
    import numpy as np
    from PIL import Image

    picture = Image.open(text).convert("L")
    if picture.size != (width, height):
        raise ValueError(f"the mask {text} is {picture.size[0]}x{picture.size[1]}, the images are {width}x{height}")
    return torch.from_numpy(np.array(picture) > 127)
