"""What the uses of a model with given images share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from latentdiff.diffusion.noise import ImageNoise
from latentdiff.errors import ConfigError
from latentdiff.inference.model import DiffusionModel, Request

Labels = int | Sequence[int] | Tensor | None


# --- what they share ---


def _request(model: DiffusionModel, n: int, labels: Labels, settings: dict[str, Any]) -> Request:
    request = Request(num_images=n, labels=labels, **settings)
    model.check(request)
    return request


def _latents(model: DiffusionModel, images: Tensor) -> Tensor:
    """The latents of images, at the middle of their posterior."""
    moments = model.codec.encode(images.to(model.device))
    zeros = torch.zeros(len(images), *model.codec.latent_shape, device=model.device)
    return model.codec.sample(moments, noise=zeros)


def _noise(model: DiffusionModel, seed: int, n: int, first: int = 0) -> ImageNoise:
    return ImageNoise(seed, range(first, first + n), model.codec.latent_shape, model.device)


def _classes(model: DiffusionModel, labels: Labels, n: int) -> Tensor | None:
    """int64 [n] on the model's device: those given, else "none"; None for an unconditional model."""
    if not model.conditional:
        return None
    if labels is not None:
        return model.resolve_labels(Request(num_images=n, labels=labels)).to(model.device)
    if not model.diffusion.class_dropout:
        raise ConfigError("this model was trained without class dropout: give it labels")
    return torch.full((n,), model.network.null_label, device=model.device)
