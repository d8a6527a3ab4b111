"""Exponential moving average of a network's parameters, counted in images."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from latentdiff.training.sharding import gather_whole, is_sharded, own_share, sharded_like

NetworkT = TypeVar("NetworkT", bound=nn.Module)


class Ema(nn.Module, Generic[NetworkT]):
    """A copy of ``network`` whose parameters are a moving average of its parameters.

    The decay of a step of n images is 0.5 ** (n / half_life), with the half-life at most ``warmup`` times the images
    seen, so that the random start is forgotten early (Karras et al. 2024, EDM2, the traditional profile). Buffers are
    copied, never averaged: averaging a schedule or a counter would corrupt it.
    """

    def __init__(self, network: NetworkT, half_life: int, warmup: float):
        super().__init__()
        self.network = copy.deepcopy(network).requires_grad_(False).eval()
        self.half_life, self.warmup = half_life, warmup
        # Where the network is sharded, this process's shares of the average; the whole is put together for use.
        self._shares: list[Tensor] | None = None

    @torch.no_grad()
    def follow(self, network: nn.Module) -> None:
        """Begin to average ``network``, sharded or not, or continue after a checkpoint was loaded."""
        pairs = list(zip(self.network.parameters(), network.parameters(), strict=True))
        if any(is_sharded(theirs) for _, theirs in pairs):
            self._shares = [own_share(sharded_like(ours.detach(), theirs)).clone() for ours, theirs in pairs]

    @torch.no_grad()
    def gather(self, network: nn.Module) -> None:
        """Gather the shards of the average into ``self.network``. All processes must call it."""
        if self._shares is not None:
            for ours, theirs, share in zip(self.network.parameters(), network.parameters(), self._shares, strict=True):
                ours.copy_(gather_whole(share, theirs))

    @torch.no_grad()
    def update(self, network: nn.Module, images_seen: int, num_images: int) -> None:
        """Move towards ``network`` after a step of ``num_images`` that brought the total to ``images_seen``."""
        half_life = min(self.half_life, self.warmup * images_seen)
        decay = 0.5 ** (num_images / max(half_life, 1e-8))
        ours = list(self.network.parameters()) if self._shares is None else self._shares
        torch._foreach_lerp_(ours, [own_share(theirs) for theirs in network.parameters()], 1.0 - decay)
        for ours, theirs in zip(self.network.buffers(), network.buffers(), strict=True):
            ours.copy_(theirs)
