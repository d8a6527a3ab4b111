"""Weights stored in 8 bits: a scale for each output channel, and whole numbers from -127 to 127."""

from __future__ import annotations

import torch
from torch import Tensor

SCALE = ".int8_scale"
LARGEST = 127


def to_int8(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Store kernels and matrices in 8 bits; biases, norms and statistics, which are few, stay as they are.

    A weight is rounded by at most 1/254 of the largest of its output channel.

    Args:
        tensors: Named weights. Those of floating point with two or more dimensions are stored as int8 of the same
            shape, beside NAME.int8_scale, fp32 [the first dimension].
    """
    stored: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or tensor.ndim < 2:
            stored[name] = tensor
            continue
        scale = tensor.float().flatten(1).abs().amax(dim=1) / LARGEST
        divisor = torch.where(scale > 0, scale, 1.0)  # a channel of zeros
        stored[name] = (tensor.float() / _per_channel(divisor, tensor)).round().to(torch.int8)
        stored[name + SCALE] = scale
    return stored


def from_int8(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Undo :func:`to_int8`, but for the rounding. Tensors that it did not make stay as they are.

    Raises ValueError for a scale that does not fit its weights.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.endswith(SCALE) and name.removesuffix(SCALE) in tensors:
            continue
        scale = tensors.get(name + SCALE)
        if scale is not None:
            if tensor.dtype != torch.int8 or tensor.ndim < 2 or scale.shape != tensor.shape[:1]:
                raise ValueError(f"{name + SCALE} is no scale of {name}")
            tensor = tensor.float() * _per_channel(scale.float(), tensor)
        found[name] = tensor
    return found


def _per_channel(scale: Tensor, tensor: Tensor) -> Tensor:
    return scale.view(-1, *[1] * (tensor.ndim - 1))
