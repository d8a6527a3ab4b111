"""A step that fits into memory: the same batch, computed in more parts where it must be."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor

from latentdiff import distributed
from latentdiff.errors import ConfigError
from latentdiff.precision import resolve_device
from latentdiff.training.base_module import StageModule
from latentdiff.training.chosen_precision import choose_precision
from latentdiff.training.dry_run import StepCost, data_bytes, largest, phase_costs, size_words
from latentdiff.training.residence import stays_on_device, usable_memory


def fit_memory(module: StageModule, sample: tuple[Tensor, ...], count: int) -> None:
    """Let ``module`` compute a batch in as many parts as its setting ``memory`` asks for, and say so in a line.

    The gradient is that of the whole batch, up to rounding. So batch size and learning rate stay as they are. What a
    step needs is found without computing one (:mod:`latentdiff.training.dry_run`).

    Args:
        module: The training step.
        sample: What a batch is drawn from, [n, ...] each; their shapes and types are used.
        count: Images that are trained on. Where they are too many to stay on the device, they take none of its memory.

    Raises:
        ConfigError: The step does not fit even if it is computed image by image, or it cannot be taken apart.
    """
    settings = module.settings
    if settings.memory is None:
        return
    device = resolve_device(settings.accelerator)
    dtype = module.dtype_of_run or choose_precision(settings, device)
    own = usable_memory(device) if settings.memory == "auto" else settings.memory
    limit = distributed.broadcast(own)  # the main process's, so that all take the same parts
    images = settings.batch_size // distributed.world_size()
    data = data_bytes(sample, count)
    data = distributed.broadcast(data if stays_on_device(data, settings, device) else 0)
    parts = settings.gradient_accumulation_steps
    whole = cost = _cost_in_parts(module, sample, dtype, images, parts)
    while cost.total + data > limit:
        size = -(-images // parts)
        if getattr(getattr(module, "network", None), "conditioning", "") == "batch_norm":
            raise ConfigError(
                f"{_needs(cost, data, limit)}, and conditioning batch_norm does not allow splitting a batch: "
                "lower --trainer.batch_size, or use --network.conditioning scale_shift"
            )
        if size == 1:
            raise ConfigError(
                f"{_needs(cost, data, limit)}, even image by image: use a smaller network (--network.channels), fewer "
                "images (--data.max_train_images), or a larger --trainer.memory"
            )
        # What is left for activations, of which a part of the batch has its share; one image less at least.
        room = (limit - cost.total - data + cost.step) / cost.step
        parts = -(-images // max(1, min(size - 1, int(size * room))))
        cost = _cost_in_parts(module, sample, dtype, images, parts)
    if parts != settings.gradient_accumulation_steps:
        module.settings = replace(settings, gradient_accumulation_steps=parts)
        print(
            f"{_needs(whole, data, limit)}: its {images} images are computed in {parts} parts, which need "
            f"{size_words(cost.total + data)}. Batch size and learning rate do not change.",
            flush=True,
        )


def _needs(cost: StepCost, data: int, limit: float) -> str:
    return f"a training step needs {size_words(cost.total + data)} of memory and may use {size_words(limit)}"


def _cost_in_parts(
    module: StageModule, sample: tuple[Tensor, ...], dtype: torch.dtype, images: int, parts: int
) -> StepCost:
    """The cost of a step whose ``images`` are computed in ``parts``.

    Beyond three parts each further one adds the same: what is kept of it until the step's end.
    """
    if parts <= 3:
        return largest(phase_costs(_with(module, images, parts), sample, dtype))
    size = -(-images // parts)
    two, three = (phase_costs(_with(module, count * size, count), sample, dtype) for count in (2, 3))
    return largest(
        replace(a, step=a.step + (parts - 2) * max(0, b.step - a.step)) for a, b in zip(two, three, strict=True)
    )


def _with(module: StageModule, images: int, parts: int) -> StageModule:
    other = copy.copy(module)
    batch = images * distributed.world_size()
    other.settings = replace(module.settings, batch_size=batch, gradient_accumulation_steps=parts)
    return other
