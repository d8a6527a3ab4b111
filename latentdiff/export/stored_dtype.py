"""In which type a copy of a model is stored."""

from __future__ import annotations

from typing import Literal

import torch

from latentdiff.checkpoint import TrainedModel
from latentdiff.codec import AutoencoderCodec
from latentdiff.inference.model import DiffusionModel


def stored_dtype(model: TrainedModel, precision: Literal["fp32", "bf16", "int8"]) -> torch.dtype | None:
    """bf16 if it is requested, or if it loses nothing, as for released models; else None, which keeps fp32."""
    return torch.bfloat16 if precision == "bf16" or _is_half(model) else None


def _is_half(model: TrainedModel) -> bool:
    """Whether bf16 holds all matrices of a model."""
    codec = model.codec if isinstance(model, DiffusionModel) else model
    weights = codec.state() if isinstance(codec, AutoencoderCodec) else {}
    weights |= model.network.state_dict() if isinstance(model, DiffusionModel) else {}
    return all(torch.equal(each, each.bfloat16().float()) for each in weights.values() if each.ndim > 1)
