"""Exponential moving average of a network's parameters, counted in images."""

from __future__ import annotations

import copy

import torch
from torch import nn


class Ema(nn.Module):
    """A copy of ``network`` whose parameters trail behind it.

    The decay of a step of n images is 0.5 ** (n / half_life), with the half-life at most ``warmup`` times the images
    seen, so that the random start is forgotten early (Karras et al. 2024, EDM2, the traditional profile). Buffers are
    copied, never averaged: averaging a schedule or a counter would corrupt it.
    """

    def __init__(self, network: nn.Module, half_life: int, warmup: float):
        super().__init__()
        self.network = copy.deepcopy(network).requires_grad_(False).eval()
        self.half_life, self.warmup = half_life, warmup

    @torch.no_grad()
    def update(self, network: nn.Module, images_seen: int, num_images: int) -> None:
        """Move towards ``network`` after a step of ``num_images`` that brought the total to ``images_seen``."""
        half_life = min(self.half_life, self.warmup * images_seen)
        decay = 0.5 ** (num_images / max(half_life, 1e-8))
        torch._foreach_lerp_(list(self.network.parameters()), list(network.parameters()), 1.0 - decay)
        for ours, theirs in zip(self.network.buffers(), network.buffers(), strict=True):
            ours.copy_(theirs)
