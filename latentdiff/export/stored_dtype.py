"""In which type a copy of a model is stored."""

from __future__ import annotations

import torch

from latentdiff.checkpoint import TrainedModel
from latentdiff.codec import AutoencoderCodec
from latentdiff.config.model_stages import ExportStage
from latentdiff.errors import ConfigError
from latentdiff.inference.model import DiffusionModel


def check_precision(config: ExportStage) -> None:
    """Raise ConfigError for a precision that only ``--to onnx`` has."""
    if config.precision not in ("fp32", "bf16"):
        raise ConfigError(f"--to {config.to} does not support --precision {config.precision}: use fp32 or bf16")


def stored_dtype(model: TrainedModel, precision: str) -> torch.dtype | None:
    """bf16 if it is requested, or if it loses nothing, as for released models; else None, which keeps fp32."""
    return torch.bfloat16 if precision == "bf16" or _is_half(model) else None


def _is_half(model: TrainedModel) -> bool:
    """Whether bf16 holds all matrices of a model."""
    codec = model.codec if isinstance(model, DiffusionModel) else model
    weights = codec.state() if isinstance(codec, AutoencoderCodec) else {}
    weights |= model.network.state_dict() if isinstance(model, DiffusionModel) else {}
    return all(torch.equal(each, each.bfloat16().float()) for each in weights.values() if each.ndim > 1)
