"""Arithmetic that a model costs: floating-point operations of an image, counted while it is computed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from latentdiff.config import to_dict
from latentdiff.inference.model import DiffusionModel
from latentdiff.inference.request import SamplingRequest
from latentdiff.precision import MIN_BATCH_SIZE


def count_flops(function: Callable[[], Any]) -> int:
    """Operations of ``function()``: those of its products and convolutions, a multiplication and an addition being two.

    Norms, activations and the sampler's own arithmetic, a few per cent, are not in it.
    """
    counter = FlopCounterMode(display=False)
    # The counter does not know a CPU's fused attention.
    with counter, sdpa_kernel(SDPBackend.MATH):
        function()
    return counter.get_total_flops()


def sampling_flops(model: DiffusionModel, request: SamplingRequest) -> float:
    """Of one image of ``request``, its decoding included; in whatever precision, counted in fp32, where no layout is
    changed by products."""
    # The counter sees torch's operations alone.
    model = model.with_engine("torch", exact=True)
    few = replace(request, num_images=MIN_BATCH_SIZE, labels=None, batch_size=MIN_BATCH_SIZE, precision="fp32")
    return count_flops(lambda: model.sample(**to_dict(few))) / MIN_BATCH_SIZE


def training_flops(model: DiffusionModel) -> float:
    """Of one image in one training step, forward and backward; its encoding, once and for all, is not in it."""
    network = copy.deepcopy(model.network).train().requires_grad_()
    x = torch.zeros(MIN_BATCH_SIZE, *model.codec.latent_shape, device=model.device)
    time = torch.zeros(MIN_BATCH_SIZE, device=model.device)
    labels = None if network.null_label is None else torch.zeros(MIN_BATCH_SIZE, dtype=torch.long, device=model.device)
    return count_flops(lambda: network(x, time, labels).sum().backward()) / MIN_BATCH_SIZE
