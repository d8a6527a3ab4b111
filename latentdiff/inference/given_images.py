"""What noising, inversion, inpainting and the likelihood share: latents, noise and classes of given images."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from latentdiff.config.checks import checked
from latentdiff.config.ranges import HeldImagesOrNone, Seed
from latentdiff.diffusion.noise import PerImageNoise
from latentdiff.errors import ConfigError
from latentdiff.inference.labels import Labels
from latentdiff.inference.model import DiffusionModel
from latentdiff.inference.prompts import Prompt
from latentdiff.inference.request import SamplingRequest


def checked_request(model: DiffusionModel, n: int, labels: Labels, settings: dict[str, Any]) -> SamplingRequest:
    """The request for ``n`` images, checked. Raises ConfigError for settings that cannot be combined."""
    request = SamplingRequest(num_images=n, labels=labels, **settings)
    model.check(request)
    return request


def with_prompt(
    model: DiffusionModel, n: int, labels: Labels, prompt: Prompt, negative_prompt: Prompt = None
) -> Labels:
    """The labels, or the tokens of the prompts if prompts are given.

    Raises :class:`~latentdiff.errors.ConfigError` for prompts that the model does not read, and if labels and prompts
    are given.
    """
    if prompt is None and negative_prompt is None:
        return labels
    if labels is not None:
        raise ConfigError("labels and prompt were given: a model takes one of them")
    if prompt is None and model.network.tokenizer is not None:
        prompt = ""
    request = SamplingRequest(num_images=n, prompt=prompt, negative_prompt=negative_prompt)
    return model.resolve_labels(request)


def latents_of(model: DiffusionModel, images: Tensor) -> Tensor:
    """The latents of images, at the middle of their posterior."""
    moments = model.codec.encode(images.to(model.device))
    zeros = torch.zeros(len(images), *model.codec.latent_shape, device=model.device)
    return model.codec.sample(moments, noise=zeros)


def noise_for(model: DiffusionModel, seed: int, n: int, first: int = 0) -> PerImageNoise:
    """The noise of ``n`` images, of which the first has the index ``first``. Raises ConfigError for no such seed."""
    checked(seed, Seed, "seed")
    checked(first, HeldImagesOrNone, "first")
    return PerImageNoise(seed, range(first, first + n), model.codec.latent_shape, model.device)


def classes_for(model: DiffusionModel, labels: Labels, n: int) -> Tensor | None:
    """int64 [n], or tokens [n, context], on the model's device: those given, else "none"; None if unconditional."""
    if not model.conditional:
        return None
    if labels is not None:
        return model.resolve_labels(SamplingRequest(num_images=n, labels=labels)).to(model.device)
    if not model.diffusion.class_dropout:
        raise ConfigError("this model was trained without class dropout: give it labels")
    zeros = model.network.zero_labels(n, model.device)
    return torch.full_like(zeros, model.network.null_label)
