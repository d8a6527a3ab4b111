"""A model that was given from Python, made ready to be measured."""

from __future__ import annotations

import copy

import torch

from latentdiff.codec import AutoencoderCodec
from latentdiff.inference.engines.auto_engine import AutoEngine
from latentdiff.inference.model import DiffusionModel


def on_device(model: DiffusionModel | AutoencoderCodec, device: torch.device) -> DiffusionModel | AutoencoderCodec:
    """A given model, moved to ``device``.

    One with the engine auto is run by torch: figures are not to depend on what is installed. That one is a copy. It
    shares its networks with the caller's model, so that the latter is moved first, whole.
    """
    is_auto = isinstance(model.engine, AutoEngine)
    if any(place.type != device.type or device.index not in (None, place.index) for place in _places(model)):
        model.to(device)
    if is_auto and isinstance(model, DiffusionModel):
        return model.with_engine("torch", exact=True)
    if is_auto:
        model = copy.copy(model)
        model.engine = None
    return model


def _places(model: DiffusionModel | AutoencoderCodec) -> set[torch.device]:
    """The devices of a model's networks and statistics."""
    codec = model.codec if isinstance(model, DiffusionModel) else model
    places = [model.device] if isinstance(model, DiffusionModel) else []
    if isinstance(codec, AutoencoderCodec):
        places += [codec.mean.device, next(codec.model.parameters()).device]
    return set(places)
