"""What every part of the benchmark is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from latentdiff.benchmark.limits import Limits
from latentdiff.benchmark.peers import Peers
from latentdiff.benchmark.scale import Scale
from latentdiff.benchmark.timing import Name, Timing, Turn, interleaved
from latentdiff.config import TrainerConfig
from latentdiff.precision import disable_tf32


@dataclass(frozen=True, kw_only=True)
class Bench:
    """The benchmark's sizes, machine and company.

    Attributes:
        scale: How large everything is.
        device: Where it runs.
        dtype: Of training, for everybody; encoding and features are fp32 for everybody, sampling is both.
        limits: The machine's.
        peers: Who is here.
        inception_weights: The FID Inception's file, or none to look for it.
        divisor: What the scale's batches have been divided by, since the machine is slow.
    """

    scale: Scale
    device: torch.device
    dtype: torch.dtype
    limits: Limits
    peers: Peers
    inception_weights: str | None = None
    divisor: int = 1

    def race(self, turns: Mapping[Name, Turn], least: int = 0, warm_up: int = 1) -> dict[Name, Timing]:
        """:func:`~latentdiff.benchmark.timing.interleaved` within this scale's time, fp32 being fp32 for everybody.

        ``least`` asks for more rounds than this scale's least; ``warm_up`` is 0 where the contenders are warm.
        """
        with disable_tf32():
            return interleaved(
                turns, self.scale.seconds, max(least, self.scale.least), self.scale.most_seconds, warm_up
            )

    def once(self, turns: Mapping[Name, Turn]) -> dict[Name, Timing]:
        """A single round without a warm-up, of what takes long."""
        with disable_tf32():
            return interleaved(turns, 0.0, 1, 0)

    def trainer(self, batch_size: int) -> TrainerConfig:
        """The trainers' settings, whose budget each turn sets anew."""
        return TrainerConfig(
            batch_size=batch_size,
            accelerator="gpu" if self.device.type == "cuda" else "cpu",
            precision="bf16" if self.dtype == torch.bfloat16 else "fp32",
        )


def random_images(count: int, side: int, device: torch.device) -> Tensor:
    """uint8 [count, 3, side, side]: what images show is nothing to their speed."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=generator).to(device)
