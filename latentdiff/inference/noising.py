"""Noise images, and denoise them back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from latentdiff.config.checks import checked
from latentdiff.diffusion.noise_levels import NoiseLevels, add_noise
from latentdiff.errors import ConfigError
from latentdiff.inference.given_images import checked_request, classes_for, latents_of, noise_for, with_prompt
from latentdiff.inference.labels import Labels
from latentdiff.inference.model import DiffusionModel
from latentdiff.inference.prompts import Prompt, check_negative
from latentdiff.inference.request import SamplingRequest


def forward_process(model: DiffusionModel, images: Tensor, strengths: Sequence[float], seed: int = 0) -> Tensor:
    """Images with more and more noise, decoded: the noisy images that ``model`` is trained on.

    Args:
        model: Whose process and codec.
        images: uint8 [n, c, h, w].
        strengths: Positions on the schedule, 0 (clean) to 1 (its last level).
        seed: Image i's noise depends on (seed, i), and is the same at every strength.

    Returns: uint8 [len(strengths), n, c, h, w].
    """
    check_strengths(strengths)
    latents = latents_of(model, images)
    noise = noise_for(model, seed, len(images))()
    return torch.stack([model.codec.decode(_noised(model, latents, noise, strength)).cpu() for strength in strengths])


def reverse_process(
    model: DiffusionModel, num_images: int, frames: int, labels: Labels = None, prompt: Prompt = None, **settings: Any
) -> Tensor:
    """The states of sampling, from noise to images, decoded.

    Args:
        model: A diffusion model.
        num_images: How many images.
        frames: How many states, evenly spread over the steps: the first is pure noise, the last what
            :meth:`~latentdiff.inference.model.DiffusionModel.sample` gives.
        labels: As ``sample`` takes them: one class for all, one for each, or None: classes in turn.
        prompt: As ``sample`` takes it.
        settings: Those of :class:`~latentdiff.config.sampling.SamplingConfig`.

    Returns: uint8 [frames, num_images, c, h, w].
    """
    labels = with_prompt(model, num_images, labels, prompt)
    request = checked_request(model, num_images, labels, settings)
    if not 2 <= checked(frames, int, "frames") <= request.steps + 1:
        what = f"from 2, noise and image, to {request.steps + 1} for {request.steps} steps"
        raise ConfigError(f"frames must be {what}, not {frames}")
    kept = set(torch.linspace(0, request.steps, frames, dtype=torch.float64).round().int().tolist())
    batches = []
    for indices, states in model.batches(request):
        shown = [model.initial_noise(request, indices)[0], *(state.x for state in states if state.step in kept)]
        batches.append(torch.stack([model.codec.decode(x).cpu() for x in shown]))
    return torch.cat(batches, dim=1)


def check_strengths(strengths: Sequence[float]) -> None:
    """Raise ConfigError for no strengths, and for strengths outside of 0 to 1."""
    if len(strengths) == 0:
        raise ConfigError("strengths must name at least one, such as 0.5")
    for strength in strengths:
        if not 0.0 <= checked(strength, float, "a strength") <= 1.0:
            raise ConfigError(f"a strength must be from 0 to 1, not {strength}")


def reconstruct(
    model: DiffusionModel,
    images: Tensor,
    strengths: Sequence[float],
    labels: Labels = None,
    prompt: Prompt = None,
    negative_prompt: Prompt = None,
    **settings: Any,
) -> Tensor:
    """Add noise of each strength to images and denoise them (SDEdit: Meng et al. 2022). This shows what the model keeps
    of an image and what it makes up.

    Args:
        model, images, strengths: As in :func:`forward_process`.
        labels: One class for all, one for each, or None: no class, if the model was trained with class dropout.
        prompt: For a text-to-image model: a text for all, one for each, or None: no caption.
        negative_prompt: What guidance steers away from.
        settings: Those of :class:`~latentdiff.config.sampling.SamplingConfig`; ``steps`` are those from pure
            noise, of which a smaller strength takes fewer.

    Returns: uint8 [len(strengths), n, c, h, w].
    """
    check_strengths(strengths)
    labels = with_prompt(model, len(images), labels, prompt, negative_prompt)
    request = checked_request(model, len(images), labels, settings)
    check_negative(replace(request, negative_prompt=negative_prompt))
    latents, classes = latents_of(model, images), classes_for(model, labels, len(images))
    results = []
    for start in range(0, len(images), request.batch_size):
        part = latents[start : start + request.batch_size]
        own = None if classes is None else classes[start : start + request.batch_size]
        rows = []
        for strength in strengths:
            noise = noise_for(model, request.seed, len(part), first=start)
            x = _noised(model, part, noise(), strength)
            if strength > 0.0:
                *_, last = model.states(request, own, noise, _levels_from(model, request, strength), x)
                x = last.x
            rows.append(model.codec.decode(x).cpu())
        results.append(torch.stack(rows))
    return torch.cat(results, dim=1)


def _noised(model: DiffusionModel, latents: Tensor, noise: Tensor, strength: float) -> Tensor:
    if strength == 0.0:
        return latents
    return add_noise(latents, noise, level_at(model, strength))


def level_at(model: DiffusionModel, strength: float) -> NoiseLevels:
    """The level at a strength of the schedule, [1]."""
    return model.schedule.levels(
        torch.tensor([strength * model.schedule.last_position], dtype=torch.float64).round(decimals=6)
    )


def _levels_from(model: DiffusionModel, request: SamplingRequest, strength: float) -> NoiseLevels:
    """The request's levels below a strength of the schedule, and that strength itself first."""
    start, levels = level_at(model, strength), model.sampling_levels(request)
    # A power and a root may leave a level one rounding below the start. A step between the two would have no length.
    below = levels[levels.karras_sigma < float(start.karras_sigma[0]) * (1 - 1e-9)]
    return start.concat(below)
